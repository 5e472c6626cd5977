//! Asks a running agent, from another process. Blocking: the caller is a command line.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use cni::protocol::{read_frame, write_frame};

use super::types::{Query, Reply, Request, VERSION};

/// How long the agent may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens on the socket.
    #[error("the agent does not answer on {} ({source}): is routelet running on this node? \
             (--admin-socket or ROUTELET_ADMIN_SOCKET names another socket)", .socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent on {} gave no answer: {source}", .socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The agent refused the question.
    #[error("the agent says: {0}")]
    Refused(String),
}

/// Asks the agent that listens on `socket`.
///
/// # Errors
/// See [`Error`]; [`Reply::Error`] comes as [`Error::Refused`].
pub fn ask(socket: &Path, query: Query) -> Result<Reply, Error> {
    let mut stream = UnixStream::connect(socket).map_err(|source| Error::NotRunning {
        socket: socket.to_path_buf(),
        source,
    })?;
    let reply = converse(&mut stream, query).map_err(|source| Error::Broken {
        socket: socket.to_path_buf(),
        source,
    })?;
    match reply {
        Reply::Error(message) => Err(Error::Refused(message)),
        reply => Ok(reply),
    }
}

fn converse(stream: &mut UnixStream, query: Query) -> io::Result<Reply> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write_frame(
        stream,
        &Request {
            version: VERSION,
            query,
        },
    )?;
    read_frame(stream)
}
