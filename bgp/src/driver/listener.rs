//! Listeners: each accepts in a task of its own, and one that cannot be had is tried again. Passwords of peers come and
//! go while it listens.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::md5::{Keys, Passwords};
use super::{listen_hint, socket};
use crate::status::ListenerStatus;

/// How long to wait before a listener that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How many accepted connections may wait.
const ACCEPTED: usize = 16;

/// An accepted connection, and where it comes from.
pub(super) type Accepted = (TcpStream, SocketAddr);
/// A socket that listens, and the keys it has.
pub(super) type Bound = (TcpListener, Keys);

/// All listeners, by the address that was asked for.
#[derive(Debug)]
pub(super) struct Listeners {
    running: BTreeMap<SocketAddr, Running>,
    passwords: Arc<Passwords>,
    accepted: mpsc::Sender<Accepted>,
}

#[derive(Debug)]
struct Running {
    task: JoinHandle<()>,
    shared: Arc<Mutex<Shared>>,
}

/// What the task of a listener and its owner both see. Binding and a change of passwords exclude each other, so that
/// no listener misses a change.
#[derive(Debug)]
struct Shared {
    status: ListenerStatus,
    passwords: Arc<Passwords>,
    open: Option<(Arc<TcpListener>, Keys)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        locked(&self.shared)
    }
}

impl Listeners {
    /// Listens on what is bound already; what is accepted comes out at the other end.
    pub(super) fn new(
        bound: Vec<(SocketAddr, Bound)>,
        passwords: Passwords,
    ) -> (Self, mpsc::Receiver<Accepted>) {
        let (accepted, incoming) = mpsc::channel(ACCEPTED);
        let mut listeners = Self {
            running: BTreeMap::new(),
            passwords: Arc::new(passwords),
            accepted,
        };
        for (address, bound) in bound {
            listeners.add(address, Some(bound));
        }
        (listeners, incoming)
    }

    /// Listens on these addresses and no others, and lets peers with a password in only with it. A listener that
    /// stays is not bound anew.
    pub(super) fn sync(&mut self, wanted: &[SocketAddr], passwords: Passwords) {
        self.running.retain(|address, _| wanted.contains(address));
        self.passwords = Arc::new(passwords);
        for running in self.running.values() {
            running.shared().set_passwords(self.passwords.clone());
        }
        for address in wanted {
            if !self.running.contains_key(address) {
                self.add(*address, None);
            }
        }
    }

    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        let running = self.running.values();
        running.map(|running| running.shared().status.clone()).collect()
    }

    /// Peers whose password the kernel has not taken: they cannot connect, and this is why.
    pub(super) fn closed_to(&self) -> BTreeMap<IpAddr, String> {
        let mut closed_to = BTreeMap::new();
        for running in self.running.values() {
            if let Some((_, keys)) = &running.shared().open {
                closed_to.extend(keys.failed().clone());
            }
        }
        closed_to
    }

    fn add(&mut self, address: SocketAddr, bound: Option<Bound>) {
        let shared = Arc::new(Mutex::new(Shared {
            status: ListenerStatus { address, error: None },
            passwords: self.passwords.clone(),
            open: None,
        }));
        let task = tokio::spawn(run(address, bound, self.accepted.clone(), shared.clone()));
        self.running.insert(address, Running { task, shared });
    }
}

impl Shared {
    fn set_passwords(&mut self, passwords: Arc<Passwords>) {
        if let Some((listener, keys)) = &mut self.open {
            let ipv6 = self.status.address.is_ipv6();
            keys.sync(listener.as_ref(), ipv6, &passwords);
        }
        self.passwords = passwords;
    }

    /// Opens the listener, with what is bound already if there is something.
    fn open(&mut self, address: SocketAddr, bound: Option<Bound>) -> io::Result<Arc<TcpListener>> {
        let (listener, mut keys) = match bound {
            Some(bound) => bound,
            None => socket::listen(address, &self.passwords)?,
        };
        // They may have changed since it was bound.
        keys.sync(&listener, address.is_ipv6(), &self.passwords);
        let listener = Arc::new(listener);
        self.status = ListenerStatus {
            address: listener.local_addr().unwrap_or(address),
            error: None,
        };
        self.open = Some((listener.clone(), keys));
        Ok(listener)
    }

    fn failed(&mut self, address: SocketAddr, error: String) {
        self.open = None;
        self.status = ListenerStatus {
            address,
            error: Some(error),
        };
    }
}

/// What it guards is whole at every unlock, panic or not.
fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(
    address: SocketAddr,
    mut bound: Option<Bound>,
    accepted: mpsc::Sender<Accepted>,
    shared: Arc<Mutex<Shared>>,
) {
    loop {
        let opened = locked(&shared).open(address, bound.take());
        match opened {
            Ok(listener) => {
                info!(address = %listener.local_addr().unwrap_or(address), "listening");
                let error = accept(&listener, &accepted).await;
                warn!(%address, %error, "listener failed; trying again");
                locked(&shared).failed(address, error.to_string());
            }
            Err(error) => {
                warn!(%address, %error, hint = listen_hint(&error), "cannot listen; trying again");
                locked(&shared).failed(address, format!("{error}; {}", listen_hint(&error)));
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
