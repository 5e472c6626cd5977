//! A mesh through which everything that can go wrong goes, and which must be whole again afterwards.

use std::time::Duration;

use bgp::{Shutdown, SpeakerConfig};

use crate::SECOND;
use crate::net::{Net, address, config, originate, peer, prefix};

const NODES: usize = 4;

fn mesh_config(index: usize, restarting: bool) -> SpeakerConfig {
    // The last one is a router of another AS.
    let asn = |index| if index == NODES - 1 { 64513 } else { 64512 };
    let mut config = SpeakerConfig {
        restarting,
        ..config(index, asn(index))
    };
    let others = (0..NODES).filter(|other| *other != index);
    config.peers.extend(others.map(|other| peer(other, asn(other))));
    config
}

fn block(index: usize) -> String {
    format!("10.{index}.0.0/26")
}

/// Something goes wrong.
fn misfortune(net: &mut Net) {
    let node = usize::try_from(net.random() % NODES as u64).unwrap();
    let up = net.nodes[node].core.is_some();
    match net.random() % 9 {
        0 if up => net.kill(node),
        1 if up => net.shut_down(node, Shutdown::Restart),
        2 if up => net.shut_down(node, Shutdown::Administrative("maintenance".to_owned())),
        3 => net.disturb(false),
        4 => net.disturb(true),
        5 if up => net.core(node).set_routes(originate(&["10.99.0.0/26"])),
        6 => {
            net.nodes[node].reads = !net.nodes[node].reads;
            net.read(node);
        }
        7 if up => {
            let mut changed = mesh_config(node, false);
            let other = address((node + 1) % NODES);
            changed.peers.get_mut(&other).unwrap().hold_time = 30 * SECOND;
            let now = net.now;
            net.core(node).configure(changed, now).unwrap();
        }
        _ if !up => net.boot(node, mesh_config(node, true), &[&block(node)]),
        _ => {}
    }
}

fn heal(net: &mut Net) {
    for node in 0..NODES {
        net.nodes[node].reads = true;
        net.read(node);
        if net.nodes[node].core.is_none() {
            net.boot(node, mesh_config(node, true), &[&block(node)]);
        }
        let now = net.now;
        net.core(node).configure(mesh_config(node, false), now).unwrap();
        net.core(node).set_routes(originate(&[&block(node)]));
    }
}

/// Every node knows every other one's block and nothing else, and nothing is waiting.
fn whole(net: &mut Net) -> bool {
    (0..NODES).all(|node| {
        let feed = &net.nodes[node].feed;
        let learned = (0..NODES)
            .filter(|other| *other != node)
            .all(|other| feed.contains_key(&prefix(&block(other))));
        let now = net.now;
        let status = net.core(node).status(now);
        let calm = status
            .peers
            .iter()
            .all(|peer| peer.session.is_some() && peer.stale.is_none());
        let next_hops = net.nodes[node].feed.iter().all(|(prefix, best)| {
            // Within the AS straight to the owner.
            let owner = (0..NODES).find(|other| *prefix == crate::prefix(&block(*other)));
            owner.is_some_and(|owner| node == NODES - 1 || best.next_hops == [address(owner)])
        });
        learned && calm && next_hops && status.converged && net.nodes[node].feed.len() == NODES - 1
    })
}

#[test]
fn a_mesh_is_whole_again_after_anything() {
    for seed in 1..=60 {
        let mut net = Net::new(seed);
        for index in 0..NODES {
            net.add(mesh_config(index, false), &[&block(index)]);
        }
        for _ in 0..40 {
            let pause = Duration::from_millis(net.random() % 20_000);
            net.run_for(pause);
            misfortune(&mut net);
        }
        heal(&mut net);
        // Hanging connections are found by the hold timer, and stale routes last as long as they may.
        net.run_until(700 * SECOND, &format!("seed {seed}: whole"), whole);
        net.run_for(200 * SECOND);
        assert!(whole(&mut net), "seed {seed}: not for long\n{}", net.describe());
    }
}
