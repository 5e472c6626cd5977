//! The `kubernetes` backend keeps every rule of the interface.

use std::panic::AssertUnwindSafe;

use datastore::{
    DeleteOptions, Resource, Store,
    types::{IpPool, Node, Secret},
};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    support::{admin, start_with_shipped},
    with_conformance_cases,
};

type Case = (&'static str, fn(Store) -> BoxFuture<'static, ()>);

macro_rules! list_cases {
    ($module:path; $($case:ident),* $(,)?) => {
        [$((stringify!($case), |store| crate::conformance::$case(store).boxed())),*]
    };
}

/// One server for all cases, for it takes seconds to start; it is emptied between them.
#[tokio::test(flavor = "multi_thread")]
async fn every_rule_is_kept() {
    let server = start_with_shipped();
    for namespace in ["red", "blue"] {
        server
            .kubectl(&["create", "namespace", namespace])
            .expect("a namespace");
    }
    let store = admin(&server).await;
    let cases: [Case; 22] = with_conformance_cases!(list_cases, crate::conformance);
    let mut failed = Vec::new();
    for (name, case) in cases {
        eprintln!("--- {name}");
        if AssertUnwindSafe(case(store.clone()))
            .catch_unwind()
            .await
            .is_err()
        {
            failed.push(name);
        }
        empty::<IpPool>(&store).await;
        empty::<Node>(&store).await;
        empty::<Secret>(&store).await;
    }
    assert!(failed.is_empty(), "{failed:?}; what they said is above");
}

async fn empty<T: Resource>(store: &Store) {
    for object in store.list::<T>().await.expect("listed") {
        let metadata = object.metadata();
        let name = match metadata.namespace.as_str() {
            "" => metadata.name.clone(),
            namespace => format!("{namespace}/{}", metadata.name),
        };
        store
            .delete::<T>(&name, DeleteOptions::default())
            .await
            .expect("deleted");
    }
}
