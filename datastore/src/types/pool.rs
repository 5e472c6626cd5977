//! `IPPool`: a range of addresses, and how packets of its pods travel.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::{FieldError, Metadata};

/// A range of addresses, and how packets of its pods travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpPool {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `IPPool`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// The range and its rules.
    pub spec: IpPoolSpec,
}

super::calico_resource!(
    IpPool,
    IpPoolSpec,
    "IPPool",
    "ippools",
    validate: validate,
    validate_update: validate_update
);

/// Spec of an [`IpPool`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpPoolSpec {
    /// The range; masked, immutable, not inside 169.254.0.0/16 or fe80::/10.
    #[schemars(with = "String", extend("format" = "cidr"))]
    pub cidr: IpNet,
    /// Prefix length of its blocks: IPv4 20-32 (default 26), IPv6 116-128 (default 122). Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 20, max = 128))]
    pub block_size: Option<u8>,
    /// IPIP between nodes; IPv4 only, and not together with VXLAN.
    #[serde(default)]
    pub ipip_mode: EncapMode,
    /// VXLAN between nodes.
    #[serde(default)]
    pub vxlan_mode: EncapMode,
    /// Masquerade what leaves for a destination in no pool.
    #[serde(default)]
    pub nat_outgoing: bool,
    /// Nothing new is allocated from it.
    #[serde(default)]
    pub disabled: bool,
    /// Its blocks are not announced.
    #[serde(default, rename = "disableBGPExport")]
    pub disable_bgp_export: bool,
    /// Which nodes may claim its blocks (Calico's selector language).
    #[serde(default = "all_nodes")]
    pub node_selector: String,
    /// Which namespaces' pods may use it; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// What it may be used for; absent or empty means workloads and tunnels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<AllowedUse>,
    /// Whether it is used without being asked for by name.
    #[serde(default)]
    pub assignment_mode: AssignmentMode,
}

fn all_nodes() -> String {
    "all()".to_string()
}

impl IpPoolSpec {
    /// A pool of this range with every other field at its default.
    pub fn new(cidr: IpNet) -> Self {
        IpPoolSpec {
            cidr,
            block_size: None,
            ipip_mode: EncapMode::Never,
            vxlan_mode: EncapMode::Never,
            nat_outgoing: false,
            disabled: false,
            disable_bgp_export: false,
            node_selector: all_nodes(),
            namespace_selector: None,
            allowed_uses: Vec::new(),
            assignment_mode: AssignmentMode::Automatic,
        }
    }

    /// Prefix length of its blocks, with the default of its family.
    pub fn block_prefix_len(&self) -> u8 {
        self.block_size.unwrap_or(match self.cidr {
            IpNet::V4(_) => 26,
            IpNet::V6(_) => 122,
        })
    }
}

fn validate(object: &IpPool) -> Result<(), FieldError> {
    let spec = &object.spec;
    rules::routable("spec.cidr", &spec.cidr)?;
    validate_block_size(spec)?;
    let (ipip, vxlan) = (
        spec.ipip_mode != EncapMode::Never,
        spec.vxlan_mode != EncapMode::Never,
    );
    rules::rule(
        !(ipip && vxlan),
        "spec.vxlanMode",
        "not together with spec.ipipMode: one of them is Never",
    )?;
    rules::rule(
        !ipip || matches!(spec.cidr, IpNet::V4(_)),
        "spec.ipipMode",
        "not for IPv6: expected Never (VXLAN carries IPv6)",
    )?;
    rules::selector("spec.nodeSelector", Some(&spec.node_selector))?;
    rules::selector("spec.namespaceSelector", rules::given(&spec.namespace_selector))?;
    rules::rule(
        !spec.allowed_uses.contains(&AllowedUse::LoadBalancer) || spec.allowed_uses.len() == 1,
        "spec.allowedUses",
        "LoadBalancer is not together with another use: make two pools",
    )
}

/// Blocks that were claimed bear the range and the block size that the pool had.
fn validate_update(new: &IpPool, old: &IpPool) -> Result<(), FieldError> {
    let (new, old) = (&new.spec, &old.spec);
    rules::rule(
        new.cidr == old.cidr,
        "spec.cidr",
        format_args!("immutable: it is {} and stays so; make a new pool", old.cidr),
    )?;
    let size = old.block_prefix_len();
    rules::rule(
        new.block_prefix_len() == size,
        "spec.blockSize",
        format_args!("immutable: it is {size} and stays so; make a new pool"),
    )
}

fn validate_block_size(spec: &IpPoolSpec) -> Result<(), FieldError> {
    let (family, range) = match spec.cidr {
        IpNet::V4(_) => ("IPv4", 20..=32),
        IpNet::V6(_) => ("IPv6", 116..=128),
    };
    let size = spec.block_prefix_len();
    rules::rule(
        range.contains(&size),
        "spec.blockSize",
        format_args!(
            "{size} is out of range: expected {} to {} for {family}",
            range.start(),
            range.end()
        ),
    )?;
    let length = spec.cidr.prefix_len();
    rules::rule(
        size >= length,
        "spec.blockSize",
        format_args!(
            "a /{size} block does not fit into {}: expected {length} to {}",
            spec.cidr,
            range.end()
        ),
    )
}

/// When packets between nodes are encapsulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncapMode {
    /// Never.
    #[default]
    Never,
    /// Always.
    Always,
    /// Only where the nodes are in different subnets.
    CrossSubnet,
}

/// What a pool may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllowedUse {
    /// Pods.
    Workload,
    /// Tunnel devices.
    Tunnel,
    /// Services of type LoadBalancer.
    LoadBalancer,
}

/// Whether a pool is used without being asked for by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AssignmentMode {
    /// Yes.
    #[default]
    Automatic,
    /// Only when asked for.
    Manual,
}
