//! The task that owns the speaker: a loop that tells the core what happened and does what it wants.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::debug;

use super::feed::Publisher;
use super::link::{Link, LinkEvent};
use super::listener::{Accepted, Listeners};
use super::md5::Passwords;
use super::{passwords, socket};
use crate::config::{ConfigError, LocalRoute, NextHopState, Shutdown, SpeakerConfig};
use crate::fsm::ConnId;
use crate::speaker::{Output, SpeakerCore};
use crate::status::{RouteQuery, RouteStatus, SpeakerStatus};

/// How many events of connections may wait, and are taken together.
const EVENTS: usize = 256;
/// How long last words may take when the speaker stops.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// What a handle asks of the task, and where the answer goes.
#[derive(Debug)]
pub(super) enum Command {
    Configure(Box<SpeakerConfig>, oneshot::Sender<Result<(), ConfigError>>),
    SetRoutes(BTreeMap<IpNet, LocalRoute>, oneshot::Sender<()>),
    SetNextHops(BTreeMap<IpAddr, NextHopState>, oneshot::Sender<()>),
    Status(oneshot::Sender<SpeakerStatus>),
    Routes(RouteQuery, oneshot::Sender<Vec<RouteStatus>>),
    Shutdown(Shutdown, oneshot::Sender<()>),
}

pub(super) struct Task {
    core: SpeakerCore,
    links: HashMap<ConnId, Link>,
    listeners: Listeners,
    publisher: Publisher,
    events: (mpsc::Sender<LinkEvent>, mpsc::Receiver<LinkEvent>),
    accepted: mpsc::Receiver<Accepted>,
    /// Connections that are saying their last words.
    closing: JoinSet<()>,
}

impl Task {
    pub(super) fn new(
        core: SpeakerCore,
        (listeners, accepted): (Listeners, mpsc::Receiver<Accepted>),
        publisher: Publisher,
    ) -> Self {
        Self {
            core,
            links: HashMap::new(),
            listeners,
            publisher,
            events: mpsc::channel(EVENTS),
            accepted,
            closing: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            self.carry_out();
            let deadline = self.core.poll_timeout();
            tokio::select! {
                Some(event) = self.events.1.recv() => self.handle_events(event),
                Some((stream, remote)) = self.accepted.recv() => self.handle_accepted(stream, remote),
                command = commands.recv() => match command {
                    Some(Command::Shutdown(how, reply)) => {
                        self.shutdown(how).await;
                        // Whoever asked may have gone.
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.handle_command(command),
                    None => return self.shutdown(Shutdown::Restart).await,
                },
                () = sleep_until(deadline) => {}
                Some(_) = self.closing.join_next() => {}
            }
            // After the bytes that were waiting: whoever sent them is not silent.
            let now = Instant::now();
            if self.core.poll_timeout().is_some_and(|deadline| deadline <= now) {
                self.core.handle_timeout(now);
            }
        }
    }

    /// Does all the core wants done.
    fn carry_out(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Connect { conn, request } => {
                    debug!(remote = %request.remote, "connecting");
                    self.links
                        .insert(conn, Link::connect(conn, request, self.events.0.clone()));
                }
                Output::Close { conn, last } => self.close(conn, last),
            }
        }
        let now = Instant::now();
        while let Some(transmit) = self.core.poll_transmit(now) {
            if let Some(link) = self.links.get(&transmit.conn) {
                link.send(transmit.bytes);
            }
        }
        if let Some(changes) = self.core.poll_routes() {
            self.publisher.publish(changes);
        }
    }

    fn close(&mut self, conn: ConnId, last: Bytes) {
        if let Some(link) = self.links.remove(&conn) {
            link.close(last, &mut self.closing);
        }
    }

    fn handle_events(&mut self, first: LinkEvent) {
        self.handle_event(first);
        for _ in 1..EVENTS {
            let Ok(event) = self.events.1.try_recv() else {
                break;
            };
            self.handle_event(event);
        }
    }

    fn handle_event(&mut self, event: LinkEvent) {
        let now = Instant::now();
        match event {
            LinkEvent::Connected(conn, stream) => self.handle_connected(conn, stream, now),
            LinkEvent::Received(conn, bytes) => self.core.handle_received(conn, &bytes, now),
            LinkEvent::Written(conn) => self.core.handle_written(conn, now),
            LinkEvent::Closed(conn, reason) => {
                self.links.remove(&conn);
                self.core.handle_closed(conn, reason, now);
            }
        }
    }

    fn handle_connected(&mut self, conn: ConnId, stream: TcpStream, now: Instant) {
        // Closed meanwhile, if it is not in the map.
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        match stream.local_addr() {
            Ok(local) => {
                *link = Link::open(conn, stream, self.events.0.clone());
                self.core.handle_connected(conn, local, now);
            }
            Err(error) => {
                self.links.remove(&conn);
                self.core.handle_closed(conn, error.to_string(), now);
            }
        }
    }

    fn handle_accepted(&mut self, stream: TcpStream, remote: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        let (ttl, password) = (self.core.ttl(remote.ip()), self.core.password(remote.ip()));
        if let Err(error) = socket::adopt(&stream, remote.ip(), ttl, password) {
            debug!(%remote, %error, "accepted connection is gone or refused");
            return;
        }
        if let Some(conn) = self.core.handle_incoming(remote, local, Instant::now()) {
            self.links
                .insert(conn, Link::open(conn, stream, self.events.0.clone()));
        }
    }

    fn handle_command(&mut self, command: Command) {
        // A handle that no longer waits for its answer is no error.
        match command {
            Command::Configure(config, reply) => {
                let _ = reply.send(self.configure(*config));
            }
            Command::SetRoutes(routes, reply) => {
                self.core.set_routes(routes);
                let _ = reply.send(());
            }
            Command::SetNextHops(next_hops, reply) => {
                self.core.set_next_hops(next_hops);
                let _ = reply.send(());
            }
            Command::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Command::Routes(query, reply) => {
                let _ = reply.send(self.core.routes(&query));
            }
            Command::Shutdown(..) => {}
        }
    }

    fn configure(&mut self, config: SpeakerConfig) -> Result<(), ConfigError> {
        let listen = config.listen.clone();
        let passwords = passwords(&config);
        self.core.configure(config, Instant::now())?;
        // Before sessions that are reset say goodbye and connect again.
        self.listeners.sync(&listen, passwords);
        Ok(())
    }

    fn status(&self) -> SpeakerStatus {
        let mut status = self.core.status(Instant::now());
        status.listeners = self.listeners.status();
        let closed_to = self.listeners.closed_to();
        for peer in &mut status.peers {
            if let Some(error) = closed_to.get(&peer.address).filter(|_| peer.session.is_none()) {
                peer.last_error = Some(error.clone());
            }
        }
        status
    }

    async fn shutdown(&mut self, how: Shutdown) {
        self.listeners.sync(&[], Passwords::default());
        self.core.shutdown(how, Instant::now());
        while let Some(output) = self.core.poll_output() {
            if let Output::Close { conn, last } = output {
                self.close(conn, last);
            }
        }
        self.links.clear();
        let all = async {
            loop {
                tokio::select! {
                    // Nothing changes any more, but who reads must not wait for us.
                    _ = self.events.1.recv() => {}
                    closed = self.closing.join_next() => if closed.is_none() { break },
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN, all).await.is_err() {
            debug!("a peer did not take the last words in time");
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
