//! What an update keeps: the fields of a stored manifest that the type does not know.
//!
//! Unknown is what the file says and the typed object read from it does not. It is laid over the new object, map by
//! map. Lists are the new object's, but an item that is unchanged keeps what it had.

use serde_json::{Map, Value};

/// Adds to `new` what `raw` says beyond `known`, where `known` is the typed reading of `raw`.
pub(crate) fn keep_unknown(new: &mut Value, raw: &Value, known: &Value) {
    match (new, raw, known) {
        (Value::Object(new), Value::Object(raw), known) => keep_in_map(new, raw, known),
        (Value::Array(new), Value::Array(raw), Value::Array(known)) if raw.len() == known.len() => {
            for (index, item) in new.iter_mut().enumerate() {
                let same_place = known.get(index).is_some_and(|known| known == item);
                let place = if same_place {
                    Some(index)
                } else {
                    known.iter().position(|known| known == item)
                };
                if let Some((raw, known)) = place.and_then(|at| raw.get(at).zip(known.get(at))) {
                    keep_unknown(item, raw, known);
                }
            }
        }
        _ => {}
    }
}

fn keep_in_map(new: &mut Map<String, Value>, raw: &Map<String, Value>, known: &Value) {
    for (key, raw) in raw {
        match (new.get_mut(key), known.get(key)) {
            (Some(new), known) => keep_unknown(new, raw, known.unwrap_or(&Value::Null)),
            (None, None) => {
                new.insert(key.clone(), raw.clone());
            }
            // The caller took it away.
            (None, Some(_)) => {}
        }
    }
}

/// The fields of `raw` that the type does not know and that say something, as paths below `path`.
///
/// A field that the type knows is absent from `known` only where it says nothing (null, false, empty).
pub(crate) fn unknown_fields(path: &str, raw: &Value, known: &Value) -> Vec<String> {
    match (raw, known) {
        (Value::Object(raw), Value::Object(known)) => raw
            .iter()
            .flat_map(|(key, raw)| {
                let path = format!("{path}.{key}");
                match known.get(key) {
                    Some(known) => unknown_fields(&path, raw, known),
                    None if says_nothing(raw) => Vec::new(),
                    None => vec![path],
                }
            })
            .collect(),
        (Value::Array(raw), Value::Array(known)) => raw
            .iter()
            .zip(known)
            .enumerate()
            .flat_map(|(at, (raw, known))| unknown_fields(&format!("{path}[{at}]"), raw, known))
            .collect(),
        _ => Vec::new(),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(mut new: Value, raw: Value, known: Value) -> Value {
        keep_unknown(&mut new, &raw, &known);
        new
    }

    #[test]
    fn unknown_fields_stay_and_known_ones_obey() {
        let raw = json!({"a": 1, "b": {"x": 1, "other": 2}, "gone": 3, "unknown": {"deep": [1]}});
        let known = json!({"a": 1, "b": {"x": 1}, "gone": 3});
        assert_eq!(
            kept(json!({"a": 9, "b": {"x": 8}}), raw, known),
            json!({"a": 9, "b": {"x": 8, "other": 2}, "unknown": {"deep": [1]}})
        );
    }

    #[test]
    fn a_map_that_the_caller_took_away_is_gone_with_all_in_it() {
        let raw = json!({"b": {"x": 1, "other": 2}});
        assert_eq!(kept(json!({}), raw, json!({"b": {"x": 1}})), json!({}));
    }

    #[test]
    fn items_keep_what_they_had_wherever_they_move() {
        let raw = json!([{"n": 1, "u": "one"}, {"n": 2, "u": "two"}]);
        let known = json!([{"n": 1}, {"n": 2}]);
        assert_eq!(
            kept(json!([{"n": 2}, {"n": 3}]), raw.clone(), known.clone()),
            json!([{"n": 2, "u": "two"}, {"n": 3}])
        );
        assert_eq!(kept(json!([{"n": 1}, {"n": 2}]), raw.clone(), known), raw);
    }

    #[test]
    fn a_field_that_changes_its_shape_is_the_callers() {
        assert_eq!(
            kept(json!({"a": [1]}), json!({"a": {"x": 1}}), json!({"a": {"x": 1}})),
            json!({"a": [1]})
        );
    }

    #[test]
    fn unknown_fields_are_named_by_their_paths() {
        let raw = json!({"a": 1, "natOutgoin": true, "empty": [], "off": false, "rules": [{"x": 1}, {"x": 1, "y": 2}]});
        let known = json!({"a": 1, "rules": [{"x": 1}, {"x": 1}]});
        assert_eq!(
            unknown_fields("spec", &raw, &known),
            ["spec.natOutgoin", "spec.rules[1].y"]
        );
    }
}
