//! Every transition of the machine, in one place (RFC 4271 section 8.2.2).

use super::TimerAction::{
    AwaitConnection, AwaitOpen, HoldIdle, RestartHold, RestartKeepalive, RetryConnection, StartSession,
    StopAll,
};
use super::{Action, Agreed, ConnId, Event, SessionEnd, State, TcpError};
use crate::wire::{CeaseSubcode, ErrorCode, FsmSubcode, Notification};

/// Where `event` leads from `state`, and what has to be done on the way.
pub(crate) fn transition(state: State, event: Event) -> (State, Vec<Action>) {
    match state {
        State::Idle => from_idle(event),
        State::Connect { conn } => from_connect(conn, event),
        State::Active => from_active(event),
        State::OpenSent { conn } => from_open_sent(conn, event),
        State::OpenConfirm { conn, agreed } => from_open_confirm(conn, agreed, event),
        State::Established { conn, agreed } => from_established(conn, agreed, event),
    }
}

fn from_idle(event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Start { conn } => enter_connect(conn, Vec::new()),
        Event::StartPassive => (State::Active, vec![Action::Timer(StopAll)]),
        Event::TcpConnectionEstablished { conn } => (State::Idle, vec![Action::Close(conn)]),
        Event::Stop(_) | Event::OpenCollisionDump => (State::Idle, vec![Action::Timer(StopAll)]),
        _ => (State::Idle, Vec::new()),
    }
}

fn from_connect(conn: ConnId, event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Stop(_) | Event::OpenCollisionDump => {
            (State::Idle, vec![Action::Close(conn), Action::Timer(StopAll)])
        }
        Event::ConnectRetryTimerExpires { conn: next } => enter_connect(next, vec![Action::Close(conn)]),
        Event::TcpConnectionEstablished { conn: opened } if opened == conn => enter_open_sent(conn),
        Event::TcpConnectionEstablished { conn: other } => {
            (State::Connect { conn }, vec![Action::Close(other)])
        }
        Event::TcpConnectionFails(error) => enter_active_after(error),
        _ => (State::Connect { conn }, Vec::new()),
    }
}

fn from_active(event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Stop(_) | Event::OpenCollisionDump => (State::Idle, vec![Action::Timer(StopAll)]),
        Event::ConnectRetryTimerExpires { conn } => enter_connect(conn, Vec::new()),
        Event::TcpConnectionEstablished { conn } => enter_open_sent(conn),
        _ => (State::Active, Vec::new()),
    }
}

fn from_open_sent(conn: ConnId, event: Event) -> (State, Vec<Action>) {
    match event {
        Event::BgpOpen(agreed) => {
            let hold = agreed.negotiated.hold_time;
            let actions = vec![Action::SendKeepalive(conn), Action::Timer(StartSession(hold))];
            (State::OpenConfirm { conn, agreed }, actions)
        }
        // Section 8.2.2: only here does a lost connection lead to Active and not to Idle.
        Event::TcpConnectionFails(error) => enter_active_after(error),
        Event::RepeatedOpen | Event::KeepaliveMessage | Event::UpdateMessage | Event::RouteRefreshMessage => {
            unexpected(conn, FsmSubcode::UnexpectedInOpenSent)
        }
        other => ended(conn, other).unwrap_or_else(|| (State::OpenSent { conn }, Vec::new())),
    }
}

fn from_open_confirm(conn: ConnId, agreed: Box<Agreed>, event: Event) -> (State, Vec<Action>) {
    let hold = agreed.negotiated.hold_time;
    match event {
        Event::KeepaliveMessage => {
            let up = Action::Up(conn, agreed.clone());
            (
                State::Established { conn, agreed },
                vec![Action::Timer(RestartHold(hold)), up],
            )
        }
        Event::KeepaliveTimerExpires => {
            let actions = vec![Action::SendKeepalive(conn), Action::Timer(RestartKeepalive(hold))];
            (State::OpenConfirm { conn, agreed }, actions)
        }
        Event::BgpOpen(_) | Event::RepeatedOpen | Event::UpdateMessage | Event::RouteRefreshMessage => {
            unexpected(conn, FsmSubcode::UnexpectedInOpenConfirm)
        }
        other => ended(conn, other).unwrap_or_else(|| (State::OpenConfirm { conn, agreed }, Vec::new())),
    }
}

fn from_established(conn: ConnId, agreed: Box<Agreed>, event: Event) -> (State, Vec<Action>) {
    let hold = agreed.negotiated.hold_time;
    match event {
        Event::KeepaliveMessage | Event::UpdateMessage | Event::RouteRefreshMessage => (
            State::Established { conn, agreed },
            vec![Action::Timer(RestartHold(hold))],
        ),
        Event::KeepaliveTimerExpires => {
            let actions = vec![Action::SendKeepalive(conn), Action::Timer(RestartKeepalive(hold))];
            (State::Established { conn, agreed }, actions)
        }
        Event::BgpOpen(_) | Event::RepeatedOpen => unexpected(conn, FsmSubcode::UnexpectedInEstablished),
        other => ended(conn, other).unwrap_or_else(|| (State::Established { conn, agreed }, Vec::new())),
    }
}

fn enter_connect(conn: ConnId, mut actions: Vec<Action>) -> (State, Vec<Action>) {
    actions.extend([
        Action::Timer(StopAll),
        Action::Connect(conn),
        Action::Timer(AwaitConnection),
    ]);
    (State::Connect { conn }, actions)
}

fn enter_open_sent(conn: ConnId) -> (State, Vec<Action>) {
    (
        State::OpenSent { conn },
        vec![Action::SendOpen(conn), Action::Timer(AwaitOpen)],
    )
}

fn enter_active_after(error: TcpError) -> (State, Vec<Action>) {
    let end = Action::End(SessionEnd::Tcp(error));
    (
        State::Active,
        vec![Action::Timer(StopAll), Action::Timer(RetryConnection), end],
    )
}

/// To Idle, to be left again after the back-off.
fn enter_idle(actions: Vec<Action>, end: SessionEnd) -> (State, Vec<Action>) {
    let mut all = vec![Action::Timer(StopAll), Action::Timer(HoldIdle)];
    all.extend(actions);
    all.push(Action::End(end));
    (State::Idle, all)
}

/// What ends a connection the same way in every state that has one; `None` if the event does not.
fn ended(conn: ConnId, event: Event) -> Option<(State, Vec<Action>)> {
    let next = match event {
        Event::Stop(Some(notification)) => stopped(conn, notification),
        Event::Stop(None) => {
            let actions = vec![
                Action::Timer(StopAll),
                Action::Close(conn),
                Action::End(SessionEnd::Silent),
            ];
            (State::Idle, actions)
        }
        Event::OpenCollisionDump => stopped(
            conn,
            Notification::cease(CeaseSubcode::ConnectionCollisionResolution),
        ),
        Event::HoldTimerExpires => fail(conn, Notification::new(ErrorCode::HoldTimerExpired)),
        Event::SendHoldTimerExpires => fail(conn, Notification::new(ErrorCode::SendHoldTimerExpired)),
        Event::MessageError(notification) => fail(conn, notification),
        Event::NotificationMessage(notification) => {
            enter_idle(vec![Action::Close(conn)], SessionEnd::Received(notification))
        }
        Event::TcpConnectionFails(error) => enter_idle(Vec::new(), SessionEnd::Tcp(error)),
        Event::Superseded => enter_idle(vec![Action::Close(conn)], SessionEnd::Superseded),
        _ => return None,
    };
    Some(next)
}

fn unexpected(conn: ConnId, subcode: FsmSubcode) -> (State, Vec<Action>) {
    fail(conn, Notification::new(ErrorCode::FiniteStateMachine(subcode)))
}

fn fail(conn: ConnId, notification: Notification) -> (State, Vec<Action>) {
    enter_idle(
        vec![Action::NotifyAndClose(conn, notification.clone())],
        SessionEnd::Sent(notification),
    )
}

/// To Idle, to stay there until started again.
fn stopped(conn: ConnId, notification: Notification) -> (State, Vec<Action>) {
    let actions = vec![
        Action::Timer(StopAll),
        Action::NotifyAndClose(conn, notification.clone()),
        Action::End(SessionEnd::Sent(notification)),
    ];
    (State::Idle, actions)
}

#[cfg(test)]
#[path = "transition_tests.rs"]
mod tests;
