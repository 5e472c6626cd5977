//! The name and the MAC address of a pod's host-side device, by Calico's rule.

use sha1::{Digest, Sha1};

/// MAC address of every host-side device. Proxy ARP answers with it, so that a pod's neighbour entry never ages
/// into a wrong one when a pod is recreated.
pub const HOST_MAC: [u8; 6] = [0xee; 6];

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf 'default.nginx' | sha1sum`.
    #[test]
    fn name_is_calicos() {
        assert_eq!(host_device("default", "nginx"), "calic440f455693");
    }
}
