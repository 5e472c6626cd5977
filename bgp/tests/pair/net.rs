//! A network of speakers on a simulated clock: latency, bytes cut at random, connections that fail, nodes that die.
//!
//! Everything that happens is decided by the seed. What is sent is written down by message, so that a test can say
//! what it wants to have seen on the wire.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgp::wire::{
    CeaseSubcode, ErrorCode, Frame, Message, MessageType, Negotiated, Notification, SessionType,
};
use bgp::{
    Asn, BestRoute, ConnId, LocalRoute, Output, PeerConfig, PeerStatus, RouterId, SessionState, Shutdown,
    SpeakerConfig, SpeakerCore,
};
use bytes::{Bytes, BytesMut};
use ipnet::IpNet;

pub(crate) fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// The address of node `index`.
pub(crate) fn address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(index).unwrap() + 1))
}

/// A configuration of node `index`, with peers still to be added.
pub(crate) fn config(index: usize, local_as: u32) -> SpeakerConfig {
    let IpAddr::V4(id) = address(index) else {
        unreachable!()
    };
    SpeakerConfig::new(Asn(local_as), RouterId(id))
}

/// Node `index` as a peer.
pub(crate) fn peer(index: usize, remote_as: u32) -> (IpAddr, PeerConfig) {
    (
        address(index),
        PeerConfig::new(format!("node-{index}"), Asn(remote_as)),
    )
}

pub(crate) fn originate(prefixes: &[&str]) -> BTreeMap<IpNet, LocalRoute> {
    prefixes
        .iter()
        .map(|text| (prefix(text), LocalRoute::default()))
        .collect()
}

/// A message that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) from: usize,
    pub(crate) kind: MessageType,
    pub(crate) notification: Option<Notification>,
}

/// One end of a connection: the node and its name for it.
type End = (usize, ConnId);

#[derive(Debug)]
pub(crate) struct Node {
    /// None while the node is down.
    pub(crate) core: Option<SpeakerCore>,
    /// Whether its end of connections is read.
    pub(crate) reads: bool,
    /// Whether connections to it are answered.
    pub(crate) listens: bool,
    pub(crate) feed: BTreeMap<IpNet, BestRoute>,
    /// Every prefix that was withdrawn from whoever follows the routes.
    pub(crate) withdrawn: Vec<IpNet>,
    pub(crate) converged: bool,
    unread: HashMap<ConnId, VecDeque<(Bytes, End)>>,
}

#[derive(Debug)]
enum Event {
    Syn {
        from: usize,
        conn: ConnId,
        to: usize,
    },
    Connected {
        node: usize,
        conn: ConnId,
        peer: ConnId,
        to: usize,
    },
    Bytes {
        node: usize,
        conn: ConnId,
        bytes: Bytes,
        sender: End,
    },
    Written {
        node: usize,
        conn: ConnId,
    },
    Closed {
        node: usize,
        conn: ConnId,
        reason: &'static str,
    },
}

pub(crate) struct Net {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) sent: Vec<Sent>,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    /// The other end of each connection.
    ends: HashMap<End, End>,
    random: u64,
    seed: u64,
    /// Bytes of one direction that are not a whole message yet, for the record.
    partial: HashMap<End, BytesMut>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            nodes: Vec::new(),
            sent: Vec::new(),
            events: BTreeMap::new(),
            sequence: 0,
            ends: HashMap::new(),
            seed,
            random: seed.wrapping_mul(2).wrapping_add(1),
            partial: HashMap::new(),
        }
    }

    /// Adds a node that starts now.
    pub(crate) fn add(&mut self, config: SpeakerConfig, routes: &[&str]) -> usize {
        self.nodes.push(Node {
            core: None,
            reads: true,
            listens: true,
            feed: BTreeMap::new(),
            withdrawn: Vec::new(),
            converged: false,
            unread: HashMap::new(),
        });
        let index = self.nodes.len() - 1;
        self.boot(index, config, routes);
        index
    }

    /// Starts a node that is down.
    pub(crate) fn boot(&mut self, index: usize, config: SpeakerConfig, routes: &[&str]) {
        let seed = self.random();
        let core = SpeakerCore::new(config, originate(routes), seed, self.now).unwrap();
        let node = &mut self.nodes[index];
        node.core = Some(core);
        node.converged = false;
        // Whoever follows the routes starts anew as well.
        node.feed.clear();
    }

    pub(crate) fn core(&mut self, index: usize) -> &mut SpeakerCore {
        self.nodes[index].core.as_mut().unwrap()
    }

    /// As kill -9 does: the kernel closes the connections.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].core = None;
        self.nodes[index].unread.clear();
        self.close_all(index, "connection reset by peer");
    }

    /// As a clean shutdown does.
    pub(crate) fn shut_down(&mut self, index: usize, how: Shutdown) {
        let now = self.now;
        self.core(index).shutdown(how, now);
        self.pump();
        self.nodes[index].core = None;
    }

    /// The cable is cut: nobody hears anything, nobody is told.
    pub(crate) fn cut(&mut self) {
        self.ends.clear();
        self.events.clear();
        for node in &mut self.nodes {
            node.listens = false;
        }
    }

    /// Every connection is lost; those that hang are not noticed.
    pub(crate) fn disturb(&mut self, hang: bool) {
        if hang {
            self.ends.clear();
            self.events.clear();
            return;
        }
        for node in 0..self.nodes.len() {
            self.close_all(node, "connection reset by peer");
        }
    }

    pub(crate) fn peer_status(&mut self, node: usize, peer: usize) -> PeerStatus {
        let now = self.now;
        let status = self.core(node).status(now);
        status
            .peers
            .into_iter()
            .find(|status| status.address == address(peer))
            .unwrap()
    }

    pub(crate) fn state(&mut self, node: usize, peer: usize) -> SessionState {
        self.peer_status(node, peer).state
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets so much time pass.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.pump();
        while self.next_time().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until `wanted`; panics with what is seen after `limit`.
    pub(crate) fn run_until(&mut self, limit: Duration, what: &str, wanted: impl Fn(&mut Net) -> bool) {
        let end = self.now + limit;
        self.pump();
        while !wanted(self) {
            match self.next_time() {
                Some(at) if at <= end => self.step(),
                _ => panic!("{what}: not within {limit:?}\n{}", self.describe()),
            }
        }
    }

    pub(crate) fn established(&mut self, a: usize, b: usize) -> bool {
        self.state(a, b) == SessionState::Established && self.state(b, a) == SessionState::Established
    }

    /// The notifications `from` has sent; those of collisions are everyday business and left out.
    pub(crate) fn notifications(&self, from: usize) -> Vec<Notification> {
        let collision = ErrorCode::Cease(CeaseSubcode::ConnectionCollisionResolution);
        let sent = self.sent.iter().filter(|sent| sent.from == from);
        sent.filter_map(|sent| sent.notification.clone())
            .filter(|n| n.error != collision)
            .collect()
    }

    pub(crate) fn describe(&mut self) -> String {
        let mut text = format!("after {:?}\n", self.elapsed());
        for (index, node) in self.nodes.iter().enumerate() {
            let routes = node
                .feed
                .iter()
                .map(|(prefix, best)| format!("{prefix} via {:?}", best.next_hops));
            let _ = writeln!(
                text,
                "node {index}: converged {}, {:?}",
                node.converged,
                routes.collect::<Vec<_>>()
            );
            for peer in node.core.iter().flat_map(|core| core.status(self.now).peers) {
                let (state, error, stale) = (peer.state, peer.last_error, peer.stale);
                let _ = writeln!(
                    text,
                    "  {} {state} {error:?} {stale:?} {:?}",
                    peer.address, peer.counters
                );
            }
        }
        let last = self.sent.len().saturating_sub(50);
        self.sent.iter().skip(last).for_each(|sent| {
            let _ = writeln!(text, "{sent:?}");
        });
        text
    }

    // ---- the machinery

    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// How long anything takes from one node to another: 1 to 20 ms, always the same, so that nothing overtakes.
    fn latency(&self, from: usize, to: usize) -> Duration {
        let path = self
            .seed
            .wrapping_add(1)
            .wrapping_mul(31 + 7 * from as u64 + 3 * to as u64);
        Duration::from_millis(1 + path.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20)
    }

    fn next_time(&self) -> Option<Instant> {
        let event = self.events.keys().next().map(|(at, _)| *at);
        let timers = self
            .nodes
            .iter()
            .filter_map(|node| node.core.as_ref()?.poll_timeout());
        timers.chain(event).min()
    }

    fn step(&mut self) {
        let Some(at) = self.next_time() else { return };
        self.now = self.now.max(at);
        // Bytes before timers, as a driver does it.
        while let Some(entry) = self
            .events
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let event = entry.remove();
            self.deliver(event);
        }
        let now = self.now;
        for core in self.nodes.iter_mut().filter_map(|node| node.core.as_mut()) {
            if core.poll_timeout().is_some_and(|at| at <= now) {
                core.handle_timeout(now);
            }
        }
        self.pump();
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn deliver(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Syn { from, conn, to } => self.syn(from, conn, to),
            Event::Connected { node, conn, peer, to } => {
                // Given up meanwhile: the other end finds out.
                if self.ends.contains_key(&(node, conn))
                    && let Some(core) = &mut self.nodes[node].core
                {
                    core.handle_connected(conn, SocketAddr::new(address(node), 40000), now);
                } else {
                    self.schedule(
                        self.latency(node, to),
                        Event::Closed {
                            node: to,
                            conn: peer,
                            reason: "closed",
                        },
                    );
                }
            }
            Event::Bytes {
                node,
                conn,
                bytes,
                sender,
            } => {
                if self.nodes[node].core.is_some() {
                    self.nodes[node]
                        .unread
                        .entry(conn)
                        .or_default()
                        .push_back((bytes, sender));
                    self.read(node);
                }
            }
            Event::Written { node, conn } => {
                if let Some(core) = &mut self.nodes[node].core {
                    core.handle_written(conn, now);
                }
            }
            Event::Closed { node, conn, reason } => {
                self.ends.remove(&(node, conn));
                if let Some(core) = &mut self.nodes[node].core {
                    core.handle_closed(conn, reason, now);
                }
            }
        }
        self.pump();
    }

    fn syn(&mut self, from: usize, conn: ConnId, to: usize) {
        let now = self.now;
        let node = &mut self.nodes[to];
        let listening = node.core.as_mut().filter(|_| node.listens);
        let remote = SocketAddr::new(address(from), 40000);
        let accepted =
            listening.map(|core| core.handle_incoming(remote, SocketAddr::new(address(to), 179), now));
        match accepted {
            None => {
                let reason = "connection refused";
                self.schedule(
                    self.latency(to, from),
                    Event::Closed {
                        node: from,
                        conn,
                        reason,
                    },
                );
            }
            Some(None) => {
                let reason = "connection reset by peer";
                self.schedule(
                    self.latency(to, from),
                    Event::Closed {
                        node: from,
                        conn,
                        reason,
                    },
                );
            }
            Some(Some(peer)) => {
                self.ends.insert((from, conn), (to, peer));
                self.ends.insert((to, peer), (from, conn));
                self.schedule(
                    self.latency(to, from),
                    Event::Connected {
                        node: from,
                        conn,
                        peer,
                        to,
                    },
                );
            }
        }
    }

    /// A node that reads takes what has come, cut anywhere.
    pub(crate) fn read(&mut self, node: usize) {
        if !self.nodes[node].reads {
            return;
        }
        for (conn, chunks) in std::mem::take(&mut self.nodes[node].unread) {
            for (mut bytes, (sender, sender_conn)) in chunks {
                while !bytes.is_empty() {
                    let cut = 1 + usize::try_from(self.random() % 64).unwrap();
                    let piece = bytes.split_to(cut.min(bytes.len()));
                    let now = self.now;
                    if let Some(core) = &mut self.nodes[node].core {
                        core.handle_received(conn, &piece, now);
                    }
                }
                self.schedule(
                    self.latency(node, sender),
                    Event::Written {
                        node: sender,
                        conn: sender_conn,
                    },
                );
            }
        }
    }

    fn close_all(&mut self, node: usize, reason: &'static str) {
        let mine: Vec<_> = self
            .ends
            .keys()
            .filter(|(owner, _)| *owner == node)
            .copied()
            .collect();
        for end in mine {
            self.close(end, reason);
        }
    }

    fn close(&mut self, end: End, reason: &'static str) {
        if let Some((node, conn)) = self.ends.remove(&end) {
            self.schedule(self.latency(end.0, node), Event::Closed { node, conn, reason });
        }
    }

    /// Does what every node wants done.
    fn pump(&mut self) {
        for node in 0..self.nodes.len() {
            self.pump_node(node);
        }
    }

    fn pump_node(&mut self, node: usize) {
        let now = self.now;
        while let Some(output) = self.nodes[node].core.as_mut().and_then(SpeakerCore::poll_output) {
            match output {
                Output::Connect { conn, request } => {
                    let to = (0..self.nodes.len()).find(|index| address(*index) == request.remote.ip());
                    match to {
                        Some(to) => {
                            self.schedule(self.latency(node, to), Event::Syn { from: node, conn, to })
                        }
                        None => self.schedule(
                            Duration::from_millis(1),
                            Event::Closed {
                                node,
                                conn,
                                reason: "no route to host",
                            },
                        ),
                    }
                }
                Output::Close { conn, last } => {
                    self.record(node, conn, &last);
                    self.send(node, conn, last);
                    self.close((node, conn), "closed by the peer");
                }
            }
        }
        while let Some(transmit) = self.nodes[node]
            .core
            .as_mut()
            .and_then(|core| core.poll_transmit(now))
        {
            self.record(node, transmit.conn, &transmit.bytes);
            self.send(node, transmit.conn, transmit.bytes);
        }
        let node = &mut self.nodes[node];
        if let Some(changes) = node.core.as_mut().and_then(SpeakerCore::poll_routes) {
            node.converged = changes.converged;
            for (prefix, best) in changes.changed {
                match best {
                    Some(best) => node.feed.insert(prefix, best),
                    None => {
                        node.withdrawn.push(prefix);
                        node.feed.remove(&prefix)
                    }
                };
            }
        }
    }

    fn send(&mut self, node: usize, conn: ConnId, bytes: Bytes) {
        let Some((to, peer)) = self.ends.get(&(node, conn)).copied() else {
            return;
        };
        if !bytes.is_empty() {
            self.schedule(
                self.latency(node, to),
                Event::Bytes {
                    node: to,
                    conn: peer,
                    bytes,
                    sender: (node, conn),
                },
            );
        }
    }

    fn record(&mut self, from: usize, conn: ConnId, bytes: &Bytes) {
        let buffer = self.partial.entry((from, conn)).or_default();
        buffer.extend_from_slice(bytes);
        while let Some(frame) = Frame::take(buffer, Negotiated::MESSAGE_MAX).unwrap() {
            let notification = match frame.message_type() {
                MessageType::Notification => {
                    match Message::decode(&frame, &Negotiated::plain(SessionType::Ebgp)) {
                        Ok(Message::Notification(notification)) => Some(notification),
                        other => panic!("{other:?}"),
                    }
                }
                _ => None,
            };
            let at = self.now - self.start;
            self.sent.push(Sent {
                at,
                from,
                kind: frame.message_type(),
                notification,
            });
        }
    }
}
