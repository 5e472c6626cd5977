//! The name, the MAC address and the label of a pod's host-side device. Name and MAC are Calico's.
//!
//! The name says which pod a device is for; it is the same for every sandbox that pod ever has. The label (the
//! kernel's ifalias) says which attachment a device belongs to, so that a late DEL of an old sandbox never takes
//! the device of a new one. A device that has the name but no label is a leftover of an ADD that was killed.

use sha1::{Digest, Sha1};

use crate::protocol::AttachmentId;

/// MAC address of every host-side device. Proxy ARP answers with it, so that a pod's neighbour entry never ages
/// into a wrong one when a pod is recreated.
pub const HOST_MAC: [u8; 6] = [0xee; 6];

/// First word of every label.
const LABEL: &str = "routelet";

/// Host-side device of a pod: `cali` and the first 11 hex digits of SHA-1 of `<namespace>.<pod>`.
pub fn host_device(namespace: &str, pod: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{pod}").as_bytes());
    let mut name = String::from("cali");
    for byte in digest.iter().take(6) {
        name.push_str(&format!("{byte:02x}"));
    }
    name.truncate("cali".len() + 11);
    name
}

/// Label of the host-side device of an attachment: `routelet <containerID> <ifname>`.
pub fn label(id: &AttachmentId) -> String {
    format!("{LABEL} {} {}", id.container_id, id.ifname)
}

/// The attachment that a label names; `None` where the label is not one of ours.
pub fn parse_label(label: &str) -> Option<AttachmentId> {
    let mut words = label.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(LABEL), Some(container_id), Some(ifname), None) => Some(AttachmentId {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf 'default.nginx' | sha1sum`.
    #[test]
    fn name_is_calicos() {
        assert_eq!(host_device("default", "nginx"), "calic440f455693");
    }

    #[test]
    fn label_names_its_attachment() {
        let id = AttachmentId {
            container_id: "4f2d".into(),
            ifname: "eth0".into(),
        };
        assert_eq!(parse_label(&label(&id)), Some(id));
        for other in ["", "routelet", "routelet a", "routelet a b c", "docker a b"] {
            assert_eq!(parse_label(other), None, "{other:?}");
        }
    }
}
