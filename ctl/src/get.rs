//! `routectl get`: objects of the datastore, of a kind known only at run time.

use anyhow::{Result, bail};
use datastore::{KindInfo, Store, find_kind, kinds};
use serde_json::{Value, json};

use crate::{
    columns,
    output::{Format, for_programs},
};

/// Prints the objects of a kind, or one of them.
pub(crate) async fn get(
    store: &Store,
    kind: &str,
    name: Option<&str>,
    namespace: Option<&str>,
    format: Format,
) -> Result<String> {
    let kind = kind_of(kind)?;
    let found = match name {
        Some(name) => {
            store
                .backend()
                .get(kind, &full_name(kind, name, namespace)?)
                .await?
        }
        None => json!({"apiVersion": "v1", "kind": "List", "items": list(store, kind, namespace).await?}),
    };
    if let Some(text) = for_programs(format, &found)? {
        return Ok(text);
    }
    let objects = match found {
        Value::Object(mut list) if name.is_none() => match list.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        object => vec![object],
    };
    if objects.is_empty() {
        // Not where a program would take it for an object.
        eprintln!("There is no {}.", kind.kind);
        return Ok(String::new());
    }
    columns::table(kind, objects, format == Format::Wide)
}

/// The kind of a name in any of its forms.
pub(crate) fn kind_of(name: &str) -> Result<&'static KindInfo> {
    let Some(kind) = find_kind(name) else {
        let known: Vec<_> = kinds().map(|kind| kind.plural).collect();
        bail!(
            "there is no kind \"{name}\": expected one of {}",
            known.join(", ")
        );
    };
    Ok(kind)
}

async fn list(store: &Store, kind: &'static KindInfo, namespace: Option<&str>) -> Result<Vec<Value>> {
    if namespace.is_some() && !kind.namespaced {
        bail!("{} is cluster-wide: leave --namespace out", kind.kind);
    }
    let mut objects = store.backend().list(kind).await?;
    if let Some(namespace) = namespace {
        objects.retain(|object| {
            object.pointer("/metadata/namespace").and_then(Value::as_str) == Some(namespace)
        });
    }
    Ok(objects)
}

/// `NAME`, or `NAMESPACE/NAME` for a namespaced kind.
pub(crate) fn full_name(kind: &KindInfo, name: &str, namespace: Option<&str>) -> Result<String> {
    Ok(match (kind.namespaced, namespace) {
        (false, None) => name.to_string(),
        (false, Some(_)) => bail!("{} is cluster-wide: leave --namespace out", kind.kind),
        (true, Some(namespace)) => format!("{namespace}/{name}"),
        (true, None) if name.contains('/') => name.to_string(),
        (true, None) => bail!(
            "{} lives in a namespace: give NAMESPACE/{name}, or --namespace",
            kind.kind
        ),
    })
}
