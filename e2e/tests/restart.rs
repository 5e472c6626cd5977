//! An agent that dies or is replaced: the pods do not notice, and nothing is lost or given twice.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use anyhow::{Result, ensure};
use common::{CONVERGENCE, PING_INTERVAL, check_addresses, demo_lab, eventually, one_rack, up, wait_mesh};
use e2e::{Attachment, Lab, ping::concurrently};
use nix::sys::signal::Signal;

/// Ends the agent of `a` with a signal and starts it again while its pod is pinged from its own rack, from the other
/// rack and from the router.
fn replace_agent_under_traffic(signal: Signal) {
    let lab = demo_lab();
    let pods = lab.attach_to_each(1).unwrap();
    wait_mesh(&lab, &pods);
    eventually("a ping from tor", || lab.ping("tor", "pod-a1"));
    let node = lab.node("a");
    let routes = node.own_routes().unwrap();
    let sources = ["pod-b1", "pod-c1", "tor"];
    let pingers: Vec<_> = sources
        .iter()
        .map(|from| lab.pinger(from, "pod-a1", PING_INTERVAL).unwrap())
        .collect();
    let keep_going = || {
        pingers
            .iter()
            .for_each(|pinger| pinger.wait_answers(20, CONVERGENCE).unwrap())
    };

    node.kill_agent(signal).unwrap();
    keep_going();
    assert_eq!(
        node.own_routes().unwrap(),
        routes,
        "routes went away with the agent"
    );
    node.start_agent().unwrap();
    node.wait_ready().unwrap();
    keep_going();
    lab.wait_sessions().unwrap();
    keep_going();

    for (from, pinger) in sources.iter().zip(pingers) {
        let report = pinger.stop().unwrap();
        assert_eq!(
            report.lost,
            [] as [u64; 0],
            "of {} pings from {from}",
            report.sent
        );
    }
    eventually("the same routes", || {
        let now = node.own_routes()?;
        ensure!(now == routes, "{now:?} instead of {routes:?}");
        Ok(())
    });
    check_addresses(&lab, &pods).unwrap();
    let late = lab.attach("late", "a").unwrap();
    let all: Vec<_> = pods.into_iter().chain([late]).collect();
    check_addresses(&lab, &all).unwrap();
    wait_mesh(&lab, &all);
}

#[test]
fn traffic_flows_while_an_agent_is_killed_and_started_again() {
    replace_agent_under_traffic(Signal::SIGKILL);
}

#[test]
fn traffic_flows_while_an_agent_is_drained_and_started_again() {
    replace_agent_under_traffic(Signal::SIGTERM);
}

/// Repeats ADD for a pod until it succeeds, as the kubelet does.
fn add_until_it_works(lab: &Lab, pod: &Attachment) -> Attachment {
    let addresses = eventually(&format!("ADD of {}", pod.pod), || {
        lab.node(&pod.node).cni("ADD", pod)?.addresses()
    });
    Attachment {
        addresses,
        ..pod.clone()
    }
}

/// Kills the agent in the middle of a burst of ADDs, over and over, then in the middle of DELs.
#[test]
fn no_address_is_lost_or_given_twice_when_an_agent_is_killed_at_work() {
    let lab = up(one_rack(2, "10.60.0.0/24", 28));
    let made: Result<Vec<_>> = (0..24)
        .map(|n| lab.make_pod(&format!("p{n}"), if n % 4 == 3 { "b" } else { "a" }))
        .collect();
    let made = made.unwrap();
    let with_kills = |work: &(dyn Fn(&Attachment) -> Attachment + Sync)| -> Vec<Attachment> {
        std::thread::scope(|scope| {
            let burst = scope.spawn(|| concurrently(&made, work));
            for _ in 0..3 {
                let node = lab.node("a");
                node.kill_agent(Signal::SIGKILL).unwrap();
                node.start_agent().unwrap();
                node.wait_ready().unwrap();
            }
            burst.join().unwrap()
        })
    };

    let pods = with_kills(&|pod| add_until_it_works(&lab, pod));
    check_addresses(&lab, &pods).unwrap();
    wait_mesh(&lab, &pods[..4]);
    // ADD once more: the same addresses.
    for pod in &pods {
        assert_eq!(
            add_until_it_works(&lab, pod).addresses,
            pod.addresses,
            "{}",
            pod.pod
        );
    }

    with_kills(&|pod| {
        eventually(&format!("DEL of {}", pod.pod), || {
            let output = lab.node(&pod.node).cni("DEL", pod)?;
            ensure!(output.status == 0, "{}", output.error_text());
            Ok(())
        });
        pod.clone()
    });
    eventually("every address to be free", || check_addresses(&lab, &[]));
    eventually("every link to be gone", || {
        for node in lab.nodes() {
            let links = node.netns().links("cali")?;
            ensure!(links.is_empty(), "{} has {links:?}", node.name());
        }
        Ok(())
    });
}
