//! ADD in real network namespaces: what a pod gets, and what a repeat and a successor get.

mod lab;

use std::{
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use cni::protocol::{Families, Verb};
use lab::{Call, HOST_V4, HOST_V6, Host, PROTOCOL, Pod, add_reply};
use serde_json::json;

#[test]
fn pod_and_host_reach_each_other() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let agent = host.agent(&["10.65.0.7"]);
    let result = Call::new("ADD", &host, &pod).result();

    let inside = &pod.namespace.ip_json("link show eth0")[0];
    assert_eq!(
        result,
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": pod.device(), "mac": "ee:ee:ee:ee:ee:ee"},
                {"name": "eth0", "mac": inside["address"], "sandbox": pod.namespace.path()},
            ],
            "ips": [{"address": "10.65.0.7/32", "gateway": "169.254.1.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
        })
    );
    pod.namespace.ping(HOST_V4);
    host.namespace.ping("10.65.0.7");

    let Some(Verb::Add(request)) = agent.heard().pop() else {
        panic!("the agent was not asked")
    };
    assert_eq!(request.id, pod.id());
    assert_eq!(
        (request.network.as_str(), request.host_device),
        ("pods", pod.device())
    );
    assert_eq!(
        request.assign,
        Families {
            ipv4: true,
            ipv6: false
        }
    );
    let named = request.pod.unwrap();
    assert_eq!(
        (named.namespace, named.name, named.uid),
        ("default".into(), "nginx".into(), "u-1".into())
    );
}

#[test]
fn host_side_is_as_calicos() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &pod).result();

    let device = pod.device();
    let link = &host.namespace.ip_json(&format!("link show {device}"))[0];
    assert_eq!(link["address"], "ee:ee:ee:ee:ee:ee");
    assert_eq!(link["ifalias"], "routelet c1 eth0");
    assert_eq!((&link["mtu"], &link["num_tx_queues"]), (&json!(1400), &json!(1)));
    let route = &host.namespace.ip_json("route show 10.65.0.7")[0];
    assert_eq!((&route["dev"], &route["scope"]), (&json!(device), &json!("link")));
    assert_eq!(route["protocol"], PROTOCOL.to_string());
    for (name, value) in [
        ("ipv4/conf/D/route_localnet", "1"),
        ("ipv4/conf/D/proxy_arp", "1"),
        ("ipv4/conf/D/forwarding", "1"),
        ("ipv4/conf/D/rp_filter", "1"),
        ("ipv4/neigh/D/proxy_delay", "0"),
        ("ipv6/conf/D/accept_ra", "0"),
    ] {
        assert_eq!(
            host.namespace.sysctl(&name.replace('D', &device)),
            value,
            "{name}"
        );
    }
}

#[test]
fn pod_side_is_as_calicos() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &pod).field("mtu", json!(1300)).result();

    let inside = &pod.namespace;
    assert_eq!(inside.ip_json("link show eth0")[0]["mtu"], 1300);
    let routes = inside.ip("-4 route show");
    let lines: Vec<&str> = routes.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "default via 169.254.1.1 dev eth0",
            "169.254.1.1 dev eth0 scope link"
        ]
    );
    let neighbour = &inside.ip_json("neigh show 169.254.1.1")[0];
    assert_eq!(
        (&neighbour["lladdr"], &neighbour["state"]),
        (&json!("ee:ee:ee:ee:ee:ee"), &json!(["PERMANENT"]))
    );
    assert_eq!(inside.sysctl("ipv4/ip_forward"), "0");
}

#[test]
fn forwarding_in_the_pod_is_allowed_by_configuration() {
    let (host, pod) = (Host::new(), Pod::new("router", "c1"));
    let _agent = host.agent(&["10.65.0.7"]);
    let settings = json!({"allow_ip_forwarding": true});
    Call::new("ADD", &host, &pod)
        .field("container_settings", settings)
        .result();
    assert_eq!(pod.namespace.sysctl("ipv4/ip_forward"), "1");
}

#[test]
fn dual_stack_needs_no_duplicate_address_detection() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    pod.namespace.run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1");
    let _agent = host.agent(&["10.65.0.7", "fd65::7"]);
    let families = json!({"assign_ipv6": true});
    let result = Call::new("ADD", &host, &pod).field("ipam", families).result();
    assert_eq!(result["ips"][1]["address"], "fd65::7/128");

    let tentative = pod.namespace.ip("-6 addr show dev eth0 tentative");
    assert_eq!(tentative, "", "an address is not usable yet");
    pod.namespace.ping(HOST_V4);
    pod.namespace.ping(HOST_V6);
    host.namespace.ping("fd65::7");
    assert_eq!(host.namespace.routes(), ["10.65.0.7", "fd65::7"]);
    for (name, value) in [
        ("disable_ipv6", "0"),
        ("proxy_ndp", "1"),
        ("forwarding", "1"),
        ("accept_dad", "0"),
    ] {
        let name = format!("ipv6/conf/{}/{name}", pod.device());
        assert_eq!(host.namespace.sysctl(&name), value, "{name}");
    }
}

#[test]
fn agent_may_give_a_family_that_was_not_asked_for() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["fd65::7"]);
    let result = Call::new("ADD", &host, &pod).result();
    assert_eq!(
        result["routes"],
        json!([{"dst": "::/0", "gw": "fe80::ecee:eeff:feee:eeee"}])
    );
    pod.namespace.ping(HOST_V6);
}

#[test]
fn repeat_gives_the_same_result_and_keeps_the_link() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7", "fd65::7"]);
    let call = Call::new("ADD", &host, &pod);
    let first = call.result();
    let link = host.namespace.ip_json("link show");
    assert_eq!(call.result(), first);
    assert_eq!(host.namespace.ip_json("link show"), link);
    assert_eq!(host.namespace.routes(), ["10.65.0.7", "fd65::7"]);
    pod.namespace.ping(HOST_V4);
}

#[test]
fn repeat_mends_what_was_lost() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7"]);
    let call = Call::new("ADD", &host, &pod);
    let first = call.result();
    host.namespace.ip("route del 10.65.0.7");
    pod.namespace.ip("route del default");
    pod.namespace.ip("neigh flush all nud permanent");
    assert_eq!(call.result(), first);
    pod.namespace.ping(HOST_V4);
}

/// A StatefulSet's pod comes back under its name before the old sandbox is gone.
#[test]
fn successor_of_the_same_name_takes_the_device() {
    let (host, old) = (Host::new(), Pod::new("db-0", "c1"));
    let _agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &old).result();
    drop(_agent);

    let new = Pod::new("db-0", "c2");
    let _agent = host.agent(&["10.65.0.8"]);
    Call::new("ADD", &host, &new).result();
    assert_eq!(host.devices(), [new.device()]);
    assert_eq!(host.namespace.routes(), ["10.65.0.8"]);
    assert_eq!(old.namespace.links(), ["lo"]);
    new.namespace.ping(HOST_V4);
}

/// The agent has set the device down and moved it out of group 0: it is about to delete it.
#[test]
fn condemned_device_is_replaced() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7"]);
    let call = Call::new("ADD", &host, &pod);
    call.result();
    let condemned = host.namespace.ip(&format!("link show {}", pod.device()));
    host.namespace
        .ip(&format!("link set {} down group 4242", pod.device()));
    call.result();
    assert_ne!(
        host.namespace.ip(&format!("link show {}", pod.device())),
        condemned
    );
    assert_eq!(host.namespace.ip("link show group 4242"), "");
    assert_eq!(host.devices(), [pod.device()]);
    pod.namespace.ping(HOST_V4);
}

/// What a killed ADD leaves: a device without a label.
#[test]
fn device_without_label_is_replaced() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7"]);
    let pair = format!(
        "link add {} type veth peer name eth0 netns {}",
        pod.device(),
        pod.namespace.name
    );
    host.namespace.ip(&pair);
    Call::new("ADD", &host, &pod).result();
    pod.namespace.ping(HOST_V4);
}

/// A route of another device to the same address would send the pod's traffic astray.
#[test]
fn stale_route_is_replaced() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7"]);
    host.namespace.ip("route add 10.65.0.7/32 dev lo");
    Call::new("ADD", &host, &pod).result();
    assert_eq!(
        host.namespace
            .ip_json("route show 10.65.0.7")
            .as_array()
            .unwrap()
            .len(),
        1
    );
    host.namespace.ping("10.65.0.7");
}

#[test]
fn second_interface_keeps_the_first_ones_default_route() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &pod).result();
    drop(agent);
    let _agent = host.agent(&["10.65.0.8"]);
    Call::new("ADD", &host, &pod).set("CNI_IFNAME", "net1").result();
    assert_eq!(host.devices().len(), 2);
    assert_eq!(pod.namespace.ip_json("-4 route show default")[0]["dev"], "eth0");
    pod.namespace.ping(HOST_V4);
}

#[test]
fn container_without_a_pod_is_attached_too() {
    let (host, pod) = (Host::new(), Pod::new("unused", "by-hand"));
    let agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &pod).set("CNI_ARGS", "").result();
    let Some(Verb::Add(request)) = agent.heard().pop() else {
        panic!("the agent was not asked")
    };
    assert_eq!(request.pod, None);
    assert_eq!(host.devices(), [request.host_device]);
    pod.namespace.ping(HOST_V4);
}

/// Wherever a call is killed, the next one puts things right.
#[test]
fn killed_add_is_mended_by_the_next() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7", "fd65::7"]);
    let call = Call::new("ADD", &host, &pod);
    for step in 0..40 {
        call.killed_after(Duration::from_micros(200 * step));
        let result = call.result();
        assert_eq!(host.devices(), [pod.device()]);
        assert_eq!(host.namespace.routes(), ["10.65.0.7", "fd65::7"]);
        assert_eq!(call.result(), result);
        host.namespace.ip(&format!("link del {}", pod.device()));
    }
}

#[test]
fn many_pods_at_once() {
    let host = Host::new();
    let next = AtomicU8::new(1);
    let _agent = host.agent_that(move |request| match request.verb {
        Verb::Add(_) => {
            let number = next.fetch_add(1, Ordering::Relaxed);
            Some(add_reply(&[
                &format!("10.65.0.{number}"),
                &format!("fd65::{number}"),
            ]))
        }
        _ => None,
    });
    let pods: Vec<Pod> = (0..24)
        .map(|number| Pod::new(&format!("web-{number}"), &format!("c{number}")))
        .collect();
    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| Call::new("ADD", &host, pod).result());
        }
    });
    assert_eq!(host.devices().len(), pods.len());
    for pod in &pods {
        pod.namespace.ping(HOST_V4);
        pod.namespace.ping(HOST_V6);
    }
}
