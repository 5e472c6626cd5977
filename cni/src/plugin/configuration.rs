//! The network configuration: what comes on standard input.
//!
//! Unknown keys are other people's and are passed over. Calico's keys are understood or refused by name, because a
//! cluster that ran Calico brings its conflist along: see `docs/cni.md` for the list. Only ADD validates what only
//! ADD uses; a DEL must not fail for a bad MTU.

use std::io;

use ipnet::IpNet;
use serde_json::{Map, Value, error::Category};

use super::{
    answer::{self, CniVersion},
    document::{Section, wrong},
    environment::{Command, is_identifier},
};
use crate::protocol::{Failure, Families, code};

/// Smallest MTU of an IPv4 link (RFC 791) and of an IPv6 link (RFC 8200, section 5).
const MIN_MTU: [u32; 2] = [68, 1280];
/// Largest MTU of a veth device.
const MAX_MTU: u32 = 65535;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigurationError {
    #[error("cannot read the network configuration from standard input: {0}")]
    Read(#[from] io::Error),
    #[error("the network configuration is longer than {most} octets")]
    TooLong { most: u64 },
    #[error("the network configuration is empty: it belongs on standard input")]
    Empty,
    #[error("the network configuration is not JSON: {what}")]
    Malformed { what: String },
    #[error("the network configuration must be a JSON object, not {found}")]
    NotAnObject { found: String },
    #[error(
        "cniVersion {value:?} is not supported; supported are {}",
        answer::supported()
    )]
    Version { value: String },
    #[error("cniVersion {version} does not know {verb}; it takes {since} or later")]
    VerbTooNew {
        version: CniVersion,
        verb: &'static str,
        since: CniVersion,
    },
    #[error("{field} is missing")]
    Missing { field: String },
    #[error("{field} is {found}; it must be {expected}")]
    Type {
        field: String,
        expected: &'static str,
        found: String,
    },
    #[error("{field} is {value}; it must be {accepted}")]
    Value {
        field: String,
        value: String,
        accepted: String,
    },
    #[error("{field} is {value:?}, which is not supported; supported: {accepted}")]
    Unsupported {
        field: String,
        value: String,
        accepted: &'static str,
    },
}

impl From<ConfigurationError> for Failure {
    fn from(error: ConfigurationError) -> Self {
        use ConfigurationError as E;
        let code = match error {
            E::Read(_) => code::IO_FAILURE,
            E::TooLong { .. } | E::Empty | E::Malformed { .. } | E::NotAnObject { .. } => {
                code::DECODING_FAILURE
            }
            E::Version { .. } | E::VerbTooNew { .. } => code::INCOMPATIBLE_VERSION,
            E::Unsupported { .. } => code::UNSUPPORTED_FIELD,
            E::Missing { .. } | E::Type { .. } | E::Value { .. } => code::INVALID_CONFIG,
        };
        Self::new(code, error.to_string())
    }
}

/// What every verb needs, and the rest unread.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) version: CniVersion,
    fields: Map<String, Value>,
}

/// What ADD needs.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    /// `mtu`; `None` means the agent's.
    pub(super) mtu: Option<u32>,
    /// `ipam.assign_ipv4`, `ipam.assign_ipv6`.
    pub(super) assign: Families,
    /// `ipam.ipv4_pools`.
    pub(super) ipv4_pools: Vec<String>,
    /// `ipam.ipv6_pools`.
    pub(super) ipv6_pools: Vec<String>,
    /// `container_settings.allow_ip_forwarding`.
    pub(super) allow_ip_forwarding: bool,
    /// `dns`, passed on.
    pub(super) dns: Option<Value>,
}

impl Configuration {
    /// Decodes the document and finds out its version.
    pub(super) fn parse(input: &[u8]) -> Result<Self, ConfigurationError> {
        if input.trim_ascii().is_empty() {
            return Err(ConfigurationError::Empty);
        }
        let fields = match serde_json::from_slice(input) {
            Ok(Value::Object(fields)) => fields,
            Ok(other) => return Err(ConfigurationError::NotAnObject { found: kind(&other) }),
            Err(error) => return Err(malformed(&error)),
        };
        let root = Section::root(&fields);
        let Some(version) = root.string("cniVersion")? else {
            return Err(ConfigurationError::Missing {
                field: format!("cniVersion (supported are {})", answer::supported()),
            });
        };
        let version = CniVersion::parse(version).ok_or_else(|| ConfigurationError::Version {
            value: version.to_owned(),
        })?;
        Ok(Self { version, fields })
    }

    /// Refuses a verb that this version of the specification has not got.
    pub(super) fn must_know(&self, command: Command) -> Result<(), ConfigurationError> {
        let (verb, since) = match command {
            Command::Check => ("CHECK", CniVersion::V0_4_0),
            Command::Gc => ("GC", CniVersion::V1_1_0),
            Command::Status => ("STATUS", CniVersion::V1_1_0),
            Command::Add | Command::Del | Command::Version => return Ok(()),
        };
        if self.version >= since {
            return Ok(());
        }
        Err(ConfigurationError::VerbTooNew {
            version: self.version,
            verb,
            since,
        })
    }

    /// `name`: the network.
    pub(super) fn network(&self) -> Result<&str, ConfigurationError> {
        let name = self.root().string("name")?.unwrap_or_default();
        match name {
            "" => Err(ConfigurationError::Missing { field: "name".into() }),
            name if is_identifier(name) => Ok(name),
            name => Err(ConfigurationError::Value {
                field: "name".into(),
                value: format!("{name:?}"),
                accepted: "letters, digits, '.', '_' and '-', the first a letter or a digit".into(),
            }),
        }
    }

    /// `socket`: where the agent listens.
    pub(super) fn socket(&self) -> Result<Option<&str>, ConfigurationError> {
        self.root().string("socket")
    }

    /// `prevResult`, where the runtime gives one.
    pub(super) fn previous_result(&self) -> Result<Option<&Map<String, Value>>, ConfigurationError> {
        match self.root().value("prevResult") {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(found) => Err(wrong("prevResult".into(), "an object", found)),
        }
    }

    /// What ADD needs, validated.
    pub(super) fn settings(&self) -> Result<Settings, ConfigurationError> {
        let root = self.root();
        if self.previous_result()?.is_some() {
            return Err(ConfigurationError::Unsupported {
                field: "prevResult".into(),
                value: "given".into(),
                accepted: "routelet-cni must be the first plugin of the list",
            });
        }
        understand(&root)?;
        let ipam = root.section("ipam")?;
        let assign = families(&ipam)?;
        Ok(Settings {
            mtu: mtu(&root, assign)?,
            assign,
            ipv4_pools: pools(&ipam, "ipv4_pools", |net| matches!(net, IpNet::V4(_)), "IPv4")?,
            ipv6_pools: pools(&ipam, "ipv6_pools", |net| matches!(net, IpNet::V6(_)), "IPv6")?,
            allow_ip_forwarding: root
                .section("container_settings")?
                .boolean("allow_ip_forwarding")?
                .unwrap_or(false),
            dns: root.section("dns").map(|_| root.value("dns").cloned())?,
        })
    }

    fn root(&self) -> Section<'_> {
        Section::root(&self.fields)
    }
}

/// Calico's keys that choose between implementations: the choice that we are is understood, others are refused.
fn understand(root: &Section<'_>) -> Result<(), ConfigurationError> {
    one_of(
        &root.section("ipam")?,
        "type",
        &["routelet", "calico-ipam"],
        "routelet, calico-ipam",
    )?;
    one_of(&root.section("policy")?, "type", &["k8s"], "k8s")?;
    // The agent knows its node and its cluster.
    root.string("nodename")?;
    root.section("kubernetes")?.string("kubeconfig")?;
    Ok(())
}

fn one_of(
    section: &Section<'_>,
    key: &str,
    known: &[&str],
    accepted: &'static str,
) -> Result<(), ConfigurationError> {
    match section.string(key)? {
        None | Some("") => Ok(()),
        Some(value) if known.contains(&value) => Ok(()),
        Some(value) => Err(ConfigurationError::Unsupported {
            field: section.path(key),
            value: value.to_owned(),
            accepted,
        }),
    }
}

fn families(ipam: &Section<'_>) -> Result<Families, ConfigurationError> {
    let assign = Families {
        ipv4: ipam.boolean("assign_ipv4")?.unwrap_or(true),
        ipv6: ipam.boolean("assign_ipv6")?.unwrap_or(false),
    };
    if assign.ipv4 || assign.ipv6 {
        return Ok(assign);
    }
    Err(ConfigurationError::Value {
        field: "ipam.assign_ipv4 and ipam.assign_ipv6".into(),
        value: "false".into(),
        accepted: "true for at least one of them".into(),
    })
}

/// Zero means the agent's, as in Calico.
fn mtu(root: &Section<'_>, assign: Families) -> Result<Option<u32>, ConfigurationError> {
    let [ipv4, ipv6] = MIN_MTU;
    let least = if assign.ipv6 { ipv6 } else { ipv4 };
    let Some(value) = root.number("mtu")?.filter(|mtu| *mtu != 0) else {
        return Ok(None);
    };
    match u32::try_from(value) {
        Ok(mtu) if (least..=MAX_MTU).contains(&mtu) => Ok(Some(mtu)),
        _ => Err(ConfigurationError::Value {
            field: "mtu".into(),
            value: value.to_string(),
            accepted: format!("from {least} to {MAX_MTU}, or 0 for the node's"),
        }),
    }
}

/// Pools by CIDR or by name; a CIDR must be of the list's family.
fn pools(
    ipam: &Section<'_>,
    key: &str,
    fits: fn(&IpNet) -> bool,
    family: &str,
) -> Result<Vec<String>, ConfigurationError> {
    let mut pools = Vec::new();
    for (index, item) in ipam.list(key)?.iter().enumerate() {
        let field = format!("{}[{index}]", ipam.path(key));
        let Some(pool) = item.as_str() else {
            return Err(wrong(field, "a string", item));
        };
        let is_name = is_identifier(pool) && !pool.contains('/');
        if !is_name && !pool.parse().is_ok_and(|net| fits(&net)) {
            return Err(ConfigurationError::Value {
                field,
                value: format!("{pool:?}"),
                accepted: format!("an {family} CIDR or the name of a pool"),
            });
        }
        pools.push(pool.to_owned());
    }
    Ok(pools)
}

/// The decoder's own words end with line and column.
fn malformed(error: &serde_json::Error) -> ConfigurationError {
    let what = match error.classify() {
        Category::Eof => format!("it ends too soon: {error}"),
        _ => error.to_string(),
    };
    ConfigurationError::Malformed { what }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
    .to_owned()
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
