//! Writes the network configuration once the node can take pods.

use std::time::Duration;

use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::conflist::{Outcome, Settings};
use crate::health::Health;

/// Time between two looks whether the node is ready.
const POLL: Duration = Duration::from_millis(500);
/// Time between two attempts to write.
const RETRY: Duration = Duration::from_secs(10);

/// What has become of the network configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Publication {
    /// Nobody asked for it.
    #[default]
    NotWanted,
    /// The node cannot take pods yet.
    Waiting,
    /// It is there.
    Written,
    /// It cannot be written; it is tried again.
    Failed(String),
}

/// Waits until the node can take pods, and writes; tries again until that has worked, or until `stop`.
pub async fn publish(
    settings: Settings,
    health: Health,
    told: watch::Sender<Publication>,
    stop: CancellationToken,
) {
    told.send_replace(Publication::Waiting);
    let work = async {
        while !health.serving().await.is_good() {
            tokio::time::sleep(POLL).await;
        }
        while !attempt(&settings, &told).await {
            tokio::time::sleep(RETRY).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn attempt(settings: &Settings, told: &watch::Sender<Publication>) -> bool {
    let settings = settings.clone();
    let now = match spawn_blocking(move || settings.write()).await {
        Ok(Ok(outcome)) => {
            report(&outcome);
            Publication::Written
        }
        Ok(Err(error)) => Publication::Failed(error.to_string()),
        Err(error) => Publication::Failed(error.to_string()),
    };
    told.send_if_modified(|before| {
        let changed = *before != now;
        if changed {
            if let Publication::Failed(reason) = &now {
                tracing::error!(
                    reason,
                    "the network configuration cannot be written; trying again"
                );
            }
            before.clone_from(&now);
        }
        changed
    });
    now == Publication::Written
}

fn report(outcome: &Outcome) {
    if outcome.written {
        tracing::info!("network configuration written: the runtime may send pods");
    }
    for path in &outcome.disabled {
        tracing::info!(path = %path.display(), "set aside; `routelet uninstall-cni` brings it back");
    }
    for other in &outcome.first {
        tracing::warn!(%other, "the runtime takes this network configuration before ours, for its name sorts first");
    }
}
