//! The definitions in `manifests/crds` in a real API server: it takes them, keeps objects whole, refuses what is wrong
//! with the field's name, and prints columns.
//!
//! The server may be older than the rules in CEL (Kubernetes 1.25); a kubectl of that age checks what it sends
//! against the old server's own description and must be told not to.

use std::{path::Path, time::Duration};

use datastore::{
    Resource, Store, find_kind,
    types::{IpPool, IpamBlock},
};
use e2e::kube::{ADMIN, KubeServer};
use serde_json::{Value, json};

const HOW_LONG: Duration = Duration::from_secs(60);

/// A server with the definitions as they are committed.
fn server() -> KubeServer {
    let server = KubeServer::start().expect("an API server");
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    let crds = crds.display().to_string();
    let said = server
        .kubectl(&["apply", "--validate=false", "-f", &crds])
        .expect("applied");
    assert_eq!(said.lines().count(), 9, "{said}");
    let limit = format!("--timeout={}s", HOW_LONG.as_secs());
    server
        .kubectl(&["wait", "--for=condition=established", &limit, "crd", "--all"])
        .expect("served");
    // As part of a kustomization. (An old server has dropped the rules, so it says that it is configured once more.)
    let again = server
        .kubectl(&["apply", "--validate=false", "-k", &crds])
        .expect("applied");
    assert_eq!(again.lines().count(), 9, "{again}");
    for definition in definitions(&server) {
        let conditions = definition["status"]["conditions"].as_array().expect("conditions");
        let odd: Vec<_> = conditions
            .iter()
            .filter(|condition| condition["type"] == "NonStructuralSchema")
            .collect();
        assert!(odd.is_empty(), "{}: {odd:?}", definition["metadata"]["name"]);
    }
    server
}

fn definitions(server: &KubeServer) -> Vec<Value> {
    let json = server.kubectl(&["get", "crd", "-o", "json"]).expect("listed");
    let list: Value = serde_json::from_str(&json).expect("JSON");
    list["items"].as_array().expect("items").clone()
}

fn manifest(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// An object a kind, with every field that the type has, and one more in each place that a later Calico may use.
fn examples() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "BGPConfiguration",
            "default",
            json!({
                "logSeverityScreen": "Info", "nodeToNodeMeshEnabled": false, "asNumber": 4_200_000_000_u32,
                "serviceClusterIPs": [{"cidr": "10.96.0.0/12", "later": 1}],
                "serviceExternalIPs": [{"cidr": "fd00::/108"}],
                "serviceLoadBalancerIPs": [{"cidr": "192.0.2.0/24"}],
                "serviceLoadBalancerAggregation": "Disabled",
                "communities": [{"name": "c", "value": "65000:1"}],
                "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["c", "1:2:3"]}],
                "listenPort": 179, "nodeMeshMaxRestartTime": "2m0s", "bindMode": "NodeIP",
                "nodeMeshPassword": {"secretKeyRef": {"name": "s", "key": "k", "optional": true, "later": [1]}},
                "ignoredInterfaces": ["docker0"], "later": {"deep": [null, {"x": 1.5}]},
            }),
        ),
        (
            "BGPFilter",
            "f",
            json!({
                "exportV4": [{
                    "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 16, "max": 24},
                    "source": "RemotePeers", "interface": "eth*", "peerType": "eBGP", "priority": 1024,
                    "communities": {"values": ["65000:1"]}, "asPathPrefix": [65000], "action": "Accept",
                    "operations": [
                        {"addCommunity": {"value": "65000:10:20"}},
                        {"prependASPath": {"prefix": [65000, 4_200_000_000_u32]}},
                        {"setPriority": {"value": 2_147_483_646}, "later": true},
                    ],
                    "later": "x",
                }],
                "importV6": [{"cidr": "fd00::/8", "matchOperator": "NotEqual", "action": "Reject"}],
            }),
        ),
        (
            "BGPPeer",
            "tor",
            json!({
                "peerIP": "[fd00::1]:1790", "nodeSelector": "rack == 'a'", "asNumber": 65000, "localASNumber": 65001,
                "nextHopMode": "Self", "sourceAddress": "None", "maxRestartTime": "1m30s",
                "keepaliveTime": "20s", "numAllowedLocalASNumbers": 0, "ttlSecurity": 255,
                "reachableBy": "192.0.2.1", "filters": ["f"], "reversePeering": "Manual",
                "password": {"secretKeyRef": {"name": "s", "key": "k"}}, "later": "x",
            }),
        ),
        (
            "BlockAffinity",
            "a-10-0-0-0-30",
            json!({
                "state": "confirmed", "node": "a", "type": "host", "cidr": "10.0.0.0/30", "deleted": "false",
                "later": 1,
            }),
        ),
        (
            "IPAMBlock",
            "10-0-0-0-30",
            json!({
                "cidr": "10.0.0.0/30", "affinity": "host:a", "affinityClaimTime": "2026-01-01T00:00:00Z",
                "allocations": [0, null, 1, null],
                "attributes": [
                    {"handle_id": "n.c", "secondary": {"pod": "web", "namespace": "ns", "node": "a"}, "later": {}},
                    {"releasedAt": "2026-01-01T00:00:00Z"},
                ],
                "unallocated": [3, 1],
                // Beyond what a double can say: numbers must not pass through one.
                "sequenceNumber": 1_763_647_295_123_456_789_u64,
                "sequenceNumberForAllocation": {"0": 1_763_647_295_123_456_700_u64},
                "strictAffinity": false, "deleted": false, "later": [null],
            }),
        ),
        (
            "IPAMConfig",
            "default",
            json!({
                "strictAffinity": true, "autoAllocateBlocks": true, "maxBlocksPerHost": 4,
                "ipCooldownSeconds": 60, "later": 1,
            }),
        ),
        (
            "IPAMHandle",
            "n.c",
            json!({"handleID": "n.C", "block": {"10.0.0.0/30": 1}, "deleted": false, "later": 1}),
        ),
        (
            "IPPool",
            "pods",
            json!({
                "cidr": "10.0.0.0/16", "blockSize": 30, "ipipMode": "CrossSubnet", "vxlanMode": "Never",
                "natOutgoing": true, "disabled": false, "disableBGPExport": true, "nodeSelector": "all()",
                "namespaceSelector": "team == 'a'", "allowedUses": ["Workload", "Tunnel"],
                "assignmentMode": "Manual", "later": {"x": "y"},
            }),
        ),
        (
            "IPReservation",
            "gateway",
            json!({"reservedCIDRs": ["10.0.0.1/32", "fd00::/64"], "later": 1}),
        ),
    ]
}

#[test]
fn objects_of_every_kind_come_back_whole_with_columns() {
    let server = server();
    let columns = [
        (
            "bgpconfigurations",
            "NAME MESH ASN PORT AGE",
            "default false 4200000000 179",
        ),
        ("bgpfilters", "NAME AGE", "f"),
        (
            "bgppeers",
            "NAME PEER PEER SELECTOR ASN NODE NODE SELECTOR AGE",
            "tor [fd00::1]:1790 65000 rack == 'a'",
        ),
        (
            "blockaffinities",
            "NAME CIDR NODE STATE AGE",
            "a-10-0-0-0-30 10.0.0.0/30 a confirmed",
        ),
        (
            "ipamblocks",
            "NAME CIDR AFFINITY STRICT AGE",
            "10-0-0-0-30 10.0.0.0/30 host:a false",
        ),
        (
            "ipamconfigs",
            "NAME STRICT AUTO ALLOCATE MAX BLOCKS AGE",
            "default true true 4",
        ),
        (
            "ipamhandles",
            "NAME HANDLE ADDRESSES AGE",
            "n.c n.C {\"10.0.0.0/30\":1}",
        ),
        (
            "ippools",
            "NAME CIDR BLOCK SIZE NAT IPIP VXLAN DISABLED NODES AGE",
            "pods 10.0.0.0/16 30 true CrossSubnet Never false all()",
        ),
        (
            "ipreservations",
            "NAME CIDRS AGE",
            "gateway [\"10.0.0.1/32\",\"fd00::/64\"]",
        ),
    ];
    for ((kind, name, spec), (plural, header, row)) in examples().into_iter().zip(columns) {
        let written = manifest(kind, name, &spec);
        // It is an example of our type, too.
        let kind = find_kind(kind).expect("a kind");
        (kind.parse_json)(written.clone()).unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
        server
            .kubectl_with(&["create", "-f", "-"], &written.to_string())
            .expect("created");
        let resource = format!("{plural}.crd.projectcalico.org");
        let json = server
            .kubectl(&["get", &resource, name, "-o", "json"])
            .expect("read");
        let read: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(read["spec"], spec, "{plural}");
        let table = server.kubectl(&["get", &resource]).expect("a table");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = table.lines().map(words).collect();
        assert_eq!(lines.len(), 2, "{table}");
        assert_eq!(lines[0], header, "{table}");
        assert!(lines[1].starts_with(row), "{table}");
    }
    let wide = server
        .kubectl(&["get", "ipamblocks", "-o", "wide"])
        .expect("a table");
    for text in ["FREE ORDINALS", "[3,1]", "1763647295123456789"] {
        assert!(wide.contains(text), "{wide}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_fields_name() {
    let server = server();
    let block = |field: &str, value: Value| {
        let mut spec = json!({
            "cidr": "10.0.0.0/31", "allocations": [null, null], "attributes": [], "unallocated": [0, 1],
            "strictAffinity": false,
        });
        spec[field] = value;
        spec
    };
    let cases = [
        ("IPPool", json!({}), "spec.cidr"),
        ("IPPool", json!({"cidr": "10.0.0.0/33"}), "spec.cidr"),
        ("IPPool", json!({"cidr": "ten"}), "spec.cidr"),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/16", "blockSize": 19}),
            "spec.blockSize",
        ),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/16", "blockSize": "26"}),
            "spec.blockSize",
        ),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/16", "ipipMode": "Sometimes"}),
            "spec.ipipMode",
        ),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/16", "allowedUses": ["Pods"]}),
            "spec.allowedUses",
        ),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/16", "natOutgoing": "yes"}),
            "spec.natOutgoing",
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "asNumber": 0}),
            "spec.asNumber",
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "asNumber": 4_294_967_296_u64}),
            "spec.asNumber",
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "asNumber": "AS1"}),
            "spec.asNumber",
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "keepaliveTime": "20"}),
            "spec.keepaliveTime",
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "ttlSecurity": 0}),
            "spec.ttlSecurity",
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "nextHopMode": "Other"}),
            "spec.nextHopMode",
        ),
        (
            "BGPPeer",
            json!({"peerIP": "10.0.0.1", "password": {"secretKeyRef": {"name": "s"}}}),
            "spec.password.secretKeyRef.key",
        ),
        ("BGPConfiguration", json!({"listenPort": 0}), "spec.listenPort"),
        (
            "BGPConfiguration",
            json!({"communities": [{"name": "c", "value": "1"}]}),
            "spec.communities",
        ),
        ("BGPFilter", json!({"exportV4": [{}]}), "spec.exportV4.action"),
        (
            "BGPFilter",
            json!({"exportV4": [{"action": "Drop"}]}),
            "spec.exportV4.action",
        ),
        (
            "BGPFilter",
            json!({"importV4": [{"action": "Accept", "communities": {"values": []}}]}),
            "spec.importV4.communities.values",
        ),
        (
            "BlockAffinity",
            json!({"node": "a", "cidr": "10.0.0.0/26", "state": "done"}),
            "spec.state",
        ),
        (
            "BlockAffinity",
            json!({"node": "a", "cidr": "10.0.0.0/26", "deleted": true}),
            "spec.deleted",
        ),
        (
            "IPAMBlock",
            block("allocations", json!([-1, null])),
            "spec.allocations",
        ),
        ("IPAMBlock", block("allocations", Value::Null), "spec.allocations"),
        (
            "IPAMBlock",
            block("unallocated", json!([0, null])),
            "spec.unallocated",
        ),
        (
            "IPAMConfig",
            json!({"maxBlocksPerHost": -1}),
            "spec.maxBlocksPerHost",
        ),
        (
            "IPAMHandle",
            json!({"handleID": "", "block": {}}),
            "spec.handleID",
        ),
        (
            "IPReservation",
            json!({"reservedCIDRs": ["10.0.0.0/16", "ten"]}),
            "spec.reservedCIDRs",
        ),
    ];
    for (kind, spec, field) in cases {
        let written = manifest(kind, "default", &spec).to_string();
        let said = server
            .kubectl_with(&["create", "--validate=false", "-f", "-"], &written)
            .map_or_else(|error| format!("{error:#}"), |said| panic!("{written}: {said}"));
        assert!(said.contains("is invalid"), "{written}: {said}");
        let named = said.replace("[0]", "").replace("[1]", "");
        assert!(named.contains(field), "{written}: {said}");
    }
    // These are good, in forms that are easily forgotten.
    for (kind, name, spec) in [
        (
            "BGPPeer",
            "dotted",
            json!({"peerIP": "10.0.0.1", "asNumber": "1.10"}),
        ),
        (
            "IPReservation",
            "single",
            json!({"reservedCIDRs": ["10.0.0.1", "fd00::1"]}),
        ),
    ] {
        server
            .kubectl_with(&["create", "-f", "-"], &manifest(kind, name, &spec).to_string())
            .expect("created");
    }
}

#[tokio::test]
async fn the_store_works_on_them_and_guards_what_is_for_ever() {
    let server = server();
    let config = server.kubeconfig(ADMIN);
    let store = Store::open(&format!("kubernetes:{}", config.display()))
        .await
        .expect("opened");
    for (kind, name, spec) in examples() {
        server
            .kubectl_with(&["create", "-f", "-"], &manifest(kind, name, &spec).to_string())
            .expect("created");
    }
    let mut block: IpamBlock = store.get("10-0-0-0-30").await.expect("read");
    assert_eq!(block.spec.allocations, [Some(0), None, Some(1), None]);
    assert_eq!(block.spec.attributes[0].secondary["pod"], "web");
    block.spec.sequence_number += 1;
    block.spec.allocations[1] = Some(0);
    block.spec.unallocated = vec![3];
    store.update(&block).await.expect("updated");
    let json = server
        .kubectl(&["get", "ipamblocks", "10-0-0-0-30", "-o", "json"])
        .expect("read");
    let read: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(read["spec"]["allocations"], json!([0, 0, 1, null]));
    assert_eq!(read["spec"]["sequenceNumber"], 1_763_647_295_123_456_790_u64);
    assert_eq!(read["spec"]["later"], json!([null]), "unknown fields stay");
    assert_eq!(read["spec"]["attributes"][0]["later"], json!({}));

    let pool: IpPool = store.get("pods").await.expect("read");
    for (field, change) in [
        (
            "spec.cidr",
            Box::new(|pool: &mut IpPool| pool.spec.cidr = "10.0.0.0/17".parse().expect("a network"))
                as Box<dyn Fn(&mut IpPool)>,
        ),
        (
            "spec.blockSize",
            Box::new(|pool: &mut IpPool| pool.spec.block_size = None),
        ),
    ] {
        let mut changed = pool.clone();
        change(&mut changed);
        let error = store.update(&changed).await.expect_err("immutable").to_string();
        assert!(
            error.contains(field) && error.contains("make a new pool"),
            "{error}"
        );
    }
    assert_eq!(store.get::<IpPool>("pods").await.expect("read"), pool);
    assert_eq!(pool.metadata().name, "pods");
}
