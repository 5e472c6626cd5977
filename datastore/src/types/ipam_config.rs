//! `IPAMConfig`: cluster-wide settings of address management.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::{FieldError, Metadata};

/// Cluster-wide settings of address management; the one object is called `default`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpamConfig {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `IPAMConfig`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// The settings.
    pub spec: IpamConfigSpec,
}

super::calico_resource!(IpamConfig, IpamConfigSpec, "IPAMConfig", "ipamconfigs", validate: validate);

/// Spec of an [`IpamConfig`]. The default is what holds where no object is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IpamConfigSpec {
    /// No node may take an address from another node's block.
    pub strict_affinity: bool,
    /// A node may claim new blocks by itself.
    pub auto_allocate_blocks: bool,
    /// 0 means 20.
    pub max_blocks_per_host: u32,
    /// How long a released address stays unused, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_cooldown_seconds: Option<u32>,
}

impl Default for IpamConfigSpec {
    fn default() -> Self {
        IpamConfigSpec {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            ip_cooldown_seconds: None,
        }
    }
}

fn validate(object: &IpamConfig) -> Result<(), FieldError> {
    rules::only_default("IPAMConfig", &object.metadata.name)
}
