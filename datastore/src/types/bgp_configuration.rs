//! `BGPConfiguration`: cluster-wide settings of BGP.

use std::collections::BTreeSet;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    rules,
    values::{AsNumber, GoDuration, Password},
};
use crate::{FieldError, Metadata};

/// Settings of BGP: the object `default` for the cluster, `node.<name>` for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BgpConfiguration {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `BGPConfiguration`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// The settings.
    pub spec: BgpConfigurationSpec,
}

super::calico_resource!(
    BgpConfiguration,
    BgpConfigurationSpec,
    "BGPConfiguration",
    "bgpconfigurations",
    validate: validate
);

/// Spec of a [`BgpConfiguration`]; what is absent has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpConfigurationSpec {
    /// How much the speaker says (`Info`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Every node peers with every other; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// AS of nodes that have none of their own; default 64512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Ranges of service cluster addresses to announce.
    #[serde(rename = "serviceClusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_cluster_ips: Vec<ServiceIpBlock>,
    /// Ranges of service external addresses to announce.
    #[serde(rename = "serviceExternalIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_external_ips: Vec<ServiceIpBlock>,
    /// Ranges of service load balancer addresses to announce.
    #[serde(rename = "serviceLoadBalancerIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_load_balancer_ips: Vec<ServiceIpBlock>,
    /// Whether load balancer ranges are announced as such or by address; default Enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<ServiceAggregation>,
    /// Names for communities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<NamedCommunity>,
    /// Communities of announced prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// Port to listen on; default 179.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Password of the mesh's sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<Password>,
    /// How long the mesh keeps the routes of a restarting node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<GoDuration>,
    /// Whether to listen on the node's address only; default None: on all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<BindMode>,
    /// Interfaces whose addresses and routes are not announced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<String>,
}

/// A range of service addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceIpBlock {
    /// The range.
    #[schemars(with = "String", extend("format" = "cidr"))]
    pub cidr: IpNet,
}

/// Whether a range is announced as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceAggregation {
    /// As a range.
    Enabled,
    /// By address.
    Disabled,
}

/// A community with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedCommunity {
    /// The name that `prefixAdvertisements` uses.
    pub name: String,
    /// `65000:100` or `65000:10:20`.
    #[schemars(regex(pattern = r"^[0-9]+:[0-9]+(:[0-9]+)?$"))]
    pub value: String,
}

/// Communities of announced prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrefixAdvertisement {
    /// Prefixes within this range.
    #[schemars(with = "String", extend("format" = "cidr"))]
    pub cidr: IpNet,
    /// Values, or names of [`NamedCommunity`].
    #[serde(default)]
    pub communities: Vec<String>,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BindMode {
    /// On all addresses.
    None,
    /// On the node's address.
    NodeIP,
}

fn validate(object: &BgpConfiguration) -> Result<(), FieldError> {
    let (spec, name) = (&object.spec, &object.metadata.name);
    rules::rule(
        name == "default" || name.starts_with("node."),
        "metadata.name",
        format_args!("\"{name}\" is nobody's configuration: expected default, or node.NAME for one node"),
    )?;
    rules::as_number("spec.asNumber", spec.as_number)?;
    rules::rule(
        spec.listen_port != Some(0),
        "spec.listenPort",
        "0 is no port: expected 1 to 65535",
    )?;
    rules::password("spec.nodeMeshPassword", &spec.node_mesh_password)?;
    let blocks = [
        ("serviceClusterIPs", &spec.service_cluster_ips),
        ("serviceExternalIPs", &spec.service_external_ips),
        ("serviceLoadBalancerIPs", &spec.service_load_balancer_ips),
    ];
    for (field, blocks) in blocks {
        for (at, block) in blocks.iter().enumerate() {
            rules::masked(format!("spec.{field}[{at}].cidr"), &block.cidr)?;
        }
    }
    validate_communities(spec)
}

fn validate_communities(spec: &BgpConfigurationSpec) -> Result<(), FieldError> {
    let mut names = BTreeSet::new();
    for (at, community) in spec.communities.iter().enumerate() {
        let field = format!("spec.communities[{at}]");
        let name = community.name.as_str();
        rules::rule(
            !name.is_empty() && !name.contains(':'),
            format!("{field}.name"),
            "expected a name, without a colon",
        )?;
        rules::rule(
            names.insert(name),
            format!("{field}.name"),
            format_args!("\"{name}\" is given twice"),
        )?;
        rules::community(format!("{field}.value"), &community.value)?;
    }
    for (at, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        let field = format!("spec.prefixAdvertisements[{at}]");
        rules::masked(format!("{field}.cidr"), &advertisement.cidr)?;
        for (at, community) in advertisement.communities.iter().enumerate() {
            let field = format!("{field}.communities[{at}]");
            if community.contains(':') {
                rules::community(field, community)?;
            } else {
                let message =
                    format_args!("\"{community}\" is no community, and no name in spec.communities");
                rules::rule(names.contains(community.as_str()), field, message)?;
            }
        }
    }
    Ok(())
}
