//! What goes into the machine and what comes out: events, actions, and why a connection ended.

use std::fmt;

use super::{Agreed, ConnId};
use crate::types::HoldTime;
use crate::wire::{CeaseSubcode, ErrorCode, Notification};

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
