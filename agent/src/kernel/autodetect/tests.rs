//! Each case: a node's devices, a method, and the address it finds.

use super::*;

/// Devices as `name`, up or down, and addresses; indices rise in the order given.
fn node(devices: &[(&str, bool, &[&str])]) -> Links {
    let link = |(position, (name, up, addresses)): (usize, &(&str, bool, &[&str]))| Link {
        name: (*name).to_owned(),
        index: position as u32 + 1,
        up: *up,
        loopback: *name == "lo",
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Link::default()
    };
    devices.iter().enumerate().map(link).collect()
}

fn typical() -> Links {
    node(&[
        ("lo", true, &["127.0.0.1/8", "192.0.2.200/32", "::1/128"]),
        ("docker0", true, &["172.17.0.1/16"]),
        ("br-5f1c2a", true, &["172.18.0.1/16"]),
        ("nodelocaldns", true, &["169.254.20.10/32", "10.96.0.10/32"]),
        ("kube-ipvs0", true, &["10.96.0.1/32"]),
        ("cali12345678901", true, &["169.254.1.1/32"]),
        ("eth9", false, &["198.51.100.99/24"]),
        (
            "eth0",
            true,
            &[
                "169.254.7.7/16",
                "192.0.2.1/24",
                "192.0.2.2/24",
                "fe80::1/64",
                "2001:db8::1/64",
            ],
        ),
        ("eth1", true, &["198.51.100.1/24", "2001:db8:1::1/64"]),
        ("bond0.7", true, &["203.0.113.1/25"]),
        ("tunl0", true, &["10.233.64.0/32"]),
        ("vxlan.calico", true, &["10.233.65.0/32"]),
    ])
}

#[test]
fn each_method_finds_its_address() {
    let cases = [
        ("first-found", "192.0.2.1/24", "2001:db8::1/64"),
        ("", "192.0.2.1/24", "2001:db8::1/64"),
        ("interface=eth1", "198.51.100.1/24", "2001:db8:1::1/64"),
        ("interface=bond.*,eth1", "198.51.100.1/24", "2001:db8:1::1/64"),
        ("interface=^eth[1-9]$", "198.51.100.1/24", "2001:db8:1::1/64"),
        ("interface=th1", "198.51.100.1/24", "2001:db8:1::1/64"),
        ("interface=docker0 , eth1", "172.17.0.1/16", "2001:db8:1::1/64"),
        ("skip-interface=eth0", "198.51.100.1/24", "2001:db8:1::1/64"),
        ("skip-interface=eth.*", "203.0.113.1/25", ""),
        (
            "cidr=198.51.100.0/24,2001:db8:1::/48",
            "198.51.100.1/24",
            "2001:db8:1::1/64",
        ),
        ("cidr=10.0.0.0/8, 203.0.113.0/24", "10.96.0.10/32", ""),
        ("cidr=100.64.0.0/10", "", ""),
        ("interface=eth9", "", ""),
        ("interface=eth7", "", ""),
    ];
    for (method, v4, v6) in cases {
        for (family, wanted) in [(Family::V4, v4), (Family::V6, v6)] {
            let found = autodetect(method, family, &typical())
                .map(|net| net.to_string())
                .unwrap_or_default();
            assert_eq!(found, wanted, "{family} by \"{method}\"");
        }
    }
}

#[test]
fn devices_that_are_never_the_nodes_are_skipped() {
    let names = [
        "docker0",
        "cbr0",
        "dummy0",
        "podman1",
        "virbr0",
        "lxcbr0",
        "veth1a2b",
        "lo",
        "br-0123",
        "cali0123",
        "tunl0",
        "flannel.1",
        "kube-ipvs0",
        "cni0",
        "vxlan.calico",
        "wireguard.cali",
        "nodelocaldns",
    ];
    for name in names {
        let links = node(&[
            (name, true, &["192.0.2.66/24"]),
            ("eth0", true, &["192.0.2.1/24"]),
        ]);
        let found = autodetect("first-found", Family::V4, &links).unwrap();
        assert_eq!(found.to_string(), "192.0.2.1/24", "beside {name}");
    }
    // These only look like them.
    for name in ["lom1", "bridge0", "br0", "wan", "en-docker"] {
        let links = node(&[(name, true, &["192.0.2.66/24"])]);
        assert!(autodetect("first-found", Family::V4, &links).is_ok(), "{name}");
    }
}

#[test]
fn what_can_be_reached_tells_the_address() {
    // The loopback device is there in every namespace; its subnet need not be known to the caller otherwise.
    let links = node(&[("lo", true, &["127.0.0.1/8"])]);
    assert_eq!(
        autodetect("can-reach=127.0.0.9", Family::V4, &links)
            .unwrap()
            .to_string(),
        "127.0.0.1/8"
    );
    assert!(autodetect("can-reach=127.0.0.9", Family::V6, &links).is_err());
}

#[test]
fn errors_say_what_is_wrong_and_what_would_be_right() {
    let cases = [
        (
            "last-found",
            "unknown autodetection method \"last-found\": expected first-found, interface=REGEX",
        ),
        ("kubernetes-internal-ip", "unknown autodetection method"),
        (
            "interface=eth(",
            "autodetection method interface: \"eth(\" is not a regular expression: ",
        ),
        (
            "interface=",
            "autodetection method interface: \"\" is not a regular expression that matches device names",
        ),
        (
            "skip-interface=eth0,",
            "autodetection method skip-interface: \"\" is not a regular",
        ),
        (
            "cidr=192.0.2.0",
            "autodetection method cidr: \"192.0.2.0\" is not a subnet like 192.0.2.0/24",
        ),
        (
            "can-reach=example.org",
            "autodetection method can-reach: \"example.org\" is not an IP address",
        ),
        (
            "interface=wlan0",
            "no IPv4 address found by interface=wlan0; devices that are up: eth0 (192.0.2.1/24)",
        ),
    ];
    let links = node(&[("eth0", true, &["192.0.2.1/24"]), ("eth1", false, &[])]);
    for (method, message) in cases {
        let error = autodetect(method, Family::V4, &links).unwrap_err().to_string();
        assert!(error.starts_with(message), "{method}: {error}");
    }
}
