//! `Secret` of Kubernetes: passwords of BGP sessions.

use std::{collections::BTreeMap, fmt};

use data_encoding::BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{Metadata, Resource};

/// A secret. Its values are never in a log: `Debug` shows the keys alone, and errors do not quote it.
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
    #[serde(
        default,
        deserialize_with = "values",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub data: BTreeMap<String, String>,
    /// Values in plain text, by key; they win over `data`.
    #[serde(
        default,
        deserialize_with = "values",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
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

    /// The value of a key: `Ok(None)` where there is no such key.
    ///
    /// # Errors
    /// The key is there and its value is not base64.
    pub fn value(&self, key: &str) -> Result<Option<Vec<u8>>, NotBase64> {
        if let Some(text) = self.string_data.get(key) {
            return Ok(Some(text.clone().into_bytes()));
        }
        let decode = |text: &String| BASE64.decode(text.as_bytes()).map_err(|_| NotBase64);
        self.data.get(key).map(decode).transpose()
    }
}

/// A value in `data` is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not base64: expected base64 in data, or plain text in stringData")]
pub struct NotBase64;

fn values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_any(Values)
}

/// Refuses what is of the wrong type without a word about what it is, where serde's own errors would quote it (as
/// they would if the deserializer were told what is expected).
macro_rules! refuse {
    ($($visit:ident: $type:ty),+) => {
        $(fn $visit<E: de::Error>(self, _: $type) -> Result<Self::Value, E> {
            Err(E::custom(format_args!("expected {}", Self::EXPECTED)))
        })+
    };
}

struct Values;

impl Values {
    const EXPECTED: &str = "keys, each with a value";
}

impl<'de> de::Visitor<'de> for Values {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::EXPECTED)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((key, Text(value))) = map.next_entry()? {
            values.insert(key, value);
        }
        Ok(values)
    }

    /// As Kubernetes has it: `data: null`.
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    refuse!(visit_str: &str, visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);
}

struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl TextVisitor {
    const EXPECTED: &str = "text: put the value in quotes";
}

impl de::Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_string()))
    }

    refuse!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(data: serde_json::Value) -> Result<Secret, String> {
        let mut object =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}});
        for (key, value) in data.as_object().expect("an object") {
            object[key] = value.clone();
        }
        serde_json::from_value(object).map_err(|error| error.to_string())
    }

    #[test]
    fn values_in_either_form() {
        let secret = read(json!({
            "data": {"a": "czNjcmV0", "b": "czNjcmV0", "c": "s3cret!", "d": ""},
            "stringData": {"b": "plain"},
        }))
        .expect("a secret");
        assert_eq!(secret.value("a"), Ok(Some(b"s3cret".to_vec())));
        assert_eq!(secret.value("b"), Ok(Some(b"plain".to_vec())));
        assert_eq!(secret.value("c"), Err(NotBase64));
        assert_eq!(secret.value("d"), Ok(Some(Vec::new())));
        assert_eq!(secret.value("e"), Ok(None));
        assert!(!format!("{secret:?}").contains("plain"));
        assert_eq!(read(json!({"data": null})), Ok(Secret::new("n", "s")));
    }

    #[test]
    fn no_error_quotes_a_value() {
        for data in [
            json!({"data": "31337"}),
            json!({"stringData": {"key": 31337}}),
            json!({"stringData": {"key": -31337}}),
            json!({"data": {"key": 31337.5}}),
            json!({"data": 31337}),
            json!({"data": ["31337"]}),
            json!({"stringData": {"key": {"31337": 1}}}),
        ] {
            let error = read(data.clone()).expect_err("no values");
            assert!(
                !error.contains("31337") && error.contains("expected"),
                "{data}: {error}"
            );
            let manifest = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": data["data"],
                "stringData": data["stringData"]});
            let yaml = serde_yaml::to_string(&manifest).expect("YAML");
            if let Err(error) = serde_yaml::from_str::<Secret>(&yaml) {
                assert!(!error.to_string().contains("31337"), "{yaml}: {error}");
            }
        }
    }
}
