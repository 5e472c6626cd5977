//! Which objects of a kind a watch is about.
//!
//! Equality only, of labels and of fields: what every API server can select by. Of a custom resource servers select
//! by `metadata.name` and `metadata.namespace`, of a pod also by `spec.nodeName`.

use std::collections::BTreeSet;

use futures::{StreamExt, future, stream::BoxStream};
use serde_json::Value;

use crate::{
    RawEvent, Result,
    object::{full_name_of, metadata_of},
};

/// What a watch is about; the default is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Only objects of this namespace. Who may read no other (secrets) asks for it.
    pub namespace: Option<String>,
    /// Only objects with these fields (`spec.nodeName`).
    pub fields: Vec<(&'static str, String)>,
    /// Only objects with these labels.
    pub labels: Vec<(String, String)>,
}

impl WatchOptions {
    /// Only objects of this namespace.
    pub fn in_namespace(self, namespace: impl Into<String>) -> Self {
        WatchOptions {
            namespace: Some(namespace.into()),
            ..self
        }
    }

    /// Only objects with this field.
    pub fn field(mut self, path: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((path, value.into()));
        self
    }

    /// Only objects with this label.
    pub fn label(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((label.into(), value.into()));
        self
    }

    /// Is an object selected?
    pub fn selects(&self, object: &Value) -> bool {
        let namespace = self.namespace.as_deref();
        let has_field = |(path, value): &(&str, String)| field(object, path) == value;
        let has_label = |(label, value): &(String, String)| {
            let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
            labels.and_then(|labels| labels.get(label)) == Some(&Value::from(value.as_str()))
        };
        namespace.is_none_or(|namespace| metadata_of(object, "namespace") == namespace)
            && self.fields.iter().all(has_field)
            && self.labels.iter().all(has_label)
    }

    /// Leaves out of a watch what is not selected.
    pub(crate) fn filter(
        self,
        events: BoxStream<'static, Result<RawEvent>>,
    ) -> BoxStream<'static, Result<RawEvent>> {
        if self == WatchOptions::default() {
            return events;
        }
        let mut told = BTreeSet::new();
        events
            .filter_map(move |event| {
                future::ready(match event {
                    Ok(event) => self.select(&mut told, event).map(Ok),
                    Err(error) => Some(Err(error)),
                })
            })
            .boxed()
    }

    /// The event for a reader who was told of the objects in `told`.
    fn select(&self, told: &mut BTreeSet<String>, event: RawEvent) -> Option<RawEvent> {
        match event {
            RawEvent::Restarted(mut all) => {
                all.retain(|object| self.selects(object));
                *told = all.iter().map(full_name_of).collect();
                Some(RawEvent::Restarted(all))
            }
            RawEvent::Applied(object) if self.selects(&object) => {
                told.insert(full_name_of(&object));
                Some(RawEvent::Applied(object))
            }
            RawEvent::Applied(object) | RawEvent::Deleted(object) => told
                .remove(&full_name_of(&object))
                .then_some(RawEvent::Deleted(object)),
            // Nobody can say whether it would be.
            RawEvent::Invalid(invalid) => Some(RawEvent::Invalid(invalid)),
        }
    }
}

/// The text at `spec.nodeName`; empty where there is none.
fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    let found = path.split('.').try_fold(object, |at, key| at.get(key));
    found.and_then(Value::as_str).unwrap_or_default()
}
