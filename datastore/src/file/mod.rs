//! The `file:DIR` backend: a directory of YAML manifests, shared by any number of processes, without a server.
//!
//! - `layout`: where an object lives, and which names may.
//! - `manifest`: a manifest's text (`yaml` writes it), the seal that tells our writing from a hand's, and what a hand edit means
//!   for `resourceVersion`; `lines` finds a field's line.
//! - `disk`: the lock between processes, durable writes, the revision counter.
//! - `objects` reads, `write` writes; both know no async, and [`FileBackend`] runs them where they may block.
//! - `watch` tells the differences, and `notify` when to look for them.
//!
//! What it does not do: history (a watch starts with the whole state), and access control (that is the file
//! system's: who may only read can list, get and watch).

mod disk;
mod layout;
mod lines;
mod manifest;
mod notify;
mod objects;
#[cfg(test)]
mod tests;
mod watch;
mod write;
mod yaml;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use serde_json::Value;
use tokio::sync::mpsc;

pub(crate) use self::lines::line_of;
pub(crate) use self::watch::blocking;
pub use self::yaml::to_yaml;
use self::{
    disk::{create_dir, unavailable},
    manifest::Manifest,
    notify::Notifier,
    objects::Objects,
    watch::follow,
};
use crate::{Backend, DeleteOptions, KindInfo, RawEvent, Result};

/// Events that a watch may be ahead of its reader; beyond that they coalesce.
const WATCH_BUFFER: usize = 64;

/// A directory of manifests. See the [module](self).
pub struct FileBackend {
    objects: Arc<Objects>,
    notifier: Arc<OnceLock<Arc<Notifier>>>,
}

impl FileBackend {
    /// Opens a directory; creates it where it is missing.
    pub fn open(dir: &Path) -> Result<Self> {
        let root: PathBuf = std::path::absolute(dir).map_err(|e| unavailable("open", dir, e))?;
        create_dir(&root)?;
        fs::read_dir(&root).map_err(|e| unavailable("open", &root, e))?;
        Ok(FileBackend {
            objects: Arc::new(Objects::new(root)),
            notifier: Arc::default(),
        })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Objects) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let objects = Arc::clone(&self.objects);
        blocking(move || work(&objects)).boxed()
    }
}

impl Backend for FileBackend {
    fn list(&self, kind: &'static KindInfo) -> BoxFuture<'_, Result<Vec<Value>>> {
        self.run(|objects| {
            let manifests = objects.list(kind)?;
            Ok(manifests.iter().map(|manifest| manifest.object.clone()).collect())
        })
    }

    fn get<'a>(&'a self, kind: &'static KindInfo, name: &'a str) -> BoxFuture<'a, Result<Value>> {
        let name = name.to_string();
        self.run(move |objects| objects.get(kind, &name).map(object))
    }

    fn create(&self, kind: &'static KindInfo, new: Value) -> BoxFuture<'_, Result<Value>> {
        self.run(move |objects| objects.create(kind, new).map(object))
    }

    fn update(&self, kind: &'static KindInfo, new: Value) -> BoxFuture<'_, Result<Value>> {
        self.run(move |objects| objects.update(kind, new).map(object))
    }

    fn delete<'a>(
        &'a self,
        kind: &'static KindInfo,
        name: &'a str,
        options: DeleteOptions,
    ) -> BoxFuture<'a, Result<()>> {
        let name = name.to_string();
        self.run(move |objects| objects.delete(kind, &name, &options))
    }

    fn watch(&self, kind: &'static KindInfo) -> BoxStream<'static, Result<RawEvent>> {
        let (objects, notifier) = (Arc::clone(&self.objects), Arc::clone(&self.notifier));
        let start = async move {
            let notifier = Arc::clone(notifier.get_or_init(Notifier::start));
            let (events, receiver) = mpsc::channel(WATCH_BUFFER);
            tokio::spawn(follow(objects, notifier, kind, events));
            stream::unfold(receiver, |mut receiver| async {
                receiver.recv().await.map(|event| (event, receiver))
            })
        };
        stream::once(start).flatten().boxed()
    }
}

fn object(manifest: Arc<Manifest>) -> Value {
    manifest.object.clone()
}
