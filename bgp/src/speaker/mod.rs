//! The speaker without sockets and clock: sessions, tables and what connects them.
//!
//! [`SpeakerCore`] is driven from outside, like this: pass in what happened (`handle_*`), or what is wanted from now
//! on ([`configure`](SpeakerCore::configure) and its like); then carry out every [`Output`], send what
//! [`poll_transmit`](SpeakerCore::poll_transmit) gives, take the route changes, and come back at
//! [`poll_timeout`](SpeakerCore::poll_timeout) at the latest. `now` is always an argument.
//!
//! Nothing in here grows with what happens, only with what is configured and announced: a peer that does not read
//! has its changes noted as a set of prefixes, and whoever follows the best routes gets the latest of each.

mod configure;
mod connection;
mod explain;
mod import;
mod open;
mod peer;
mod restart;
mod routing;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

pub use transmit::Transmit;

use peer::{Context, Peer, PeerEvent};
use restart::Convergence;
use routing::LocalEntry;

use crate::config::{ConfigError, LocalRoute, NextHopState, SpeakerConfig};
use crate::fsm::{ConnId, TcpError};
use crate::password::Password;
use crate::rib::LocRib;
use crate::timers::Jitter;
use crate::types::{Asn, RouterId};

/// Something for the owner of the sockets to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a connection; report it with [`SpeakerCore::handle_connected`] or [`SpeakerCore::handle_closed`].
    Connect {
        /// How to refer to it.
        conn: ConnId,
        /// Where to and how.
        request: ConnectRequest,
    },
    /// Close a connection, open or being opened. Nothing about it needs to be reported any more.
    Close {
        /// Which one.
        conn: ConnId,
        /// Bytes to send first, after those given out before, if the peer takes them within a moment.
        last: Bytes,
    },
}

/// How to open a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The peer.
    pub remote: SocketAddr,
    /// The address to connect from.
    pub source: Option<IpAddr>,
    /// The TTL of what we send, if not the system's.
    pub ttl: Option<u8>,
    /// What to sign with, from the first packet on.
    pub password: Option<Password>,
}

/// Who we are, as every peer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    local_as: Asn,
    router_id: RouterId,
    cluster: RouterId,
    /// Still restarting: the R bit.
    restarting: bool,
    restart_time: Duration,
    forwarding_preserved: bool,
}

impl Identity {
    fn new(config: &SpeakerConfig, restarting: bool) -> Self {
        Self {
            local_as: config.local_as,
            router_id: config.router_id,
            cluster: config.cluster(),
            restarting,
            restart_time: config.restart_time,
            forwarding_preserved: config.forwarding_preserved,
        }
    }
}

/// Hands out connection ids and remembers whose they are.
#[derive(Debug, Default)]
struct ConnIds {
    last: u64,
    owners: HashMap<ConnId, IpAddr>,
}

impl ConnIds {
    fn allocate(&mut self, peer: IpAddr) -> ConnId {
        self.last += 1;
        let conn = ConnId(self.last);
        self.owners.insert(conn, peer);
        conn
    }

    fn release(&mut self, conn: ConnId) {
        self.owners.remove(&conn);
    }
}

/// The speaker. See the module for how to drive it.
#[derive(Debug)]
pub struct SpeakerCore {
    identity: Identity,
    peers: BTreeMap<IpAddr, Peer>,
    loc_rib: LocRib,
    local_routes: BTreeMap<IpNet, LocalEntry>,
    next_hops: BTreeMap<IpAddr, NextHopState>,
    /// Our own ends of sessions and our own next hops: no route leads through them.
    own_addresses: BTreeSet<IpAddr>,
    convergence: Convergence,
    /// Destinations whose best learned route has changed since it was last polled.
    changed: BTreeSet<IpNet>,
    /// Peers that may have something to send.
    ready: BTreeSet<IpAddr>,
    conn_ids: ConnIds,
    jitter: Jitter,
    outputs: VecDeque<Output>,
    refused_connections: u64,
    stopped: bool,
}

impl SpeakerCore {
    /// A speaker that starts at once. `seed` decides all jitter.
    pub fn new(
        config: SpeakerConfig,
        routes: BTreeMap<IpNet, LocalRoute>,
        seed: u64,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut core = Self {
            identity: Identity::new(&config, config.restarting),
            peers: BTreeMap::new(),
            loc_rib: LocRib::default(),
            local_routes: BTreeMap::new(),
            next_hops: BTreeMap::new(),
            own_addresses: BTreeSet::new(),
            convergence: Convergence::new(now + config.selection_deferral),
            changed: BTreeSet::new(),
            ready: BTreeSet::new(),
            conn_ids: ConnIds::default(),
            jitter: Jitter::new(seed),
            outputs: VecDeque::new(),
            refused_connections: 0,
            stopped: false,
        };
        core.set_routes(routes);
        core.configure(config, now)?;
        Ok(core)
    }

    // ---- what happens

    /// A connection was accepted. `None`: close it.
    pub fn handle_incoming(&mut self, remote: SocketAddr, local: SocketAddr, now: Instant) -> Option<ConnId> {
        let address = remote.ip().to_canonical();
        let conn = self
            .with_peer(address, now, |peer, cx| peer.accept(local, cx))
            .flatten();
        if conn.is_none() {
            self.refused_connections += 1;
            tracing::debug!(%remote, known = self.peers.contains_key(&address), "connection refused");
        }
        conn
    }

    /// The TTL to use towards a peer, if not the system's.
    pub fn ttl(&self, remote: IpAddr) -> Option<u8> {
        let peer = self.peers.get(&remote.to_canonical())?;
        let external = peer.config.remote_as != peer.local_as(&self.identity);
        (external && !peer.config.multihop).then_some(1)
    }

    /// The password of a peer, if it has one.
    pub fn password(&self, remote: IpAddr) -> Option<&Password> {
        self.peers.get(&remote.to_canonical())?.config.password.as_ref()
    }

    /// A connection that was asked for is open; `local` is our end.
    pub fn handle_connected(&mut self, conn: ConnId, local: SocketAddr, now: Instant) {
        self.with_connection(conn, now, |peer, side, cx| peer.connected(side, local, cx));
    }

    /// A connection is gone, or could not be opened.
    pub fn handle_closed(&mut self, conn: ConnId, reason: impl Into<String>, now: Instant) {
        let error = TcpError(reason.into());
        self.with_connection(conn, now, |peer, side, cx| peer.disconnected(side, error, cx));
    }

    /// Bytes came.
    pub fn handle_received(&mut self, conn: ConnId, bytes: &[u8], now: Instant) {
        self.with_connection(conn, now, |peer, side, _| peer.receive(side, bytes));
        while self.with_connection(conn, now, |peer, _, cx| peer.next_message(conn, cx)) == Some(true) {}
    }

    /// What [`poll_transmit`](Self::poll_transmit) gave out for the connection has been written.
    pub fn handle_written(&mut self, conn: ConnId, now: Instant) {
        self.with_connection(conn, now, |peer, side, _| peer.written(side));
    }

    /// Time has passed. Bytes that have come should be passed in first, lest a peer be taken for silent.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<IpAddr> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.next_timeout().is_some_and(|at| at <= now))
            .map(|(address, _)| *address)
            .collect();
        for address in due {
            self.with_peer(address, now, |peer, cx| peer.handle_timeouts(cx));
            self.expire_restart(address, now);
        }
        if self.convergence.expire(now) {
            self.on_converged();
        }
    }

    // ---- what to do

    /// The next thing to do with connections.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let peers = self.peers.values().filter_map(Peer::next_timeout);
        peers.chain(self.convergence.deadline()).min()
    }

    // ---- inside

    fn with_connection<T>(
        &mut self,
        conn: ConnId,
        now: Instant,
        act: impl FnOnce(&mut Peer, crate::fsm::Side, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let address = *self.conn_ids.owners.get(&conn)?;
        self.with_peer(address, now, |peer, cx| {
            peer.side_of(conn).map(|side| act(peer, side, cx))
        })
        .flatten()
    }

    /// Lets something happen to a peer, and then lets the tables have what came of it.
    fn with_peer<T>(
        &mut self,
        address: IpAddr,
        now: Instant,
        act: impl FnOnce(&mut Peer, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let peer = self.peers.get_mut(&address)?;
        let mut events = Vec::new();
        let mut cx = Context {
            now,
            identity: &self.identity,
            jitter: &mut self.jitter,
            conn_ids: &mut self.conn_ids,
            outputs: &mut self.outputs,
            events: &mut events,
        };
        let result = act(peer, &mut cx);
        self.ready.insert(address);
        if !self.stopped {
            events
                .into_iter()
                .for_each(|event| self.apply(address, event, now));
        }
        Some(result)
    }

    fn apply(&mut self, address: IpAddr, event: PeerEvent, now: Instant) {
        match event {
            PeerEvent::Up => self.on_session_up(address, now),
            PeerEvent::Down { agreed, graceful } => self.on_session_down(address, &agreed, graceful, now),
            PeerEvent::Update(update) => self.on_update(address, *update, now),
            PeerEvent::EndOfRib(family) => self.on_end_of_rib(address, family),
            PeerEvent::RouteRefresh(family) => self.on_route_refresh(address, family),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PeerConfig;

    #[test]
    fn a_day_of_unanswered_attempts_leaves_nothing_behind() {
        let mut config = SpeakerConfig::new(Asn(64512), RouterId::from(1));
        let address = IpAddr::from([10, 0, 0, 2]);
        config
            .peers
            .insert(address, PeerConfig::new("silent", Asn(64512)));
        let start = Instant::now();
        let mut core = SpeakerCore::new(config, BTreeMap::new(), 1, start).unwrap();
        let mut attempts = 0;
        while let Some(at) = core
            .poll_timeout()
            .filter(|at| *at < start + Duration::from_secs(86_400))
        {
            core.handle_timeout(at);
            while let Some(output) = core.poll_output() {
                attempts += usize::from(matches!(output, Output::Connect { .. }));
            }
            assert!(core.poll_transmit(at).is_none());
        }
        assert!(attempts > 2000, "{attempts}");
        assert_eq!(core.conn_ids.owners.len(), 1);
    }
}
