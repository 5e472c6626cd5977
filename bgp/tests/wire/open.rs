//! OPEN: known bytes, every error with its subcode, and what two of them agree on.

use bgp::types::{Asn, Family, HoldTime, RouterId};
use bgp::wire::{
    AddPath, Capability, EncodeError, ExtendedNextHop, GracefulRestart, GracefulRestartFamily, Message,
    Negotiated, Open, OpenError, Role, SessionType,
};
use bytes::{Bytes, BytesMut};

use crate::support::{decode, encode, hex, message};

fn session() -> Negotiated {
    Negotiated::plain(SessionType::Ebgp)
}

fn open(asn: u32, capabilities: Vec<Capability>) -> Open {
    Open {
        asn: Asn(asn),
        hold_time: HoldTime::new(90).unwrap(),
        router_id: RouterId("192.0.2.1".parse().unwrap()),
        capabilities,
    }
}

#[test]
fn the_bytes_of_an_open_are_these() {
    let ours = open(
        4_200_000_000,
        vec![
            Capability::Multiprotocol(Family::IPV4_UNICAST),
            Capability::Multiprotocol(Family::IPV6_UNICAST),
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![ExtendedNextHop {
                family: Family::IPV4_UNICAST,
                next_hop_afi: Family::AFI_IPV6,
            }]),
            Capability::ExtendedMessage,
            Capability::Role(Role::Customer),
            Capability::GracefulRestart(GracefulRestart {
                restarting: true,
                notification: true,
                restart_time: 120,
                families: vec![GracefulRestartFamily {
                    family: Family::IPV4_UNICAST,
                    forwarding_preserved: true,
                }],
            }),
            Capability::FourOctetAs(Asn(4_200_000_000)),
            Capability::AddPath(vec![AddPath {
                family: Family::IPV4_UNICAST,
                receive: true,
                send: false,
            }]),
            Capability::EnhancedRouteRefresh,
        ],
    );
    let bytes = hex("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF 0050 01
         04 5BA0 005A C0000201 33
         02 31
         0104 0001 00 01
         0104 0002 00 01
         0200
         0506 0001 0001 0002
         0600
         0901 03
         4006 C078 0001 01 80
         4104 FA56EA00
         4504 0001 01 01
         4600");
    assert_eq!(encode(&Message::Open(ours.clone()), &session()), bytes);
    assert_eq!(decode(&bytes, &session()).unwrap(), Message::Open(ours));
}

#[test]
fn an_open_without_parameters_is_29_octets() {
    let bytes = hex("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF 001D 01 04 FC00 005A C0000201 00");
    let plain = open(64512, vec![]);
    assert_eq!(encode(&Message::Open(plain.clone()), &session()), bytes);
    assert_eq!(decode(&bytes, &session()).unwrap(), Message::Open(plain.clone()));
    assert_eq!(plain.families(), [Family::IPV4_UNICAST]);
}

#[test]
fn capabilities_may_come_one_a_parameter() {
    let body = hex("04 FC00 005A C0000201 0A 02 02 0200 02 04 8002 ABCD");
    let expected = open(
        64512,
        vec![
            Capability::RouteRefresh,
            Capability::Unknown {
                code: 128,
                value: hex("ABCD"),
            },
        ],
    );
    assert_eq!(
        decode(&message(1, &body), &session()).unwrap(),
        Message::Open(expected)
    );
}

#[test]
fn long_parameters_use_the_extended_format() {
    let unknown = |code| Capability::Unknown {
        code,
        value: Bytes::from(vec![1; 200]),
    };
    let long = open(64512, vec![unknown(130), unknown(131)]);
    let bytes = encode(&Message::Open(long.clone()), &session());
    // Two capabilities of 202 octets; 255 twice, total length, type 2, length in two octets.
    assert_eq!(&bytes[28..35], &hex("FF FF 0197 02 0194")[..]);
    assert_eq!(decode(&bytes, &session()).unwrap(), Message::Open(long));
    // The format is recognized by its type octet even where the length octet is not 255.
    let short = hex("04 FC00 005A C0000201 0A FF 0005 02 0002 0200");
    let expected = open(64512, vec![Capability::RouteRefresh]);
    assert_eq!(
        decode(&message(1, &short), &session()).unwrap(),
        Message::Open(expected)
    );
}

#[test]
fn the_longest_short_and_the_shortest_extended_parameters() {
    for length in 245..=255 {
        let value = Bytes::from(vec![9; length]);
        let message = Message::Open(open(64512, vec![Capability::Unknown { code: 200, value }]));
        assert_eq!(
            decode(&encode(&message, &session()), &session()).unwrap(),
            message,
            "{length} octets"
        );
    }
}

#[test]
fn a_capability_that_is_too_long_leaves_the_buffer_alone() {
    let value = Bytes::from(vec![0; 256]);
    let message = Message::Open(open(64512, vec![Capability::Unknown { code: 200, value }]));
    let mut out = BytesMut::from("before");
    assert_eq!(
        message.encode(&session(), &mut out),
        Err(EncodeError::CapabilityTooLong(200))
    );
    assert_eq!(out, "before");
}

#[test]
fn errors_have_their_subcodes() {
    let cases = [
        ("version 3", "03 FC00 005A C0000201 00", "2 1", "0004"),
        ("AS 0", "04 0000 005A C0000201 00", "2 2", ""),
        (
            "AS 0 of four octets",
            "04 5BA0 005A C0000201 08 0206 4104 00000000",
            "2 2",
            "",
        ),
        ("identifier 0", "04 FC00 005A 00000000 00", "2 3", ""),
        ("parameter type 1", "04 FC00 005A C0000201 03 01 01 00", "2 4", ""),
        ("hold time 1", "04 FC00 0001 C0000201 00", "2 6", ""),
        ("hold time 2", "04 FC00 0002 C0000201 00", "2 6", ""),
        (
            "parameters too long",
            "04 FC00 005A C0000201 05 02 02 0200",
            "2 0",
            "",
        ),
        (
            "parameters too short",
            "04 FC00 005A C0000201 03 02 02 0200",
            "2 0",
            "",
        ),
        (
            "parameter past the end",
            "04 FC00 005A C0000201 04 02 03 0200",
            "2 0",
            "",
        ),
        (
            "capability past the end",
            "04 FC00 005A C0000201 04 02 02 0201",
            "2 0",
            "",
        ),
        (
            "multiprotocol of 3 octets",
            "04 FC00 005A C0000201 07 0205 0103 000100",
            "2 0",
            "",
        ),
        (
            "route refresh of 1 octet",
            "04 FC00 005A C0000201 05 0203 0201 00",
            "2 0",
            "",
        ),
        (
            "four-octet AS of 2 octets",
            "04 FC00 005A C0000201 06 0204 4102 FC00",
            "2 0",
            "",
        ),
        (
            "graceful restart of 1 octet",
            "04 FC00 005A C0000201 05 0203 4001 00",
            "2 0",
            "",
        ),
        (
            "add-path of 3 octets",
            "04 FC00 005A C0000201 07 0205 4503 000101",
            "2 0",
            "",
        ),
        (
            "extended length cut off",
            "04 FC00 005A C0000201 FF FF 00",
            "2 0",
            "",
        ),
    ];
    for (name, body, code, data) in cases {
        let error = decode(&message(1, &hex(body)), &session()).expect_err(name);
        let notification = error.notification();
        let got = format!("{} {}", notification.error.code(), notification.error.subcode());
        assert_eq!(
            (got.as_str(), &notification.data),
            (code, &hex(data)),
            "{name}: {error}"
        );
    }
}

#[test]
fn what_the_state_machine_finds_has_its_subcode_too() {
    let missing = OpenError::UnsupportedCapability(Capability::Multiprotocol(Family::IPV6_UNICAST));
    let notification = missing.notification();
    assert_eq!((notification.error.code(), notification.error.subcode()), (2, 7));
    assert_eq!(notification.data, hex("0104 0002 00 01"));
    assert_eq!(OpenError::RoleMismatch.notification().error.subcode(), 11);
    assert_eq!(OpenError::BadPeerAs(Asn(64513)).notification().error.subcode(), 2);
}

#[test]
fn two_opens_agree_on_what_both_have() {
    let add_path = |receive, send| {
        Capability::AddPath(vec![AddPath {
            family: Family::IPV4_UNICAST,
            receive,
            send,
        }])
    };
    let local = open(
        64512,
        vec![
            Capability::Multiprotocol(Family::IPV4_UNICAST),
            Capability::Multiprotocol(Family::IPV6_UNICAST),
            Capability::FourOctetAs(Asn(64512)),
            Capability::RouteRefresh,
            Capability::ExtendedMessage,
            add_path(true, true),
        ],
    );
    let mut peer = open(
        64513,
        vec![
            Capability::Multiprotocol(Family::IPV4_UNICAST),
            Capability::FourOctetAs(Asn(64513)),
            add_path(false, true),
        ],
    );
    peer.hold_time = HoldTime::new(30).unwrap();
    let agreed = Negotiated::from_opens(&local, &peer);
    let expected = Negotiated {
        hold_time: HoldTime::new(30).unwrap(),
        four_octet_as: true,
        // The peer may send long messages to us; it never said that it takes them.
        extended_message_receive: true,
        add_path_receive: [Family::IPV4_UNICAST].into(),
        ..Negotiated::plain(SessionType::Ebgp)
    };
    assert_eq!(agreed, expected);
    assert_eq!((agreed.max_receive(), agreed.max_send()), (65535, 4096));

    peer.asn = Asn(64512);
    peer.hold_time = HoldTime::DISABLED;
    let agreed = Negotiated::from_opens(&local, &peer);
    assert_eq!(agreed.session_type, SessionType::Ibgp);
    assert_eq!(agreed.hold_time.duration(), None, "0 is the smaller one");
}

#[test]
fn path_identifiers_go_where_one_sends_and_the_other_receives() {
    let only = |receive, send| {
        let entry = AddPath {
            family: Family::IPV4_UNICAST,
            receive,
            send,
        };
        open(64512, vec![Capability::AddPath(vec![entry])])
    };
    for (ours, theirs, receives, sends) in [
        (only(false, true), only(false, true), false, false),
        (only(true, false), only(true, false), false, false),
        (only(true, false), only(false, true), true, false),
        (only(false, true), only(true, false), false, true),
        (only(false, false), only(true, true), false, false),
    ] {
        let agreed = Negotiated::from_opens(&ours, &theirs);
        let found = (
            !agreed.add_path_receive.is_empty(),
            !agreed.add_path_send.is_empty(),
        );
        assert_eq!(found, (receives, sends), "{ours:?} {theirs:?}");
    }
}

#[test]
fn values_are_what_configuration_writes() {
    assert!(HoldTime::new(2).is_err());
    assert!(serde_json::from_str::<HoldTime>("1").is_err());
    assert_eq!(serde_json::to_string(&HoldTime::DEFAULT).unwrap(), "90");
    assert_eq!(serde_json::to_string(&Asn(4_200_000_000)).unwrap(), "4200000000");
    assert_eq!(
        serde_json::to_string(&Family::IPV6_UNICAST).unwrap(),
        "\"ipv6-unicast\""
    );
    assert_eq!(
        serde_json::from_str::<Family>("\"afi-25-safi-70\"").unwrap(),
        Family { afi: 25, safi: 70 }
    );
    assert!(serde_json::from_str::<Family>("\"ipv5\"").is_err());
    assert_eq!(
        serde_json::to_string(&RouterId::from(0xC000_0201)).unwrap(),
        "\"192.0.2.1\""
    );
}
