//! Every malformation of every attribute, from an external and from an internal peer, and what comes of it.

use bgp::types::Family;
use bgp::wire::{AttributeCode, AttributeErrorKind, Disposition, Negotiated, SessionType, Update};

use crate::support::{decode_update, hex, nlri, session};

/// What comes of an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The route is announced, nothing was wrong.
    Fine,
    /// The route is announced without the attribute.
    Discard,
    /// The route is withdrawn.
    Withdraw,
    /// The session ends with UPDATE Message Error and this subcode.
    Reset(u8),
}
use Outcome::{Discard, Fine, Reset, Withdraw};

const ORIGIN: (u8, &str) = (1, "40 01 01 00");
const AS_PATH: (u8, &str) = (2, "40 02 06 02 01 0000FC00");
const NEXT_HOP: (u8, &str) = (3, "40 03 04 C0000201");
const LOCAL_PREF: (u8, &str) = (5, "40 05 04 00000064");

/// The attributes a route needs on a session, without one of them.
fn base_without(session_type: SessionType, code: u8) -> String {
    let local_pref = (session_type == SessionType::Ibgp).then_some(LOCAL_PREF);
    let all = [ORIGIN, AS_PATH, NEXT_HOP].into_iter().chain(local_pref);
    all.filter(|(each, _)| *each != code)
        .map(|(_, octets)| octets)
        .collect()
}

/// Decodes an announcement of 10.0.0.0/8 and says what came of it. `code` is the attribute all errors must name.
fn outcome(attributes: &str, code: u8, session: &Negotiated, name: &str) -> (Outcome, Option<Update>) {
    let update = match decode_update(&[], &hex(attributes), &hex("08 0A"), session) {
        Ok(update) => update,
        Err(notification) => {
            assert_eq!(notification.error.code(), 3, "{name}: {notification}");
            return (Reset(notification.error.subcode()), None);
        }
    };
    for error in &update.errors {
        assert_eq!(error.code, AttributeCode(code), "{name}: {error}");
    }
    let prefixes = nlri(&["10.0.0.0/8"]);
    let announced = update.reach.first().is_some_and(|reach| reach.nlri == prefixes);
    let withdrawn = update
        .unreach
        .first()
        .is_some_and(|unreach| unreach.nlri == prefixes);
    assert!(announced != withdrawn, "{name}: {update:?}");
    let outcome = match update.disposition() {
        None => Fine,
        Some(Disposition::AttributeDiscard) => Discard,
        Some(Disposition::TreatAsWithdraw) => Withdraw,
        Some(Disposition::SessionReset) => panic!("{name}: a reset that was not one"),
    };
    assert_eq!(outcome == Withdraw, withdrawn, "{name}: {update:?}");
    (outcome, Some(update))
}

/// Name, type code, the attribute, what comes of it from an external and from an internal peer.
type Case = (&'static str, u8, &'static str, Outcome, Outcome);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("ORIGIN egp", 1, "40 01 01 01", Fine, Fine),
    ("ORIGIN undefined", 1, "40 01 01 03", Withdraw, Withdraw),
    ("ORIGIN empty", 1, "40 01 00", Withdraw, Withdraw),
    ("ORIGIN of 2", 1, "40 01 02 0000", Withdraw, Withdraw),
    ("ORIGIN optional", 1, "C0 01 01 00", Withdraw, Withdraw),
    ("ORIGIN not transitive", 1, "00 01 01 00", Withdraw, Withdraw),
    ("ORIGIN partial", 1, "60 01 01 00", Fine, Fine),
    ("ORIGIN extended length", 1, "50 01 0001 00", Fine, Fine),
    ("ORIGIN missing", 1, "", Withdraw, Withdraw),

    ("AS_PATH empty", 2, "40 02 00", Fine, Fine),
    ("AS_PATH segment type 0", 2, "40 02 06 00 01 0000FC00", Withdraw, Withdraw),
    ("AS_PATH segment type 5", 2, "40 02 06 05 01 0000FC00", Withdraw, Withdraw),
    ("AS_PATH segment overrun", 2, "40 02 06 02 02 0000FC00", Withdraw, Withdraw),
    ("AS_PATH segment underrun", 2, "40 02 07 02 01 0000FC00 02", Withdraw, Withdraw),
    ("AS_PATH segment empty", 2, "40 02 02 02 00", Withdraw, Withdraw),
    ("AS_PATH with two octets", 2, "40 02 04 02 01 FC00", Withdraw, Withdraw),
    ("AS_PATH with AS 0", 2, "40 02 06 02 01 00000000", Withdraw, Withdraw),
    ("AS_PATH confederation", 2, "40 02 06 03 01 0000FC00", Withdraw, Fine),
    ("AS_PATH confederation set", 2, "40 02 06 04 01 0000FC00", Withdraw, Fine),
    ("AS_PATH optional", 2, "C0 02 00", Withdraw, Withdraw),
    ("AS_PATH missing", 2, "", Withdraw, Withdraw),

    ("NEXT_HOP of 3", 3, "40 03 03 C00002", Withdraw, Withdraw),
    ("NEXT_HOP of 5", 3, "40 03 05 C000020100", Withdraw, Withdraw),
    ("NEXT_HOP 0.0.0.0", 3, "40 03 04 00000000", Withdraw, Withdraw),
    ("NEXT_HOP multicast", 3, "40 03 04 E0000001", Withdraw, Withdraw),
    ("NEXT_HOP broadcast", 3, "40 03 04 FFFFFFFF", Withdraw, Withdraw),
    ("NEXT_HOP optional", 3, "C0 03 04 C0000201", Withdraw, Withdraw),
    ("NEXT_HOP missing", 3, "", Withdraw, Withdraw),

    ("MED", 4, "80 04 04 00000001", Fine, Fine),
    ("MED of 3", 4, "80 04 03 000001", Withdraw, Withdraw),
    ("MED empty", 4, "80 04 00", Withdraw, Withdraw),
    ("MED transitive", 4, "C0 04 04 00000001", Withdraw, Withdraw),
    ("MED well-known", 4, "40 04 04 00000001", Withdraw, Withdraw),

    ("LOCAL_PREF", 5, "40 05 04 00000064", Discard, Fine),
    ("LOCAL_PREF of 3", 5, "40 05 03 000064", Discard, Withdraw),
    ("LOCAL_PREF optional", 5, "C0 05 04 00000064", Discard, Withdraw),
    ("LOCAL_PREF missing", 5, "", Fine, Withdraw),

    ("ATOMIC_AGGREGATE", 6, "40 06 00", Fine, Fine),
    ("ATOMIC_AGGREGATE of 1", 6, "40 06 01 00", Discard, Discard),
    ("ATOMIC_AGGREGATE optional", 6, "C0 06 00", Withdraw, Withdraw),

    ("AGGREGATOR", 7, "C0 07 08 0000FC00 0A000001", Fine, Fine),
    ("AGGREGATOR with two octets", 7, "C0 07 06 FC00 0A000001", Discard, Discard),
    ("AGGREGATOR of 9", 7, "C0 07 09 0000FC00 0A000001 00", Discard, Discard),
    ("AGGREGATOR empty", 7, "C0 07 00", Discard, Discard),
    ("AGGREGATOR AS 0", 7, "C0 07 08 00000000 0A000001", Discard, Discard),
    ("AGGREGATOR well-known", 7, "40 07 08 0000FC00 0A000001", Withdraw, Withdraw),

    ("COMMUNITIES", 8, "C0 08 04 FFFFFF01", Fine, Fine),
    ("COMMUNITIES partial", 8, "E0 08 04 FFFFFF01", Fine, Fine),
    ("COMMUNITIES empty", 8, "C0 08 00", Withdraw, Withdraw),
    ("COMMUNITIES of 5", 8, "C0 08 05 FFFFFF0100", Withdraw, Withdraw),
    ("COMMUNITIES not transitive", 8, "80 08 04 FFFFFF01", Withdraw, Withdraw),

    ("ORIGINATOR_ID", 9, "80 09 04 0A000001", Discard, Fine),
    ("ORIGINATOR_ID of 5", 9, "80 09 05 0A00000100", Discard, Withdraw),
    ("ORIGINATOR_ID empty", 9, "80 09 00", Discard, Withdraw),
    ("ORIGINATOR_ID transitive", 9, "C0 09 04 0A000001", Discard, Withdraw),

    ("CLUSTER_LIST", 10, "80 0A 04 0A000001", Discard, Fine),
    ("CLUSTER_LIST empty", 10, "80 0A 00", Discard, Withdraw),
    ("CLUSTER_LIST of 6", 10, "80 0A 06 0A0000010000", Discard, Withdraw),
    ("CLUSTER_LIST transitive", 10, "C0 0A 04 0A000001", Discard, Withdraw),

    ("MP_REACH_NLRI empty", 14, "80 0E 00", Reset(9), Reset(9)),
    ("MP_REACH_NLRI no next hop", 14, "80 0E 03 0002 01", Reset(9), Reset(9)),
    ("MP_REACH_NLRI next hop of 5", 14, "80 0E 0A 0002 01 05 2001 0db8 00 00", Reset(9), Reset(9)),
    ("MP_REACH_NLRI no reserved octet", 14, "80 0E 14 0002 01 10 20010db8000000000000000000000001", Reset(9), Reset(9)),
    ("MP_REACH_NLRI prefix of 129", 14,
     "80 0E 16 0002 01 10 20010db8000000000000000000000001 00 81", Reset(9), Reset(9)),
    ("MP_REACH_NLRI prefix cut off", 14,
     "80 0E 17 0002 01 10 20010db8000000000000000000000001 00 20 20", Reset(9), Reset(9)),
    ("MP_REACH_NLRI next hop ::", 14,
     "80 0E 16 0002 01 10 00000000000000000000000000000000 00 00", Withdraw, Withdraw),
    ("MP_REACH_NLRI next hop multicast", 14,
     "80 0E 16 0002 01 10 ff020000000000000000000000000001 00 00", Withdraw, Withdraw),
    ("MP_REACH_NLRI transitive", 14,
     "C0 0E 16 0002 01 10 20010db8000000000000000000000001 00 00", Withdraw, Withdraw),

    ("MP_UNREACH_NLRI of 2", 15, "80 0F 02 0002", Reset(9), Reset(9)),
    ("MP_UNREACH_NLRI prefix of 129", 15, "80 0F 04 0002 01 81", Reset(9), Reset(9)),
    ("MP_UNREACH_NLRI prefix cut off", 15, "80 0F 05 0002 01 20 20", Reset(9), Reset(9)),

    ("EXTENDED COMMUNITIES", 16, "C0 10 08 0002FC0000000001", Fine, Fine),
    ("EXTENDED COMMUNITIES empty", 16, "C0 10 00", Withdraw, Withdraw),
    ("EXTENDED COMMUNITIES of 4", 16, "C0 10 04 0002FC00", Withdraw, Withdraw),
    ("EXTENDED COMMUNITIES not transitive", 16, "80 10 08 0002FC0000000001", Withdraw, Withdraw),

    ("AS4_PATH with four octets", 17, "C0 11 06 02 01 0000FC00", Discard, Discard),
    ("AS4_AGGREGATOR with four octets", 18, "C0 12 08 0000FC00 0A000001", Discard, Discard),

    ("LARGE_COMMUNITY", 32, "C0 20 0C 0000FC00 00000001 00000002", Fine, Fine),
    ("LARGE_COMMUNITY empty", 32, "C0 20 00", Withdraw, Withdraw),
    ("LARGE_COMMUNITY of 13", 32, "C0 20 0D 0000FC00 00000001 00000002 00", Withdraw, Withdraw),
    ("LARGE_COMMUNITY not transitive", 32, "80 20 0C 0000FC00 00000001 00000002", Withdraw, Withdraw),

    ("ONLY_TO_CUSTOMER", 35, "C0 23 04 0000FC00", Fine, Fine),
    ("ONLY_TO_CUSTOMER of 2", 35, "C0 23 02 FC00", Withdraw, Withdraw),
    ("ONLY_TO_CUSTOMER not transitive", 35, "80 23 04 0000FC00", Withdraw, Withdraw),

    ("unknown transitive", 99, "C0 63 01 00", Fine, Fine),
    ("unknown not transitive", 99, "80 63 01 00", Fine, Fine),
    ("unknown well-known", 99, "40 63 01 00", Reset(2), Reset(2)),
    ("attribute past the list", 8, "C0 08 08 FFFFFF01", Withdraw, Withdraw),
    ("attribute header cut off", 8, "C0 08", Withdraw, Withdraw),
    ("extended length cut off", 8, "D0 08 00", Withdraw, Withdraw),
    ("MP_REACH_NLRI past the list", 14, "80 0E 40 0002 01", Reset(9), Reset(9)),
    ("MP_UNREACH_NLRI past the list", 15, "80 0F 40 0002 01", Reset(9), Reset(9)),
];

#[test]
fn each_malformation_has_its_disposition() {
    let mut wrong = Vec::new();
    for (name, code, attribute, external, internal) in CASES {
        for (session_type, expected) in [(SessionType::Ebgp, external), (SessionType::Ibgp, internal)] {
            let attributes = format!("{}{attribute}", base_without(session_type, *code));
            let name = format!("{name} from {session_type:?}");
            let (got, _) = outcome(&attributes, *code, &session(session_type), &name);
            if got != *expected {
                wrong.push(format!("{name}: {got:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_discarded_attribute_leaves_no_trace() {
    for (name, code, attribute, external, _) in CASES {
        if *external != Discard {
            continue;
        }
        let session = session(SessionType::Ebgp);
        let base = base_without(SessionType::Ebgp, *code);
        let (_, with) = outcome(&format!("{base}{attribute}"), *code, &session, name);
        let (_, without) = outcome(&base, *code, &session, name);
        assert_eq!(with.unwrap().attributes, without.unwrap().attributes, "{name}");
    }
}

#[test]
fn two_octet_sessions_judge_the_long_attributes() {
    let session = Negotiated::plain(SessionType::Ebgp);
    let base = "40 01 01 00 40 02 04 02 01 5BA0 40 03 04 C0000201";
    let cases = [
        ("AS4_PATH", 17, "C0 11 06 02 01 FA56EA00", Fine),
        ("AS4_PATH segment type 9", 17, "C0 11 06 09 01 FA56EA00", Discard),
        ("AS4_PATH cut off", 17, "C0 11 05 02 01 FA56EA", Discard),
        ("AS4_PATH with AS 0", 17, "C0 11 06 02 01 00000000", Discard),
        ("AS4_PATH not transitive", 17, "80 11 06 02 01 FA56EA00", Withdraw),
        ("AS4_AGGREGATOR", 18, "C0 12 08 FA56EA00 0A000001", Fine),
        ("AS4_AGGREGATOR of 6", 18, "C0 12 06 FC00 0A000001", Discard),
        ("AGGREGATOR of 8", 7, "C0 07 08 0000FC00 0A000001", Discard),
        ("AGGREGATOR of 6", 7, "C0 07 06 FC00 0A000001", Fine),
    ];
    for (name, code, attribute, expected) in cases {
        assert_eq!(
            outcome(&format!("{base}{attribute}"), code, &session, name).0,
            expected,
            "{name}"
        );
    }
}

#[test]
fn of_duplicates_the_first_counts() {
    let session = session(SessionType::Ebgp);
    let base = base_without(SessionType::Ebgp, 0);
    let (got, update) = outcome(
        &format!("{base} 80 04 04 00000001 80 04 04 00000002"),
        4,
        &session,
        "MED twice",
    );
    let update = update.unwrap();
    assert_eq!((got, update.attributes.med), (Discard, Some(1)));
    assert_eq!(update.errors[0].kind, AttributeErrorKind::Duplicate);
    assert_eq!(update.errors[0].attribute, hex("80 04 04 00000002"));
    let (got, update) = outcome(
        &format!("{base} C0 63 01 01 C0 63 01 02"),
        99,
        &session,
        "unknown twice",
    );
    assert_eq!(
        (got, &update.unwrap().attributes.unknown[0].value),
        (Discard, &hex("01"))
    );
    // The first is malformed, and a good second one does not mend that.
    let (got, _) = outcome(
        &format!("{base} 80 04 01 00 80 04 04 00000002"),
        4,
        &session,
        "bad MED first",
    );
    assert_eq!(got, Withdraw);
    for multiprotocol in [
        "80 0F 03 0002 01",
        "80 0E 16 0002 01 10 20010db8000000000000000000000001 00 00",
    ] {
        let (got, _) = outcome(
            &format!("{base}{multiprotocol}{multiprotocol}"),
            0,
            &session,
            multiprotocol,
        );
        assert_eq!(got, Reset(1), "{multiprotocol}");
    }
}

#[test]
fn the_strongest_disposition_wins() {
    let session = session(SessionType::Ebgp);
    let base = base_without(SessionType::Ebgp, 0);
    let attributes = hex(&format!("{base} 40 06 01 00 80 04 01 00 C0 08 00"));
    let update = decode_update(&[], &attributes, &hex("08 0A"), &session).unwrap();
    let found: Vec<_> = update
        .errors
        .iter()
        .map(|error| (error.code.0, error.disposition))
        .collect();
    let expected = [
        (6, Disposition::AttributeDiscard),
        (4, Disposition::TreatAsWithdraw),
        (8, Disposition::TreatAsWithdraw),
    ];
    assert_eq!(found, expected);
    assert_eq!(update.disposition(), Some(Disposition::TreatAsWithdraw));
    let reset = hex(&format!("{base} 40 06 01 00 80 0F 01 00"));
    assert_eq!(
        decode_update(&[], &reset, &hex("08 0A"), &session)
            .unwrap_err()
            .error
            .subcode(),
        9
    );
}

#[test]
fn treat_as_withdraw_reaches_the_routes_of_every_family() {
    let reach = "80 0E 1A 0002 01 10 20010db8000000000000000000000001 00 20 20010db8";
    let unreach = "80 0F 08 0002 01 20 20010db9";
    // ORIGIN is undefined; withdrawn routes are withdrawn as well.
    let attributes = hex(&format!(
        "{reach}{unreach} 40 01 01 09 40 02 00 40 03 04 C0000201"
    ));
    let update = decode_update(
        &hex("08 0B"),
        &attributes,
        &hex("08 0A"),
        &session(SessionType::Ebgp),
    )
    .unwrap();
    assert_eq!(update.reach, []);
    let withdrawn: Vec<_> = update
        .unreach
        .iter()
        .map(|unreach| (unreach.family, unreach.nlri.clone()))
        .collect();
    let expected = [
        (Family::IPV4_UNICAST, nlri(&["11.0.0.0/8", "10.0.0.0/8"])),
        (Family::IPV6_UNICAST, nlri(&["2001:db9::/32", "2001:db8::/32"])),
    ];
    assert_eq!(withdrawn, expected);
}

#[test]
fn a_next_hop_beside_multiprotocol_routes_only_does_not_matter() {
    let reach = "80 0E 1A 0002 01 10 20010db8000000000000000000000001 00 20 20010db8";
    for next_hop in ["", "40 03 04 00000000"] {
        let attributes = hex(&format!("{reach} 40 01 01 00 40 02 00 {next_hop}"));
        let update = decode_update(&[], &attributes, &[], &session(SessionType::Ebgp)).unwrap();
        assert_eq!((update.errors, update.reach.len()), (vec![], 1), "{next_hop:?}");
    }
}

#[test]
fn with_no_route_to_withdraw_the_session_ends() {
    let session = session(SessionType::Ebgp);
    let cases = [
        ("40 01 01 09", 6, "40 01 01 09"),
        ("C0 08 00", 5, "C0 08 00"),
        ("C0 01 01 00", 4, "C0 01 01 00"),
        ("40 02 01 02", 11, "40 02 01 02"),
        ("C0 08 09", 1, "C0 08 09"),
    ];
    for (attributes, subcode, data) in cases {
        let notification = decode_update(&hex("08 0A"), &hex(attributes), &[], &session).unwrap_err();
        assert_eq!(notification.error.subcode(), subcode, "{attributes}");
        assert_eq!(notification.data, hex(data), "{attributes}");
    }
    // An attribute that is only discarded, or nothing wrong at all, is no reason.
    for attributes in ["40 06 01 00", "40 01 01 00", "80 0F 08 0002 01 20 20010db8"] {
        let update = decode_update(&hex("08 0A"), &hex(attributes), &[], &session);
        assert_eq!(
            update.unwrap().unreach[0].nlri,
            nlri(&["10.0.0.0/8"]),
            "{attributes}"
        );
    }
}

#[test]
fn lengths_past_the_message_end_the_session() {
    let session = session(SessionType::Ebgp);
    for body in [
        "0001 0000",
        "0000 0001",
        "0005 08 0A 0000",
        "0000 00FF 40 01 01 00",
    ] {
        let error = crate::support::decode(&crate::support::message(2, &hex(body)), &session).unwrap_err();
        let notification = error.notification();
        assert_eq!(
            (notification.error.code(), notification.error.subcode()),
            (3, 1),
            "{body}"
        );
    }
}

#[test]
fn notifications_carry_the_attribute() {
    let session = session(SessionType::Ebgp);
    for (attribute, subcode) in [
        ("40 63 01 00", 2),
        ("80 0F 04 0002 01 81", 9),
        ("80 0E 02 0002", 9),
    ] {
        let notification = decode_update(&[], &hex(attribute), &hex("08 0A"), &session).unwrap_err();
        assert_eq!(notification.error.subcode(), subcode);
        assert_eq!(notification.data, hex(attribute));
    }
}
