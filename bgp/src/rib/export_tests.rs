use std::net::Ipv4Addr;

use super::*;
use crate::wire::{AsPath, ExtendedCommunity};

const LOCAL_AS: Asn = Asn(64512);

fn addr(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn best(source: Source) -> Best {
    let learned = source != Source::Local;
    let attributes = Attributes {
        as_path: if learned {
            AsPath::from_sequence([Asn(64999)])
        } else {
            AsPath::empty()
        },
        med: Some(7),
        ..Attributes::default()
    };
    let next_hop = learned.then(|| NextHop::from(addr(9)));
    Best {
        source,
        route: Route {
            attributes: Arc::new(attributes),
            next_hop,
        },
        by: None,
        through: learned.then(|| addr(9)),
    }
}

fn internal(peer: u8, client: bool) -> Source {
    Source::Internal {
        peer: addr(peer),
        router_id: RouterId::from(u32::from(peer)),
        client,
    }
}

fn send(best: &Best, config: &PeerConfig) -> Result<Route, NotSent> {
    let to = ExportTo {
        address: addr(2),
        config,
        local_as: LOCAL_AS,
        local_address: addr(1),
        cluster: RouterId::from(42),
    };
    export(Family::IPV4_UNICAST, best, &to)
}

fn ibgp() -> PeerConfig {
    PeerConfig::new("in", LOCAL_AS)
}

fn ebgp() -> PeerConfig {
    PeerConfig::new("out", Asn(64513))
}

#[test]
fn our_own_routes_carry_what_the_peer_should_see() {
    let inside = send(&best(Source::Local), &ibgp()).unwrap();
    assert_eq!(inside.attributes.as_path, AsPath::empty());
    assert_eq!(inside.attributes.local_pref, Some(100));
    assert_eq!(inside.next_hop, Some(NextHop::from(addr(1))));
    let outside = send(&best(Source::Local), &ebgp()).unwrap();
    assert_eq!(outside.attributes.as_path, AsPath::from_sequence([LOCAL_AS]));
    assert_eq!(outside.attributes.local_pref, None);
    assert_eq!(outside.attributes.med, Some(7));
}

#[test]
fn a_route_from_outside_goes_in_unchanged_and_out_with_our_as() {
    let external = best(Source::External(addr(5)));
    let inside = send(&external, &ibgp()).unwrap();
    assert_eq!(inside.next_hop, external.route.next_hop);
    assert_eq!(inside.attributes.as_path, external.route.attributes.as_path);
    let outside = send(&external, &ebgp()).unwrap();
    assert_eq!(outside.next_hop, Some(NextHop::from(addr(1))));
    assert_eq!(
        outside.attributes.as_path,
        AsPath::from_sequence([LOCAL_AS, Asn(64999)])
    );
    assert_eq!(
        outside.attributes.med, None,
        "a MED goes no further than the AS it was given to"
    );
}

#[test]
fn outside_prefers_the_originator_to_us() {
    let source = Source::Internal {
        peer: addr(5),
        router_id: RouterId::from(5),
        client: false,
    };
    let med = send(&best(source), &ebgp()).unwrap().attributes.med;
    assert_eq!(
        med,
        Some(TRANSIT_MED),
        "above the none of the speaker that originates it"
    );
}

#[test]
fn a_peer_is_not_told_what_we_would_send_back_to_it() {
    let source = Source::Internal {
        peer: addr(5),
        router_id: RouterId::from(5),
        client: true,
    };
    let looping = Best {
        through: Some(addr(2)),
        ..best(source)
    };
    assert_eq!(
        send(&looping, &ebgp()).unwrap_err(),
        NotSent::ForwardedThroughPeer
    );
    assert!(send(&looping, &ibgp()).is_ok(), "its next hop is not us there");
}

#[test]
fn next_hop_modes() {
    let external = best(Source::External(addr(5)));
    let with = |mode, config: PeerConfig| PeerConfig {
        next_hop: mode,
        ..config
    };
    let next_hop = |config: &PeerConfig| send(&external, config).unwrap().next_hop.unwrap().addr();
    assert_eq!(next_hop(&with(NextHopMode::SelfAddress, ibgp())), addr(1));
    assert_eq!(next_hop(&with(NextHopMode::Keep, ebgp())), addr(9));
    let configured = PeerConfig {
        next_hop_v4: Some(Ipv4Addr::new(10, 9, 9, 9)),
        ..ebgp()
    };
    assert_eq!(next_hop(&configured), IpAddr::from([10, 9, 9, 9]));
    // Ours has no next hop to keep.
    let own = send(&best(Source::Local), &with(NextHopMode::Keep, ibgp())).unwrap();
    assert_eq!(own.next_hop, Some(NextHop::from(addr(1))));
}

#[test]
fn what_must_not_be_told_is_not_and_the_reason_is_given() {
    assert_eq!(
        send(&best(Source::External(addr(2))), &ebgp()),
        Err(NotSent::LearnedFromPeer)
    );
    assert_eq!(
        send(&best(internal(5, false)), &ibgp()),
        Err(NotSent::SplitHorizon)
    );
    assert!(send(&best(internal(5, false)), &ebgp()).is_ok());
    let labelled = |community| {
        let mut best = best(Source::Local);
        Arc::make_mut(&mut best.route.attributes)
            .communities
            .push(community);
        best
    };
    assert_eq!(
        send(&labelled(Community::NO_ADVERTISE), &ibgp()),
        Err(NotSent::NoAdvertise)
    );
    assert_eq!(
        send(&labelled(Community::NO_EXPORT), &ebgp()),
        Err(NotSent::NoExport)
    );
    assert!(send(&labelled(Community::NO_EXPORT), &ibgp()).is_ok());
}

#[test]
fn reflection_marks_the_originator_and_our_cluster() {
    let client = PeerConfig {
        route_reflector_client: true,
        ..ibgp()
    };
    for (source, config) in [(internal(5, false), &client), (internal(5, true), &ibgp())] {
        let reflected = send(&best(source), config).unwrap();
        assert_eq!(reflected.attributes.originator_id, Some(RouterId::from(5)));
        assert_eq!(reflected.attributes.cluster_list, [RouterId::from(42)]);
    }
    let outside = send(&best(internal(5, true)), &ebgp()).unwrap();
    assert_eq!(
        (
            outside.attributes.originator_id,
            outside.attributes.cluster_list.len()
        ),
        (None, 0)
    );
}

#[test]
fn extended_communities_that_stay_at_home_do() {
    let mut external = best(Source::External(addr(5)));
    let (travels, stays) = (
        ExtendedCommunity([0; 8]),
        ExtendedCommunity([0x40, 0, 0, 0, 0, 0, 0, 1]),
    );
    Arc::make_mut(&mut external.route.attributes).extended_communities = vec![travels, stays];
    assert_eq!(
        send(&external, &ebgp()).unwrap().attributes.extended_communities,
        [travels]
    );
    assert_eq!(
        send(&external, &ibgp()).unwrap().attributes.extended_communities,
        [travels, stays]
    );
}
