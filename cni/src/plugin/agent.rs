//! The plugin's end of the CNI socket.
//!
//! An agent that is not there is noticed at once. One that is there but does not accept is given up after
//! [`CONNECT_PATIENCE`]: the runtime tries again, and a kubelet that waits is a node that starts no pods.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt},
        time::{TimeVal, TimeValLike},
    },
};

use super::configuration::ConfigurationError;
use crate::protocol::{self, Failure, Reply, Request, Success, Verb, code};

/// Longest wait for the agent to take a connection.
const CONNECT_PATIENCE: Duration = Duration::from_millis(120);
/// Longest wait for an ADD: the agent may have to claim a block.
pub(super) const ADD_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for a DEL, before it is queued instead.
pub(super) const DEL_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for a STATUS.
pub(super) const STATUS_PATIENCE: Duration = Duration::from_secs(5);

/// Why the agent did not serve a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    #[error("the routelet agent does not answer at {}: {source}, is the DaemonSet pod running?", path.display())]
    Away { path: PathBuf, source: io::Error },
    #[error("the routelet agent took the request at {} and did not answer: {source}", path.display())]
    Silent { path: PathBuf, source: io::Error },
    #[error("the routelet agent at {} answered something else than was asked", path.display())]
    Confused { path: PathBuf },
    #[error(transparent)]
    Refused(#[from] Failure),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Refused(failure) => failure,
            AgentError::Configuration(error) => error.into(),
            AgentError::Away { .. } | AgentError::Silent { .. } => {
                Self::new(code::TRY_AGAIN, error.to_string())
            }
            AgentError::Confused { .. } => Self::new(code::INTERNAL, error.to_string()),
        }
    }
}

/// One connection: one request, one reply.
pub(super) struct Conversation {
    path: PathBuf,
    stream: UnixStream,
}

impl Conversation {
    /// Connects.
    pub(super) fn open(path: &Path) -> Result<Self, AgentError> {
        match connected(path) {
            Ok(stream) => Ok(Self {
                path: path.to_owned(),
                stream,
            }),
            Err(source) => Err(AgentError::Away {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Sends the request. The agent works on it from then on.
    pub(super) fn send(&mut self, verb: Verb) -> Result<(), AgentError> {
        let request = Request {
            version: protocol::VERSION,
            verb,
        };
        protocol::write_frame(&mut self.stream, &request).map_err(|source| self.silent(source))
    }

    /// Waits for the reply.
    pub(super) fn reply(&mut self, patience: Duration) -> Result<Success, AgentError> {
        let reply = self
            .stream
            .set_read_timeout(Some(patience))
            .and_then(|()| protocol::read_frame(&mut self.stream))
            .map_err(|source| self.silent(source))?;
        match reply {
            Reply::Ok(success) => Ok(success),
            Reply::Error(failure) => Err(failure.into()),
        }
    }

    /// For a reply that fits another request.
    pub(super) fn confused(&self) -> AgentError {
        AgentError::Confused {
            path: self.path.clone(),
        }
    }

    fn silent(&self, source: io::Error) -> AgentError {
        let source = match source.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            io::ErrorKind::UnexpectedEof => io::Error::other("it hung up"),
            _ => source,
        };
        AgentError::Silent {
            path: self.path.clone(),
            source,
        }
    }
}

/// A connected stream. The send timeout bounds `connect`, which waits while the agent's backlog is full.
fn connected(path: &Path) -> io::Result<UnixStream> {
    let descriptor: OwnedFd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let patience = TimeVal::milliseconds(i64::try_from(CONNECT_PATIENCE.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&descriptor, sockopt::SendTimeout, &patience)?;
    match connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::EAGAIN) => Err(io::ErrorKind::TimedOut.into()),
        result => {
            result?;
            Ok(UnixStream::from(descriptor))
        }
    }
}
