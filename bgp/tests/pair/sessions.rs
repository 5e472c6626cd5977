//! Sessions: collisions, timers, refusals, changes of configuration.

use bgp::SessionState;
use bgp::wire::{CeaseSubcode, ErrorCode, MessageType, OpenSubcode};

use crate::net::{Net, address, config, peer, prefix};
use crate::{SECOND, pair, pair_config};

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
