//! The allocator: gives addresses to handles and takes them back, for one node, on a shared datastore.
//!
//! Any number of processes, on any number of nodes, work on the same objects. There are no locks between them:
//! every write is a compare-and-swap, and what holds at any moment, also after a crash between two writes, is:
//!
//! - An address has one owner, because its block is one object.
//! - A block has one owner: a node first makes its affinity `pending`, then creates the block (only one node can),
//!   then makes the affinity `confirmed`. A block is taken away only after its affinity became `pendingDeletion`,
//!   and a claim on a block that exists already writes the block before it confirms, so that a deletion under way
//!   fails. So a confirmed affinity always has its block.
//! - A handle counts at least what it has: it is incremented before the block is written, and lowered only to what
//!   a block *just written* shows (that write makes every earlier reader of the block fail). A crash may leave a
//!   count too high; the next release of the handle puts it right.
//! - A delete is two writes, `deleted` set and then the removal; who meets an object so marked finishes it.
//!
//! A future that is dropped half way is a crash, and leaves no more behind than one.
//!
//! What it does not do: it does not watch; each request reads what it needs. It knows no pods: who calls
//! [`Allocator::assign`] twice for a handle gets two addresses.

mod assign;
mod claim;
mod handles;
mod objects;
mod release;
mod search;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
    sync::Arc,
};

use datastore::{Store, types::AllowedUse};
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::Mutex;

pub use claim::{AffinityRelease, Released};

use crate::{block::Release, error::Result};

/// What is asked for. All or nothing: either every address is assigned or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignRequest {
    /// Who will own the addresses; they are released by it. `<network>.<containerID>` for a pod.
    pub handle: String,
    /// Kept with the addresses for people and garbage collection: `pod`, `namespace`, `node`, `timestamp`.
    pub attributes: BTreeMap<String, String>,
    /// How many IPv4 addresses.
    pub ipv4: u32,
    /// How many IPv6 addresses.
    pub ipv6: u32,
    /// Names or CIDRs of the only pools to use, in order; empty means any.
    pub ipv4_pools: Vec<String>,
    /// The same for IPv6.
    pub ipv6_pools: Vec<String>,
    /// What for.
    pub use_: AllowedUse,
}

/// What was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// Where the allocator gets what is not in the datastore. Simulations bring their own.
#[derive(Clone)]
pub struct Environment {
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Decides the jitter between retries.
    pub seed: u64,
}

impl Default for Environment {
    fn default() -> Self {
        Environment {
            now: Arc::new(Timestamp::now),
            seed: RandomState::new().build_hasher().finish(),
        }
    }
}

/// Gives out and takes back addresses for one node. Cheap to clone; clones share the queue of their node.
#[derive(Clone)]
pub struct Allocator {
    core: Arc<Core>,
    /// One request at a time: those of one agent would only make each other's writes fail.
    queue: Arc<Mutex<()>>,
}

/// What every step of a request works with.
struct Core {
    objects: objects::Objects,
    node: String,
    environment: Environment,
}

impl std::fmt::Debug for Allocator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allocator")
            .field("node", &self.core.node)
            .finish_non_exhaustive()
    }
}

impl Allocator {
    /// An allocator for `node`.
    pub fn new(store: Store, node: String) -> Self {
        Self::with_environment(store, node, Environment::default())
    }

    /// An allocator with a clock and a source of chance of the caller's.
    pub fn with_environment(store: Store, node: String, environment: Environment) -> Self {
        let objects = objects::Objects::new(store, environment.seed);
        let core = Core {
            objects,
            node,
            environment,
        };
        Allocator {
            core: Arc::new(core),
            queue: Arc::default(),
        }
    }

    /// Assigns addresses; they are on disk when this returns. After an error of the datastore it may be unknown
    /// whether something was assigned: release the handle.
    pub async fn assign(&self, request: AssignRequest) -> Result<Assigned> {
        let _turn = self.queue.lock().await;
        self.core.assign(&request).await
    }

    /// Releases all addresses of a handle and gives them back; none where there is no such handle.
    pub async fn release_handle(&self, handle: &str) -> Result<Vec<IpAddr>> {
        let _turn = self.queue.lock().await;
        self.core.release_handle(handle).await
    }

    /// Releases single addresses, those of a block all or none; gives back those that were in use.
    pub async fn release_addresses(&self, releases: &[Release]) -> Result<Vec<IpAddr>> {
        let _turn = self.queue.lock().await;
        self.core.release_addresses(releases).await
    }

    /// The addresses of a handle, in order.
    pub async fn addresses_of(&self, handle: &str) -> Result<Vec<IpAddr>> {
        self.core.addresses_of(handle).await
    }

    /// Claims a block for this node, or finishes an earlier claim; false where it is another's.
    pub async fn claim_block(&self, cidr: IpNet) -> Result<bool> {
        let _turn = self.queue.lock().await;
        self.core.claim(&cidr).await
    }

    /// Gives up a node's block: deletes it where it is empty, else leaves it without an owner.
    pub async fn release_affinity(&self, release: &AffinityRelease) -> Result<Released> {
        let _turn = self.queue.lock().await;
        self.core.release_affinity(release).await
    }

    /// Brings this node's half-made and half-released claims to an end, as after a crash. Assignments do so for
    /// what they come across; call this at the start, and when an affinity of the node is not `confirmed`.
    pub async fn resume(&self) -> Result<()> {
        let _turn = self.queue.lock().await;
        self.core.resume_all().await
    }
}
