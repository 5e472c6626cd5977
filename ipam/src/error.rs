//! What can go wrong in address management: one variant for each thing a caller does differently.

use std::fmt;

use crate::{
    block::BlockError,
    pool::{Family, PoolRequestError},
};

/// The result of the allocator's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an address could not be assigned or released.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Others kept writing the object first. Trying again later may work.
    #[error("gave up on {object} after {attempts} conflicting writes")]
    Conflict {
        /// Kind and name.
        object: String,
        /// Writes tried.
        attempts: u32,
    },
    /// The pools have no address left for this request. Nothing was assigned.
    #[error(transparent)]
    Exhausted(Box<Exhausted>),
    /// No state of the cluster could satisfy the request. Nothing was assigned.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// A stored block is damaged, or an address is not as the caller thinks. Nothing has changed.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The datastore failed. Whether the last write took effect may be unknown: to be sure that nothing of a
    /// failed [`assign`](crate::Allocator::assign) stays, release its handle.
    #[error(transparent)]
    Datastore(#[from] datastore::Error),
}

/// A request that contradicts itself or names what is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// An assignment must have a handle, or it could not be released.
    #[error("handle: must not be empty")]
    NoHandle,
    /// Nothing was asked for.
    #[error("ipv4 and ipv6: at least one address must be asked for")]
    NoAddress,
    /// A pool that is not there or of the wrong family.
    #[error(transparent)]
    Pool(#[from] PoolRequestError),
}

/// No address left, and where it was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// Family of the address.
    pub family: Family,
    /// The node that asked.
    pub node: String,
    /// Addresses wanted.
    pub wanted: u32,
    /// Addresses found, and given back.
    pub found: u32,
    /// Each pool of the family (or of those asked for), and why it gave none or not enough.
    pub pools: Vec<(String, String)>,
}

impl std::error::Error for Exhausted {}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exhausted {
            family, node, wanted, ..
        } = self;
        write!(f, "no {family} address left for node \"{node}\"")?;
        if *wanted > 1 {
            write!(f, " ({} of {wanted} found)", self.found)?;
        }
        if self.pools.is_empty() {
            return write!(f, ": there is no {family} pool");
        }
        for (i, (name, reason)) in self.pools.iter().enumerate() {
            let separator = if i == 0 { ": " } else { "; " };
            write!(f, "{separator}pool \"{name}\": {reason}")?;
        }
        Ok(())
    }
}
