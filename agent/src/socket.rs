//! A Unix socket that answers one request a connection: what the CNI and the admin server have in common.

use std::{fs, future::Future, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixListener, net::UnixStream, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::frame;

/// Connections served at once; the next one waits in the kernel's queue.
const CONCURRENT: usize = 256;

/// Listens on `path`, for root alone. A socket that an earlier agent left is replaced; one that a running agent
/// listens on is not.
///
/// # Errors
/// Where the directory cannot be made, the address is in use, or the path is too long for a socket (107 octets).
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let message = format!("another agent listens on {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `stop`, then waits for the requests under way (the caller bounds that wait). A request that does not
/// decode gets what `refuse` makes of the error.
pub async fn serve<Q, A, F>(
    listener: UnixListener,
    stop: CancellationToken,
    answer: impl Fn(Q) -> F + Send + Sync + 'static,
    refuse: fn(io::Error) -> A,
) where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + Sync + 'static,
    F: Future<Output = A> + Send,
{
    let answer = Arc::new(answer);
    let places = Arc::new(Semaphore::new(CONCURRENT));
    let mut conversations = JoinSet::new();
    while let Some(stream) = next(&listener, &stop).await {
        let Ok(place) = places.clone().acquire_owned().await else {
            break;
        };
        let answer = answer.clone();
        conversations.spawn(async move {
            converse(stream, &*answer, refuse).await;
            drop(place);
        });
        while conversations.try_join_next().is_some() {}
    }
    while conversations.join_next().await.is_some() {}
}

async fn next(listener: &UnixListener, stop: &CancellationToken) -> Option<UnixStream> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => return Some(stream),
            Err(error) => {
                // Out of file descriptors: give those that are served time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse<Q, A, F>(mut stream: UnixStream, answer: &impl Fn(Q) -> F, refuse: fn(io::Error) -> A)
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = A>,
{
    let reply = match frame::read(&mut stream).await {
        Ok(request) => answer(request).await,
        // Connected and gone, as a probe does.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
        Err(error) => refuse(error),
    };
    if let Err(error) = frame::write(&mut stream, &reply).await {
        tracing::debug!(%error, "the client went away before its reply");
    }
}
