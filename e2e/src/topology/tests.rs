use super::*;

/// The demo's text with one replacement; it must change something.
fn edited(from: &str, to: &str) -> String {
    assert!(DEMO.contains(from), "the demo topology has no {from:?}");
    DEMO.replacen(from, to, 1)
}

/// The error of the demo's text after one replacement.
fn error_of(from: &str, to: &str) -> String {
    format!(
        "{:#}",
        Topology::parse(&edited(from, to)).expect_err("must be refused")
    )
}

#[test]
fn demo_is_valid_and_survives_a_round_trip() {
    let demo = Topology::demo().unwrap();
    assert_eq!(
        (demo.nodes.len(), demo.routers.len(), demo.pods_per_node),
        (3, 1, 2)
    );
    assert_eq!(demo.gateway("rack-b"), Some("192.168.34.1".parse().unwrap()));
    let node = demo.node("c").unwrap();
    assert_eq!(demo.node_cidr(node).unwrap().to_string(), "192.168.34.11/24");
    let text = serde_yaml::to_string(&demo).unwrap();
    assert_eq!(Topology::parse(&text).unwrap(), demo);
}

#[test]
fn ipv6_is_optional_and_checked() {
    let text = edited(
        "cidr: 192.168.33.0/24",
        "cidr: 192.168.33.0/24\n    cidr6: fd00:33::/64",
    );
    Topology::parse(&text).unwrap();
    let text = text.replacen(
        "address: 192.168.33.11",
        "address: 192.168.33.11\n    address6: fd00:33::11",
        1,
    );
    let topology = Topology::parse(&text).unwrap();
    assert_eq!(topology.nodes[0].address6, Some("fd00:33::11".parse().unwrap()));
    let error = error_of(
        "address: 192.168.33.11",
        "address: 192.168.33.11\n    address6: fd00:33::11",
    );
    assert_eq!(
        error,
        "nodes[0].address6: subnet rack-a has no IPv6 range; give it one in `cidr6`"
    );
}

#[test]
fn errors_name_the_field_and_what_would_be_right() {
    let cases = [
        (
            ("address: 192.168.33.12", "address: 192.168.40.12"),
            "nodes[1].address: 192.168.40.12 is no host's address in subnet rack-a (192.168.33.0/24); give one inside it",
        ),
        (
            ("address: 192.168.33.12", "address: 192.168.33.11"),
            "nodes[1].address: 192.168.33.11 is taken by a",
        ),
        (
            ("    subnet: rack-b", "    subnet: rack-z"),
            "nodes[2].subnet: there is no subnet \"rack-z\"; give one of: rack-a, rack-b",
        ),
        (
            ("name: tor", "name: a"),
            "routers[0].name: \"a\" is taken by another node or router",
        ),
        (
            ("asNumber: 65000", "asNumber: 64512"),
            "routers[0].asNumber: 64512 does not work for a router; give one that differs from the nodes' (64512)",
        ),
        (
            ("address: 10.99.0.1", "address: 10.98.0.1"),
            "routers[0].announces[0].address: 10.98.0.1 is not inside 10.99.0.0/16; give an address inside it",
        ),
        (
            ("blockSize: 26", "blockSize: 17"),
            "pools[0].blockSize: 17 does not fit 10.233.64.0/18; give 20 to 32",
        ),
        (
            ("cidr: 10.233.64.0/18", "cidr: 10.233.64.7/18"),
            "pools[0].cidr: 10.233.64.7/18 has bits set behind its prefix; give 10.233.64.0/18",
        ),
        (
            ("cidr: 192.168.34.0/24", "cidr: 192.168.33.128/25"),
            "subnets[1].cidr: 192.168.33.128/25 overlaps 192.168.33.0/24 of subnet rack-a; give ranges apart from each other",
        ),
        (
            ("podsPerNode: 2", "podsPerNode: 200"),
            "podsPerNode: 200 is too many; give 0 to 32",
        ),
    ];
    for ((from, to), expected) in cases {
        assert_eq!(error_of(from, to), expected);
    }
}

#[test]
fn names_must_fit_a_link() {
    for bad in [
        "",
        "A",
        "1a",
        "a_b",
        "much-too-long-a-name",
        "ends-",
        "switch",
        "apiserver",
    ] {
        let error = error_of("name: tor", &format!("name: \"{bad}\""));
        assert!(error.starts_with("routers[0].name: "), "{bad:?}: {error}");
    }
}

#[test]
fn text_that_is_no_topology_says_where() {
    let error = error_of("address: 192.168.33.11", "address: 192.168.33");
    assert!(
        error.contains("nodes[0].address") && error.contains("line"),
        "{error}"
    );
    let error = error_of("podsPerNode: 2", "podsPerNod: 2");
    assert!(
        error.contains("unknown field `podsPerNod`") && error.contains("`podsPerNode`"),
        "{error}"
    );
}
