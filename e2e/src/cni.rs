//! Calling `routelet-cni` as a container runtime does: environment, configuration on standard input, JSON back.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::process::Captured;

/// The CNI version that the lab speaks.
pub const CNI_VERSION: &str = "1.0.0";
/// The pod's interface.
pub const IFNAME: &str = "eth0";

/// The network configuration that the lab passes.
pub fn network_config() -> Value {
    json!({"cniVersion": CNI_VERSION, "name": "routelet", "type": "routelet-cni"})
}

/// A pod of the lab, as recorded while it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub pod: String,
    /// The node it is on.
    pub node: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// Its addresses; empty until ADD has succeeded.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

impl Attachment {
    /// Its first address.
    ///
    /// # Errors
    /// It has none.
    pub fn address(&self) -> Result<IpAddr> {
        self.addresses
            .first()
            .copied()
            .with_context(|| format!("pod {} has no address", self.pod))
    }
}

/// What the plugin said.
#[derive(Debug, Clone)]
pub struct CniOutput {
    /// Its exit status.
    pub status: i32,
    /// Standard output as JSON; null where there is none.
    pub json: Value,
    /// Standard error.
    pub stderr: String,
}

impl CniOutput {
    /// Reads what the plugin said.
    ///
    /// # Errors
    /// It was ended by a signal, or what it wrote is not JSON.
    pub fn read(captured: Captured) -> Result<Self> {
        let said = captured.stdout.trim();
        let json = if said.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(said).with_context(|| format!("the plugin's output is no JSON: {said}"))?
        };
        Ok(CniOutput {
            status: captured
                .status
                .code()
                .with_context(|| format!("the plugin: {}", captured.status))?,
            json,
            stderr: captured.stderr,
        })
    }

    /// The code of the CNI error, where it is one.
    pub fn error_code(&self) -> Option<u64> {
        self.json["code"].as_u64()
    }

    /// `msg` and `details` of the CNI error, as a person reads them.
    pub fn error_text(&self) -> String {
        let part = |key: &str| self.json[key].as_str().unwrap_or_default().to_string();
        format!("{}: {}", part("msg"), part("details"))
    }

    /// The addresses of an ADD that succeeded.
    ///
    /// # Errors
    /// It did not; the error is what the plugin said.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        ensure!(
            self.status == 0,
            "the plugin said: {} (code {}) {}",
            self.error_text(),
            self.error_code().unwrap_or_default(),
            self.stderr.trim()
        );
        let ips = self.json["ips"].as_array().context("the result has no `ips`")?;
        let address = |ip: &Value| -> Result<IpAddr> {
            let text = ip["address"]
                .as_str()
                .with_context(|| format!("an address without `address`: {ip}"))?;
            let cidr: IpNet = text
                .parse()
                .with_context(|| format!("\"{text}\" is no address with a prefix"))?;
            ensure!(
                cidr.prefix_len() == cidr.max_prefix_len(),
                "{cidr} is not a host's prefix"
            );
            Ok(cidr.addr())
        };
        ips.iter().map(address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: i32, json: Value) -> CniOutput {
        CniOutput {
            status,
            json,
            stderr: String::new(),
        }
    }

    #[test]
    fn addresses_of_a_result() {
        let result = json!({"ips": [{"address": "10.0.0.1/32"}, {"address": "fd00::1/128"}]});
        let addresses = output(0, result).addresses().unwrap();
        assert_eq!(
            addresses,
            ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]
        );
        let error = output(0, json!({"ips": [{"address": "10.0.0.1/24"}]}))
            .addresses()
            .unwrap_err();
        assert_eq!(error.to_string(), "10.0.0.1/24 is not a host's prefix");
    }

    #[test]
    fn an_error_is_shown_as_it_was_said() {
        let error = output(1, json!({"code": 11, "msg": "no agent", "details": "start it"}));
        assert_eq!(error.error_code(), Some(11));
        assert_eq!(
            error.addresses().unwrap_err().to_string(),
            "the plugin said: no agent: start it (code 11) "
        );
    }
}
