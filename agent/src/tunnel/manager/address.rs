//! The tunnel's address: from IPAM to the device and into the annotation, and back.

use std::net::Ipv4Addr;

use datastore::types::{AllowedUse, annotation};
use ipam::{AssignRequest, block::Release};
use ipnet::{IpNet, Ipv4Net};

use super::{Manager, Seen, v4};
use crate::{kernel::Link, node, tunnel::policy};

impl Manager {
    /// The address that the device should have: the one it had, else a new one; none where no pool gives one.
    pub(super) async fn address(&mut self, seen: &Seen) -> Result<Option<Ipv4Addr>, String> {
        let held = self.look_up().await?;
        let kept = held
            .iter()
            .copied()
            .find(|address| policy::may_keep(*address, seen.pools()));
        if kept.is_some() {
            return Ok(kept);
        }
        let labels = seen.nodes.all.get(&self.settings.node);
        let labels = labels
            .map(|node| node.metadata.labels.clone())
            .unwrap_or_default();
        let choice = policy::address_pools(seen.pools(), &labels);
        if choice.eligible.is_empty() {
            return Ok(None);
        }
        let request = AssignRequest {
            handle: self.handle.clone(),
            attributes: [
                ("node", self.settings.node.as_str()),
                ("type", "ipipTunnelAddress"),
            ]
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .into(),
            ipv4: 1,
            ipv6: 0,
            ipv4_pools: choice
                .eligible
                .into_iter()
                .map(|pool| pool.metadata.name)
                .collect(),
            ipv6_pools: Vec::new(),
            use_: AllowedUse::Tunnel,
        };
        // A reply that is lost may leave an address with the handle.
        self.held = None;
        let assigned = self.allocator.assign(request).await;
        assigned.map_err(|error| format!("no address for it: {error}"))?;
        let held = self.look_up().await?;
        let new = held
            .iter()
            .copied()
            .find(|address| policy::may_keep(*address, seen.pools()));
        tracing::info!(address = ?new, "address for the tunnel");
        Ok(new)
    }

    pub(super) async fn look_up(&mut self) -> Result<Vec<Ipv4Addr>, String> {
        if let Some(held) = &self.held {
            return Ok(held.clone());
        }
        let found = self.allocator.addresses_of(&self.handle).await;
        let found = found.map_err(|error| format!("cannot look up its address: {error}"))?;
        let held: Vec<Ipv4Addr> = found.into_iter().filter_map(v4).collect();
        self.held = Some(held.clone());
        Ok(held)
    }

    /// Makes device, annotation and IPAM agree on the address.
    pub(super) async fn apply(
        &mut self,
        seen: &Seen,
        device: &Link,
        address: Option<Ipv4Addr>,
    ) -> Result<(), String> {
        let wanted = address.map(|address| IpNet::from(Ipv4Net::from(address)));
        if let Some(net) = wanted.filter(|net| !device.addresses.contains(net)) {
            let added = self.kernel.add_address(device.index, net).await;
            added.map_err(|error| error.to_string())?;
        }
        let text = address.map(|address| address.to_string());
        self.annotate(seen, text.as_deref()).await?;
        // The new one first: with its last address a device loses its routes.
        let others = device.addresses.iter().filter(|net| net.addr().is_ipv4());
        for net in others.filter(|net| Some(**net) != wanted) {
            let removed = self.kernel.remove_address(device.index, *net).await;
            removed.map_err(|error| error.to_string())?;
        }
        self.release_all_but(address).await
    }

    pub(super) async fn annotate(&self, seen: &Seen, value: Option<&str>) -> Result<(), String> {
        if seen.annotated(&self.settings.node) == value {
            return Ok(());
        }
        let key = annotation::IPV4_IPIP_TUNNEL_ADDR;
        match node::annotate(&self.store, &self.settings.node, key, value).await {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("cannot write {key} of this node's Node object: {error}")),
        }
    }

    async fn release_all_but(&mut self, kept: Option<Ipv4Addr>) -> Result<(), String> {
        let held = self.held.clone().unwrap_or_default();
        let releases: Vec<Release> = held
            .into_iter()
            .filter(|address| Some(*address) != kept)
            .map(|address| Release {
                handle: Some(self.handle.clone()),
                ..Release::of(address.into())
            })
            .collect();
        if releases.is_empty() {
            return Ok(());
        }
        self.held = None;
        let released = self.allocator.release_addresses(&releases).await;
        released.map_err(|error| format!("cannot release its old address: {error}"))?;
        self.held = Some(kept.into_iter().collect());
        Ok(())
    }
}
