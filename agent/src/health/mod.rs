//! Is the agent alive, and can it serve pods? What `/livez` and `/readyz` say, and what the network configuration
//! waits for.
//!
//! *Live* is about the agent itself: its tasks go round. Each has a [`Pulse`] that it renews while it can do its work;
//! a process that is up while its tasks hang is not live, and a restart mends it. *Ready* is about the node: what a
//! pod needs is in place. A restart does not mend what is missing then, so nothing that is outside the agent counts
//! for live. Readiness asks only for what must have been reached once: a datastore that goes away later does not take
//! it back, for the pods here go on working.

mod monitor;
mod pulse;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
    time::timeout,
};

pub use self::{
    monitor::{Observed, start as start_monitor},
    pulse::Pulse,
};
use crate::{install::publish::Publication, reconciler::View, snapshot::NodeAddresses};

/// A task that has not renewed its pulse for so long hangs.
const PULSE_LIMIT: Duration = Duration::from_secs(30);

/// How long our own CNI socket may take to answer.
const SOCKET_LIMIT: Duration = Duration::from_secs(2);

/// Looks at the agent from outside its tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    /// Renewed by the reconciler.
    pub reconciler: Pulse,
    /// What the monitor saw.
    pub observed: watch::Receiver<Observed>,
    /// What the reconciler has done last.
    pub view: watch::Receiver<Arc<View>>,
    /// The socket that the plugin calls.
    pub cni_socket: PathBuf,
    /// What has become of the network configuration.
    pub publication: watch::Receiver<Publication>,
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    checks: Vec<(&'static str, Result<(), String>)>,
}

impl Report {
    /// True where nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|(_, outcome)| outcome.is_ok())
    }

    fn add(&mut self, name: &'static str, outcome: Result<(), String>) {
        self.checks.push((name, outcome));
    }
}

/// A line a check, as the API server's own endpoints have them.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, outcome) in &self.checks {
            match outcome {
                Ok(()) => writeln!(f, "[+]{name} ok")?,
                Err(reason) => writeln!(f, "[-]{name} {reason}")?,
            }
        }
        Ok(())
    }
}

impl Health {
    /// Do the agent's tasks go round?
    pub fn live(&self) -> Report {
        let mut report = Report::default();
        report.add("reconciler", beats(self.reconciler.last()));
        report.add("kernel", beats(self.observed.borrow().kernel_answered));
        report
    }

    /// Is everything in place that a pod needs?
    pub async fn serving(&self) -> Report {
        let mut report = Report::default();
        let (waiting_for, addresses) = {
            let view = self.view.borrow();
            (view.waiting_for.join(", "), view.addresses)
        };
        let (routes_synced, forwarding) = {
            let observed = self.observed.borrow();
            (observed.routes_synced, observed.forwarding.clone())
        };
        report.add(
            "datastore",
            met(waiting_for.is_empty(), || {
                format!("waiting for the first list of {waiting_for}")
            }),
        );
        report.add(
            "node-address",
            met(addresses != NodeAddresses::default(), || {
                "no address of this node is known yet: see --node-ip, and the log".to_string()
            }),
        );
        report.add(
            "routes",
            met(routes_synced, || {
                "the kernel's routes have not been brought in line yet".to_string()
            }),
        );
        report.add("forwarding", forwarding);
        report.add("cni-socket", self.ask_socket().await);
        report
    }

    /// Can the node take pods: is all in place, and does the runtime know of it?
    pub async fn ready(&self) -> Report {
        let mut report = self.serving().await;
        match &*self.publication.borrow() {
            Publication::NotWanted => {}
            Publication::Waiting => report.add("cni-conf", Err("not written yet".to_string())),
            Publication::Written => report.add("cni-conf", Ok(())),
            Publication::Failed(reason) => report.add("cni-conf", Err(reason.clone())),
        }
        report
    }

    /// Connects and asks nothing: a server that goes round notices, and hangs up.
    async fn ask_socket(&self) -> Result<(), String> {
        let ask = async {
            let mut stream = UnixStream::connect(&self.cni_socket).await?;
            stream.shutdown().await?;
            stream.read(&mut [0]).await
        };
        let describe = |error: &dyn std::fmt::Display| format!("{}: {error}", self.cni_socket.display());
        match timeout(SOCKET_LIMIT, ask).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err(describe(&"nobody takes connections")),
        }
    }
}

fn met(condition: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(reason()) }
}

fn beats(last: Instant) -> Result<(), String> {
    let age = last.elapsed();
    met(age < PULSE_LIMIT, || {
        format!("no sign of life for {} s", age.as_secs())
    })
}

#[cfg(test)]
mod tests;
