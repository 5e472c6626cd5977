//! Arbitrary messages that are valid, so that they must survive a round trip unchanged.

use std::net::{Ipv4Addr, Ipv6Addr};

use bgp::types::{Asn, Family, HoldTime, RouterId};
use bgp::wire::*;
use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::{hash_set, vec};
use proptest::option;
use proptest::prelude::*;

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1_u32..65536, 1_u32..=u32::MAX].prop_map(Asn)
}

fn router_id() -> impl Strategy<Value = RouterId> {
    (1_u32..=u32::MAX).prop_map(RouterId::from)
}

fn octets(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn family() -> impl Strategy<Value = Family> {
    let any_family = (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Family { afi, safi });
    prop_oneof![Just(Family::IPV4_UNICAST), Just(Family::IPV6_UNICAST), any_family]
}

fn graceful_restart() -> impl Strategy<Value = GracefulRestart> {
    let entry = (family(), any::<bool>()).prop_map(|(family, forwarding_preserved)| GracefulRestartFamily {
        family,
        forwarding_preserved,
    });
    (any::<bool>(), any::<bool>(), 0_u16..4096, vec(entry, 0..5)).prop_map(
        |(restarting, notification, restart_time, families)| GracefulRestart {
            restarting,
            notification,
            restart_time,
            families,
        },
    )
}

/// Any capability but the four-octet AS, which must agree with the message's own AS.
fn capability() -> impl Strategy<Value = Capability> {
    let next_hop =
        (family(), any::<u16>()).prop_map(|(family, next_hop_afi)| ExtendedNextHop { family, next_hop_afi });
    let add_path = (family(), any::<bool>(), any::<bool>()).prop_map(|(family, receive, send)| AddPath {
        family,
        receive,
        send,
    });
    let unknown = (100_u8..=255, octets(250)).prop_map(|(code, value)| Capability::Unknown { code, value });
    prop_oneof![
        family().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        Just(Capability::ExtendedMessage),
        Just(Capability::EnhancedRouteRefresh),
        any::<u8>().prop_map(|role| Capability::Role(role.into())),
        vec(next_hop, 0..4).prop_map(Capability::ExtendedNextHop),
        vec(add_path, 0..4).prop_map(Capability::AddPath),
        graceful_restart().prop_map(Capability::GracefulRestart),
        unknown,
    ]
}

pub(crate) fn open() -> impl Strategy<Value = Open> {
    let hold_time = prop_oneof![Just(0_u16), 3..=u16::MAX].prop_map(|s| HoldTime::new(s).unwrap());
    (
        asn(),
        any::<bool>(),
        hold_time,
        router_id(),
        vec(capability(), 0..8),
    )
        .prop_map(|(asn, four_octets, hold_time, router_id, mut capabilities)| {
            if four_octets || asn.as_u16().is_none() {
                capabilities.push(Capability::FourOctetAs(asn));
            }
            Open {
                asn,
                hold_time,
                router_id,
                capabilities,
            }
        })
}

pub(crate) fn notification() -> impl Strategy<Value = Notification> {
    (any::<u8>(), any::<u8>(), octets(400)).prop_map(|(code, subcode, data)| {
        Notification::with_data(ErrorCode::from_numbers(code % 12, subcode % 16), data)
    })
}

pub(crate) fn route_refresh() -> impl Strategy<Value = RouteRefresh> {
    let subtype = prop_oneof![
        Just(RefreshSubtype::Request),
        Just(RefreshSubtype::Begin),
        Just(RefreshSubtype::End),
        (3_u8..=255).prop_map(RefreshSubtype::Other),
    ];
    (family(), subtype).prop_map(|(family, subtype)| RouteRefresh { family, subtype })
}

/// Confederation segments stand in front, as RFC 5065 puts them there, and have short numbers: over two octets the
/// long ones are lost (RFC 6793 section 3).
fn as_path(confederation: bool) -> impl Strategy<Value = AsPath> {
    let segments = |kinds: [SegmentKind; 2], asn: BoxedStrategy<Asn>, max| {
        let kind = any::<bool>().prop_map(move |second| kinds[usize::from(second)]);
        let asns = prop_oneof![20 => vec(asn.clone(), 1..8), 1 => vec(asn, 1..=255)];
        vec(
            (kind, asns).prop_map(|(kind, asns)| Segment { kind, asns }),
            0..=max,
        )
    };
    let short = (1_u32..65536).prop_map(Asn).boxed();
    let inner = [SegmentKind::ConfedSequence, SegmentKind::ConfedSet];
    let inner = segments(inner, short, if confederation { 2 } else { 0 });
    let outer = segments([SegmentKind::Sequence, SegmentKind::Set], asn().boxed(), 3);
    (inner, outer).prop_map(|(inner, outer)| AsPath {
        segments: [inner, outer].concat(),
    })
}

fn unknown_attributes() -> impl Strategy<Value = Vec<UnknownAttribute>> {
    // 29 and 128 lie between and after the known ones.
    let one = |code| {
        let attribute = move |value| UnknownAttribute {
            code: AttributeCode(code),
            partial: true,
            value,
        };
        option::of(octets(300).prop_map(attribute))
    };
    (one(25), one(29), one(128)).prop_map(|(a, b, c)| [a, b, c].into_iter().flatten().collect())
}

/// Attributes that the session type allows.
pub(crate) fn attributes(session_type: SessionType) -> impl Strategy<Value = Attributes> {
    let internal = session_type == SessionType::Ibgp;
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let aggregator =
        option::of((asn(), router_id()).prop_map(|(asn, router_id)| Aggregator { asn, router_id }));
    let large =
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(global, local1, local2)| LargeCommunity {
            global,
            local1,
            local2,
        });
    let path_part = (
        origin,
        as_path(internal),
        option::of(any::<u32>()),
        any::<u32>(),
        any::<bool>(),
        aggregator,
    );
    let label_part = (
        prop_oneof![20 => vec(any::<u32>().prop_map(Community), 0..6), 1 => vec(any::<u32>().prop_map(Community), 70)],
        vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..4),
        hash_set(large, 0..4),
        option::of(asn()),
        unknown_attributes(),
    );
    let reflection_part = (option::of(router_id()), vec(router_id(), 0..4));
    (path_part, label_part, reflection_part).prop_map(move |(path, label, reflection)| {
        let (origin, as_path, med, local_pref, atomic_aggregate, aggregator) = path;
        let (communities, extended_communities, large_communities, only_to_customer, unknown) = label;
        let (originator_id, cluster_list) = reflection;
        Attributes {
            origin,
            as_path,
            med,
            local_pref: internal.then_some(local_pref),
            atomic_aggregate,
            aggregator,
            communities,
            originator_id: originator_id.filter(|_| internal),
            cluster_list: if internal { cluster_list } else { Vec::new() },
            extended_communities,
            large_communities: large_communities.into_iter().collect(),
            only_to_customer,
            unknown,
        }
    })
}

fn prefix(family: Family) -> BoxedStrategy<IpNet> {
    if family == Family::IPV4_UNICAST {
        let net =
            |(addr, length)| IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(addr), length).unwrap().trunc());
        (any::<u32>(), 0_u8..=32).prop_map(net).boxed()
    } else {
        let net =
            |(addr, length)| IpNet::V6(Ipv6Net::new(Ipv6Addr::from_bits(addr), length).unwrap().trunc());
        (any::<u128>(), 0_u8..=128).prop_map(net).boxed()
    }
}

/// One or more prefixes of a family.
pub(crate) fn nlri(family: Family, add_path: bool, max: usize) -> impl Strategy<Value = Vec<Nlri>> {
    let path_id = if add_path {
        any::<u32>().boxed()
    } else {
        Just(0).boxed()
    };
    let one = (prefix(family), path_id).prop_map(|(prefix, id)| Nlri::with_path_id(prefix, id));
    vec(one, 1..max)
}

/// A next hop that routes of the family may have; an IPv6 one for IPv4 only if asked for.
pub(crate) fn next_hop(family: Family, extended: bool) -> BoxedStrategy<NextHop> {
    let v4 = (0x0100_0000_u32..0xDFFF_FFFF).prop_map(|addr| NextHop::V4(Ipv4Addr::from_bits(addr)));
    let global = any::<u64>().prop_map(|low| Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | u128::from(low)));
    let link_local = any::<u64>().prop_map(|low| Ipv6Addr::from_bits((0xfe80_u128 << 112) | u128::from(low)));
    let v6 =
        (global, option::of(link_local)).prop_map(|(global, link_local)| NextHop::V6 { global, link_local });
    match (family == Family::IPV4_UNICAST, extended) {
        (true, true) => prop_oneof![v4, v6].boxed(),
        (true, false) => v4.boxed(),
        (false, _) => v6.boxed(),
    }
}

/// A session of any kind, the same in both directions.
pub(crate) fn negotiated() -> impl Strategy<Value = Negotiated> {
    let session_type = prop_oneof![Just(SessionType::Ebgp), Just(SessionType::Ibgp)];
    (
        session_type,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(session_type, four_octet_as, extended_messages, add_path, extended_next_hop)| {
                let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
                let add_path: std::collections::BTreeSet<Family> =
                    families.into_iter().filter(|_| add_path).collect();
                Negotiated {
                    four_octet_as,
                    extended_message_receive: extended_messages,
                    extended_message_send: extended_messages,
                    families: families.into(),
                    add_path_receive: add_path.clone(),
                    add_path_send: add_path,
                    extended_next_hop: families.into_iter().take(extended_next_hop.into()).collect(),
                    ..Negotiated::plain(session_type)
                }
            },
        )
}

/// An UPDATE that announces or withdraws routes of one family, or ends it, and the session it is sent over.
pub(crate) fn update() -> impl Strategy<Value = (Negotiated, Update)> {
    let family = prop_oneof![Just(Family::IPV4_UNICAST), Just(Family::IPV6_UNICAST)];
    (negotiated(), family, 0..8).prop_flat_map(|(negotiated, family, what)| {
        let add_path = negotiated.add_path_send.contains(&family);
        let extended = negotiated.extended_next_hop.contains(&family);
        let nlri = nlri(family, add_path, 20);
        let update = match what {
            0 => Just(Update::end_of_rib(family)).boxed(),
            1 | 2 => nlri.prop_map(move |nlri| Update::withdraw(family, nlri)).boxed(),
            _ => (
                next_hop(family, extended),
                attributes(negotiated.session_type),
                nlri,
            )
                .prop_map(move |(hop, attributes, nlri)| Update::announce(family, hop, attributes, nlri))
                .boxed(),
        };
        (Just(negotiated), update)
    })
}
