//! ADD: addresses, then the record, then the reply.

use std::{collections::BTreeMap, net::IpAddr};

use cni::protocol::{AddReply, AddRequest, Failure};
use datastore::types::AllowedUse;
use ipam::AssignRequest;
use tokio::task::spawn_blocking;

use super::{
    CniServer,
    bounded::{ADD_LIMIT, within},
    failure,
};
use crate::attachments::{Attachment, State};

/// MTU where neither the device of the node's address nor the administrator gives one.
const DEFAULT_MTU: u32 = 1500;

impl CniServer {
    /// Assigns addresses and records the attachment; both are durable when it returns. Repeating it gives the same
    /// addresses.
    pub(super) async fn add(&self, request: AddRequest) -> Result<AddReply, Failure> {
        failure::check_id(&request.id)?;
        let _turn = self.locks.lock(&request.id).await;
        let known = self.attachments.get(&request.id);
        let addresses = match known {
            Some(known) if known.state == State::Active && known.host_device == request.host_device => {
                known.addresses
            }
            _ => self.attach(request).await?,
        };
        Ok(AddReply {
            addresses,
            mtu: self.mtu(),
            route_protocol: self.route_protocol,
        })
    }

    async fn attach(&self, request: AddRequest) -> Result<Vec<IpAddr>, Failure> {
        let handle = ipam::names::pod_handle(&request.network, &request.id.container_id);
        let addresses = within(ADD_LIMIT, self.addresses_for(&request, &handle)).await;
        let addresses = addresses.map_err(|error| {
            tracing::warn!(handle, %error, "no address");
            failure::ipam(&error)
        })?;
        let attachment = Attachment {
            id: request.id,
            handle,
            pod: request.pod,
            host_device: request.host_device,
            addresses: addresses.clone(),
            boot_id: self.boot_id.clone(),
            order: self.attachments.next_order(),
            state: State::Active,
        };
        if let Err(error) = self.record(attachment.clone()).await {
            // The runtime will send DEL; this only spares the addresses the wait.
            if let Err(error) = self.release(&attachment).await {
                tracing::warn!(handle = attachment.handle, %error, "addresses wait for the runtime's DEL");
            }
            return Err(failure::record(&error));
        }
        tracing::info!(
            pod = pod_name(&attachment),
            device = attachment.host_device,
            ?addresses,
            "attached"
        );
        Ok(addresses)
    }

    /// Those an earlier attempt left under the handle, else new ones.
    async fn addresses_for(&self, request: &AddRequest, handle: &str) -> ipam::Result<Vec<IpAddr>> {
        let left = self.allocator.addresses_of(handle).await?;
        let table = self.attachments.table();
        let of_others: Vec<_> = table.values().filter(|other| other.id != request.id).collect();
        let left: Vec<IpAddr> = left
            .into_iter()
            .filter(|address| !of_others.iter().any(|other| other.addresses.contains(address)))
            .collect();
        let complete = left.iter().any(IpAddr::is_ipv4) == request.assign.ipv4
            && left.iter().any(IpAddr::is_ipv6) == request.assign.ipv6;
        if complete && !left.is_empty() {
            return Ok(left);
        }
        let assigned = self.allocator.assign(self.assign_request(request, handle)).await;
        self.metrics.ipam.assigned(&assigned);
        assigned.map(|assigned| assigned.addresses)
    }

    fn assign_request(&self, request: &AddRequest, handle: &str) -> AssignRequest {
        AssignRequest {
            handle: handle.to_string(),
            attributes: self.attributes(request),
            ipv4: u32::from(request.assign.ipv4),
            ipv6: u32::from(request.assign.ipv6),
            ipv4_pools: request.ipv4_pools.clone(),
            ipv6_pools: request.ipv6_pools.clone(),
            use_: AllowedUse::Workload,
        }
    }

    /// Who has the address, in Calico's words.
    fn attributes(&self, request: &AddRequest) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::from([
            ("node".to_string(), self.node.clone()),
            ("timestamp".to_string(), jiff::Timestamp::now().to_string()),
        ]);
        if let Some(pod) = &request.pod {
            attributes.insert("namespace".to_string(), pod.namespace.clone());
            attributes.insert("pod".to_string(), pod.name.clone());
        }
        attributes
    }

    async fn record(&self, attachment: Attachment) -> std::io::Result<()> {
        let attachments = self.attachments.clone();
        spawn_blocking(move || attachments.put(attachment))
            .await
            .map_err(std::io::Error::other)?
    }

    fn mtu(&self) -> u32 {
        let addresses = *self.addresses.borrow();
        let links = self.kernel.watch_links();
        let links = links.borrow();
        let own = links
            .iter()
            .find(|link| addresses.iter().any(|address| link.addresses.contains(&address)));
        let own = own.map_or(DEFAULT_MTU, |link| link.mtu);
        let carried = self.tunnel.borrow().mtu().map_or(own, |mtu| mtu.min(own));
        self.pod_mtu.unwrap_or(carried)
    }
}

/// `namespace/name`, or the container's id where the runtime named no pod.
pub(super) fn pod_name(attachment: &Attachment) -> String {
    match &attachment.pod {
        Some(pod) => format!("{}/{}", pod.namespace, pod.name),
        None => attachment.id.container_id.clone(),
    }
}
