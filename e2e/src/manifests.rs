//! What the datastore starts with, as a network engineer would write it for this topology.
//!
//! One manifest an object, `<datastore>/<plural>/<name>.yaml`, exactly what `kubectl apply -f` takes.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::topology::{NodeSpec, PoolSpec, RouterSpec, Topology};

const CALICO: &str = "crd.projectcalico.org/v1";
/// The agents' namespace.
const NAMESPACE: &str = "kube-system";
/// Where in the secret of a router its password is.
const PASSWORD_KEY: &str = "bgp-password";

/// Writes every manifest of the topology.
///
/// # Errors
/// The file system refuses.
pub fn seed(datastore: &Path, topology: &Topology) -> Result<()> {
    write(datastore, "bgpconfigurations", &bgp_configuration(topology))?;
    for pool in &topology.pools {
        write(datastore, "ippools", &ip_pool(pool))?;
    }
    for node in &topology.nodes {
        write(datastore, "nodes", &node_manifest(node))?;
    }
    for router in &topology.routers {
        for peer in bgp_peers(router) {
            write(datastore, "bgppeers", &peer)?;
        }
        if let Some(password) = &router.password {
            set_password(datastore, router, password)?;
        }
    }
    Ok(())
}

/// Writes the secret with the password of a router's sessions, at the nodes' end.
///
/// # Errors
/// The file system refuses.
pub fn set_password(datastore: &Path, router: &RouterSpec, password: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": router.name, "namespace": NAMESPACE},
        "stringData": {PASSWORD_KEY: password},
    });
    write(datastore, &format!("secrets/{NAMESPACE}"), &secret)
}

/// Writes one manifest, named after the object in it.
///
/// # Errors
/// The file system refuses.
pub fn write(datastore: &Path, plural: &str, object: &Value) -> Result<()> {
    let folder = datastore.join(plural);
    let name = object["metadata"]["name"]
        .as_str()
        .context("the object has no name")?;
    let path = folder.join(format!("{name}.yaml"));
    let text = serde_yaml::to_string(object)?;
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn bgp_configuration(topology: &Topology) -> Value {
    json!({
        "apiVersion": CALICO, "kind": "BGPConfiguration", "metadata": {"name": "default"},
        "spec": {"asNumber": topology.as_number, "nodeToNodeMeshEnabled": true},
    })
}

fn ip_pool(pool: &PoolSpec) -> Value {
    let mut spec = json!({
        "cidr": pool.cidr, "ipipMode": "Never", "vxlanMode": "Never",
        "natOutgoing": pool.nat_outgoing, "nodeSelector": "all()",
    });
    if let Some(block_size) = pool.block_size {
        spec["blockSize"] = block_size.into();
    }
    if let Some(mode) = &pool.ipip_mode {
        spec["ipipMode"] = mode.as_str().into();
    }
    if let Some(mode) = &pool.vxlan_mode {
        spec["vxlanMode"] = mode.as_str().into();
    }
    json!({"apiVersion": CALICO, "kind": "IPPool", "metadata": {"name": pool.name}, "spec": spec})
}

/// The label `rack` says which top-of-rack router is the node's.
fn node_manifest(node: &NodeSpec) -> Value {
    let labels = json!({"kubernetes.io/hostname": node.name, "rack": node.subnet});
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name, "labels": labels}})
}

/// One peering a rack: the nodes of the rack with the router's address there.
fn bgp_peers(router: &RouterSpec) -> Vec<Value> {
    let v4 = router
        .addresses
        .iter()
        .map(|(subnet, address)| (subnet, address.to_string(), ""));
    let v6 = router
        .addresses6
        .iter()
        .map(|(subnet, address)| (subnet, address.to_string(), "-v6"));
    v4.chain(v6)
        .map(|(subnet, address, suffix)| {
            let mut peer = json!({
                "apiVersion": CALICO, "kind": "BGPPeer",
                "metadata": {"name": format!("{}-{subnet}{suffix}", router.name)},
                "spec": {
                    "nodeSelector": format!("rack == '{subnet}'"),
                    "peerIP": address,
                    "asNumber": router.as_number,
                },
            });
            if router.password.is_some() {
                peer["spec"]["password"] =
                    json!({"secretKeyRef": {"name": router.name, "key": PASSWORD_KEY}});
            }
            peer
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_is_seeded_with_a_peering_a_rack() {
        let dir = tempfile::tempdir().unwrap();
        seed(dir.path(), &Topology::demo().unwrap()).unwrap();
        let read = |path: &str| -> Value {
            serde_yaml::from_str(&fs::read_to_string(dir.path().join(path)).unwrap()).unwrap()
        };
        let peer = read("bgppeers/tor-rack-b.yaml");
        assert_eq!(
            peer["spec"],
            json!({"nodeSelector": "rack == 'rack-b'", "peerIP": "192.168.34.1", "asNumber": 65000})
        );
        assert_eq!(read("nodes/c.yaml")["metadata"]["labels"]["rack"], "rack-b");
        assert_eq!(read("ippools/default-ipv4.yaml")["spec"]["blockSize"], 26);
        assert_eq!(read("bgpconfigurations/default.yaml")["spec"]["asNumber"], 64512);
    }
}
