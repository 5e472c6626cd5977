//! An agent that dies or is replaced: the pods do not notice, and nothing is lost or given twice.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Result, ensure};
use common::{
    CONVERGENCE, PING_INTERVAL, check_addresses, demo_lab, eventually, must, one_rack, up, wait_mesh,
};
use e2e::{Attachment, Lab, ping::concurrently};
use nix::sys::signal::Signal;

/// How often an agent is killed during a burst.
const KILLS: usize = 4;

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

/// Does something to every pod, several at once, each until it succeeds as the kubelet does, while the agent of `a` is
/// killed and started again, each time after a few more are done.
fn under_kills<R: Send>(
    lab: &Lab,
    pods: &[Attachment],
    what: &str,
    work: impl Fn(&Attachment) -> Result<R> + Sync,
) -> Vec<R> {
    let done = AtomicUsize::new(0);
    let until_it_works = |pod: &Attachment| {
        let result = eventually(&format!("{what} of {}", pod.pod), || work(pod));
        done.fetch_add(1, Ordering::Relaxed);
        result
    };
    thread::scope(|scope| {
        let burst = scope.spawn(|| concurrently(pods, until_it_works));
        for kill in 1..=KILLS {
            let enough = kill * pods.len() / (KILLS + 1);
            eventually(&format!("{enough} done"), || {
                let done = done.load(Ordering::Relaxed);
                ensure!(done >= enough, "{done}");
                Ok(())
            });
            let node = lab.node("a");
            must(node.kill_agent(Signal::SIGKILL));
            must(node.start_agent());
            must(node.wait_ready());
        }
        burst.join().unwrap()
    })
}

/// Kills the agent in the middle of a burst of ADDs, over and over, then in the middle of DELs.
#[test]
fn no_address_is_lost_or_given_twice_when_an_agent_is_killed_at_work() {
    let lab = up(one_rack(2, "10.60.0.0/24", 28));
    let node_of = |n: usize| if n % 4 == 3 { "b" } else { "a" };
    let made: Vec<_> = (0..24)
        .map(|n| lab.make_pod(&format!("p{n}"), node_of(n)).unwrap())
        .collect();

    let pods = under_kills(&lab, &made, "ADD", |pod| lab.add(pod));
    // A failed ADD may have left an address to a DEL that is queued.
    eventually("the addresses of the pods and no others", || {
        check_addresses(&lab, &pods)
    });
    wait_mesh(&lab, &pods[..6]);
    // ADD once more: the same addresses.
    for pod in &pods {
        assert_eq!(lab.add(pod).unwrap().addresses, pod.addresses, "{}", pod.pod);
    }

    under_kills(&lab, &pods, "DEL", |pod| {
        let output = lab.node(&pod.node).cni("DEL", pod)?;
        ensure!(output.status == 0, "{}", output.error_text());
        Ok(())
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
