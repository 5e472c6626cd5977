//! An independent decoder, the `bgp-rs` crate, must read what we write as we meant it. It panics on odd input, so
//! it only ever sees our valid messages.

use std::net::{IpAddr, Ipv4Addr};

use bgp::types::{Asn, Family, HoldTime, RouterId};
use bgp::wire::*;
use bgp_rs::{Identifier, NLRIEncoding, PathAttribute};
use bytes::BytesMut;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{encode, session};

/// Reads one message, all of it.
fn read(bytes: &[u8], four_octet_as: bool) -> bgp_rs::Message {
    let mut stream = std::io::Cursor::new(bytes);
    let capabilities = bgp_rs::Capabilities {
        FOUR_OCTET_ASN_SUPPORT: four_octet_as,
        ..bgp_rs::Capabilities::default()
    };
    let mut reader = bgp_rs::Reader {
        stream: &mut stream,
        capabilities,
    };
    let (header, message) = reader.read().expect("bgp-rs reads it");
    assert_eq!(usize::from(header.length), bytes.len());
    assert_eq!(
        stream.position(),
        bytes.len() as u64,
        "octets that bgp-rs did not read"
    );
    message
}

fn read_update(bytes: &[u8], four_octet_as: bool) -> bgp_rs::Update {
    match read(bytes, four_octet_as) {
        bgp_rs::Message::Update(update) => update,
        other => panic!("not an UPDATE: {other:?}"),
    }
}

fn prefixes(list: &[NLRIEncoding]) -> Vec<IpNet> {
    let prefix = |encoding: &NLRIEncoding| match encoding {
        NLRIEncoding::IP(prefix) => IpNet::new(IpAddr::from(prefix), prefix.length).unwrap(),
        other => panic!("not a plain prefix: {other:?}"),
    };
    list.iter().map(prefix).collect()
}

fn to_nlri(prefixes: &[IpNet]) -> Vec<Nlri> {
    prefixes.iter().copied().map(Nlri::new).collect()
}

/// Its guess whether path identifiers are there (it never asks) needs prefixes that look like prefixes.
fn v4_prefixes() -> impl Strategy<Value = Vec<IpNet>> {
    let net = |(addr, length)| IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(addr), length).unwrap().trunc());
    vec((0x0100_0000_u32..0xDFFF_FFFF, 8_u8..=32).prop_map(net), 1..20)
}

fn v6_prefixes() -> impl Strategy<Value = Vec<IpNet>> {
    let net = |(low, length): (u128, u8)| {
        let addr = (0x2001_0db8_u128 << 96) | (low >> 32);
        IpNet::V6(Ipv6Net::new(addr.into(), length).unwrap().trunc())
    };
    vec((any::<u128>(), 32_u8..=128).prop_map(net), 1..20)
}

/// It guesses whether AS numbers have two octets or four: two, if what would then be the next segment looks like one.
fn unmistakable_asn() -> impl Strategy<Value = Asn> {
    let segment_type = |octet: u8| octet == 1 || octet == 2;
    let is_clear = move |asn: &u32| {
        let [first, _, third, _] = asn.to_be_bytes();
        !segment_type(first) && !segment_type(third)
    };
    (1_u32..=u32::MAX)
        .prop_filter("looks like a segment", is_clear)
        .prop_map(Asn)
}

fn rich_attributes() -> impl Strategy<Value = Attributes> {
    let asns = vec(unmistakable_asn(), 1..10);
    let large =
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(global, local1, local2)| LargeCommunity {
            global,
            local1,
            local2,
        });
    let numbers = (any::<u32>(), any::<u32>(), 1_u32.., 1_u32..);
    (
        asns,
        vec(any::<u32>(), 1..80),
        vec(any::<[u8; 8]>(), 1..5),
        large,
        numbers,
    )
        .prop_map(
            |(asns, communities, extended, large, (med, local_pref, originator, cluster))| Attributes {
                origin: Origin::Egp,
                as_path: AsPath::from_sequence(asns),
                med: Some(med),
                local_pref: Some(local_pref),
                atomic_aggregate: true,
                aggregator: Some(Aggregator {
                    asn: Asn(med | 1),
                    router_id: RouterId::from(originator),
                }),
                communities: communities.into_iter().map(Community).collect(),
                originator_id: Some(RouterId::from(originator)),
                cluster_list: vec![RouterId::from(cluster)],
                extended_communities: extended.into_iter().map(ExtendedCommunity).collect(),
                large_communities: vec![large],
                ..Attributes::default()
            },
        )
}

/// Compares every attribute that bgp-rs knows.
fn assert_same(theirs: &bgp_rs::Update, ours: &Attributes) {
    let get = |id| theirs.get(id).unwrap_or_else(|| panic!("{id:?} is missing"));
    assert!(matches!(
        get(Identifier::ORIGIN),
        PathAttribute::ORIGIN(bgp_rs::Origin::EGP)
    ));
    let PathAttribute::AS_PATH(path) = get(Identifier::AS_PATH) else {
        panic!()
    };
    let bgp_rs::Segment::AS_SEQUENCE(asns) = &path.segments[0] else {
        panic!("{path:?}")
    };
    assert!(ours.as_path.asns().map(|asn| asn.0).eq(asns.iter().copied()));
    let number = |id| match *get(id) {
        PathAttribute::MULTI_EXIT_DISC(n)
        | PathAttribute::LOCAL_PREF(n)
        | PathAttribute::ORIGINATOR_ID(n) => n,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(Some(number(Identifier::MULTI_EXIT_DISC)), ours.med);
    assert_eq!(Some(number(Identifier::LOCAL_PREF)), ours.local_pref);
    assert_eq!(
        Some(number(Identifier::ORIGINATOR_ID)),
        ours.originator_id.map(RouterId::to_u32)
    );
    assert!(matches!(
        get(Identifier::ATOMIC_AGGREGATOR),
        PathAttribute::ATOMIC_AGGREGATOR
    ));
    let PathAttribute::AGGREGATOR((asn, id)) = get(Identifier::AGGREGATOR) else {
        panic!()
    };
    assert_eq!(
        ours.aggregator,
        Some(Aggregator {
            asn: Asn(*asn),
            router_id: RouterId(*id)
        })
    );
    let PathAttribute::COMMUNITY(communities) = get(Identifier::COMMUNITY) else {
        panic!()
    };
    assert!(
        ours.communities
            .iter()
            .map(|each| each.0)
            .eq(communities.iter().copied())
    );
    let PathAttribute::CLUSTER_LIST(clusters) = get(Identifier::CLUSTER_LIST) else {
        panic!()
    };
    assert!(
        ours.cluster_list
            .iter()
            .map(|each| each.to_u32())
            .eq(clusters.iter().copied())
    );
    let PathAttribute::EXTENDED_COMMUNITIES(extended) = get(Identifier::EXTENDED_COMMUNITIES) else {
        panic!()
    };
    assert!(
        ours.extended_communities
            .iter()
            .map(|each| u64::from_be_bytes(each.0))
            .eq(extended.iter().copied())
    );
    let PathAttribute::LARGE_COMMUNITY(large) = get(Identifier::LARGE_COMMUNITY) else {
        panic!()
    };
    let ours = ours
        .large_communities
        .iter()
        .map(|each| (each.global, each.local1, each.local2));
    assert!(ours.eq(large.iter().copied()));
}

proptest! {
    #[test]
    fn reads_our_open(
        asn in 1_u32..,
        hold_time in 3_u16..,
        id in 1_u32..,
        unknown in vec(any::<u8>(), 0..100),
    ) {
        let open = Open {
            asn: Asn(asn),
            hold_time: HoldTime::new(hold_time).unwrap(),
            router_id: RouterId::from(id),
            capabilities: vec![
                Capability::Multiprotocol(Family::IPV4_UNICAST),
                Capability::Multiprotocol(Family::IPV6_UNICAST),
                Capability::RouteRefresh,
                Capability::FourOctetAs(Asn(asn)),
                Capability::AddPath(vec![AddPath { family: Family::IPV4_UNICAST, receive: true, send: true }]),
                Capability::Unknown { code: 200, value: unknown.clone().into() },
            ],
        };
        let bytes = encode(&Message::Open(open), &Negotiated::plain(SessionType::Ebgp));
        let bgp_rs::Message::Open(theirs) = read(&bytes, true) else { panic!("not an OPEN") };
        prop_assert_eq!(theirs.version, 4);
        prop_assert_eq!(theirs.peer_asn, Asn(asn).to_u16_or_trans());
        prop_assert_eq!(theirs.hold_timer, hold_time);
        prop_assert_eq!(theirs.identifier, id);
        let [bgp_rs::OpenParameter::Capabilities(list)] = &theirs.parameters[..] else { panic!("{theirs:?}") };
        let has = |wanted: &dyn Fn(&bgp_rs::OpenCapability) -> bool| list.iter().any(wanted);
        use bgp_rs::OpenCapability as Theirs;
        use bgp_rs::{AFI, SAFI};
        prop_assert_eq!(list.len(), 6);
        prop_assert!(has(&|c| matches!(c, Theirs::MultiProtocol((AFI::IPV4, SAFI::Unicast)))));
        prop_assert!(has(&|c| matches!(c, Theirs::MultiProtocol((AFI::IPV6, SAFI::Unicast)))));
        prop_assert!(has(&|c| matches!(c, Theirs::RouteRefresh)));
        prop_assert!(has(&|c| matches!(c, Theirs::FourByteASN(n) if *n == asn)));
        let both_ways = bgp_rs::AddPathDirection::SendReceivePaths;
        prop_assert!(has(&|c| matches!(c, Theirs::AddPath(l) if l[..] == [(AFI::IPV4, SAFI::Unicast, both_ways)])));
        let same = |c: &Theirs| matches!(c, Theirs::Unknown { cap_code: 200, value, .. } if *value == unknown);
        prop_assert!(has(&same));
    }

    #[test]
    fn reads_our_ipv4_announcements(attributes in rich_attributes(), nets in v4_prefixes()) {
        let hop: Ipv4Addr = "192.0.2.1".parse().unwrap();
        let update =
            Update::announce(Family::IPV4_UNICAST, NextHop::V4(hop), attributes.clone(), to_nlri(&nets));
        let bytes = encode(&Message::Update(update), &session(SessionType::Ibgp));
        let theirs = read_update(&bytes, true);
        prop_assert_eq!(prefixes(&theirs.announced_routes), nets);
        prop_assert!(theirs.withdrawn_routes.is_empty());
        let next_hop = theirs.get(Identifier::NEXT_HOP);
        prop_assert!(matches!(next_hop, Some(PathAttribute::NEXT_HOP(IpAddr::V4(addr))) if *addr == hop));
        assert_same(&theirs, &attributes);
    }

    #[test]
    fn reads_our_ipv6_announcements(attributes in rich_attributes(), nets in v6_prefixes()) {
        let global: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        let link_local: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
        let hop = NextHop::V6 { global, link_local: Some(link_local) };
        let update = Update::announce(Family::IPV6_UNICAST, hop, attributes.clone(), to_nlri(&nets));
        let bytes = encode(&Message::Update(update), &session(SessionType::Ibgp));
        let theirs = read_update(&bytes, true);
        let Some(PathAttribute::MP_REACH_NLRI(reach)) = theirs.get(Identifier::MP_REACH_NLRI) else { panic!() };
        prop_assert_eq!(prefixes(&reach.announced_routes), nets);
        prop_assert_eq!(&reach.next_hop, &[global.octets(), link_local.octets()].concat());
        assert_same(&theirs, &attributes);
    }

    #[test]
    fn reads_our_withdrawals(four in v4_prefixes(), six in v6_prefixes()) {
        let session = session(SessionType::Ebgp);
        let bytes = encode(&Message::Update(Update::withdraw(Family::IPV4_UNICAST, to_nlri(&four))), &session);
        prop_assert_eq!(prefixes(&read_update(&bytes, true).withdrawn_routes), four);
        let bytes = encode(&Message::Update(Update::withdraw(Family::IPV6_UNICAST, to_nlri(&six))), &session);
        let theirs = read_update(&bytes, true);
        let Some(PathAttribute::MP_UNREACH_NLRI(unreach)) = theirs.get(Identifier::MP_UNREACH_NLRI) else {
            panic!()
        };
        prop_assert_eq!(prefixes(&unreach.withdrawn_routes), six);
    }

    #[test]
    fn reads_our_two_octet_paths(asns in vec((1_u32..).prop_map(Asn), 1..10), nets in v4_prefixes()) {
        let attributes = Attributes { as_path: AsPath::from_sequence(asns.clone()), ..Attributes::default() };
        let hop = NextHop::V4("192.0.2.1".parse().unwrap());
        let update = Update::announce(Family::IPV4_UNICAST, hop, attributes, to_nlri(&nets));
        let bytes = encode(&Message::Update(update), &Negotiated::plain(SessionType::Ebgp));
        let theirs = read_update(&bytes, false);
        let Some(PathAttribute::AS_PATH(path)) = theirs.get(Identifier::AS_PATH) else { panic!() };
        let bgp_rs::Segment::AS_SEQUENCE(short) = &path.segments[0] else { panic!("{path:?}") };
        prop_assert!(asns.iter().map(|asn| u32::from(asn.to_u16_or_trans())).eq(short.iter().copied()));
    }

    #[test]
    fn reads_our_notifications(ours in crate::strategies::notification()) {
        let bytes = encode(&Message::Notification(ours.clone()), &Negotiated::plain(SessionType::Ebgp));
        let bgp_rs::Message::Notification(theirs) = read(&bytes, true) else { panic!("not a NOTIFICATION") };
        let numbers = (theirs.major_err_code, theirs.minor_err_code);
        prop_assert_eq!(numbers, (ours.error.code(), ours.error.subcode()));
        prop_assert_eq!(&theirs.data[..], &ours.data[..]);
    }
}

#[test]
fn reads_our_keepalive_refresh_and_end_of_rib() {
    let session = session(SessionType::Ebgp);
    assert!(matches!(
        read(&encode(&Message::Keepalive, &session), true),
        bgp_rs::Message::KeepAlive
    ));
    let refresh = RouteRefresh {
        family: Family::IPV6_UNICAST,
        subtype: RefreshSubtype::Request,
    };
    let bgp_rs::Message::RouteRefresh(theirs) =
        read(&encode(&Message::RouteRefresh(refresh), &session), true)
    else {
        panic!("not a ROUTE-REFRESH")
    };
    assert_eq!(
        (theirs.afi, theirs.safi, theirs.subtype),
        (bgp_rs::AFI::IPV6, bgp_rs::SAFI::Unicast, 0)
    );
    let mut out = BytesMut::new();
    encode_end_of_rib(Family::IPV4_UNICAST, &mut out).unwrap();
    let end = read_update(&out, true);
    assert!(end.announced_routes.is_empty() && end.withdrawn_routes.is_empty() && end.attributes.is_empty());
}

#[test]
fn reads_every_message_of_many() {
    let nets: Vec<IpNet> = (0..3000_u32)
        .map(|n| IpNet::V4(Ipv4Net::new((0x0A00_0000 + (n << 6)).into(), 26).unwrap()))
        .collect();
    let session = session(SessionType::Ebgp);
    let hop = NextHop::V4("192.0.2.1".parse().unwrap());
    let mut out = BytesMut::new();
    let attributes = crate::support::attributes();
    encode_announcements(
        Family::IPV4_UNICAST,
        hop,
        &attributes,
        &to_nlri(&nets),
        &session,
        &mut out,
    )
    .unwrap();
    let mut received = Vec::new();
    while let Some(frame) = Frame::take(&mut out, 4096).unwrap() {
        received.extend(prefixes(&read_update(frame.bytes(), true).announced_routes));
    }
    assert_eq!(received, nets);
}
