//! A kind of object, followed: the newest state of all its objects, as a value that readers look at whenever they
//! like. No queue: a slow reader sees fewer states, never an old one.

use std::{collections::BTreeMap, sync::Arc};

use datastore::{Invalid, Resource, Store, WatchEvent};
use futures::StreamExt;
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
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Objects {
            synced: false,
            all: Arc::default(),
            invalid: Arc::default(),
        }
    }
}

/// Follows a kind until `stop`.
pub fn follow<T: Resource>(
    store: &Store,
    metrics: &WatchMetrics,
    stop: CancellationToken,
) -> watch::Receiver<Objects<T>> {
    let (sender, receiver) = watch::channel(Objects::default());
    let mut events = store.watch::<T>();
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
