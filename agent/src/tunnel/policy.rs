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

#[cfg(test)]
mod tests {
    use datastore::types::IpPoolSpec;

    use super::*;

    fn pool(name: &str, cidr: &str, change: impl FnOnce(&mut IpPoolSpec)) -> IpPool {
        let mut spec = IpPoolSpec::new(cidr.parse().unwrap());
        spec.ipip_mode = EncapMode::Always;
        change(&mut spec);
        IpPool::new(name, spec)
    }

    #[test]
    fn only_pools_that_encapsulate_and_may_give_the_node_an_address_are_asked_for_one() {
        let pools = [
            pool("plain", "10.1.0.0/16", |spec| spec.ipip_mode = EncapMode::Never),
            pool("good", "10.2.0.0/16", |_| {}),
            pool("disabled", "10.3.0.0/16", |spec| spec.disabled = true),
            pool("pods-only", "10.4.0.0/16", |spec| {
                spec.allowed_uses = vec![AllowedUse::Workload];
            }),
            pool("other-rack", "10.5.0.0/16", |spec| {
                spec.node_selector = "rack == 'b'".into();
            }),
            pool("crossing", "10.6.0.0/16", |spec| {
                spec.ipip_mode = EncapMode::CrossSubnet;
            }),
        ];
        let labels = BTreeMap::from([("rack".to_string(), "a".to_string())]);
        let choice = address_pools(&pools, &labels);
        let names: Vec<&str> = choice
            .eligible
            .iter()
            .map(|pool| pool.metadata.name.as_str())
            .collect();
        assert_eq!(names, ["good", "crossing"]);
        let rejected: Vec<&str> = choice.rejected.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(rejected, ["disabled", "pods-only", "other-rack"]);
    }

    #[test]
    fn a_disabled_pool_still_needs_the_device_and_keeps_its_addresses() {
        let disabled = [pool("disabled", "10.3.0.0/16", |spec| spec.disabled = true)];
        assert!(is_asked_for(&disabled));
        assert!(may_keep("10.3.0.7".parse().unwrap(), &disabled));
        assert!(!may_keep("10.4.0.7".parse().unwrap(), &disabled));
        let plain = [pool("plain", "10.3.0.0/16", |spec| {
            spec.ipip_mode = EncapMode::Never
        })];
        assert!(!is_asked_for(&plain));
        assert!(!may_keep("10.3.0.7".parse().unwrap(), &plain));
    }
}
