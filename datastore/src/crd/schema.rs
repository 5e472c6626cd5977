//! From the JSON schema of a type (schemars, draft 2020-12) to a structural schema of Kubernetes.
//!
//! They differ in this: no references, no lists of types, every place has one type; a null is allowed by
//! `nullable`; formats are those of OpenAPI; an enumeration is a list of its words. A keyword that has no
//! counterpart is an error and not dropped: what a type says, the server should check.
//!
//! An absent optional field is absent, as Calico writes it; only items of lists may be null (free addresses of a block).

use serde_json::{Map, Value, json};

/// The longest network as text: an IPv6 one that ends in dotted form, with its length.
const LONGEST_CIDR: usize = 49;
const KEEP_UNKNOWN: &str = "x-kubernetes-preserve-unknown-fields";

/// A type says something that a structural schema cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: a structural schema has nothing for {found}")]
pub struct SchemaError {
    path: String,
    found: String,
}

/// Where a schema stands: only an item of a list may be null.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Field,
    Item,
}

/// The structural schema of a whole object.
pub(super) fn of_object(path: &str, schema: &Value) -> Result<Value, SchemaError> {
    let mut object = structural(path, schema, Place::Field)?;
    // The server knows these itself, and allows nothing to be said of them.
    object["properties"]["apiVersion"] = json!({"type": "string"});
    object["properties"]["kind"] = json!({"type": "string"});
    object["properties"]["metadata"] = json!({"type": "object"});
    object["required"] = json!(["spec"]);
    Ok(object)
}

fn structural(path: &str, schema: &Value, place: Place) -> Result<Value, SchemaError> {
    let error = |found: &str| SchemaError {
        path: path.to_string(),
        found: found.to_string(),
    };
    let schema = schema.as_object().ok_or_else(|| error(&schema.to_string()))?;
    let (schema, nullable) = without_null(schema);
    let schema = with_words(schema);
    let mut out = Map::new();
    if nullable && place == Place::Item {
        out.insert("nullable".to_string(), Value::Bool(true));
    }
    for (keyword, value) in &schema {
        match keyword.as_str() {
            "title" | "default" | "$schema" => {}
            "description" => {
                out.insert(
                    keyword.clone(),
                    Value::from(plain(value.as_str().unwrap_or_default())),
                );
            }
            "format" => number_format(value.as_str().unwrap_or_default(), &mut out),
            "properties" => {
                out.insert(keyword.clone(), properties(path, value)?);
                out.insert(KEEP_UNKNOWN.to_string(), Value::Bool(true));
            }
            "items" => {
                let path = format!("{path}[]");
                out.insert(keyword.clone(), structural(&path, value, Place::Item)?);
            }
            "additionalProperties" => {
                let path = format!("{path}.*");
                out.insert(keyword.clone(), structural(&path, value, Place::Field)?);
            }
            "type"
            | "enum"
            | "required"
            | "minimum"
            | "maximum"
            | "minLength"
            | "maxLength"
            | "minItems"
            | "maxItems"
            | "pattern"
            | "anyOf"
            | "x-kubernetes-int-or-string" => {
                out.insert(keyword.clone(), value.clone());
            }
            other => return Err(error(other)),
        }
    }
    if !out.get("type").is_none_or(Value::is_string) {
        return Err(error("several types"));
    }
    Ok(Value::Object(out))
}

fn properties(path: &str, value: &Value) -> Result<Value, SchemaError> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .map(|(name, schema)| {
            let path = format!("{path}.{name}");
            Ok((name.clone(), structural(&path, schema, Place::Field)?))
        })
        .collect()
}

/// Takes the null out of an optional type, in each of the ways it may be said.
fn without_null(schema: &Map<String, Value>) -> (Map<String, Value>, bool) {
    let mut out = schema.clone();
    let mut nullable = false;
    let is_null = |value: &Value| value.is_null() || *value == "null" || value["type"] == "null";
    for keyword in ["type", "enum", "anyOf", "oneOf"] {
        let Some(Value::Array(choices)) = out.get_mut(keyword) else {
            continue;
        };
        let before = choices.len();
        choices.retain(|choice| !is_null(choice));
        nullable |= choices.len() < before;
        if choices.len() != 1 || before == 1 {
            continue;
        }
        let only = choices.remove(0);
        out.remove(keyword);
        match only {
            // What stands beside the choice (a field's description) is nearer than what is in it.
            Value::Object(only) => only.into_iter().for_each(|(keyword, value)| {
                out.entry(keyword).or_insert(value);
            }),
            only => {
                out.insert(keyword.to_string(), only);
            }
        }
    }
    (out, nullable)
}

/// An enumeration comes as a choice of constants, each with its description.
fn with_words(mut schema: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Array(choices)) = schema.get("oneOf") else {
        return schema;
    };
    let word = |choice: &Value| choice["const"].as_str().map(str::to_string);
    let Some(words) = choices.iter().map(word).collect::<Option<Vec<String>>>() else {
        return schema;
    };
    let explained = choices.iter().zip(&words).filter_map(|(choice, word)| {
        let text = choice["description"].as_str()?;
        let says_more = !text.trim_end_matches('.').eq_ignore_ascii_case(word);
        says_more.then(|| format!(" {word}: {text}"))
    });
    let explained: String = explained.collect();
    let description = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let description = format!("{description}{explained}");
    schema.remove("oneOf");
    schema.insert("description".to_string(), Value::from(description));
    schema.insert("type".to_string(), Value::from("string"));
    schema.insert("enum".to_string(), Value::from(words));
    schema
}

/// The formats that a server knows; the ranges of the types it does not know.
fn number_format(format: &str, out: &mut Map<String, Value>) {
    let (format, highest) = match format {
        "uint8" => ("int32", Some(i64::from(u8::MAX))),
        "uint16" => ("int32", Some(i64::from(u16::MAX))),
        "uint32" => ("int64", Some(i64::from(u32::MAX))),
        "uint64" | "uint" => ("int64", None),
        "cidr" => {
            // A bound, so that the cost of a rule over it is bounded.
            out.insert("maxLength".to_string(), Value::from(LONGEST_CIDR));
            ("cidr", None)
        }
        other => (other, None),
    };
    out.insert("format".to_string(), Value::from(format));
    if let Some(highest) = highest {
        // Keywords come in the order of their names: a maximum that the type gives itself comes later and stays.
        out.insert("maximum".to_string(), Value::from(highest));
    }
}

/// A doc comment for readers who do not read Rust: one line a paragraph, no links.
fn plain(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    let text = paragraphs.collect::<Vec<_>>().join("\n\n");
    text.replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: Value) -> Result<Value, SchemaError> {
        structural("spec", &schema, Place::Field)
    }

    #[test]
    fn a_null_is_kept_only_in_lists() {
        let number = json!({"type": ["integer", "null"], "format": "uint", "minimum": 0});
        let expected = json!({"type": "integer", "format": "int64", "minimum": 0});
        assert_eq!(of(number.clone()), Ok(expected));
        let list = of(json!({"type": "array", "items": number})).expect("a list");
        assert_eq!(
            list["items"],
            json!({"type": "integer", "format": "int64", "minimum": 0, "nullable": true})
        );
    }

    #[test]
    fn an_enumeration_is_its_words() {
        let choice = json!({"description": "When.", "anyOf": [
            {"description": "Of the type.", "oneOf": [
                {"type": "string", "const": "Never", "description": "Never."},
                {"type": "string", "const": "Keep", "description": "The one it came with."},
            ]},
            {"type": "null"},
        ]});
        assert_eq!(
            of(choice),
            Ok(json!({
                "description": "When. Keep: The one it came with.",
                "type": "string",
                "enum": ["Never", "Keep"],
            }))
        );
    }

    #[test]
    fn what_a_schema_cannot_say_is_an_error_with_its_place() {
        let odd = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"not": {}}}}});
        assert_eq!(
            of(odd).expect_err("not").to_string(),
            "spec.a[]: a structural schema has nothing for not"
        );
        let two = json!({"type": ["integer", "string"]});
        assert!(
            of(two)
                .expect_err("two types")
                .to_string()
                .contains("several types")
        );
    }

    #[test]
    fn ranges_are_those_of_the_type_unless_it_says_its_own() {
        let port = json!({"type": "integer", "format": "uint16", "minimum": 1, "maximum": 65535});
        assert_eq!(of(port).expect("a port")["maximum"], 65535);
        let own = json!({"type": "integer", "format": "uint32", "minimum": 1, "maximum": 9});
        assert_eq!(of(own).expect("a number")["maximum"], 9);
        let none = json!({"type": "integer", "format": "uint32", "minimum": 0});
        assert_eq!(of(none).expect("a number")["maximum"], 4_294_967_295_u32);
    }
}
