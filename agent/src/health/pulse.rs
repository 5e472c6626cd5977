//! A task's sign of life.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time between two signs of a task that waits.
const INTERVAL: Duration = Duration::from_secs(5);

/// When a task was last seen at work. Clones are one pulse.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Default for Pulse {
    fn default() -> Self {
        Pulse(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Pulse {
    /// Renews it.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When it was last renewed.
    pub fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews it for as long as it is polled. A branch of the `select!` in which a task waits for work: the pulse
    /// goes on while the task waits, and stops while it is stuck in its work.
    pub async fn while_waiting(&self) -> Infallible {
        loop {
            self.beat();
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
