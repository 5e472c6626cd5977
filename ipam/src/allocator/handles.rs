//! Counting a handle's addresses by block, never too low.

use std::collections::BTreeMap;

use datastore::types::{IpamHandle, IpamHandleSpec};
use ipnet::IpNet;

use super::Core;
use crate::{error::Result, names};

/// An increment as it was stored.
pub(super) struct Increment {
    stored: IpamHandle,
    cidr: IpNet,
    count: u32,
}

/// A handle's count for a block.
pub(super) fn count_for(handle: &IpamHandle, cidr: &IpNet) -> u32 {
    handle.spec.block.get(&cidr.to_string()).copied().unwrap_or(0)
}

impl Core {
    pub(super) async fn handle(&self, handle_id: &str) -> Result<Option<IpamHandle>> {
        self.objects.live(&names::handle(handle_id)).await
    }

    /// Counts addresses that are about to be assigned. Most handles are new, so creating comes first.
    pub(super) async fn increment(&self, handle_id: &str, cidr: &IpNet, count: u32) -> Result<Increment> {
        let name = names::handle(handle_id);
        let mut retry = self.objects.retry::<IpamHandle>(&name);
        let done = |stored| Increment {
            stored,
            cidr: *cidr,
            count,
        };
        let spec = IpamHandleSpec {
            handle_id: handle_id.to_string(),
            block: BTreeMap::from([(cidr.to_string(), count)]),
            deleted: false,
        };
        let new = IpamHandle::new(name.clone(), spec);
        loop {
            if let Some(stored) = self.objects.create(&new).await? {
                return Ok(done(stored));
            }
            if let Some(mut handle) = self.objects.live::<IpamHandle>(&name).await? {
                let counted = handle.spec.block.entry(cidr.to_string()).or_default();
                *counted = counted.saturating_add(count);
                if let Some(stored) = self.objects.swap(&handle).await? {
                    return Ok(done(stored));
                }
            }
            retry.again().await?;
        }
    }

    /// Takes an increment back whose addresses were not assigned. Where the handle has changed since, somebody may
    /// have put its count right already; then it is left, at worst too high.
    pub(super) async fn undo(&self, increment: Increment) -> Result<()> {
        let Increment { stored, cidr, count } = increment;
        let left = count_for(&stored, &cidr).saturating_sub(count);
        self.settle(stored, &cidr, left).await.map(drop)
    }

    /// Sets a handle's count for a block; without any count left it is deleted. False where it has changed since
    /// it was read. To lower a count is safe only if the block was written after the handle was read.
    pub(super) async fn settle(&self, mut handle: IpamHandle, cidr: &IpNet, count: u32) -> Result<bool> {
        let key = cidr.to_string();
        if handle.spec.block.get(&key).copied() == (count > 0).then_some(count) {
            return Ok(true);
        }
        match count {
            0 => handle.spec.block.remove(&key),
            _ => handle.spec.block.insert(key, count),
        };
        if handle.spec.block.is_empty() {
            return self.objects.delete(handle).await;
        }
        Ok(self.objects.swap(&handle).await?.is_some())
    }
}
