//! BGP with BIRD, both ways.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::net::IpAddr;

use anyhow::{Context, ensure};
use common::{all_blocks, demo_lab, eventually};
use e2e::{Lab, Topology, bird::ANNOUNCED, manifests};
use nix::sys::signal::Signal;

const PREFIX: &str = "10.99.0.0/16";

/// Waits until the prefix is in every node's kernel, as a route of the agent's through the router of the rack.
fn wait_announced(lab: &Lab) {
    eventually("the prefix in every kernel", || {
        for node in lab.nodes() {
            let route = node.route_to(PREFIX)?;
            let gateway = lab
                .topology()
                .gateway(&node.spec().subnet)
                .map(|gateway| gateway.to_string());
            ensure!(
                route.is_ours() && route.gateway == gateway,
                "{}: {route:?}",
                node.name()
            );
        }
        Ok(())
    });
}

fn wait_withdrawn(lab: &Lab) {
    eventually("the prefix to be gone", || {
        for node in lab.nodes() {
            ensure!(node.route_to(PREFIX).is_err(), "{} has it", node.name());
        }
        Ok(())
    });
}

#[test]
fn bird_learns_each_block_from_its_owner_and_reaches_the_pods() {
    let lab = demo_lab();
    let pods = lab.attach_to_each(1).unwrap();
    let blocks = all_blocks(&lab);
    assert_eq!(blocks.len(), 3, "{blocks:?}");
    for block in &blocks {
        let owner = block.owner.clone().unwrap();
        let address = IpAddr::from(lab.node(&owner).spec().address);
        eventually(&format!("{} in BIRD's table", block.cidr), || {
            let routes = lab.router("tor").bird_routes()?;
            let route = routes
                .iter()
                .find(|route| route.prefix == block.cidr)
                .context("it is not there")?;
            ensure!(
                route.via == Some(address),
                "it goes to {:?}, not to {address}",
                route.via
            );
            Ok(())
        });
    }
    for pod in &pods {
        eventually(&format!("a ping from tor to {}", pod.pod), || {
            lab.ping("tor", &pod.pod)
        });
    }
}

#[test]
fn what_bird_announces_is_in_the_kernels_until_it_is_withdrawn() {
    let lab = demo_lab();
    let tor = lab.router("tor");
    wait_announced(&lab);
    tor.birdc(&["disable", ANNOUNCED]).unwrap();
    wait_withdrawn(&lab);
    // What is not the agent's is not touched.
    assert!(lab.nodes().all(|node| node.route_to("default").is_ok()));
    tor.birdc(&["enable", ANNOUNCED]).unwrap();
    wait_announced(&lab);
}

#[test]
fn a_router_with_a_password_talks_only_to_nodes_that_have_it() {
    let mut topology = Topology::demo().unwrap();
    topology.routers[0].password = Some("s3cret-of-tor".into());
    let lab = common::up(topology);
    let tor = lab.router("tor");
    wait_announced(&lab);

    manifests::set_password(&lab.datastore(), tor.spec(), "an0ther-one").unwrap();
    eventually("sessions to be down", || {
        let sessions = tor.sessions()?;
        let up = sessions.iter().find(|session| session.is_established());
        ensure!(up.is_none(), "{up:?}");
        Ok(())
    });
    manifests::set_password(&lab.datastore(), tor.spec(), "s3cret-of-tor").unwrap();
    lab.wait_sessions().unwrap();
    wait_announced(&lab);
    for node in lab.nodes() {
        let log = std::fs::read_to_string(node.log_path()).unwrap();
        assert!(!log.contains("s3cret") && !log.contains("an0ther"), "{log}");
    }
}

#[test]
fn sessions_and_routes_come_back_after_bird_was_killed() {
    let lab = demo_lab();
    let pods = lab.attach_to_each(1).unwrap();
    wait_announced(&lab);
    let tor = lab.router("tor");
    let bird = tor.bird().unwrap();
    bird.signal(Signal::SIGKILL);
    bird.wait_gone(common::CONVERGENCE).unwrap();
    tor.start().unwrap();
    lab.wait_sessions().unwrap();
    wait_announced(&lab);
    for pod in &pods {
        eventually(&format!("a ping from tor to {}", pod.pod), || {
            lab.ping("tor", &pod.pod)
        });
    }
}

#[test]
fn nodes_of_a_rack_route_directly_and_others_by_the_router() {
    let lab = demo_lab();
    lab.attach_to_each(1).unwrap();
    let blocks = all_blocks(&lab);
    let of = |owner: &str| {
        let block = blocks.iter().find(|block| block.owner.as_deref() == Some(owner));
        block
            .unwrap_or_else(|| panic!("{owner} owns none of {blocks:?}"))
            .cidr
            .to_string()
    };
    let expected = [("b", "192.168.33.12"), ("c", "192.168.33.1")];
    for (owner, gateway) in expected {
        eventually(&format!("the block of {owner} in the kernel of a"), || {
            let route = lab.node("a").route_to(&of(owner))?;
            ensure!(
                route.is_ours() && route.gateway.as_deref() == Some(gateway),
                "{route:?}"
            );
            Ok(())
        });
    }
    let own = lab.node("a").route_to(&of("a")).unwrap();
    assert!(own.is_ours() && own.is_blackhole(), "{own:?}");
}
