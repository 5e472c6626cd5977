//! Everything that decides what this node should look like, at one moment.
//!
//! A snapshot is made anew for every pass of the reconciler; it is cheap, for its parts are shared. What is read
//! back (learned routes, next hops) comes in here as an input like any other.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bgp::BestRoute;
use datastore::types::{BgpConfiguration, BgpPeer, BlockAffinity, IpPool, Node, Secret};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{attachments::Table, cache::Objects, desired::passwords, kernel::NextHop, tunnel::Tunnel};

/// This node's addresses, each with the subnet it is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// IPv4.
    pub v4: Option<Ipv4Net>,
    /// IPv6.
    pub v6: Option<Ipv6Net>,
}

impl NodeAddresses {
    /// Both families, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.v4.map(IpNet::V4).into_iter().chain(self.v6.map(IpNet::V6))
    }

    /// The address of the family of `other`.
    pub fn of_family_of(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => self.v4.map(|net| IpAddr::V4(net.addr())),
            IpAddr::V6(_) => self.v6.map(|net| IpAddr::V6(net.addr())),
        }
    }

    /// The BGP identifier: the IPv4 address, or the last 32 bits of the IPv6 address. RFC 6286 asks only that it is
    /// not zero and that no two speakers of an AS have the same.
    pub fn router_id(&self) -> Option<Ipv4Addr> {
        let low_bits = |net: Ipv6Net| {
            let [.., a, b, c, d] = net.addr().octets();
            Ipv4Addr::new(a, b, c, d)
        };
        self.v4
            .map(|net| net.addr())
            .or(self.v6.map(low_bits))
            .filter(|id| !id.is_unspecified())
    }
}

/// The inputs of [`crate::desired::desired`].
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Name of this node.
    pub node: String,
    /// Its addresses.
    pub addresses: NodeAddresses,
    /// All nodes, this one among them.
    pub nodes: Objects<Node>,
    /// Pools.
    pub pools: Objects<IpPool>,
    /// Claims on blocks, of all nodes.
    pub affinities: Objects<BlockAffinity>,
    /// The one called `default` counts.
    pub bgp_configurations: Objects<BgpConfiguration>,
    /// Peers.
    pub bgp_peers: Objects<BgpPeer>,
    /// Secrets of the agent's namespace.
    pub secrets: Objects<Secret>,
    /// The agent's namespace.
    pub namespace: String,
    /// The pods attached here.
    pub attachments: Arc<Table>,
    /// Best routes learned by BGP.
    pub learned: Arc<BTreeMap<IpNet, BestRoute>>,
    /// True once BGP has told all it will of what it knew before a restart.
    pub bgp_converged: bool,
    /// How the next hops of `learned` are reached.
    pub next_hops: Arc<BTreeMap<IpAddr, NextHop>>,
    /// The IPIP tunnel.
    pub tunnel: Tunnel,
}

impl Snapshot {
    /// Kinds whose first full list has not arrived. Secrets are waited for only where one is needed, and not where the
    /// agent may not read them.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let no_secrets_needed = || self.secrets.refused.is_some() || !passwords::are_wanted(self);
        let kinds = [
            (self.nodes.synced, "Node"),
            (self.pools.synced, "IPPool"),
            (self.affinities.synced, "BlockAffinity"),
            (self.bgp_configurations.synced, "BGPConfiguration"),
            (self.bgp_peers.synced, "BGPPeer"),
            (self.secrets.synced || no_secrets_needed(), "Secret"),
        ];
        kinds
            .into_iter()
            .filter(|(synced, _)| !synced)
            .map(|(_, kind)| kind)
            .collect()
    }

    /// The Node object of this node.
    pub fn own_node(&self) -> Option<&Node> {
        self.nodes.all.get(&self.node)
    }

    /// The pool an address or block is in: the most specific one.
    pub fn pool_of(&self, net: &IpNet) -> Option<&IpPool> {
        let around = self
            .pools
            .all
            .values()
            .filter(|pool| pool.spec.cidr.contains(net));
        around.max_by_key(|pool| pool.spec.cidr.prefix_len())
    }
}
