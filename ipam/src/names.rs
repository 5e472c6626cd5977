//! The names under which address management stores its objects, exactly as Calico forms them: two programs that
//! share a datastore meet in the same objects only if they agree on every character.
//!
//! What it does not do: it checks no syntax. A node name that Kubernetes would refuse gives an object name that
//! Kubernetes will refuse.

use std::collections::BTreeMap;

use data_encoding::BASE32_NOPAD;
use datastore::types::BlockAffinitySpec;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;

/// Affinity type of a node's own blocks.
pub const HOST: &str = "host";

/// Label of an affinity: hash of its node's name (which may be longer than a label value).
pub const LABEL_HOSTNAME_HASH: &str = "projectcalico.org/hostname-hash";
/// Label of an affinity: its `spec.type`.
pub const LABEL_AFFINITY_TYPE: &str = "projectcalico.org/affinity-type";
/// Label of an affinity: `4` or `6`.
pub const LABEL_IP_VERSION: &str = "projectcalico.org/ip-version";

/// A name that would be this long or longer is shortened.
const TOO_LONG: usize = 253;
/// Digits of the hash that keeps shortened names apart.
const HASH_LEN: usize = 11;

/// Name of a block: its CIDR with `.`, `:` and `/` as `-`.
pub fn block(cidr: &IpNet) -> String {
    cidr.trunc().to_string().replace(['.', ':', '/'], "-")
}

/// Name of a node's affinity to a block.
pub fn affinity(node: &str, cidr: &IpNet) -> String {
    let block = block(cidr);
    let name = format!("{node}-{block}");
    if name.len() < TOO_LONG {
        return name;
    }
    let kept = cut(node, TOO_LONG - 1 - block.len() - (HASH_LEN + 2));
    let hash = hex(&Sha256::digest(format!("{node}+{block}")));
    let hash = cut(&hash, HASH_LEN);
    format!("{kept}-{block}-{hash}")
}

/// Name of the object that counts a handle's addresses.
pub fn handle(handle_id: &str) -> String {
    handle_id.to_lowercase()
}

/// Handle of a pod's interface.
pub fn pod_handle(network: &str, container_id: &str) -> String {
    format!("{network}.{container_id}")
}

/// Handle of a node's `tunl0` address.
pub fn ipip_tunnel_handle(node: &str) -> String {
    format!("ipip-tunnel-addr-{node}")
}

/// Handle of a node's `vxlan.calico` address.
pub fn vxlan_tunnel_handle(node: &str) -> String {
    format!("vxlan-tunnel-addr-{node}")
}

/// `spec.affinity` of a block that belongs to a node.
pub fn host_affinity(node: &str) -> String {
    format!("{HOST}:{node}")
}

/// The node that a block's `spec.affinity` names; `None` for a virtual owner.
pub fn affinity_host(affinity: &str) -> Option<&str> {
    affinity.strip_prefix("host:")
}

/// The labels by which Calico lists a node's affinities; an affinity without them is invisible to it.
pub fn affinity_labels(spec: &BlockAffinitySpec) -> BTreeMap<String, String> {
    let version = if spec.cidr.addr().is_ipv4() { "4" } else { "6" };
    let affinity_type = spec.affinity_type.as_deref().unwrap_or(HOST);
    BTreeMap::from([
        (LABEL_HOSTNAME_HASH.to_string(), hostname_hash(&spec.node)),
        (LABEL_AFFINITY_TYPE.to_string(), affinity_type.to_string()),
        (LABEL_IP_VERSION.to_string(), version.to_string()),
    ])
}

/// Value of [`LABEL_HOSTNAME_HASH`].
pub fn hostname_hash(node: &str) -> String {
    BASE32_NOPAD.encode(&Sha3_256::digest(node))
}

/// The first `len` bytes, less where that would split a character.
fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len()))
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use datastore::types::AffinityState;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn block_names() {
        assert_eq!(block(&net("10.233.90.0/24")), "10-233-90-0-24");
        assert_eq!(block(&net("10.244.1.64/26")), "10-244-1-64-26");
        assert_eq!(block(&net("fd00:10:244::1c0/122")), "fd00-10-244--1c0-122");
    }

    // The expected values below were computed with Python's hashlib, not with this code.
    #[test]
    fn affinity_names_up_to_252_characters_are_plain() {
        let cidr = net("10.244.1.64/26");
        assert_eq!(affinity("node-1", &cidr), "node-1-10-244-1-64-26");
        let node = "n".repeat(237);
        assert_eq!(affinity(&node, &cidr), format!("{node}-10-244-1-64-26"));
    }

    #[test]
    fn longer_affinity_names_are_cut_and_hashed() {
        let cidr = net("10.244.1.64/26");
        for (len, hash) in [(238, "315620bcb83"), (239, "bd22f394903"), (252, "6bfb12d5f7e")] {
            let name = affinity(&"n".repeat(len), &cidr);
            assert_eq!(
                name,
                format!("{}-10-244-1-64-26-{hash}", "n".repeat(225)),
                "node of {len}"
            );
            assert_eq!(name.len(), 252);
        }
        let name = affinity(&"h".repeat(240), &net("fd00:10:244::1c0/122"));
        assert!(name.ends_with("h-fd00-10-244--1c0-122-3711aaf8652"), "{name}");
        assert_eq!(name.len(), 252);
    }

    #[test]
    fn a_long_node_name_is_not_cut_inside_a_character() {
        assert!(affinity(&"é".repeat(200), &net("10.0.0.0/26")).len() <= 252);
    }

    #[test]
    fn handles() {
        assert_eq!(
            handle(&pod_handle("k8s-pod-network", "0A1b")),
            "k8s-pod-network.0a1b"
        );
        assert_eq!(ipip_tunnel_handle("n1"), "ipip-tunnel-addr-n1");
        assert_eq!(vxlan_tunnel_handle("n1"), "vxlan-tunnel-addr-n1");
    }

    #[test]
    fn labels() {
        let mut spec = BlockAffinitySpec {
            state: AffinityState::Pending,
            node: "node-1".to_string(),
            affinity_type: None,
            cidr: net("10.0.0.0/26"),
            deleted: "false".to_string(),
        };
        let labels = affinity_labels(&spec);
        let hash = "A3XPYDATRKB7Q4SM2O5FN4RXIHBFIL2PITFX26BAIP5XAB2X74CA";
        assert_eq!(labels["projectcalico.org/hostname-hash"], hash);
        assert_eq!(labels["projectcalico.org/affinity-type"], "host");
        assert_eq!(labels["projectcalico.org/ip-version"], "4");
        spec.node = "worker.example.com".to_string();
        spec.affinity_type = Some("virtual".to_string());
        spec.cidr = net("fd00::/122");
        let labels = affinity_labels(&spec);
        let hash = "QXGFTCP7XXO3GSJSEQAKQFIJJYQYZ5CNT3CSHEV3W5G2NJY72QZQ";
        assert_eq!(labels["projectcalico.org/hostname-hash"], hash);
        assert_eq!(labels["projectcalico.org/affinity-type"], "virtual");
        assert_eq!(labels["projectcalico.org/ip-version"], "6");
    }

    #[test]
    fn owners() {
        assert_eq!(host_affinity("n1"), "host:n1");
        assert_eq!(affinity_host("host:n1"), Some("n1"));
        assert_eq!(affinity_host("virtual:load-balancer"), None);
    }
}
