//! NOTIFICATION: names, the shutdown communication and the hard reset; and ROUTE-REFRESH's own error.

use bgp::wire::{CeaseSubcode, DecodeError, ErrorCode, Message, Negotiated, Notification, SessionType};

use crate::support::{decode, encode, hex, message};

fn session() -> Negotiated {
    Negotiated::plain(SessionType::Ebgp)
}

#[test]
fn codes_have_names() {
    let cases = [
        (1, 2, "Message Header Error/Bad Message Length"),
        (2, 2, "OPEN Message Error/Bad Peer AS"),
        (2, 11, "OPEN Message Error/Role Mismatch"),
        (3, 11, "UPDATE Message Error/Malformed AS_PATH"),
        (3, 7, "UPDATE Message Error/subcode 7"),
        (4, 0, "Hold Timer Expired"),
        (5, 1, "Finite State Machine Error/Unexpected Message in OpenSent"),
        (6, 2, "Cease/Administrative Shutdown"),
        (6, 7, "Cease/Connection Collision Resolution"),
        (6, 10, "Cease/BFD Down"),
        (7, 1, "ROUTE-REFRESH Message Error/Invalid Message Length"),
        (8, 0, "Send Hold Timer Expired"),
        (77, 3, "code 77/subcode 3"),
    ];
    for (code, subcode, name) in cases {
        let error = ErrorCode::from_numbers(code, subcode);
        assert_eq!(error.to_string(), name);
        assert_eq!((error.code(), error.subcode()), (code, subcode), "{name}");
    }
}

#[test]
fn every_pair_of_numbers_is_kept() {
    for code in 0..=255 {
        for subcode in 0..=255 {
            let error = ErrorCode::from_numbers(code, subcode);
            assert_eq!((error.code(), error.subcode()), (code, subcode));
        }
    }
}

#[test]
fn a_shutdown_says_why() {
    let notification = Notification::administrative_shutdown("drained, ticket 42");
    let bytes = encode(&Message::Notification(notification.clone()), &session());
    assert_eq!(
        &bytes[16..],
        &hex("0028 03 06 02 12 647261696e65642c207469636b6574203432")[..]
    );
    assert_eq!(notification.shutdown_message(), Some("drained, ticket 42"));
    assert_eq!(
        notification.to_string(),
        "Cease/Administrative Shutdown: \"drained, ticket 42\""
    );
}

#[test]
fn a_long_shutdown_message_is_cut_between_characters() {
    let notification = Notification::administrative_reset(&"ü".repeat(200));
    assert_eq!(notification.data.len(), 255, "254 octets of text and their count");
    assert_eq!(notification.shutdown_message(), Some("ü".repeat(127).as_str()));
}

#[test]
fn a_shutdown_message_that_lies_about_itself_is_not_shown() {
    let shutdown = ErrorCode::Cease(CeaseSubcode::AdministrativeShutdown);
    for data in ["", "00", "05 41", "02 FFFE"] {
        assert_eq!(
            Notification::with_data(shutdown, hex(data)).shutdown_message(),
            None,
            "{data:?}"
        );
    }
}

#[test]
fn a_hard_reset_wraps_its_reason() {
    let reason = Notification::administrative_shutdown("bye");
    let reset = reason.hard_reset();
    assert_eq!(reset.data, hex("06 02 03 627965"));
    assert_eq!(reset.hard_reset_reason(), Some(reason));
    assert_eq!(
        reset.to_string(),
        "Cease/Hard Reset (Cease/Administrative Shutdown): \"bye\""
    );
    assert_eq!(
        Notification::cease(CeaseSubcode::PeerDeconfigured).hard_reset_reason(),
        None
    );
}

#[test]
fn a_thousandfold_hard_reset_is_only_a_long_message() {
    let reset = Notification::with_data(ErrorCode::Cease(CeaseSubcode::HardReset), [6, 9].repeat(2000));
    assert_eq!(reset.to_string(), "Cease/Hard Reset (Cease/Hard Reset)");
}

#[test]
fn data_that_does_not_fit_is_cut() {
    let long = Notification::with_data(ErrorCode::HoldTimerExpired, vec![7; 10_000]);
    let bytes = encode(&Message::Notification(long), &session());
    assert_eq!(bytes.len(), 4096);
    let Ok(Message::Notification(decoded)) = decode(&bytes, &session()) else {
        panic!("not a NOTIFICATION")
    };
    assert_eq!(decoded.data, vec![7; 4096 - 21]);
}

#[test]
fn a_refresh_mark_of_wrong_length_is_answered_with_the_whole_message() {
    for subtype in [1, 2] {
        let bytes = message(5, &[0, 1, subtype, 1, 0]);
        let error = decode(&bytes, &session()).unwrap_err();
        assert!(matches!(error, DecodeError::RouteRefresh(_)), "{error}");
        let notification = error.notification();
        assert_eq!((notification.error.code(), notification.error.subcode()), (7, 1));
        assert_eq!(notification.data, bytes);
    }
    assert!(
        decode(&message(5, &[0, 1, 0, 1, 1, 128, 0, 0]), &session()).is_ok(),
        "a request with filters"
    );
}
