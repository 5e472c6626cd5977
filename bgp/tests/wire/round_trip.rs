//! What is encoded and decoded again is what it was.

use bgp::types::{Asn, Family};
use bgp::wire::{AsPath, Message, Negotiated, NextHop, SegmentKind, SessionType, Update};
use proptest::prelude::*;

use crate::strategies;
use crate::support::{attributes, decode, decode_all, encode, nlri};

/// How a path looks after it went through AS4_PATH: neighbouring sequences may have become one. What must stay is
/// the order of all numbers, the length, and what best path and loop detection see.
fn path_essence(path: &AsPath) -> (Vec<Asn>, usize, Option<Asn>, usize) {
    let sets = path
        .segments
        .iter()
        .filter(|segment| segment.kind != SegmentKind::Sequence)
        .count();
    (path.asns().collect(), path.path_length(), path.neighbor(), sets)
}

proptest! {
    #[test]
    fn open_survives(open in strategies::open()) {
        let session = Negotiated::plain(SessionType::Ebgp);
        let message = Message::Open(open);
        prop_assert_eq!(decode(&encode(&message, &session), &session).unwrap(), message);
    }

    #[test]
    fn notification_survives(notification in strategies::notification()) {
        let session = Negotiated::plain(SessionType::Ebgp);
        let message = Message::Notification(notification);
        prop_assert_eq!(decode(&encode(&message, &session), &session).unwrap(), message);
    }

    #[test]
    fn route_refresh_survives(refresh in strategies::route_refresh()) {
        let session = Negotiated::plain(SessionType::Ebgp);
        let message = Message::RouteRefresh(refresh);
        prop_assert_eq!(decode(&encode(&message, &session), &session).unwrap(), message);
    }

    #[test]
    fn update_survives((session, update) in strategies::update()) {
        let bytes = encode(&Message::Update(update.clone()), &session);
        let decoded = decode_all(&bytes, &session);
        prop_assert_eq!(decoded.len(), 1);
        let Message::Update(decoded) = &decoded[0] else { panic!("{decoded:?}") };
        let (mut decoded, mut update) = (decoded.clone(), update);
        if !session.four_octet_as {
            prop_assert_eq!(path_essence(&decoded.attributes.as_path), path_essence(&update.attributes.as_path));
            decoded.attributes.as_path = AsPath::empty();
            update.attributes.as_path = AsPath::empty();
        }
        prop_assert_eq!(decoded, update);
    }
}

#[test]
fn keepalive_survives() {
    let session = Negotiated::plain(SessionType::Ebgp);
    let bytes = encode(&Message::Keepalive, &session);
    assert_eq!(bytes.len(), 19);
    assert_eq!(decode(&bytes, &session).unwrap(), Message::Keepalive);
}

#[test]
fn an_update_of_both_families_becomes_a_message_each() {
    let session = crate::support::session(SessionType::Ebgp);
    let mut update = Update::announce(
        Family::IPV4_UNICAST,
        NextHop::V4("192.0.2.1".parse().unwrap()),
        attributes(),
        nlri(&["10.0.0.0/8"]),
    );
    let six = NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    };
    let v6 = Update::announce(Family::IPV6_UNICAST, six, attributes(), nlri(&["2001:db8::/32"]));
    update.reach.extend(v6.reach.clone());
    let v4 = Update {
        reach: vec![update.reach[0].clone()],
        ..update.clone()
    };
    let decoded = decode_all(&encode(&Message::Update(update), &session), &session);
    assert_eq!(decoded, [Message::Update(v4), Message::Update(v6)]);
}
