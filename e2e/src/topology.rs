//! What a lab consists of, read from a small YAML file.
//!
//! Every rule is checked before anything is built. An error names the field, what is wrong with it and what would be
//! right. IPv6 addresses are optional everywhere.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

mod validate;

pub(crate) use validate::{RESERVED, check_name};

#[cfg(test)]
mod tests;

/// The topology of `make demo`, embedded.
pub const DEMO: &str = include_str!("../topologies/demo.yaml");

/// What a lab consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// AS of every node.
    #[serde(default = "default_as")]
    pub as_number: u32,
    /// The layer-2 segments; each becomes a bridge in the lab's switch namespace.
    pub subnets: Vec<Subnet>,
    /// The machines that run the agent.
    pub nodes: Vec<NodeSpec>,
    /// The routers between subnets; each runs BIRD.
    #[serde(default)]
    pub routers: Vec<RouterSpec>,
    /// The IP pools that the datastore starts with.
    #[serde(default)]
    pub pools: Vec<PoolSpec>,
    /// How many pods `lab demo` attaches to each node.
    #[serde(default = "default_pods")]
    pub pods_per_node: usize,
    /// Where the objects live.
    #[serde(default)]
    pub datastore: Datastore,
    /// Variables for every agent (`ROUTELET_LOG: debug`), beside those that tell it where it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agent_env: BTreeMap<String, String>,
}

/// Where the objects of a lab live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Datastore {
    /// In a directory, as manifests.
    #[default]
    File,
    /// In an API server of the lab's own.
    Kubernetes,
}

/// A layer-2 segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// Also the label `rack` of its nodes.
    pub name: String,
    /// Its IPv4 range.
    pub cidr: Ipv4Net,
    /// Its IPv6 range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr6: Option<Ipv6Net>,
}

/// A machine that runs the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Name of the node in the cluster.
    pub name: String,
    /// Which subnet its `eth0` is in.
    pub subnet: String,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Its IPv6 address there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<Ipv6Addr>,
}

/// A router that runs BIRD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterSpec {
    /// Its name.
    pub name: String,
    /// Its AS.
    pub as_number: u32,
    /// Its address in each of its subnets.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// Its IPv6 address in each of its subnets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses6: BTreeMap<String, Ipv6Addr>,
    /// The password of its sessions (RFC 2385).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What it announces to the nodes.
    #[serde(default)]
    pub announces: Vec<Announcement>,
}

/// A prefix that a router announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// The prefix.
    pub prefix: IpNet,
    /// An address inside it that the router answers pings to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::IpAddr>,
}

/// An IP pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    /// Name of the `IPPool`.
    pub name: String,
    /// Its range.
    pub cidr: IpNet,
    /// Prefix length of its blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// `Never`, `Always` or `CrossSubnet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<String>,
    /// The same for VXLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<String>,
    /// Masquerade what leaves the cluster.
    #[serde(default)]
    pub nat_outgoing: bool,
}

fn default_as() -> u32 {
    64512
}

fn default_pods() -> usize {
    2
}

impl Topology {
    /// The topology of `make demo`.
    ///
    /// # Errors
    /// None in practice: a test parses it.
    pub fn demo() -> Result<Self> {
        Self::parse(DEMO).context("the built-in topology")
    }

    /// Gives every IPv4 pool this `ipipMode`.
    pub fn set_ipip_mode(&mut self, mode: &str) {
        for pool in self.pools.iter_mut().filter(|pool| pool.cidr.addr().is_ipv4()) {
            pool.ipip_mode = Some(mode.to_string());
        }
    }

    /// Reads a topology from a file.
    ///
    /// # Errors
    /// The file cannot be read, or as [`Topology::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Parses and validates.
    ///
    /// # Errors
    /// The first field that is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self> {
        let topology: Topology = serde_yaml::from_str(text)?;
        topology.validate()?;
        Ok(topology)
    }

    /// The subnet of that name.
    pub fn subnet(&self, name: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.name == name)
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The router of that name.
    pub fn router(&self, name: &str) -> Option<&RouterSpec> {
        self.routers.iter().find(|router| router.name == name)
    }

    /// The node's address with its subnet's prefix length, as an agent is told it.
    pub fn node_cidr(&self, node: &NodeSpec) -> Option<Ipv4Net> {
        let subnet = self.subnet(&node.subnet)?;
        Ipv4Net::new(node.address, subnet.cidr.prefix_len()).ok()
    }

    /// The nodes in a subnet.
    pub fn nodes_in<'a>(&'a self, subnet: &'a str) -> impl Iterator<Item = &'a NodeSpec> {
        self.nodes.iter().filter(move |node| node.subnet == subnet)
    }

    /// The router that is the default gateway of a subnet: the first one with an address there.
    pub fn gateway(&self, subnet: &str) -> Option<Ipv4Addr> {
        self.routers
            .iter()
            .find_map(|router| router.addresses.get(subnet))
            .copied()
    }

    /// The same for IPv6.
    pub fn gateway6(&self, subnet: &str) -> Option<Ipv6Addr> {
        self.routers
            .iter()
            .find_map(|router| router.addresses6.get(subnet))
            .copied()
    }
}
