//! DEL: first nothing reaches the pod's addresses any more, then the record goes, then the addresses are released.

use std::net::IpAddr;

use cni::protocol::{DelRequest, Failure};
use ipam::block::Release;
use ipnet::IpNet;
use tokio::task::spawn_blocking;

use super::{
    CniServer,
    add::pod_name,
    bounded::{RELEASE_LIMIT, is_away, within},
    failure,
};
use crate::attachments::{Attachment, State};

/// Why an attachment could not be brought to an end yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfinished {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] crate::kernel::Error),
    /// The record cannot be written.
    #[error("the record: {0}")]
    Record(#[from] std::io::Error),
    /// The addresses are still assigned.
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
}

impl Unfinished {
    /// True where the next attachment would fare no better.
    pub(super) fn is_for_all(&self) -> bool {
        matches!(self, Unfinished::Ipam(error) if is_away(error))
    }
}

impl CniServer {
    /// Removes an attachment; done also where there is none.
    pub(super) async fn del(&self, request: DelRequest) -> Result<(), Failure> {
        failure::check_id(&request.id)?;
        let _turn = self.locks.lock(&request.id).await;
        match self.attachments.get(&request.id) {
            Some(attachment) => self.detach(attachment).await,
            None => self.release_unrecorded(&request).await,
        }
    }

    pub(super) async fn detach(&self, attachment: Attachment) -> Result<(), Failure> {
        self.cut_off(&attachment).await.map_err(|e| failure::kernel(&e))?;
        self.forget(&attachment).await.map_err(|e| failure::record(&e))?;
        if let Err(error) = self.release(&attachment).await {
            // The pod is gone whatever IPAM says: remember to release later, and let the runtime go on.
            tracing::warn!(handle = attachment.handle, %error, "addresses cannot be released yet; trying again later");
            return self
                .release_later(attachment)
                .await
                .map_err(|e| failure::record(&e));
        }
        tracing::info!(pod = pod_name(&attachment), addresses = ?attachment.addresses, "detached");
        Ok(())
    }

    /// Ends an attachment that nobody asks for any more. Its record goes last: no DEL would come again.
    pub(super) async fn finish(&self, attachment: Attachment) -> Result<(), Unfinished> {
        if attachment.state != State::Releasing {
            self.cut_off(&attachment).await?;
            self.release_later(attachment.clone()).await?;
        }
        self.release(&attachment).await?;
        self.forget(&attachment).await?;
        tracing::info!(pod = pod_name(&attachment), addresses = ?attachment.addresses, "released");
        Ok(())
    }

    async fn release_later(&self, attachment: Attachment) -> std::io::Result<()> {
        let waiting = Attachment {
            state: State::Releasing,
            ..attachment
        };
        let attachments = self.attachments.clone();
        let recorded = spawn_blocking(move || attachments.put(waiting)).await;
        recorded.map_err(std::io::Error::other)?
    }

    /// After a failed ADD, or where the record was lost: the handle finds what there may be.
    async fn release_unrecorded(&self, request: &DelRequest) -> Result<(), Failure> {
        let handle = ipam::names::pod_handle(&request.network, &request.id.container_id);
        let table = self.attachments.table();
        if table.values().any(|other| other.handle == handle) {
            // Another interface of the container has that handle: its own DEL will release it.
            return Ok(());
        }
        let released = within(RELEASE_LIMIT, self.allocator.release_handle(&handle)).await;
        self.metrics.ipam.released(&released);
        match released {
            Err(error) if is_away(&error) => {
                tracing::warn!(handle, %error, "addresses there may be cannot be released yet; trying again later");
                let unknown = Attachment {
                    id: request.id.clone(),
                    handle,
                    pod: None,
                    host_device: String::new(),
                    addresses: Vec::new(),
                    boot_id: self.boot_id.clone(),
                    order: self.attachments.next_order(),
                    state: State::Releasing,
                };
                self.release_later(unknown).await.map_err(|e| failure::record(&e))
            }
            released => released.map(drop).map_err(|e| failure::ipam(&e)),
        }
    }

    /// Takes the pod's routes and device away. A device that a later pod of the same name has by now is left alone:
    /// its alias names the attachment it belongs to.
    async fn cut_off(&self, attachment: &Attachment) -> Result<(), crate::kernel::Error> {
        if attachment.host_device.is_empty() {
            // Of this one nothing but the handle was ever known.
            return Ok(());
        }
        let link = self.kernel.find_link(&attachment.host_device).await?;
        let label = cni::veth::label(&attachment.id);
        if let Some(link) = link.filter(|link| link.alias.as_deref() == Some(&label)) {
            self.kernel.set_link_down(link.index).await?;
            self.kernel.delete_link(link.index);
        }
        for address in &attachment.addresses {
            self.kernel
                .remove_device_route(IpNet::from(*address), &attachment.host_device)
                .await?;
        }
        Ok(())
    }

    /// The record goes before the address can be given to another pod, whose route would else be this pod's too.
    async fn forget(&self, attachment: &Attachment) -> std::io::Result<()> {
        let (attachments, id) = (self.attachments.clone(), attachment.id.clone());
        spawn_blocking(move || attachments.remove(&id))
            .await
            .map_err(std::io::Error::other)?
    }

    /// Releases an attachment's addresses: all of its handle, unless another interface of the container shares it.
    pub(super) async fn release(&self, attachment: &Attachment) -> Result<(), ipam::Error> {
        let table = self.attachments.table();
        let shared = table
            .values()
            .any(|other| other.id != attachment.id && other.handle == attachment.handle);
        let work = async {
            if !shared {
                return self.allocator.release_handle(&attachment.handle).await;
            }
            let release = |address: &IpAddr| Release {
                address: *address,
                handle: Some(attachment.handle.clone()),
                sequence_number: None,
            };
            let releases: Vec<Release> = attachment.addresses.iter().map(release).collect();
            self.allocator.release_addresses(&releases).await
        };
        let released = within(RELEASE_LIMIT, work).await;
        self.metrics.ipam.released(&released);
        released.map(drop)
    }
}
