//! The `CNI_*` variables, validated by the rules of the CNI specification, section "Parameters".
//!
//! Which of them must be there depends on the verb, so that each is validated when a verb asks for it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::protocol::{AttachmentId, PodRef};

/// Longest container ID: with an interface name it must fit into a file name and into a link's label.
const MAX_CONTAINER_ID: usize = 200;
/// Longest interface name (`IFNAMSIZ` - 1).
const MAX_IFNAME: usize = 15;
/// Longest Kubernetes name.
const MAX_KUBERNETES_NAME: usize = 253;

/// Where the agent listens, unless something else is said.
const SOCKET: &str = "/run/routelet/cni.sock";
/// Where state is kept, unless something else is said.
const STATE_DIRECTORY: &str = "/var/lib/routelet";

/// A variable that is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironmentError {
    #[error("{name} is not set")]
    Missing { name: &'static str },
    #[error("{name} is not UTF-8")]
    NotText { name: &'static str },
    #[error("CNI_COMMAND is {value:?}; it must be one of ADD, DEL, CHECK, GC, STATUS, VERSION")]
    Command { value: String },
    #[error(
        "CNI_CONTAINERID is {value:?}; it must be at most {MAX_CONTAINER_ID} letters, digits, '.', '_' and '-', the first \
         a letter or a digit"
    )]
    ContainerId { value: String },
    #[error(
        "CNI_IFNAME is {value:?}; it must be at most {MAX_IFNAME} printable ASCII characters without '/', ':', '%' and \
         blanks, and not '.' or '..'"
    )]
    Ifname { value: String },
    #[error("CNI_ARGS holds {part:?}; each part between semicolons must be KEY=VALUE")]
    Argument { part: String },
    #[error("CNI_ARGS sets {given} but not {missing}; a pod needs both")]
    HalfAPod {
        given: &'static str,
        missing: &'static str,
    },
    #[error("CNI_ARGS sets {key}={value:?}, which is no Kubernetes name")]
    KubernetesName { key: &'static str, value: String },
}

/// What the runtime wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// The variables as they are.
pub(super) struct Environment {
    pub(super) command: Command,
    container_id: Option<OsString>,
    ifname: Option<OsString>,
    netns: Option<OsString>,
    args: Option<OsString>,
    socket: Option<OsString>,
    state_directory: Option<OsString>,
}

impl Environment {
    /// Reads the variables; an empty one counts as missing.
    pub(super) fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, EnvironmentError> {
        let get = |name| get(name).filter(|value| !value.is_empty());
        let command = get("CNI_COMMAND");
        Ok(Self {
            command: Command::parse(text("CNI_COMMAND", command.as_ref())?)?,
            container_id: get("CNI_CONTAINERID"),
            ifname: get("CNI_IFNAME"),
            netns: get("CNI_NETNS"),
            args: get("CNI_ARGS"),
            socket: get("ROUTELET_CNI_SOCKET"),
            state_directory: get("ROUTELET_STATE_DIR"),
        })
    }

    /// Identity of the attachment: ADD, DEL and CHECK.
    pub(super) fn attachment(&self) -> Result<AttachmentId, EnvironmentError> {
        let container_id = text("CNI_CONTAINERID", self.container_id.as_ref())?;
        if !is_container_id(container_id) {
            let value = container_id.to_owned();
            return Err(EnvironmentError::ContainerId { value });
        }
        let ifname = text("CNI_IFNAME", self.ifname.as_ref())?;
        if !is_ifname(ifname) {
            let value = ifname.to_owned();
            return Err(EnvironmentError::Ifname { value });
        }
        Ok(AttachmentId {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        })
    }

    /// The pod's network namespace: ADD and CHECK.
    pub(super) fn netns(&self) -> Result<&Path, EnvironmentError> {
        text("CNI_NETNS", self.netns.as_ref()).map(Path::new)
    }

    /// The pod, where `CNI_ARGS` names one. Other arguments are not ours to judge.
    pub(super) fn pod(&self) -> Result<Option<PodRef>, EnvironmentError> {
        let (mut namespace, mut name, mut uid) = (None, None, String::new());
        let arguments = match &self.args {
            Some(_) => text("CNI_ARGS", self.args.as_ref())?,
            None => "",
        };
        for part in arguments.split(';').filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                let part = part.to_owned();
                return Err(EnvironmentError::Argument { part });
            };
            match key {
                "K8S_POD_NAMESPACE" => namespace = Some(kubernetes_name("K8S_POD_NAMESPACE", value)?),
                "K8S_POD_NAME" => name = Some(kubernetes_name("K8S_POD_NAME", value)?),
                "K8S_POD_UID" => uid = value.to_owned(),
                _ => {}
            }
        }
        let half = |given, missing| Err(EnvironmentError::HalfAPod { given, missing });
        match (namespace, name) {
            (Some(namespace), Some(name)) => Ok(Some(PodRef { namespace, name, uid })),
            (Some(_), None) => half("K8S_POD_NAMESPACE", "K8S_POD_NAME"),
            (None, Some(_)) => half("K8S_POD_NAME", "K8S_POD_NAMESPACE"),
            (None, None) => Ok(None),
        }
    }

    /// The agent's socket: the variable before the configuration before the default.
    pub(super) fn socket(&self, configured: Option<&str>) -> PathBuf {
        match (&self.socket, configured) {
            (Some(path), _) => path.into(),
            (None, Some(path)) => path.into(),
            (None, None) => SOCKET.into(),
        }
    }

    /// The state directory.
    pub(super) fn state_directory(&self) -> &Path {
        self.state_directory
            .as_ref()
            .map_or(Path::new(STATE_DIRECTORY), Path::new)
    }
}

impl Command {
    fn parse(value: &str) -> Result<Self, EnvironmentError> {
        match value {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            _ => {
                let value = value.to_owned();
                Err(EnvironmentError::Command { value })
            }
        }
    }
}

fn text<'a>(name: &'static str, value: Option<&'a OsString>) -> Result<&'a str, EnvironmentError> {
    let value = value.ok_or(EnvironmentError::Missing { name })?;
    value.to_str().ok_or(EnvironmentError::NotText { name })
}

fn is_container_id(value: &str) -> bool {
    value.len() <= MAX_CONTAINER_ID && is_identifier(value)
}

/// The specification's rule for container IDs and network names.
pub(super) fn is_identifier(value: &str) -> bool {
    value.starts_with(|first: char| first.is_ascii_alphanumeric())
        && value
            .chars()
            .all(|each| each.is_ascii_alphanumeric() || "_.-".contains(each))
}

/// What the kernel takes for a name, less '%', which it takes for a pattern.
fn is_ifname(value: &str) -> bool {
    (1..=MAX_IFNAME).contains(&value.len())
        && value != "."
        && value != ".."
        && value
            .chars()
            .all(|each| each.is_ascii_graphic() && !"/:%".contains(each))
}

fn kubernetes_name(key: &'static str, value: &str) -> Result<String, EnvironmentError> {
    let fits = (1..=MAX_KUBERNETES_NAME).contains(&value.len());
    let clean = |each: char| each.is_ascii_lowercase() || each.is_ascii_digit() || ".-".contains(each);
    if fits && value.chars().all(clean) {
        return Ok(value.to_owned());
    }
    let value = value.to_owned();
    Err(EnvironmentError::KubernetesName { key, value })
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
