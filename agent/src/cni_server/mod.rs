//! The agent's half of the CNI plugin: addresses, the record of attachments, and the removal of what a pod leaves.
//!
//! Order is what makes it safe to be killed at any moment:
//! - ADD: the address is durable in IPAM, then the record is durable, then the reply goes out. Killed in between,
//!   the runtime sees an error and sends DEL, which finds the addresses by their handle.
//! - DEL: the pod's addresses become unreachable, then the record goes, then the addresses are released. Killed in
//!   between, the runtime sends DEL again.
//! - The datastore away: an ADD that is recorded is answered from the record, any other one is refused (an address is
//!   durable in IPAM or it is nobody's); a DEL is done, and its release waits in the record (`Releasing`).
//!
//! What it does not do: it never enters a pod's namespace (the plugin does), and it programs no route; the
//! reconciler does from the record.

mod add;
mod bounded;
mod cleanup;
mod del;
mod failure;

use std::{io, sync::Arc, time::Instant};

use cni::protocol::{AttachmentId, Failure, Reply, Request, Success, VERSION, Verb, code};
use ipam::Allocator;
use tokio::{net::UnixListener, sync::watch};
use tokio_util::sync::CancellationToken;

pub use cleanup::clean_up;

use crate::{
    attachments::Attachments,
    kernel::Kernel,
    locks::Locks,
    metrics::{CniMetrics, Metrics},
    snapshot::NodeAddresses,
    socket,
    tunnel::Tunnel,
};

/// What the CNI server works with.
#[derive(Debug)]
pub struct CniServer {
    /// This node.
    pub node: String,
    /// Addresses.
    pub allocator: Allocator,
    /// The record.
    pub attachments: Attachments,
    /// The kernel.
    pub kernel: Kernel,
    /// The node's addresses: the device that has one gives the pods' MTU.
    pub addresses: watch::Receiver<NodeAddresses>,
    /// The pods' MTU, where it is set by hand.
    pub pod_mtu: Option<u32>,
    /// The tunnel carries smaller packets than the device does.
    pub tunnel: watch::Receiver<Tunnel>,
    /// Mark of our routes.
    pub route_protocol: u8,
    /// This boot.
    pub boot_id: String,
    /// Requests about one attachment wait for each other.
    pub locks: Locks<AttachmentId>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Serves the plugin until `stop`, then finishes what is under way.
pub async fn serve(server: Arc<CniServer>, listener: UnixListener, stop: CancellationToken) {
    let answer = move |request: Request| {
        let server = server.clone();
        // A task of its own: a client that goes away must not leave half an ADD behind.
        async move {
            tokio::spawn(async move { server.answer(request).await })
                .await
                .unwrap_or_else(|e| bug(&e))
        }
    };
    socket::serve(listener, stop, answer, refuse).await;
}

impl CniServer {
    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Reply {
        if request.version != VERSION {
            let message = format!(
                "the agent speaks version {VERSION} of the CNI socket, not {}",
                request.version
            );
            let details =
                "the plugin and the agent are of different releases: install both from the same one";
            return Reply::Error(Failure {
                code: code::INCOMPATIBLE_VERSION,
                message,
                details: details.to_string(),
            });
        }
        let (verb, started) = (CniMetrics::verb(&request.verb), Instant::now());
        let done = match request.verb {
            Verb::Add(add) => self.add(add).await.map(Success::Add),
            Verb::Del(del) => self.del(del).await.map(|()| Success::Done),
            Verb::Status => Ok(Success::Done),
        };
        let reply = done.map_or_else(Reply::Error, Reply::Ok);
        self.metrics.cni.answered(verb, &reply, started.elapsed());
        reply
    }
}

fn refuse(error: io::Error) -> Reply {
    Reply::Error(failure::decoding(&error))
}

fn bug(error: &tokio::task::JoinError) -> Reply {
    tracing::error!(%error, "a CNI request ended in a bug");
    Reply::Error(failure::internal(&error.to_string()))
}
