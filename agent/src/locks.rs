//! One lock a key: requests about one attachment wait for each other, all others do not.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// Locks by key. A key costs memory only while somebody holds or awaits it.
#[derive(Debug)]
pub struct Locks<K> {
    held: Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>,
}

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Locks {
            held: Mutex::default(),
        }
    }
}

impl<K: Clone + Eq + Hash> Locks<K> {
    /// Waits until nobody else has the key's lock; it is given back when the guard is dropped.
    pub async fn lock(&self, key: &K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            // A lock that only the map knows is nobody's.
            held.retain(|_, lock| Arc::strong_count(lock) > 1);
            held.entry(key.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_key_waits_and_another_does_not() {
        let locks = Locks::default();
        let first = locks.lock(&1).await;
        let _other = locks.lock(&2).await;
        assert!(futures::poll!(std::pin::pin!(locks.lock(&1))).is_pending());
        drop(first);
        let _again = locks.lock(&1).await;
        assert_eq!(
            locks.held.lock().unwrap().len(),
            2,
            "a lock nobody has is forgotten"
        );
    }
}
