//! The CustomResourceDefinitions of Calico's kinds, made from the Rust types: group, version, names and JSON are
//! Calico's, so they can stand where Calico's own stand, and objects move between the two unchanged.
//!
//! - `schema`: a structural schema (apiextensions.k8s.io/v1) of a type.
//! - `kinds`: what the types do not say: printer columns, and rules between fields (CEL).
//!
//! What the API server checks with them: types, required fields, enumerations, ranges, patterns, networks (as Go
//! parses them), and since Kubernetes 1.25 the CEL rules, immutability among them. Older servers drop those
//! rules. What no schema can say (a network's bits beyond its mask, selectors, ordinals of a block) is
//! checked by whoever reads or writes the object, in [`Resource::validate`](crate::Resource::validate).
//!
//! Fields that we do not know are kept everywhere (`x-kubernetes-preserve-unknown-fields`): a newer Calico's must
//! survive. The price is that the server accepts a misspelt field too; `routectl apply` warns of it.
//!
//! Defaults are only those of Calico's definitions: the server writes a default into every object it stores.

mod kinds;
mod schema;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use self::schema::SchemaError;
use crate::file::to_yaml;

/// How to make the files again.
pub const COMMAND: &str = "cargo run -p datastore --bin gen-crds";
/// For `kubectl apply -k` and for other kustomizations. `kubectl apply -f` takes only files with an ending, and so
/// takes the definitions without this one.
const KUSTOMIZATION: &str = "Kustomization";

/// The definitions, ordered by name.
pub fn definitions() -> Result<Vec<Value>, SchemaError> {
    kinds::all().iter().map(kinds::Definition::to_json).collect()
}

/// The files of `manifests/crds`: name and text, ordered by name.
pub fn files() -> Result<Vec<(String, String)>, SchemaError> {
    let header = format!("# Generated from the types in datastore/src/types by `{COMMAND}`; do not edit.\n");
    let mut files = Vec::new();
    let mut kustomization =
        format!("{header}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n");
    for (definition, json) in kinds::all().iter().zip(definitions()?) {
        let name = definition.file_name();
        kustomization.push_str(&format!("- {name}\n"));
        files.push((name, format!("{header}{}", to_yaml(&json))));
    }
    files.insert(0, (KUSTOMIZATION.to_string(), kustomization));
    Ok(files)
}
