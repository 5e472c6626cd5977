//! Each rule, broken once.

use datastore::types::{AllocationAttribute, BlockAffinitySpec, IpamHandleSpec};

use super::*;
use crate::reservation::Reservations;

struct Cluster {
    blocks: Vec<IpamBlock>,
    handles: Vec<IpamHandle>,
    affinities: Vec<BlockAffinity>,
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn affinity(node: &str, cidr: &str) -> BlockAffinity {
    let spec = BlockAffinitySpec {
        state: AffinityState::Confirmed,
        node: node.to_string(),
        affinity_type: Some("host".to_string()),
        cidr: net(cidr),
        deleted: "false".to_string(),
    };
    let mut affinity = BlockAffinity::new(names::affinity(node, &spec.cidr), spec);
    affinity.metadata.labels = names::affinity_labels(&affinity.spec);
    affinity
}

/// One node with one block, of which the handle "h" has two addresses.
fn sound() -> Cluster {
    let mut block = Block::new(net("10.0.0.0/26"), Some("host:n1".to_string()), None, 7);
    let owner = AllocationAttribute {
        handle_id: Some("h".to_string()),
        ..AllocationAttribute::default()
    };
    block.assign(2, &owner, &Reservations::default());
    block.advance();
    let spec = IpamHandleSpec {
        handle_id: "H".to_string(),
        block: BTreeMap::from([("10.0.0.0/26".to_string(), 2)]),
        deleted: false,
    };
    Cluster {
        blocks: vec![IpamBlock::new("10-0-0-0-26", block.into_spec())],
        handles: vec![IpamHandle::new("h", spec)],
        affinities: vec![affinity("n1", "10.0.0.0/26")],
    }
}

fn problems(change: impl FnOnce(&mut Cluster)) -> Vec<String> {
    let mut cluster = sound();
    change(&mut cluster);
    let found = check(&cluster.blocks, &cluster.handles, &cluster.affinities);
    found
        .iter()
        .map(|p| format!("{}{p}", if p.is_residue() { "residue: " } else { "" }))
        .collect()
}

#[test]
fn a_sound_cluster_has_no_problems() {
    assert_eq!(problems(|_| {}), [""; 0]);
}

#[test]
fn a_damaged_block() {
    let found = problems(|c| c.blocks[0].spec.unallocated.push(0));
    assert_eq!(found, ["block 10.0.0.0/26: ordinal 0 is both allocated and free"]);
}

#[test]
fn overlapping_blocks() {
    let found = problems(|c| {
        for cidr in ["10.0.0.32/28", "10.0.0.64/26"] {
            let block = Block::new(net(cidr), None, None, 1);
            c.blocks
                .push(IpamBlock::new(names::block(&net(cidr)), block.into_spec()));
        }
    });
    assert_eq!(found, ["blocks 10.0.0.0/26 and 10.0.0.32/28 overlap"]);
}

#[test]
fn owners_and_affinities_that_disagree() {
    let found = problems(|c| c.affinities.clear());
    assert_eq!(
        found,
        ["block 10.0.0.0/26 names node \"n1\", which has no affinity to it"]
    );
    let found = problems(|c| c.affinities.push(affinity("n2", "10.0.0.0/26")));
    assert_eq!(
        found,
        [
            "node \"n2\" has a confirmed affinity to 10.0.0.0/26, which is host:n1's",
            "block 10.0.0.0/26 is held by several nodes: n1, n2",
        ]
    );
    let found = problems(|c| c.affinities.push(affinity("n1", "10.0.0.64/26")));
    let expected = "node \"n1\" has a confirmed affinity to 10.0.0.64/26, but does not own such a block";
    assert_eq!(found, [expected]);
}

#[test]
fn names_and_labels() {
    let found = problems(|c| {
        c.blocks[0].metadata.name = "b".to_string();
        c.handles[0].spec.handle_id = "other".to_string();
        c.affinities[0].metadata.name = "a".to_string();
        c.affinities[0].metadata.labels.clear();
    });
    assert_eq!(
        found,
        [
            "IPAMBlock \"b\" should be called \"10-0-0-0-26\"",
            "BlockAffinity \"a\" should be called \"n1-10-0-0-0-26\"",
            "BlockAffinity \"a\" lacks the labels Calico lists it by",
            "IPAMHandle \"h\" should be called \"other\"",
        ]
    );
}

#[test]
fn counts() {
    let found = problems(|c| {
        c.handles[0].spec.block.insert("10.0.0.0/26".to_string(), 1);
        c.handles[0].spec.block.insert("10.0.0.64/26".to_string(), 1);
    });
    assert_eq!(
        found,
        [
            "handle \"h\" has 2 addresses in 10.0.0.0/26 but counts 1",
            "residue: handle \"h\" counts 1 addresses in 10.0.0.64/26 but has 0",
        ]
    );
    let found = problems(|c| c.handles.clear());
    assert_eq!(
        found,
        ["handle \"h\" has 2 addresses in 10.0.0.0/26 but counts 0"]
    );
}

#[test]
fn what_is_not_finished_is_residue() {
    let found = problems(|c| {
        c.affinities[0].spec.state = AffinityState::Pending;
        let mut going = affinity("n1", "10.0.0.64/26");
        going.spec.state = AffinityState::PendingDeletion;
        let mut gone = affinity("n2", "10.0.0.0/26");
        gone.spec.deleted = "True".to_string();
        c.affinities.extend([going, gone]);
    });
    assert_eq!(
        found,
        [
            "residue: BlockAffinity \"n1-10-0-0-0-26\" is left pending",
            "residue: BlockAffinity \"n1-10-0-0-64-26\" is left pendingDeletion",
            "residue: BlockAffinity \"n2-10-0-0-0-26\" is left deleted",
        ]
    );
}
