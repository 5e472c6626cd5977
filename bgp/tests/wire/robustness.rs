//! No bytes make the codec panic, and what it accepts it can say again.

use bgp::wire::{Frame, Message, Negotiated, SessionType};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategies;
use crate::support::{encode, message};

/// Feeds bytes in as a receive buffer would be, reads everything that can be read, and looks at every error.
fn swallow(bytes: &[u8], session: &Negotiated) {
    let mut buffer = BytesMut::from(bytes);
    loop {
        let frame = match Frame::take(&mut buffer, session.max_receive()) {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(error) => {
                let _ = error.notification().to_string();
                return;
            }
        };
        match Message::decode(&frame, session) {
            Ok(Message::Notification(notification)) => drop(notification.to_string()),
            Ok(message) => drop(format!("{message:?}")),
            Err(error) => {
                // Whatever there is to say must fit a message.
                let notification = error.notification();
                let _ = (error.to_string(), notification.to_string());
                encode(&Message::Notification(notification), session);
            }
        }
    }
}

/// Changes to a valid message: octets overwritten, inserted or removed.
fn mutate(bytes: &[u8], changes: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(at, value, what) in changes {
        let at = at % (bytes.len() + 1);
        match what % 4 {
            0 => bytes.insert(at, value),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            _ if at < bytes.len() => bytes[at] = value,
            _ => {}
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..6)
}

fn any_message() -> impl Strategy<Value = (Negotiated, Bytes)> {
    let plain = || strategies::negotiated();
    let encoded = |(session, message): (Negotiated, Message)| {
        let bytes = encode(&message, &session);
        (session, bytes)
    };
    prop_oneof![
        1 => (plain(), strategies::open().prop_map(Message::Open)).prop_map(encoded),
        1 => (plain(), strategies::notification().prop_map(Message::Notification)).prop_map(encoded),
        1 => (plain(), strategies::route_refresh().prop_map(Message::RouteRefresh)).prop_map(encoded),
        6 => strategies::update().prop_map(|(session, update)| (session, Message::Update(update))).prop_map(encoded),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(session in strategies::negotiated(), bytes in vec(any::<u8>(), 0..300)) {
        swallow(&bytes, &session);
    }

    #[test]
    fn any_body(session in strategies::negotiated(), kind in 0_u8..7, body in vec(any::<u8>(), 0..300)) {
        swallow(&message(kind, &body), &session);
    }

    /// Small numbers make lengths that fit, and so reach further in.
    #[test]
    fn small_numbers(session in strategies::negotiated(), kind in 1_u8..6, body in vec(0_u8..40, 0..120)) {
        swallow(&message(kind, &body), &session);
    }

    #[test]
    fn mutated_messages((session, bytes) in any_message(), changes in changes()) {
        swallow(&mutate(&bytes, &changes), &session);
    }

    /// The same, with a header that is right, so that the body is read.
    #[test]
    fn mutated_bodies((session, bytes) in any_message(), changes in changes()) {
        swallow(&message(bytes[18], &mutate(&bytes[19..], &changes)), &session);
    }

    #[test]
    fn truncated_messages((session, bytes) in any_message(), length in any::<usize>()) {
        let body = &bytes[19..];
        swallow(&message(bytes[18], &body[..length % (body.len() + 1)]), &session);
    }

    /// What was accepted with errors mended has none left when we pass it on.
    #[test]
    fn what_is_accepted_can_be_sent((session, bytes) in strategies::update(), changes in changes()) {
        let bytes = encode(&Message::Update(bytes), &session);
        let mutated = message(2, &mutate(&bytes[19..], &changes));
        let mut buffer = BytesMut::from(&mutated[..]);
        let Ok(Some(frame)) = Frame::take(&mut buffer, session.max_receive()) else { return Ok(()) };
        let Ok(Message::Update(mut update)) = Message::decode(&frame, &session) else { return Ok(()) };
        update.errors.clear();
        update.attributes.unknown.iter_mut().for_each(|attribute| attribute.partial = true);
        let mut out = BytesMut::new();
        let sent = Message::Update(update).encode(&session, &mut out);
        prop_assume!(sent.is_ok());
        for decoded in crate::support::decode_all(&out, &session) {
            let Message::Update(decoded) = decoded else { panic!("{decoded:?}") };
            prop_assert_eq!(decoded.errors, vec![]);
        }
    }
}

#[test]
fn a_message_of_one_repeated_attribute_is_reported_once() {
    let session = Negotiated {
        extended_message_receive: true,
        ..Negotiated::plain(SessionType::Ebgp)
    };
    let list = [0x40, 6, 0].repeat(21_000);
    let nlri = [8, 10];
    let update = crate::support::decode_update(&[], &list, &nlri, &session).unwrap();
    // ATOMIC_AGGREGATE twice, and ORIGIN, AS_PATH and NEXT_HOP missing.
    assert_eq!(update.errors.len(), 4, "{:?}", update.errors);
}
