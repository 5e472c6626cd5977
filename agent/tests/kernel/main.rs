//! The kernel side against a real kernel: every test has a network namespace of its own, made and removed by it.
//! They need root and iproute2.

// What fails here is a test.
#![allow(clippy::unwrap_used)]

mod links;
mod namespace;
mod next_hops;
mod repair;
mod routes;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use agent::kernel::{Gateway, Kernel, KernelStatus, Removal, RouteTarget, Routes, Settings};

/// The bound on every wait: far beyond what anything takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `see` gives a value; fails with what `seen` last said.
async fn eventually<T, S: std::fmt::Debug>(
    what: &str,
    mut see: impl FnMut() -> Option<T>,
    seen: impl Fn() -> S,
) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(value) = see() {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not seen in time: {what}; last seen: {:?}",
            seen()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn start() -> Kernel {
    Kernel::start(Settings::default()).await.expect("start")
}

fn routes<const N: usize>(routes: [(&str, RouteTarget); N]) -> Arc<Routes> {
    Arc::new(
        routes
            .into_iter()
            .map(|(prefix, target)| (prefix.parse().unwrap(), target))
            .collect(),
    )
}

fn via(address: &str) -> RouteTarget {
    RouteTarget::via(address.parse().unwrap())
}

fn gateways<const N: usize>(addresses: [&str; N]) -> RouteTarget {
    let gateway = |address: &str| Gateway {
        address: address.parse().unwrap(),
        device: None,
        onlink: false,
    };
    RouteTarget::Gateways(addresses.into_iter().map(gateway).collect())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Sets routes and waits until they have been tried.
async fn apply(kernel: &Kernel, desired: &Arc<Routes>, removal: Removal) -> Arc<KernelStatus> {
    kernel.set_routes(desired.clone(), removal);
    tokio::time::timeout(DEADLINE, kernel.synced())
        .await
        .unwrap_or_else(|_| panic!("not synced in time: {:?}", kernel.status()))
        .expect("synced")
}

/// Sets routes, and demands that all of them, and no other of ours, are in the kernel.
async fn apply_all(kernel: &Kernel, desired: &Arc<Routes>) -> Arc<KernelStatus> {
    let status = apply(kernel, desired, Removal::Allow).await;
    assert_eq!(
        (status.installed, status.pending, status.stale),
        (desired.len(), 0, 0),
        "problems: {:?}",
        status.problems
    );
    status
}

/// The reasons that are reported, by prefix.
fn problems(status: &KernelStatus) -> BTreeMap<String, String> {
    status
        .problems
        .iter()
        .map(|problem| (problem.prefix.to_string(), problem.reason.clone()))
        .collect()
}
