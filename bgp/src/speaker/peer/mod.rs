//! One peer: its two state machines and their connections, collisions between them, and its routes.
//!
//! The machine that connects (main) and the one that accepts (inbound) run side by side until one has a session;
//! an inbound connection that reaches Established takes the main machine's place, so that a session is always in
//! the same spot and the inbound machine is free to hear a peer that comes back before its old connection is known
//! to be dead.
//!
//! RFC 4271 sections 6.8 and 8; RFC 4724 section 5 for a collision with an established session.

mod collision;
mod machines;
mod messages;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tracing::debug;

use super::connection::Connection;
use super::restart::Stale;
use super::{ConnIds, Identity, Output};
use crate::config::PeerConfig;
use crate::fsm::{Agreed, ConnId, Event, Fsm, SessionState, Side, State, TcpError, Timer};
use crate::rib::{AdjRibIn, AdjRibOut};
use crate::status::PeerCounters;
use crate::timers::{Backoff, Jitter};
use crate::types::{Asn, Family, RouterId};
use crate::wire::{Negotiated, Notification, Update};

/// The pause after the first failure, and the longest one.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long the main machine waits for the inbound one before it connects.
const YIELD_TO_INBOUND: Duration = Duration::from_secs(2);

/// What a peer's machines need from the speaker, and what they leave for it to do.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) identity: &'a Identity,
    pub(crate) jitter: &'a mut Jitter,
    pub(crate) conn_ids: &'a mut ConnIds,
    pub(crate) outputs: &'a mut VecDeque<Output>,
    pub(crate) events: &'a mut Vec<PeerEvent>,
}

/// What a peer's machines tell the speaker.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    /// The session is up.
    Up,
    /// The session is down; gracefully, if the peer may still be forwarding.
    Down { agreed: Box<Agreed>, graceful: bool },
    /// Routes.
    Update(Box<Update>),
    /// The peer has sent everything of a family, or will not say when it has.
    EndOfRib(Family),
    /// The peer wants everything of a family again.
    RouteRefresh(Family),
}

/// A machine and the connection it drives.
#[derive(Debug)]
struct Machine {
    fsm: Fsm,
    connection: Option<Connection>,
}

impl Machine {
    fn new() -> Self {
        Self {
            fsm: Fsm::new(),
            connection: None,
        }
    }

    fn state(&self) -> SessionState {
        self.fsm.state().name()
    }
}

/// An established session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) agreed: Box<Agreed>,
    pub(crate) local_address: IpAddr,
    since: Instant,
    pub(crate) adj_rib_out: AdjRibOut,
    /// The families of which the peer has sent everything.
    pub(crate) end_of_rib_received: BTreeSet<Family>,
    /// The families whose End-of-RIB we still owe.
    pub(crate) end_of_rib_due: BTreeSet<Family>,
    /// The peer has restarted and may be waiting for our End-of-RIB; until then we wait for its own.
    pub(crate) settling_until: Option<Instant>,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) config: PeerConfig,
    main: Machine,
    inbound: Machine,
    enabled: bool,
    backoff: Backoff,
    /// Until then the peer may not connect either (DampPeerOscillations).
    damped_until: Option<Instant>,
    state_since: Instant,
    pub(crate) session: Option<Session>,
    pub(crate) adj_rib_in: AdjRibIn,
    pub(crate) stale: Option<Stale>,
    /// As of its last OPEN: routes kept past the session still need it.
    pub(crate) router_id: RouterId,
    pub(crate) last_error: Option<String>,
    pub(crate) counters: PeerCounters,
    /// A malformed attribute is logged once a session.
    pub(crate) malformed_logged: bool,
    pub(crate) span: tracing::Span,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, config: PeerConfig, now: Instant) -> Self {
        let span = span(&config.name, address);
        Self {
            address,
            config,
            main: Machine::new(),
            inbound: Machine::new(),
            enabled: false,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            damped_until: None,
            state_since: now,
            session: None,
            adj_rib_in: AdjRibIn::default(),
            stale: None,
            router_id: RouterId::from(0),
            last_error: None,
            counters: PeerCounters::default(),
            malformed_logged: false,
            span,
        }
    }

    // ---- getters

    /// The more advanced of the two machines.
    pub(crate) fn state(&self) -> SessionState {
        self.main.state().max(self.inbound_state())
    }

    /// Waiting to accept is not worth showing while the main machine is held back.
    fn inbound_state(&self) -> SessionState {
        match self.inbound.state() {
            SessionState::Active if !self.config.passive => SessionState::Idle,
            state => state,
        }
    }

    pub(crate) fn state_since(&self) -> Instant {
        self.state_since
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let stale = self.stale.as_ref().map(|stale| stale.deadline);
        let settling = self.session.as_ref().and_then(|session| session.settling_until);
        [
            self.main.fsm.next_timeout(),
            self.inbound.fsm.next_timeout(),
            stale,
            settling,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn local_as(&self, identity: &Identity) -> Asn {
        self.config.local_as.unwrap_or(identity.local_as)
    }

    /// Whether `conn` is one of this peer's connections.
    pub(crate) fn side_of(&self, conn: ConnId) -> Option<Side> {
        [Side::Main, Side::Inbound].into_iter().find(|side| {
            self.machine(*side)
                .connection
                .as_ref()
                .is_some_and(|c| c.id == conn)
        })
    }

    fn machine(&self, side: Side) -> &Machine {
        match side {
            Side::Main => &self.main,
            Side::Inbound => &self.inbound,
        }
    }

    fn machine_mut(&mut self, side: Side) -> &mut Machine {
        match side {
            Side::Main => &mut self.main,
            Side::Inbound => &mut self.inbound,
        }
    }

    /// A connection the socket can take bytes on.
    pub(crate) fn idle_connection(&mut self, side: Side) -> Option<&mut Connection> {
        self.machine_mut(side)
            .connection
            .as_mut()
            .filter(|connection| !connection.in_flight)
    }

    /// Puts `config` in force. The session is not touched.
    pub(crate) fn reconfigure(&mut self, config: PeerConfig) {
        self.span = span(&config.name, self.address);
        self.config = config;
    }

    // ---- what happens to it

    /// Starts both machines.
    pub(crate) fn start(&mut self, cx: &mut Context<'_>) {
        self.enabled = true;
        self.backoff.reset();
        self.damped_until = None;
        self.handle(Side::Inbound, Event::StartPassive, cx);
        if !self.config.passive {
            let conn = cx.conn_ids.allocate(self.address);
            self.handle(Side::Main, Event::Start { conn }, cx);
        }
    }

    /// Stops both machines, with words or without.
    pub(crate) fn stop(&mut self, notification: Option<Notification>, cx: &mut Context<'_>) {
        self.enabled = false;
        for side in [Side::Inbound, Side::Main] {
            self.handle(side, Event::Stop(notification.clone()), cx);
        }
    }

    /// Ends the session because of something the peer did.
    pub(crate) fn fail(&mut self, notification: Notification, cx: &mut Context<'_>) {
        self.handle(Side::Main, Event::MessageError(notification), cx);
    }

    /// The peer connected. `None`: not now.
    pub(crate) fn accept(&mut self, local: SocketAddr, cx: &mut Context<'_>) -> Option<ConnId> {
        if !self.enabled || self.damped_until.is_some_and(|until| cx.now < until) {
            return None;
        }
        if self.inbound.connection.is_some() {
            // A peer makes one connection at a time: the older one is dead and we have not noticed.
            self.handle(Side::Inbound, Event::OpenCollisionDump, cx);
        }
        let conn = cx.conn_ids.allocate(self.address);
        self.inbound.connection = Some(Connection::new(conn, Some(local)));
        self.handle(Side::Inbound, Event::TcpConnectionEstablished { conn }, cx);
        Some(conn)
    }

    /// The connection we asked for is there.
    pub(crate) fn connected(&mut self, side: Side, local: SocketAddr, cx: &mut Context<'_>) {
        let Some(connection) = self.machine_mut(side).connection.as_mut() else {
            return;
        };
        connection.local = Some(local);
        let conn = connection.id;
        self.handle(side, Event::TcpConnectionEstablished { conn }, cx);
    }

    /// The connection is gone, or never came about.
    pub(crate) fn disconnected(&mut self, side: Side, error: TcpError, cx: &mut Context<'_>) {
        self.handle(side, Event::TcpConnectionFails(error), cx);
    }

    /// Bytes that were handed out are with the socket.
    pub(crate) fn written(&mut self, side: Side) {
        let machine = self.machine_mut(side);
        if let Some(connection) = &mut machine.connection {
            connection.in_flight = false;
        }
        machine.fsm.stop_send_hold();
    }

    /// Bytes were handed out.
    pub(crate) fn writing(&mut self, side: Side, now: Instant) {
        let machine = self.machine_mut(side);
        if let Some(connection) = &mut machine.connection {
            connection.in_flight = true;
        }
        machine.fsm.arm_send_hold(now);
    }

    /// Takes bytes from the peer; [`next_message`](Self::next_message) acts on them.
    pub(crate) fn receive(&mut self, side: Side, bytes: &[u8]) {
        if let Some(connection) = &mut self.machine_mut(side).connection {
            connection.push_received(bytes);
        }
    }

    /// Acts on one received message. Whether there was one.
    pub(crate) fn next_message(&mut self, conn: ConnId, cx: &mut Context<'_>) -> bool {
        // The machine may have changed sides, or be gone.
        let Some(side) = self.side_of(conn) else {
            return false;
        };
        let max = match self.machine(side).fsm.state() {
            State::Established { agreed, .. } => agreed.negotiated.max_receive(),
            _ => Negotiated::MESSAGE_MAX,
        };
        let Some(connection) = self.machine_mut(side).connection.as_mut() else {
            return false;
        };
        match connection.next_frame(max) {
            Ok(None) => return false,
            Ok(Some(frame)) => {
                self.counters.messages_in += 1;
                self.handle_frame(side, &frame, cx);
            }
            Err(error) => {
                debug!(parent: &self.span, %error, "cannot read from the peer");
                self.handle(side, Event::MessageError(error.notification()), cx);
            }
        }
        true
    }

    /// Every timer that has expired.
    pub(crate) fn handle_timeouts(&mut self, cx: &mut Context<'_>) {
        for side in [Side::Main, Side::Inbound] {
            while let Some(timer) = self.machine_mut(side).fsm.pop_expired(cx.now) {
                self.handle_timer(side, timer, cx);
            }
        }
    }

    fn handle_timer(&mut self, side: Side, timer: Timer, cx: &mut Context<'_>) {
        let inbound_is_ahead = self.inbound.state() >= SessionState::OpenSent;
        let event = match timer {
            Timer::Hold => Event::HoldTimerExpires,
            Timer::Keepalive => Event::KeepaliveTimerExpires,
            Timer::SendHold => Event::SendHoldTimerExpires,
            Timer::ConnectRetry if side == Side::Inbound => return,
            // The peer has connected to us meanwhile; see what becomes of that first.
            Timer::ConnectRetry if inbound_is_ahead && self.main.state() == SessionState::Active => {
                return self.main.fsm.defer_connect(cx.now + YIELD_TO_INBOUND);
            }
            Timer::IdleHold if inbound_is_ahead || self.config.passive || !self.enabled => return,
            Timer::ConnectRetry => {
                if self.main.state() == SessionState::Connect && !inbound_is_ahead {
                    self.no_session(self.no_answer());
                }
                Event::ConnectRetryTimerExpires {
                    conn: cx.conn_ids.allocate(self.address),
                }
            }
            Timer::IdleHold => Event::Start {
                conn: cx.conn_ids.allocate(self.address),
            },
        };
        self.handle(side, event, cx);
    }

    /// A peer that disagrees about the password does not answer at all.
    fn no_answer(&self) -> String {
        let peer = match self.config.password {
            Some(_) => "expects another password, or none",
            None => "expects a password",
        };
        let remote = SocketAddr::new(self.address, self.config.port);
        format!("no answer from {remote}: it is down or out of reach, or {peer}")
    }
}

fn span(name: &str, address: IpAddr) -> tracing::Span {
    tracing::info_span!("peer", name = %name, %address)
}
