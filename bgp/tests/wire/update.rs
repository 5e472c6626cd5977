//! UPDATE: known bytes, four-octet AS numbers over two octets, next hops, families.

use bgp::types::{Asn, Family, RouterId};
use bgp::wire::*;

use crate::support::{attributes, decode, decode_update, encode, hex, nlri, session};

fn v6(addr: &str) -> std::net::Ipv6Addr {
    addr.parse().unwrap()
}

#[test]
fn the_bytes_of_an_ipv4_announcement_are_these() {
    let update = Update::announce(
        Family::IPV4_UNICAST,
        NextHop::V4("192.0.2.1".parse().unwrap()),
        Attributes {
            origin: Origin::Igp,
            as_path: AsPath::from_sequence([Asn(64512), Asn(4_200_000_000)]),
            med: Some(10),
            local_pref: Some(100),
            atomic_aggregate: true,
            aggregator: Some(Aggregator {
                asn: Asn(64512),
                router_id: RouterId::from(0x0A00_0001),
            }),
            communities: vec![Community::NO_EXPORT, Community::new(64512, 100)],
            originator_id: Some(RouterId::from(0x0A00_0002)),
            cluster_list: vec![RouterId::from(0x0A00_0003)],
            extended_communities: vec![ExtendedCommunity([0, 2, 0xFC, 0, 0, 0, 0, 1])],
            large_communities: vec![LargeCommunity {
                global: 64512,
                local1: 1,
                local2: 2,
            }],
            only_to_customer: Some(Asn(64512)),
            unknown: vec![UnknownAttribute {
                code: AttributeCode(29),
                partial: true,
                value: hex("CAFE"),
            }],
        },
        nlri(&["10.233.90.0/26", "0.0.0.0/0", "192.0.2.7/32"]),
    );
    let bytes = hex("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF 0095 02
         0000 0073
         40 01 01 00
         40 02 0A 02 02 0000FC00 FA56EA00
         40 03 04 C0000201
         80 04 04 0000000A
         40 05 04 00000064
         40 06 00
         C0 07 08 0000FC00 0A000001
         C0 08 08 FFFFFF01 FC000064
         80 09 04 0A000002
         80 0A 04 0A000003
         C0 10 08 0002FC0000000001
         E0 1D 02 CAFE
         C0 20 0C 0000FC00 00000001 00000002
         C0 23 04 0000FC00
         1A 0AE95A00
         00
         20 C0000207");
    let session = session(SessionType::Ibgp);
    assert_eq!(encode(&Message::Update(update.clone()), &session), bytes);
    assert_eq!(decode(&bytes, &session).unwrap(), Message::Update(update));
}

#[test]
fn the_bytes_of_an_ipv6_announcement_are_these() {
    let hop = NextHop::V6 {
        global: v6("2001:db8::1"),
        link_local: Some(v6("fe80::1")),
    };
    let update = Update::announce(
        Family::IPV6_UNICAST,
        hop,
        attributes(),
        nlri(&["2001:db8:1::/48", "::/0"]),
    );
    let bytes = hex("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF 0054 02
         0000 003D
         80 0E 2D 0002 01
           20 20010DB8000000000000000000000001 FE800000000000000000000000000001 00
           30 20010DB80001 00
         40 01 01 00
         40 02 06 02 01 0000FC00");
    let session = session(SessionType::Ebgp);
    assert_eq!(encode(&Message::Update(update.clone()), &session), bytes);
    assert_eq!(decode(&bytes, &session).unwrap(), Message::Update(update));
}

#[test]
fn the_bytes_of_withdrawals_are_these() {
    let session = session(SessionType::Ebgp);
    let cases = [
        (
            Family::IPV4_UNICAST,
            "10.233.90.0/26",
            "001C 02 0005 1A 0AE95A00 0000",
        ),
        (
            Family::IPV6_UNICAST,
            "2001:db8::/32",
            "0022 02 0000 000B 80 0F 08 0002 01 20 20010DB8",
        ),
    ];
    for (family, prefix, rest) in cases {
        let message = Message::Update(Update::withdraw(family, nlri(&[prefix])));
        let bytes = encode(&message, &session);
        assert_eq!(&bytes[16..], &hex(rest)[..], "{family}");
        assert_eq!(decode(&bytes, &session).unwrap(), message);
    }
}

#[test]
fn host_bits_are_cleared_and_lengths_checked() {
    let session = session(SessionType::Ebgp);
    let update = decode_update(&hex("1A 0AE95A7F"), &[], &[], &session).unwrap();
    assert_eq!(update.unreach[0].nlri, nlri(&["10.233.90.64/26"]));
    for (withdrawn, announced) in [
        ("21 0A00000000", ""),
        ("", "21 0A00000000"),
        ("18 0A00", ""),
        ("", "08"),
    ] {
        let error = decode_update(&hex(withdrawn), &[], &hex(announced), &session).unwrap_err();
        assert_eq!(
            (error.error.code(), error.error.subcode()),
            (3, 10),
            "{withdrawn} {announced}"
        );
    }
}

#[test]
fn path_identifiers_where_negotiated() {
    let session = Negotiated {
        add_path_receive: [Family::IPV4_UNICAST].into(),
        ..session(SessionType::Ebgp)
    };
    let update = decode_update(&hex("00000007 08 0A"), &[], &[], &session).unwrap();
    assert_eq!(
        update.unreach[0].nlri,
        [Nlri::with_path_id("10.0.0.0/8".parse().unwrap(), 7)]
    );
    assert!(decode_update(&hex("000007"), &[], &[], &session).is_err());
}

/// ORIGIN and NEXT_HOP, so that a test only adds the path.
const BASE: &str = "40 01 01 00 40 03 04 C0000201";

fn path_over_two_octets(attributes: &str) -> Attributes {
    let session = Negotiated::plain(SessionType::Ebgp);
    let update = decode_update(
        &[],
        &hex(&format!("{BASE} {attributes}")),
        &hex("08 0A"),
        &session,
    )
    .unwrap();
    assert_eq!(update.errors, [], "{attributes}");
    update.attributes
}

#[test]
fn four_octet_paths_are_put_together_again() {
    let cases = [
        ("no AS4_PATH", "40 02 06 02 02 FC00 5BA0", "64512 23456"),
        (
            "same length",
            "40 02 06 02 02 FC00 5BA0  C0 11 0A 02 02 0000FC00 FA56EA00",
            "64512 4200000000",
        ),
        (
            "an old speaker prepended itself",
            "40 02 08 02 03 FC01 FC00 5BA0  C0 11 0A 02 02 0000FC00 FA56EA00",
            "64513 64512 4200000000",
        ),
        (
            "AS4_PATH longer: ignored",
            "40 02 04 02 01 5BA0  C0 11 0A 02 02 0000FC00 FA56EA00",
            "23456",
        ),
        (
            "a set counts once",
            "40 02 0A 02 01 FC01  01 02 5BA0 FC02  C0 11 0A 01 02 FA56EA00 0000FC02",
            "64513 {4200000000,64514}",
        ),
        (
            "confederation segments in AS4_PATH are left out",
            "40 02 04 02 01 5BA0  C0 11 0C 03 01 0000FC05 02 01 FA56EA00",
            "4200000000",
        ),
    ];
    for (name, attributes, expected) in cases {
        assert_eq!(
            path_over_two_octets(attributes).as_path.to_string(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn an_aggregator_that_knows_only_two_octets_voids_the_long_ones() {
    let as4 = "C0 11 06 02 01 FA56EA00  C0 12 08 FA56EA00 0A000001";
    let path = "40 02 04 02 01 5BA0";
    let long = path_over_two_octets(&format!("{path} C0 07 06 5BA0 0A000001 {as4}"));
    assert_eq!(long.aggregator.unwrap().asn, Asn(4_200_000_000));
    assert_eq!(long.as_path.to_string(), "4200000000");
    let short = path_over_two_octets(&format!("{path} C0 07 06 FC00 0A000001 {as4}"));
    assert_eq!(short.aggregator.unwrap().asn, Asn(64512));
    assert_eq!(short.as_path.to_string(), "23456");
}

/// MP_REACH_NLRI for 2001:db8::/32 (or 10.0.0.0/8), with a next hop.
fn reach(family: &str, next_hop: &str) -> String {
    let prefix = if family.starts_with("0001") {
        "08 0A"
    } else {
        "20 20010DB8"
    };
    let hop = hex(next_hop);
    let value = format!("{family} {:02x} {next_hop} 00 {prefix}", hop.len());
    format!("80 0E {:02x} {value} 40 01 01 00 40 02 00", hex(&value).len())
}

#[test]
fn next_hops_of_ipv6_in_all_their_forms() {
    let global = "20010DB8000000000000000000000001";
    let local = "FE800000000000000000000000000001";
    let zero = "00".repeat(16);
    let only_local = NextHop::V6 {
        global: v6("fe80::1"),
        link_local: Some(v6("fe80::1")),
    };
    let session = session(SessionType::Ebgp);
    let cases = [
        (
            global.to_string(),
            NextHop::V6 {
                global: v6("2001:db8::1"),
                link_local: None,
            },
        ),
        (
            format!("{global}{local}"),
            NextHop::V6 {
                global: v6("2001:db8::1"),
                link_local: Some(v6("fe80::1")),
            },
        ),
        (
            format!("{global}{global}"),
            NextHop::V6 {
                global: v6("2001:db8::1"),
                link_local: None,
            },
        ),
        (local.to_string(), only_local),
        (format!("{local}{local}"), only_local),
        (format!("{zero}{local}"), only_local),
    ];
    for (hop, expected) in cases {
        let update = decode_update(&[], &hex(&reach("0002 01", &hop)), &[], &session).unwrap();
        assert_eq!(update.reach[0].next_hop, expected, "{hop}");
    }
    for octets in [0, 4, 12, 15, 17, 24, 31, 33, 48] {
        let error = decode_update(&[], &hex(&reach("0002 01", &"20".repeat(octets))), &[], &session);
        let error = error.expect_err("a next hop of a wrong length");
        assert_eq!((error.error.code(), error.error.subcode()), (3, 9), "{octets}");
    }
}

#[test]
fn ipv4_may_come_with_an_ipv6_next_hop_only_where_negotiated() {
    let plain = session(SessionType::Ebgp);
    let extended = Negotiated {
        extended_next_hop: [Family::IPV4_UNICAST].into(),
        ..plain.clone()
    };
    let attributes = hex(&reach("0001 01", "20010DB8000000000000000000000001"));
    let update = decode_update(&[], &attributes, &[], &extended).unwrap();
    assert_eq!(update.reach[0].next_hop.addr(), v6("2001:db8::1"));
    assert_eq!(update.reach[0].family, Family::IPV4_UNICAST);
    assert_eq!(
        decode_update(&[], &attributes, &[], &plain)
            .unwrap_err()
            .error
            .subcode(),
        9
    );
    let v4 = decode_update(&[], &hex(&reach("0001 01", "C0000201")), &[], &plain).unwrap();
    assert_eq!(v4.reach[0].next_hop, NextHop::V4("192.0.2.1".parse().unwrap()));
}

#[test]
fn families_that_were_not_negotiated_are_left_out() {
    let v4_only = Negotiated {
        four_octet_as: true,
        ..Negotiated::plain(SessionType::Ebgp)
    };
    let v6_only = Negotiated {
        families: [Family::IPV6_UNICAST].into(),
        ..v4_only.clone()
    };
    let six = reach("0002 01", "20010DB8000000000000000000000001");
    let both = hex(&format!("{six} 40 03 04 C0000201"));
    let families = |session: &Negotiated| {
        let update = decode_update(&hex("08 0B"), &both, &hex("08 0A"), session).unwrap();
        let reach: Vec<Family> = update.reach.iter().map(|reach| reach.family).collect();
        let unreach: Vec<Family> = update.unreach.iter().map(|unreach| unreach.family).collect();
        (reach, unreach)
    };
    assert_eq!(
        families(&v4_only),
        (vec![Family::IPV4_UNICAST], vec![Family::IPV4_UNICAST])
    );
    assert_eq!(families(&v6_only), (vec![Family::IPV6_UNICAST], vec![]));
    // What a family nobody here can read looks like inside is none of our business.
    let evpn = hex("80 0E 06 0019 46 04 0102 40 01 01 00 40 02 00");
    assert_eq!(
        decode_update(&[], &evpn, &[], &v4_only).unwrap(),
        Update::default()
    );
    assert_eq!(
        decode_update(&[], &hex("80 0F 03 0002 01"), &[], &v4_only).unwrap(),
        Update::default()
    );
}

#[test]
fn unknown_attributes_are_kept_if_transitive() {
    let attributes = format!("{BASE} 40 02 00 C0 1D 02 CAFE E0 80 01 07 80 64 01 09");
    let session = session(SessionType::Ebgp);
    let update = decode_update(&[], &hex(&attributes), &hex("08 0A"), &session).unwrap();
    let unknown = |code, partial, value| UnknownAttribute {
        code: AttributeCode(code),
        partial,
        value: hex(value),
    };
    assert_eq!(
        update.attributes.unknown,
        [unknown(29, false, "CAFE"), unknown(128, true, "07")]
    );
    let passed_on = encode(&Message::Update(update), &session);
    let wanted = hex("E0 1D 02 CAFE E0 80 01 07");
    assert!(
        passed_on
            .windows(wanted.len())
            .any(|window| window == &wanted[..]),
        "{passed_on:02x?}"
    );
}

#[test]
fn paths_answer_what_best_path_asks() {
    let segment = |kind, asns: &[u32]| Segment {
        kind,
        asns: asns.iter().copied().map(Asn).collect(),
    };
    let path = AsPath {
        segments: vec![
            segment(SegmentKind::ConfedSequence, &[65001, 65002]),
            segment(SegmentKind::Sequence, &[64512, 64513]),
            segment(SegmentKind::Set, &[1, 2]),
        ],
    };
    assert_eq!(path.to_string(), "(65001 65002) 64512 64513 {1,2}");
    assert_eq!(path.path_length(), 3);
    assert_eq!(path.neighbor(), Some(Asn(64512)));
    assert_eq!(path.origin(), None, "a set has no origin");
    assert!(path.contains(Asn(2)) && path.contains(Asn(65001)) && !path.contains(Asn(3)));
    assert_eq!(path.without_confederation().to_string(), "64512 64513 {1,2}");
    assert_eq!(
        AsPath::empty().prepend(Asn(1), 2).prepend(Asn(2), 1).to_string(),
        "2 1 1"
    );
    let long = AsPath::from_sequence(vec![Asn(1); 254]).prepend(Asn(2), 3);
    assert_eq!(
        long.segments.iter().map(|s| s.asns.len()).collect::<Vec<_>>(),
        [2, 255]
    );
    assert_eq!((long.neighbor(), long.path_length()), (Some(Asn(2)), 257));
    assert_eq!(
        AsPath::from_sequence([Asn(7)]).prepend(Asn(1), 0),
        AsPath::from_sequence([Asn(7)])
    );
}

#[test]
fn communities_are_written_as_people_write_them() {
    assert_eq!(
        "64512:100".parse::<Community>().unwrap(),
        Community::new(64512, 100)
    );
    let large: LargeCommunity = "4200000000:1:2".parse().unwrap();
    assert_eq!(large.to_string(), "4200000000:1:2");
    for text in ["", "1", "1:2:3", "65536:1", "a:b"] {
        assert!(text.parse::<Community>().is_err(), "{text:?}");
    }
    for text in ["1:2", "1:2:3:4", "4294967296:1:1"] {
        assert!(text.parse::<LargeCommunity>().is_err(), "{text:?}");
    }
    assert_eq!(
        serde_json::to_string(&Community::NO_EXPORT).unwrap(),
        "\"65535:65281\""
    );
    assert!(ExtendedCommunity([0x00; 8]).is_transitive() && !ExtendedCommunity([0x40; 8]).is_transitive());
}
