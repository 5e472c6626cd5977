//! `BlockAffinity`: a node's claim on a block.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::{FieldError, Metadata};

/// A node's claim on a block. The claim is made in two phases: `pending`, then (once the block exists) `confirmed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockAffinity {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `BlockAffinity`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is claimed, by whom.
    pub spec: BlockAffinitySpec,
}

super::calico_resource!(
    BlockAffinity,
    BlockAffinitySpec,
    "BlockAffinity",
    "blockaffinities",
    validate: validate
);

/// Spec of a [`BlockAffinity`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockAffinitySpec {
    /// How far the claim has come.
    #[serde(default)]
    pub state: AffinityState,
    /// The node (or, for `type: virtual`, the virtual owner).
    #[schemars(length(min = 1))]
    pub node: String,
    /// `host` or `virtual`; absent means host.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(host|virtual)?$"))]
    pub affinity_type: Option<String>,
    /// The block.
    #[schemars(with = "String", extend("format" = "cidr"))]
    pub cidr: IpNet,
    /// `"true"` while a delete is under way: a string in Calico's shape.
    #[serde(default = "not_deleted")]
    #[schemars(regex(pattern = "^(true|false)?$"))]
    pub deleted: String,
}

fn validate(object: &BlockAffinity) -> Result<(), FieldError> {
    let spec = &object.spec;
    rules::masked("spec.cidr", &spec.cidr)?;
    rules::rule(
        !spec.node.is_empty(),
        "spec.node",
        "empty: expected a node's name",
    )?;
    rules::rule(
        matches!(rules::given(&spec.affinity_type), None | Some("host" | "virtual")),
        "spec.type",
        "expected host or virtual",
    )?;
    rules::rule(
        matches!(spec.deleted.as_str(), "true" | "false" | ""),
        "spec.deleted",
        "expected \"true\" or \"false\", in quotes",
    )
}

fn not_deleted() -> String {
    "false".to_string()
}

/// How far a claim has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AffinityState {
    /// Claimed; the block may not exist yet.
    Pending,
    /// The block exists and is this node's. Only such a block is announced. An absent state means this.
    #[default]
    Confirmed,
    /// About to be given back; nothing may be allocated from it.
    PendingDeletion,
}
