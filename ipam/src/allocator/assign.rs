//! Assigning: all addresses of a request or none, first the handle's count and then the block.

use std::net::IpAddr;

use datastore::types::{
    AllocationAttribute, IpPool, IpReservation, IpamBlock, IpamConfig, IpamConfigSpec, Node,
};
use ipnet::IpNet;

use super::{AssignRequest, Assigned, Core};
use crate::{
    block::{Block, is_handle},
    error::{Error, InvalidRequest, Result},
    names,
    pool::{self, Choice, Family, Requester},
    reservation::Reservations,
};

/// An address that has been, or may have been, assigned.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) cidr: IpNet,
    pub(super) address: IpAddr,
    /// Of the allocation: tells it from a later one of the same address.
    pub(super) sequence: u64,
}

/// A request under way.
pub(super) struct Job<'a> {
    pub(super) handle: &'a str,
    pub(super) owner: AllocationAttribute,
    pub(super) reserved: Reservations,
    pub(super) config: IpamConfigSpec,
    pub(super) pools: Vec<IpPool>,
    pub(super) node_labels: std::collections::BTreeMap<String, String>,
    /// What to take back if the request fails.
    pub(super) grants: Vec<Grant>,
}

/// On what terms addresses are taken from a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// Only if it is this node's.
    Own,
    /// Only if its owner lends.
    Borrow,
}

impl Core {
    pub(super) async fn assign(&self, request: &AssignRequest) -> Result<Assigned> {
        if request.handle.is_empty() {
            return Err(InvalidRequest::NoHandle.into());
        }
        if request.ipv4 == 0 && request.ipv6 == 0 {
            return Err(InvalidRequest::NoAddress.into());
        }
        let mut job = self.job(request).await?;
        // Both choices come first: a request that cannot be satisfied writes nothing.
        let wanted = [
            (Family::V4, request.ipv4, &request.ipv4_pools),
            (Family::V6, request.ipv6, &request.ipv6_pools),
        ];
        let mut searches = Vec::new();
        for (family, count, requested) in wanted.into_iter().filter(|(_, count, _)| *count > 0) {
            searches.push((family, count, job.choose(family, requested, request)?));
        }
        for (family, count, choice) in searches {
            if let Err(error) = self.search(&mut job, family, count, choice).await {
                self.roll_back(&job).await;
                return Err(error);
            }
        }
        let addresses = job.grants.iter().map(|grant| grant.address).collect();
        tracing::debug!(handle = request.handle, ?addresses, "assigned");
        Ok(Assigned { addresses })
    }

    async fn job<'a>(&self, request: &'a AssignRequest) -> Result<Job<'a>> {
        let node = self.objects.get::<Node>(&self.node).await?;
        Ok(Job {
            handle: &request.handle,
            owner: AllocationAttribute {
                handle_id: Some(request.handle.clone()),
                secondary: request.attributes.clone(),
                released_at: None,
            },
            reserved: Reservations::new(&self.objects.list::<IpReservation>().await?),
            config: self.config().await?,
            pools: self.objects.list().await?,
            node_labels: node.map(|node| node.metadata.labels).unwrap_or_default(),
            grants: Vec::new(),
        })
    }

    async fn config(&self) -> Result<IpamConfigSpec> {
        let stored = self.objects.get::<IpamConfig>("default").await?;
        Ok(stored.map(|config| config.spec).unwrap_or_default())
    }

    /// Takes up to `count` addresses from a block; the number taken, 0 where it has none for us.
    pub(super) async fn take(
        &self,
        job: &mut Job<'_>,
        cidr: &IpNet,
        count: usize,
        terms: Terms,
    ) -> Result<usize> {
        let mut retry = self.objects.retry::<IpamBlock>(&names::block(cidr));
        loop {
            let Some(mut stored) = pass_over(self.block(cidr).await, None)? else {
                return Ok(0);
            };
            if !self.may_take(&stored, terms) {
                return Ok(0);
            }
            let block = Block::from_spec(stored.spec.clone()).map_err(Error::from);
            let Some(mut block) = pass_over(block.map(Some), None)? else {
                return Ok(0);
            };
            let sequence = block.spec().sequence_number;
            let given = block.assign(count, &job.owner, &job.reserved);
            if given.is_empty() {
                return Ok(0);
            }
            block.advance();
            stored.spec = block.into_spec();
            let grants = given.iter().map(|&address| Grant {
                cidr: *cidr,
                address,
                sequence,
            });
            if self.write(job, &stored, grants.collect()).await? {
                return Ok(given.len());
            }
            retry.again().await?;
        }
    }

    fn may_take(&self, block: &IpamBlock, terms: Terms) -> bool {
        match terms {
            Terms::Own => self.is_own(block),
            Terms::Borrow => !self.is_own(block) && is_lent(block),
        }
    }

    /// Stores a block with new grants, the handle's count first; false where somebody was faster.
    async fn write(&self, job: &mut Job<'_>, block: &IpamBlock, grants: Vec<Grant>) -> Result<bool> {
        let cidr = block.spec.cidr;
        let count = u32::try_from(grants.len()).unwrap_or(u32::MAX);
        // Known before the writes: where a reply is lost, rolling back must look at this block.
        let before = job.grants.len();
        job.grants.extend(grants);
        let increment = self.increment(job.handle, &cidr, count).await?;
        if self.objects.swap(block).await?.is_some() {
            return Ok(true);
        }
        if self.took_effect(job, before).await? {
            return Ok(true);
        }
        job.grants.truncate(before);
        self.undo(increment).await?;
        Ok(false)
    }

    /// A conflict may be the echo of our own write, where something below us repeats a request whose reply was lost.
    async fn took_effect(&self, job: &Job<'_>, before: usize) -> Result<bool> {
        let Some(grants @ [first, ..]) = job.grants.get(before..) else {
            return Ok(false);
        };
        let Some(stored) = self.block(&first.cidr).await? else {
            return Ok(false);
        };
        let Ok(block) = Block::from_spec(stored.spec) else {
            return Ok(false);
        };
        Ok(grants.iter().all(|grant| holds(&block, grant, job.handle)))
    }

    /// Takes back what a failed request was given. What cannot be taken back stays with the handle, whose release
    /// will find it.
    async fn roll_back(&self, job: &Job<'_>) {
        let mut cidrs: Vec<IpNet> = job.grants.iter().map(|grant| grant.cidr).collect();
        cidrs.sort();
        cidrs.dedup();
        for cidr in cidrs {
            let grants: Vec<&Grant> = job.grants.iter().filter(|grant| grant.cidr == cidr).collect();
            if let Err(error) = self.release_grants(&cidr, job.handle, &grants).await {
                tracing::warn!(handle = job.handle, block = %cidr, %error, "addresses of a failed request stay");
            }
        }
    }
}

impl Job<'_> {
    fn choose(&self, family: Family, requested: &[String], request: &AssignRequest) -> Result<Choice> {
        let requester = Requester {
            family,
            use_: request.use_,
            node_labels: &self.node_labels,
            namespace_labels: None,
        };
        let choice = pool::choose(&self.pools, requested, &requester);
        Ok(choice.map_err(InvalidRequest::from)?)
    }
}

/// An object that is damaged, or does not parse, must not keep a node from its other blocks.
pub(super) fn pass_over<T>(result: Result<T>, instead: T) -> Result<T> {
    match result {
        Err(error @ (Error::Block(_) | Error::Datastore(datastore::Error::Invalid(_)))) => {
            tracing::warn!(%error, "passed over");
            Ok(instead)
        }
        other => other,
    }
}

/// True where a grant stands in the block as it was made.
pub(super) fn holds(block: &Block, grant: &Grant, handle: &str) -> bool {
    let owner = block.owner_of(grant.address);
    owner.is_some_and(|owner| is_handle(owner, handle))
        && block.sequence_of(grant.address) == Some(grant.sequence)
}

/// True where other nodes may take addresses of a block: not of a virtual owner's.
pub(super) fn is_lent(block: &IpamBlock) -> bool {
    let affinity = block.spec.affinity.as_deref();
    !block.spec.strict_affinity && affinity.is_none_or(|a| names::affinity_host(a).is_some())
}
