//! How full the pools are: the numbers behind `routectl ipam show`.
//!
//! Pure: from lists of objects to lists of numbers. A reserved address that is nobody's counts as reserved; one
//! that somebody has nonetheless counts as in use. Objects marked `deleted` are left out.

use datastore::types::{IpPool, IpReservation, IpamBlock};
use ipnet::IpNet;

use crate::reservation::{Reservations, address_count};

/// How full a pool is. `in_use + reserved + free = total`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUse {
    /// The pool's name.
    pub name: String,
    /// Its range.
    pub cidr: IpNet,
    /// Addresses of the range.
    pub total: u128,
    /// Addresses that somebody has, or that cool down.
    pub in_use: u128,
    /// Addresses that are reserved and nobody's.
    pub reserved: u128,
    /// Addresses that can be given out.
    pub free: u128,
    /// Its blocks, in order.
    pub blocks: Vec<BlockUse>,
}

/// How full a block is. `in_use + reserved + free = total`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockUse {
    /// The block.
    pub cidr: IpNet,
    /// `host:<node>`; `None` where it has no owner.
    pub affinity: Option<String>,
    /// Addresses of the block.
    pub total: u128,
    /// Addresses that somebody has, or that cool down.
    pub in_use: u128,
    /// Addresses that are reserved and nobody's.
    pub reserved: u128,
    /// Addresses that can be given out.
    pub free: u128,
    /// Addresses whose owner is on another node than the block's.
    pub borrowed: u128,
}

/// How full each pool is, in the order of `pools`. Blocks in no pool are left out.
pub fn utilisation(pools: &[IpPool], blocks: &[IpamBlock], reservations: &[IpReservation]) -> Vec<PoolUse> {
    let reservations = Reservations::new(reservations);
    pools
        .iter()
        .map(|pool| pool_use(pool, blocks, &reservations))
        .collect()
}

fn pool_use(pool: &IpPool, blocks: &[IpamBlock], reservations: &Reservations) -> PoolUse {
    let cidr = pool.spec.cidr;
    let inside = blocks
        .iter()
        .filter(|b| !b.spec.deleted && cidr.contains(&b.spec.cidr));
    let mut blocks: Vec<BlockUse> = inside.map(|block| block_use(block, reservations)).collect();
    blocks.sort_by_key(|block| block.cidr);
    let total = address_count(&cidr);
    let in_use = blocks.iter().map(|block| block.in_use).sum();
    // Reserved addresses that are in use are in blocks; they count once, as in use.
    let taken: u128 = blocks
        .iter()
        .map(|block| reservations.count_in(&block.cidr) - block.reserved)
        .sum();
    let reserved = reservations.count_in(&cidr).saturating_sub(taken);
    PoolUse {
        name: pool.metadata.name.clone(),
        cidr,
        total,
        in_use,
        reserved,
        free: total.saturating_sub(in_use).saturating_sub(reserved),
        blocks,
    }
}

fn block_use(block: &IpamBlock, reservations: &Reservations) -> BlockUse {
    let spec = &block.spec;
    let used = spec
        .allocations
        .iter()
        .enumerate()
        .filter(|(_, slot)| slot.is_some());
    let in_use = used.clone().count() as u128;
    let host = spec.affinity.as_deref().and_then(crate::names::affinity_host);
    let owner_node = |slot: &Option<usize>| {
        let attribute = slot.and_then(|index| spec.attributes.get(index));
        attribute.and_then(|a| a.secondary.get("node").map(String::as_str))
    };
    let is_borrowed = |slot| owner_node(slot).is_some_and(|node| Some(node) != host);
    let reserved_and_used = used.clone().filter(|(ordinal, _)| {
        let address = crate::block::address_at(&spec.cidr, *ordinal);
        address.is_some_and(|address| reservations.contains(&address))
    });
    let total = address_count(&spec.cidr);
    let reserved = reservations
        .count_in(&spec.cidr)
        .saturating_sub(reserved_and_used.count() as u128);
    BlockUse {
        cidr: spec.cidr,
        affinity: spec.affinity.clone(),
        total,
        in_use,
        reserved,
        free: total.saturating_sub(in_use).saturating_sub(reserved),
        borrowed: used.filter(|(_, slot)| is_borrowed(slot)).count() as u128,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datastore::types::{AllocationAttribute, IpPoolSpec, IpReservationSpec};

    use super::*;
    use crate::{block::Block, names};

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn block(cidr: &str, host: &str, nodes: &[(&str, usize)]) -> IpamBlock {
        let mut block = Block::new(net(cidr), Some(names::host_affinity(host)), None, 1);
        for (node, count) in nodes {
            let owner = AllocationAttribute {
                handle_id: Some((*node).to_string()),
                secondary: BTreeMap::from([("node".to_string(), (*node).to_string())]),
                released_at: None,
            };
            block.assign(*count, &owner, &Reservations::default());
        }
        IpamBlock::new(names::block(block.cidr()), block.into_spec())
    }

    #[test]
    fn counts_every_address_once() {
        let pools = [
            IpPool::new("a", IpPoolSpec::new(net("10.0.0.0/24"))),
            IpPool::new("b", IpPoolSpec::new(net("fd00::/64"))),
        ];
        let mut gone = block("10.0.0.128/26", "n1", &[]);
        gone.spec.deleted = true;
        let blocks = [
            block("10.0.0.64/26", "n2", &[("n2", 2), ("n1", 1)]),
            block("10.0.0.0/26", "n1", &[("n1", 3)]),
            gone,
            block("10.9.0.0/26", "n1", &[("n1", 3)]),
        ];
        // 10.0.0.0-3: three of them in use. 10.0.0.192/28: in no block.
        let reserved_cidrs = vec![net("10.0.0.0/30"), net("10.0.0.192/28")];
        let reservations = [IpReservation::new("r", IpReservationSpec { reserved_cidrs })];
        let report = utilisation(&pools, &blocks, &reservations);
        let a = &report[0];
        assert_eq!((a.total, a.in_use, a.reserved, a.free), (256, 6, 17, 233));
        let cidrs: Vec<String> = a.blocks.iter().map(|b| b.cidr.to_string()).collect();
        assert_eq!(cidrs, ["10.0.0.0/26", "10.0.0.64/26"]);
        let first = &a.blocks[0];
        assert_eq!(
            (first.total, first.in_use, first.reserved, first.free),
            (64, 3, 1, 60)
        );
        assert_eq!(first.affinity.as_deref(), Some("host:n1"));
        assert_eq!((first.borrowed, a.blocks[1].borrowed), (0, 1));
        let b = &report[1];
        assert_eq!(
            (b.total, b.in_use, b.free, b.blocks.len()),
            (1 << 64, 0, 1 << 64, 0)
        );
    }
}
