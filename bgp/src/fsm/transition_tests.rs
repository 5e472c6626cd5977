use super::*;
use crate::fsm::SessionState;
use crate::types::{Asn, HoldTime, RouterId};
use crate::wire::{Negotiated, Open, SessionType};

const CONN: ConnId = ConnId(1);
const NEXT: ConnId = ConnId(2);

fn agreed() -> Box<Agreed> {
    let open = Open {
        asn: Asn(64513),
        hold_time: HoldTime::DEFAULT,
        router_id: RouterId::from(7),
        capabilities: Vec::new(),
    };
    Box::new(Agreed {
        negotiated: Negotiated::plain(SessionType::Ebgp),
        open,
    })
}

fn states() -> [State; 6] {
    [
        State::Idle,
        State::Connect { conn: CONN },
        State::Active,
        State::OpenSent { conn: CONN },
        State::OpenConfirm {
            conn: CONN,
            agreed: agreed(),
        },
        State::Established {
            conn: CONN,
            agreed: agreed(),
        },
    ]
}

fn events() -> Vec<Event> {
    let cease = Notification::cease(CeaseSubcode::AdministrativeReset);
    vec![
        Event::Start { conn: NEXT },
        Event::StartPassive,
        Event::Stop(None),
        Event::Stop(Some(cease.clone())),
        Event::ConnectRetryTimerExpires { conn: NEXT },
        Event::HoldTimerExpires,
        Event::KeepaliveTimerExpires,
        Event::SendHoldTimerExpires,
        Event::TcpConnectionEstablished { conn: CONN },
        Event::TcpConnectionFails(TcpError("refused".to_owned())),
        Event::BgpOpen(agreed()),
        Event::RepeatedOpen,
        Event::MessageError(cease.clone()),
        Event::OpenCollisionDump,
        Event::Superseded,
        Event::NotificationMessage(cease),
        Event::KeepaliveMessage,
        Event::UpdateMessage,
        Event::RouteRefreshMessage,
    ]
}

fn notification(actions: &[Action]) -> Option<ErrorCode> {
    actions.iter().find_map(|action| match action {
        Action::NotifyAndClose(_, notification) => Some(notification.error),
        _ => None,
    })
}

/// The whole table by name: where each event leads from each state. A dot means that the state stays.
#[test]
fn the_table() {
    use SessionState::*;
    let same = None;
    // From: Idle, Connect, Active, OpenSent, OpenConfirm, Established.
    let table = [
        [Some(Connect), same, same, same, same, same],
        [Some(Active), same, same, same, same, same],
        [same, Some(Idle), Some(Idle), Some(Idle), Some(Idle), Some(Idle)],
        [same, Some(Idle), Some(Idle), Some(Idle), Some(Idle), Some(Idle)],
        [same, Some(Connect), Some(Connect), same, same, same],
        [same, same, same, Some(Idle), Some(Idle), Some(Idle)],
        [same, same, same, same, same, same],
        [same, same, same, Some(Idle), Some(Idle), Some(Idle)],
        [same, Some(OpenSent), Some(OpenSent), same, same, same],
        [same, Some(Active), same, Some(Active), Some(Idle), Some(Idle)],
        [same, same, same, Some(OpenConfirm), Some(Idle), Some(Idle)],
        [same, same, same, Some(Idle), Some(Idle), Some(Idle)],
        [same, same, same, Some(Idle), Some(Idle), Some(Idle)],
        [same, Some(Idle), Some(Idle), Some(Idle), Some(Idle), Some(Idle)],
        [same, same, same, Some(Idle), Some(Idle), Some(Idle)],
        [same, same, same, Some(Idle), Some(Idle), Some(Idle)],
        [same, same, same, Some(Idle), Some(Established), same],
        [same, same, same, Some(Idle), Some(Idle), same],
        [same, same, same, Some(Idle), Some(Idle), same],
    ];
    for (event, row) in events().into_iter().zip(table) {
        for (state, expected) in states().into_iter().zip(row) {
            let from = state.name();
            let (to, _) = transition(state, event.clone());
            assert_eq!(to.name(), expected.unwrap_or(from), "{event:?} from {from}");
        }
    }
}

#[test]
fn a_connection_is_never_lost_without_being_closed() {
    for state in states() {
        for event in events() {
            let (from, conn) = (state.name(), state.conn());
            let (to, actions) = transition(state.clone(), event.clone());
            let closed = actions
                .iter()
                .any(|action| matches!(action, Action::Close(c) | Action::NotifyAndClose(c, _) if Some(*c) == conn));
            let gone = matches!(event, Event::TcpConnectionFails(_));
            if conn.is_some() && to.conn() != conn {
                assert!(closed || gone, "{event:?} from {from}: {actions:?}");
            } else {
                assert!(!closed, "{event:?} from {from}: {actions:?}");
            }
        }
    }
}

#[test]
fn a_message_out_of_turn_is_answered_with_the_state_it_came_in() {
    let subcodes = [
        FsmSubcode::UnexpectedInOpenSent,
        FsmSubcode::UnexpectedInOpenConfirm,
        FsmSubcode::UnexpectedInEstablished,
    ];
    let [_, _, _, open_sent, open_confirm, established] = states();
    for (state, subcode) in [open_sent, open_confirm, established].into_iter().zip(subcodes) {
        let (_, actions) = transition(state, Event::RepeatedOpen);
        assert_eq!(
            notification(&actions),
            Some(ErrorCode::FiniteStateMachine(subcode))
        );
    }
}

#[test]
fn a_session_that_ends_comes_back_unless_it_was_stopped() {
    let [.., established] = states();
    for event in events() {
        let (to, actions) = transition(established.clone(), event.clone());
        let ended = actions.iter().any(|action| matches!(action, Action::End(_)));
        assert_eq!(ended, to.name() == SessionState::Idle, "{event:?}");
        let comes_back = actions.contains(&Action::Timer(HoldIdle));
        let stopped = matches!(event, Event::Stop(_) | Event::OpenCollisionDump);
        assert_eq!(comes_back, ended && !stopped, "{event:?}");
    }
}

#[test]
fn up_is_said_once() {
    let [.., open_confirm, established] = states();
    let ups = |state| {
        let (_, actions) = transition(state, Event::KeepaliveMessage);
        actions
            .iter()
            .filter(|action| matches!(action, Action::Up(..)))
            .count()
    };
    assert_eq!((ups(open_confirm), ups(established)), (1, 0));
}
