//! `Node` of Kubernetes: the part that routing needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Metadata;

/// Annotations that carry a node's routing data (Calico's names).
pub mod annotation {
    /// Address and subnet (`192.168.33.11/24`).
    pub const IPV4_ADDRESS: &str = "projectcalico.org/IPv4Address";
    /// Address and subnet.
    pub const IPV6_ADDRESS: &str = "projectcalico.org/IPv6Address";
    /// Address of `tunl0`.
    pub const IPV4_IPIP_TUNNEL_ADDR: &str = "projectcalico.org/IPv4IPIPTunnelAddr";
    /// Address of `vxlan.calico`.
    pub const IPV4_VXLAN_TUNNEL_ADDR: &str = "projectcalico.org/IPv4VXLANTunnelAddr";
    /// The node's own AS number.
    pub const AS_NUMBER: &str = "projectcalico.org/ASNumber";
    /// Makes the node a route reflector.
    pub const ROUTE_REFLECTOR_CLUSTER_ID: &str = "projectcalico.org/RouteReflectorClusterID";
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// `v1`.
    pub api_version: String,
    /// `Node`.
    pub kind: String,
    /// Metadata; annotations carry the routing data, labels feed the selectors.
    #[serde(default)]
    pub metadata: Metadata,
    /// Spec.
    #[serde(default)]
    pub spec: NodeSpec,
    /// Status.
    #[serde(default)]
    pub status: NodeStatus,
}

super::resource!(Node, "", "Node", "nodes", namespaced: false);

impl Node {
    /// A node to be created.
    pub fn new(name: impl Into<String>) -> Self {
        Node {
            api_version: "v1".to_string(),
            kind: "Node".to_string(),
            metadata: Metadata::named(name),
            spec: NodeSpec::default(),
            status: NodeStatus::default(),
        }
    }
}

/// Spec of a [`Node`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Cordoned.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
}

/// Status of a [`Node`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Addresses, as the kubelet knows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
}

/// One of a node's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`.
    #[serde(rename = "type")]
    pub address_type: String,
    /// The address or name.
    pub address: String,
}
