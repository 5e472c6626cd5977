//! What must be true of all stored objects together, and the words for where it is not.
//!
//! Pure, over lists read from the datastore. Problems come in two sorts: those that must never be, and *residue*,
//! what a crash may leave between two writes and a later request puts right ([`Problem::is_residue`]). Lists read
//! while others write are not of one moment; judge only what is still there on a second look.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use datastore::types::{AffinityState, BlockAffinity, IpamBlock, IpamHandle};
use ipnet::IpNet;

use crate::{
    block::{Block, BlockError, BlockProblem, handle_of},
    names,
};

/// Something wrong with the stored objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A block is not sound in itself.
    Block {
        /// The block.
        cidr: IpNet,
        /// What is wrong with it.
        problem: BlockProblem,
    },
    /// An object is not called what Calico would call it, so nobody finds it.
    Name {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Two blocks have addresses in common.
    Overlap {
        /// One.
        first: IpNet,
        /// The other.
        second: IpNet,
    },
    /// A block names an owner who has no affinity to it.
    NoAffinity {
        /// The block.
        cidr: IpNet,
        /// The owner it names.
        node: String,
        /// True where addresses of it are in use; without, a claim was cut off or lost a race to its own node.
        in_use: bool,
    },
    /// A confirmed affinity whose block does not exist or is another's.
    NoBlock {
        /// The block.
        cidr: IpNet,
        /// The node with the affinity.
        node: String,
        /// Owner that the block names.
        owner: Option<String>,
    },
    /// Several nodes hold a block by a confirmed affinity.
    SeveralOwners {
        /// The block.
        cidr: IpNet,
        /// The nodes.
        nodes: Vec<String>,
    },
    /// An affinity without the labels by which Calico finds it.
    Labels {
        /// Name of the affinity.
        name: String,
    },
    /// A handle counts fewer addresses in a block than it has: releasing it would leave some.
    UnderCount {
        /// The handle.
        handle: String,
        /// The block.
        cidr: IpNet,
        /// What it counts.
        counted: u32,
        /// What it has.
        actual: u32,
    },
    /// A handle counts more addresses in a block than it has.
    OverCount {
        /// The handle.
        handle: String,
        /// The block.
        cidr: String,
        /// What it counts.
        counted: u32,
        /// What it has.
        actual: u32,
    },
    /// A claim or a delete that has not come to its end.
    Unfinished {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What it is in the middle of.
        state: &'static str,
    },
}

impl Problem {
    /// True of what a crash may leave and a later request puts right.
    pub fn is_residue(&self) -> bool {
        match self {
            Problem::NoAffinity { in_use, .. } => !in_use,
            Problem::OverCount { .. } | Problem::Unfinished { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { cidr, problem } => write!(f, "block {cidr}: {problem}"),
            Self::Name {
                kind,
                found,
                expected,
            } => {
                write!(f, "{kind} \"{found}\" should be called \"{expected}\"")
            }
            Self::Overlap { first, second } => write!(f, "blocks {first} and {second} overlap"),
            Self::NoAffinity { cidr, node, .. } => {
                write!(
                    f,
                    "block {cidr} names node \"{node}\", which has no affinity to it"
                )
            }
            Self::NoBlock {
                cidr,
                node,
                owner: None,
            } => {
                write!(
                    f,
                    "node \"{node}\" has a confirmed affinity to {cidr}, but does not own such a block"
                )
            }
            Self::NoBlock {
                cidr,
                node,
                owner: Some(owner),
            } => {
                write!(
                    f,
                    "node \"{node}\" has a confirmed affinity to {cidr}, which is {owner}'s"
                )
            }
            Self::SeveralOwners { cidr, nodes } => {
                write!(f, "block {cidr} is held by several nodes: {}", nodes.join(", "))
            }
            Self::Labels { name } => {
                write!(f, "BlockAffinity \"{name}\" lacks the labels Calico lists it by")
            }
            Self::UnderCount {
                handle,
                cidr,
                counted,
                actual,
            } => {
                write!(
                    f,
                    "handle \"{handle}\" has {actual} addresses in {cidr} but counts {counted}"
                )
            }
            Self::OverCount {
                handle,
                cidr,
                counted,
                actual,
            } => {
                write!(
                    f,
                    "handle \"{handle}\" counts {counted} addresses in {cidr} but has {actual}"
                )
            }
            Self::Unfinished { kind, name, state } => write!(f, "{kind} \"{name}\" is left {state}"),
        }
    }
}

/// Everything wrong with the objects of a cluster; empty where all is well.
pub fn check(blocks: &[IpamBlock], handles: &[IpamHandle], affinities: &[BlockAffinity]) -> Vec<Problem> {
    let mut problems = unfinished(blocks, handles, affinities);
    let blocks: Vec<&IpamBlock> = blocks.iter().filter(|b| !b.spec.deleted).collect();
    let handles: Vec<&IpamHandle> = handles.iter().filter(|h| !h.spec.deleted).collect();
    let affinities: Vec<&BlockAffinity> = affinities.iter().filter(|a| !is_true(&a.spec.deleted)).collect();
    problems.extend(check_blocks(&blocks));
    problems.extend(check_owners(&blocks, &affinities));
    problems.extend(check_affinities(&blocks, &affinities));
    problems.extend(check_handles(&blocks, &handles));
    problems
}

/// The words that Calico's reader takes for true, in an affinity's `deleted`.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "True" | "TRUE")
}

fn unfinished(blocks: &[IpamBlock], handles: &[IpamHandle], affinities: &[BlockAffinity]) -> Vec<Problem> {
    let problem = |kind, name: &str, state| Problem::Unfinished {
        kind,
        name: name.to_string(),
        state,
    };
    let mut problems = Vec::new();
    for block in blocks.iter().filter(|b| b.spec.deleted) {
        problems.push(problem("IPAMBlock", &block.metadata.name, "deleted"));
    }
    for handle in handles.iter().filter(|h| h.spec.deleted) {
        problems.push(problem("IPAMHandle", &handle.metadata.name, "deleted"));
    }
    for affinity in affinities {
        let state = match affinity.spec.state {
            _ if is_true(&affinity.spec.deleted) => "deleted",
            AffinityState::Pending => "pending",
            AffinityState::PendingDeletion => "pendingDeletion",
            AffinityState::Confirmed => continue,
        };
        problems.push(problem("BlockAffinity", &affinity.metadata.name, state));
    }
    problems
}

fn check_blocks(blocks: &[&IpamBlock]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for block in blocks {
        let cidr = block.spec.cidr;
        let flaws = match Block::from_spec(block.spec.clone()) {
            Ok(block) => block.check(),
            Err(BlockError::Damaged { problem, .. }) => vec![problem],
            Err(_) => Vec::new(),
        };
        problems.extend(flaws.into_iter().map(|problem| Problem::Block { cidr, problem }));
        problems.extend(check_name("IPAMBlock", &block.metadata.name, names::block(&cidr)));
    }
    let mut cidrs: Vec<IpNet> = blocks.iter().map(|block| block.spec.cidr).collect();
    // A network comes right before those inside it.
    cidrs.sort();
    let mut widest: Option<IpNet> = None;
    for cidr in cidrs {
        match widest.filter(|network| network.contains(&cidr)) {
            Some(first) => problems.push(Problem::Overlap { first, second: cidr }),
            None => widest = Some(cidr),
        }
    }
    problems
}

fn check_name(kind: &'static str, found: &str, expected: String) -> Option<Problem> {
    (found != expected).then(|| Problem::Name {
        kind,
        found: found.to_string(),
        expected,
    })
}

fn check_owners(blocks: &[&IpamBlock], affinities: &[&BlockAffinity]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for block in blocks {
        let cidr = block.spec.cidr;
        let Some(node) = owner(block) else { continue };
        if !affinities
            .iter()
            .any(|a| a.spec.cidr == cidr && a.spec.node == node)
        {
            problems.push(Problem::NoAffinity {
                cidr,
                node: node.to_string(),
                in_use: block.spec.allocations.iter().any(Option::is_some),
            });
        }
    }
    problems
}

fn check_affinities(blocks: &[&IpamBlock], affinities: &[&BlockAffinity]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut holders: BTreeMap<IpNet, Vec<String>> = BTreeMap::new();
    for affinity in affinities {
        let (cidr, node) = (affinity.spec.cidr, &affinity.spec.node);
        let name = &affinity.metadata.name;
        problems.extend(check_name("BlockAffinity", name, names::affinity(node, &cidr)));
        let expected = names::affinity_labels(&affinity.spec);
        if !expected
            .iter()
            .all(|(key, value)| affinity.metadata.labels.get(key) == Some(value))
        {
            problems.push(Problem::Labels { name: name.clone() });
        }
        if affinity.spec.state != AffinityState::Confirmed || is_virtual(affinity) {
            continue;
        }
        holders.entry(cidr).or_default().push(node.clone());
        let block = blocks.iter().find(|block| block.spec.cidr == cidr);
        if block.and_then(|block| owner(block)) != Some(node) {
            problems.push(Problem::NoBlock {
                cidr,
                node: node.clone(),
                owner: block.and_then(|block| block.spec.affinity.clone()),
            });
        }
    }
    let several = holders.into_iter().filter(|(_, nodes)| nodes.len() > 1);
    problems.extend(several.map(|(cidr, nodes)| Problem::SeveralOwners { cidr, nodes }));
    problems
}

fn is_virtual(affinity: &BlockAffinity) -> bool {
    affinity.spec.affinity_type.as_deref().unwrap_or(names::HOST) != names::HOST
}

fn owner(block: &IpamBlock) -> Option<&str> {
    block.spec.affinity.as_deref().and_then(names::affinity_host)
}

/// By handle name and block: how many addresses.
type Counts = BTreeMap<(String, String), u32>;

fn check_handles(blocks: &[&IpamBlock], handles: &[&IpamHandle]) -> Vec<Problem> {
    let (actual, counted) = (count_actual(blocks), count_counted(handles));
    let mut problems = Vec::new();
    for handle in handles {
        let expected = names::handle(&handle.spec.handle_id);
        problems.extend(check_name("IPAMHandle", &handle.metadata.name, expected));
    }
    let keys: BTreeSet<&(String, String)> = actual.keys().chain(counted.keys()).collect();
    for key @ (handle, cidr) in keys {
        let number = |counts: &Counts| counts.get(key).copied().unwrap_or(0);
        let (counted, actual) = (number(&counted), number(&actual));
        let (handle, cidr) = (handle.clone(), cidr.clone());
        match cidr.parse() {
            Ok(cidr) if counted < actual => problems.push(Problem::UnderCount {
                handle,
                cidr,
                counted,
                actual,
            }),
            _ if counted > actual => problems.push(Problem::OverCount {
                handle,
                cidr,
                counted,
                actual,
            }),
            _ => {}
        }
    }
    problems
}

fn count_actual(blocks: &[&IpamBlock]) -> Counts {
    let mut counts = Counts::new();
    for block in blocks {
        let owners = block.spec.allocations.iter().flatten();
        let owners = owners.filter_map(|index| block.spec.attributes.get(*index));
        for handle in owners.filter_map(handle_of) {
            let key = (names::handle(handle), block.spec.cidr.to_string());
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
}

fn count_counted(handles: &[&IpamHandle]) -> Counts {
    let of = |handle: &IpamHandle| {
        let name = handle.metadata.name.clone();
        let counts = handle.spec.block.clone().into_iter();
        counts.map(move |(cidr, count)| ((name.clone(), cidr), count))
    };
    handles.iter().flat_map(|handle| of(handle)).collect()
}

#[cfg(test)]
mod tests;
