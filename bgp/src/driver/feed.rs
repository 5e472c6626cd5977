//! Best routes on their way out: a map that holds the latest of each destination, and a bell.
//!
//! However slow the reader, what waits is never more than the table has destinations.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::status::RouteChanges;

#[derive(Debug, Default)]
struct State {
    /// What the reader has not taken.
    waiting: Option<RouteChanges>,
    /// The speaker has stopped.
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    bell: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole at every unlock, panic or not.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reader's end: what changed among the best learned routes.
#[derive(Debug)]
pub struct RouteFeed {
    shared: Arc<Shared>,
}

impl RouteFeed {
    /// Waits for changes and takes all there are; `None` once the speaker has stopped. Safe to drop and call again.
    ///
    /// What a route was before is not told: a destination that came and went in between is there with `None`.
    pub async fn next(&mut self) -> Option<RouteChanges> {
        loop {
            let bell = self.shared.bell.notified();
            {
                let mut state = self.shared.state();
                if let Some(changes) = state.waiting.take() {
                    return Some(changes);
                }
                if state.closed {
                    return None;
                }
            }
            bell.await;
        }
    }
}

/// The speaker's end. Dropping it ends the feed.
#[derive(Debug)]
pub(super) struct Publisher {
    shared: Arc<Shared>,
}

impl Publisher {
    pub(super) fn publish(&self, changes: RouteChanges) {
        {
            let mut state = self.shared.state();
            let waiting = state.waiting.get_or_insert_default();
            waiting.changed.extend(changes.changed);
            waiting.converged = changes.converged;
        }
        self.shared.bell.notify_one();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.bell.notify_one();
    }
}

pub(super) fn channel() -> (Publisher, RouteFeed) {
    let shared = Arc::new(Shared::default());
    (
        Publisher {
            shared: shared.clone(),
        },
        RouteFeed { shared },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;

    fn gone(prefix: &str) -> RouteChanges {
        let prefix: IpNet = prefix.parse().unwrap();
        RouteChanges {
            changed: [(prefix, None)].into(),
            converged: false,
        }
    }

    #[tokio::test]
    async fn changes_wait_once_a_destination_and_end_with_the_publisher() {
        let (publisher, mut feed) = channel();
        for _ in 0..100 {
            publisher.publish(gone("10.0.0.0/26"));
            publisher.publish(gone("10.0.0.64/26"));
        }
        assert_eq!(feed.next().await.unwrap().changed.len(), 2);
        publisher.publish(gone("10.0.0.0/26"));
        drop(publisher);
        assert_eq!(feed.next().await.unwrap().changed.len(), 1);
        assert_eq!(feed.next().await, None);
    }
}
