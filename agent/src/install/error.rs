//! What can go wrong with the runtime's directories.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why something was not installed or removed. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("cannot {action} {}: {source}{}", .path.display(), hint(source))]
    Io {
        /// What was tried (`write`, `rename`).
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no plugin to install.
    #[error("{} is not the plugin: {reason} (--source, ROUTELET_CNI_SOURCE)", .path.display())]
    NoPlugin {
        /// Where it should be.
        path: PathBuf,
        /// What is there.
        reason: &'static str,
    },
    /// A file has the name of our configuration and is not ours to change.
    #[error("{} is left as it is, for it is not as the agent writes it: {reason}; remove it to let the agent write its own", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is not ours in it.
        reason: String,
    },
}

impl Error {
    /// Names the path of an [`io::Error`].
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }
}

/// What an administrator can do about it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            " (mount the host's directory writable, or name another one: --bin-dir, --cni-conf-dir)"
        }
        io::ErrorKind::PermissionDenied => " (the directory must belong to root, or be writable for it)",
        io::ErrorKind::StorageFull => " (make room on the host)",
        _ => "",
    }
}
