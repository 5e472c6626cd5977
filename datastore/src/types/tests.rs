//! Rules, told as manifests and the one field that each gets wrong.

use crate::{FieldError, KindInfo, find_kind, kinds};

fn parse(kind: &str, spec: &str) -> Result<serde_json::Value, FieldError> {
    let kind: &KindInfo = find_kind(kind).unwrap_or_else(|| panic!("no kind {kind}"));
    let text = format!(
        "apiVersion: {}\nkind: {}\nmetadata: {{name: default}}\nspec: {spec}\n",
        kind.api_version(),
        kind.kind
    );
    (kind.parse_yaml)(&text)
}

fn check(kind: &str, good: &[&str], bad: &[(&str, &str, &str)]) {
    for spec in good {
        if let Err(error) = parse(kind, spec) {
            panic!("{kind} {spec}: {error:?}");
        }
    }
    for (spec, field, says) in bad {
        let error = parse(kind, spec).expect_err(spec);
        assert_eq!(error.field, *field, "{kind} {spec}: {error:?}");
        assert!(
            error.message.contains(says),
            "{kind} {spec}: {error:?} does not say {says:?}"
        );
    }
}

#[test]
fn pools() {
    check(
        "IPPool",
        &[
            "{cidr: 10.0.0.0/16}",
            "{cidr: 10.0.0.0/16, blockSize: 20, ipipMode: CrossSubnet, natOutgoing: true}",
            "{cidr: 'fd00::/64', blockSize: 122, vxlanMode: Always}",
            "{cidr: 10.0.0.0/16, nodeSelector: \"rack == 'a'\", allowedUses: [Workload, Tunnel], assignmentMode: Manual}",
        ],
        &[
            ("{}", "spec.cidr", "missing"),
            ("{cidr: 10.0.0.1/16}", "spec.cidr", "expected 10.0.0.0/16"),
            ("{cidr: 169.254.1.0/24}", "spec.cidr", "link-local"),
            ("{cidr: 'fe80::/64'}", "spec.cidr", "link-local"),
            ("{cidr: ten}", "spec.cidr", "ADDRESS/LENGTH"),
            ("{cidr: 10.0.0.0}", "spec.cidr", "ADDRESS/LENGTH"),
            (
                "{cidr: 10.0.0.0/16, blockSize: 19}",
                "spec.blockSize",
                "expected 20 to 32",
            ),
            (
                "{cidr: 10.0.0.0/16, blockSize: 33}",
                "spec.blockSize",
                "expected 20 to 32",
            ),
            ("{cidr: 10.0.0.0/28}", "spec.blockSize", "expected 28 to 32"),
            (
                "{cidr: 'fd00::/64', blockSize: 64}",
                "spec.blockSize",
                "expected 116 to 128",
            ),
            (
                "{cidr: 10.0.0.0/16, blockSize: big}",
                "spec.blockSize",
                "expected u8",
            ),
            (
                "{cidr: 10.0.0.0/16, ipipMode: Sometimes}",
                "spec.ipipMode",
                "CrossSubnet",
            ),
            (
                "{cidr: 10.0.0.0/16, ipipMode: Always, vxlanMode: Always}",
                "spec.vxlanMode",
                "spec.ipipMode",
            ),
            ("{cidr: 'fd00::/64', ipipMode: Always}", "spec.ipipMode", "Never"),
            (
                "{cidr: 10.0.0.0/16, nodeSelector: rack}",
                "spec.nodeSelector",
                "at character 5",
            ),
            (
                "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer, Tunnel]}",
                "spec.allowedUses",
                "two pools",
            ),
            ("{cidr: 10.0.0.0/16, cidr: 10.1.0.0/16}", "spec.cidr", "twice"),
        ],
    );
}

#[test]
fn peers() {
    check(
        "BGPPeer",
        &[
            "{peerIP: 10.0.0.1}",
            "{peerIP: '10.0.0.1:1790', asNumber: '1.10', node: a, nodeSelector: ''}",
            "{peerIP: '[fd00::1]:1790', nodeSelector: has(rack), nextHopMode: Self, keepaliveTime: 20s, ttlSecurity: 1}",
            "{peerSelector: all(), reversePeering: Manual, sourceAddress: None, filters: [a]}",
            "{peerIP: 'fd00::1', password: {secretKeyRef: {name: a, key: b}}, maxRestartTime: 2m}",
        ],
        &[
            ("{}", "spec.peerIP", "spec.peerSelector"),
            (
                "{peerIP: 10.0.0.1, peerSelector: all()}",
                "spec.peerSelector",
                "spec.peerIP",
            ),
            (
                "{peerIP: 10.0.0.1, node: a, nodeSelector: all()}",
                "spec.nodeSelector",
                "spec.node",
            ),
            (
                "{peerSelector: all(), asNumber: 1}",
                "spec.asNumber",
                "spec.peerSelector",
            ),
            ("{peerIP: tor}", "spec.peerIP", "ADDRESS:PORT"),
            ("{peerIP: '10.0.0.1:0'}", "spec.peerIP", "ADDRESS:PORT"),
            ("{peerIP: 'fd00::1:99999'}", "spec.peerIP", "[ADDRESS]:PORT"),
            ("{peerIP: 10.0.0.1, asNumber: 0}", "spec.asNumber", "4294967295"),
            ("{peerIP: 10.0.0.1, asNumber: 1.10}", "spec.asNumber", "quotes"),
            (
                "{peerIP: 10.0.0.1, nodeSelector: '('}",
                "spec.nodeSelector",
                "expected a label",
            ),
            (
                "{peerIP: 10.0.0.1, keepaliveTime: 20}",
                "spec.keepaliveTime",
                "units",
            ),
            (
                "{peerIP: 10.0.0.1, nextHopMode: Other}",
                "spec.nextHopMode",
                "Keep",
            ),
            (
                "{peerIP: 10.0.0.1, ttlSecurity: 0}",
                "spec.ttlSecurity",
                "1 to 255",
            ),
            (
                "{peerIP: 10.0.0.1, numAllowedLocalASNumbers: -1}",
                "spec.numAllowedLocalASNumbers",
                "0 or more",
            ),
            (
                "{peerIP: 10.0.0.1, reachableBy: x}",
                "spec.reachableBy",
                "not an address",
            ),
            (
                "{peerIP: 10.0.0.1, password: {}}",
                "spec.password.secretKeyRef",
                "secret",
            ),
        ],
    );
}

#[test]
fn bgp_configuration() {
    check(
        "BGPConfiguration",
        &[
            "{}",
            "{asNumber: 64512, nodeToNodeMeshEnabled: false, listenPort: 1790, bindMode: NodeIP, logSeverityScreen: Info}",
            "{communities: [{name: c, value: '1:2'}], prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [c, '1:2:3']}]}",
            "{serviceClusterIPs: [{cidr: 10.96.0.0/12}], serviceLoadBalancerAggregation: Disabled}",
        ],
        &[
            ("{listenPort: 0}", "spec.listenPort", "1 to 65535"),
            ("{listenPort: 65536}", "spec.listenPort", "u16"),
            (
                "{serviceExternalIPs: [{cidr: 10.96.0.1/12}]}",
                "spec.serviceExternalIPs[0].cidr",
                "10.96.0.0/12",
            ),
            (
                "{communities: [{name: c, value: '1'}]}",
                "spec.communities[0].value",
                "A:B:C",
            ),
            (
                "{prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [c]}]}",
                "spec.prefixAdvertisements[0].communities[0]",
                "spec.communities",
            ),
            ("{bindMode: All}", "spec.bindMode", "NodeIP"),
        ],
    );
}

#[test]
fn filters() {
    check(
        "BGPFilter",
        &[
            "{}",
            "{exportV4: [{action: Reject, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 16, max: 24}, source: RemotePeers}]}",
            "{importV6: [{action: Accept, peerType: eBGP, communities: {values: ['1:2']}, operations: [{addCommunity: {value: '1:2'}}, {setPriority: {value: 5}}, {prependASPath: {prefix: [1, '1.1']}}]}]}",
        ],
        &[
            ("{exportV4: [{}]}", "spec.exportV4[0].action", "missing"),
            (
                "{exportV4: [{action: Drop}]}",
                "spec.exportV4[0].action",
                "Reject",
            ),
            (
                "{exportV4: [{action: Accept, cidr: 10.0.0.0/8}]}",
                "spec.exportV4[0].matchOperator",
                "NotIn",
            ),
            (
                "{exportV4: [{action: Accept, cidr: 'fd00::/8', matchOperator: In}]}",
                "spec.exportV4[0].cidr",
                "IPv4",
            ),
            (
                "{importV6: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In}]}",
                "spec.importV6[0].cidr",
                "IPv6",
            ),
            (
                "{importV4: [{action: Accept, prefixLength: {min: 1}}]}",
                "spec.importV4[0].prefixLength",
                "cidr",
            ),
            (
                "{importV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 33}}]}",
                "spec.importV4[0].prefixLength",
                "0 to 32",
            ),
            (
                "{importV4: [{action: Accept, source: RemotePeers}]}",
                "spec.importV4[0].source",
                "import",
            ),
            (
                "{importV4: [{action: Reject, operations: [{setPriority: {value: 5}}]}]}",
                "spec.importV4[0].operations",
                "Accept",
            ),
            (
                "{importV4: [{action: Accept, operations: [{}]}]}",
                "spec.importV4[0].operations[0]",
                "exactly one",
            ),
            (
                "{importV4: [{action: Accept, operations: [{prependASPath: {prefix: []}}]}]}",
                "spec.importV4[0].operations[0].prependASPath.prefix",
                "1 to 10",
            ),
            (
                "{importV4: [{action: Accept, priority: 0}]}",
                "spec.importV4[0].priority",
                "expected 1",
            ),
            (
                "{importV4: [{action: Accept, communities: {values: []}}]}",
                "spec.importV4[0].communities.values",
                "expected one",
            ),
        ],
    );
}

#[test]
fn address_management() {
    check(
        "IPAMBlock",
        &[
            "{cidr: 10.0.0.0/31, allocations: [null, 0], attributes: [{handle_id: h}], unallocated: [0], strictAffinity: false}",
        ],
        &[
            (
                "{cidr: 10.0.0.0/31, allocations: [null], attributes: [], unallocated: [], strictAffinity: false}",
                "spec.allocations",
                "2 addresses",
            ),
            (
                "{cidr: 10.0.0.0/32, allocations: [0], attributes: [], unallocated: [], strictAffinity: false}",
                "spec.allocations[0]",
                "spec.attributes",
            ),
            (
                "{cidr: 10.0.0.0/32, allocations: [null], attributes: [], unallocated: [1], strictAffinity: false}",
                "spec.unallocated[0]",
                "below 1",
            ),
            (
                "{cidr: 10.0.0.0/32, allocations: [null], attributes: [], unallocated: [0, 0], strictAffinity: false}",
                "spec.unallocated[1]",
                "twice",
            ),
            (
                "{cidr: '::/0', allocations: [], attributes: [], unallocated: [], strictAffinity: false}",
                "spec.cidr",
                "too large",
            ),
            (
                "{cidr: 10.0.0.0/32, allocations: [-1], attributes: [], unallocated: [], strictAffinity: false}",
                "spec.allocations[0]",
                "usize",
            ),
        ],
    );
    check(
        "BlockAffinity",
        &[
            "{node: a, cidr: 10.0.0.0/26, state: pendingDeletion, deleted: 'true'}",
            "{node: a, cidr: 10.0.0.0/26}",
        ],
        &[
            (
                "{node: a, cidr: 10.0.0.0/26, state: done}",
                "spec.state",
                "confirmed",
            ),
            ("{node: a, cidr: 10.0.0.0/26, type: other}", "spec.type", "host"),
            (
                "{node: a, cidr: 10.0.0.0/26, deleted: perhaps}",
                "spec.deleted",
                "quotes",
            ),
            ("{node: '', cidr: 10.0.0.0/26}", "spec.node", "empty"),
        ],
    );
    check(
        "IPAMHandle",
        &["{handleID: H, block: {10.0.0.0/26: 1}}"],
        &[("{handleID: H, block: {ten: 1}}", "spec.block", "ten")],
    );
    check(
        "IPReservation",
        &["{reservedCIDRs: [10.0.0.0/28, 10.0.0.1, 'fd00::1']}"],
        &[
            (
                "{reservedCIDRs: [10.0.0.1/28]}",
                "spec.reservedCIDRs[0]",
                "10.0.0.0/28",
            ),
            ("{reservedCIDRs: [ten]}", "spec.reservedCIDRs[0]", "neither"),
        ],
    );
    check(
        "IPAMConfig",
        &["{}", "{strictAffinity: true, maxBlocksPerHost: 4}"],
        &[("{maxBlocksPerHost: -4}", "spec.maxBlocksPerHost", "u32")],
    );
}

#[test]
fn there_is_one_ipam_config() {
    let kind = find_kind("ipamconfig").expect("a kind");
    let text = "{apiVersion: crd.projectcalico.org/v1, kind: IPAMConfig, metadata: {name: other}, spec: {}}";
    let error = (kind.parse_yaml)(text).expect_err("another name");
    assert_eq!(error.field, "metadata.name");
}

#[test]
fn json_and_yaml_give_the_same_and_nothing_is_lost() {
    let text = "
apiVersion: crd.projectcalico.org/v1
kind: BGPFilter
metadata: {name: f, labels: {a: b}}
spec:
  exportV4:
  - {action: Accept, cidr: 10.0.0.0/8, matchOperator: In, operations: [{prependASPath: {prefix: [65000]}}]}
";
    let kind = find_kind("BGPFilter").expect("a kind");
    let raw: serde_json::Value = serde_yaml::from_str(text).expect("YAML");
    assert_eq!((kind.parse_yaml)(text).expect("a filter"), raw);
    assert_eq!((kind.parse_json)(raw.clone()).expect("a filter"), raw);
}

#[test]
fn what_is_not_a_manifest_is_an_error_of_every_kind() {
    for kind in kinds() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            "a: b",
            "apiVersion: v1\nkind: {}",
            "\u{0}",
            "&a [*a]",
            "? [x]\n: y",
        ] {
            assert!((kind.parse_yaml)(text).is_err(), "{} {text:?}", kind.kind);
        }
    }
}

#[test]
fn a_secret_does_not_show_its_values() {
    let mut secret = crate::types::Secret::new("ns", "s");
    secret.string_data.insert("password".into(), "hunter2".into());
    assert!(!format!("{secret:?}").contains("hunter2"));
}
