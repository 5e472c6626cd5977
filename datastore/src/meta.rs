//! The part of Kubernetes' `ObjectMeta` that we read or write.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `metadata` of an object (a subset of `k8s.io/apimachinery` `ObjectMeta`; what is not here is kept by the
/// backend on update).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique among the objects of a kind (and namespace).
    pub name: String,
    /// Empty for kinds that are not namespaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// A UUID that tells an object from a later one of the same name. Set by the backend.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Opaque; changes with every write. Set by the backend.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// RFC 3339, set by the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// RFC 3339; set while Kubernetes waits for finalizers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// Metadata of an object in a namespace.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Metadata {
            namespace: namespace.into(),
            ..Self::named(name)
        }
    }

    /// Metadata of a cluster-wide object.
    pub fn named(name: impl Into<String>) -> Self {
        Metadata {
            name: name.into(),
            ..Self::default()
        }
    }
}
