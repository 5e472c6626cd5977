//! The `kubernetes` backend: objects in the Kubernetes API.
//!
//! - `config`: which API server, and who we are there (kubeconfig or service account).
//! - `connection`: one HTTP client for all calls; timeouts, throttling (429), and an old server's `EndpointSlice`.
//! - `call`: a request in the API's terms (verb, kind, name) and its URL; `failure`: an answer that is no success,
//!   and the [`Error`](crate::Error) it becomes.
//! - `list` and `watch` follow a kind; `convert` makes one shape of what servers of different age say.
//! - `write`: create, update and delete.
//!
//! # How an update keeps what our types do not know
//! The object as the server has it is read (or remembered from when the caller read it), what our type does not know
//! of it is laid over the caller's object (`merge`), and then
//! - a custom resource (Calico's kinds) is written as a whole, with its `resourceVersion`: PUT, RBAC verb `update`.
//!   Not a merge patch: API servers drop the nulls in a patch's lists, and an IPAMBlock's `allocations` are such a list.
//! - a kind of Kubernetes' own (the annotations of a Node) is patched with what changed and nothing else, again with
//!   its `resourceVersion`: PATCH, RBAC verb `patch`. The rest of it belongs to others.
//!
//! Both are a compare-and-swap; whoever wrote in between makes it a conflict.
//!
//! # What it does not do
//! It keeps no cache to read from: `get` and `list` ask the server, and lists are consistent reads, not the server's
//! cache, for a node that restarts must not see an older state than the one it left. A watch holds the last good
//! state of each object in compact form, to tell differences after a relist; nothing else is kept.

mod backoff;
mod call;
mod config;
mod connection;
mod convert;
mod failure;
mod list;
mod watch;
mod write;

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use serde_json::Value;
use tokio::sync::mpsc;

use self::{
    call::{Call, Verb},
    connection::Connection,
    watch::follow,
    write::Recent,
};
use crate::{
    Backend, DeleteOptions, KindInfo, RawEvent, Result, WatchOptions,
    object::{ObjectName, refused},
};

/// Events that a watch may be ahead of its reader; beyond that the server waits.
const WATCH_BUFFER: usize = 64;

/// How long things may take. The defaults suit every cluster; tests are less patient.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For a call and its answer.
    pub request: Duration,
    /// For all the pauses that a throttling server (429) asks of one call.
    pub throttled: Duration,
    /// The server ends a watch after about this long; we follow on where it ended.
    pub watch: Duration,
    /// A watch without a word for so long is taken for dead; a server sends a bookmark every minute.
    pub idle: Duration,
    /// The first pause after a failure of a watch; it doubles with each failure.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Objects in one answer to a list.
    pub page: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request: Duration::from_secs(30),
            throttled: Duration::from_secs(20),
            watch: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
            page: 500,
        }
    }
}

/// The Kubernetes API. See the [module](self).
pub struct KubeBackend {
    connection: Arc<Connection>,
    recent: Recent,
}

impl KubeBackend {
    /// Opens `KUBECONFIG[?context=NAME]`; an empty address is the service account's API server in a pod, and the
    /// user's kubeconfig elsewhere. The server need not be there yet.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub async fn open(address: &str, limits: Limits) -> Result<Self> {
        let config = config::load(address).await?;
        Ok(KubeBackend {
            connection: Arc::new(Connection::new(config, limits)?),
            recent: Recent::default(),
        })
    }

    /// One object as the server has it.
    async fn read(&self, kind: &'static KindInfo, name: &ObjectName) -> Result<Arc<Value>> {
        let call = Call::named(Verb::Get, kind, name);
        let raw = Arc::new(convert::from_server(kind, self.connection.call(&call).await?));
        self.recent.remember(kind, &raw);
        Ok(raw)
    }
}

impl Backend for KubeBackend {
    fn list(&self, kind: &'static KindInfo) -> BoxFuture<'_, Result<Vec<Value>>> {
        list::list(&self.connection, kind).boxed()
    }

    fn get<'a>(&'a self, kind: &'static KindInfo, name: &'a str) -> BoxFuture<'a, Result<Value>> {
        async move {
            let name = ObjectName::of_full_name(kind, name).map_err(|e| refused(kind, name, e))?;
            let raw = self.read(kind, &name).await?;
            convert::known(kind, &raw)
        }
        .boxed()
    }

    fn create(&self, kind: &'static KindInfo, new: Value) -> BoxFuture<'_, Result<Value>> {
        self.create_object(kind, new).boxed()
    }

    fn update(&self, kind: &'static KindInfo, new: Value) -> BoxFuture<'_, Result<Value>> {
        self.update_object(kind, new).boxed()
    }

    fn delete<'a>(
        &'a self,
        kind: &'static KindInfo,
        name: &'a str,
        options: DeleteOptions,
    ) -> BoxFuture<'a, Result<()>> {
        self.delete_object(kind, name, options).boxed()
    }

    fn watch(&self, kind: &'static KindInfo) -> BoxStream<'static, Result<RawEvent>> {
        self.watch_selected(kind, WatchOptions::default())
    }

    fn watch_selected(
        &self,
        kind: &'static KindInfo,
        options: WatchOptions,
    ) -> BoxStream<'static, Result<RawEvent>> {
        let connection = Arc::clone(&self.connection);
        let start = async move {
            let (events, receiver) = mpsc::channel(WATCH_BUFFER);
            tokio::spawn(follow(connection, kind, options, events));
            stream::unfold(receiver, |mut receiver| async {
                receiver.recv().await.map(|event| (event, receiver))
            })
        };
        stream::once(start).flatten().boxed()
    }
}
