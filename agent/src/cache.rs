//! A kind of object, followed: the newest state of all its objects, as a value that readers look at whenever they
//! like. No queue: a slow reader sees fewer states, never an old one.

use std::{collections::BTreeMap, sync::Arc};

use datastore::{Error, Invalid, Resource, Store, WatchEvent, WatchOptions, types::Pod};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::WatchMetrics;

/// All objects of a kind, by `name` or `namespace/name`, and those that cannot be used.
#[derive(Debug, Clone)]
pub struct Objects<T> {
    /// False until the first full list has arrived.
    pub synced: bool,
    /// The usable objects; where an object has become unusable, its last good version.
    pub all: Arc<BTreeMap<String, T>>,
    /// What is wrong with the others.
    pub invalid: Arc<BTreeMap<String, Invalid>>,
    /// Why the datastore does not let us read them, if it does not.
    pub refused: Option<String>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Objects {
            synced: false,
            all: Arc::default(),
            invalid: Arc::default(),
            refused: None,
        }
    }
}

/// Follows a kind until `stop`.
pub fn follow<T: Resource>(
    store: &Store,
    metrics: &WatchMetrics,
    stop: CancellationToken,
) -> watch::Receiver<Objects<T>> {
    keep(store.watch::<T>(), metrics, stop)
}

/// Follows the objects of a kind that are in one namespace; of the others it is not even asked.
pub fn follow_in<T: Resource>(
    namespace: &str,
    store: &Store,
    metrics: &WatchMetrics,
    stop: CancellationToken,
) -> watch::Receiver<Objects<T>> {
    let selected = WatchOptions::default().in_namespace(namespace);
    keep(store.watch_selected::<T>(selected), metrics, stop)
}

/// Follows the pods that are scheduled to one node; the cluster's others are neither sent nor kept.
pub fn follow_pods_of(
    node: &str,
    store: &Store,
    metrics: &WatchMetrics,
    stop: CancellationToken,
) -> watch::Receiver<Objects<Pod>> {
    let selected = WatchOptions::default().field("spec.nodeName", node);
    keep(store.watch_selected::<Pod>(selected), metrics, stop)
}

fn keep<T: Resource>(
    mut events: BoxStream<'static, datastore::Result<WatchEvent<T>>>,
    metrics: &WatchMetrics,
    stop: CancellationToken,
) -> watch::Receiver<Objects<T>> {
    let (sender, receiver) = watch::channel(Objects::default());
    let metrics = metrics.clone();
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    if matches!(event, WatchEvent::Restarted(_)) {
                        metrics.restarted(T::KIND.kind);
                    }
                    sender.send_modify(|objects| apply(objects, event));
                }
                Some(Err(error)) => {
                    metrics.failed(T::KIND.kind);
                    tracing::warn!(kind = T::KIND.kind, %error, "watch failed; it goes on by itself");
                    if matches!(error, Error::Forbidden { .. }) {
                        sender.send_modify(|objects| objects.refused = Some(error.to_string()));
                    }
                }
                None => return,
            }
        }
    });
    receiver
}

fn apply<T: Resource>(objects: &mut Objects<T>, event: WatchEvent<T>) {
    match event {
        WatchEvent::Restarted(all) => {
            objects.all = Arc::new(all.into_iter().map(|object| (key(&object), object)).collect());
            objects.invalid = Arc::default();
            objects.synced = true;
            objects.refused = None;
        }
        WatchEvent::Applied(object) => {
            forget_invalid(objects, &key(&object));
            Arc::make_mut(&mut objects.all).insert(key(&object), object);
        }
        WatchEvent::Deleted(object) => {
            forget_invalid(objects, &key(&object));
            Arc::make_mut(&mut objects.all).remove(&key(&object));
        }
        WatchEvent::Invalid(invalid) => {
            tracing::warn!(%invalid, "object cannot be used; its last good version stays in force");
            Arc::make_mut(&mut objects.invalid).insert(invalid.name.clone(), *invalid);
        }
    }
}

fn forget_invalid<T>(objects: &mut Objects<T>, name: &str) {
    if objects.invalid.contains_key(name) {
        Arc::make_mut(&mut objects.invalid).remove(name);
    }
}

fn key<T: Resource>(object: &T) -> String {
    let metadata = object.metadata();
    if T::KIND.namespaced {
        format!("{}/{}", metadata.namespace, metadata.name)
    } else {
        metadata.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datastore::types::Node;

    #[test]
    fn a_broken_object_keeps_its_last_good_version() {
        let mut objects = Objects::default();
        apply(
            &mut objects,
            WatchEvent::Restarted(vec![Node::new("a"), Node::new("b")]),
        );
        let invalid = Invalid {
            kind: "Node",
            name: "a".into(),
            path: None,
            line: None,
            field: String::new(),
            message: String::new(),
        };
        apply(&mut objects, WatchEvent::Invalid(Box::new(invalid)));
        assert!(objects.all.contains_key("a") && objects.invalid.contains_key("a"));
        apply(&mut objects, WatchEvent::Applied(Node::new("a")));
        assert!(objects.invalid.is_empty(), "a good version ends the trouble");
        apply(&mut objects, WatchEvent::Deleted(Node::new("b")));
        assert_eq!(objects.all.keys().collect::<Vec<_>>(), ["a"]);
    }
}
