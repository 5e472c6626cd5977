//! Pools: which of them a node may use, and which blocks they have.
//!
//! Pure. A pool that may not be used is left out *with its reason*, so that "no address" can be explained. Pools
//! asked for by name or CIDR are used whatever their selectors and assignment mode say, as Calico does; that they
//! are disabled, being deleted or meant for another use still counts.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use datastore::{
    Selector,
    types::{AllowedUse, AssignmentMode, IpPool},
};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::reservation::{Reservations, address_count};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of a network.
    pub fn of(cidr: &IpNet) -> Self {
        match cidr {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Who asks for an address, as far as pools care.
#[derive(Debug, Clone, Copy)]
pub struct Requester<'a> {
    /// Family of the address.
    pub family: Family,
    /// What it is for.
    pub use_: AllowedUse,
    /// Labels of the node; empty where the node has no object.
    pub node_labels: &'a BTreeMap<String, String>,
    /// Labels of the pod's namespace, where known.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
}

/// Why a pool is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// `disabled: true`.
    Disabled,
    /// It is being deleted.
    Deleting,
    /// `allowedUses` does not say so.
    Use(AllowedUse),
    /// `assignmentMode: Manual`, and it was not asked for.
    Manual,
    /// `nodeSelector` does not match the node's labels.
    NodeSelector(String),
    /// `namespaceSelector` does not match the namespace's labels, or these are not known.
    NamespaceSelector(String),
    /// A selector that does not parse, and why.
    BadSelector(String, String),
    /// `blockSize` is out of range for the pool.
    BlockSize(u8),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => write!(f, "disabled"),
            Self::Deleting => write!(f, "being deleted"),
            Self::Use(use_) => write!(f, "allowedUses lacks {use_:?}"),
            Self::Manual => write!(f, "assignmentMode is Manual and the pool was not asked for"),
            Self::NodeSelector(text) => write!(f, "nodeSelector \"{text}\" does not match the node"),
            Self::NamespaceSelector(text) => {
                write!(f, "namespaceSelector \"{text}\" does not match the namespace")
            }
            Self::BadSelector(text, why) => write!(f, "selector \"{text}\" does not parse: {why}"),
            Self::BlockSize(size) => write!(f, "blockSize {size} does not fit the pool"),
        }
    }
}

/// A request that no state of the cluster could satisfy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolRequestError {
    /// No pool has that name or CIDR.
    #[error("unknown pool \"{requested}\": expected the name or CIDR of one of: {known}")]
    Unknown {
        /// What was asked for.
        requested: String,
        /// Names of the pools there are.
        known: String,
    },
    /// The pool is of the other family.
    #[error("pool \"{requested}\" is {found} and cannot give an {wanted} address")]
    Family {
        /// What was asked for.
        requested: String,
        /// The pool's family.
        found: Family,
        /// The family wanted.
        wanted: Family,
    },
}

/// The pools to look in, in order, and those passed over.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Pools to use.
    pub eligible: Vec<IpPool>,
    /// Names of the others of the family, and why.
    pub rejected: Vec<(String, Rejection)>,
}

/// Sorts the pools of the requester's family into those it may use and those it may not. `requested` (names or
/// CIDRs) narrows and orders them; empty means any.
pub fn choose(
    pools: &[IpPool],
    requested: &[String],
    requester: &Requester<'_>,
) -> Result<Choice, PoolRequestError> {
    let mut choice = Choice::default();
    for pool in candidates(pools, requested, requester.family)? {
        match rejection(pool, !requested.is_empty(), requester) {
            None => choice.eligible.push(pool.clone()),
            Some(why) => choice.rejected.push((pool.metadata.name.clone(), why)),
        }
    }
    Ok(choice)
}

/// True where the pool's own selector would let the node keep an empty block of it.
pub fn selects_node(pool: &IpPool, node_labels: &BTreeMap<String, String>) -> bool {
    mismatch(&pool.spec.node_selector, node_labels).is_none()
}

fn candidates<'a>(
    pools: &'a [IpPool],
    requested: &[String],
    family: Family,
) -> Result<Vec<&'a IpPool>, PoolRequestError> {
    if requested.is_empty() {
        let same_family = |pool: &&IpPool| Family::of(&pool.spec.cidr) == family;
        return Ok(pools.iter().filter(same_family).collect());
    }
    let mut found: Vec<&IpPool> = Vec::new();
    for name in requested {
        let pool = find(pools, name).ok_or_else(|| unknown(pools, name))?;
        let pool_family = Family::of(&pool.spec.cidr);
        if pool_family != family {
            return Err(PoolRequestError::Family {
                requested: name.clone(),
                found: pool_family,
                wanted: family,
            });
        }
        if !found.iter().any(|p| p.metadata.name == pool.metadata.name) {
            found.push(pool);
        }
    }
    Ok(found)
}

/// By name first: a pool may be called like another's CIDR, however unwisely.
fn find<'a>(pools: &'a [IpPool], requested: &str) -> Option<&'a IpPool> {
    let cidr = requested.parse::<IpNet>().ok().map(|cidr| cidr.trunc());
    let by_name = pools.iter().find(|pool| pool.metadata.name == requested);
    by_name.or_else(|| pools.iter().find(|pool| Some(pool.spec.cidr) == cidr))
}

fn unknown(pools: &[IpPool], requested: &str) -> PoolRequestError {
    let known: Vec<&str> = pools.iter().map(|pool| pool.metadata.name.as_str()).collect();
    let known = if known.is_empty() {
        "(there is none)".to_string()
    } else {
        known.join(", ")
    };
    PoolRequestError::Unknown {
        requested: requested.to_string(),
        known,
    }
}

fn rejection(pool: &IpPool, requested: bool, requester: &Requester<'_>) -> Option<Rejection> {
    let spec = &pool.spec;
    if pool.metadata.deletion_timestamp.is_some() {
        Some(Rejection::Deleting)
    } else if spec.disabled {
        Some(Rejection::Disabled)
    } else if !allows(&spec.allowed_uses, requester.use_) {
        Some(Rejection::Use(requester.use_))
    } else if !block_size_fits(pool) {
        Some(Rejection::BlockSize(spec.block_prefix_len()))
    } else if requested {
        None
    } else if spec.assignment_mode == AssignmentMode::Manual {
        Some(Rejection::Manual)
    } else {
        mismatch(&spec.node_selector, requester.node_labels)
            .map(|m| m.rejection(Rejection::NodeSelector))
            .or_else(|| namespace_rejection(pool, requester))
    }
}

fn allows(allowed: &[AllowedUse], use_: AllowedUse) -> bool {
    match allowed {
        [] => matches!(use_, AllowedUse::Workload | AllowedUse::Tunnel),
        some => some.contains(&use_),
    }
}

fn block_size_fits(pool: &IpPool) -> bool {
    let (size, cidr) = (pool.spec.block_prefix_len(), &pool.spec.cidr);
    size >= cidr.prefix_len() && (cidr.max_prefix_len() - 12..=cidr.max_prefix_len()).contains(&size)
}

/// A namespace selector concerns workloads only; a tunnel is in no namespace.
fn namespace_rejection(pool: &IpPool, requester: &Requester<'_>) -> Option<Rejection> {
    let text = pool.spec.namespace_selector.as_deref()?;
    if requester.use_ != AllowedUse::Workload {
        return None;
    }
    let Some(labels) = requester.namespace_labels else {
        let all = text.parse() == Ok(Selector::all());
        return (!all && !text.trim().is_empty()).then(|| Rejection::NamespaceSelector(text.to_string()));
    };
    mismatch(text, labels).map(|m| m.rejection(Rejection::NamespaceSelector))
}

struct Mismatch<'a> {
    selector: &'a str,
    error: Option<String>,
}

impl Mismatch<'_> {
    fn rejection(self, no_match: fn(String) -> Rejection) -> Rejection {
        let selector = self.selector.to_string();
        match self.error {
            Some(error) => Rejection::BadSelector(selector, error),
            None => no_match(selector),
        }
    }
}

fn mismatch<'a>(selector: &'a str, labels: &BTreeMap<String, String>) -> Option<Mismatch<'a>> {
    let error = match selector.parse::<Selector>() {
        Ok(parsed) if parsed.matches(labels) => return None,
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    Some(Mismatch { selector, error })
}

/// The blocks of a pool in the order in which a node tries them: round the pool once, from a place of its own, so
/// that many nodes do not want the same block. The order depends on nothing but the names.
#[derive(Debug, Clone)]
pub struct Blocks<'a> {
    cidr: IpNet,
    prefix_len: u8,
    count: u128,
    start: u128,
    tried: u128,
    reserved: &'a Reservations,
}

/// Enumerates the blocks of a pool for a node; those wholly reserved are left out (in one step, however many).
pub fn blocks<'a>(pool: &IpPool, node: &str, reserved: &'a Reservations) -> Blocks<'a> {
    let (cidr, prefix_len) = (pool.spec.cidr.trunc(), pool.spec.block_prefix_len());
    let bits = u32::from(prefix_len.saturating_sub(cidr.prefix_len()));
    let count = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
    Blocks {
        cidr,
        prefix_len,
        count,
        start: fingerprint(node) % count,
        tried: 0,
        reserved,
    }
}

impl Blocks<'_> {
    fn at(&self, index: u128) -> Option<IpNet> {
        let shift = u32::from(self.cidr.max_prefix_len() - self.prefix_len);
        let offset = index.checked_shl(shift)?;
        let address = match self.cidr.network() {
            IpAddr::V4(first) => IpAddr::V4(first.to_bits().checked_add(u32::try_from(offset).ok()?)?.into()),
            IpAddr::V6(first) => IpAddr::V6(first.to_bits().checked_add(offset)?.into()),
        };
        IpNet::new(address, self.prefix_len).ok()
    }

    /// Blocks from `block` (at `index`) to the end of the reserved network that holds it.
    fn reserved_from(&self, index: u128, block: &IpNet) -> Option<u128> {
        let network = self.reserved.covering(block)?;
        let first = if network.contains(&self.cidr) {
            &self.cidr
        } else {
            network
        };
        let blocks = address_count(first) / address_count(block);
        // A reserved network is aligned to its size, and so is its first block's index.
        Some(blocks - index % blocks.max(1))
    }
}

impl Iterator for Blocks<'_> {
    type Item = IpNet;

    fn next(&mut self) -> Option<IpNet> {
        while self.tried < self.count {
            // Both are below `count`; their sum may overflow only in a pool that is the whole of IPv6.
            let to_end = self.count - self.start;
            let index = if self.tried < to_end {
                self.start + self.tried
            } else {
                self.tried - to_end
            };
            let block = self.at(index)?;
            match self.reserved_from(index, &block) {
                None => {
                    self.tried += 1;
                    return Some(block);
                }
                // Not past the pool's end: the walk goes on at its beginning.
                Some(skip) => self.tried = self.tried.saturating_add(skip.min(self.count - index)),
            }
        }
        None
    }
}

fn fingerprint(node: &str) -> u128 {
    let digest = Sha256::digest(node);
    digest
        .iter()
        .take(16)
        .fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

#[cfg(test)]
mod tests;
