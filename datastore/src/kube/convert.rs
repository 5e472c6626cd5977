//! One shape for what servers of different age say.
//!
//! Objects in lists come without `apiVersion` and `kind`, namespaces as `PartialObjectMetadata`, and an
//! `EndpointSlice` of `v1beta1` has its node in `topology`. `managedFields` is dropped wherever it is: nobody here uses
//! it, it is often larger than the object, and a server takes its absence from an update for no change.

use serde_json::{Map, Value};

use crate::{
    Invalid, KindInfo, Resource, Result,
    object::{full_name_of, invalid},
    types::EndpointSlice,
};

/// The label, once a topology key, that names an endpoint's node.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// An object as the current API would say it.
pub(super) fn from_server(kind: &KindInfo, mut raw: Value) -> Value {
    if let Some(object) = raw.as_object_mut() {
        object.insert("apiVersion".to_string(), Value::from(kind.api_version()));
        object.insert("kind".to_string(), Value::from(kind.kind));
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        if kind.kind == EndpointSlice::KIND.kind {
            for_each_endpoint(object, |endpoint| {
                let host = endpoint
                    .get("topology")
                    .and_then(|topology| topology.get(HOSTNAME));
                if let (Some(host), false) = (host.cloned(), endpoint.contains_key("nodeName")) {
                    endpoint.insert("nodeName".to_string(), host);
                }
            });
        }
    }
    raw
}

/// The other way round, for a server that may be old: an endpoint's node is said in both ways.
pub(super) fn to_server(kind: &KindInfo, mut object: Value) -> Value {
    if kind.kind == EndpointSlice::KIND.kind
        && let Some(slice) = object.as_object_mut()
    {
        // The version is the URL's.
        slice.remove("apiVersion");
        slice.remove("kind");
    }
    object
}

fn for_each_endpoint(slice: &mut Map<String, Value>, change: impl Fn(&mut Map<String, Value>)) {
    let endpoints = slice.get_mut("endpoints").and_then(Value::as_array_mut);
    for endpoint in endpoints.into_iter().flatten().filter_map(Value::as_object_mut) {
        change(endpoint);
    }
}

/// What our type knows of an object.
pub(super) fn known(kind: &KindInfo, raw: &Value) -> Result<Value> {
    Ok(parse(kind, raw)?)
}

/// The same for those who go on without it.
pub(super) fn parse(kind: &KindInfo, raw: &Value) -> Result<Value, Box<Invalid>> {
    (kind.parse_json)(raw.clone()).map_err(|error| invalid(kind, &full_name_of(raw), error))
}
