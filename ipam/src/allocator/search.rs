//! Where addresses are looked for: own blocks, a new block, a block that another node has and does not use, and
//! last a borrowed address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use datastore::types::{AffinityState, BlockAffinity, IpPool, IpamBlock};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::{
    Core,
    assign::{Job, Terms, is_lent, pass_over},
    claim::{AffinityRelease, is_empty},
};
use crate::{
    error::{Error, Exhausted, Result},
    pool::{self, Choice, Family},
};

/// How long a claim protects a block that is not used: else two nodes would take it from each other forever.
const RECLAIM_AGE: SignedDuration = SignedDuration::from_mins(1);
/// What `maxBlocksPerHost: 0` means.
const DEFAULT_MAX_BLOCKS: usize = 20;

/// A search for addresses of one family.
struct Search<'a, 'b> {
    job: &'a mut Job<'b>,
    /// Pools to look in.
    pools: Vec<IpPool>,
    /// Addresses still missing.
    missing: usize,
    /// This node's blocks.
    own: BTreeSet<IpNet>,
    /// By pool: why it gave no more.
    reasons: BTreeMap<String, Vec<String>>,
}

impl Search<'_, '_> {
    fn note(&mut self, pool: &IpPool, reason: impl Into<String>) {
        let reasons = self.reasons.entry(pool.metadata.name.clone()).or_default();
        reasons.push(reason.into());
    }
}

impl Core {
    /// Takes `count` addresses, or as many as there are and fails.
    pub(super) async fn search(
        &self,
        job: &mut Job<'_>,
        family: Family,
        count: u32,
        choice: Choice,
    ) -> Result<()> {
        let own = self.own_blocks(job, family).await?;
        let mut search = Search {
            job,
            pools: choice.eligible,
            missing: usize::try_from(count).unwrap_or(usize::MAX),
            own,
            reasons: BTreeMap::new(),
        };
        self.take_own(&mut search).await?;
        if search.missing > 0 {
            let existing = self.claim_and_take(&mut search, family).await?;
            self.borrow(&mut search, existing).await?;
        }
        if search.missing == 0 {
            return Ok(());
        }
        let found = count.saturating_sub(u32::try_from(search.missing).unwrap_or(u32::MAX));
        Err(Error::Exhausted(Box::new(Exhausted {
            family,
            node: self.node.clone(),
            wanted: count,
            found,
            pools: explain(&search, choice.rejected),
        })))
    }

    /// This node's blocks of a family, claims of an earlier process brought to an end. An empty block of a pool
    /// that does not select the node any more is given up.
    async fn own_blocks(&self, job: &Job<'_>, family: Family) -> Result<BTreeSet<IpNet>> {
        let affinities = self.own_affinities().await?;
        let mut own = BTreeSet::new();
        for affinity in affinities
            .into_iter()
            .filter(|a| Family::of(&a.spec.cidr) == family)
        {
            let cidr = affinity.spec.cidr;
            if self.is_unselected(job, &cidr) {
                pass_over(self.give_up(&affinity).await, ())?;
            } else if is_confirmed(&affinity) || pass_over(self.resume(affinity).await, false)? {
                own.insert(cidr);
            }
        }
        Ok(own)
    }

    fn is_unselected(&self, job: &Job<'_>, cidr: &IpNet) -> bool {
        let mut pools = job.pools.iter();
        let pool = pools.find(|pool| !pool.spec.disabled && pool.spec.cidr.contains(cidr));
        pool.is_some_and(|pool| !pool::selects_node(pool, &job.node_labels))
    }

    async fn give_up(&self, affinity: &BlockAffinity) -> Result<()> {
        let release = AffinityRelease {
            node: self.node.clone(),
            cidr: affinity.spec.cidr,
            require_empty: true,
            sequence_number: None,
        };
        self.release_affinity(&release).await.map(drop)
    }

    async fn take_own(&self, search: &mut Search<'_, '_>) -> Result<()> {
        for pool in search.pools.clone() {
            let inside: Vec<IpNet> = search
                .own
                .iter()
                .filter(|b| pool.spec.cidr.contains(*b))
                .copied()
                .collect();
            let count = inside.len();
            for cidr in inside {
                search.missing -= self.take(search.job, &cidr, search.missing, Terms::Own).await?;
                if search.missing == 0 {
                    return Ok(());
                }
            }
            if count > 0 {
                search.note(&pool, format!("the node's {count} blocks are full"));
            }
        }
        Ok(())
    }

    /// Claims new blocks until there is enough; gives back the blocks there are now.
    async fn claim_and_take(&self, search: &mut Search<'_, '_>, family: Family) -> Result<Existing> {
        let mut existing = self.existing(family).await?;
        for pool in search.pools.clone() {
            while search.missing > 0 {
                if let Some(reason) = refusal(search) {
                    search.note(&pool, reason);
                    break;
                }
                let Some(cidr) = self.claim_in(search, &pool, &mut existing).await? else {
                    search.note(&pool, "no free block");
                    break;
                };
                search.own.insert(cidr);
                search.missing -= self.take(search.job, &cidr, search.missing, Terms::Own).await?;
            }
        }
        Ok(existing)
    }

    /// Claims one more block of a pool: one that does not exist, or else one that nobody uses.
    async fn claim_in(
        &self,
        search: &Search<'_, '_>,
        pool: &IpPool,
        existing: &mut Existing,
    ) -> Result<Option<IpNet>> {
        let mut unused = Vec::new();
        for cidr in pool::blocks(pool, &self.node, &search.job.reserved) {
            match existing.overlapping(&cidr) {
                Some(block) if block.spec.cidr != cidr || search.own.contains(&cidr) => continue,
                Some(block) if self.is_own(block) => {}
                Some(block) if is_empty(block) => {
                    unused.push(block.clone());
                    continue;
                }
                Some(_) => continue,
                None => {}
            }
            let claimed = pass_over(self.claim(&cidr).await, false)?;
            if let Some(block) = pass_over(self.block(&cidr).await, None)? {
                existing.insert(block);
            }
            if claimed {
                return Ok(Some(cidr));
            }
        }
        for block in unused.iter().filter(|block| self.is_reclaimable(block)) {
            let cidr = block.spec.cidr;
            if self.reclaim(block).await? && self.claim(&cidr).await? {
                return Ok(Some(cidr));
            }
        }
        Ok(None)
    }

    fn is_reclaimable(&self, block: &IpamBlock) -> bool {
        let claimed = block.spec.affinity_claim_time.as_deref();
        let claimed = claimed.and_then(|text| text.parse::<Timestamp>().ok());
        claimed.is_none_or(|claimed| (self.environment.now)().duration_since(claimed) >= RECLAIM_AGE)
    }

    async fn borrow(&self, search: &mut Search<'_, '_>, existing: Existing) -> Result<()> {
        for pool in search.pools.clone() {
            if search.missing == 0 {
                return Ok(());
            }
            if search.job.config.strict_affinity {
                search.note(&pool, "strictAffinity forbids borrowing");
                continue;
            }
            // In the order in which the node would claim them: so not all borrow from the same block.
            let start = pool::blocks(&pool, &self.node, &search.job.reserved).next();
            let (after, before): (Vec<IpNet>, Vec<IpNet>) = existing
                .lenders(&pool.spec.cidr)
                .into_iter()
                .partition(|cidr| Some(*cidr) >= start);
            for cidr in after.into_iter().chain(before) {
                search.missing -= self
                    .take(search.job, &cidr, search.missing, Terms::Borrow)
                    .await?;
                if search.missing == 0 {
                    return Ok(());
                }
            }
            search.note(&pool, "nothing to borrow");
        }
        Ok(())
    }

    async fn existing(&self, family: Family) -> Result<Existing> {
        let mut existing = Existing::default();
        for block in self.objects.list_live::<IpamBlock>().await? {
            if Family::of(&block.spec.cidr) == family {
                existing.insert(block);
            }
        }
        Ok(existing)
    }
}

/// Why no block may be claimed at all.
fn refusal(search: &Search<'_, '_>) -> Option<String> {
    let config = &search.job.config;
    let max = match config.max_blocks_per_host {
        0 => DEFAULT_MAX_BLOCKS,
        some => usize::try_from(some).unwrap_or(usize::MAX),
    };
    if !config.auto_allocate_blocks {
        Some("autoAllocateBlocks is off".to_string())
    } else if search.own.len() >= max {
        Some(format!(
            "the node has {} blocks (maxBlocksPerHost is {max})",
            search.own.len()
        ))
    } else {
        None
    }
}

fn explain(search: &Search<'_, '_>, rejected: Vec<(String, pool::Rejection)>) -> Vec<(String, String)> {
    let looked_at = search.pools.iter().map(|pool| {
        let name = pool.metadata.name.clone();
        let reasons = search.reasons.get(&name).map(|reasons| reasons.join(", "));
        (name, reasons.unwrap_or_default())
    });
    let passed_over = rejected.into_iter().map(|(name, why)| (name, why.to_string()));
    looked_at.chain(passed_over).collect()
}

/// The blocks of a family, by first address.
#[derive(Default)]
struct Existing {
    blocks: BTreeMap<u128, IpamBlock>,
}

impl Existing {
    fn insert(&mut self, block: IpamBlock) {
        self.blocks.insert(bits(block.spec.cidr.network()), block);
    }

    /// The block that has addresses in common with `cidr`. It may be of another size, from a pool of old.
    fn overlapping(&self, cidr: &IpNet) -> Option<&IpamBlock> {
        let (first, last) = (bits(cidr.network()), bits(cidr.broadcast()));
        let (_, nearest) = self.blocks.range(..=last).next_back()?;
        (bits(nearest.spec.cidr.broadcast()) >= first).then_some(nearest)
    }

    /// The blocks of a pool that lend and have something to lend.
    fn lenders(&self, pool: &IpNet) -> Vec<IpNet> {
        let range = bits(pool.network())..=bits(pool.broadcast());
        let blocks = self.blocks.range(range).map(|(_, block)| block);
        let lenders = blocks.filter(|block| is_lent(block) && !block.spec.unallocated.is_empty());
        lenders.map(|block| block.spec.cidr).collect()
    }
}

fn is_confirmed(affinity: &BlockAffinity) -> bool {
    affinity.spec.state == AffinityState::Confirmed
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
