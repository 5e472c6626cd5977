//! `Secret` of Kubernetes: passwords of BGP sessions.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Metadata, Resource};

/// A secret. Its values are never in a log: `Debug` shows the keys alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// `v1`.
    pub api_version: String,
    /// `Secret`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// Values in base64, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Values in plain text, by key; they win over `data`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub string_data: BTreeMap<String, String>,
}

super::resource!(Secret, "", "Secret", "secrets", namespaced: true);

impl Secret {
    /// A secret to be created.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Secret {
            api_version: Self::KIND.api_version(),
            kind: "Secret".to_string(),
            metadata: Metadata::namespaced(namespace, name),
            data: BTreeMap::new(),
            string_data: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.data.keys().chain(self.string_data.keys()).collect();
        f.debug_struct("Secret")
            .field("metadata", &self.metadata)
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}
