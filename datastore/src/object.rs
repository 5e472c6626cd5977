//! An object as JSON: its name, its metadata, and what every backend checks before it stores anything.
//!
//! Names are those of Kubernetes (RFC 1123 subdomains), so none can leave a directory or a URL's path.

use serde_json::Value;

use crate::{Error, FieldError, Invalid, KindInfo, Result};

/// Longest name of an object.
const MAX_NAME: usize = 253;
/// Longest namespace (an RFC 1123 label).
const MAX_NAMESPACE: usize = 63;

/// An object's checked name; the namespace is empty where the kind has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ObjectName {
    /// Checks a namespace and a name.
    pub(crate) fn new(kind: &KindInfo, namespace: &str, name: &str) -> Result<Self, FieldError> {
        check("metadata.name", name, MAX_NAME, true)?;
        if kind.namespaced {
            check("metadata.namespace", namespace, MAX_NAMESPACE, false)?;
        } else if !namespace.is_empty() {
            let message = format!("{} is cluster-wide: leave the namespace out", kind.kind);
            return Err(FieldError::new("metadata.namespace", message));
        }
        Ok(ObjectName {
            namespace: namespace.to_string(),
            name: name.to_string(),
        })
    }

    /// Takes `name`, or `namespace/name` for a namespaced kind, apart.
    pub(crate) fn of_full_name(kind: &KindInfo, full_name: &str) -> Result<Self, FieldError> {
        if !kind.namespaced {
            return ObjectName::new(kind, "", full_name);
        }
        match full_name.split_once('/') {
            Some((namespace, name)) => ObjectName::new(kind, namespace, name),
            None => Err(FieldError::new(
                "metadata.namespace",
                format!("missing: expected namespace/name, found \"{full_name}\""),
            )),
        }
    }

    /// The name of an object of this kind; refuses one of another kind.
    pub(crate) fn of_object(kind: &KindInfo, object: &Value) -> Result<Self> {
        check_kind(kind, object)
            .and_then(|()| {
                ObjectName::new(
                    kind,
                    metadata_of(object, "namespace"),
                    metadata_of(object, "name"),
                )
            })
            .map_err(|error| refused(kind, &full_name_of(object), error))
    }

    /// `name`, or `namespace/name`.
    pub(crate) fn full(&self) -> String {
        full_name(&self.namespace, &self.name)
    }
}

/// `name`, or `namespace/name`.
pub(crate) fn full_name(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_string()
    } else {
        format!("{namespace}/{name}")
    }
}

/// What an object says its name is.
pub(crate) fn full_name_of(object: &Value) -> String {
    full_name(metadata_of(object, "namespace"), metadata_of(object, "name"))
}

/// A field of `metadata`; empty where it is absent.
pub(crate) fn metadata_of<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Sets a field of `metadata`.
pub(crate) fn set_metadata(object: &mut Value, field: &str, value: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(field.to_string(), Value::from(value));
    }
}

/// Refuses an object of another kind, naming the right one.
pub(crate) fn check_kind(kind: &KindInfo, object: &Value) -> Result<(), FieldError> {
    for (field, expected) in [
        ("apiVersion", kind.api_version()),
        ("kind", kind.kind.to_string()),
    ] {
        let found = object.get(field).and_then(Value::as_str);
        if found != Some(&expected) {
            let found = found.map_or("it is missing".to_string(), |found| format!("found \"{found}\""));
            return Err(FieldError::new(field, format!("expected {expected}, {found}")));
        }
    }
    Ok(())
}

/// Refuses to create an object that bears a version.
pub(crate) fn check_is_new(kind: &KindInfo, name: &str, object: &Value) -> Result<()> {
    if metadata_of(object, "resourceVersion").is_empty() {
        return Ok(());
    }
    let message = "leave it out: a new object has none, and an old one is updated";
    Err(refused(
        kind,
        name,
        FieldError::new("metadata.resourceVersion", message),
    ))
}

/// The version that an update expects to find; refuses an object without one.
pub(crate) fn expected_version(kind: &KindInfo, name: &str, object: &Value) -> Result<String> {
    let expected = metadata_of(object, "resourceVersion");
    if !expected.is_empty() {
        return Ok(expected.to_string());
    }
    let message = "missing: an update needs the resourceVersion of the object it changes";
    Err(refused(
        kind,
        name,
        FieldError::new("metadata.resourceVersion", message),
    ))
}

/// A conflict where what was expected is not what was found.
pub(crate) fn check_precondition(
    kind: &KindInfo,
    name: &str,
    what: &str,
    expected: &str,
    found: &str,
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Conflict {
        kind: kind.kind,
        name: name.to_string(),
        expected: format!("{what} {expected}"),
        found: found.to_string(),
    })
}

/// The error for an object that breaks a rule.
pub(crate) fn refused(kind: &KindInfo, name: &str, error: FieldError) -> Error {
    Error::from(invalid(kind, name, error))
}

/// What is wrong with an object that is in no file.
pub(crate) fn invalid(kind: &KindInfo, name: &str, error: FieldError) -> Box<Invalid> {
    Box::new(Invalid {
        kind: kind.kind,
        name: name.to_string(),
        path: None,
        line: error.line,
        field: error.field,
        message: error.message,
    })
}

/// RFC 1123: lower-case letters, digits, `-` and (in a subdomain) `.`; a letter or digit at both ends of each part.
fn check(field: &str, name: &str, longest: usize, subdomain: bool) -> Result<(), FieldError> {
    let part_is_good = |part: &str| {
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(alphanumeric)
            && part.ends_with(alphanumeric)
            && part.chars().all(|c| alphanumeric(c) || c == '-')
    };
    let good = if subdomain {
        name.split('.').all(part_is_good)
    } else {
        part_is_good(name)
    };
    if good && name.len() <= longest {
        return Ok(());
    }
    let dots = if subdomain { ", . between parts" } else { "" };
    let shown: String = name.chars().take(64).collect();
    Err(FieldError::new(
        field,
        format!(
            "\"{shown}\" is no name: expected 1 to {longest} characters: a-z, 0-9 and - inside{dots} (RFC 1123)"
        ),
    ))
}
