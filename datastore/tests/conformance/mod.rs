//! What every backend must do, written once: compare-and-swap, preconditions, watches.
//!
//! [`conformance_tests!`] makes a test of each case; its argument is an async function that gives a `Store` no other
//! test uses, and something to keep alive with it.

use std::{collections::BTreeMap, time::Duration};

use datastore::{
    DeleteOptions, Error, Resource, Store, WatchEvent, WatchOptions,
    types::{IpPool, IpPoolSpec, Node, Secret},
};
use futures::{StreamExt, stream::BoxStream};

/// Calls the macro `$then` with `$argument; case, case, …`.
#[macro_export]
macro_rules! with_conformance_cases {
    ($then:ident, $argument:path) => {
        $then! {
            $argument;
            create_gives_identity,
            create_refuses_a_name_taken,
            create_refuses_a_version,
            get_and_list_tell_what_is_there,
            names_are_checked,
            update_swaps,
            update_needs_the_version_that_is_there,
            update_needs_a_version_and_an_object,
            update_checks_the_uid,
            an_update_that_changes_nothing_conflicts_with_nothing,
            metadata_is_kept_and_changed,
            rules_are_checked_before_anything_is_written,
            delete_obeys_preconditions,
            a_later_object_of_the_same_name_is_another,
            concurrent_increments_lose_nothing,
            one_of_many_creators_wins,
            namespaces_are_apart,
            a_watch_starts_with_everything,
            a_watch_tells_changes,
            a_watch_tells_the_newest_state_to_a_slow_reader,
            watches_follow_their_own_kind,
            a_selective_watch_tells_what_is_selected,
        }
    };
}

/// Makes a test of each case.
#[macro_export]
macro_rules! conformance_tests {
    ($factory:path; $($case:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            let (store, _keep) = $factory().await;
            $crate::conformance::$case(store).await;
        })*
    };
    ($factory:path) => {
        $crate::with_conformance_cases!(conformance_tests, $factory);
    };
}

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn pool(name: &str) -> IpPool {
    IpPool::new(name, IpPoolSpec::new("10.10.0.0/16".parse().expect("a network")))
}

fn counter(node: &Node) -> u64 {
    node.metadata
        .annotations
        .get("counter")
        .map_or(0, |count| count.parse().expect("a number"))
}

fn set_counter(node: &mut Node, count: u64) {
    node.metadata
        .annotations
        .insert("counter".to_string(), count.to_string());
}

/// Adds one to a node's counter, as every user of compare-and-swap does it; gives the version it wrote.
pub(crate) async fn increment(store: &Store, name: &str) -> String {
    loop {
        let mut node: Node = store.get(name).await.expect("the node is there");
        let count = counter(&node) + 1;
        set_counter(&mut node, count);
        match store.update(&node).await {
            Ok(node) => return node.metadata.resource_version,
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }
}

/// The next event of a watch, or a failure that says what was waited for.
pub(crate) async fn next<T: Resource>(
    events: &mut BoxStream<'static, datastore::Result<WatchEvent<T>>>,
) -> WatchEvent<T> {
    tokio::time::timeout(PATIENCE, events.next())
        .await
        .unwrap_or_else(|_| panic!("no event of {} in {PATIENCE:?}", T::KIND.kind))
        .expect("a watch has no end")
        .expect("a watch without trouble")
}

pub(crate) async fn create_gives_identity(store: Store) {
    let made = store.create(&pool("a")).await.expect("created");
    let meta = &made.metadata;
    assert_eq!(
        meta.uid.split('-').map(str::len).collect::<Vec<_>>(),
        [8, 4, 4, 4, 12],
        "{}",
        meta.uid
    );
    assert!(!meta.resource_version.is_empty());
    assert!(
        meta.creation_timestamp
            .as_ref()
            .is_some_and(|at| at.ends_with('Z')),
        "{meta:?}"
    );
    assert_eq!(made.spec, pool("a").spec);
    let other = store.create(&pool("b")).await.expect("created");
    assert_ne!(other.metadata.uid, made.metadata.uid);
}

pub(crate) async fn create_refuses_a_name_taken(store: Store) {
    let made = store.create(&pool("a")).await.expect("created");
    let error = store.create(&pool("a")).await.expect_err("the name is taken");
    assert!(error.is_already_exists(), "{error:?}");
    assert_eq!(error.to_string(), "IPPool \"a\" already exists");
    assert_eq!(store.get::<IpPool>("a").await.expect("there"), made);
}

pub(crate) async fn create_refuses_a_version(store: Store) {
    let mut old = pool("a");
    old.metadata.resource_version = "12".to_string();
    let error = store.create(&old).await.expect_err("an old object");
    assert!(
        matches!(&error, Error::Invalid(invalid) if invalid.field == "metadata.resourceVersion"),
        "{error:?}"
    );
}

pub(crate) async fn get_and_list_tell_what_is_there(store: Store) {
    assert_eq!(store.list::<IpPool>().await.expect("listed"), []);
    let error = store.get::<IpPool>("a").await.expect_err("nothing there");
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(error.to_string(), "IPPool \"a\" not found");
    let mut all = Vec::new();
    for name in ["b", "c", "a", "a.b", "a-b"] {
        all.push(store.create(&pool(name)).await.expect("created"));
    }
    let listed = store.list::<IpPool>().await.expect("listed");
    let names: Vec<_> = listed.iter().map(|pool| pool.metadata.name.as_str()).collect();
    assert_eq!(names, ["a", "a-b", "a.b", "b", "c"]);
    for one in all {
        assert_eq!(store.get::<IpPool>(&one.metadata.name).await.expect("there"), one);
        assert!(listed.contains(&one));
    }
}

pub(crate) async fn names_are_checked(store: Store) {
    for name in ["", "..", "../a", "a/b", "A", "a_b", ".a"] {
        let error = store.create(&pool(name)).await.expect_err(name);
        assert!(
            matches!(&error, Error::Invalid(invalid) if invalid.field == "metadata.name"),
            "{name:?}: {error:?}"
        );
    }
    let long = "n".repeat(253);
    store
        .create(&pool(&long))
        .await
        .expect("253 characters are a name");
    assert_eq!(
        store.get::<IpPool>(&long).await.expect("there").metadata.name,
        long
    );
}

pub(crate) async fn update_swaps(store: Store) {
    let made = store.create(&pool("a")).await.expect("created");
    let mut changed = made.clone();
    changed.spec.disabled = true;
    let stored = store.update(&changed).await.expect("updated");
    assert!(stored.spec.disabled);
    assert_ne!(stored.metadata.resource_version, made.metadata.resource_version);
    assert_eq!(stored.metadata.uid, made.metadata.uid);
    assert_eq!(
        stored.metadata.creation_timestamp,
        made.metadata.creation_timestamp
    );
    assert_eq!(store.get::<IpPool>("a").await.expect("there"), stored);
}

pub(crate) async fn update_needs_the_version_that_is_there(store: Store) {
    let mut first = store.create(&pool("a")).await.expect("created");
    let mut second = first.clone();
    first.spec.disabled = true;
    let first = store.update(&first).await.expect("updated");
    second.spec.nat_outgoing = true;
    let error = store.update(&second).await.expect_err("somebody was faster");
    assert!(error.is_conflict(), "{error:?}");
    assert_eq!(store.get::<IpPool>("a").await.expect("there"), first);
}

pub(crate) async fn update_needs_a_version_and_an_object(store: Store) {
    let made = store.create(&pool("a")).await.expect("created");
    let error = store.update(&pool("a")).await.expect_err("no version");
    assert!(
        matches!(&error, Error::Invalid(invalid) if invalid.field == "metadata.resourceVersion"),
        "{error:?}"
    );
    store
        .delete::<IpPool>("a", DeleteOptions::default())
        .await
        .expect("deleted");
    let error = store.update(&made).await.expect_err("no object");
    assert!(error.is_not_found(), "{error:?}");
}

pub(crate) async fn update_checks_the_uid(store: Store) {
    let mut made = store.create(&pool("a")).await.expect("created");
    made.metadata.uid = "00000000-0000-4000-8000-000000000000".to_string();
    made.spec.disabled = true;
    let error = store.update(&made).await.expect_err("another object");
    assert!(error.is_conflict(), "{error:?}");
}

pub(crate) async fn an_update_that_changes_nothing_conflicts_with_nothing(store: Store) {
    let made = store.create(&pool("a")).await.expect("created");
    assert_eq!(store.update(&made).await.expect("updated"), made);
}

pub(crate) async fn metadata_is_kept_and_changed(store: Store) {
    let mut node = Node::new("n");
    node.metadata.labels = BTreeMap::from([("rack".into(), "1".into()), ("zone".into(), "x".into())]);
    node.metadata.annotations =
        BTreeMap::from([("number".into(), "012".into()), ("yes".into(), "no".into())]);
    let mut made = store.create(&node).await.expect("created");
    assert_eq!(made.metadata.labels, node.metadata.labels);
    made.metadata.labels.remove("zone");
    made.metadata
        .annotations
        .insert("time".into(), "2026-01-01T00:00:00Z".into());
    store.update(&made).await.expect("updated");
    let read: Node = store.get("n").await.expect("there");
    assert_eq!(read.metadata.labels, made.metadata.labels);
    assert_eq!(read.metadata.annotations, made.metadata.annotations);
}

pub(crate) async fn rules_are_checked_before_anything_is_written(store: Store) {
    let mut made = store.create(&pool("a")).await.expect("created");
    made.spec.block_size = Some(7);
    let error = store.update(&made).await.expect_err("no such block size");
    assert!(
        matches!(&error, Error::Invalid(invalid) if invalid.field == "spec.blockSize"),
        "{error:?}"
    );
    assert_eq!(
        store.get::<IpPool>("a").await.expect("there").spec,
        pool("a").spec
    );
}

pub(crate) async fn delete_obeys_preconditions(store: Store) {
    let made = store.create(&pool("a")).await.expect("created");
    let mut changed = made.clone();
    changed.spec.disabled = true;
    let changed = store.update(&changed).await.expect("updated");
    let stale = DeleteOptions {
        resource_version: Some(made.metadata.resource_version.clone()),
        uid: None,
    };
    let another = DeleteOptions {
        uid: Some("00000000-0000-4000-8000-000000000000".to_string()),
        resource_version: None,
    };
    for options in [stale, another] {
        let error = store
            .delete::<IpPool>("a", options)
            .await
            .expect_err("a precondition");
        assert!(error.is_conflict(), "{error:?}");
    }
    let right = DeleteOptions {
        uid: Some(changed.metadata.uid),
        resource_version: Some(changed.metadata.resource_version),
    };
    store.delete::<IpPool>("a", right).await.expect("deleted");
    let error = store
        .delete::<IpPool>("a", DeleteOptions::default())
        .await
        .expect_err("gone");
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(store.list::<IpPool>().await.expect("listed"), []);
}

pub(crate) async fn a_later_object_of_the_same_name_is_another(store: Store) {
    let mut old = store.create(&pool("a")).await.expect("created");
    store
        .delete::<IpPool>("a", DeleteOptions::default())
        .await
        .expect("deleted");
    let new = store.create(&pool("a")).await.expect("created");
    assert_ne!(new.metadata.uid, old.metadata.uid);
    assert_ne!(new.metadata.resource_version, old.metadata.resource_version);
    old.spec.disabled = true;
    assert!(
        store
            .update(&old)
            .await
            .expect_err("the old one is gone")
            .is_conflict()
    );
    let options = DeleteOptions {
        uid: Some(old.metadata.uid),
        resource_version: None,
    };
    assert!(
        store
            .delete::<IpPool>("a", options)
            .await
            .expect_err("the old one is gone")
            .is_conflict()
    );
    assert_eq!(store.get::<IpPool>("a").await.expect("there"), new);
}

pub(crate) async fn concurrent_increments_lose_nothing(store: Store) {
    store.create(&Node::new("n")).await.expect("created");
    let workers = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut versions = Vec::new();
            for _ in 0..10 {
                versions.push(increment(&store, "n").await);
            }
            versions
        })
    });
    let mut versions = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        versions.extend(worker.await.expect("no panic"));
    }
    assert_eq!(counter(&store.get("n").await.expect("there")), 40);
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), 40, "a version was given twice");
}

pub(crate) async fn one_of_many_creators_wins(store: Store) {
    let creators: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.create(&pool("a")).await })
        })
        .collect();
    let mut winners = Vec::new();
    for creator in creators {
        match creator.await.expect("no panic") {
            Ok(made) => winners.push(made),
            Err(error) => assert!(error.is_already_exists(), "{error:?}"),
        }
    }
    assert_eq!(winners, [store.get::<IpPool>("a").await.expect("there")]);
}

pub(crate) async fn namespaces_are_apart(store: Store) {
    for (namespace, name) in [("red", "web"), ("blue", "web"), ("blue", "db")] {
        store
            .create(&Secret::new(namespace, name))
            .await
            .expect("created");
    }
    let names = |secrets: Vec<Secret>| -> Vec<String> {
        let name = |secret: &Secret| format!("{}/{}", secret.metadata.namespace, secret.metadata.name);
        secrets.iter().map(name).collect()
    };
    assert_eq!(
        names(store.list().await.expect("listed")),
        ["blue/db", "blue/web", "red/web"]
    );
    store
        .delete::<Secret>("blue/web", DeleteOptions::default())
        .await
        .expect("deleted");
    assert!(
        store
            .get::<Secret>("blue/web")
            .await
            .expect_err("deleted")
            .is_not_found()
    );
    assert_eq!(
        store
            .get::<Secret>("red/web")
            .await
            .expect("there")
            .metadata
            .namespace,
        "red"
    );
    let error = store.get::<Secret>("web").await.expect_err("no namespace");
    assert!(
        matches!(&error, Error::Invalid(invalid) if invalid.field == "metadata.namespace"),
        "{error:?}"
    );
    let mut wide = pool("a");
    wide.metadata.namespace = "red".to_string();
    let error = store.create(&wide).await.expect_err("pools are cluster-wide");
    assert!(
        matches!(&error, Error::Invalid(invalid) if invalid.field == "metadata.namespace"),
        "{error:?}"
    );
}

pub(crate) async fn a_watch_starts_with_everything(store: Store) {
    let mut empty = store.watch::<IpPool>();
    assert_eq!(next(&mut empty).await, WatchEvent::Restarted(Vec::new()));
    let a = store.create(&pool("a")).await.expect("created");
    let b = store.create(&pool("b")).await.expect("created");
    let mut full = store.watch::<IpPool>();
    assert_eq!(next(&mut full).await, WatchEvent::Restarted(vec![a, b]));
}

pub(crate) async fn a_watch_tells_changes(store: Store) {
    let mut events = store.watch::<IpPool>();
    assert_eq!(next(&mut events).await, WatchEvent::Restarted(Vec::new()));
    let mut made = store.create(&pool("a")).await.expect("created");
    assert_eq!(next(&mut events).await, WatchEvent::Applied(made.clone()));
    made.spec.disabled = true;
    let changed = store.update(&made).await.expect("updated");
    assert_eq!(next(&mut events).await, WatchEvent::Applied(changed.clone()));
    store
        .delete::<IpPool>("a", DeleteOptions::default())
        .await
        .expect("deleted");
    match next(&mut events).await {
        WatchEvent::Deleted(last) => assert_eq!(last.metadata.uid, changed.metadata.uid),
        other => panic!("expected Deleted, got {other:?}"),
    }
    let again = store.create(&pool("a")).await.expect("created");
    assert_eq!(next(&mut events).await, WatchEvent::Applied(again));
}

pub(crate) async fn a_watch_tells_the_newest_state_to_a_slow_reader(store: Store) {
    store.create(&Node::new("n")).await.expect("created");
    let mut events = store.watch::<Node>();
    assert!(matches!(next(&mut events).await, WatchEvent::Restarted(nodes) if nodes.len() == 1));
    for _ in 0..200 {
        increment(&store, "n").await;
    }
    let newest: Node = store.get("n").await.expect("there");
    let mut last = 0;
    loop {
        match next(&mut events).await {
            WatchEvent::Applied(node) => {
                assert!(
                    counter(&node) > last,
                    "went back from {last} to {}",
                    counter(&node)
                );
                last = counter(&node);
                if node == newest {
                    return;
                }
            }
            other => panic!("expected Applied, got {other:?}"),
        }
    }
}

pub(crate) async fn watches_follow_their_own_kind(store: Store) {
    let mut pools = store.watch::<IpPool>();
    let mut nodes = store.watch::<Node>();
    let mut secrets = store.watch::<Secret>();
    assert_eq!(next(&mut pools).await, WatchEvent::Restarted(Vec::new()));
    assert_eq!(next(&mut nodes).await, WatchEvent::Restarted(Vec::new()));
    assert_eq!(next(&mut secrets).await, WatchEvent::Restarted(Vec::new()));
    let secret = store.create(&Secret::new("red", "web")).await.expect("created");
    let node = store.create(&Node::new("a")).await.expect("created");
    let pool = store.create(&pool("a")).await.expect("created");
    assert_eq!(next(&mut pools).await, WatchEvent::Applied(pool));
    assert_eq!(next(&mut nodes).await, WatchEvent::Applied(node));
    assert_eq!(next(&mut secrets).await, WatchEvent::Applied(secret));
    store
        .delete::<Secret>("red/web", DeleteOptions::default())
        .await
        .expect("deleted");
    assert!(matches!(next(&mut secrets).await, WatchEvent::Deleted(secret) if secret.metadata.name == "web"));
}

pub(crate) async fn a_selective_watch_tells_what_is_selected(store: Store) {
    let labelled = |name: &str, rack: &str| {
        let mut node = Node::new(name);
        node.metadata.labels.insert("rack".to_string(), rack.to_string());
        node
    };
    let mut a = store.create(&labelled("a", "1")).await.expect("created");
    let b = store.create(&labelled("b", "2")).await.expect("created");
    let mut racks = store.watch_selected::<Node>(WatchOptions::default().label("rack", "1"));
    assert_eq!(next(&mut racks).await, WatchEvent::Restarted(vec![a.clone()]));
    let mut names = store.watch_selected::<Node>(WatchOptions::default().field("metadata.name", "b"));
    assert_eq!(next(&mut names).await, WatchEvent::Restarted(vec![b.clone()]));
    let c = store.create(&labelled("c", "1")).await.expect("created");
    assert_eq!(next(&mut racks).await, WatchEvent::Applied(c));
    a.metadata.labels.insert("rack".to_string(), "2".to_string());
    store.update(&a).await.expect("updated");
    assert!(matches!(next(&mut racks).await, WatchEvent::Deleted(node) if node.metadata.name == "a"));
    store
        .delete::<Node>("b", DeleteOptions::default())
        .await
        .expect("deleted");
    assert!(matches!(next(&mut names).await, WatchEvent::Deleted(node) if node.metadata.name == "b"));

    store.create(&Secret::new("red", "x")).await.expect("created");
    let mut blue = store.watch_selected::<Secret>(WatchOptions::default().in_namespace("blue"));
    assert_eq!(next(&mut blue).await, WatchEvent::Restarted(Vec::new()));
    let mine = store.create(&Secret::new("blue", "x")).await.expect("created");
    assert_eq!(next(&mut blue).await, WatchEvent::Applied(mine));
}
