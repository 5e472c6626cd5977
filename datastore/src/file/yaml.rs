//! JSON written as YAML that every reader takes for the same, those of YAML 1.1 (`kubectl`) and 1.2 alike.
//!
//! A string is written plain only where nothing could take it for anything else: `no`, `012`, `1_000` and `1:30`
//! are quoted. Quoted strings are those of JSON with the characters escaped that YAML has a meaning for. Lists of
//! numbers are written on one line, for a block of addresses is one.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Map, Value};

/// Words that some YAML takes for a boolean or null, in any case.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Writes a value as a YAML document.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(map, 0, &mut out),
        Value::Array(items) if !is_short(items) => write_list(items, 0, &mut out),
        other => {
            out.push_str(&inline(other));
            out.push('\n');
        }
    }
    out
}

fn write_map(map: &Map<String, Value>, indent: usize, out: &mut String) {
    for (key, value) in map {
        out.push_str(&" ".repeat(indent));
        out.push_str(&scalar(key));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                write_map(inner, indent + 2, out);
            }
            Value::Array(items) if !is_short(items) => {
                out.push('\n');
                write_list(items, indent, out);
            }
            other => {
                out.push(' ');
                out.push_str(&inline(other));
                out.push('\n');
            }
        }
    }
}

fn write_list(items: &[Value], indent: usize, out: &mut String) {
    for item in items {
        let mut block = String::new();
        match item {
            Value::Object(map) if !map.is_empty() => write_map(map, indent + 2, &mut block),
            Value::Array(inner) if !is_short(inner) => write_list(inner, indent + 2, &mut block),
            other => {
                block.push_str(&" ".repeat(indent + 2));
                block.push_str(&inline(other));
                block.push('\n');
            }
        }
        // The dash takes the place of the first line's last two blanks.
        out.push_str(&" ".repeat(indent));
        out.push_str("- ");
        out.push_str(block.trim_start());
    }
}

/// True for a list that fits on a line: it holds no text.
fn is_short(items: &[Value]) -> bool {
    items
        .iter()
        .all(|item| matches!(item, Value::Null | Value::Bool(_) | Value::Number(_)))
}

fn inline(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(_) => "{}".to_string(),
    }
}

fn scalar(text: &str) -> String {
    if is_plain(text) {
        text.to_string()
    } else {
        quoted(text)
    }
}

/// True where the text cannot be taken for anything but itself.
fn is_plain(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let is_word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    let is_address = || text.parse::<Ipv4Net>().is_ok() || text.parse::<Ipv4Addr>().is_ok();
    text.chars().all(safe)
        && !is_word
        && (text.starts_with(|c: char| c.is_ascii_alphabetic()) || is_address())
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Line breaks of YAML 1.1, the byte order mark, and what is no character.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => out.push_str(&escape(c)),
            c if c.is_control() => out.push_str(&escape(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn escape(c: char) -> String {
    format!("\\u{:04x}", u32::from(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_some_reader_would_take_for_something_else_is_quoted() {
        for text in [
            "",
            "y",
            "No",
            "on",
            "OFF",
            "true",
            "Null",
            "~",
            "012",
            "0o12",
            "0x1f",
            "0b1",
            "1_000",
            "1e3",
            ".5",
            ".inf",
            "+1",
            "-1",
            "12:30",
            "1.10",
            "64512",
            "2026-01-01T00:00:00Z",
            "=",
            "<<",
            "*a",
            "&a",
            "!a",
            " a",
            "a ",
            "a: b",
            "a #b",
            "- a",
            "{",
            "fd00::/64",
            "\u{2028}",
            "\u{85}",
            "é",
        ] {
            assert!(
                scalar(text).starts_with('"'),
                "{text:?} is written as {}",
                scalar(text)
            );
        }
        for text in [
            "a",
            "host-1",
            "crd.projectcalico.org/v1",
            "10.0.0.0/16",
            "10.0.0.1",
            "Never",
            "IPPool",
        ] {
            assert_eq!(scalar(text), text);
        }
    }

    #[test]
    fn it_looks_as_a_person_would_write_it() {
        let value = json!({
            "kind": "IPAMBlock",
            "metadata": {"labels": {}, "name": "a"},
            "spec": {
                "allocations": [null, 0, 1],
                "attributes": [{"handle_id": "h", "secondary": {"pod": "p"}}, {}, [], [["x"]]],
                "empty": [],
            },
        });
        let expected = "\
kind: IPAMBlock
metadata:
  labels: {}
  name: a
spec:
  allocations: [null, 0, 1]
  attributes:
  - handle_id: h
    secondary:
      pod: p
  - {}
  - []
  - - - x
  empty: []
";
        assert_eq!(to_yaml(&value), expected);
        assert_eq!(serde_yaml::from_str::<Value>(expected).expect("YAML"), value);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[yYnNoOeEsS0-9_:.~+-]{0,5}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_json()) {
            let text = to_yaml(&value);
            prop_assert_eq!(serde_yaml::from_str::<Value>(&text).map_err(|e| e.to_string()), Ok(value), "{}", text);
        }
    }
}
