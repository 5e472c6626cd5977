//! Graceful restart, both roles; what shutdowns do; convergence.

use bgp::{Shutdown, SpeakerConfig};

use crate::net::{Net, config, peer, prefix};
use crate::{SECOND, pair, pair_config};

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
