//! Building a lab's namespaces and links.
//!
//! All bridges live in one namespace, `<lab>-switch`, with a port for each node and router; nothing is ever made in
//! the host's own namespace. A node has `eth0`; a router has one link a subnet, named after it.

use std::fs;

use anyhow::{Context, Result};

use super::{
    Lab,
    datastore::{API_SERVER, api_address},
};
use crate::{
    interrupt,
    net::Netns,
    topology::{NodeSpec, RouterSpec, Subnet},
};

/// The namespace of the bridges.
const SWITCH: &str = "switch";

/// Makes directories, namespaces, links, addresses and routes, and seeds the datastore.
pub(super) fn build(lab: &Lab) -> Result<()> {
    let root = lab.dir.path();
    fs::create_dir_all(root.join("pods"))?;
    fs::write(root.join("topology.yaml"), serde_yaml::to_string(lab.topology())?)?;
    let switch = lab.netns(SWITCH);
    lab.dir.create_namespace(&switch)?;
    for subnet in &lab.topology.subnets {
        build_bridge(&switch, subnet)?;
    }
    for router in &lab.topology.routers {
        interrupt::check()?;
        build_router(lab, &switch, router).with_context(|| format!("router {}", router.name))?;
    }
    for node in &lab.topology.nodes {
        interrupt::check()?;
        build_node(lab, &switch, node).with_context(|| format!("node {}", node.name))?;
    }
    if lab.api_server().is_some() {
        build_api_server(lab, &switch).context("the API server's namespace")?;
    }
    lab.seed()
}

fn build_bridge(switch: &Netns, subnet: &Subnet) -> Result<()> {
    // A port forwards at once: there is no loop for spanning tree to look for.
    switch.ip_batch(&[
        format!(
            "link add name {} type bridge stp_state 0 forward_delay 0",
            subnet.name
        ),
        format!("link set dev {} up", subnet.name),
    ])
}

/// A cable: `port` on a bridge of the switch, `device` in a namespace.
fn plug(switch: &Netns, bridge: &str, port: &str, namespace: &Netns, device: &str) -> Result<()> {
    switch.ip_batch(&[
        format!(
            "link add name {port} type veth peer name {device} netns {}",
            namespace.name()
        ),
        format!("link set dev {port} master {bridge} up"),
    ])
}

fn build_node(lab: &Lab, switch: &Netns, node: &NodeSpec) -> Result<()> {
    for folder in ["run", "state"] {
        fs::create_dir_all(lab.dir.path().join(&node.name).join(folder))?;
    }
    let namespace = lab.netns(&node.name);
    lab.dir.create_namespace(&namespace)?;
    // What every Kubernetes node has: kubeadm refuses one that does not forward.
    namespace.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    plug(switch, &node.subnet, &node.name, &namespace, "eth0")?;
    let subnet = lab.topology.subnet(&node.subnet).context("no such subnet")?;
    let mut lines = vec![
        format!(
            "address add {}/{} dev eth0",
            node.address,
            subnet.cidr.prefix_len()
        ),
        "link set dev eth0 up".to_string(),
    ];
    if let Some(gateway) = lab.topology.gateway(&node.subnet) {
        lines.push(format!("route add default via {gateway}"));
    }
    if let (Some(address6), Some(cidr6)) = (node.address6, subnet.cidr6) {
        lines.push(format!(
            "address add {address6}/{} dev eth0 nodad",
            cidr6.prefix_len()
        ));
        if let Some(gateway6) = lab.topology.gateway6(&node.subnet) {
            lines.push(format!("-6 route add default via {gateway6}"));
        }
    }
    namespace.ip_batch(&lines)
}

/// A machine with a link to each subnet, named after it.
fn build_api_server(lab: &Lab, switch: &Netns) -> Result<()> {
    let namespace = lab.netns(API_SERVER);
    lab.dir.create_namespace(&namespace)?;
    for (index, subnet) in lab.topology.subnets.iter().enumerate() {
        let address = api_address(&lab.topology, &subnet.name)
            .with_context(|| format!("no address is left in {}", subnet.name))?;
        let port = format!("{API_SERVER}-{index}");
        plug(switch, &subnet.name, &port, &namespace, &subnet.name)?;
        namespace.ip_batch(&[
            format!(
                "address add {address}/{} dev {}",
                subnet.cidr.prefix_len(),
                subnet.name
            ),
            format!("link set dev {} up", subnet.name),
        ])?;
    }
    Ok(())
}

fn build_router(lab: &Lab, switch: &Netns, router: &RouterSpec) -> Result<()> {
    fs::create_dir_all(lab.dir.path().join(&router.name))?;
    let namespace = lab.netns(&router.name);
    lab.dir.create_namespace(&namespace)?;
    namespace.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    let mut lines = Vec::new();
    for (index, subnet) in lab.topology.subnets.iter().enumerate() {
        let Some(address) = router.addresses.get(&subnet.name) else {
            continue;
        };
        plug(
            switch,
            &subnet.name,
            &format!("{}-{index}", router.name),
            &namespace,
            &subnet.name,
        )?;
        lines.push(format!(
            "address add {address}/{} dev {}",
            subnet.cidr.prefix_len(),
            subnet.name
        ));
        if let (Some(address6), Some(cidr6)) = (router.addresses6.get(&subnet.name), subnet.cidr6) {
            lines.push(format!(
                "address add {address6}/{} dev {} nodad",
                cidr6.prefix_len(),
                subnet.name
            ));
        }
        lines.push(format!("link set dev {} up", subnet.name));
    }
    for announcement in &router.announces {
        if let Some(address) = announcement.address {
            lines.push(format!("address add {address} dev lo"));
        }
    }
    namespace.ip_batch(&lines)
}
