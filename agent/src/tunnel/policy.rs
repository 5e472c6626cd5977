//! What the pools ask of the tunnel. Pure.
//!
//! A pool that is disabled gives no new address, but its pods are there still: it asks for the device like any other.

use std::{collections::BTreeMap, net::Ipv4Addr};

use datastore::types::{AllowedUse, EncapMode, IpPool};
use ipam::pool::{Choice, Family, Requester, choose};
use ipnet::IpNet;

/// True where packets of the pool are encapsulated, at least some.
pub(super) fn is_ipip(pool: &IpPool) -> bool {
    pool.spec.ipip_mode != EncapMode::Never && pool.spec.cidr.addr().is_ipv4()
}

/// True where the node needs the device.
pub fn is_asked_for<'a>(pools: impl IntoIterator<Item = &'a IpPool>) -> bool {
    pools.into_iter().any(is_ipip)
}

/// The pools that may give this node's device an address, and why the others may not.
pub(super) fn address_pools<'a>(
    pools: impl IntoIterator<Item = &'a IpPool>,
    node_labels: &BTreeMap<String, String>,
) -> Choice {
    let pools: Vec<IpPool> = pools.into_iter().filter(|pool| is_ipip(pool)).cloned().collect();
    let requester = Requester {
        family: Family::V4,
        use_: AllowedUse::Tunnel,
        node_labels,
        namespace_labels: None,
    };
    // It fails only for pools asked for by name.
    choose(&pools, &[], &requester).unwrap_or_default()
}

/// True where the device may keep an address: it is in a pool whose packets are encapsulated. One that gives no new
/// addresses any more is no reason to change it under the connections that use it.
pub(super) fn may_keep<'a>(address: Ipv4Addr, pools: impl IntoIterator<Item = &'a IpPool>) -> bool {
    let address = IpNet::from(std::net::IpAddr::V4(address));
    pools
        .into_iter()
        .any(|pool| is_ipip(pool) && pool.spec.cidr.contains(&address))
}
