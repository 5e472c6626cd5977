//! `routectl apply`: the datastore says what the manifests say.
//!
//! Two passes. The first checks everything that can be known before: every rule of every kind, the rules between an
//! object and the one it takes the place of, pools that overlap. Only if all is in order, the second writes; an object that
//! changes in between is read again and merged again.
//!
//! What a manifest says of the spec takes the place of what is stored; fields that the type does not know stay. Labels
//! and annotations are added to those there are. A manifest with a `resourceVersion` (from `get -o yaml`) is an edit of
//! that very version: it is refused if there is a newer one, and its labels and annotations are all there are.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use datastore::{
    Error, FieldError, Resource, Store,
    types::{CALICO_GROUP, IpPool},
};
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::{
    input::{Input, guard, refuse},
    output::{Done, Format, Outcome},
};

/// How often an object is read again because it has changed meanwhile.
const ATTEMPTS: usize = 20;

/// An object that is in order.
struct Wanted {
    input: Input,
    /// What the manifest says: what the type knows, and every field beyond it.
    object: Value,
    /// True where it says something that the type does not know.
    has_unknown: bool,
}

/// Makes the datastore say what the manifests say.
pub(crate) async fn apply(store: &Store, inputs: Vec<Input>, force: bool, format: Format) -> Result<String> {
    let wanted = check(store, inputs, force).await?;
    let mut done = Done::new(format);
    for wanted in &wanted {
        let outcome = write(store, wanted)
            .await
            .map_err(|error| anyhow!("{}: {error}{}", wanted.input.source, done.so_far()))?;
        done.note(wanted.input.document.kind, &wanted.input.document.name, outcome);
    }
    done.finish()
}

/// The first pass: what is to be written, or every problem there is.
async fn check(store: &Store, inputs: Vec<Input>, force: bool) -> Result<Vec<Wanted>> {
    let (mut wanted, mut problems) = (Vec::new(), Vec::new());
    let mut places = BTreeMap::new();
    for input in inputs {
        let document = &input.document;
        let place = format!("{}, document {}", input.source, document.number);
        let first = places.insert((document.kind.kind, document.name.clone()), place);
        if let Some(first) = first {
            let message = format!("given twice: it is also in {first}");
            problems.push(input.complain(FieldError::new("metadata.name", message)));
        }
        let guarded = guard(document.kind, &document.name, force);
        problems.extend(
            guarded
                .err()
                .map(|text| input.complain(FieldError::new("", text))),
        );
        match document.to_store() {
            Ok(object) => {
                let unknown = document.unknown_fields();
                for field in &unknown {
                    eprintln!("warning: {}", input.complain_at(field));
                }
                wanted.push(Wanted {
                    has_unknown: !unknown.is_empty(),
                    object,
                    input,
                });
            }
            Err(error) => problems.push(input.complain_at(&error)),
        }
    }
    refuse(&problems)?;
    problems.extend(check_against_stored(store, &wanted).await?);
    refuse(&problems)?;
    Ok(wanted)
}

/// What is wrong with the objects beside those that are stored.
async fn check_against_stored(store: &Store, wanted: &[Wanted]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut pools: BTreeMap<String, IpNet> = BTreeMap::new();
    if wanted.iter().any(|wanted| wanted.pool().is_some()) {
        let stored = store.list::<IpPool>().await?;
        pools.extend(
            stored
                .into_iter()
                .map(|pool| (pool.metadata.name, pool.spec.cidr)),
        );
    }
    for wanted in wanted {
        let document = &wanted.input.document;
        if let Some(stored) = wanted.stored(store).await? {
            let checked = (document.kind.check_update)(&stored, &wanted.merged(&stored));
            problems.extend(checked.err().map(|error| wanted.input.complain(error)));
        } else if let Some(cidr) = wanted.pool() {
            let overlaps = |other: &IpNet| other.contains(&cidr) || cidr.contains(other);
            if let Some((name, other)) = pools.iter().find(|(_, other)| overlaps(other)) {
                let message = format!("{cidr} overlaps {other} of IPPool \"{name}\"");
                problems.push(wanted.input.complain(FieldError::new("spec.cidr", message)));
            }
            pools.insert(document.name.clone(), cidr);
        }
    }
    Ok(problems)
}

/// The second pass, for one object.
async fn write(store: &Store, wanted: &Wanted) -> Result<Outcome> {
    let (backend, kind) = (store.backend(), wanted.input.document.kind);
    for _ in 0..ATTEMPTS {
        let Some(stored) = wanted.stored(store).await? else {
            match backend.create(kind, wanted.new_object()).await {
                Err(Error::AlreadyExists { .. }) => continue,
                created => return Ok(created.map(|_| Outcome::Created)?),
            }
        };
        let object = wanted.merged(&stored);
        if !wanted.has_unknown && object == stored {
            return Ok(Outcome::Unchanged);
        }
        match backend.update(kind, object).await {
            Err(Error::Conflict { .. }) if wanted.version().is_none() => continue,
            Err(error @ Error::Conflict { .. }) => {
                bail!("{error}: get it again, or leave metadata.resourceVersion out")
            }
            // It went away meanwhile.
            Err(Error::NotFound { .. }) => continue,
            updated => {
                let same = metadata(&updated?, "resourceVersion") == metadata(&stored, "resourceVersion");
                return Ok(if same {
                    Outcome::Unchanged
                } else {
                    Outcome::Configured
                });
            }
        }
    }
    let name = &wanted.input.document.name;
    bail!(
        "{} \"{name}\" is changed by others all the time: {ATTEMPTS} attempts were in vain",
        kind.kind
    )
}

impl Wanted {
    /// The range, of a pool.
    fn pool(&self) -> Option<IpNet> {
        let is_pool = self.input.document.kind.kind == IpPool::KIND.kind;
        let cidr = self.object.pointer("/spec/cidr").filter(|_| is_pool)?;
        cidr.as_str()?.parse().ok()
    }

    /// The version that the manifest is an edit of.
    fn version(&self) -> Option<&str> {
        metadata(&self.object, "resourceVersion").filter(|version| !version.is_empty())
    }

    async fn stored(&self, store: &Store) -> Result<Option<Value>> {
        let document = &self.input.document;
        match store.backend().get(document.kind, &document.name).await {
            Ok(stored) => Ok(Some(stored)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As it is to be where there is none: what a datastore gives an object is left out.
    fn new_object(&self) -> Value {
        let mut object = self.object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in [
                "uid",
                "resourceVersion",
                "creationTimestamp",
                "deletionTimestamp",
                "managedFields",
            ] {
                metadata.remove(field);
            }
        }
        object
    }

    /// As it is to be in the place of a stored one.
    fn merged(&self, stored: &Value) -> Value {
        let mut object = self.new_object();
        let raw = &self.input.document.raw;
        if self.input.document.kind.group != CALICO_GROUP
            && let (Some(object), Some(stored)) = (object.as_object_mut(), stored.as_object())
        {
            // Of Kubernetes' objects others own the parts that the manifest does not speak of.
            for (part, stored) in stored {
                if raw.get(part).is_none() {
                    object.insert(part.clone(), stored.clone());
                }
            }
        }
        let (Some(new), Some(old)) = (
            object.get_mut("metadata").and_then(Value::as_object_mut),
            stored.get("metadata").and_then(Value::as_object),
        ) else {
            return object;
        };
        if self.version().is_none() {
            for field in ["labels", "annotations"] {
                add(new, old, field);
            }
        }
        for (field, value) in old {
            new.entry(field.clone())
                .or_insert_with(|| match metadata(&self.object, field) {
                    // An edit of that very object, in that very version.
                    Some(given) if matches!(field.as_str(), "uid" | "resourceVersion") => Value::from(given),
                    _ => value.clone(),
                });
        }
        if self.version().is_some() {
            for field in ["labels", "annotations"] {
                if metadata_value(&self.object, field).is_none() {
                    new.remove(field);
                }
            }
        }
        object
    }
}

/// Adds the entries of a stored map that the new one does not have.
fn add(new: &mut Map<String, Value>, old: &Map<String, Value>, field: &str) {
    let Some(old) = old.get(field).and_then(Value::as_object) else {
        return;
    };
    let new = new
        .entry(field)
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut();
    if let Some(new) = new {
        for (key, value) in old {
            new.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn metadata_value<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(field)
}

fn metadata<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    metadata_value(object, field)?.as_str()
}
