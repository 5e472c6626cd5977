//! Configurations a cluster may bring along, and what a person reads where they are wrong.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A configuration with some fields set.
fn with(fields: Value) -> Result<Configuration, ConfigurationError> {
    let mut document = json!({"cniVersion": "1.0.0", "name": "pods", "type": "routelet-cni"});
    let (Value::Object(document), Value::Object(fields)) = (&mut document, fields) else {
        panic!("fields are an object");
    };
    document.extend(fields);
    Configuration::parse(&serde_json::to_vec(&document).unwrap())
}

#[test]
fn least_configuration_has_defaults() {
    let configuration = with(json!({})).unwrap();
    assert_eq!(configuration.version, CniVersion::V1_0_0);
    assert_eq!(configuration.network().unwrap(), "pods");
    assert_eq!(configuration.socket().unwrap(), None);
    assert_eq!(
        configuration.settings().unwrap(),
        Settings {
            mtu: None,
            assign: Families {
                ipv4: true,
                ipv6: false
            },
            ipv4_pools: vec![],
            ipv6_pools: vec![],
            allow_ip_forwarding: false,
            dns: None,
        }
    );
}

#[test]
fn conflist_of_calico_is_understood() {
    let configuration = with(json!({
        "type": "calico",
        "log_level": "info",
        "datastore_type": "kubernetes",
        "nodename": "worker-1",
        "mtu": 1440,
        "ipam": {
            "type": "calico-ipam",
            "assign_ipv4": "true",
            "assign_ipv6": true,
            "ipv4_pools": ["10.0.0.0/16", "default-ipv4-ippool"],
            "ipv6_pools": ["fd00::/48"],
        },
        "container_settings": {"allow_ip_forwarding": true},
        "policy": {"type": "k8s"},
        "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"},
        "dns": {"nameservers": ["10.96.0.10"]},
    }))
    .unwrap();
    assert_eq!(
        configuration.settings().unwrap(),
        Settings {
            mtu: Some(1440),
            assign: Families {
                ipv4: true,
                ipv6: true
            },
            ipv4_pools: vec!["10.0.0.0/16".into(), "default-ipv4-ippool".into()],
            ipv6_pools: vec!["fd00::/48".into()],
            allow_ip_forwarding: true,
            dns: Some(json!({"nameservers": ["10.96.0.10"]})),
        }
    );
}

#[test]
fn unusable_documents_say_what_is_wrong() {
    let table: &[(&str, u32, &str)] = &[
        ("", 6, "is empty: it belongs on standard input"),
        (" \n", 6, "is empty"),
        (
            "{\n  \"name\": nope\n}",
            6,
            "is not JSON: expected ident at line 2 column 12",
        ),
        (
            "{\"name\": \"a\"",
            6,
            "it ends too soon: EOF while parsing an object at line 1 column 12",
        ),
        ("[]", 6, "must be a JSON object, not a list"),
        (
            "{}",
            7,
            "cniVersion (supported are 0.3.1, 0.4.0, 1.0.0, 1.1.0) is missing",
        ),
        (r#"{"cniVersion": 1}"#, 7, "cniVersion is 1; it must be a string"),
        (
            r#"{"cniVersion": "0.2.0"}"#,
            1,
            "\"0.2.0\" is not supported; supported are 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ),
    ];
    for (text, code, expected) in table {
        let failure = Failure::from(Configuration::parse(text.as_bytes()).expect_err(text));
        assert_eq!(failure.code, *code, "{text}");
        assert!(failure.message.contains(expected), "{text} says {failure}");
    }
}

#[test]
fn bad_settings_name_field_and_accepted_values() {
    let table: &[(Value, u32, &str)] = &[
        (
            json!({"mtu": "big"}),
            7,
            "mtu is \"big\"; it must be a non-negative integer",
        ),
        (
            json!({"mtu": 67}),
            7,
            "mtu is 67; it must be from 68 to 65535, or 0 for the node's",
        ),
        (json!({"mtu": 5_000_000_000_u64}), 7, "mtu is 5000000000"),
        (
            json!({"mtu": 1279, "ipam": {"assign_ipv6": true}}),
            7,
            "mtu is 1279; it must be from 1280",
        ),
        (
            json!({"ipam": "calico-ipam"}),
            7,
            "ipam is \"calico-ipam\"; it must be an object",
        ),
        (
            json!({"ipam": {"type": "host-local"}}),
            2,
            "ipam.type is \"host-local\", which is not supported; supported: routelet, calico-ipam",
        ),
        (
            json!({"ipam": {"assign_ipv4": "no"}}),
            7,
            "ipam.assign_ipv4 is \"no\"; it must be true or false",
        ),
        (
            json!({"ipam": {"assign_ipv4": false}}),
            7,
            "true for at least one of them",
        ),
        (
            json!({"ipam": {"ipv4_pools": "a"}}),
            7,
            "ipam.ipv4_pools is \"a\"; it must be a list",
        ),
        (
            json!({"ipam": {"ipv4_pools": ["a", 5]}}),
            7,
            "ipam.ipv4_pools[1] is 5; it must be a string",
        ),
        (
            json!({"ipam": {"ipv4_pools": ["fd00::/64"]}}),
            7,
            "ipam.ipv4_pools[0] is \"fd00::/64\"; it must be an IPv4 CIDR",
        ),
        (
            json!({"ipam": {"ipv6_pools": ["10.0.0.0/99"]}}),
            7,
            "it must be an IPv6 CIDR or the name of a pool",
        ),
        (
            json!({"container_settings": {"allow_ip_forwarding": 1}}),
            7,
            "container_settings.allow_ip_forwarding is 1",
        ),
        (
            json!({"policy": {"type": "none"}}),
            2,
            "policy.type is \"none\", which is not supported; supported: k8s",
        ),
        (json!({"nodename": 5}), 7, "nodename is 5; it must be a string"),
        (
            json!({"kubernetes": {"kubeconfig": 5}}),
            7,
            "kubernetes.kubeconfig is 5",
        ),
        (json!({"dns": []}), 7, "dns is []; it must be an object"),
        (
            json!({"prevResult": {}}),
            2,
            "must be the first plugin of the list",
        ),
    ];
    for (fields, code, expected) in table {
        let failure = Failure::from(
            with(fields.clone())
                .unwrap()
                .settings()
                .expect_err(&fields.to_string()),
        );
        assert_eq!(failure.code, *code, "{fields} says {failure}");
        assert!(failure.message.contains(expected), "{fields} says {failure}");
    }
}

#[test]
fn bad_network_names_are_refused() {
    for (name, expected) in [
        (json!(null), "name is missing"),
        (json!(""), "name is missing"),
        (json!("a/b"), "name is \"a/b\"; it must be letters"),
        (json!(7), "name is 7; it must be a string"),
    ] {
        let error = with(json!({ "name": name })).unwrap().network().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn verbs_newer_than_the_version_are_refused() {
    let table = [
        (
            "0.3.1",
            Command::Check,
            "cniVersion 0.3.1 does not know CHECK; it takes 0.4.0 or later",
        ),
        (
            "1.0.0",
            Command::Gc,
            "cniVersion 1.0.0 does not know GC; it takes 1.1.0 or later",
        ),
        ("1.0.0", Command::Status, "cniVersion 1.0.0 does not know STATUS"),
    ];
    for (version, command, expected) in table {
        let error = with(json!({ "cniVersion": version }))
            .unwrap()
            .must_know(command)
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    for command in [
        Command::Add,
        Command::Del,
        Command::Check,
        Command::Gc,
        Command::Status,
    ] {
        with(json!({"cniVersion": "1.1.0"}))
            .unwrap()
            .must_know(command)
            .unwrap();
    }
}

proptest! {
    /// Whatever comes on standard input ends in settings or an error.
    #[test]
    fn input_never_panics(text in r#"[\[\]{}",:0-9a-z. \\]{0,60}"#) {
        if let Ok(configuration) = Configuration::parse(text.as_bytes()) {
            let _ = configuration.settings();
            let _ = configuration.network();
        }
    }
}
