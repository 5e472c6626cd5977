//! The exact shape of what a runtime reads, version by version.

use super::*;

fn attachment() -> Attachment {
    Attachment {
        host_device: "cali123".into(),
        ifname: "eth0".into(),
        pod_mac: vec![2, 0, 0, 0, 0, 0xab],
        sandbox: "/run/netns/pod".into(),
        mtu: 1450,
        addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        dns: Some(json!({"nameservers": ["10.96.0.10"]})),
    }
}

fn expected(version: &str, interfaces: Value, ips: Value) -> Value {
    json!({
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": ips,
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
            {"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"},
        ],
        "dns": {"nameservers": ["10.96.0.10"]},
    })
}

fn plain_interfaces() -> Value {
    json!([
        {"name": "cali123", "mac": "ee:ee:ee:ee:ee:ee"},
        {"name": "eth0", "mac": "02:00:00:00:00:ab", "sandbox": "/run/netns/pod"},
    ])
}

fn plain_ips() -> Value {
    json!([
        {"address": "10.0.0.7/32", "gateway": "169.254.1.1", "interface": 1},
        {"address": "fd00::7/128", "gateway": "fe80::ecee:eeff:feee:eeee", "interface": 1},
    ])
}

#[test]
fn addresses_are_tagged_up_to_0_4_0() {
    let ips = json!([
        {"version": "4", "address": "10.0.0.7/32", "gateway": "169.254.1.1", "interface": 1},
        {"version": "6", "address": "fd00::7/128", "gateway": "fe80::ecee:eeff:feee:eeee", "interface": 1},
    ]);
    for (version, text) in [(CniVersion::V0_3_1, "0.3.1"), (CniVersion::V0_4_0, "0.4.0")] {
        let expected = expected(text, plain_interfaces(), ips.clone());
        assert_eq!(result(version, &attachment()), expected);
    }
}

#[test]
fn tag_is_gone_in_1_0_0() {
    let expected = expected("1.0.0", plain_interfaces(), plain_ips());
    assert_eq!(result(CniVersion::V1_0_0, &attachment()), expected);
}

#[test]
fn interfaces_have_an_mtu_in_1_1_0() {
    let interfaces = json!([
        {"name": "cali123", "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1450},
        {"name": "eth0", "mac": "02:00:00:00:00:ab", "mtu": 1450, "sandbox": "/run/netns/pod"},
    ]);
    let expected = expected("1.1.0", interfaces, plain_ips());
    assert_eq!(result(CniVersion::V1_1_0, &attachment()), expected);
}

#[test]
fn one_default_route_a_family_and_no_dns_unless_configured() {
    let attachment = Attachment {
        addresses: vec!["10.0.0.7".parse().unwrap(), "10.0.0.8".parse().unwrap()],
        dns: None,
        ..attachment()
    };
    let result = result(CniVersion::V1_1_0, &attachment);
    assert_eq!(
        result["routes"],
        json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}])
    );
    assert_eq!(result.get("dns"), None);
}

#[test]
fn version_echoes_what_it_was_asked_with() {
    let supported = json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (input, echoed) in [
        (r#"{"cniVersion": "0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion": "9.9.9"}"#, "9.9.9"),
        ("", "1.1.0"),
        ("{", "1.1.0"),
        (r#"{"cniVersion": 1}"#, "1.1.0"),
    ] {
        let expected = json!({"cniVersion": echoed, "supportedVersions": supported});
        assert_eq!(version(input.as_bytes()), expected, "{input}");
    }
}

#[test]
fn details_are_left_out_where_there_are_none() {
    let failure = Failure::new(100, "no address is left");
    let plain = json!({"cniVersion": "1.0.0", "code": 100, "msg": "no address is left"});
    assert_eq!(error(CniVersion::V1_0_0, &failure), plain);
    let detailed = error(
        CniVersion::V1_0_0,
        &failure.because("pool a is full").because("pool b is disabled"),
    );
    assert_eq!(detailed["details"], "pool a is full; pool b is disabled");
}
