//! Many routes into few messages.

use bgp::types::{Asn, Family};
use bgp::wire::*;
use bytes::BytesMut;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::support::{attributes, decode_all, nlri, session};

fn many_v4(count: u32) -> Vec<Nlri> {
    (0..count)
        .map(|n| Ipv4Net::new((0x0A00_0000 + (n << 6)).into(), 26).unwrap().into())
        .collect()
}

fn many_v6(count: u128) -> Vec<Nlri> {
    let base = 0x2001_0db8_u128 << 96;
    (0..count)
        .map(|n| Ipv6Net::new((base + (n << 6)).into(), 122).unwrap().into())
        .collect()
}

fn v4_hop() -> NextHop {
    NextHop::V4("192.0.2.1".parse().unwrap())
}

fn v6_hop() -> NextHop {
    NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    }
}

/// Lengths of the messages in a buffer.
fn lengths(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        lengths.push(length);
        bytes = &bytes[length..];
    }
    lengths
}

fn updates(bytes: &[u8], session: &Negotiated) -> Vec<Update> {
    let update = |message| match message {
        Message::Update(update) => update,
        other => panic!("not an UPDATE: {other:?}"),
    };
    decode_all(bytes, session).into_iter().map(update).collect()
}

#[test]
fn announcements_fill_their_messages_and_lose_nothing() {
    let extended = Negotiated {
        extended_message_send: true,
        extended_message_receive: true,
        ..session(SessionType::Ebgp)
    };
    let with_ids = Negotiated {
        add_path_send: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
        add_path_receive: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
        ..session(SessionType::Ebgp)
    };
    let v4 = many_v4(5000);
    let v6 = many_v6(5000);
    for (session, max) in [
        (session(SessionType::Ebgp), 4096),
        (extended, 65535),
        (with_ids, 4096),
    ] {
        for (family, hop, routes) in [
            (Family::IPV4_UNICAST, v4_hop(), &v4),
            (Family::IPV6_UNICAST, v6_hop(), &v6),
        ] {
            let mut out = BytesMut::new();
            let count = encode_announcements(family, hop, &attributes(), routes, &session, &mut out).unwrap();
            let lengths = lengths(&out);
            assert_eq!(lengths.len(), count);
            let (_, full) = lengths.split_last().unwrap();
            // The longest prefix has 17 octets and a path identifier 4.
            assert!(
                full.iter().all(|length| (max - 21..=max).contains(length)),
                "{family}: {lengths:?}"
            );
            let updates = updates(&out, &session);
            assert!(updates.iter().all(|update| update.attributes == attributes()));
            let received: Vec<Nlri> = updates
                .iter()
                .flat_map(|update| update.reach[0].nlri.clone())
                .collect();
            assert_eq!(&received, routes);
        }
    }
}

#[test]
fn withdrawals_fill_their_messages_and_lose_nothing() {
    let session = session(SessionType::Ibgp);
    for (family, routes) in [
        (Family::IPV4_UNICAST, many_v4(3000)),
        (Family::IPV6_UNICAST, many_v6(3000)),
    ] {
        let mut out = BytesMut::new();
        let count = encode_withdrawals(family, &routes, &session, &mut out).unwrap();
        let lengths = lengths(&out);
        assert_eq!(lengths.len(), count);
        let (_, full) = lengths.split_last().unwrap();
        assert!(
            full.iter().all(|length| (4096 - 17..=4096).contains(length)),
            "{family}: {lengths:?}"
        );
        let received: Vec<Nlri> = updates(&out, &session)
            .iter()
            .flat_map(|update| update.unreach[0].nlri.clone())
            .collect();
        assert_eq!(received, routes);
    }
}

#[test]
fn nothing_becomes_no_message() {
    let session = session(SessionType::Ebgp);
    let mut out = BytesMut::new();
    let count = encode_announcements(
        Family::IPV4_UNICAST,
        v4_hop(),
        &attributes(),
        &[],
        &session,
        &mut out,
    );
    assert_eq!(count, Ok(0));
    assert_eq!(
        encode_withdrawals(Family::IPV6_UNICAST, &[], &session, &mut out),
        Ok(0)
    );
    assert!(out.is_empty());
}

#[test]
fn attributes_that_leave_no_room_are_refused_and_nothing_is_written() {
    let session = session(SessionType::Ebgp);
    let exact = |communities| Attributes {
        communities: vec![Community::NO_EXPORT; communities],
        ..attributes()
    };
    // 23 of the message, 4 ORIGIN, 9 AS_PATH, 7 NEXT_HOP, 4 and 4n COMMUNITIES: 1011 leave 5 octets for a prefix.
    let mut out = BytesMut::from("before");
    let announce = |attributes: &Attributes, prefix: &str, out: &mut BytesMut| {
        encode_announcements(
            Family::IPV4_UNICAST,
            v4_hop(),
            attributes,
            &nlri(&[prefix]),
            &session,
            out,
        )
    };
    assert_eq!(
        announce(&exact(1012), "10.0.0.0/24", &mut out),
        Err(EncodeError::AttributesTooLong(4072))
    );
    assert_eq!(out, "before");
    assert_eq!(announce(&exact(1011), "10.0.0.1/32", &mut out), Ok(1));
    assert_eq!(lengths(&out[6..]), [4096]);
    let enormous = Attributes {
        communities: vec![Community::NO_EXPORT; 20_000],
        ..attributes()
    };
    assert_eq!(
        announce(&enormous, "10.0.0.0/8", &mut out),
        Err(EncodeError::AttributesTooLong(80_000))
    );
}

#[test]
fn ipv4_over_ipv6_next_hop_only_where_negotiated() {
    let plain = session(SessionType::Ebgp);
    let extended = Negotiated {
        extended_next_hop: [Family::IPV4_UNICAST].into(),
        ..plain.clone()
    };
    let routes = nlri(&["10.0.0.0/26"]);
    let mut out = BytesMut::new();
    let mut announce = |session, hop| {
        out.clear();
        encode_announcements(
            Family::IPV4_UNICAST,
            hop,
            &attributes(),
            &routes,
            session,
            &mut out,
        )
        .map(|_| updates(&out, session))
    };
    let refused = EncodeError::NextHop {
        family: Family::IPV4_UNICAST,
        next_hop: v6_hop().addr(),
    };
    assert_eq!(announce(&plain, v6_hop()), Err(refused));
    let sent = announce(&extended, v6_hop()).unwrap();
    assert_eq!(
        sent,
        [Update::announce(
            Family::IPV4_UNICAST,
            v6_hop(),
            attributes(),
            routes.clone()
        )]
    );
    let sent = announce(&extended, v4_hop()).unwrap();
    assert_eq!(
        sent[0].reach[0].next_hop,
        v4_hop(),
        "an IPv4 next hop is still possible"
    );
}

#[test]
fn prefixes_and_next_hops_of_another_family_are_refused() {
    let session = session(SessionType::Ebgp);
    let mut out = BytesMut::new();
    let v6 = nlri(&["2001:db8::/32"]);
    let wrong = EncodeError::WrongFamily {
        family: Family::IPV4_UNICAST,
        prefix: v6[0].prefix,
    };
    assert_eq!(
        encode_withdrawals(Family::IPV4_UNICAST, &v6, &session, &mut out),
        Err(wrong)
    );
    let announced = encode_announcements(
        Family::IPV6_UNICAST,
        v4_hop(),
        &attributes(),
        &v6,
        &session,
        &mut out,
    );
    let refused = EncodeError::NextHop {
        family: Family::IPV6_UNICAST,
        next_hop: v4_hop().addr(),
    };
    assert_eq!(announced, Err(refused));
    assert!(out.is_empty());
}

#[test]
fn an_external_peer_is_not_told_what_is_internal() {
    let session = session(SessionType::Ebgp);
    let internal = Attributes {
        local_pref: Some(100),
        originator_id: Some(1.into()),
        cluster_list: vec![2.into()],
        ..attributes()
    };
    let mut out = BytesMut::new();
    let routes = nlri(&["10.0.0.0/8"]);
    encode_announcements(
        Family::IPV4_UNICAST,
        v4_hop(),
        &internal,
        &routes,
        &session,
        &mut out,
    )
    .unwrap();
    let sent = updates(&out, &session);
    assert_eq!(sent[0].attributes, attributes());
    assert_eq!(sent[0].errors, []);
}

#[test]
fn long_paths_are_cut_into_segments() {
    let path = AsPath::from_sequence((1..=600).map(Asn));
    let long = Attributes {
        as_path: path.clone(),
        ..attributes()
    };
    let session = session(SessionType::Ebgp);
    let mut out = BytesMut::new();
    let routes = nlri(&["10.0.0.0/8"]);
    encode_announcements(Family::IPV4_UNICAST, v4_hop(), &long, &routes, &session, &mut out).unwrap();
    let received = &updates(&out, &session)[0].attributes.as_path;
    assert_eq!(
        received.segments.iter().map(|s| s.asns.len()).collect::<Vec<_>>(),
        [255, 255, 90]
    );
    assert!(received.asns().eq(path.asns()));
}

#[test]
fn end_of_rib_of_each_family() {
    let session = session(SessionType::Ebgp);
    for (family, length) in [(Family::IPV4_UNICAST, 23), (Family::IPV6_UNICAST, 29)] {
        let mut out = BytesMut::new();
        encode_end_of_rib(family, &mut out).unwrap();
        assert_eq!(lengths(&out), [length]);
        assert_eq!(updates(&out, &session), [Update::end_of_rib(family)]);
    }
}

#[test]
fn host_bits_never_leave() {
    let host: IpNet = "10.0.0.77/26".parse().unwrap();
    let session = session(SessionType::Ebgp);
    let mut out = BytesMut::new();
    let routes = [Nlri {
        prefix: host,
        path_id: 0,
    }];
    encode_withdrawals(Family::IPV4_UNICAST, &routes, &session, &mut out).unwrap();
    assert_eq!(
        updates(&out, &session)[0].unreach[0].nlri,
        nlri(&["10.0.0.64/26"])
    );
}

#[test]
fn messages_are_filled_to_the_last_octet() {
    let session = session(SessionType::Ebgp);
    for (family, hop, default) in [
        (Family::IPV4_UNICAST, v4_hop(), "0.0.0.0/0"),
        (Family::IPV6_UNICAST, v6_hop(), "::/0"),
    ] {
        let routes = vec![nlri(&[default])[0]; 9000];
        let mut out = BytesMut::new();
        encode_announcements(family, hop, &attributes(), &routes, &session, &mut out).unwrap();
        encode_withdrawals(family, &routes, &session, &mut out).unwrap();
        let lengths = lengths(&out);
        assert_eq!(
            lengths.iter().filter(|length| **length == 4096).count(),
            4,
            "{family}: {lengths:?}"
        );
    }
}
