//! A directory with a store on it, and waiting for what a watch tells.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use datastore::{
    Resource, Result, Store, WatchEvent,
    types::{IpPool, IpPoolSpec},
};
use futures::{StreamExt, stream::BoxStream};
use tempfile::TempDir;

/// A pool called `a`, as a person writes it.
pub(crate) const POOL: &str = "\
# pods of the lab
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata:
  name: a
spec:
  cidr: 10.10.0.0/16
";

const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a store on it.
pub(crate) struct Directory {
    pub(crate) store: Store,
    pub(crate) root: PathBuf,
    _keep: TempDir,
}

impl Directory {
    pub(crate) async fn new() -> Self {
        let keep = tempfile::tempdir().expect("a directory");
        let root = keep.path().join("datastore");
        let store = open(&root).await;
        Directory {
            store,
            root,
            _keep: keep,
        }
    }

    /// What another process sees.
    pub(crate) async fn reopen(&self) -> Store {
        open(&self.root).await
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("read")
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
}

pub(crate) async fn open(root: &Path) -> Store {
    Store::open(&format!("file:{}", root.display()))
        .await
        .expect("opened")
}

pub(crate) fn pool(name: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new("10.10.0.0/16".parse().expect("a network")))
}

/// The number in an object's version.
pub(crate) fn revision(object: &impl Resource) -> u64 {
    object
        .metadata()
        .resource_version
        .parse()
        .expect("a version without an edit is a number")
}

pub(crate) async fn next_item<T: Resource>(
    events: &mut BoxStream<'static, Result<WatchEvent<T>>>,
) -> Result<WatchEvent<T>> {
    let next = tokio::time::timeout(PATIENCE, events.next()).await;
    next.unwrap_or_else(|_| panic!("no event of {} in {PATIENCE:?}", T::KIND.kind))
        .expect("a watch has no end")
}

pub(crate) async fn next<T: Resource>(
    events: &mut BoxStream<'static, Result<WatchEvent<T>>>,
) -> WatchEvent<T> {
    next_item(events).await.expect("a watch without trouble")
}

/// Fails on an event that comes late: longer than a watch waits for a hand.
pub(crate) async fn silence<T: Resource>(events: &mut BoxStream<'static, Result<WatchEvent<T>>>) {
    if let Ok(event) = tokio::time::timeout(Duration::from_millis(400), events.next()).await {
        panic!("expected no more events, got {event:?}");
    }
}
