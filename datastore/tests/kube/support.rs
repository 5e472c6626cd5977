//! An API server with our kinds in it, and waiting for what a watch tells.

use std::{fmt::Write as _, time::Duration};

use datastore::{
    Resource, Result, Store, WatchEvent, kinds,
    kube::{KubeBackend, Limits},
    types::{CALICO_GROUP, IpPool, IpPoolSpec},
};
use e2e::kube::{ADMIN, Builder, KubeServer};
use futures::{StreamExt, stream::BoxStream};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Events<T> = BoxStream<'static, Result<WatchEvent<T>>>;

/// The CustomResourceDefinitions that ship.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/crds");

/// Starts a server with the definitions that ship.
pub(crate) fn start_with_shipped() -> KubeServer {
    let server = KubeServer::start().expect("an API server");
    // A kubectl this old does not know of rules in CEL; its server drops them.
    let apply = ["apply", "--validate=false", "-k", SHIPPED];
    server.kubectl(&apply).expect("applied");
    let wait = [
        "wait",
        "--for=condition=established",
        "--timeout=60s",
        "crd",
        "--all",
    ];
    server.kubectl(&wait).expect("established");
    server
}

/// Starts a server with Calico's kinds in it.
pub(crate) fn start() -> KubeServer {
    start_with(KubeServer::builder())
}

pub(crate) fn start_with(builder: Builder) -> KubeServer {
    let server = builder.start().expect("an API server");
    server.apply(&definitions()).expect("Calico's kinds");
    server
}

/// CustomResourceDefinitions that keep whatever is in an object, as a cluster's of a later Calico would.
fn definitions() -> String {
    let mut text = String::new();
    for kind in kinds().filter(|kind| kind.group == CALICO_GROUP) {
        let (group, version, plural, name) = (kind.group, kind.version, kind.plural, kind.kind);
        let singular = name.to_lowercase();
        write!(
            text,
            "---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {plural}.{group}
spec:
  group: {group}
  scope: Cluster
  names: {{kind: {name}, listKind: {name}List, plural: {plural}, singular: {singular}}}
  versions:
  - name: {version}
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        x-kubernetes-preserve-unknown-fields: true
"
        )
        .expect("written");
    }
    text
}

/// The store of the user who may do everything.
pub(crate) async fn admin(server: &KubeServer) -> Store {
    store_of(server, ADMIN).await
}

pub(crate) async fn store_of(server: &KubeServer, user: &str) -> Store {
    let config = server.kubeconfig(user);
    let address = format!("kubernetes:{}", config.display());
    Store::open(&address).await.expect("opened")
}

/// A store that speaks to the server through a proxy, impatiently.
pub(crate) async fn through(server: &KubeServer, url: &str, limits: Limits) -> Store {
    let config = server.kubeconfig_via(ADMIN, url).expect("a kubeconfig");
    let backend = KubeBackend::open(&config.display().to_string(), limits).await;
    Store::new(std::sync::Arc::new(backend.expect("opened")))
}

/// Limits for tests: what takes seconds on a cluster takes a fraction here.
pub(crate) fn impatient() -> Limits {
    Limits {
        first_pause: Duration::from_millis(50),
        longest_pause: Duration::from_secs(1),
        ..Limits::default()
    }
}

pub(crate) fn pool(name: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new("10.10.0.0/16".parse().expect("a network")))
}

/// The next item of a watch, trouble or not.
pub(crate) async fn next_item<T: Resource>(events: &mut Events<T>) -> Result<WatchEvent<T>> {
    let next = tokio::time::timeout(PATIENCE, events.next()).await;
    next.unwrap_or_else(|_| panic!("no event of {} in {PATIENCE:?}", T::KIND.kind))
        .expect("a watch has no end")
}

/// The next event of a watch.
pub(crate) async fn next<T: Resource>(events: &mut Events<T>) -> WatchEvent<T> {
    next_item(events).await.expect("a watch without trouble")
}

/// The next event of a watch; trouble on the way is passed over.
pub(crate) async fn next_event<T: Resource>(events: &mut Events<T>) -> WatchEvent<T> {
    loop {
        if let Ok(event) = next_item(events).await {
            return event;
        }
    }
}
