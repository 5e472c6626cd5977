//! Which learned routes go through the tunnel: those into a pool with `ipipMode`, whose next hop is a node.
//!
//! `Always` means every other node, `CrossSubnet` every node outside our own subnet. The BGP next hop says which node it
//! is: an address in the annotation `projectcalico.org/IPv4Address` of a Node object. A next hop that is no node's, as a
//! top-of-rack router's, has no tunnel to receive with and is never sent encapsulated packets.
//!
//! A route that needs the tunnel is never sent bare instead. While the tunnel is being set up, here or at the other end,
//! the kernel keeps the route it has; where this node cannot have one, there is no route.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use bgp::BestRoute;
use datastore::types::{EncapMode, Node, annotation};
use ipnet::{IpNet, Ipv4Net};

use crate::{
    kernel::Gateway,
    snapshot::Snapshot,
    tunnel::{self, TunnelState},
};

/// How packets get to a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As the kernel's other routes say.
    Direct,
    /// Through the tunnel, whose other end has this address.
    Tunnel(Ipv4Addr),
    /// Through the tunnel, once it is up at both ends: until then as before.
    Later,
    /// Through the tunnel that this node cannot have.
    Never,
}

/// What decides about the ways, made ready for many lookups.
#[derive(Debug)]
pub struct Encapsulation<'a> {
    snapshot: &'a Snapshot,
    /// The other ends, by address, and whether each says that its tunnel is up. Empty where no pool asks for one.
    ends: BTreeMap<Ipv4Addr, bool>,
}

impl<'a> Encapsulation<'a> {
    /// Looks at the pools, the nodes and the tunnel.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let asked_for = tunnel::is_asked_for(snapshot.pools.all.values());
        let nodes = snapshot.nodes.all.values().filter(|_| asked_for);
        Encapsulation {
            snapshot,
            ends: nodes.filter_map(end).collect(),
        }
    }

    /// The way to a next hop of a route.
    pub fn way(&self, prefix: &IpNet, hop: IpAddr) -> Way {
        let IpAddr::V4(hop) = hop else {
            return Way::Direct;
        };
        let (Some(ready), Some(pool)) = (self.ends.get(&hop), self.snapshot.pool_of(prefix)) else {
            return Way::Direct;
        };
        let encapsulate = match pool.spec.ipip_mode {
            EncapMode::Never => false,
            EncapMode::Always => true,
            EncapMode::CrossSubnet => !self.is_in_our_subnet(hop),
        };
        match &self.snapshot.tunnel.state {
            _ if !encapsulate => Way::Direct,
            TunnelState::Up { settled, .. } if *settled || *ready => Way::Tunnel(hop),
            TunnelState::Unavailable => Way::Never,
            TunnelState::Off | TunnelState::Starting | TunnelState::Up { .. } => Way::Later,
        }
    }

    /// True while a route waits for the tunnel: what the kernel has for it must stay.
    pub fn is_waiting(&self) -> bool {
        let is_settled = matches!(
            self.snapshot.tunnel.state,
            TunnelState::Up { settled: true, .. } | TunnelState::Unavailable
        );
        !is_settled && !self.ends.is_empty() && self.snapshot.learned.iter().any(|(p, r)| self.waits(p, r))
    }

    fn waits(&self, prefix: &IpNet, route: &BestRoute) -> bool {
        let mut hops = route.next_hops.iter();
        hops.any(|hop| self.way(prefix, *hop) == Way::Later)
    }

    fn is_in_our_subnet(&self, address: Ipv4Addr) -> bool {
        let own = self.snapshot.addresses.v4;
        own.is_some_and(|own| own.contains(&address))
    }
}

/// The next hop of a route through the tunnel.
pub fn gateway(end: Ipv4Addr) -> Gateway {
    Gateway {
        address: end.into(),
        device: Some(tunnel::DEVICE.to_string()),
        onlink: true,
    }
}

/// A node's address, and whether it says that its tunnel is up.
fn end(node: &Node) -> Option<(Ipv4Addr, bool)> {
    let annotations = &node.metadata.annotations;
    let text = annotations.get(annotation::IPV4_ADDRESS)?;
    let address = match text.parse::<Ipv4Net>() {
        Ok(net) => net.addr(),
        Err(_) => text.parse().ok()?,
    };
    Some((
        address,
        annotations.contains_key(annotation::IPV4_IPIP_TUNNEL_ADDR),
    ))
}

#[cfg(test)]
mod tests;
