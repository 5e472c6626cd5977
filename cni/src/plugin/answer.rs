//! What a runtime reads: results and errors in the shape of each version of the CNI specification.
//!
//! 0.3.1 and 0.4.0 tag an address with its family; 1.0.0 dropped that; 1.1.0 added the MTU of an interface.

use std::{fmt, net::IpAddr};

use serde_json::{Map, Value, json};

use super::wiring::gateway;
use crate::{protocol::Failure, veth::HOST_MAC};

/// A version of the specification, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CniVersion {
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

/// Every version served.
pub(super) const SUPPORTED: [CniVersion; 4] = [
    CniVersion::V0_3_1,
    CniVersion::V0_4_0,
    CniVersion::V1_0_0,
    CniVersion::V1_1_0,
];

impl CniVersion {
    /// Said where the configuration does not say.
    pub(super) const LATEST: Self = Self::V1_1_0;

    pub(super) fn parse(text: &str) -> Option<Self> {
        SUPPORTED.into_iter().find(|version| version.text() == text)
    }

    fn text(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

/// The versions served, for people.
pub(super) fn supported() -> String {
    SUPPORTED.map(CniVersion::text).join(", ")
}

/// What ADD made.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) host_device: String,
    pub(super) ifname: String,
    pub(super) pod_mac: Vec<u8>,
    /// `CNI_NETNS` as given.
    pub(super) sandbox: String,
    pub(super) mtu: u32,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) dns: Option<Value>,
}

/// The result of an ADD.
pub(super) fn result(version: CniVersion, attachment: &Attachment) -> Value {
    let mut host = json!({"name": attachment.host_device, "mac": mac(&HOST_MAC)});
    let mut container = json!({
        "name": attachment.ifname,
        "mac": mac(&attachment.pod_mac),
        "sandbox": attachment.sandbox,
    });
    if version >= CniVersion::V1_1_0 {
        for interface in [&mut host, &mut container] {
            insert(interface, "mtu", attachment.mtu.into());
        }
    }
    let ips: Vec<Value> = attachment
        .addresses
        .iter()
        .map(|address| ip(version, *address))
        .collect();
    let mut result = json!({
        "cniVersion": version.text(),
        "interfaces": [host, container],
        "ips": ips,
        "routes": routes(&attachment.addresses),
    });
    if let Some(dns) = &attachment.dns {
        insert(&mut result, "dns", dns.clone());
    }
    result
}

/// An address of the second interface, the container's.
fn ip(version: CniVersion, address: IpAddr) -> Value {
    let (family, length) = match address {
        IpAddr::V4(_) => ("4", 32),
        IpAddr::V6(_) => ("6", 128),
    };
    let mut ip = json!({
        "address": format!("{address}/{length}"),
        "gateway": gateway(address),
        "interface": 1,
    });
    if version < CniVersion::V1_0_0 {
        insert(&mut ip, "version", family.into());
    }
    ip
}

/// A default route a family.
fn routes(addresses: &[IpAddr]) -> Vec<Value> {
    let mut routes = Vec::new();
    for address in addresses {
        let destination = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let route = json!({"dst": destination, "gw": gateway(*address)});
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

/// The answer to VERSION, which echoes the version asked with, where one is.
pub(super) fn version(input: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Map<String, Value>>(input)
        .ok()
        .and_then(|mut fields| fields.remove("cniVersion"))
        .filter(Value::is_string)
        .unwrap_or_else(|| CniVersion::LATEST.text().into());
    json!({"cniVersion": asked, "supportedVersions": SUPPORTED.map(CniVersion::text)})
}

/// An error.
pub(super) fn error(version: CniVersion, failure: &Failure) -> Value {
    let mut error = json!({
        "cniVersion": version.text(),
        "code": failure.code,
        "msg": failure.message,
    });
    if !failure.details.is_empty() {
        insert(&mut error, "details", failure.details.as_str().into());
    }
    error
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(key.to_owned(), value);
    }
}

/// A link-layer address as people write it.
pub(super) fn mac(octets: &[u8]) -> String {
    let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    pairs.join(":")
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
