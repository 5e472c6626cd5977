//! Releasing: first the block and then the handle's count, which is brought to what the block shows.

use std::{collections::BTreeMap, net::IpAddr};

use datastore::types::{IpamBlock, IpamHandle};
use ipnet::IpNet;

use super::{
    Core,
    assign::{Grant, holds},
    claim::is_empty,
    handles::count_for,
};
use crate::{
    block::{Block, BlockError, Release, handle_of},
    error::Result,
    names,
};

impl Core {
    pub(super) async fn release_handle(&self, handle: &str) -> Result<Vec<IpAddr>> {
        let Some(stored) = self.handle(handle).await? else {
            return Ok(Vec::new());
        };
        if stored.spec.block.is_empty() {
            self.objects.delete(stored).await?;
            return Ok(Vec::new());
        }
        let mut released = Vec::new();
        for cidr in blocks_of(&stored) {
            let all = |block: &mut Block| Ok(block.release_handle(handle));
            released.extend(self.release_in(&cidr, Some(handle), all).await?);
        }
        tracing::debug!(handle, ?released, "released");
        Ok(released)
    }

    pub(super) async fn addresses_of(&self, handle: &str) -> Result<Vec<IpAddr>> {
        let Some(stored) = self.handle(handle).await? else {
            return Ok(Vec::new());
        };
        let mut addresses = Vec::new();
        for cidr in blocks_of(&stored) {
            if let Some(block) = self.block(&cidr).await? {
                addresses.extend(Block::from_spec(block.spec)?.addresses_of(handle));
            }
        }
        addresses.sort();
        Ok(addresses)
    }

    pub(super) async fn release_addresses(&self, releases: &[Release]) -> Result<Vec<IpAddr>> {
        let mut released = Vec::new();
        for stored in self.objects.list_live::<IpamBlock>().await? {
            let cidr = stored.spec.cidr;
            let inside = releases.iter().filter(|release| cidr.contains(&release.address));
            let inside: Vec<Release> = inside.cloned().collect();
            if inside.is_empty() {
                continue;
            }
            let mut block = Block::from_spec(stored.spec)?;
            let by_handle = group_by_handle(&block, inside.clone());
            // Refused wholesale before anything is written.
            block.release(&inside)?;
            for (handle, releases) in by_handle {
                let some = |block: &mut Block| block.release(&releases);
                released.extend(self.release_in(&cidr, handle.as_deref(), some).await?);
            }
        }
        Ok(released)
    }

    /// Takes back grants that still stand.
    pub(super) async fn release_grants(&self, cidr: &IpNet, handle: &str, grants: &[&Grant]) -> Result<()> {
        let standing = |block: &mut Block| {
            let standing = grants.iter().filter(|grant| holds(block, grant, handle));
            let releases: Vec<Release> = standing.map(|grant| Release::of(grant.address)).collect();
            block.release(&releases)
        };
        self.release_in(cidr, Some(handle), standing).await.map(drop)
    }

    /// Releases in one block what `pick` picks, and sets the handle's count for the block to what is left.
    ///
    /// The handle is read first, then the block is written, then the handle is written if it is still the same: a
    /// count made meanwhile for an assignment is thereby either seen or makes that assignment fail. For this the
    /// block is written even where nothing is released but the count is too high.
    async fn release_in<P>(&self, cidr: &IpNet, handle: Option<&str>, pick: P) -> Result<Vec<IpAddr>>
    where
        P: Fn(&mut Block) -> Result<Vec<IpAddr>, BlockError>,
    {
        let mut retry = self.objects.retry::<IpamBlock>(&names::block(cidr));
        let mut released = None;
        loop {
            let counted = match handle {
                Some(handle) => self.handle(handle).await?,
                None => None,
            };
            let step = Step {
                cidr,
                handle,
                counted: counted.as_ref().map_or(0, |handle| count_for(handle, cidr)),
            };
            if let Some(left) = self.release_step(step, &pick, &mut released).await? {
                let settled = match counted {
                    Some(counted) => self.settle(counted, cidr, left).await?,
                    None => true,
                };
                if settled {
                    return Ok(released.unwrap_or_default());
                }
            }
            retry.again().await?;
        }
    }

    /// Writes the block, once with what is picked; the handle's addresses left, or `None` where somebody was faster.
    async fn release_step<P>(
        &self,
        step: Step<'_>,
        pick: &P,
        released: &mut Option<Vec<IpAddr>>,
    ) -> Result<Option<u32>>
    where
        P: Fn(&mut Block) -> Result<Vec<IpAddr>, BlockError>,
    {
        let Some(mut stored) = self.block(step.cidr).await? else {
            return Ok(Some(0));
        };
        let mut block = Block::from_spec(stored.spec.clone())?;
        // Once only: an address released a moment ago may be somebody else's by now.
        let picked = match released {
            None => pick(&mut block)?,
            Some(_) => Vec::new(),
        };
        let left = step.handle.map_or(0, |handle| block.addresses_of(handle).len());
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        if picked.is_empty() && left >= step.counted {
            return Ok(Some(left));
        }
        stored.spec = block.into_spec();
        let written = if is_empty(&stored) && stored.spec.affinity.is_none() {
            self.objects.delete(stored).await?
        } else {
            self.touch(stored).await?
        };
        if written && released.is_none() {
            *released = Some(picked);
        }
        Ok(written.then_some(left))
    }
}

/// What one attempt at a release starts from.
struct Step<'a> {
    cidr: &'a IpNet,
    handle: Option<&'a str>,
    /// The handle's count for the block.
    counted: u32,
}

/// The blocks a handle counts. A key that is no CIDR was not written by address management.
fn blocks_of(handle: &IpamHandle) -> Vec<IpNet> {
    let parsed = handle.spec.block.keys().filter_map(|key| match key.parse() {
        Ok(cidr) => Some(cidr),
        Err(_) => {
            tracing::warn!(
                handle = handle.spec.handle_id,
                key,
                "handle counts what is no block"
            );
            None
        }
    });
    parsed.collect()
}

/// By handle, and bound to the allocations that stand: by the time of the release they may be somebody else's.
fn group_by_handle(block: &Block, releases: Vec<Release>) -> BTreeMap<Option<String>, Vec<Release>> {
    let mut groups: BTreeMap<Option<String>, Vec<Release>> = BTreeMap::new();
    for mut release in releases {
        let owner = block.owner_of(release.address);
        let handle = owner.and_then(handle_of).map(names::handle);
        release.handle = release.handle.or_else(|| handle.clone());
        release.sequence_number = release
            .sequence_number
            .or_else(|| block.sequence_of(release.address));
        groups.entry(handle).or_default().push(release);
    }
    groups
}
