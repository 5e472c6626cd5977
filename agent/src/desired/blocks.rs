//! Which blocks are this node's, and what of them is announced.

use std::collections::{BTreeMap, BTreeSet};

use bgp::LocalRoute;
use datastore::types::{AffinityState, BlockAffinity};
use ipnet::IpNet;

use crate::snapshot::Snapshot;

/// The blocks this node has a confirmed claim on.
pub fn own_blocks(snapshot: &Snapshot) -> BTreeSet<IpNet> {
    let own = snapshot
        .affinities
        .all
        .values()
        .filter(|affinity| is_confirmed_for(affinity, &snapshot.node));
    own.map(|affinity| affinity.spec.cidr).collect()
}

fn is_confirmed_for(affinity: &BlockAffinity, node: &str) -> bool {
    let spec = &affinity.spec;
    // Calico wrote affinities without a type before it knew another one than host.
    let of_host = spec
        .affinity_type
        .as_deref()
        .is_none_or(|kind| kind.is_empty() || kind == "host");
    spec.node == node && of_host && spec.state == AffinityState::Confirmed && spec.deleted != "true"
}

/// What is announced: the node's blocks, and the addresses of its pods and its tunnel that are in somebody else's block
/// (borrowed), save those in a pool with `disableBGPExport`.
pub fn announced(snapshot: &Snapshot, own_blocks: &BTreeSet<IpNet>) -> BTreeMap<IpNet, LocalRoute> {
    let addresses = snapshot
        .attachments
        .values()
        .flat_map(|attachment| attachment.addresses.iter().copied())
        .chain(snapshot.tunnel.address().map(std::net::IpAddr::V4));
    let borrowed = addresses
        .map(IpNet::from)
        .filter(|address| !own_blocks.iter().any(|block| block.contains(address)));
    let exported = |net: &IpNet| {
        snapshot
            .pool_of(net)
            .is_none_or(|pool| !pool.spec.disable_bgp_export)
    };
    let all = own_blocks.iter().copied().chain(borrowed);
    all.filter(exported)
        .map(|net| (net, LocalRoute::default()))
        .collect()
}
