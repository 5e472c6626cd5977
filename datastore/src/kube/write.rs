//! Create, update and delete. The [module](super) says how an update keeps what our types do not know.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value, json};

use super::{
    KubeBackend,
    call::{Call, Verb},
    convert,
};
use crate::{
    DeleteOptions, Error, KindInfo, Resource, Result,
    merge::keep_unknown,
    object::{
        ObjectName, check_is_new, check_precondition, expected_version, full_name_of, metadata_of, refused,
        set_metadata,
    },
    types::{CALICO_GROUP, Secret},
};

/// Objects that are remembered.
const REMEMBERED: usize = 32;

/// The objects that were read last, as the server has them: most updates follow a read of the same object, and need
/// not ask for it again. What is out of date here costs a conflict, which it would be anyway.
#[derive(Default)]
pub(super) struct Recent(Mutex<VecDeque<(&'static str, Arc<Value>)>>);

impl Recent {
    pub(super) fn remember(&self, kind: &'static KindInfo, raw: &Arc<Value>) {
        // Passwords are not kept longer than they are used.
        if kind.kind == Secret::KIND.kind {
            return;
        }
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = full_name_of(raw);
        recent.retain(|(plural, old)| *plural != kind.plural || full_name_of(old) != name);
        recent.push_front((kind.plural, Arc::clone(raw)));
        recent.truncate(REMEMBERED);
    }

    /// The object in this very version.
    fn recall(&self, kind: &KindInfo, name: &str, version: &str) -> Option<Arc<Value>> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().find(|(plural, raw)| {
            *plural == kind.plural
                && full_name_of(raw) == name
                && metadata_of(raw, "resourceVersion") == version
        });
        found.map(|(_, raw)| Arc::clone(raw))
    }
}

impl KubeBackend {
    pub(super) async fn create_object(&self, kind: &'static KindInfo, object: Value) -> Result<Value> {
        let name = ObjectName::of_object(kind, &object)?;
        check_is_new(kind, &name.full(), &object)?;
        let call = Call::of_kind(Verb::Create, kind, &name.namespace);
        self.store(call.body(convert::to_server(kind, object))).await
    }

    pub(super) async fn update_object(&self, kind: &'static KindInfo, mut object: Value) -> Result<Value> {
        let name = ObjectName::of_object(kind, &object)?;
        let full_name = name.full();
        let expected = expected_version(kind, &full_name, &object)?;
        let stored = match self.recent.recall(kind, &full_name, &expected) {
            Some(stored) => stored,
            None => self.read(kind, &name).await?,
        };
        check_version(kind, &full_name, &expected, &stored)?;
        let uid = metadata_of(&object, "uid").to_string();
        if !uid.is_empty() {
            check_precondition(kind, &full_name, "uid", &uid, metadata_of(&stored, "uid"))?;
        }
        for field in ["uid", "creationTimestamp"] {
            set_metadata(&mut object, field, metadata_of(&stored, field));
        }
        let known = convert::known(kind, &stored)?;
        // What the server itself refuses only since Kubernetes 1.25.
        (kind.check_update)(&known, &object).map_err(|e| refused(kind, &full_name, e))?;
        let call = if kind.group == CALICO_GROUP {
            keep_unknown(&mut object, &stored, &known);
            Call::named(Verb::Update, kind, &name).body(object)
        } else {
            let mut patch = difference(&known, &object);
            let metadata = json!({"resourceVersion": expected, "uid": metadata_of(&stored, "uid")});
            lay_over(&mut patch, json!({ "metadata": metadata }));
            Call::named(Verb::Patch, kind, &name).body(patch)
        };
        match self.store(call).await {
            Err(Error::Conflict { .. }) => Err(self.conflict(kind, &name, &expected, None).await),
            other => other,
        }
    }

    pub(super) async fn delete_object(
        &self,
        kind: &'static KindInfo,
        name: &str,
        options: DeleteOptions,
    ) -> Result<()> {
        let name = ObjectName::of_full_name(kind, name).map_err(|e| refused(kind, name, e))?;
        let mut preconditions = Map::new();
        if let Some(uid) = &options.uid {
            preconditions.insert("uid".to_string(), Value::from(uid.as_str()));
        }
        if let Some(version) = &options.resource_version {
            preconditions.insert("resourceVersion".to_string(), Value::from(version.as_str()));
        }
        let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
        let call = Call::named(Verb::Delete, kind, &name).body(body);
        match self.connection.call(&call).await {
            Err(Error::Conflict { .. }) => {
                let expected = options.resource_version.unwrap_or_default();
                Err(self
                    .conflict(kind, &name, &expected, options.uid.as_deref())
                    .await)
            }
            other => other.map(|_| ()),
        }
    }

    /// Makes a call whose answer is the object as stored.
    async fn store(&self, call: Call) -> Result<Value> {
        let raw = Arc::new(convert::from_server(
            call.kind,
            self.connection.call(&call).await?,
        ));
        self.recent.remember(call.kind, &raw);
        convert::known(call.kind, &raw)
    }

    /// What a conflict was about: the server only says that there was one, and says so too of an object that is gone.
    async fn conflict(
        &self,
        kind: &'static KindInfo,
        name: &ObjectName,
        expected: &str,
        uid: Option<&str>,
    ) -> Error {
        let stored = match self.read(kind, name).await {
            Ok(stored) => stored,
            Err(error) if error.is_not_found() => return error,
            Err(_) => return changed(kind, name, expected, "another version"),
        };
        let found_uid = metadata_of(&stored, "uid");
        match uid {
            Some(uid) if uid != found_uid => Error::Conflict {
                kind: kind.kind,
                name: name.full(),
                expected: format!("uid {uid}"),
                found: found_uid.to_string(),
            },
            _ => changed(kind, name, expected, metadata_of(&stored, "resourceVersion")),
        }
    }
}

fn check_version(kind: &KindInfo, name: &str, expected: &str, stored: &Value) -> Result<()> {
    let found = metadata_of(stored, "resourceVersion");
    check_precondition(kind, name, "resourceVersion", expected, found)
}

fn changed(kind: &KindInfo, name: &ObjectName, expected: &str, found: &str) -> Error {
    Error::Conflict {
        kind: kind.kind,
        name: name.full(),
        expected: format!("resourceVersion {expected}"),
        found: found.to_string(),
    }
}

/// The JSON merge patch (RFC 7396) that makes `new` of `old`.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before @ Value::Object(_)) if value.is_object() => {
                patch.insert(key.clone(), difference(before, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// Puts what `top` says over `bottom`, map by map.
fn lay_over(bottom: &mut Value, top: Value) {
    match (bottom, top) {
        (Value::Object(bottom), Value::Object(top)) => {
            for (key, value) in top {
                lay_over(bottom.entry(key).or_insert(Value::Null), value);
            }
        }
        (bottom, top) => *bottom = top,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_changed_and_nothing_else() {
        let old =
            json!({"metadata": {"annotations": {"a": "1", "b": "2"}, "name": "n"}, "spec": {"x": [1, 2]}});
        let new = json!({"metadata": {"annotations": {"a": "1", "c": "3"}, "name": "n"}, "spec": {"x": [2]}});
        assert_eq!(
            difference(&old, &new),
            json!({"metadata": {"annotations": {"b": null, "c": "3"}}, "spec": {"x": [2]}})
        );
        assert_eq!(difference(&old, &old), json!({}));
    }

    #[test]
    fn preconditions_are_laid_over_the_patch() {
        let mut patch = json!({"metadata": {"labels": null}});
        lay_over(&mut patch, json!({"metadata": {"resourceVersion": "7"}}));
        assert_eq!(
            patch,
            json!({"metadata": {"labels": null, "resourceVersion": "7"}})
        );
    }

    #[test]
    fn only_the_version_asked_for_is_recalled_and_old_ones_are_forgotten() {
        let recent = Recent::default();
        let kind = const { &crate::types::IpPool::KIND };
        let raw = |name: &str, version: &str| {
            Arc::new(json!({"metadata": {"name": name, "resourceVersion": version}}))
        };
        recent.remember(kind, &raw("a", "1"));
        recent.remember(kind, &raw("a", "2"));
        assert!(recent.recall(kind, "a", "1").is_none());
        assert!(recent.recall(kind, "a", "2").is_some());
        for number in 0..REMEMBERED {
            recent.remember(kind, &raw(&number.to_string(), "1"));
        }
        assert!(recent.recall(kind, "a", "2").is_none());
    }
}
