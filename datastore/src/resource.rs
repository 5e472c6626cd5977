//! What makes a Rust type a resource: its names in the API, its metadata, and the rules its fields obey.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::Metadata;

/// The names of a kind in the Kubernetes API.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version (`v1`).
    pub version: &'static str,
    /// `IPPool`.
    pub kind: &'static str,
    /// `ippools`: the folder of the `file:` backend and the path of the API.
    pub plural: &'static str,
    /// True where objects live in a namespace.
    pub namespaced: bool,
    /// Parses a manifest, checks its rules, and gives it back as the JSON of the typed object.
    pub parse_yaml: fn(&str) -> Result<Value, FieldError>,
    /// The same for JSON; what the type does not know is dropped (see `store` for why that loses nothing).
    pub parse_json: fn(Value) -> Result<Value, FieldError>,
    /// Whether an object may take the place of another: `(old, new)`, both in JSON.
    pub check_update: fn(&Value, &Value) -> Result<(), FieldError>,
}

impl KindInfo {
    /// `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// A field that is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `spec.blockSize`; empty where the text is not YAML.
    pub field: String,
    /// The line in the manifest, from 1, where known.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl FieldError {
    /// A rule broken by a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        FieldError {
            field: field.into(),
            line: None,
            message: message.into(),
        }
    }
}

/// A Kubernetes resource.
pub trait Resource:
    Clone + Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// The kind's names.
    const KIND: KindInfo;
    /// The object's metadata.
    fn metadata(&self) -> &Metadata;
    /// The object's metadata, to change.
    fn metadata_mut(&mut self) -> &mut Metadata;
    /// The rules that the type system cannot say (`cidr` is masked, `node` xor `nodeSelector`).
    fn validate(&self) -> Result<(), FieldError> {
        Ok(())
    }
    /// The rules for an object that takes the place of another (`cidr` of a pool is immutable).
    fn validate_update(&self, _old: &Self) -> Result<(), FieldError> {
        Ok(())
    }
}

/// [`KindInfo::parse_yaml`] of a type: parses, then checks the rules.
pub(crate) fn parse_yaml<T: Resource>(text: &str) -> Result<Value, FieldError> {
    let object: T = serde_yaml::from_str(text).map_err(|e| yaml_error(&e))?;
    to_checked_json(&object)
}

/// [`KindInfo::parse_json`] of a type.
pub(crate) fn parse_json<T: Resource>(value: Value) -> Result<Value, FieldError> {
    let object: T = serde_json::from_value(value).map_err(|e| FieldError::new("", e.to_string()))?;
    to_checked_json(&object)
}

/// [`KindInfo::check_update`] of a type. An old object that cannot be read forbids nothing.
pub(crate) fn check_update<T: Resource>(old: &Value, new: &Value) -> Result<(), FieldError> {
    let new = T::deserialize(new).map_err(|e| FieldError::new("", e.to_string()))?;
    match T::deserialize(old) {
        Ok(old) => new.validate_update(&old),
        Err(_) => Ok(()),
    }
}

fn to_checked_json<T: Resource>(object: &T) -> Result<Value, FieldError> {
    object.validate()?;
    serde_json::to_value(object).map_err(|e| FieldError::new("", e.to_string()))
}

/// Takes serde_yaml's message apart: `spec.blockSize: invalid type: …, expected u8 at line 7 column 14`.
pub(crate) fn yaml_error(error: &serde_yaml::Error) -> FieldError {
    let text = error.to_string();
    let line = error.location().map(|at| at.line());
    let message = match error.location() {
        Some(at) => text.replace(&format!(" at line {} column {}", at.line(), at.column()), ""),
        None => text,
    };
    let is_path = |path: &str| !path.is_empty() && !path.contains([' ', '`', '"']);
    let (path, message) = match message.split_once(": ").filter(|(path, _)| is_path(path)) {
        Some((path, message)) => (path, message),
        None => ("", message.as_str()),
    };
    let named = |prefix: &str| message.strip_prefix(prefix)?.strip_suffix('`');
    let (below, message) = match (named("missing field `"), named("duplicate field `")) {
        (Some(field), _) => (field, "missing, and it must be there".to_string()),
        (_, Some(field)) => (field, "given twice".to_string()),
        // The words of ipnet.
        _ if message == "invalid IP address syntax" => (
            "",
            "not a network: expected ADDRESS/LENGTH, as in 10.0.0.0/16".to_string(),
        ),
        _ => ("", message.to_string()),
    };
    let field = match (path, below) {
        ("" | ".", below) => below.to_string(),
        (path, "") => path.to_string(),
        (path, below) => format!("{path}.{below}"),
    };
    FieldError { field, line, message }
}
