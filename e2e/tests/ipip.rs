//! IPIP between nodes: what is encapsulated and what is not, as seen on the wire; modes switched under traffic; and a
//! kernel that has none.
//!
//! Where this machine's kernel has no IPIP, the tests that need it run themselves under user-mode Linux.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{collections::BTreeSet, fs, net::IpAddr, process::Command};

use anyhow::{Context, Result, ensure};
use common::{CONVERGENCE, PING_INTERVAL, eventually, up, wait_mesh};
use e2e::{
    Attachment, Lab, Node, Topology,
    blocks::blocks,
    capture::{Capture, Carriage},
    lab::unique_name,
    ping::Pinger,
    transfer::Transfer,
    uml::{kernel_has_ipip, with_ipip},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const POOL: &str = "default-ipv4";
const ANNOTATION: &str = "projectcalico.org/IPv4IPIPTunnelAddr";

/// The topology of the demo, with this `ipipMode`.
fn demo_with(mode: &str) -> Topology {
    let mut topology = Topology::demo().unwrap();
    topology.set_ipip_mode(mode);
    topology
}

/// Tunnels go soon after the mode does.
fn with_short_grace(mut topology: Topology) -> Topology {
    let env = &mut topology.agent_env;
    env.insert("ROUTELET_TUNNEL_GRACE_SECONDS".into(), "4".into());
    topology
}

/// Changes the mode as a person does who edits the manifest.
fn set_mode(lab: &Lab, mode: &str) {
    let path = lab.datastore().join("ippools").join(format!("{POOL}.yaml"));
    let mut pool: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    pool["spec"]["ipipMode"] = mode.into();
    let edited = path.with_extension("edited");
    fs::write(&edited, serde_yaml::to_string(&pool).unwrap()).unwrap();
    fs::rename(edited, path).unwrap();
}

/// True where packets from one node to another are to be encapsulated.
fn is_tunnelled(mode: &str, from: &Node<'_>, to: &Node<'_>) -> bool {
    mode == "Always" || (mode == "CrossSubnet" && from.spec().subnet != to.spec().subnet)
}

/// Checks that every node's route to every other node's block is, to the letter, what the mode asks for.
fn check_routes(lab: &Lab, mode: &str) -> Result<()> {
    for block in blocks(&lab.nodes().next().context("no node")?)? {
        let owner = block
            .owner
            .with_context(|| format!("nobody owns {}", block.cidr))?;
        let owner = lab.find_node(&owner)?;
        for node in lab.nodes().filter(|node| node.name() != owner.name()) {
            let cidr = block.cidr.to_string();
            let address = owner.spec().address;
            let expected = if is_tunnelled(mode, &node, &owner) {
                format!("{cidr} via {address} dev tunl0 proto 80 onlink")
            } else if node.spec().subnet == owner.spec().subnet {
                format!("{cidr} via {address} dev eth0 proto 80")
            } else {
                let router = lab.topology().gateway(&node.spec().subnet).context("no router")?;
                format!("{cidr} via {router} dev eth0 proto 80")
            };
            let found = node.netns().ip(&["route", "show", &cidr])?;
            ensure!(
                found.trim() == expected,
                "{}: {found:?}, not {expected:?}",
                node.name()
            );
        }
    }
    Ok(())
}

fn wait_routes(lab: &Lab, mode: &str) {
    eventually(&format!("the routes of {mode}"), || check_routes(lab, mode));
}

/// The address of a node's tunnel: on the device, in the annotation and in IPAM, everywhere the same.
fn tunnel_address(node: &Node<'_>) -> Result<IpAddr> {
    let address = annotation(node)?.with_context(|| format!("{} is not annotated", node.name()))?;
    let address: IpAddr = address.parse()?;
    let links = node.netns().ip_json(&["address", "show", "dev", "tunl0"])?;
    let link = &links[0];
    let on_device: Vec<_> = link["addr_info"].as_array().into_iter().flatten().collect();
    ensure!(
        on_device.len() == 1 && on_device[0]["local"] == json!(address) && on_device[0]["prefixlen"] == 32,
        "{}: {address} is announced, the device has {on_device:?}",
        node.name()
    );
    ensure!(
        link["mtu"] == 1480
            && link["flags"]
                .as_array()
                .is_some_and(|flags| flags.contains(&json!("UP"))),
        "{}: {link}",
        node.name()
    );
    let held = held(node)?;
    ensure!(
        held == [address],
        "{}: {address} is announced, IPAM has {held:?}",
        node.name()
    );
    Ok(address)
}

fn annotation(node: &Node<'_>) -> Result<Option<String>> {
    let object = node.routectl_json(&["get", "node", node.name()])?;
    Ok(object["metadata"]["annotations"][ANNOTATION]
        .as_str()
        .map(str::to_string))
}

/// What IPAM has for a node's tunnel.
fn held(node: &Node<'_>) -> Result<Vec<IpAddr>> {
    let handle = format!("ipip-tunnel-addr-{}", node.name());
    let used = blocks(node)?.into_iter().flat_map(|block| block.used);
    Ok(used
        .filter(|(_, holder)| *holder == handle)
        .map(|(address, _)| address)
        .collect())
}

fn wait_tunnels(lab: &Lab) -> Vec<IpAddr> {
    eventually("the tunnels", || {
        lab.nodes().map(|node| tunnel_address(&node)).collect()
    })
}

/// Waits until no trace of a tunnel is left on any node.
fn wait_no_tunnels(lab: &Lab) {
    eventually("the tunnels to be gone", || {
        for node in lab.nodes() {
            let links = node.netns().ip_json(&["address", "show", "dev", "tunl0"])?;
            let flags = links[0]["flags"].as_array().context("no flags")?;
            ensure!(!flags.contains(&json!("UP")), "tunl0 of {} is up", node.name());
            ensure!(
                links[0]["addr_info"] == json!([]),
                "{}: {}",
                node.name(),
                links[0]
            );
            ensure!(annotation(&node)?.is_none(), "{} is annotated", node.name());
            let held = held(&node)?;
            ensure!(held.is_empty(), "{} has {held:?} in IPAM", node.name());
            let handles = node.routectl_json(&["get", "ipamhandles"])?.to_string();
            let handle = format!("ipip-tunnel-addr-{}", node.name());
            ensure!(!handles.contains(&handle), "there is a handle {handle}");
        }
        Ok(())
    });
}

/// Pings, and says how the requests travelled as `at` saw them, and how the replies did.
fn travelled(lab: &Lab, at: &Capture, from: &str, to: &str, source: IpAddr) -> [BTreeSet<Carriage>; 2] {
    lab.ping(from, to).unwrap();
    let target = lab.address(to).unwrap();
    [
        at.carriages(source, target, "request").unwrap(),
        at.carriages(target, source, "reply").unwrap(),
    ]
}

fn listen(lab: &Lab, mode: &str, place: &str, device: &str) -> Capture {
    let output = lab.dir().path().join(format!("{place}-{mode}.capture"));
    Capture::start(&lab.netns(place), device, output).unwrap()
}

/// Every pod to every other: on the receiver's wire, and on the router between the racks, each packet travels as the
/// mode asks, and no other way.
fn check_wire(lab: &Lab, pods: &[Attachment], mode: &str) {
    let at_nodes: Vec<_> = lab
        .nodes()
        .map(|node| (node.name(), listen(lab, mode, node.name(), "eth0")))
        .collect();
    let at_router = listen(lab, mode, "tor", "rack-b");
    for from in pods {
        for to in pods.iter().filter(|to| to.node != from.node) {
            let (source, sender, receiver) =
                (from.address().unwrap(), lab.node(&from.node), lab.node(&to.node));
            let ends = [&sender, &receiver].map(|node| IpAddr::from(node.spec().address));
            let expected = if is_tunnelled(mode, &sender, &receiver) {
                [Carriage::Ipip(ends[0], ends[1]), Carriage::Ipip(ends[1], ends[0])]
            } else {
                [Carriage::Bare, Carriage::Bare]
            };
            let expected = expected.map(|carriage| BTreeSet::from([carriage]));
            let (_, at_node) = at_nodes.iter().find(|(name, _)| *name == to.node).unwrap();
            let seen = travelled(lab, at_node, &from.pod, &to.pod, source);
            assert_eq!(
                seen, expected,
                "{mode}: {} to {} at the receiver",
                from.pod, to.pod
            );
            if sender.spec().subnet != receiver.spec().subnet {
                let seen = travelled(lab, &at_router, &from.pod, &to.pod, source);
                assert_eq!(seen, expected, "{mode}: {} to {} at the router", from.pod, to.pod);
            }
        }
    }
    // What is behind a router that is no node of ours never is encapsulated.
    let pod = pods.iter().find(|pod| pod.node == "c").unwrap();
    let bare = [(); 2].map(|()| BTreeSet::from([Carriage::Bare]));
    let seen = travelled(lab, &at_router, &pod.pod, "10.99.0.1", pod.address().unwrap());
    assert_eq!(seen, bare, "{mode}: to the router's prefix");
}

#[test]
fn packets_travel_as_the_mode_asks() {
    with_ipip("packets_travel_as_the_mode_asks", || {
        let lab = up(demo_with("CrossSubnet"));
        let pods = lab.attach_to_each(1).unwrap();
        let addresses = wait_tunnels(&lab);
        wait_routes(&lab, "CrossSubnet");
        wait_mesh(&lab, &pods);
        check_wire(&lab, &pods, "CrossSubnet");

        // A node's own packets to a pod far away come from its tunnel's address.
        let at_router = listen(&lab, "node", "tor", "rack-b");
        let ends = ["a", "c"].map(|node| IpAddr::from(lab.node(node).spec().address));
        let [there, back] = travelled(&lab, &at_router, "a", "pod-c1", addresses[0]);
        assert_eq!(there, BTreeSet::from([Carriage::Ipip(ends[0], ends[1])]));
        assert_eq!(back, BTreeSet::from([Carriage::Ipip(ends[1], ends[0])]));
        // And one that a pod asks answers to where it was asked from.
        lab.ping("pod-a1", "c").unwrap();

        let status = lab.node("a").routectl_json(&["node", "status"]).unwrap();
        let tunnel = json!({"device": "tunl0", "state": "up", "address": addresses[0], "mtu": 1480});
        assert_eq!(status["tunnels"], json!([tunnel]));
        // New pods know how much fits through the tunnel.
        let link = lab
            .netns("pod-a1")
            .ip_json(&["link", "show", "dev", "eth0"])
            .unwrap();
        assert_eq!(link[0]["mtu"], 1480);

        for mode in ["Always", "Never"] {
            set_mode(&lab, mode);
            wait_routes(&lab, mode);
            check_wire(&lab, &pods, mode);
        }
    });
}

/// Pings within a rack and across, and a TCP transfer across.
struct Traffic<'a> {
    lab: &'a Lab,
    pingers: Vec<(&'static str, &'static str, Pinger)>,
    transfer: Transfer,
}

impl<'a> Traffic<'a> {
    fn start(lab: &'a Lab) -> Self {
        let paths = [("pod-a1", "pod-c1"), ("pod-c1", "pod-b1"), ("pod-a1", "pod-b1")];
        let pinger = |(from, to)| (from, to, lab.pinger(from, to, PING_INTERVAL).unwrap());
        let target = lab.address("pod-c1").unwrap();
        Traffic {
            lab,
            pingers: paths.map(pinger).into(),
            transfer: Transfer::start(&lab.netns("pod-a1"), &lab.netns("pod-c1"), target).unwrap(),
        }
    }

    /// Switches to a mode, and lets the traffic go on for a while.
    fn switch(&self, mode: &str) {
        set_mode(self.lab, mode);
        wait_routes(self.lab, mode);
        self.go_on();
    }

    fn go_on(&self) {
        for (_, _, pinger) in &self.pingers {
            pinger.wait_answers(25, CONVERGENCE).unwrap();
        }
        self.transfer.wait_progress().unwrap();
    }

    /// Ends it: not a packet may have been lost.
    fn stop(self) {
        assert!(self.transfer.stop().unwrap() > 0);
        for (from, to, pinger) in self.pingers {
            let report = pinger.stop().unwrap();
            assert_eq!(
                report.lost,
                [] as [u64; 0],
                "of {} pings from {from} to {to}",
                report.sent
            );
        }
    }
}

#[test]
fn switching_the_mode_loses_nothing() {
    with_ipip("switching_the_mode_loses_nothing", || {
        let lab = up(demo_with("CrossSubnet"));
        let pods = lab.attach_to_each(1).unwrap();
        let before = wait_tunnels(&lab);
        wait_routes(&lab, "CrossSubnet");
        wait_mesh(&lab, &pods);
        let traffic = Traffic::start(&lab);
        // The device stays for a minute after the mode went, its address with it.
        for mode in ["Always", "Never", "CrossSubnet"] {
            traffic.switch(mode);
        }
        traffic.stop();
        assert_eq!(wait_tunnels(&lab), before, "the addresses changed");
    });
}

/// The tunnels go, and come back on all nodes, each in its own time.
#[test]
fn switching_off_leaves_nothing_and_switching_on_loses_nothing() {
    with_ipip(
        "switching_off_leaves_nothing_and_switching_on_loses_nothing",
        || {
            let lab = up(with_short_grace(demo_with("CrossSubnet")));
            let pods = lab.attach_to_each(1).unwrap();
            wait_tunnels(&lab);
            wait_routes(&lab, "CrossSubnet");
            wait_mesh(&lab, &pods);
            let traffic = Traffic::start(&lab);
            traffic.switch("Never");
            wait_no_tunnels(&lab);
            traffic.switch("Always");
            wait_tunnels(&lab);
            traffic.stop();
        },
    );
}

#[test]
fn an_agent_that_is_replaced_keeps_the_tunnel_and_its_address() {
    with_ipip(
        "an_agent_that_is_replaced_keeps_the_tunnel_and_its_address",
        || {
            let lab = up(with_short_grace(demo_with("CrossSubnet")));
            let pods = lab.attach_to_each(1).unwrap();
            let before = wait_tunnels(&lab);
            wait_routes(&lab, "CrossSubnet");
            wait_mesh(&lab, &pods);
            let paths = [("pod-a1", "pod-c1"), ("c", "pod-a1")];
            let pingers = paths.map(|(from, to)| lab.pinger(from, to, PING_INTERVAL).unwrap());
            let node = lab.node("a");
            for signal in [Signal::SIGKILL, Signal::SIGTERM] {
                node.kill_agent(signal).unwrap();
                node.start_agent().unwrap();
                node.wait_ready().unwrap();
                lab.wait_sessions().unwrap();
                assert_eq!(wait_tunnels(&lab), before, "after {signal}");
                wait_routes(&lab, "CrossSubnet");
            }
            for ((from, to), pinger) in paths.iter().zip(pingers) {
                pinger.wait_answers(25, CONVERGENCE).unwrap();
                let report = pinger.stop().unwrap();
                assert_eq!(
                    report.lost,
                    [] as [u64; 0],
                    "of {} pings from {from} to {to}",
                    report.sent
                );
            }

            // Switched off while no agent looks, it is taken down by the next one.
            node.kill_agent(Signal::SIGKILL).unwrap();
            set_mode(&lab, "Never");
            node.start_agent().unwrap();
            node.wait_ready().unwrap();
            wait_routes(&lab, "Never");
            wait_no_tunnels(&lab);
            wait_mesh(&lab, &pods);
        },
    );
}

/// A pool of two blocks for three nodes: one node's tunnel has an address out of another's block, which is announced as
/// it is. And when the pool goes, every tunnel gets an address out of the next.
#[test]
fn a_tunnels_address_may_be_borrowed_and_follows_the_pools() {
    with_ipip("a_tunnels_address_may_be_borrowed_and_follows_the_pools", || {
        let mut topology = demo_with("Always");
        topology.pools[0].cidr = "10.233.64.0/28".parse().unwrap();
        topology.pools[0].block_size = Some(29);
        let lab = up(topology);
        let addresses = wait_tunnels(&lab);
        let all = blocks(&lab.node("a")).unwrap();
        let borrower = lab
            .nodes()
            .find(|node| {
                all.iter()
                    .all(|block| block.owner.as_deref() != Some(node.name()))
            })
            .expect("a node without a block");
        let index = lab
            .nodes()
            .position(|node| node.name() == borrower.name())
            .unwrap();
        let (address, end) = (addresses[index], borrower.spec().address);
        eventually("the routes to the borrowed address", || {
            for node in lab.nodes().filter(|node| node.name() != borrower.name()) {
                let found = node.netns().ip(&["route", "show", &address.to_string()])?;
                let expected = format!("{address} via {end} dev tunl0 proto 80 onlink");
                ensure!(found.trim() == expected, "{}: {found}", node.name());
            }
            Ok(())
        });
        for node in lab.nodes().filter(|node| node.name() != borrower.name()) {
            eventually("a ping to the borrowed address", || {
                lab.ping(node.name(), &address.to_string())
            });
        }

        let spec =
            json!({"cidr": "10.233.128.0/24", "blockSize": 26, "ipipMode": "Always", "vxlanMode": "Never"});
        let object = json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": "next"},
                            "spec": spec});
        e2e::manifests::write(&lab.datastore(), "ippools", &object).unwrap();
        fs::remove_file(lab.datastore().join("ippools").join(format!("{POOL}.yaml"))).unwrap();
        let next: ipnet::IpNet = "10.233.128.0/24".parse().unwrap();
        eventually("addresses out of the next pool", || {
            for node in lab.nodes() {
                let address = tunnel_address(&node)?;
                ensure!(next.contains(&address), "{} has {address}", node.name());
            }
            Ok(())
        });
        let pods = lab.attach_to_each(1).unwrap();
        wait_mesh(&lab, &pods);
        eventually("a ping from a node", || lab.ping("a", "pod-c1"));
    });
}

/// `make demo-ipip`, as a user runs it.
#[test]
fn the_demo_shows_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["demo", "--ipip", "CrossSubnet", "--name", &unique_name()]);
    let output = command.output().unwrap();
    let (shown, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{shown}\n{errors}", output.status);
    assert!(shown.trim_end().ends_with(" passed, 0 failed"), "{shown}");
    let through_tunnel = |line: &str| line.contains("192.168.34.11 ") && line.contains(" tunl0 ");
    assert!(shown.lines().any(through_tunnel), "{shown}");
    assert!(!shown.contains('\x1b'), "colours in a pipe:\n{shown}");
}

/// A kernel without IPIP: what needs it is left out, with the reason, and all else works.
#[test]
fn without_ipip_in_the_kernel_the_rest_works_and_the_reason_is_told() {
    if kernel_has_ipip() {
        println!("this kernel has IPIP: nothing to see here");
        return;
    }
    let lab = up(demo_with("CrossSubnet"));
    let pods = lab.attach_to_each(1).unwrap();
    let near: Vec<_> = pods.iter().filter(|pod| pod.node != "c").cloned().collect();
    wait_mesh(&lab, &near);
    for pod in &pods {
        eventually("a ping from the router", || lab.ping("tor", &pod.pod));
    }
    let problem = eventually("the problem", || {
        let status = lab.node("a").routectl_json(&["node", "status"])?;
        let problems = status["problems"].as_array().context("no problems")?;
        let found = problems.iter().find(|problem| problem["about"] == "tunnel tunl0");
        ensure!(
            status["tunnels"][0]["state"] == "unavailable",
            "{}",
            status["tunnels"]
        );
        Ok(found.with_context(|| format!("only {problems:?}"))?["message"].to_string())
    });
    assert!(
        problem.contains("the kernel has no IPIP: run `modprobe ipip`"),
        "{problem}"
    );
    assert!(
        lab.node("a").log().contains("the kernel has no IPIP"),
        "{}",
        lab.node("a").log()
    );
    // Not a bare route in place of an encapsulated one.
    let far = blocks(&lab.node("a")).unwrap();
    let far = far
        .iter()
        .find(|block| block.owner.as_deref() == Some("c"))
        .unwrap();
    assert_eq!(
        lab.node("a")
            .netns()
            .ip(&["route", "show", &far.cidr.to_string()])
            .unwrap(),
        ""
    );

    set_mode(&lab, "Never");
    wait_routes(&lab, "Never");
    wait_mesh(&lab, &pods);
    eventually("the problem to be gone", || {
        let status = lab.node("a").routectl_json(&["node", "status"])?;
        ensure!(
            status["tunnels"] == json!([]) && status["problems"] == json!([]),
            "{status}"
        );
        Ok(())
    });
}
