//! Listeners: each accepts in a task of its own, and one that cannot be had is tried again.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::{listen_hint, socket};
use crate::status::ListenerStatus;

/// How long to wait before a listener that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// An accepted connection, and where it comes from.
pub(super) type Accepted = (TcpStream, SocketAddr);

/// All listeners, by the address that was asked for.
#[derive(Debug)]
pub(super) struct Listeners {
    running: BTreeMap<SocketAddr, Running>,
    accepted: mpsc::Sender<Accepted>,
}

#[derive(Debug)]
struct Running {
    task: JoinHandle<()>,
    status: Arc<Mutex<ListenerStatus>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listeners {
    pub(super) fn new(bound: Vec<(SocketAddr, TcpListener)>, accepted: mpsc::Sender<Accepted>) -> Self {
        let mut listeners = Self {
            running: BTreeMap::new(),
            accepted,
        };
        for (address, listener) in bound {
            listeners.add(address, Some(listener));
        }
        listeners
    }

    /// Listens on these addresses and no others.
    pub(super) fn sync(&mut self, wanted: &[SocketAddr]) {
        self.running.retain(|address, _| wanted.contains(address));
        for address in wanted {
            if !self.running.contains_key(address) {
                self.add(*address, None);
            }
        }
    }

    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        let statuses = self.running.values().map(|running| &running.status);
        statuses
            .map(|status| status.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect()
    }

    fn add(&mut self, address: SocketAddr, bound: Option<TcpListener>) {
        let status = Arc::new(Mutex::new(ListenerStatus { address, error: None }));
        let task = tokio::spawn(run(address, bound, self.accepted.clone(), status.clone()));
        self.running.insert(address, Running { task, status });
    }
}

async fn run(
    address: SocketAddr,
    mut bound: Option<TcpListener>,
    accepted: mpsc::Sender<Accepted>,
    status: Arc<Mutex<ListenerStatus>>,
) {
    let report = |now: ListenerStatus| *status.lock().unwrap_or_else(PoisonError::into_inner) = now;
    loop {
        match bound.take().map_or_else(|| socket::listen(address), Ok) {
            Ok(listener) => {
                let actual = listener.local_addr().unwrap_or(address);
                info!(address = %actual, "listening");
                report(ListenerStatus {
                    address: actual,
                    error: None,
                });
                let error = accept(&listener, &accepted).await;
                warn!(address = %actual, %error, "listener failed; trying again");
                report(ListenerStatus {
                    address,
                    error: Some(error.to_string()),
                });
            }
            Err(error) => {
                warn!(%address, %error, hint = listen_hint(&error), "cannot listen; trying again");
                report(ListenerStatus {
                    address,
                    error: Some(format!("{error}; {}", listen_hint(&error))),
                });
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Accepts until the listener itself fails. A connection that was gone before it was accepted is not a failure.
async fn accept(listener: &TcpListener, accepted: &mpsc::Sender<Accepted>) -> io::Error {
    loop {
        match listener.accept().await {
            Ok(connection) => {
                if accepted.send(connection).await.is_err() {
                    return io::Error::other("the speaker has stopped");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return error,
        }
    }
}
