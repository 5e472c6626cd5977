//! The pod's network namespace: what the agent is spared, because entering it takes CAP_SYS_ADMIN.
//!
//! The process has one thread, so that moving the thread moves the plugin. Sockets stay where they were opened;
//! `/proc/sys/net` is that of the namespace the thread is in.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};

use crate::protocol::{Failure, code};

/// Why a namespace cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum NamespaceError {
    #[error("CNI_NETNS {}: {source}", path.display())]
    Pod { path: PathBuf, source: io::Error },
    #[error("CNI_NETNS {} is not a network namespace", path.display())]
    NotANamespace { path: PathBuf },
    #[error("CNI_NETNS {} is the host's own network namespace", path.display())]
    Host { path: PathBuf },
    #[error("cannot go back to the host's network namespace: {0}")]
    Back(io::Error),
    #[error("cannot open the host's network namespace: {0}")]
    Own(io::Error),
}

impl From<NamespaceError> for Failure {
    fn from(error: NamespaceError) -> Self {
        let code = match error {
            NamespaceError::Back(_) | NamespaceError::Own(_) => code::KERNEL,
            _ => code::INVALID_ENVIRONMENT,
        };
        Self::new(code, error.to_string())
    }
}

/// Where the plugin was started, and the pod.
pub(super) struct Namespaces {
    host: File,
    pod: File,
    path: PathBuf,
}

impl Namespaces {
    /// Opens both.
    pub(super) fn open(path: &Path) -> Result<Self, NamespaceError> {
        let path = path.to_owned();
        let host = File::open("/proc/self/ns/net").map_err(NamespaceError::Own)?;
        match open_pod(&path, &host) {
            Ok((pod, false)) => Ok(Self { host, pod, path }),
            Ok((_, true)) => Err(NamespaceError::Host { path }),
            Err(source) => Err(NamespaceError::Pod { path, source }),
        }
    }

    /// Runs something in the pod's namespace.
    pub(super) fn in_pod<T>(&self, work: impl FnOnce() -> T) -> Result<T, NamespaceError> {
        setns(&self.pod, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            nix::errno::Errno::EINVAL => NamespaceError::NotANamespace {
                path: self.path.clone(),
            },
            errno => NamespaceError::Pod {
                path: self.path.clone(),
                source: errno.into(),
            },
        })?;
        let result = work();
        setns(&self.host, CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Back(errno.into()))?;
        Ok(result)
    }

    /// For the kernel to put a device there.
    pub(super) fn pod(&self) -> impl AsFd {
        self.pod.as_fd()
    }
}

/// The pod's namespace, and whether it is the host's.
fn open_pod(path: &Path, host: &File) -> io::Result<(File, bool)> {
    let pod = File::open(path)?;
    let (one, other) = (pod.metadata()?, host.metadata()?);
    let same = (one.dev(), one.ino()) == (other.dev(), other.ino());
    Ok((pod, same))
}
