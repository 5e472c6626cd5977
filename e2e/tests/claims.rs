//! Agents that claim blocks at once, and pools that run out.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeMap;

use anyhow::ensure;
use common::{all_blocks, check_addresses, eventually, one_rack, up};
use e2e::{blocks::items, ping::concurrently};

/// CNI error code for a pool without a free address.
const EXHAUSTED: u64 = 100;

#[test]
fn agents_that_claim_at_once_never_own_the_same_block() {
    let lab = up(one_rack(3, "10.61.0.0/24", 30));
    let wanted: Vec<_> = (0..36)
        .map(|n| (format!("p{n}"), ["a", "b", "c"][n % 3]))
        .collect();
    let pods: Vec<_> = concurrently(&wanted, |(pod, node)| lab.attach(pod, node).unwrap());
    check_addresses(&lab, &pods).unwrap();

    let affinities = lab.node("a").routectl_json(&["get", "blockaffinities"]).unwrap();
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for affinity in items(&affinities) {
        let text = |field: &str| affinity["spec"][field].as_str().unwrap_or_default().to_string();
        assert_eq!(text("state"), "confirmed", "{affinity}");
        owners.entry(text("cidr")).or_default().push(text("node"));
    }
    let blocks = all_blocks(&lab);
    assert!(
        blocks.len() >= 9,
        "36 addresses need 9 blocks of 4 or more: {blocks:?}"
    );
    for block in &blocks {
        let owner = block.owner.clone().unwrap_or_default();
        assert_eq!(
            owners.get(&block.cidr.to_string()),
            Some(&vec![owner.clone()]),
            "{}",
            block.cidr
        );
        for (address, pod) in &block.used {
            let holder = pods
                .iter()
                .find(|candidate| candidate.addresses.contains(address))
                .unwrap();
            assert_eq!(holder.node, owner, "{address} ({pod}) is in a block of {owner}");
        }
    }
    // All of it works, not only on paper.
    for to in [&pods[1], &pods[2], &pods[35]] {
        eventually(&format!("a ping to {}", to.pod), || lab.ping("p0", &to.pod));
    }
}

#[test]
fn an_exhausted_pool_is_told_and_a_freed_address_is_given_again() {
    let lab = up(one_rack(1, "10.62.0.0/30", 30));
    let pods = concurrently(&["p0", "p1", "p2", "p3"], |pod| lab.attach(pod, "a").unwrap());
    check_addresses(&lab, &pods).unwrap();

    let late = lab.make_pod("late", "a").unwrap();
    let output = lab.node("a").cni("ADD", &late).unwrap();
    assert_ne!(output.status, 0);
    assert_eq!(output.error_code(), Some(EXHAUSTED), "{}", output.json);
    let text = output.error_text();
    assert!(
        text.contains("10.62.0.0/30") || text.contains("small"),
        "does not name the pool: {text}"
    );
    // Nothing of the attempt is left.
    check_addresses(&lab, &pods).unwrap();
    eventually("no link but those of the four", || {
        let links = lab.node("a").netns().links("cali")?;
        ensure!(links.len() == 4, "{links:?}");
        Ok(())
    });

    lab.detach("p2").unwrap();
    let freed = pods[2].addresses.clone();
    let addresses = eventually("the freed address", || {
        lab.node("a").cni("ADD", &late)?.addresses()
    });
    assert_eq!(addresses, freed);
}
