use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::wire::AsPath;

/// One path; peers are told apart by their address.
#[derive(Debug, Clone)]
struct Path {
    attributes: Attributes,
    peer: Option<u8>,
    external: bool,
    metric: u32,
    router_id: u32,
    ineligible: Option<Ineligible>,
}

fn path(peer: u8) -> Path {
    let attributes = Attributes {
        as_path: AsPath::from_sequence([Asn(64513)]),
        origin: Origin::Igp,
        ..Attributes::default()
    };
    Path {
        attributes,
        peer: Some(peer),
        external: true,
        metric: 0,
        router_id: 100,
        ineligible: None,
    }
}

fn verdicts(paths: &[Path]) -> Vec<Verdict> {
    let candidates: Vec<Candidate<'_>> = paths
        .iter()
        .map(|path| Candidate {
            attributes: &path.attributes,
            peer: path.peer.map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))),
            external: path.external,
            next_hop_metric: path.metric,
            router_id: RouterId::from(path.router_id),
            ineligible: path.ineligible,
        })
        .collect();
    decide(&candidates)
}

#[test]
fn every_step_decides_and_says_so() {
    let better = |change: &dyn Fn(&mut Path)| {
        let mut path = path(2);
        change(&mut path);
        path
    };
    // In each case the path of peer 2 is better than that of peer 1 at one step, though worse at the last.
    let cases: Vec<(DecisionStep, Path)> = vec![
        (DecisionStep::LocalOrigin, better(&|p| p.peer = None)),
        (
            DecisionStep::LocalPref,
            better(&|p| p.attributes.local_pref = Some(101)),
        ),
        (
            DecisionStep::AsPathLength,
            better(&|p| p.attributes.as_path = AsPath::empty()),
        ),
        (DecisionStep::NextHopMetric, better(&|_| ())),
        (DecisionStep::RouterId, better(&|p| p.router_id = 99)),
        (
            DecisionStep::RouterId,
            better(&|p| p.attributes.originator_id = Some(RouterId::from(1))),
        ),
    ];
    for (step, best) in cases {
        let mut other = path(1);
        if step == DecisionStep::NextHopMetric {
            other.metric = 10;
        }
        let found = verdicts(&[other.clone(), best.clone()]);
        assert_eq!(
            found,
            [Verdict::Lost(step), Verdict::Best(Some(step))],
            "{step:?}"
        );
    }
}

#[test]
fn later_steps() {
    let (mut a, mut b) = (path(1), path(2));
    assert_eq!(
        verdicts(&[b.clone(), a.clone()])[1],
        Verdict::Best(Some(DecisionStep::PeerAddress))
    );
    a.attributes.cluster_list = vec![RouterId::from(1), RouterId::from(2)];
    assert_eq!(
        verdicts(&[a.clone(), b.clone()])[1],
        Verdict::Best(Some(DecisionStep::ClusterList))
    );
    a.external = false;
    b.router_id = 200;
    assert_eq!(
        verdicts(&[a.clone(), b.clone()])[1],
        Verdict::Best(Some(DecisionStep::ExternalPeer))
    );
    b.external = false;
    b.attributes.med = Some(1);
    assert_eq!(
        verdicts(&[a.clone(), b.clone()])[0],
        Verdict::Best(Some(DecisionStep::Med))
    );
    a.attributes.origin = Origin::Incomplete;
    assert_eq!(verdicts(&[a, b])[1], Verdict::Best(Some(DecisionStep::Origin)));
}

#[test]
fn med_is_compared_only_within_a_neighbouring_as() {
    let mut paths = [path(1), path(2), path(3)];
    paths[0].attributes.med = Some(10);
    paths[1].attributes.med = Some(5);
    paths[2].attributes.med = Some(50);
    paths[2].attributes.as_path = AsPath::from_sequence([Asn(64999)]);
    // Pairwise, 1 beats 3 (address) and 2 beats 1 (MED): as a set, 1 is out, and 2 beats 3.
    let found = verdicts(&paths);
    assert_eq!(found[0], Verdict::Lost(DecisionStep::Med));
    assert_eq!(found[1], Verdict::Best(Some(DecisionStep::PeerAddress)));
}

#[test]
fn a_path_that_cannot_be_used_is_not_beaten_it_is_out() {
    let mut unusable = path(1);
    unusable.attributes.local_pref = Some(1000);
    unusable.ineligible = Some(Ineligible::NextHopUnreachable);
    let found = verdicts(&[unusable.clone(), path(2)]);
    assert_eq!(
        found,
        [
            Verdict::Ineligible(Ineligible::NextHopUnreachable),
            Verdict::Best(None)
        ]
    );
    assert!(!verdicts(&[unusable])[0].is_best());
    assert_eq!(verdicts(&[]), []);
}

fn any_path(peer: u8) -> impl Strategy<Value = Path> {
    let path_attributes = (
        prop::option::of(99..102_u32),
        1..3_u32,
        0..3_u8,
        prop::option::of(0..3_u32),
        0..2_usize,
    );
    let rest = (
        any::<bool>(),
        0..2_u32,
        0..3_u32,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.05),
    );
    (path_attributes, rest).prop_map(move |((pref, asn, origin, med, clusters), rest)| {
        let (external, metric, router_id, loops, local) = rest;
        let mut path = path(peer);
        path.attributes.local_pref = pref;
        path.attributes.as_path = AsPath::from_sequence([Asn(asn)]);
        path.attributes.origin = [Origin::Igp, Origin::Egp, Origin::Incomplete][usize::from(origin)];
        path.attributes.med = med;
        path.attributes.cluster_list = vec![RouterId::from(1); clusters];
        path.external = external;
        path.metric = metric;
        path.router_id = router_id;
        path.ineligible = loops.then_some(Ineligible::AsLoop);
        // At most one route is our own.
        if local && peer == 0 {
            path.peer = None;
        }
        path
    })
}

fn any_paths() -> impl Strategy<Value = (Vec<Path>, Vec<Path>)> {
    (1..8_u8).prop_flat_map(|count| {
        let paths: Vec<_> = (0..count).map(any_path).collect();
        paths.prop_flat_map(|paths| (Just(paths.clone()), Just(paths).prop_shuffle()))
    })
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter((paths, shuffled) in any_paths()) {
        let by_peer = |paths: &[Path]| {
            let mut all: Vec<_> = paths.iter().map(|p| p.peer).zip(verdicts(paths)).collect();
            all.sort_by_key(|(peer, _)| *peer);
            all
        };
        prop_assert_eq!(by_peer(&paths), by_peer(&shuffled));
    }

    #[test]
    fn there_is_one_best_path_if_any_can_be_used((paths, _) in any_paths()) {
        let found = verdicts(&paths);
        let best = found.iter().filter(|verdict| verdict.is_best()).count();
        let usable = paths.iter().any(|path| path.ineligible.is_none());
        prop_assert_eq!(best, usize::from(usable));
    }
}
