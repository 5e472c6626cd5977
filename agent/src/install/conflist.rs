//! The network configuration that tells a container runtime of the plugin.
//!
//! The agent writes it when it is ready, not before: from then on the kubelet sends pods. It is written once a start,
//! with what this agent was started with, and stays when the agent ends. A file of its name that is not as the agent
//! writes it was made or changed by somebody: it is left as it is, and said so.
//!
//! `cniVersion` is 1.0.0 and no newer one is offered: with 1.1.0 containerd 1.6 refuses the result, and in a list of
//! versions libcni picks the newest, which chained plugins of a distribution's age do not know.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{
    Error,
    atomic::Directory,
    others::{self, Other},
    plugin,
};

/// Its name. Runtimes take the file whose name sorts first.
pub const NAME: &str = "10-routelet.conflist";
/// Name of the network: the first part of the handles of addresses, the same as Calico's, so that a cluster that comes
/// from there keeps them.
const NETWORK: &str = "k8s-pod-network";
const VERSION: &str = "1.0.0";
/// The chained plugin that serves `hostPort`.
const PORTMAP: &str = "portmap";
const MODE: u32 = 0o644;

/// Whether portmap is chained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Portmap {
    /// Where it is in the runtime's directory of plugins.
    Auto,
    /// Whether it is there or not.
    Always,
    /// Not at all.
    Never,
}

/// What is written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The runtime's directory of configurations.
    pub conf_dir: PathBuf,
    /// The runtime's directory of plugins, where portmap is looked for.
    pub bin_dir: PathBuf,
    /// Whether portmap is chained.
    pub portmap: Portmap,
    /// The agent's socket, as the plugin sees it.
    pub socket: PathBuf,
    /// Do pods get IPv4 addresses?
    pub ipv4: bool,
    /// Do pods get IPv6 addresses?
    pub ipv6: bool,
    /// Set Calico's configuration aside.
    pub disable_calico: bool,
}

/// What writing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// False where it was there already.
    pub written: bool,
    /// Calico's configurations that were set aside.
    pub disabled: Vec<PathBuf>,
    /// Configurations that the runtime still takes before ours.
    pub first: Vec<Other>,
}

impl Settings {
    /// The configuration.
    pub fn render(&self) -> Value {
        let mut plugins = vec![json!({
            "type": plugin::NAME,
            "socket": self.socket,
            "ipam": {
                "type": "routelet",
                "assign_ipv4": self.ipv4,
                "assign_ipv6": self.ipv6,
            },
        })];
        let portmap = match self.portmap {
            Portmap::Always => true,
            Portmap::Never => false,
            Portmap::Auto => self.bin_dir.join(PORTMAP).is_file(),
        };
        if portmap {
            plugins.push(json!({"type": PORTMAP, "capabilities": {"portMappings": true}}));
        }
        json!({"cniVersion": VERSION, "name": NETWORK, "plugins": plugins})
    }

    /// Writes the configuration, durably, and then sets Calico's aside where that is wanted: at no moment is there
    /// none. Blocks.
    ///
    /// # Errors
    /// [`Error`]; what was there is then still there.
    pub fn write(&self) -> Result<Outcome, Error> {
        let directory = Directory::lock(&self.conf_dir)?;
        let path = directory.join(NAME);
        let mut content = format!("{:#}", self.render()).into_bytes();
        content.push(b'\n');
        let found = read(&path)?;
        if let Some(found) = &found {
            check_ours(found).map_err(|reason| Error::NotOurs { path, reason })?;
        }
        let written = found.as_deref() != Some(&content[..]);
        if written {
            directory.replace(NAME, &content, MODE)?;
        } else {
            directory.remove_leftover(NAME)?;
        }
        let disabled = if self.disable_calico {
            others::disable_calico(&directory, &self.conf_dir)?
        } else {
            Vec::new()
        };
        let first = others::before_ours(&self.conf_dir)?;
        Ok(Outcome {
            written,
            disabled,
            first,
        })
    }
}

/// What removing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Was ours there?
    pub removed: bool,
    /// Configurations of Calico's that are in force again.
    pub restored: Vec<PathBuf>,
}

/// Brings back what was set aside, then removes our configuration. Blocks.
///
/// # Errors
/// [`Error`]; in particular where the file is not as the agent writes it.
pub fn remove(conf_dir: &Path) -> Result<Removed, Error> {
    if !conf_dir.exists() {
        return Ok(Removed {
            removed: false,
            restored: Vec::new(),
        });
    }
    let directory = Directory::lock(conf_dir)?;
    let path = directory.join(NAME);
    if let Some(found) = read(&path)? {
        check_ours(&found).map_err(|reason| Error::NotOurs { path, reason })?;
    }
    let restored = others::restore_calico(&directory, conf_dir)?;
    let removed = directory.remove(NAME)?;
    Ok(Removed { removed, restored })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Is it what an agent, of whatever release and started however, has written?
fn check_ours(content: &[u8]) -> Result<(), String> {
    let document: Value =
        serde_json::from_slice(content).map_err(|error| format!("it is not JSON ({error})"))?;
    let document = only(&document, "the document", &["cniVersion", "name", "plugins"])?;
    let plugins = document.get("plugins").and_then(Value::as_array);
    let Some((first, chained)) = plugins.and_then(|plugins| plugins.split_first()) else {
        return Err("it has no plugins".to_string());
    };
    let first = only(first, "plugins[0]", &["type", "socket", "ipam"])?;
    is_type(first, "plugins[0]", plugin::NAME)?;
    if let Some(ipam) = first.get("ipam") {
        only(ipam, "plugins[0].ipam", &["type", "assign_ipv4", "assign_ipv6"])?;
    }
    match chained {
        [] => Ok(()),
        [portmap] => is_type(
            only(portmap, "plugins[1]", &["type", "capabilities"])?,
            "plugins[1]",
            PORTMAP,
        ),
        _ => Err(format!("it has {} plugins", chained.len() + 1)),
    }
}

fn only<'a>(value: &'a Value, name: &str, known: &[&str]) -> Result<&'a Map<String, Value>, String> {
    let Some(fields) = value.as_object() else {
        return Err(format!("{name} is no object"));
    };
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{name} has the key \"{key}\"")),
        None => Ok(fields),
    }
}

fn is_type(fields: &Map<String, Value>, name: &str, wanted: &str) -> Result<(), String> {
    match fields.get("type").and_then(Value::as_str) {
        Some(found) if found == wanted => Ok(()),
        Some(found) => Err(format!("{name} is of type \"{found}\"")),
        None => Err(format!("{name} has no type")),
    }
}

#[cfg(test)]
#[path = "conflist_tests.rs"]
mod tests;
