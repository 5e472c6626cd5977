//! A request in the API's terms, and the URL it becomes.

use std::fmt::Write as _;

use http::{Method, Request, header};
use kube::client::Body;
use serde_json::Value;

use crate::{KindInfo, Resource, object::ObjectName, types::Namespace};

/// What is asked, in the words of RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

impl Verb {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
        }
    }

    fn method(self) -> Method {
        match self {
            Verb::Get | Verb::List | Verb::Watch => Method::GET,
            Verb::Create => Method::POST,
            Verb::Update => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) kind: &'static KindInfo,
    /// Empty for all namespaces.
    pub(super) namespace: String,
    /// Empty for a whole kind.
    pub(super) name: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

impl Call {
    /// A call about one object.
    pub(super) fn named(verb: Verb, kind: &'static KindInfo, name: &ObjectName) -> Self {
        Call {
            name: name.name.clone(),
            ..Call::of_kind(verb, kind, &name.namespace)
        }
    }

    /// A call about the objects of a kind, in one namespace or (where it is empty) all.
    pub(super) fn of_kind(verb: Verb, kind: &'static KindInfo, namespace: &str) -> Self {
        Call {
            verb,
            kind,
            namespace: namespace.to_string(),
            name: String::new(),
            query: Vec::new(),
            body: None,
        }
    }

    pub(super) fn body(self, body: Value) -> Self {
        Call {
            body: Some(body),
            ..self
        }
    }

    pub(super) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// The resource as RBAC calls it: `ippools.crd.projectcalico.org`.
    pub(super) fn resource(&self) -> String {
        match self.kind.group {
            "" => self.kind.plural.to_string(),
            group => format!("{}.{group}", self.kind.plural),
        }
    }

    /// The HTTP request, for this version of the kind's API.
    pub(super) fn request(&self, version: &str) -> Result<Request<Body>, http::Error> {
        let mut request = Request::builder()
            .method(self.verb.method())
            .uri(self.url(version))
            .header(header::ACCEPT, self.accept());
        if self.body.is_some() {
            let content = match self.verb {
                Verb::Patch => "application/merge-patch+json",
                _ => "application/json",
            };
            request = request.header(header::CONTENT_TYPE, content);
        }
        let body = self.body.as_ref().map(ToString::to_string).unwrap_or_default();
        request.body(Body::from(body.into_bytes()))
    }

    fn url(&self, version: &str) -> String {
        let mut url = match self.kind.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        if !self.namespace.is_empty() {
            push(&mut url, "/namespaces/", &self.namespace);
        }
        push(&mut url, "/", self.kind.plural);
        if !self.name.is_empty() {
            push(&mut url, "/", &self.name);
        }
        for (at, (key, value)) in self.query.iter().enumerate() {
            let separator = if at == 0 { '?' } else { '&' };
            push(&mut url, &format!("{separator}{key}="), value);
        }
        url
    }

    /// Of a namespace we use the metadata, so the server is asked for no more.
    fn accept(&self) -> &'static str {
        match (self.kind.kind == Namespace::KIND.kind, self.verb) {
            (true, Verb::List) => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
            }
            (true, Verb::Watch) => {
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
            }
            _ => "application/json",
        }
    }
}

/// Adds `value`, percent-encoded, after `before` (RFC 3986).
fn push(url: &mut String, before: &str, value: &str) {
    url.push_str(before);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{IpPool, Pod};

    #[test]
    fn urls_are_those_of_the_api() {
        const POOL: &KindInfo = &IpPool::KIND;
        const POD: &KindInfo = &Pod::KIND;
        let web = ObjectName::of_full_name(POD, "red/web").expect("a name");
        for (call, url) in [
            (
                Call::of_kind(Verb::List, POOL, ""),
                "/apis/crd.projectcalico.org/v1/ippools",
            ),
            (
                Call::named(Verb::Get, POD, &web),
                "/api/v1/namespaces/red/pods/web",
            ),
            (
                Call::of_kind(Verb::Create, POD, "red"),
                "/api/v1/namespaces/red/pods",
            ),
            (
                Call::of_kind(Verb::Watch, POD, "")
                    .query("watch", "1")
                    .query("fieldSelector", "spec.nodeName=a b"),
                "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Da%20b",
            ),
        ] {
            assert_eq!(call.url("v1"), url);
            assert!(call.request("v1").is_ok());
        }
    }
}
