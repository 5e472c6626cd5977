//! What several tests of the lab need.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Attachment, Lab, Topology, blocks::Block, blocks::blocks, wait_for};

/// How long a change may take to get everywhere.
pub(crate) const CONVERGENCE: Duration = Duration::from_secs(30);
/// Between two pings of a steady stream.
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(20);

/// Two racks, three nodes, one router.
pub(crate) fn demo_lab() -> Lab {
    up(Topology::demo().unwrap())
}

/// A lab that is up, with everything that went wrong in the panic if it is not.
pub(crate) fn up(topology: Topology) -> Lab {
    Lab::up(topology).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Nodes `a`, `b`, … in one rack without a router, and one pool.
pub(crate) fn one_rack(nodes: usize, pool: &str, block_size: u8) -> Topology {
    let mut text = String::from("subnets:\n  - { name: rack, cidr: 192.168.50.0/24 }\nnodes:\n");
    for (index, name) in ('a'..='z').take(nodes).enumerate() {
        text.push_str(&format!(
            "  - {{ name: {name}, subnet: rack, address: 192.168.50.{} }}\n",
            11 + index
        ));
    }
    text.push_str(&format!(
        "pools:\n  - {{ name: small, cidr: {pool}, blockSize: {block_size} }}\n"
    ));
    Topology::parse(&text).unwrap()
}

/// The blocks, as the first node's `routectl` shows them.
pub(crate) fn all_blocks(lab: &Lab) -> Vec<Block> {
    let node = lab.nodes().next().unwrap();
    blocks(&node).unwrap()
}

/// Checks that the addresses in use are exactly those of these pods, each given once.
pub(crate) fn check_addresses(lab: &Lab, pods: &[Attachment]) -> Result<()> {
    let blocks = blocks(&lab.nodes().next().unwrap())?;
    let mut used: Vec<_> = blocks
        .iter()
        .flat_map(|block| &block.used)
        .map(|(address, _)| *address)
        .collect();
    let mut expected: Vec<_> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    used.sort();
    expected.sort();
    ensure!(
        expected.windows(2).all(|pair| pair[0] != pair[1]),
        "given twice: {expected:?}"
    );
    ensure!(used == expected, "in use: {used:?}, pods have: {expected:?}");
    Ok(())
}

/// Waits until every pod can be reached from every other.
pub(crate) fn wait_mesh(lab: &Lab, pods: &[Attachment]) {
    for from in pods {
        for to in pods.iter().filter(|to| to.pod != from.pod) {
            wait_for(
                &format!("a ping from {} to {}", from.pod, to.pod),
                CONVERGENCE,
                || lab.ping(&from.pod, &to.pod),
            )
            .unwrap_or_else(|error| panic!("{error:#}"));
        }
    }
}

/// Waits for a condition; the panic says what was seen last.
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Result<T>) -> T {
    wait_for(what, CONVERGENCE, probe).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The value, or a panic with the whole chain of causes.
pub(crate) fn must<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error:#}"))
}
