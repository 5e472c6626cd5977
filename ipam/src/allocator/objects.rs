//! Objects as the allocator sees them: a lost race is an outcome, not an error, and an object that is marked
//! `deleted` does not exist (its delete is finished on the way).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use datastore::{
    DeleteOptions, Resource, Store,
    types::{BlockAffinity, IpamBlock, IpamHandle},
};

use crate::{
    check,
    error::{Error, Result},
};

/// Writes of one object that may fail before the request does.
const MAX_ATTEMPTS: u32 = 100;
/// The longest wait between two of them.
const MAX_BACKOFF: Duration = Duration::from_millis(50);

/// An object that is deleted in two writes.
pub(super) trait TwoPhaseDelete: Resource {
    /// True between the two.
    fn is_deleted(&self) -> bool;
    /// Prepares the first.
    fn mark_deleted(&mut self);
}

impl TwoPhaseDelete for IpamBlock {
    fn is_deleted(&self) -> bool {
        self.spec.deleted
    }
    fn mark_deleted(&mut self) {
        self.spec.deleted = true;
        self.spec.sequence_number = self.spec.sequence_number.saturating_add(1);
    }
}

impl TwoPhaseDelete for IpamHandle {
    fn is_deleted(&self) -> bool {
        self.spec.deleted
    }
    fn mark_deleted(&mut self) {
        self.spec.deleted = true;
    }
}

impl TwoPhaseDelete for BlockAffinity {
    fn is_deleted(&self) -> bool {
        check::is_true(&self.spec.deleted)
    }
    fn mark_deleted(&mut self) {
        self.spec.deleted = "true".to_string();
    }
}

/// The store, with races told apart from failures.
pub(super) struct Objects {
    store: Store,
    seed: u64,
    retries: AtomicU64,
}

impl Objects {
    pub(super) fn new(store: Store, seed: u64) -> Self {
        Objects {
            store,
            seed,
            retries: AtomicU64::new(0),
        }
    }

    /// An object of any kind; `None` where it does not exist.
    pub(super) async fn get<T: Resource>(&self, name: &str) -> Result<Option<T>> {
        match self.store.get(name).await {
            Err(error) if error.is_not_found() => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// The same for what is deleted in two writes.
    pub(super) async fn live<T: TwoPhaseDelete>(&self, name: &str) -> Result<Option<T>> {
        match self.get::<T>(name).await? {
            Some(object) if object.is_deleted() => {
                self.remove(&object).await?;
                Ok(None)
            }
            other => Ok(other),
        }
    }

    /// All objects of a kind.
    pub(super) async fn list<T: Resource>(&self) -> Result<Vec<T>> {
        Ok(self.store.list().await?)
    }

    /// All objects of a kind that are not deleted.
    pub(super) async fn list_live<T: TwoPhaseDelete>(&self) -> Result<Vec<T>> {
        let mut live = Vec::new();
        for object in self.list::<T>().await? {
            if object.is_deleted() {
                self.remove(&object).await?;
            } else {
                live.push(object);
            }
        }
        Ok(live)
    }

    /// `None` where there is one already.
    pub(super) async fn create<T: Resource>(&self, object: &T) -> Result<Option<T>> {
        match self.store.create(object).await {
            Err(error) if error.is_already_exists() => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// Compare-and-swap; `None` where somebody was faster.
    pub(super) async fn swap<T: Resource>(&self, object: &T) -> Result<Option<T>> {
        match self.store.update(object).await {
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// Deletes an object, in two writes; false where somebody was faster with the first.
    pub(super) async fn delete<T: TwoPhaseDelete>(&self, mut object: T) -> Result<bool> {
        object.mark_deleted();
        match self.swap(&object).await? {
            Some(marked) => self.remove(&marked).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// The second write of a delete. Somebody else may have made it, or the whole object anew.
    async fn remove<T: TwoPhaseDelete>(&self, marked: &T) -> Result<()> {
        let name = marked.metadata().name.clone();
        let mut retry = self.retry::<T>(&name);
        let mut marked = marked.clone();
        loop {
            match self.store.delete::<T>(&name, preconditions(&marked)).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) if error.is_conflict() => {}
                other => return Ok(other?),
            }
            // Hands may write what programs leave alone.
            match self.get::<T>(&name).await? {
                Some(current) if current.is_deleted() => marked = current,
                _ => return Ok(()),
            }
            retry.again().await?;
        }
    }

    /// Starts counting the attempts at an object.
    pub(super) fn retry<T: Resource>(&self, name: &str) -> Retry<'_> {
        Retry {
            objects: self,
            object: format!("{} \"{name}\"", T::KIND.kind),
            attempts: 0,
        }
    }
}

/// Only this very object, as it was read.
fn preconditions<T: Resource>(object: &T) -> DeleteOptions {
    let metadata = object.metadata();
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    DeleteOptions {
        uid: some(&metadata.uid),
        resource_version: some(&metadata.resource_version),
    }
}

/// Counts the attempts at an object and spaces them out.
pub(super) struct Retry<'a> {
    objects: &'a Objects,
    object: String,
    attempts: u32,
}

impl Retry<'_> {
    /// Waits before the next attempt; an error where there have been enough.
    pub(super) async fn again(&mut self) -> Result<()> {
        self.attempts += 1;
        if self.attempts >= MAX_ATTEMPTS {
            return Err(Error::Conflict {
                object: self.object.clone(),
                attempts: self.attempts,
            });
        }
        tokio::time::sleep(self.backoff()).await;
        Ok(())
    }

    /// Up to 1, 2, 4, … milliseconds, with full jitter.
    fn backoff(&self) -> Duration {
        let count = self.objects.retries.fetch_add(1, Ordering::Relaxed);
        let mut hasher = DefaultHasher::new();
        (self.objects.seed, count, &self.object).hash(&mut hasher);
        let longest = Duration::from_millis(1 << self.attempts.min(10)).min(MAX_BACKOFF);
        longest.mul_f64((hasher.finish() % 1000) as f64 / 1000.0)
    }
}
