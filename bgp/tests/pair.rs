//! Speakers against each other on a simulated clock: sessions, collisions, timers, graceful restart, flow control.

#![allow(clippy::unwrap_used)] // A test may.

#[path = "pair/net.rs"]
mod net;

use std::time::Duration;

use bgp::wire::{CeaseSubcode, ErrorCode, MessageType, OpenSubcode};
use bgp::{
    Advertisement, Asn, DecisionStep, Ineligible, NextHopState, NotSent, RouteQuery, SessionState, Shutdown,
    SpeakerConfig, Verdict,
};
use net::{Net, address, config, originate, peer, prefix};

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes of the given ASes that know each other.
fn pair_config(index: usize, own: u32, other: u32) -> SpeakerConfig {
    let mut config = config(index, own);
    config.peers.extend([peer(1 - index, other)]);
    config
}

/// Two nodes, up, each with a block of its own.
fn pair(seed: u64, a: u32, b: u32) -> Net {
    let mut net = Net::new(seed);
    net.add(pair_config(0, a, b), &["10.1.0.0/26"]);
    net.add(pair_config(1, b, a), &["10.2.0.0/26"]);
    net.run_until(30 * SECOND, "session", |net| net.established(0, 1));
    net.run_until(SECOND, "routes", |net| {
        net.nodes[0].feed.contains_key(&prefix("10.2.0.0/26"))
            && net.nodes[1].feed.contains_key(&prefix("10.1.0.0/26"))
    });
    net
}

#[test]
fn nodes_that_start_together_come_up_at_once_whatever_collides() {
    for seed in 0..50 {
        let mut net = pair(seed, 64512, 64512);
        assert!(net.elapsed() < 5 * SECOND, "seed {seed}: {:?}", net.elapsed());
        net.run_until(5 * SECOND, "convergence", |net| {
            net.nodes.iter().all(|node| node.converged)
        });
        // And they stay up: a late collision must not take the session with it.
        net.run_for(10 * SECOND);
        for (node, other) in [(0, 1), (1, 0)] {
            let status = net.peer_status(node, other);
            assert_eq!(
                status.state,
                SessionState::Established,
                "seed {seed}\n{}",
                net.describe()
            );
            assert_eq!(status.counters.flaps, 0, "seed {seed}\n{}", net.describe());
        }
    }
}

#[test]
fn a_mesh_that_starts_together_does_not_wait_for_connect_retry() {
    let mut net = Net::new(11);
    let count = 8;
    for index in 0..count {
        let mut config = config(index, 64512);
        config.peers.extend(
            (0..count)
                .filter(|other| *other != index)
                .map(|other| peer(other, 64512)),
        );
        net.add(config, &[&format!("10.{index}.0.0/26")]);
    }
    net.run_until(10 * SECOND, "full mesh", |net| {
        net.nodes
            .iter()
            .all(|node| node.feed.len() == count - 1 && node.converged)
    });
}

#[test]
fn a_peer_that_comes_late_is_met_within_seconds() {
    let mut net = Net::new(3);
    net.add(pair_config(0, 64512, 64513), &[]);
    let late = net.add(pair_config(1, 64513, 64512), &[]);
    net.kill(late);
    net.run_for(600 * SECOND);
    net.boot(late, pair_config(1, 64513, 64512), &["10.2.0.0/26"]);
    net.run_until(2 * SECOND, "session", |net| net.established(0, 1));
}

#[test]
fn passive_on_one_side_works_and_on_both_sides_never_connects() {
    for (a, b, comes_up) in [(true, false, true), (false, true, true), (true, true, false)] {
        let mut net = Net::new(5);
        for (index, passive) in [(0, a), (1, b)] {
            let mut config = pair_config(index, 64512, 64512);
            config.peers.values_mut().for_each(|peer| peer.passive = passive);
            net.add(config, &[]);
        }
        net.run_for(30 * SECOND);
        assert_eq!(net.established(0, 1), comes_up, "{}", net.describe());
        if !comes_up {
            assert_eq!(net.state(0, 1), SessionState::Active);
        }
    }
}

#[test]
fn keepalives_come_every_third_of_the_hold_time() {
    let mut net = pair(1, 64512, 64513);
    let from = net.elapsed();
    net.run_for(900 * SECOND);
    let keepalives = net
        .sent
        .iter()
        .filter(|s| s.from == 0 && s.at > from && s.kind == MessageType::Keepalive);
    // 30 s less up to a quarter of jitter.
    let count = keepalives.count();
    assert!((30..=41).contains(&count), "{count}");
    assert!(net.established(0, 1));
}

#[test]
fn silence_for_the_hold_time_ends_the_session_with_its_code() {
    let mut net = pair(1, 64512, 64513);
    net.cut();
    let before = net.elapsed();
    net.run_until(100 * SECOND, "hold timer", |net| !net.notifications(0).is_empty());
    assert_eq!(net.notifications(0)[0].error, ErrorCode::HoldTimerExpired);
    assert!(net.elapsed() - before > 60 * SECOND);
    // Not graceful: the routes go with the session.
    assert!(net.nodes[0].feed.is_empty());
    assert_eq!(net.peer_status(0, 1).stale, None);
}

#[test]
fn an_open_that_does_not_fit_is_refused_with_its_code() {
    let mut wrong_as = pair_config(0, 64512, 64999);
    wrong_as.peers.values_mut().for_each(|peer| peer.passive = true);
    let mut same_id = pair_config(0, 64513, 64513);
    same_id.router_id = config(1, 0).router_id;
    let cases = [
        (wrong_as, OpenSubcode::BadPeerAs, 64513),
        (same_id, OpenSubcode::BadBgpIdentifier, 64513),
    ];
    for (first, subcode, other) in cases {
        let mut net = Net::new(9);
        let own = first.local_as.0;
        net.add(first, &[]);
        net.add(pair_config(1, other, own), &[]);
        net.run_until(30 * SECOND, "refusal", |net| !net.notifications(0).is_empty());
        assert_eq!(net.notifications(0)[0].error, ErrorCode::OpenMessage(subcode));
        net.run_for(300 * SECOND);
        assert!(!net.established(0, 1));
        // Held back more and more, not hammered (DampPeerOscillations).
        let opens = net
            .sent
            .iter()
            .filter(|sent| sent.kind == MessageType::Open)
            .count();
        assert!(opens < 60, "{opens} OPENs in five minutes");
        let error = net.peer_status(0, 1).last_error.unwrap();
        assert!(error.contains(&subcode.to_string()), "{error}");
    }
}

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
fn a_change_of_configuration_touches_only_the_sessions_it_names() {
    let mut net = Net::new(4);
    let full = |index: usize| {
        let mut config = config(index, 64512);
        config.peers.extend(
            (0..3)
                .filter(|other| *other != index)
                .map(|other| peer(other, 64512)),
        );
        config
    };
    for index in 0..3 {
        net.add(full(index), &[&format!("10.{index}.0.0/26")]);
    }
    let up = |net: &mut Net| net.established(0, 1) && net.established(0, 2) && net.established(1, 2);
    net.run_until(30 * SECOND, "mesh", up);

    let mut changed = full(0);
    changed.peers.get_mut(&address(1)).unwrap().hold_time = 30 * SECOND;
    let now = net.now;
    net.core(0).configure(changed.clone(), now).unwrap();
    net.run_until(30 * SECOND, "session again", |net| {
        net.established(0, 1) && net.peer_status(0, 1).session.unwrap().hold_time == 30
    });
    assert_eq!(
        net.notifications(0).last().unwrap().error,
        ErrorCode::Cease(CeaseSubcode::OtherConfigurationChange)
    );
    assert_eq!(net.peer_status(0, 2).counters.flaps, 0);

    changed.peers.remove(&address(2));
    let now = net.now;
    net.core(0).configure(changed, now).unwrap();
    net.run_until(SECOND, "removal", |net| {
        net.state(2, 0) != SessionState::Established
    });
    assert_eq!(
        net.notifications(0).last().unwrap().error,
        ErrorCode::Cease(CeaseSubcode::PeerDeconfigured)
    );
    net.run_for(60 * SECOND);
    assert!(!net.nodes[0].feed.contains_key(&prefix("10.2.0.0/26")));
    assert_eq!(net.peer_status(1, 2).counters.flaps, 0);
    assert!(net.established(0, 1));
}

#[test]
fn an_invalid_configuration_changes_nothing() {
    let mut net = pair(6, 64512, 64512);
    let mut bad = pair_config(0, 64512, 64512);
    bad.peers.get_mut(&address(1)).unwrap().hold_time = 2 * SECOND;
    let now = net.now;
    let error = net.core(0).configure(bad, now).unwrap_err().to_string();
    assert_eq!(
        error,
        "peer node-1 (10.0.0.2): hold_time: a hold time is 0 or 3 to 65535 whole seconds"
    );
    net.run_for(5 * SECOND);
    assert!(net.established(0, 1));
}

#[test]
fn routes_outlive_a_peer_that_is_killed_and_started_again() {
    let mut net = pair(7, 64512, 64512);
    net.kill(1);
    net.run_for(20 * SECOND);
    assert!(net.nodes[0].feed.contains_key(&prefix("10.2.0.0/26")));
    assert_eq!(net.peer_status(0, 1).stale.unwrap().prefixes, 1);

    let restarting = SpeakerConfig {
        restarting: true,
        ..pair_config(1, 64512, 64512)
    };
    net.boot(1, restarting, &["10.2.0.64/26"]);
    net.run_until(5 * SECOND, "the old route goes", |net| {
        !net.nodes[0].feed.contains_key(&prefix("10.2.0.0/26"))
    });
    assert!(net.nodes[0].feed.contains_key(&prefix("10.2.0.64/26")));
    assert_eq!(net.peer_status(0, 1).stale, None);
    assert!(net.nodes[1].converged);
}

#[test]
fn a_peer_that_dies_twice_in_a_row_keeps_its_routes_and_one_that_keeps_dying_does_not() {
    let mut net = pair(8, 64512, 64512);
    // It waits for a peer that never comes, so its End-of-RIB never comes either; and it originates nothing.
    let mut restarting = SpeakerConfig {
        restarting: true,
        ..pair_config(1, 64512, 64512)
    };
    restarting.peers.extend([peer(7, 64512)]);
    let since = net.now;
    let mut lives = 0;
    while net.nodes[0].feed.contains_key(&prefix("10.2.0.0/26")) {
        lives += 1;
        assert!(lives < 100, "never lost\n{}", net.describe());
        net.kill(1);
        net.run_for(2 * SECOND);
        net.boot(1, restarting.clone(), &[]);
        net.run_until(40 * SECOND, "session", |net| net.established(0, 1));
        net.run_for(5 * SECOND);
    }
    let lasted = net.now - since;
    assert!(lives > 2 && lasted > 300 * SECOND, "{lives} lives, {lasted:?}");
    assert!(lasted <= 650 * SECOND, "{lasted:?}");
}

#[test]
fn stale_routes_go_when_the_restart_time_is_over() {
    let mut net = pair(9, 64512, 64512);
    net.kill(1);
    net.run_for(119 * SECOND);
    assert!(!net.nodes[0].feed.is_empty());
    net.run_for(2 * SECOND);
    assert!(net.nodes[0].feed.is_empty());
}

#[test]
fn a_shutdown_that_is_meant_takes_the_routes_along_and_says_why() {
    let mut net = pair(10, 64512, 64512);
    net.shut_down(1, Shutdown::Administrative("node drained".to_owned()));
    net.run_for(SECOND);
    assert!(net.nodes[0].feed.is_empty());
    let error = net.peer_status(0, 1).last_error.unwrap();
    assert!(
        error.contains("Administrative Shutdown") && error.contains("node drained"),
        "{error}"
    );
}

#[test]
fn a_shutdown_for_a_restart_is_silent_and_keeps_the_routes() {
    let mut net = pair(10, 64512, 64512);
    net.shut_down(1, Shutdown::Restart);
    net.run_for(SECOND);
    assert!(net.notifications(1).is_empty());
    assert!(net.nodes[0].feed.contains_key(&prefix("10.2.0.0/26")));
}

#[test]
fn a_peer_that_is_back_before_its_old_connection_is_known_dead_takes_its_place() {
    let mut net = pair(12, 64512, 64512);
    net.run_for(20 * SECOND);
    // The node loses power: no reset reaches us.
    net.cut();
    net.nodes.iter_mut().for_each(|node| node.listens = true);
    net.nodes[1].core = None;
    let restarting = SpeakerConfig {
        restarting: true,
        ..pair_config(1, 64512, 64512)
    };
    net.boot(1, restarting, &["10.2.0.0/26"]);
    net.run_until(5 * SECOND, "new session", |net| {
        net.peer_status(0, 1).counters.flaps == 1 && net.established(0, 1)
    });
    net.run_for(SECOND);
    assert!(net.nodes[0].withdrawn.is_empty(), "{:?}", net.nodes[0].withdrawn);
}

#[test]
fn without_graceful_restart_routes_go_with_the_session() {
    let mut net = Net::new(13);
    for index in 0..2 {
        let mut config = pair_config(index, 64512, 64512);
        config
            .peers
            .values_mut()
            .for_each(|peer| peer.graceful_restart = false);
        net.add(config, &[&format!("10.{index}.0.0/26")]);
    }
    net.run_until(30 * SECOND, "routes", |net| {
        net.nodes.iter().all(|node| node.feed.len() == 1)
    });
    // No End-of-RIB then; the first KEEPALIVE with nothing else to say stands for it.
    net.run_until(40 * SECOND, "convergence", |net| {
        net.nodes.iter().all(|node| node.converged)
    });
    net.kill(1);
    net.run_for(SECOND);
    assert!(net.nodes[0].feed.is_empty());
}

#[test]
fn end_of_rib_of_a_restarting_speaker_waits_for_its_peers() {
    // Node 0 passes node 2's route (another AS) on to node 1; node 0 restarts while node 2 is away.
    let mut net = Net::new(14);
    let mut middle = config(0, 64512);
    middle.peers.extend([peer(1, 64512), peer(2, 64513)]);
    net.add(middle.clone(), &[]);
    let mut inner = config(1, 64512);
    inner.peers.extend([peer(0, 64512)]);
    net.add(inner, &[]);
    let mut outer = config(2, 64513);
    outer.peers.extend([peer(0, 64512)]);
    net.add(outer.clone(), &["198.51.100.0/24"]);
    let far = prefix("198.51.100.0/24");
    net.run_until(30 * SECOND, "route", |net| net.nodes[1].feed.contains_key(&far));

    net.kill(2);
    net.kill(0);
    net.run_for(SECOND);
    net.boot(
        0,
        SpeakerConfig {
            restarting: true,
            ..middle
        },
        &[],
    );
    net.run_until(10 * SECOND, "session", |net| net.established(0, 1));
    net.run_for(20 * SECOND);
    assert!(!net.nodes[0].converged);
    assert!(
        net.nodes[1].feed.contains_key(&far),
        "dropped before the restarted speaker had learned it again"
    );
    net.boot(
        2,
        SpeakerConfig {
            restarting: true,
            ..outer
        },
        &["198.51.100.0/24"],
    );
    net.run_until(40 * SECOND, "convergence", |net| net.nodes[0].converged);
    net.run_for(SECOND);
    assert!(net.nodes[1].withdrawn.is_empty());
    assert_eq!(net.peer_status(1, 0).stale, None);
}

#[test]
fn convergence_does_not_wait_for_ever_for_a_peer_that_never_comes() {
    let mut net = Net::new(15);
    net.add(pair_config(0, 64512, 64512), &[]);
    net.run_for(59 * SECOND);
    assert!(!net.nodes[0].converged);
    net.run_for(2 * SECOND);
    assert!(net.nodes[0].converged);
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
    net.core(0)
        .set_next_hops([(address(2), NextHopState::Reachable { metric: 5 })].into());
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
