//! Brings this node's half-made and half-given-up claims on blocks to an end: at the start, for an agent may have been
//! killed in the middle of one, and whenever one stays unfinished.

use std::time::Duration;

use datastore::types::{AffinityState, BlockAffinity};
use ipam::Allocator;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache::Objects;

/// How long a claim may be unfinished before somebody looks: one that is being made is done in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Finishes claims until `stop`.
pub async fn finish(
    allocator: Allocator,
    node: String,
    mut affinities: watch::Receiver<Objects<BlockAffinity>>,
    stop: CancellationToken,
) {
    let mut due = true;
    loop {
        if due && let Err(error) = allocator.resume().await {
            tracing::warn!(%error, "cannot finish this node's claims on blocks yet");
        }
        let unfinished =
            affinities.borrow_and_update().all.values().any(|affinity| {
                affinity.spec.node == node && affinity.spec.state != AffinityState::Confirmed
            });
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PATIENCE), if unfinished => due = true,
            changed = affinities.changed(), if !unfinished => {
                if changed.is_err() { return }
                due = false;
            }
        }
    }
}
