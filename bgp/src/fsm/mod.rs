//! The finite state machine of RFC 4271 section 8: one for each connection of a peer.
//!
//! [`transition`] is the whole machine: a pure function from (state, event) to (state, actions). It knows no clock
//! and no buffers; [`Fsm`] around it keeps the state and the timers, and whoever owns the `Fsm` carries out what is
//! left of the actions. A peer has two: one that connects, one that accepts ([`Side`]); which of the two survives
//! a collision is not decided here.
//!
//! Deliberate differences from the letter of section 8: DelayOpen is not offered; a failed connection attempt goes
//! to Active and not to Idle, so that Idle always means "held back"; the first OPEN has to arrive within
//! [`OPEN_HOLD_TIME`], not four minutes.

mod transition;

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub(crate) use transition::transition;

use crate::timers::{Backoff, Jitter, TimerTable};
use crate::types::HoldTime;
use crate::wire::{CeaseSubcode, ErrorCode, Negotiated, Notification, Open};

/// How long a connected peer may take to send its OPEN.
pub(crate) const OPEN_HOLD_TIME: Duration = Duration::from_secs(60);
/// How long an attempt to connect may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The least time without any progress in sending after which the session is given up (RFC 9687).
const SEND_HOLD_TIME: Duration = Duration::from_secs(8 * 60);

/// A transport connection, open or being opened. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(crate) u64);

/// What the two OPEN messages of a connection led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) negotiated: Negotiated,
    /// The peer's OPEN.
    pub(crate) open: Open,
}

/// The state of one connection's machine, with what exists only in that state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Refuses connections and makes none.
    Idle,
    /// A connection attempt is under way.
    Connect { conn: ConnId },
    /// Waits for a connection, or for the next attempt.
    Active,
    /// Connected; our OPEN is sent.
    OpenSent { conn: ConnId },
    /// The peer's OPEN is accepted; waits for its KEEPALIVE.
    OpenConfirm { conn: ConnId, agreed: Box<Agreed> },
    /// Routes are exchanged.
    Established { conn: ConnId, agreed: Box<Agreed> },
}

impl State {
    /// The connection of the state, open or being opened.
    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Idle | Self::Active => None,
            Self::Connect { conn }
            | Self::OpenSent { conn }
            | Self::OpenConfirm { conn, .. }
            | Self::Established { conn, .. } => Some(*conn),
        }
    }

    /// The state's name.
    pub(crate) fn name(&self) -> SessionState {
        match self {
            Self::Idle => SessionState::Idle,
            Self::Connect { .. } => SessionState::Connect,
            Self::Active => SessionState::Active,
            Self::OpenSent { .. } => SessionState::OpenSent,
            Self::OpenConfirm { .. } => SessionState::OpenConfirm,
            Self::Established { .. } => SessionState::Established,
        }
    }
}

/// The states by name, the more advanced the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SessionState {
    /// Held back after an error, or shut down.
    Idle,
    /// Waiting for a connection, or for the next attempt.
    Active,
    /// Connecting.
    Connect,
    /// Waiting for the peer's OPEN.
    OpenSent,
    /// Waiting for the peer's KEEPALIVE.
    OpenConfirm,
    /// Up.
    Established,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "Idle",
            Self::Active => "Active",
            Self::Connect => "Connect",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}

/// Which of a peer's two machines this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Makes connections; holds the session once it is up, whoever connected.
    Main,
    /// Takes the connections the peer makes.
    Inbound,
}

/// What can happen to a machine. The numbers are those of RFC 4271 section 8.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// 1, 3: start, and connect under this id.
    Start { conn: ConnId },
    /// 4, 5: start, and only wait to be connected.
    StartPassive,
    /// 2, 8: stop, with words or without.
    Stop(Option<Notification>),
    /// 9; a new attempt would get this id.
    ConnectRetryTimerExpires { conn: ConnId },
    /// 10.
    HoldTimerExpires,
    /// 11.
    KeepaliveTimerExpires,
    /// RFC 9687.
    SendHoldTimerExpires,
    /// 16, 17.
    TcpConnectionEstablished { conn: ConnId },
    /// 18.
    TcpConnectionFails(TcpError),
    /// 19, after the checks of section 6.2.
    BgpOpen(Box<Agreed>),
    /// 19 on a connection that has had its OPEN.
    RepeatedOpen,
    /// 21, 22, 28: what the peer sent is in error.
    MessageError(Notification),
    /// 23: the other connection was preferred.
    OpenCollisionDump,
    /// A newer connection of a peer that restarts has taken this one's place (RFC 4724 section 5).
    Superseded,
    /// 24, 25.
    NotificationMessage(Notification),
    /// 26.
    KeepaliveMessage,
    /// 27.
    UpdateMessage,
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefreshMessage,
}

/// What the owner of a machine has to do; timers are the machine's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open a connection to the peer.
    Connect(ConnId),
    /// Close a connection without a word.
    Close(ConnId),
    /// Send a NOTIFICATION, then close.
    NotifyAndClose(ConnId, Notification),
    /// Send our OPEN.
    SendOpen(ConnId),
    /// Send a KEEPALIVE.
    SendKeepalive(ConnId),
    /// The session is up.
    Up(ConnId, Box<Agreed>),
    /// A connection is over, and so is the session if there was one.
    End(SessionEnd),
    /// Arm or stop a timer.
    Timer(TimerAction),
}

/// What an action does to the timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerAction {
    /// Bound a connection attempt.
    AwaitConnection,
    /// Try again after the back-off.
    RetryConnection,
    /// Bound the wait for the peer's OPEN.
    AwaitOpen,
    /// Start hold and keepalive timers.
    StartSession(HoldTime),
    /// The peer was heard.
    RestartHold(HoldTime),
    /// A KEEPALIVE was sent.
    RestartKeepalive(HoldTime),
    /// Leave Idle again after the back-off.
    HoldIdle,
    /// Stop them all.
    StopAll,
}

/// Why the transport failed, in the words of the operating system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TcpError(pub(crate) String);

/// Why a connection, and the session on it, is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// We sent a NOTIFICATION.
    Sent(Notification),
    /// The peer sent a NOTIFICATION.
    Received(Notification),
    /// The transport failed or was closed.
    Tcp(TcpError),
    /// A newer connection of a restarting peer took over.
    Superseded,
    /// We closed it without a word.
    Silent,
}

impl SessionEnd {
    /// The peer may still be forwarding: its routes are kept for a while (RFC 4724 section 4.2).
    pub(crate) fn is_graceful(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Superseded | Self::Silent)
    }

    /// The peer would do the same again at once (DampPeerOscillations).
    pub(crate) fn is_oscillation(&self) -> bool {
        let (Self::Sent(notification) | Self::Received(notification)) = self else {
            return false;
        };
        match notification.error {
            ErrorCode::Cease(subcode) => subcode == CeaseSubcode::MaximumPrefixes,
            _ => true,
        }
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "sent {notification}"),
            Self::Received(notification) => write!(f, "received {notification}"),
            Self::Tcp(error) => write!(f, "connection lost: {error}"),
            Self::Superseded => f.write_str("the peer restarted and connected again"),
            Self::Silent => f.write_str("closed"),
        }
    }
}

/// The timers of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    ConnectRetry,
    IdleHold,
    Hold,
    Keepalive,
    SendHold,
}

/// What the timers need from outside when an action arms them.
pub(crate) struct Pace<'a> {
    pub(crate) now: Instant,
    /// The back-off before the next attempt to connect.
    pub(crate) backoff: &'a mut Backoff,
    pub(crate) jitter: &'a mut Jitter,
}

impl Pace<'_> {
    fn retry_at(&mut self) -> Instant {
        self.now + self.backoff.next(self.jitter)
    }
}

/// A machine: its state and its timers.
#[derive(Debug)]
pub(crate) struct Fsm {
    state: State,
    timers: TimerTable<Timer, 5>,
}

impl Fsm {
    pub(crate) fn new() -> Self {
        let kinds = [
            Timer::ConnectRetry,
            Timer::IdleHold,
            Timer::Hold,
            Timer::Keepalive,
            Timer::SendHold,
        ];
        Self {
            state: State::Idle,
            timers: TimerTable::new(kinds),
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Takes one event. What is returned is for the owner to do, in order.
    pub(crate) fn handle(&mut self, event: Event, pace: &mut Pace<'_>) -> Vec<Action> {
        let state = std::mem::replace(&mut self.state, State::Idle);
        let (state, mut actions) = transition(state, event);
        self.state = state;
        actions.retain(|action| match action {
            Action::Timer(timer) => {
                self.apply(*timer, pace);
                false
            }
            _ => true,
        });
        actions
    }

    /// One timer that has expired, if any.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<Timer> {
        self.timers.pop_expired(now)
    }

    /// When the next timer expires.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// When the machine leaves Idle by itself.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        self.timers.get(Timer::IdleHold)
    }

    /// Puts off the next attempt to connect.
    pub(crate) fn defer_connect(&mut self, until: Instant) {
        self.timers.set(Timer::ConnectRetry, until);
    }

    /// Leaves Idle at `at` instead of whenever it would have.
    pub(crate) fn hold_idle_until(&mut self, at: Instant) {
        self.timers.set(Timer::IdleHold, at);
    }

    /// Bytes were given to the socket: they must go out in time.
    pub(crate) fn arm_send_hold(&mut self, now: Instant) {
        let hold = match &self.state {
            State::Established { agreed, .. } => agreed.negotiated.hold_time.duration(),
            _ => None,
        };
        if let Some(hold) = hold {
            self.timers
                .set(Timer::SendHold, now + (hold * 2).max(SEND_HOLD_TIME));
        }
    }

    /// The bytes went out.
    pub(crate) fn stop_send_hold(&mut self) {
        self.timers.stop(Timer::SendHold);
    }

    fn apply(&mut self, action: TimerAction, pace: &mut Pace<'_>) {
        let now = pace.now;
        match action {
            TimerAction::AwaitConnection => self.timers.set(Timer::ConnectRetry, now + CONNECT_TIMEOUT),
            TimerAction::RetryConnection => self.timers.set(Timer::ConnectRetry, pace.retry_at()),
            TimerAction::HoldIdle => self.timers.set(Timer::IdleHold, pace.retry_at()),
            TimerAction::AwaitOpen => {
                self.timers.stop(Timer::ConnectRetry);
                self.timers.set(Timer::Hold, now + OPEN_HOLD_TIME);
            }
            TimerAction::StartSession(hold) => {
                self.timers.stop(Timer::Hold);
                self.restart_hold(hold, now);
                self.restart_keepalive(hold, pace);
            }
            TimerAction::RestartHold(hold) => self.restart_hold(hold, now),
            TimerAction::RestartKeepalive(hold) => self.restart_keepalive(hold, pace),
            TimerAction::StopAll => self.timers.stop_all(),
        }
    }

    fn restart_hold(&mut self, hold: HoldTime, now: Instant) {
        if let Some(hold) = hold.duration() {
            self.timers.set(Timer::Hold, now + hold);
        }
    }

    fn restart_keepalive(&mut self, hold: HoldTime, pace: &mut Pace<'_>) {
        if let Some(interval) = hold.keepalive() {
            self.timers
                .set(Timer::Keepalive, pace.now + pace.jitter.apply(interval));
        }
    }
}
