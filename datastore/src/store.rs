//! The one interface to stored objects: [`Store`] (typed, what callers use) over [`Backend`] (JSON, what a place
//! to store implements).
//!
//! Rules every backend keeps:
//! - A write is durable before the call returns.
//! - `update` is a compare-and-swap on `metadata.resourceVersion`; an object without one is refused.
//! - What a stored object holds beyond the fields we know is kept by `update`.
//! - A watch starts with [`RawEvent::Restarted`] and may send it again at any time (after a lost connection):
//!   it carries the whole state. Changes in between may be coalesced: only the newest state of each object counts.

use std::{marker::PhantomData, path::PathBuf, sync::Arc};

use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use serde_json::Value;

use crate::{
    Error, Invalid, KindInfo, Resource, Result, WatchOptions,
    file::{FileBackend, blocking},
    kube::{KubeBackend, Limits},
};

/// Preconditions of a delete; an empty one is not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Delete only this very object, not a later one of the same name.
    pub uid: Option<String>,
    /// Delete only if nobody has written it since.
    pub resource_version: Option<String>,
}

/// An event of a watch, in JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum RawEvent {
    /// The whole state; it replaces all that was said before.
    Restarted(Vec<Value>),
    /// An object is new or has changed.
    Applied(Value),
    /// An object is gone; its last known state.
    Deleted(Value),
    /// An object cannot be used. Its last good version, if there was one, stays in force.
    Invalid(Box<Invalid>),
}

/// An event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent<T> {
    /// The whole state; it replaces all that was said before. Always the first event.
    Restarted(Vec<T>),
    /// An object is new or has changed.
    Applied(T),
    /// An object is gone; its last known state.
    Deleted(T),
    /// An object cannot be used. Its last good version, if there was one, stays in force.
    Invalid(Box<Invalid>),
}

/// A place where objects live. `name` is `name`, or `namespace/name` for a namespaced kind.
pub trait Backend: Send + Sync + 'static {
    /// All usable objects of a kind, ordered by name; those that are not usable are logged and left out.
    fn list(&self, kind: &'static KindInfo) -> BoxFuture<'_, Result<Vec<Value>>>;
    /// One object.
    fn get<'a>(&'a self, kind: &'static KindInfo, name: &'a str) -> BoxFuture<'a, Result<Value>>;
    /// Stores a new object; gives it back with `uid`, `resourceVersion` and `creationTimestamp`.
    fn create(&self, kind: &'static KindInfo, object: Value) -> BoxFuture<'_, Result<Value>>;
    /// Replaces an object if its `resourceVersion` is still the one given; gives it back with the new one.
    fn update(&self, kind: &'static KindInfo, object: Value) -> BoxFuture<'_, Result<Value>>;
    /// Deletes an object if the preconditions hold.
    fn delete<'a>(
        &'a self,
        kind: &'static KindInfo,
        name: &'a str,
        options: DeleteOptions,
    ) -> BoxFuture<'a, Result<()>>;
    /// Follows a kind. The stream ends only with the backend; trouble shows as [`Error`] items between events.
    fn watch(&self, kind: &'static KindInfo) -> BoxStream<'static, Result<RawEvent>>;
    /// Follows the objects of a kind that are selected: one that is no longer selected is told as deleted. A backend
    /// that can leaves the rest where it is; this one looks at everything and leaves out what is not selected.
    fn watch_selected(
        &self,
        kind: &'static KindInfo,
        options: WatchOptions,
    ) -> BoxStream<'static, Result<RawEvent>> {
        options.filter(self.watch(kind))
    }
}

/// A typed handle on a [`Backend`]; cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// Gives `T::KIND` an address that lives as long as the program.
struct StaticKind<T>(PhantomData<T>);

impl<T: Resource> StaticKind<T> {
    const KIND: &'static KindInfo = &T::KIND;
}

impl Store {
    /// Opens a datastore by its address: `file:DIRECTORY`, `kubernetes` (a pod's service account, or the user's
    /// kubeconfig) or `kubernetes:KUBECONFIG[?context=NAME]`.
    pub async fn open(address: &str) -> Result<Self> {
        match address.split_once(':').unwrap_or((address, "")) {
            ("kubernetes", config) => {
                let backend = KubeBackend::open(config, Limits::default()).await?;
                Ok(Store::new(Arc::new(backend)))
            }
            ("file", dir) if !dir.is_empty() => {
                let dir = PathBuf::from(dir);
                let backend = blocking(move || FileBackend::open(&dir)).await?;
                Ok(Store::new(Arc::new(backend)))
            }
            _ => Err(Error::UnknownStore {
                given: address.to_string(),
            }),
        }
    }

    /// A store on a backend of the caller's (tests, simulations).
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Store { backend }
    }

    /// The backend, for callers that work on kinds known only at run time (`routectl get KIND`).
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// All usable objects of a kind, ordered by name.
    pub async fn list<T: Resource>(&self) -> Result<Vec<T>> {
        self.backend
            .list(StaticKind::<T>::KIND)
            .await?
            .into_iter()
            .map(typed)
            .collect()
    }

    /// One object; `name` is `namespace/name` for a namespaced kind.
    pub async fn get<T: Resource>(&self, name: &str) -> Result<T> {
        typed(self.backend.get(StaticKind::<T>::KIND, name).await?)
    }

    /// Stores a new object; gives it back as stored.
    pub async fn create<T: Resource>(&self, object: &T) -> Result<T> {
        typed(
            self.backend
                .create(StaticKind::<T>::KIND, untyped(object)?)
                .await?,
        )
    }

    /// Compare-and-swap on `resourceVersion`; gives the object back as stored.
    pub async fn update<T: Resource>(&self, object: &T) -> Result<T> {
        typed(
            self.backend
                .update(StaticKind::<T>::KIND, untyped(object)?)
                .await?,
        )
    }

    /// Deletes an object if the preconditions hold.
    pub async fn delete<T: Resource>(&self, name: &str, options: DeleteOptions) -> Result<()> {
        self.backend.delete(StaticKind::<T>::KIND, name, options).await
    }

    /// Follows a kind.
    pub fn watch<T: Resource>(&self) -> BoxStream<'static, Result<WatchEvent<T>>> {
        self.backend
            .watch(StaticKind::<T>::KIND)
            .map(|event| event.and_then(typed_event))
            .boxed()
    }

    /// Follows the objects of a kind that are selected (the pods of one node).
    pub fn watch_selected<T: Resource>(
        &self,
        options: WatchOptions,
    ) -> BoxStream<'static, Result<WatchEvent<T>>> {
        self.backend
            .watch_selected(StaticKind::<T>::KIND, options)
            .map(|event| event.and_then(typed_event))
            .boxed()
    }
}

fn untyped<T: Resource>(object: &T) -> Result<Value> {
    object
        .validate()
        .map_err(|e| invalid::<T>(&object.metadata().name, e.field, e.message))?;
    serde_json::to_value(object)
        .map_err(|e| invalid::<T>(&object.metadata().name, String::new(), e.to_string()))
}

fn typed<T: Resource>(value: Value) -> Result<T> {
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string();
    serde_json::from_value(value).map_err(|e| invalid::<T>(&name, String::new(), e.to_string()))
}

fn typed_event<T: Resource>(event: RawEvent) -> Result<WatchEvent<T>> {
    Ok(match event {
        RawEvent::Restarted(all) => WatchEvent::Restarted(all.into_iter().map(typed).collect::<Result<_>>()?),
        RawEvent::Applied(object) => WatchEvent::Applied(typed(object)?),
        RawEvent::Deleted(object) => WatchEvent::Deleted(typed(object)?),
        RawEvent::Invalid(invalid) => WatchEvent::Invalid(invalid),
    })
}

fn invalid<T: Resource>(name: &str, field: String, message: String) -> Error {
    let name = name.to_string();
    Error::from(Box::new(Invalid {
        kind: T::KIND.kind,
        name,
        path: None,
        line: None,
        field,
        message,
    }))
}
