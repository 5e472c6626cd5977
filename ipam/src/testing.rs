//! A simulated datastore: in memory, deterministic, and able to fail at any call.
//!
//! A [`Cluster`] holds the objects. Each simulated process has a [`Client`] of its own, with a *plan* that is asked
//! before every call what is to happen to it ([`Fault`]): a conflict, a lost reply, a pause in which others run, or
//! the death of the process before or after the call took effect. A dead process's future never completes: race it
//! against [`Client::died`] and drop it, as the operating system would.
//!
//! With one thread, a paused clock and seeded plans, a run depends on nothing but its seeds.
//!
//! What it does not do: fields that the types do not know are not kept, and there is no history to resume a watch
//! from.

mod backend;
mod plan;

pub use backend::{Client, Cluster};
pub use plan::{Call, Fault, Odds, Plan, Rng, Verb, crash_at, random};

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use datastore::Store;
use jiff::Timestamp;

use crate::{Environment, check};

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct Clock {
    nanoseconds: Arc<AtomicI64>,
}

impl Default for Clock {
    /// A moment in November 2026.
    fn default() -> Self {
        Clock {
            nanoseconds: Arc::new(AtomicI64::new(1_795_000_000_000_000_000)),
        }
    }
}

impl Clock {
    /// Moves the clock on.
    pub fn advance_seconds(&self, seconds: i64) {
        self.nanoseconds
            .fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let now = self.nanoseconds.load(Ordering::Relaxed);
        Timestamp::from_nanosecond(i128::from(now)).unwrap_or_default()
    }

    /// An allocator's environment on this clock.
    pub fn environment(&self, seed: u64) -> Environment {
        let clock = self.clone();
        Environment {
            now: Arc::new(move || clock.now()),
            seed,
        }
    }
}

/// Everything wrong with what is stored.
pub async fn problems(store: &Store) -> datastore::Result<Vec<check::Problem>> {
    Ok(check::check(
        &store.list().await?,
        &store.list().await?,
        &store.list().await?,
    ))
}
