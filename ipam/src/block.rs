//! A block of addresses: who has which, and which are free.
//!
//! Pure: no clock, no datastore, no randomness. Addresses are known by their *ordinal*, the distance from the
//! block's first address. Free ordinals wait in a queue, so that an address just released is given out again as
//! late as possible. Owners are kept once in `attributes`, however many addresses they have.
//!
//! Every allocation remembers the block's sequence number at its time; a release that names an older one is
//! refused, because the address has meanwhile become somebody else's. The caller calls [`Block::advance`] once
//! for each write to the datastore, so an allocation's number is always strictly below the block's.
//!
//! What it does not do: it never writes an attribute with only `releasedAt` (an address that cools down), but
//! understands one: such an address is neither free nor anybody's.

mod invariants;
mod release;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr};

use datastore::types::{AllocationAttribute, IpamBlockSpec};
use ipnet::IpNet;

pub use invariants::BlockProblem;
pub use release::Release;

use crate::{names, reservation::Reservations};

/// Prefixes leave at most this many bits for ordinals: Calico's largest block has 4096 addresses.
const MAX_HOST_BITS: u8 = 12;

/// A block that holds its invariants, or at least those that keep an address from being given out twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    spec: IpamBlockSpec,
}

/// Why a block refused an operation. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The stored object cannot be trusted to hand out addresses.
    #[error("block {cidr} is damaged: {problem}")]
    Damaged {
        /// The block.
        cidr: IpNet,
        /// The first thing wrong with it.
        problem: BlockProblem,
    },
    /// The address lies outside.
    #[error("{address} is not in block {cidr}")]
    OutOfRange {
        /// The address.
        address: IpAddr,
        /// The block.
        cidr: IpNet,
    },
    /// The address is in use.
    #[error("{address} is already assigned")]
    Assigned {
        /// The address.
        address: IpAddr,
    },
    /// The release is about an earlier allocation of the address.
    #[error("{address} has been assigned anew: sequence number {found}, not {expected}")]
    StaleSequence {
        /// The address.
        address: IpAddr,
        /// The number that the caller holds.
        expected: u64,
        /// The number of the allocation that stands.
        found: u64,
    },
    /// The address is somebody else's.
    #[error("{address} belongs to handle \"{found}\", not to \"{expected}\"")]
    WrongHandle {
        /// The address.
        address: IpAddr,
        /// The caller's handle.
        expected: String,
        /// The owner's.
        found: String,
    },
}

impl Block {
    /// A block with every address free. `sequence_number` is the time in nanoseconds since 1970, so that a block
    /// deleted and made again never repeats a number.
    pub fn new(
        cidr: IpNet,
        affinity: Option<String>,
        claim_time: Option<String>,
        sequence_number: u64,
    ) -> Self {
        let size = size_of(&cidr);
        Block {
            spec: IpamBlockSpec {
                cidr: cidr.trunc(),
                affinity,
                affinity_claim_time: claim_time,
                allocations: vec![None; size],
                attributes: Vec::new(),
                unallocated: (0..size).collect(),
                sequence_number,
                sequence_number_for_allocation: BTreeMap::new(),
                strict_affinity: false,
                deleted: false,
            },
        }
    }

    /// A stored block. Refused where an address could be given out twice or lost; flaws that do no harm
    /// (an unused attribute) are accepted and shown by [`Block::check`].
    pub fn from_spec(spec: IpamBlockSpec) -> Result<Self, BlockError> {
        let cidr = spec.cidr;
        let block = Block { spec };
        match block.check().into_iter().find(BlockProblem::is_dangerous) {
            Some(problem) => Err(BlockError::Damaged { cidr, problem }),
            None => Ok(block),
        }
    }

    /// The object to store.
    pub fn spec(&self) -> &IpamBlockSpec {
        &self.spec
    }

    /// The object to store.
    pub fn into_spec(self) -> IpamBlockSpec {
        self.spec
    }

    /// The block's network.
    pub fn cidr(&self) -> &IpNet {
        &self.spec.cidr
    }

    /// The node the block belongs to; `None` where it has no owner or a virtual one.
    pub fn host(&self) -> Option<&str> {
        self.spec.affinity.as_deref().and_then(names::affinity_host)
    }

    /// Takes the block from its owner; its addresses stay with theirs.
    pub fn clear_affinity(&mut self) {
        self.spec.affinity = None;
        self.spec.affinity_claim_time = None;
    }

    /// Marks the first half of a delete.
    pub fn mark_deleted(&mut self) {
        self.spec.deleted = true;
    }

    /// Counts one write to the datastore: once before each, whatever it changes.
    pub fn advance(&mut self) {
        self.spec.sequence_number = self.spec.sequence_number.saturating_add(1);
    }

    /// Gives `owner` up to `count` addresses that are free and not reserved, the longest free first.
    pub fn assign(
        &mut self,
        count: usize,
        owner: &AllocationAttribute,
        reserved: &Reservations,
    ) -> Vec<IpAddr> {
        let cidr = self.spec.cidr;
        let eligible = |ordinal: &usize| !address_at(&cidr, *ordinal).is_some_and(|a| reserved.contains(&a));
        let chosen: Vec<usize> = self
            .spec
            .unallocated
            .iter()
            .copied()
            .filter(eligible)
            .take(count)
            .collect();
        self.take(&chosen, owner)
    }

    /// Gives `owner` this very address, reserved or not.
    pub fn assign_address(&mut self, address: IpAddr, owner: &AllocationAttribute) -> Result<(), BlockError> {
        let ordinal = self.ordinal(address)?;
        if !self.spec.unallocated.contains(&ordinal) {
            return Err(BlockError::Assigned { address });
        }
        self.take(&[ordinal], owner);
        Ok(())
    }

    /// Addresses that [`Block::assign`] could give out.
    pub fn free_count(&self, reserved: &Reservations) -> usize {
        let free = self.spec.unallocated.iter();
        let addresses = free.filter_map(|&ordinal| self.address(ordinal));
        addresses.filter(|address| !reserved.contains(address)).count()
    }

    /// Addresses of the block, free or not.
    pub fn size(&self) -> usize {
        self.spec.allocations.len()
    }

    /// Addresses in use, those that cool down included.
    pub fn used_count(&self) -> usize {
        self.spec.allocations.iter().flatten().count()
    }

    /// True where every address is free.
    pub fn is_empty(&self) -> bool {
        self.used_count() == 0
    }

    /// All addresses in use with their owners, in order.
    pub fn allocations(&self) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
        let allocations = self.spec.allocations.iter().enumerate();
        allocations.filter_map(|(ordinal, index)| {
            let attribute = self.spec.attributes.get((*index)?)?;
            Some((self.address(ordinal)?, attribute))
        })
    }

    /// The addresses of a handle, in order.
    pub fn addresses_of(&self, handle: &str) -> Vec<IpAddr> {
        let allocations = self.allocations();
        let own = allocations.filter(|(_, owner)| is_handle(owner, handle));
        own.map(|(address, _)| address).collect()
    }

    /// Who has the address; `None` where it is free or outside.
    pub fn owner_of(&self, address: IpAddr) -> Option<&AllocationAttribute> {
        let ordinal = self.ordinal(address).ok()?;
        let index = (*self.spec.allocations.get(ordinal)?)?;
        self.spec.attributes.get(index)
    }

    /// The sequence number of an address's allocation; 0 for one made before there were such numbers.
    pub fn sequence_of(&self, address: IpAddr) -> Option<u64> {
        let ordinal = self.ordinal(address).ok()?;
        Some(self.sequence_at(ordinal))
    }

    /// The address at an ordinal; `None` beyond the block's end.
    pub fn address(&self, ordinal: usize) -> Option<IpAddr> {
        address_at(&self.spec.cidr, ordinal)
    }

    /// The ordinal of an address.
    pub fn ordinal(&self, address: IpAddr) -> Result<usize, BlockError> {
        let cidr = self.spec.cidr;
        let offset = match (cidr.network(), address) {
            _ if !cidr.contains(&address) => None,
            (IpAddr::V4(first), IpAddr::V4(address)) => Some(u128::from(address.to_bits() - first.to_bits())),
            (IpAddr::V6(first), IpAddr::V6(address)) => Some(address.to_bits() - first.to_bits()),
            _ => None,
        };
        offset
            .and_then(|offset| usize::try_from(offset).ok())
            .ok_or(BlockError::OutOfRange { address, cidr })
    }

    /// Moves free ordinals to an owner.
    fn take(&mut self, ordinals: &[usize], owner: &AllocationAttribute) -> Vec<IpAddr> {
        if ordinals.is_empty() {
            return Vec::new();
        }
        let index = self.find_or_add(owner);
        let sequence = self.spec.sequence_number;
        for &ordinal in ordinals {
            if let Some(slot) = self.spec.allocations.get_mut(ordinal) {
                *slot = Some(index);
            }
            let numbers = &mut self.spec.sequence_number_for_allocation;
            numbers.insert(ordinal.to_string(), sequence);
        }
        self.spec.unallocated.retain(|free| !ordinals.contains(free));
        ordinals
            .iter()
            .filter_map(|&ordinal| self.address(ordinal))
            .collect()
    }

    fn find_or_add(&mut self, owner: &AllocationAttribute) -> usize {
        let attributes = &mut self.spec.attributes;
        attributes.iter().position(|a| a == owner).unwrap_or_else(|| {
            attributes.push(owner.clone());
            attributes.len() - 1
        })
    }

    fn sequence_at(&self, ordinal: usize) -> u64 {
        let numbers = &self.spec.sequence_number_for_allocation;
        numbers.get(&ordinal.to_string()).copied().unwrap_or(0)
    }
}

/// True where an attribute's handle is this one. Case does not count: handles that differ in case alone share
/// one `IPAMHandle` object. What follows a carriage return does not either (old migrations wrote such handles).
pub(crate) fn is_handle(owner: &AllocationAttribute, handle: &str) -> bool {
    handle_of(owner).is_some_and(|found| found.eq_ignore_ascii_case(handle))
}

/// The handle of an attribute, as it can be compared.
pub(crate) fn handle_of(owner: &AllocationAttribute) -> Option<&str> {
    owner
        .handle_id
        .as_deref()
        .map(|id| id.split('\r').next().unwrap_or(id))
}

pub(crate) fn address_at(cidr: &IpNet, ordinal: usize) -> Option<IpAddr> {
    let address = match cidr.network() {
        IpAddr::V4(first) => IpAddr::V4(first.to_bits().checked_add(u32::try_from(ordinal).ok()?)?.into()),
        IpAddr::V6(first) => IpAddr::V6(first.to_bits().checked_add(ordinal as u128)?.into()),
    };
    cidr.contains(&address).then_some(address)
}

/// Addresses in a network that is not too large to be a block.
fn size_of(cidr: &IpNet) -> usize {
    1 << host_bits(cidr).min(MAX_HOST_BITS)
}

fn host_bits(cidr: &IpNet) -> u8 {
    cidr.max_prefix_len() - cidr.prefix_len()
}
