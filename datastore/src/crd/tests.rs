//! What every definition must be, and the CEL rules, tried by an interpreter of their own.

use cel::{Context, Program, Value as CelValue};
use serde_json::{Value, json};

use super::{definitions, files, kinds};
use crate::{find_kind, kinds as known_kinds, types::CALICO_GROUP};

#[test]
fn every_kind_of_calicos_has_a_definition_with_its_names() {
    let definitions = definitions().expect("structural schemas");
    let mut named: Vec<_> = definitions
        .iter()
        .map(|definition| definition["spec"]["names"]["kind"].as_str().expect("a kind"))
        .collect();
    let mut kinds: Vec<_> = known_kinds()
        .filter(|kind| kind.group == CALICO_GROUP)
        .map(|kind| kind.kind)
        .collect();
    named.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(named, kinds);
    for definition in &definitions {
        let names = &definition["spec"]["names"];
        let kind = find_kind(names["kind"].as_str().expect("a kind")).expect("known");
        assert_eq!(names["plural"], kind.plural);
        assert_eq!(
            definition["metadata"]["name"],
            format!("{}.crd.projectcalico.org", kind.plural)
        );
        // `kubectl get ippool` and our own commands know the same singular.
        let singular = names["singular"].as_str().expect("a singular");
        assert_eq!(
            find_kind(singular).map(|found| found.kind),
            Some(kind.kind),
            "{singular}"
        );
    }
}

/// Calls `check` with every schema in a definition, and its path.
fn walk(path: &str, schema: &Value, check: &mut dyn FnMut(&str, &Value)) {
    check(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, check);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(below) {
            walk(&format!("{path}[]"), schema, check);
        }
    }
}

#[test]
fn schemas_are_structural_keep_unknown_fields_and_set_no_defaults_of_ours() {
    let mut defaults = Vec::new();
    for definition in definitions().expect("structural schemas") {
        let kind = definition["spec"]["names"]["kind"].as_str().expect("a kind");
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        walk(kind, schema, &mut |path, schema| {
            let typed = schema["type"].is_string() || schema["x-kubernetes-int-or-string"] == true;
            assert!(typed, "{path}: {schema}");
            if schema.get("properties").is_some() {
                assert_eq!(
                    schema["x-kubernetes-preserve-unknown-fields"], true,
                    "{path} loses what it does not know"
                );
            }
            if let Some(default) = schema.get("default") {
                defaults.push(format!("{path}: {default}"));
            }
            let described =
                schema["description"].is_string() || path.ends_with(']') || path.matches('.').count() == 1;
            assert!(described || path == kind, "{path} is not described");
        });
    }
    assert_eq!(defaults, ["IPAMBlock.spec.sequenceNumber: 0"]);
}

#[test]
fn files_are_one_a_definition_and_a_kustomization_that_names_them() {
    let files = files().expect("structural schemas");
    let ((first, kustomization), rest) = files.split_first().expect("files");
    assert_eq!((first.as_str(), rest.len()), ("Kustomization", 9));
    for (name, text) in rest {
        assert!(kustomization.contains(&format!("- {name}\n")), "{name}");
        assert!(text.starts_with("# Generated from the types"), "{name}: {text}");
        assert!(text.contains("cargo run -p datastore --bin gen-crds"), "{name}");
    }
    assert!(rest.is_sorted(), "not ordered by name");
}

/// The messages of the rules of a kind that an object breaks, `old` being the one it replaces. As the API server
/// has it: rules that name `oldSelf` hold for a new object.
fn broken(kind: &str, new: &Value, old: Option<&Value>) -> Vec<&'static str> {
    let definition = kinds::all()
        .iter()
        .find(|definition| definition.kind.kind == kind)
        .expect("a kind");
    let mut broken = Vec::new();
    for rule in definition.rules() {
        let at = |object: &Value| {
            let place = rule.at.iter().try_fold(object, |place, field| place.get(field));
            cel::to_value(place.cloned().expect("the rule's place")).expect("a CEL value")
        };
        let mut context = Context::default();
        context.add_variable_from_value("self", at(new));
        match old {
            Some(old) => context.add_variable_from_value("oldSelf", at(old)),
            None if rule.rule.contains("oldSelf") => continue,
            None => {}
        }
        let program = Program::compile(rule.rule).unwrap_or_else(|e| panic!("{}: {e}", rule.rule));
        match program.execute(&context) {
            Ok(CelValue::Bool(true)) => {}
            Ok(CelValue::Bool(false)) => broken.push(rule.message.split(':').next().unwrap_or_default()),
            other => panic!("{}: {other:?}", rule.rule),
        }
    }
    broken
}

fn object(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[test]
fn rules_between_fields() {
    let cases = [
        ("IPPool", json!({"cidr": "10.0.0.0/16"}), None),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Never"}),
            None,
        ),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Always"}),
            Some("vxlanMode"),
        ),
        (
            "IPPool",
            json!({"cidr": "fd00::/64", "ipipMode": "CrossSubnet"}),
            Some("ipipMode"),
        ),
        ("BGPPeer", json!({"peerIP": "10.0.0.1"}), None),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "peerSelector": "", "node": "a", "nodeSelector": ""}),
            None,
        ),
        ("BGPPeer", json!({}), Some("peerIP")),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "peerSelector": "all()"}),
            Some("peerIP"),
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "node": "a", "nodeSelector": "all()"}),
            Some("nodeSelector"),
        ),
        (
            "BGPPeer",
            json!({"peerSelector": "all()", "asNumber": 65000}),
            Some("asNumber"),
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "keepOriginalNextHop": true, "nextHopMode": "Keep"}),
            Some("keepOriginalNextHop"),
        ),
        ("IPAMConfig", json!({}), None),
        ("BGPConfiguration", json!({}), None),
    ];
    for (kind, spec, expected) in cases {
        let found = broken(kind, &object("default", spec.clone()), None);
        assert_eq!(found, Vec::from_iter(expected), "{kind} {spec}");
        // The same as our own rules say.
        let manifest = json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": kind,
            "metadata": {"name": "default"}, "spec": spec,
        });
        let ours = (find_kind(kind).expect("a kind").parse_json)(manifest);
        assert_eq!(ours.is_err(), expected.is_some(), "{kind} {spec}: {ours:?}");
    }
    assert_eq!(
        broken("IPAMConfig", &object("other", json!({})), None),
        ["metadata.name"]
    );
    assert_eq!(
        broken("BGPConfiguration", &object("other", json!({})), None),
        ["metadata.name"]
    );
    assert!(broken("BGPConfiguration", &object("node.a", json!({})), None).is_empty());
}

#[test]
fn a_pools_range_and_block_size_are_for_ever() {
    let cases = [
        (
            json!({"cidr": "10.0.0.0/16"}),
            json!({"cidr": "10.0.0.0/16", "disabled": true}),
            vec![],
        ),
        (
            json!({"cidr": "10.0.0.0/16"}),
            json!({"cidr": "10.0.0.0/16", "blockSize": 26}),
            vec![],
        ),
        (
            json!({"cidr": "fd00::/64", "blockSize": 122}),
            json!({"cidr": "fd00::/64"}),
            vec![],
        ),
        (
            json!({"cidr": "10.0.0.0/16"}),
            json!({"cidr": "10.0.0.0/17"}),
            vec!["cidr"],
        ),
        (
            json!({"cidr": "10.0.0.0/16"}),
            json!({"cidr": "10.0.0.0/16", "blockSize": 27}),
            vec!["blockSize"],
        ),
        (
            json!({"cidr": "10.0.0.0/16", "blockSize": 27}),
            json!({"cidr": "10.0.0.0/16"}),
            vec!["blockSize"],
        ),
        (
            json!({"cidr": "10.0.0.0/16"}),
            json!({"cidr": "fd00::/64"}),
            vec!["cidr", "blockSize"],
        ),
    ];
    for (old, new, expected) in cases {
        let found = broken(
            "IPPool",
            &object("a", new.clone()),
            Some(&object("a", old.clone())),
        );
        assert_eq!(found, expected, "{old} -> {new}");
    }
}
