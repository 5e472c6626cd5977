//! What is always true of a block, and the words for where it is not.

use std::{collections::BTreeSet, fmt};

use super::{Block, MAX_HOST_BITS, host_bits};

/// Something wrong with a stored block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockProblem {
    /// The network has host bits set or is too large for a block.
    Network,
    /// `allocations` has not one entry an address.
    Length {
        /// Addresses of the block.
        expected: usize,
        /// Entries.
        found: usize,
    },
    /// An allocation refers to an attribute that is not there.
    NoAttribute {
        /// The ordinal.
        ordinal: usize,
        /// The index it refers to.
        index: usize,
    },
    /// An ordinal is both allocated and free.
    BothFreeAndUsed {
        /// The ordinal.
        ordinal: usize,
    },
    /// An ordinal is neither allocated nor free.
    NeitherFreeNorUsed {
        /// The ordinal.
        ordinal: usize,
    },
    /// An ordinal is in the free queue twice.
    FreeTwice {
        /// The ordinal.
        ordinal: usize,
    },
    /// The free queue holds an ordinal beyond the block's end.
    FreeOutOfRange {
        /// The ordinal.
        ordinal: usize,
    },
    /// An attribute that no address uses.
    UnusedAttribute {
        /// Its index.
        index: usize,
    },
    /// Two attributes that are equal.
    DuplicateAttribute {
        /// The second one's index.
        index: usize,
    },
    /// An allocation's sequence number is not below the block's.
    SequenceTooHigh {
        /// The ordinal.
        ordinal: usize,
    },
    /// A sequence number for an ordinal that is not allocated.
    StraySequence {
        /// The key.
        key: String,
    },
}

impl BlockProblem {
    /// True where handing out or releasing addresses could do harm; the rest is only untidy.
    pub fn is_dangerous(&self) -> bool {
        !matches!(
            self,
            BlockProblem::NeitherFreeNorUsed { .. }
                | BlockProblem::UnusedAttribute { .. }
                | BlockProblem::DuplicateAttribute { .. }
                | BlockProblem::SequenceTooHigh { .. }
                | BlockProblem::StraySequence { .. }
        )
    }
}

impl fmt::Display for BlockProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => write!(
                f,
                "cidr has host bits set or more than 2^{MAX_HOST_BITS} addresses"
            ),
            Self::Length { expected, found } => {
                write!(f, "allocations has {found} entries instead of {expected}")
            }
            Self::NoAttribute { ordinal, index } => {
                write!(
                    f,
                    "ordinal {ordinal} refers to attribute {index}, which does not exist"
                )
            }
            Self::BothFreeAndUsed { ordinal } => write!(f, "ordinal {ordinal} is both allocated and free"),
            Self::NeitherFreeNorUsed { ordinal } => {
                write!(f, "ordinal {ordinal} is neither allocated nor free")
            }
            Self::FreeTwice { ordinal } => write!(f, "ordinal {ordinal} is in unallocated twice"),
            Self::FreeOutOfRange { ordinal } => write!(f, "unallocated ordinal {ordinal} is out of range"),
            Self::UnusedAttribute { index } => write!(f, "attribute {index} is not used"),
            Self::DuplicateAttribute { index } => write!(f, "attribute {index} repeats an earlier one"),
            Self::SequenceTooHigh { ordinal } => {
                write!(f, "sequence number of ordinal {ordinal} is not below the block's")
            }
            Self::StraySequence { key } => {
                write!(
                    f,
                    "sequence number for \"{key}\", which is not an allocated ordinal"
                )
            }
        }
    }
}

impl Block {
    /// Everything wrong with the block; empty where all is well.
    pub fn check(&self) -> Vec<BlockProblem> {
        let cidr = self.spec.cidr;
        if cidr != cidr.trunc() || host_bits(&cidr) > MAX_HOST_BITS {
            return vec![BlockProblem::Network];
        }
        let (expected, found) = (super::size_of(&cidr), self.spec.allocations.len());
        if expected != found {
            return vec![BlockProblem::Length { expected, found }];
        }
        let mut problems = self.check_free_queue();
        problems.extend(self.check_attributes());
        problems.extend(self.check_sequence_numbers());
        problems
    }

    fn check_free_queue(&self) -> Vec<BlockProblem> {
        let mut problems = Vec::new();
        let mut free = BTreeSet::new();
        for &ordinal in &self.spec.unallocated {
            match self.spec.allocations.get(ordinal) {
                None => problems.push(BlockProblem::FreeOutOfRange { ordinal }),
                Some(_) if !free.insert(ordinal) => problems.push(BlockProblem::FreeTwice { ordinal }),
                Some(Some(_)) => problems.push(BlockProblem::BothFreeAndUsed { ordinal }),
                Some(None) => {}
            }
        }
        let slots = self.spec.allocations.iter().enumerate();
        let lost = slots.filter(|(ordinal, slot)| slot.is_none() && !free.contains(ordinal));
        problems.extend(lost.map(|(ordinal, _)| BlockProblem::NeitherFreeNorUsed { ordinal }));
        problems
    }

    fn check_attributes(&self) -> Vec<BlockProblem> {
        let attributes = &self.spec.attributes;
        let mut problems = Vec::new();
        let mut used = BTreeSet::new();
        for (ordinal, slot) in self.spec.allocations.iter().enumerate() {
            if let Some(index) = *slot {
                used.insert(index);
                if index >= attributes.len() {
                    problems.push(BlockProblem::NoAttribute { ordinal, index });
                }
            }
        }
        for (index, attribute) in attributes.iter().enumerate() {
            if !used.contains(&index) {
                problems.push(BlockProblem::UnusedAttribute { index });
            }
            if attributes.iter().take(index).any(|earlier| earlier == attribute) {
                problems.push(BlockProblem::DuplicateAttribute { index });
            }
        }
        problems
    }

    fn check_sequence_numbers(&self) -> Vec<BlockProblem> {
        let numbers = self.spec.sequence_number_for_allocation.iter();
        let problem = |(key, number): (&String, &u64)| {
            let ordinal = key.parse::<usize>().ok();
            match ordinal.filter(|&o| matches!(self.spec.allocations.get(o), Some(Some(_)))) {
                None => Some(BlockProblem::StraySequence { key: key.clone() }),
                Some(ordinal) if *number >= self.spec.sequence_number => {
                    Some(BlockProblem::SequenceTooHigh { ordinal })
                }
                Some(_) => None,
            }
        };
        numbers.filter_map(problem).collect()
    }
}
