//! What `/proc/sys/net` must say for a pod's wiring to work. The settings are Calico's, and `rp_filter`.
//!
//! Writing acts on the network namespace of the calling thread.

use std::{fs::OpenOptions, io, io::Write, path::Path};

use crate::protocol::{Failure, Families, code};

/// A setting the kernel did not take.
#[derive(Debug, thiserror::Error)]
#[error("cannot set /proc/sys/net/{name} to {value}: {source}")]
pub(super) struct SysctlError {
    name: String,
    value: &'static str,
    source: io::Error,
}

impl From<SysctlError> for Failure {
    fn from(error: SysctlError) -> Self {
        Self::new(code::KERNEL, error.to_string())
    }
}

/// Host side: answer the pod's ARP and ND, forward for it, and take from it only what is its own (`rp_filter`).
pub(super) fn host_side(device: &str, families: Families) -> Result<(), SysctlError> {
    if families.ipv4 {
        for (key, value) in [
            ("route_localnet", "1"),
            ("proxy_arp", "1"),
            ("forwarding", "1"),
            ("rp_filter", "1"),
        ] {
            write(format!("ipv4/conf/{device}/{key}"), value)?;
        }
        // Delays only the first answer; a kernel without it works.
        let _ = write(format!("ipv4/neigh/{device}/proxy_delay"), "0");
    }
    if families.ipv6 {
        for (key, value) in [
            ("disable_ipv6", "0"),
            ("proxy_ndp", "1"),
            ("forwarding", "1"),
            ("accept_dad", "0"),
        ] {
            write(format!("ipv6/conf/{device}/{key}"), value)?;
        }
    }
    // A pod must not be able to advertise itself as the node's router. Without IPv6 there is nothing to forbid.
    match write(format!("ipv6/conf/{device}/accept_ra"), "0") {
        Err(_) if !Path::new("/proc/sys/net/ipv6").exists() => Ok(()),
        result => result,
    }
}

/// Pod side: forward or not, and have IPv6 where an address of it comes (container runtimes turn it off).
pub(super) fn pod_side(ifname: &str, families: Families, forward: bool) -> Result<(), SysctlError> {
    let forward = if forward { "1" } else { "0" };
    write("ipv4/ip_forward".to_owned(), forward)?;
    if families.ipv6 {
        write("ipv6/conf/all/disable_ipv6".to_owned(), "0")?;
        write(format!("ipv6/conf/{ifname}/disable_ipv6"), "0")?;
        write(format!("ipv6/conf/{ifname}/accept_dad"), "0")?;
        write("ipv6/conf/all/forwarding".to_owned(), forward)?;
    }
    Ok(())
}

fn write(name: String, value: &'static str) -> Result<(), SysctlError> {
    OpenOptions::new()
        .write(true)
        .open(format!("/proc/sys/net/{name}"))
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|source| SysctlError { name, value, source })
}
