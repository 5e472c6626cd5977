//! Giving addresses back: checked against sequence number and handle, all or none, and the attributes that
//! nobody uses any more removed.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Block, BlockError, handle_of, is_handle};

/// An address to release, and what must still be true of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The address.
    pub address: IpAddr,
    /// Only if this handle has it.
    pub handle: Option<String>,
    /// Only if it is still this allocation.
    pub sequence_number: Option<u64>,
}

impl Release {
    /// A release without conditions.
    pub fn of(address: IpAddr) -> Self {
        Release {
            address,
            handle: None,
            sequence_number: None,
        }
    }
}

impl Block {
    /// Releases addresses, all or none; gives back those that were in use. One that is free already, or named
    /// twice, does no harm.
    pub fn release(&mut self, releases: &[Release]) -> Result<Vec<IpAddr>, BlockError> {
        let mut ordinals = Vec::new();
        for release in releases {
            let ordinal = self.ordinal(release.address)?;
            if self.is_releasable(ordinal, release)? && !ordinals.contains(&ordinal) {
                ordinals.push(ordinal);
            }
        }
        Ok(self.free(&ordinals))
    }

    /// Releases all addresses of a handle, in order; gives them back.
    pub fn release_handle(&mut self, handle: &str) -> Vec<IpAddr> {
        let slots = self.spec.allocations.iter().enumerate();
        let own = slots.filter(|(_, index)| {
            let owner = index.and_then(|index| self.spec.attributes.get(index));
            owner.is_some_and(|owner| is_handle(owner, handle))
        });
        let ordinals: Vec<usize> = own.map(|(ordinal, _)| ordinal).collect();
        self.free(&ordinals)
    }

    /// False where the address is free already; an error where it is not the one meant.
    fn is_releasable(&self, ordinal: usize, release: &Release) -> Result<bool, BlockError> {
        let address = release.address;
        let Some(owner) = self.owner_of(address) else {
            return Ok(false);
        };
        let found = self.sequence_at(ordinal);
        if let Some(expected) = release.sequence_number.filter(|&expected| expected != found) {
            return Err(BlockError::StaleSequence {
                address,
                expected,
                found,
            });
        }
        match &release.handle {
            Some(expected) if !is_handle(owner, expected) => Err(BlockError::WrongHandle {
                address,
                expected: expected.clone(),
                found: handle_of(owner).unwrap_or_default().to_string(),
            }),
            _ => Ok(true),
        }
    }

    /// Puts allocated ordinals at the end of the queue.
    fn free(&mut self, ordinals: &[usize]) -> Vec<IpAddr> {
        for &ordinal in ordinals {
            if let Some(slot) = self.spec.allocations.get_mut(ordinal) {
                *slot = None;
            }
            let numbers = &mut self.spec.sequence_number_for_allocation;
            numbers.remove(&ordinal.to_string());
        }
        self.spec.unallocated.extend_from_slice(ordinals);
        self.compact_attributes();
        ordinals
            .iter()
            .filter_map(|&ordinal| self.address(ordinal))
            .collect()
    }

    /// Drops the attributes that no address uses and renumbers the rest in their order.
    fn compact_attributes(&mut self) {
        let used: BTreeSet<usize> = self.spec.allocations.iter().flatten().copied().collect();
        if used.len() == self.spec.attributes.len() {
            return;
        }
        let renumbered = |old: usize| used.range(..old).count();
        for slot in self.spec.allocations.iter_mut().flatten() {
            *slot = renumbered(*slot);
        }
        let mut index = 0;
        self.spec.attributes.retain(|_| {
            index += 1;
            used.contains(&(index - 1))
        });
    }
}
