//! The speaker with sockets: one task owns a [`SpeakerCore`](crate::SpeakerCore), [`Speaker`] talks to it.
//!
//! - `task` is the loop: what happened goes into the core, what the core wants is carried out.
//! - `link` reads and writes one connection, `socket` makes connections and listeners, `md5` signs them.
//! - `feed` hands best routes to whoever follows them.
//!
//! All channels are bounded, and the task never waits for one: it gives a connection bytes only when the last ones
//! are written, and route changes go to a map that holds each destination once. Protocol decisions are not made here.

mod feed;
mod link;
mod listener;
mod md5;
mod socket;
mod task;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};

pub use feed::RouteFeed;

use crate::config::{ConfigError, LocalRoute, NextHopState, Shutdown, SpeakerConfig};
use crate::speaker::SpeakerCore;
use crate::status::{RouteQuery, RouteStatus, SpeakerStatus};
use crate::types::{Asn, RouterId};
use listener::Listeners;
use md5::Passwords;
use task::{Command, Task};

/// How many commands may wait.
const COMMANDS: usize = 16;

/// A handle on a running speaker. When the last one is dropped the speaker stops as for a restart.
#[derive(Debug, Clone)]
pub struct Speaker {
    commands: mpsc::Sender<Command>,
}

/// Why the speaker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address to listen on is not to be had.
    #[error("cannot listen for BGP on {address}: {source}; {}", listen_hint(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// What a person can do about a listener that fails.
fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the BGP daemon that has the port, or listen on another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability NET_BIND_SERVICE; or listen on another port"
        }
        io::ErrorKind::AddrNotAvailable => "no interface has this address; use one that has, or 0.0.0.0",
        _ => "check the address and the port",
    }
}

/// The passwords of the peers that have one.
fn passwords(config: &SpeakerConfig) -> Passwords {
    let peers = config.peers.iter();
    let passwords = peers.filter_map(|(address, peer)| Some((*address, peer.password.clone()?)));
    passwords.collect()
}

impl Speaker {
    /// Starts the speaker as a task of the current runtime. `routes` are originated from the first session on.
    ///
    /// Give it its peers right away: a speaker without peers has converged and is not restarting any more.
    pub async fn start(
        config: SpeakerConfig,
        routes: BTreeMap<IpNet, LocalRoute>,
    ) -> Result<(Speaker, RouteFeed), StartError> {
        config.validate()?;
        let passwords = passwords(&config);
        let mut listeners = Vec::new();
        for address in &config.listen {
            let bound = socket::listen(*address, &passwords).map_err(|source| StartError::Listen {
                address: *address,
                source,
            })?;
            listeners.push((*address, bound));
        }
        let seed = RandomState::new().hash_one(Instant::now());
        let core = SpeakerCore::new(config, routes, seed, Instant::now())?;
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (publisher, feed) = feed::channel();
        tokio::spawn(Task::new(core, Listeners::new(listeners, passwords), publisher).run(inbox));
        Ok((Speaker { commands }, feed))
    }

    /// Makes `config` the configuration in force. Only sessions whose own settings changed are touched. A new
    /// listener that fails is tried again until it works; [`status`](Self::status) says why it does not.
    pub async fn configure(&self, config: SpeakerConfig) -> Result<(), ConfigError> {
        self.ask(|reply| Command::Configure(Box::new(config), reply))
            .await
            .unwrap_or(Err(ConfigError::Stopped))
    }

    /// Makes `routes` what is originated.
    pub async fn set_routes(&self, routes: BTreeMap<IpNet, LocalRoute>) {
        self.ask(|reply| Command::SetRoutes(routes, reply)).await;
    }

    /// Says what is known about next hops; one that is not in the map is reachable at no cost.
    pub async fn set_next_hops(&self, next_hops: BTreeMap<IpAddr, NextHopState>) {
        self.ask(|reply| Command::SetNextHops(next_hops, reply)).await;
    }

    /// Sessions, listeners and counters; without peers once the speaker has stopped.
    pub async fn status(&self) -> SpeakerStatus {
        self.ask(Command::Status).await.unwrap_or_else(stopped)
    }

    /// Routes with every path, why the best one is, and who hears of it.
    pub async fn routes(&self, query: RouteQuery) -> Vec<RouteStatus> {
        self.ask(|reply| Command::Routes(query, reply))
            .await
            .unwrap_or_default()
    }

    /// Ends all sessions and the task; returns when last words are sent, or after two seconds.
    pub async fn shutdown(&self, how: Shutdown) {
        self.ask(|reply| Command::Shutdown(how, reply)).await;
    }

    /// `None` if the speaker has stopped.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

fn stopped() -> SpeakerStatus {
    SpeakerStatus {
        local_as: Asn(0),
        router_id: RouterId::from(0),
        converged: false,
        peers: Vec::new(),
        listeners: Vec::new(),
        refused_connections: 0,
        destinations: 0,
    }
}
