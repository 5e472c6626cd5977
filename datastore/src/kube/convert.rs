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

/// The other way round, for a server that may be old: a slice's version is that of the URL. (An endpoint's node is not
/// said in the old way: nobody here writes endpoints but tests.)
pub(super) fn to_server(kind: &KindInfo, mut object: Value) -> Value {
    if kind.kind == EndpointSlice::KIND.kind
        && let Some(slice) = object.as_object_mut()
    {
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
    let mut said = raw.clone();
    drop_nulls(&mut said);
    (kind.parse_json)(said).map_err(|error| invalid(kind, &full_name_of(raw), error))
}

/// A null in a map says nothing (programs in Go write one for an empty list); a null in a list has its place.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::IpamBlock;

    #[test]
    fn nulls_say_nothing_but_in_lists() {
        let block = |sequence_numbers: Value| {
            json!({
                "apiVersion": "crd.projectcalico.org/v1", "kind": "IPAMBlock", "metadata": {"name": "10-0-0-0-31"},
                "spec": {"cidr": "10.0.0.0/31", "allocations": [null, null], "attributes": [],
                    "unallocated": [0, 1], "strictAffinity": false, "affinity": null,
                    "sequenceNumberForAllocation": sequence_numbers}
            })
        };
        let known = parse(&IpamBlock::KIND, &block(Value::Null)).expect("as Go writes it");
        assert_eq!(
            known,
            parse(&IpamBlock::KIND, &block(json!({}))).expect("as others do")
        );
        assert_eq!(known["spec"]["allocations"], json!([null, null]));
    }

    #[test]
    fn objects_of_any_age_have_one_shape() {
        let old = json!({
            "metadata": {"name": "s", "namespace": "n", "managedFields": [{}]},
            "endpoints": [{"addresses": ["10.0.0.1"], "topology": {HOSTNAME: "kube-1"}}, {"nodeName": "kube-2"}]
        });
        let new = from_server(&EndpointSlice::KIND, old);
        assert_eq!(new["apiVersion"], "discovery.k8s.io/v1");
        assert_eq!(new["endpoints"][0]["nodeName"], "kube-1");
        assert_eq!(new["endpoints"][1]["nodeName"], "kube-2");
        assert_eq!(new["metadata"].get("managedFields"), None);
    }
}
