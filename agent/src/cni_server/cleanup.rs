//! What nobody asks for any more: releases that had to wait, pods of an earlier boot, devices whose deletion an earlier
//! agent did not live to see, and DELs that the plugin queued on disk while no agent answered.

use std::{sync::Arc, time::Duration};

use cni::pending::{Entry, Queue};
use tokio::{task::block_in_place, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::CniServer;
use crate::attachments::{Attachment, State};

/// Time between two looks. The plugin may queue a DEL at the very moment the agent comes up, so one look is not
/// enough.
const INTERVAL: Duration = Duration::from_secs(10);

/// Cleans up now and then until `stop`.
pub async fn clean_up(server: Arc<CniServer>, queue: Queue, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        server.replay(&queue).await;
        server.release_what_waits().await;
        server.delete_orphans().await;
    }
}

impl CniServer {
    /// Carries out the DELs the plugin queued. The queue is held for one DEL at a time, so that an ADD of the same
    /// attachment either takes its DEL back before or comes after it.
    async fn replay(&self, queue: &Queue) {
        let queued = match block_in_place(|| queue.lock()?.entries()) {
            Ok(queued) => queued,
            Err(error) => return tracing::warn!(%error, "cannot read the queued DELs"),
        };
        for entry in queued {
            if let Err(error) = self.replay_one(queue, &entry).await {
                tracing::warn!(path = %entry.path.display(), %error, "a queued DEL failed; trying again later");
            }
        }
    }

    async fn replay_one(&self, queue: &Queue, entry: &Entry) -> anyhow::Result<()> {
        let held = block_in_place(|| queue.lock())?;
        if !entry.path.exists() {
            return Ok(());
        }
        match &entry.request {
            Ok(request) => {
                self.del(request.clone()).await?;
                tracing::info!(
                    container = request.id.container_id,
                    "replayed a DEL queued by the plugin"
                );
            }
            Err(error) => {
                let path = entry.path.with_extension("broken");
                tracing::error!(path = %path.display(), %error, "a queued DEL cannot be read; set aside");
                std::fs::rename(&entry.path, path)?;
            }
        }
        block_in_place(|| held.remove(entry))?;
        Ok(())
    }

    /// Detaches what an earlier boot left, and releases what could not be released before.
    async fn release_what_waits(&self) {
        let table = self.attachments.table();
        let over = |attachment: &&Attachment| {
            attachment.state == State::Releasing || attachment.boot_id != self.boot_id
        };
        for attachment in table.values().filter(over) {
            let _turn = self.locks.lock(&attachment.id).await;
            if self.attachments.get(&attachment.id).as_ref() != Some(attachment) {
                continue;
            }
            if let Err(error) = self.finish(attachment.clone()).await {
                tracing::warn!(handle = attachment.handle, %error, "cannot clean up yet");
                if error.is_for_all() {
                    return;
                }
            }
        }
    }

    /// Deletes devices that bear an attachment's label while there is no such attachment. The plugin labels a device
    /// only after the record of its attachment is durable.
    async fn delete_orphans(&self) {
        let links = self.kernel.watch_links().borrow().clone();
        for link in links.iter() {
            let Some(id) = link.alias.as_deref().and_then(cni::veth::parse_label) else {
                continue;
            };
            let _turn = self.locks.lock(&id).await;
            if self.attachments.get(&id).is_none() {
                tracing::info!(
                    device = link.name,
                    container = id.container_id,
                    "deleting a device no pod has"
                );
                self.kernel.delete_link(link.index);
            }
        }
    }
}
