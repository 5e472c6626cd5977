//! Objects that others wrote are read as they are and lose nothing by our updates.

use std::collections::BTreeMap;

use datastore::{
    Store, WatchEvent, WatchOptions,
    kube::Limits,
    types::{EndpointSlice, IpPool, IpamBlock, Namespace, Node, Pod},
};
use e2e::kube::{ADMIN, KubeServer};
use serde_json::{Value, json};

use crate::{
    proxy::{HttpProxy, trouble},
    support::{admin, impatient, next, pool, start, through},
};

/// A block as Calico writes it, with fields of a version we do not know wherever there can be any.
const BLOCK: &str = r#"
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata:
  name: 10-233-90-0-30
  annotations: {projectcalico.org/metadata: '{"uid": "x"}'}
  finalizers: [example.org/hold]
spec:
  cidr: 10.233.90.0/30
  affinity: host:kube-1
  allocations: [null, 0, null, 1]
  attributes:
  - handle_id: k8s-pod-network.abc
    secondary: {node: kube-1, pod: web, namespace: red}
    futureAttribute: {deep: [1, null]}
  - {handle_id: other, secondary: {}, futureAttribute: 7}
  unallocated: [0, 2]
  strictAffinity: false
  deleted: false
  sequenceNumber: 1700000000000000000
  sequenceNumberForAllocation: {"1": 1699999999999999999}
  futureField: {a: 1}
"#;

fn as_json(server: &KubeServer, object: &[&str]) -> Value {
    let args = [&["get", "--output=json"], object].concat();
    serde_json::from_str(&server.kubectl(&args).expect("there")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_custom_resource_loses_nothing() {
    let server = start();
    server.apply(BLOCK).expect("applied");
    let store = admin(&server).await;
    // Read and remembered; read in a list, and asked for again by the update.
    for (release, get) in [(1, true), (3, false)] {
        let mut block: IpamBlock = match get {
            true => store.get("10-233-90-0-30").await.expect("there"),
            false => store.list().await.expect("listed").remove(0),
        };
        block.spec.allocations[release] = None;
        block.spec.unallocated.push(release);
        block.spec.sequence_number += 1;
        let before = as_json(&server, &["ipamblock", "10-233-90-0-30"]);
        let updated = store.update(&block).await.expect("updated");
        assert_eq!(updated.spec, block.spec);
        let mut expected = before.clone();
        let after = as_json(&server, &["ipamblock", "10-233-90-0-30"]);
        expected["spec"]["allocations"][release] = Value::Null;
        let unallocated = expected["spec"]["unallocated"].as_array_mut().expect("a list");
        unallocated.push(json!(release));
        expected["spec"]["sequenceNumber"] = json!(block.spec.sequence_number);
        assert_eq!(after["spec"], expected["spec"]);
        for field in ["annotations", "finalizers", "uid", "creationTimestamp"] {
            assert_eq!(after["metadata"][field], before["metadata"][field], "{field}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_annotations_are_patched_and_the_rest_is_left_to_others() {
    let server = start();
    server
        .apply(
            "
apiVersion: v1
kind: Node
metadata: {name: kube-1, labels: {kubernetes.io/os: linux}, annotations: {other: theirs}}
spec: {podCIDR: 10.0.0.0/24, taints: [{key: a, effect: NoSchedule}]}
",
        )
        .expect("applied");
    let proxy = HttpProxy::start(&server.kubeconfig(ADMIN)).await;
    let store = through(&server, &proxy.url(), Limits::default()).await;
    let mut node: Node = store.get("kube-1").await.expect("there");
    let stale = node.clone();
    let annotation = "projectcalico.org/IPv4Address".to_string();
    node.metadata
        .annotations
        .insert(annotation.clone(), "10.1.2.3/24".to_string());
    let before = as_json(&server, &["node", "kube-1"]);
    proxy.take_asked();
    let updated = store.update(&node).await.expect("updated");
    let asked = proxy.take_asked();
    assert_eq!(asked.len(), 1, "what was read is not asked for again: {asked:?}");
    assert_eq!(asked[0].method, "PATCH");
    assert_eq!(asked[0].agent, concat!("routelet/", env!("CARGO_PKG_VERSION")));
    let after = as_json(&server, &["node", "kube-1"]);
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
    assert_eq!(after["metadata"]["annotations"]["other"], "theirs");
    assert_eq!(after["metadata"]["annotations"][&annotation], "10.1.2.3/24");

    let error = store.update(&stale).await.expect_err("somebody was faster");
    assert!(error.is_conflict(), "{error:?}");
    let mut without = updated;
    without.metadata.annotations.remove(&annotation);
    store.update(&without).await.expect("updated");
    let after = as_json(&server, &["node", "kube-1"]);
    assert_eq!(
        after["metadata"]["annotations"],
        before["metadata"]["annotations"]
    );
}

async fn names(store: &Store) -> Vec<String> {
    let pools = store.list::<IpPool>().await.expect("listed");
    pools.into_iter().map(|pool| pool.metadata.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_come_in_pages() {
    let server = start();
    let proxy = HttpProxy::start(&server.kubeconfig(ADMIN)).await;
    let limits = Limits {
        page: 3,
        ..impatient()
    };
    let store = through(&server, &proxy.url(), limits).await;
    let expected: Vec<String> = (10..20).map(|number| format!("pool-{number}")).collect();
    for name in &expected {
        store.create(&pool(name)).await.expect("created");
    }
    proxy.take_asked();
    assert_eq!(names(&store).await, expected);
    assert_eq!(proxy.take_asked().len(), 4);

    // A page token that has expired: the list begins again, and is whole.
    let mut answered = false;
    proxy.answer(move |asked| {
        let expired = asked.url.contains("continue=") && !std::mem::replace(&mut answered, true);
        expired.then(|| trouble(410, None))
    });
    assert_eq!(names(&store).await, expected);
    let asked = proxy.take_asked();
    assert_eq!(asked.len(), 6, "{asked:?}");

    // Tokens that always expire: at last the list comes in one piece.
    proxy.answer(|asked| asked.url.contains("continue=").then(|| trouble(410, None)));
    assert_eq!(names(&store).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_kubernetes_are_read_and_selected() {
    let server = start();
    server
        .apply(
            "
apiVersion: v1
kind: Namespace
metadata: {name: red, labels: {team: one}}
---
apiVersion: v1
kind: Pod
metadata: {name: here, namespace: red}
spec: {nodeName: kube-1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: there, namespace: red}
spec: {nodeName: kube-2, containers: [{name: c, image: x}]}
",
        )
        .expect("applied");
    let proxy = HttpProxy::start(&server.kubeconfig(ADMIN)).await;
    let store = through(&server, &proxy.url(), Limits::default()).await;

    let options = WatchOptions::default().field("spec.nodeName", "kube-1");
    let mut pods = store.watch_selected::<Pod>(options);
    match next(&mut pods).await {
        WatchEvent::Restarted(pods) => {
            let names: Vec<&str> = pods.iter().map(|pod| pod.metadata.name.as_str()).collect();
            assert_eq!(names, ["here"]);
            assert_eq!(pods[0].spec.node_name.as_deref(), Some("kube-1"));
        }
        other => panic!("expected Restarted, got {other:?}"),
    }
    server
        .kubectl(&["annotate", "pod", "--namespace=red", "--all", "x=y"])
        .expect("annotated");
    match next(&mut pods).await {
        WatchEvent::Applied(pod) => assert_eq!(pod.metadata.name, "here"),
        other => panic!("expected Applied, got {other:?}"),
    }

    proxy.take_asked();
    let namespaces: Vec<Namespace> = store.list().await.expect("listed");
    let red = namespaces
        .iter()
        .find(|namespace| namespace.metadata.name == "red");
    let labels = &red.expect("there").metadata.labels;
    assert_eq!(labels.get("team").map(String::as_str), Some("one"));
    let asked = proxy.take_asked();
    assert!(asked[0].accept.contains("PartialObjectMetadataList"), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_slices_of_an_old_server_are_those_of_a_new_one() {
    let server = start();
    server
        .apply(
            "
apiVersion: discovery.k8s.io/v1beta1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- addresses: [10.0.0.1]
  conditions: {ready: true}
  topology: {kubernetes.io/hostname: kube-1}
ports: [{port: 80, protocol: TCP, name: ''}]
",
        )
        .expect("applied");
    let store = admin(&server).await;
    let slices: Vec<EndpointSlice> = store.list().await.expect("listed");
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].api_version, "discovery.k8s.io/v1");
    assert_eq!(slices[0].endpoints[0].node_name.as_deref(), Some("kube-1"));
    let mut events = store.watch::<EndpointSlice>();
    assert_eq!(next(&mut events).await, WatchEvent::Restarted(slices));
    let made = EndpointSlice::new("default", "web-2", "web");
    let made = store.create(&made).await.expect("created");
    assert_eq!(next(&mut events).await, WatchEvent::Applied(made.clone()));
    let mut changed = made;
    changed.metadata.annotations = BTreeMap::from([("a".to_string(), "b".to_string())]);
    let changed = store.update(&changed).await.expect("updated");
    assert_eq!(next(&mut events).await, WatchEvent::Applied(changed));
}
