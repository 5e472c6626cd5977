//! What can go wrong between a caller and a stored object: one variant for each thing a caller does differently.

use std::path::PathBuf;

/// The result of every datastore call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a datastore call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// Kind, as in a manifest (`IPAMBlock`).
        kind: &'static str,
        /// `name`, or `namespace/name`.
        name: String,
    },
    /// `create` found an object of that name.
    #[error("{kind} \"{name}\" already exists")]
    AlreadyExists {
        /// Kind, as in a manifest.
        kind: &'static str,
        /// `name`, or `namespace/name`.
        name: String,
    },
    /// The object is not the one the caller read: its `resourceVersion` or `uid` differs. Read again and retry.
    #[error("{kind} \"{name}\" has changed: expected {expected}, found {found}")]
    Conflict {
        /// Kind, as in a manifest.
        kind: &'static str,
        /// `name`, or `namespace/name`.
        name: String,
        /// The precondition, as `resourceVersion 12` or `uid …`.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The object cannot be understood or breaks a rule. Nothing was written.
    #[error(transparent)]
    Invalid(#[from] Box<Invalid>),
    /// The backend cannot be reached or a disk operation failed; the same call may succeed later.
    #[error("cannot {action} {target}: {source}")]
    Unavailable {
        /// What was tried (`write`, `list`).
        action: &'static str,
        /// On what: a path, or a kind and a name.
        target: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The API server knows us, and no rule of RBAC lets us do this.
    #[error("not allowed to {verb} {resource}{}: {message}", quoted(name))]
    Forbidden {
        /// As in a rule of RBAC: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
        verb: &'static str,
        /// As RBAC writes it: `ippools.crd.projectcalico.org`.
        resource: String,
        /// `name` or `namespace/name`; the namespace or nothing where the call is about many.
        name: String,
        /// What the server says: which user, and in which scope.
        message: String,
    },
    /// The API server does not know us.
    #[error("{server} does not accept our credentials (missing, wrong or expired): {message}")]
    Unauthorized {
        /// The API server.
        server: String,
        /// What it says.
        message: String,
    },
    /// The API server does not have this kind.
    #[error("the API server has no {kind} ({resource}): is its CustomResourceDefinition installed?")]
    UnknownKind {
        /// Kind, as in a manifest.
        kind: &'static str,
        /// As RBAC writes it.
        resource: String,
    },
    /// The configuration for the API server cannot be used.
    #[error("cannot use {from}: {source}")]
    Kubeconfig {
        /// Where it comes from.
        from: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The datastore's address is none we know.
    #[error(
        "unknown datastore \"{given}\": expected file:DIRECTORY, kubernetes or kubernetes:KUBECONFIG[?context=NAME]"
    )]
    UnknownStore {
        /// What was given.
        given: String,
    },
}

impl Error {
    /// True where reading again and retrying is the right answer.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Conflict { .. })
    }

    /// True where the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    /// True where an object of that name exists already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Error::AlreadyExists { .. })
    }
}

/// ` "name"`, or nothing.
fn quoted(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" \"{name}\"")
    }
}

/// An object that cannot be used, with everything a person needs to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct Invalid {
    /// Kind, as in a manifest.
    pub kind: &'static str,
    /// `name`, or `namespace/name`; what the file's name says where the manifest does not parse.
    pub name: String,
    /// The file, in the `file:` backend.
    pub path: Option<PathBuf>,
    /// The line, from 1, where known.
    pub line: Option<usize>,
    /// The field, as `spec.blockSize`; empty where the text is not YAML at all.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Invalid {
    fn describe(&self) -> String {
        let place = match (&self.path, self.line) {
            (Some(path), Some(line)) => format!("{}:{line}: ", path.display()),
            (Some(path), None) => format!("{}: ", path.display()),
            _ => String::new(),
        };
        let field = if self.field.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.field)
        };
        format!("{place}{} \"{}\": {field}{}", self.kind, self.name, self.message)
    }
}
