//! Desired against actual: a map of what should be beside a map of what is, and what to do to make them agree.
//!
//! A Venn diagram of two sets of keys. In `desired` only: to be created. In `actual` only: to be deleted. In both, but
//! with values that differ: to be updated. The two sets of things to do are kept as either side changes, so that what
//! a change costs depends on the change and not on the size of the maps.
//!
//! It knows nothing of the dataplane: no order, no errors, no retries. Whoever applies a change says what came of it
//! with [`Delta::set_actual`] and [`Delta::remove_actual`].

use std::collections::{BTreeMap, BTreeSet};

/// Desired against actual, by key. A desired value may be of another type than an actual one where it can be compared
/// with it, so that "any device will do" can equal a certain device.
#[derive(Debug, Clone)]
pub struct Delta<K, D, A = D> {
    desired: BTreeMap<K, D>,
    actual: BTreeMap<K, A>,
    /// Keys that are desired and are not, or are otherwise.
    updates: BTreeSet<K>,
    /// Keys that are and are not desired.
    deletions: BTreeSet<K>,
}

impl<K, D, A> Default for Delta<K, D, A> {
    fn default() -> Self {
        Delta {
            desired: BTreeMap::new(),
            actual: BTreeMap::new(),
            updates: BTreeSet::new(),
            deletions: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone, D: PartialEq + PartialEq<A>, A: PartialEq> Delta<K, D, A> {
    /// Both sides empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// What should be.
    pub fn desired(&self) -> &BTreeMap<K, D> {
        &self.desired
    }

    /// What is.
    pub fn actual(&self) -> &BTreeMap<K, A> {
        &self.actual
    }

    /// Keys to create or update, in order.
    pub fn updates(&self) -> &BTreeSet<K> {
        &self.updates
    }

    /// Keys to delete, in order.
    pub fn deletions(&self) -> &BTreeSet<K> {
        &self.deletions
    }

    /// True where both sides agree.
    pub fn is_in_sync(&self) -> bool {
        self.updates.is_empty() && self.deletions.is_empty()
    }

    /// True where `key` is desired and is so.
    pub fn is_installed(&self, key: &K) -> bool {
        self.desired.contains_key(key) && !self.updates.contains(key)
    }

    /// `key` should be `value`.
    pub fn set_desired(&mut self, key: K, value: D) {
        self.desired.insert(key.clone(), value);
        self.compare(&key);
    }

    /// `key` should not be.
    pub fn remove_desired(&mut self, key: &K) -> Option<D> {
        let removed = self.desired.remove(key);
        self.compare(key);
        removed
    }

    /// `key` is `value`.
    pub fn set_actual(&mut self, key: K, value: A) {
        self.actual.insert(key.clone(), value);
        self.compare(&key);
    }

    /// `key` is not.
    pub fn remove_actual(&mut self, key: &K) -> Option<A> {
        let removed = self.actual.remove(key);
        self.compare(key);
        removed
    }

    /// Everything that should be, at once. Returns the keys whose desired value changed, in order.
    pub fn replace_desired(&mut self, desired: BTreeMap<K, D>) -> Vec<K> {
        let changed = difference(&self.desired, &desired);
        self.desired = desired;
        changed.iter().for_each(|key| self.compare(key));
        changed
    }

    /// Everything that is, at once. Returns the keys whose actual value changed, in order.
    pub fn replace_actual(&mut self, actual: BTreeMap<K, A>) -> Vec<K> {
        let changed = difference(&self.actual, &actual);
        self.actual = actual;
        changed.iter().for_each(|key| self.compare(key));
        changed
    }

    /// Puts `key` where it belongs.
    fn compare(&mut self, key: &K) {
        let (update, deletion) = match (self.desired.get(key), self.actual.get(key)) {
            (Some(desired), Some(actual)) => (desired != actual, false),
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (None, None) => (false, false),
        };
        place(&mut self.updates, key, update);
        place(&mut self.deletions, key, deletion);
    }
}

fn place<K: Ord + Clone>(set: &mut BTreeSet<K>, key: &K, belongs: bool) {
    if !belongs {
        set.remove(key);
    } else if !set.contains(key) {
        set.insert(key.clone());
    }
}

/// The keys whose values differ between two maps, in order.
fn difference<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    let gone_or_changed = old.iter().filter(|(key, value)| new.get(key) != Some(value));
    let added = new.iter().filter(|(key, _)| !old.contains_key(key));
    let keys: BTreeSet<&K> = gone_or_changed.chain(added).map(|(key, _)| key).collect();
    keys.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests;
