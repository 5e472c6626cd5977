//! Typed access to a JSON object by field, with errors that name the field by its path, as in `ipam.ipv4_pools`.
//!
//! A field that is `null` counts as absent.

use serde_json::{Map, Value};

use super::configuration::ConfigurationError;

/// An object, or the absence of one.
#[derive(Clone)]
pub(super) struct Section<'a> {
    path: String,
    fields: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(fields: &'a Map<String, Value>) -> Self {
        Self {
            path: String::new(),
            fields: Some(fields),
        }
    }

    /// Path of a field.
    pub(super) fn path(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// The field as it is.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.fields?.get(key).filter(|value| !value.is_null())
    }

    /// A field that is an object.
    pub(super) fn section(&self, key: &str) -> Result<Self, ConfigurationError> {
        let path = self.path(key);
        let fields = match self.value(key) {
            None => None,
            Some(Value::Object(fields)) => Some(fields),
            Some(found) => return Err(wrong(path, "an object", found)),
        };
        Ok(Self { path, fields })
    }

    /// A field that is a string.
    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, ConfigurationError> {
        self.value(key)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| wrong(self.path(key), "a string", value))
            })
            .transpose()
    }

    /// A field that is a non-negative integer.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ConfigurationError> {
        self.value(key)
            .map(|value| {
                value
                    .as_u64()
                    .ok_or_else(|| wrong(self.path(key), "a non-negative integer", value))
            })
            .transpose()
    }

    /// A field that is a boolean; Calico writes some of them as strings.
    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigurationError> {
        self.value(key)
            .map(|value| match value {
                Value::Bool(value) => Ok(*value),
                Value::String(text) if text == "true" => Ok(true),
                Value::String(text) if text == "false" => Ok(false),
                _ => Err(wrong(self.path(key), "true or false", value)),
            })
            .transpose()
    }

    /// A field that is a list.
    pub(super) fn list(&self, key: &str) -> Result<&'a [Value], ConfigurationError> {
        match self.value(key) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(found) => Err(wrong(self.path(key), "a list", found)),
        }
    }
}

/// A field of the wrong type.
pub(super) fn wrong(field: String, expected: &'static str, found: &Value) -> ConfigurationError {
    ConfigurationError::Type {
        field,
        expected,
        found: found.to_string(),
    }
}
