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

mod event;
mod transition;

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub(crate) use event::{Action, Event, SessionEnd, Side, TcpError, TimerAction};
pub(crate) use transition::transition;

use crate::timers::{Backoff, Jitter, TimerTable};
use crate::types::HoldTime;
use crate::wire::{Negotiated, Open};

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
