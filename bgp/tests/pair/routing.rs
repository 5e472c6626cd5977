//! Routes between speakers: changes, flow control, loops, limits.

use bgp::wire::{CeaseSubcode, ErrorCode};
use bgp::{
    Advertisement, Asn, DecisionStep, Ineligible, NextHopState, NotSent, PeerConfig, RouteQuery, Verdict,
};

use crate::net::{Net, address, config, originate, peer, prefix};
use crate::{SECOND, pair, pair_config};

#[test]
fn routes_are_withdrawn_and_replaced() {
    let mut net = pair(2, 64512, 64513);
    net.core(1).set_routes(originate(&["10.3.0.0/26", "fd00::/64"]));
    net.run_until(SECOND, "change", |net| {
        let feed = &net.nodes[0].feed;
        feed.contains_key(&prefix("10.3.0.0/26")) && !feed.contains_key(&prefix("10.2.0.0/26"))
    });
    // No IPv6 address to give as next hop over an IPv4 session, and that is said.
    assert!(!net.nodes[0].feed.contains_key(&prefix("fd00::/64")));
    let shown = net.core(1).routes(&RouteQuery::Prefix(prefix("fd00::/64")));
    assert_eq!(
        shown[0].advertised_to[0].outcome,
        Advertisement::NotSent(NotSent::NoNextHop)
    );

    let mut with_next_hop = pair_config(1, 64513, 64512);
    with_next_hop.peers.get_mut(&address(0)).unwrap().next_hop_v6 = Some("2001:db8::2".parse().unwrap());
    let now = net.now;
    net.core(1).configure(with_next_hop, now).unwrap();
    net.run_until(SECOND, "IPv6", |net| {
        net.nodes[0].feed.contains_key(&prefix("fd00::/64"))
    });
    assert_eq!(net.peer_status(0, 1).counters.flaps, 0);
}

#[test]
fn a_peer_that_does_not_read_delays_nobody_and_costs_no_more_than_the_table() {
    let mut net = Net::new(16);
    let mut hub = config(0, 64512);
    hub.peers.extend([peer(1, 64512), peer(2, 64512)]);
    net.add(hub, &[]);
    for index in 1..3 {
        let mut spoke = config(index, 64512);
        spoke.peers.extend([peer(0, 64512)]);
        net.add(spoke, &[]);
    }
    net.run_until(30 * SECOND, "sessions", |net| {
        net.established(0, 1) && net.established(0, 2)
    });
    net.run_for(SECOND);
    net.nodes[1].reads = false;
    let already = net.peer_status(0, 1).counters.updates_out;
    for round in 0..200_u32 {
        let texts: Vec<String> = (0..50).map(|i| format!("10.{}.{i}.0/24", round % 7)).collect();
        net.core(0)
            .set_routes(originate(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
        net.run_for(SECOND / 10);
    }
    // The one that reads has everything; the other got one write and then nothing.
    assert_eq!(net.nodes[2].feed.len(), 50);
    assert!(
        net.peer_status(0, 1).counters.updates_out - already <= 4,
        "{}",
        net.describe()
    );
    net.nodes[1].reads = true;
    net.read(1);
    net.run_for(SECOND);
    assert_eq!(net.nodes[1].feed, net.nodes[2].feed);
}

#[test]
fn loops_split_horizon_and_next_hops() {
    // 0 and 1 in one AS; 2 outside, with sessions to both.
    let mut net = Net::new(18);
    let ases = [64512, 64512, 64513];
    for index in 0..3 {
        let mut config = config(index, ases[index]);
        config.peers.extend(
            (0..3)
                .filter(|other| *other != index)
                .map(|other| peer(other, ases[other])),
        );
        net.add(config, &[&format!("10.{index}.0.0/26")]);
    }
    net.run_until(30 * SECOND, "mesh", |net| {
        net.nodes
            .iter()
            .all(|node| node.feed.len() == 2 && node.converged)
    });
    net.run_for(SECOND);

    let inside = prefix("10.0.0.0/26");
    let shown = net.core(1).routes(&RouteQuery::Prefix(inside));
    let verdicts: Vec<_> = shown[0]
        .paths
        .iter()
        .map(|path| (path.peer.unwrap(), path.verdict))
        .collect();
    // Both have it from the AS outside as well, where it has been.
    let looped = (address(2), Verdict::Ineligible(Ineligible::AsLoop));
    assert_eq!(
        verdicts,
        [(address(0), Verdict::Best(None)), looped],
        "{shown:#?}"
    );

    let outside = prefix("10.2.0.0/26");
    let shown = net.core(0).routes(&RouteQuery::Prefix(outside));
    let verdicts: Vec<_> = shown[0]
        .paths
        .iter()
        .map(|path| (path.peer.unwrap(), path.verdict))
        .collect();
    assert_eq!(
        verdicts[0],
        (address(2), Verdict::Best(Some(DecisionStep::ExternalPeer))),
        "{shown:#?}"
    );
    assert_eq!(
        verdicts[1],
        (address(1), Verdict::Lost(DecisionStep::ExternalPeer))
    );
    let back = shown[0]
        .advertised_to
        .iter()
        .find(|to| to.peer == address(2))
        .unwrap();
    assert_eq!(back.outcome, Advertisement::NotSent(NotSent::LearnedFromPeer));

    // Unreachable directly: the other way is taken, and what came from within stays within.
    net.core(0)
        .set_next_hops([(address(2), NextHopState::Unreachable)].into());
    net.run_for(SECOND);
    assert!(
        !net.nodes[0].feed.contains_key(&outside),
        "the inner path has the same next hop"
    );
    net.core(0).set_next_hops(
        [(
            address(2),
            NextHopState::Reachable {
                metric: 5,
                gateway: None,
            },
        )]
        .into(),
    );
    net.run_for(SECOND);
    assert!(net.nodes[0].feed.contains_key(&outside));
}

#[test]
fn four_octet_as_numbers_travel() {
    let mut net = pair(19, 4_200_000_001, 4_200_000_002);
    let best = &net.nodes[0].feed[&prefix("10.2.0.0/26")];
    assert_eq!(best.as_path, "4200000002");
    assert!(best.external);
    assert_eq!(net.peer_status(0, 1).remote_as, Asn(4_200_000_002));
}

#[test]
fn more_prefixes_than_allowed_end_the_session() {
    let mut net = Net::new(20);
    let mut narrow = pair_config(0, 64512, 64513);
    narrow.peers.values_mut().for_each(|peer| peer.max_prefixes = 2);
    net.add(narrow, &[]);
    net.add(
        pair_config(1, 64513, 64512),
        &["10.1.0.0/26", "10.2.0.0/26", "10.3.0.0/26"],
    );
    net.run_until(30 * SECOND, "refusal", |net| !net.notifications(0).is_empty());
    let notification = &net.notifications(0)[0];
    assert_eq!(
        notification.error,
        ErrorCode::Cease(CeaseSubcode::MaximumPrefixes)
    );
    assert_eq!(notification.data.as_ref(), [0, 1, 1, 0, 0, 0, 2]);
    net.run_for(SECOND / 2);
    assert!(net.nodes[0].feed.is_empty());
}

#[test]
fn a_reflector_passes_routes_between_its_clients_and_loops_end() {
    let mut net = Net::new(21);
    let mut hub = config(0, 64512);
    hub.peers.extend((1..3).map(|index| {
        let (address, client) = peer(index, 64512);
        (
            address,
            PeerConfig {
                route_reflector_client: true,
                ..client
            },
        )
    }));
    net.add(hub.clone(), &[]);
    for index in 1..3 {
        let mut client = config(index, 64512);
        client.peers.extend([peer(0, 64512)]);
        net.add(client, &[&format!("10.{index}.0.0/26")]);
    }
    let both = |net: &mut Net| net.nodes[1].feed.len() == 1 && net.nodes[2].feed.len() == 1;
    net.run_until(30 * SECOND, "reflected routes", both);
    assert_eq!(net.nodes[1].feed[&prefix("10.2.0.0/26")].next_hops, [address(2)]);

    // No longer a client: the running session follows, without a flap.
    hub.peers
        .values_mut()
        .for_each(|client| client.route_reflector_client = false);
    let now = net.now;
    net.core(0).configure(hub, now).unwrap();
    net.run_until(SECOND, "no reflection", |net| {
        net.nodes[1].feed.is_empty() && net.nodes[2].feed.is_empty()
    });
    assert_eq!(net.peer_status(0, 1).counters.flaps, 0);
}

#[test]
fn a_peer_may_be_told_another_as_than_the_rest() {
    let mut net = Net::new(22);
    let mut disguised = pair_config(0, 64512, 64513);
    disguised
        .peers
        .values_mut()
        .for_each(|peer| peer.local_as = Some(Asn(65001)));
    net.add(disguised, &["10.1.0.0/26"]);
    net.add(pair_config(1, 64513, 65001), &[]);
    net.run_until(30 * SECOND, "route", |net| {
        net.nodes[1].feed.contains_key(&prefix("10.1.0.0/26"))
    });
    assert_eq!(net.nodes[1].feed[&prefix("10.1.0.0/26")].as_path, "65001");
}
