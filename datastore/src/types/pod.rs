//! `Pod` and `Namespace` of Kubernetes: the part that attaching a pod needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Metadata, Resource};

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// `v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// Metadata; annotations ask for pools and addresses.
    #[serde(default)]
    pub metadata: Metadata,
    /// Spec.
    #[serde(default)]
    pub spec: PodSpec,
    /// Status.
    #[serde(default)]
    pub status: PodStatus,
}

super::resource!(Pod, "", "Pod", "pods", namespaced: true);

impl Pod {
    /// A pod to be created.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Pod {
            api_version: Self::KIND.api_version(),
            kind: "Pod".to_string(),
            metadata: Metadata::namespaced(namespace, name),
            spec: PodSpec::default(),
            status: PodStatus::default(),
        }
    }
}

/// Spec of a [`Pod`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it runs on, once that is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// It has the node's network, not its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
}

/// Status of a [`Pod`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Its address, of the first family.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// Its addresses.
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<PodIp>,
}

/// An address of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// `v1`.
    pub api_version: String,
    /// `Namespace`.
    pub kind: String,
    /// Metadata; labels feed pools' selectors, annotations hold for its pods.
    #[serde(default)]
    pub metadata: Metadata,
}

super::resource!(Namespace, "", "Namespace", "namespaces", namespaced: false);

impl Namespace {
    /// A namespace to be created.
    pub fn new(name: impl Into<String>) -> Self {
        Namespace {
            api_version: Self::KIND.api_version(),
            kind: "Namespace".to_string(),
            metadata: Metadata::named(name),
        }
    }
}
