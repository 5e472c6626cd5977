//! Claiming blocks and giving them up: the life of an affinity.
//!
//! ```text
//! (none) --create--> pending --create block--> pending --confirm--> confirmed
//! confirmed --> pendingDeletion --delete block (or clear its affinity)--> pendingDeletion --delete--> (none)
//! ```
//! Each step can be the last of a process that dies; [`Core::resume`] goes on from every one of them. The way back
//! from `pendingDeletion` leads through `pending` and a write of the block, so that whoever was about to take the
//! block away fails.

use datastore::types::{AffinityState, BlockAffinity, BlockAffinitySpec, IpamBlock};
use ipnet::IpNet;

use super::{Core, assign::pass_over};
use crate::{block::Block, error::Result, names};

/// A block to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffinityRelease {
    /// The node that has it.
    pub node: String,
    /// The block.
    pub cidr: IpNet,
    /// Only if nobody has an address of it.
    pub require_empty: bool,
    /// Only if it has not been written since it had this sequence number.
    pub sequence_number: Option<u64>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// It is given up.
    Done,
    /// The node does not have it (any more).
    NotOwned,
    /// It is in use and was to be released only if empty.
    InUse,
    /// Somebody wrote it meanwhile; it stays with its node.
    Changed,
}

/// How a step of a claim went.
enum Progress {
    Claimed,
    Lost,
    /// Something changed under our hands: look again.
    Again,
}

impl Core {
    /// Claims a block for this node, from whatever state an earlier claim left; false where it is another's.
    pub(super) async fn claim(&self, cidr: &IpNet) -> Result<bool> {
        let pending = self.new_affinity(cidr);
        let name = pending.metadata.name.clone();
        let mut retry = self.objects.retry::<BlockAffinity>(&name);
        loop {
            let affinity = match self.objects.create(&pending).await? {
                Some(created) => Some(created),
                None => self.objects.live(&name).await?,
            };
            if let Some(affinity) = affinity {
                match self.advance(affinity).await? {
                    Progress::Claimed => return Ok(true),
                    Progress::Lost => return Ok(false),
                    Progress::Again => {}
                }
            }
            retry.again().await?;
        }
    }

    fn new_affinity(&self, cidr: &IpNet) -> BlockAffinity {
        let spec = BlockAffinitySpec {
            state: AffinityState::Pending,
            node: self.node.clone(),
            affinity_type: Some(names::HOST.to_string()),
            cidr: cidr.trunc(),
            deleted: "false".to_string(),
        };
        let mut affinity = BlockAffinity::new(names::affinity(&self.node, cidr), spec);
        affinity.metadata.labels = names::affinity_labels(&affinity.spec);
        affinity
    }

    async fn advance(&self, mut affinity: BlockAffinity) -> Result<Progress> {
        let cidr = affinity.spec.cidr;
        if affinity.spec.state == AffinityState::Confirmed {
            match self.block(&cidr).await? {
                Some(block) if self.is_own(&block) => return Ok(Progress::Claimed),
                Some(_) => return self.give_way(affinity).await,
                None => {}
            }
        }
        if affinity.spec.state != AffinityState::Pending {
            affinity.spec.state = AffinityState::Pending;
            let Some(pending) = self.objects.swap(&affinity).await? else {
                return Ok(Progress::Again);
            };
            affinity = pending;
        }
        if self.objects.create(&self.new_block(cidr)).await?.is_none() {
            match self.block(&cidr).await? {
                Some(block) if self.is_own(&block) => {
                    if !self.touch(block).await? {
                        return Ok(Progress::Again);
                    }
                }
                Some(_) => return self.give_way(affinity).await,
                None => return Ok(Progress::Again),
            }
        }
        self.confirm(affinity).await
    }

    async fn confirm(&self, mut affinity: BlockAffinity) -> Result<Progress> {
        affinity.spec.state = AffinityState::Confirmed;
        match self.objects.swap(&affinity).await? {
            Some(_) => {
                tracing::info!(block = %affinity.spec.cidr, node = affinity.spec.node, "block claimed");
                Ok(Progress::Claimed)
            }
            None => Ok(Progress::Again),
        }
    }

    /// The block is another's: takes our claim back. Where it changed meanwhile, its new state decides.
    async fn give_way(&self, affinity: BlockAffinity) -> Result<Progress> {
        tracing::debug!(block = %affinity.spec.cidr, "block is another's");
        Ok(match self.objects.delete(affinity).await? {
            true => Progress::Lost,
            false => Progress::Again,
        })
    }

    fn new_block(&self, cidr: IpNet) -> IpamBlock {
        let now = (self.environment.now)();
        // Whole seconds, as Kubernetes writes times.
        let claimed = jiff::Timestamp::from_second(now.as_second())
            .unwrap_or(now)
            .to_string();
        let sequence = u64::try_from(now.as_nanosecond()).unwrap_or(0);
        let affinity = names::host_affinity(&self.node);
        let block = Block::new(cidr, Some(affinity), Some(claimed), sequence);
        IpamBlock::new(names::block(&cidr), block.into_spec())
    }

    pub(super) async fn block(&self, cidr: &IpNet) -> Result<Option<IpamBlock>> {
        self.objects.live(&names::block(cidr)).await
    }

    pub(super) fn is_own(&self, block: &IpamBlock) -> bool {
        is_of(block, &self.node)
    }

    /// Writes a block without changing it, so that all who have read it before fail to write it.
    pub(super) async fn touch(&self, mut block: IpamBlock) -> Result<bool> {
        block.spec.sequence_number = block.spec.sequence_number.saturating_add(1);
        Ok(self.objects.swap(&block).await?.is_some())
    }

    /// This node's affinities, half-made ones too.
    pub(super) async fn own_affinities(&self) -> Result<Vec<BlockAffinity>> {
        let mut own = self.objects.list_live::<BlockAffinity>().await?;
        own.retain(|a| {
            a.spec.node == self.node && a.spec.affinity_type.as_deref().unwrap_or(names::HOST) == names::HOST
        });
        Ok(own)
    }

    /// Brings every claim of this node to an end, and claims the blocks that are its own without an affinity.
    pub(super) async fn resume_all(&self) -> Result<()> {
        for affinity in self.own_affinities().await? {
            pass_over(self.resume(affinity).await, false)?;
        }
        let blocks = self.objects.list_live::<IpamBlock>().await?;
        for block in blocks.iter().filter(|block| self.is_own(block)) {
            let name = names::affinity(&self.node, &block.spec.cidr);
            if self.objects.live::<BlockAffinity>(&name).await?.is_none() {
                pass_over(self.claim(&block.spec.cidr).await, false)?;
            }
        }
        Ok(())
    }

    /// Brings one claim to an end: confirms it where the block is this node's, drops it where it is not. True
    /// where it is confirmed.
    pub(super) async fn resume(&self, affinity: BlockAffinity) -> Result<bool> {
        let cidr = affinity.spec.cidr;
        match self.block(&cidr).await? {
            Some(block) if self.is_own(&block) => {
                let confirmed = affinity.spec.state == AffinityState::Confirmed;
                Ok(confirmed || self.claim(&cidr).await?)
            }
            _ => {
                tracing::info!(block = %cidr, state = ?affinity.spec.state, "dropping a claim without a block");
                self.objects.delete(affinity).await.map(|_| false)
            }
        }
    }

    /// Gives up a block, this node's or another's.
    pub(super) async fn release_affinity(&self, release: &AffinityRelease) -> Result<Released> {
        let name = names::affinity(&release.node, &release.cidr);
        let mut retry = self.objects.retry::<BlockAffinity>(&name);
        loop {
            let Some(mut affinity) = self.objects.live::<BlockAffinity>(&name).await? else {
                return Ok(Released::NotOwned);
            };
            let block = self.block(&release.cidr).await?;
            let Some(block) = block.filter(|block| is_of(block, &release.node)) else {
                return self.drop_stale(affinity).await;
            };
            if release
                .sequence_number
                .is_some_and(|n| n != block.spec.sequence_number)
            {
                return Ok(Released::Changed);
            }
            if release.require_empty && !is_empty(&block) {
                return Ok(Released::InUse);
            }
            affinity.spec.state = AffinityState::PendingDeletion;
            if let Some(affinity) = self.objects.swap(&affinity).await? {
                return self.take_away(affinity, block).await;
            }
            retry.again().await?;
        }
    }

    /// An affinity whose block is not (yet) its node's. Another node's claim under way is left to it.
    async fn drop_stale(&self, affinity: BlockAffinity) -> Result<Released> {
        if affinity.spec.node == self.node || affinity.spec.state != AffinityState::Pending {
            self.objects.delete(affinity).await?;
        }
        Ok(Released::NotOwned)
    }

    async fn take_away(&self, affinity: BlockAffinity, mut block: IpamBlock) -> Result<Released> {
        let cidr = block.spec.cidr;
        let gone = if is_empty(&block) {
            self.objects.delete(block).await?
        } else {
            block.spec.affinity = None;
            block.spec.affinity_claim_time = None;
            self.touch(block).await?
        };
        if !gone {
            self.restore(affinity).await?;
            return Ok(Released::Changed);
        }
        tracing::info!(block = %cidr, node = affinity.spec.node, "block released");
        // Where this fails, the node has begun to claim the block anew: its affinity.
        self.objects.delete(affinity).await?;
        Ok(Released::Done)
    }

    /// A block that was to be taken away has changed. Where it is its node's still, and so in use, makes it so for
    /// all to see: the node would else not announce it. Where it is gone, the affinity goes too. Where anything
    /// changes on the way, somebody else is at it.
    async fn restore(&self, mut affinity: BlockAffinity) -> Result<()> {
        let block = self.block(&affinity.spec.cidr).await?;
        let Some(block) = block.filter(|block| is_of(block, &affinity.spec.node)) else {
            return self.objects.delete(affinity).await.map(drop);
        };
        affinity.spec.state = AffinityState::Pending;
        if let Some(affinity) = self.objects.swap(&affinity).await?
            && self.touch(block).await?
        {
            self.confirm(affinity).await?;
        }
        Ok(())
    }

    /// Takes away a block that another node has and does not use; false where it does, or the block has changed.
    pub(super) async fn reclaim(&self, block: &IpamBlock) -> Result<bool> {
        let Some(node) = block.spec.affinity.as_deref().and_then(names::affinity_host) else {
            let unowned = block.spec.affinity.is_none();
            return Ok(unowned && self.objects.delete(block.clone()).await?);
        };
        let release = AffinityRelease {
            node: node.to_string(),
            cidr: block.spec.cidr,
            require_empty: true,
            sequence_number: Some(block.spec.sequence_number),
        };
        match self.release_affinity(&release).await? {
            Released::Done => Ok(true),
            // Nobody claims it: left over from a claim that was cut off.
            Released::NotOwned => self.objects.delete(block.clone()).await,
            Released::InUse | Released::Changed => Ok(false),
        }
    }
}

fn is_of(block: &IpamBlock, node: &str) -> bool {
    block.spec.affinity.as_deref().and_then(names::affinity_host) == Some(node)
}

/// True where every address of the block is free.
pub(super) fn is_empty(block: &IpamBlock) -> bool {
    block.spec.allocations.iter().all(Option::is_none)
}
