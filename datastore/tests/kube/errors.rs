//! What goes wrong is told in words that say what to do.

use std::fs;

use datastore::{
    Error, Store, WatchEvent,
    types::{BgpFilter, IpPool, Secret, Service},
};
use e2e::kube::{ADMIN, KubeServer};

use crate::support::{admin, next, next_item, pool, start, start_with, store_of};

const USER: &str = "system:serviceaccount:kube-system:routelet";
const ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: routelet}
rules:
- {apiGroups: [crd.projectcalico.org], resources: [ippools], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: routelet}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: routelet}
subjects: [{kind: ServiceAccount, name: routelet, namespace: kube-system}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_names_verb_and_resource() {
    let server = start_with(KubeServer::builder().user(USER, &["system:serviceaccounts"]));
    let store = store_of(&server, USER).await;
    let error = store.list::<IpPool>().await.expect_err("forbidden");
    assert_eq!(
        error.to_string(),
        format!(
            "not allowed to list ippools.crd.projectcalico.org: ippools.crd.projectcalico.org is forbidden: \
             User \"{USER}\" cannot list resource \"ippools\" in API group \"crd.projectcalico.org\" at the \
             cluster scope"
        )
    );
    let error = store
        .get::<Secret>("kube-system/bgp")
        .await
        .expect_err("forbidden");
    assert!(
        matches!(&error, Error::Forbidden { verb: "get", resource, name, .. }
            if resource == "secrets" && name == "kube-system/bgp"),
        "{error:?}"
    );

    // A watch says it once, and works as soon as the rule is there.
    let mut events = store.watch::<IpPool>();
    let error = next_item(&mut events).await.expect_err("forbidden");
    assert!(
        matches!(error, Error::Forbidden { verb: "list", .. }),
        "{error:?}"
    );
    server.apply(ROLE).expect("applied");
    assert_eq!(next(&mut events).await, WatchEvent::Restarted(Vec::new()));
    let error = store.create(&pool("a")).await.expect_err("forbidden");
    assert!(
        matches!(error, Error::Forbidden { verb: "create", .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_is_wrong() {
    let server = start();
    let store = admin(&server).await;

    server
        .kubectl(&["delete", "crd", "bgpfilters.crd.projectcalico.org"])
        .expect("deleted");
    let error = store.list::<BgpFilter>().await.expect_err("no such kind");
    assert!(
        matches!(
            error,
            Error::UnknownKind {
                kind: "BGPFilter",
                ..
            }
        ),
        "{error:?}"
    );
    let error = store.get::<BgpFilter>("a").await.expect_err("no such kind");
    assert!(matches!(error, Error::UnknownKind { .. }), "{error:?}");

    let error = store
        .create(&Secret::new("nowhere", "a"))
        .await
        .expect_err("no namespace");
    assert_eq!(error.to_string(), "Namespace \"nowhere\" not found");
    let error = store
        .create(&Service::new("default", "a"))
        .await
        .expect_err("no ports");
    assert!(
        matches!(&error, Error::Invalid(invalid)
            if invalid.field == "spec.ports" && invalid.name == "default/a"),
        "{error:?}"
    );

    let config = server.kubeconfig(ADMIN);
    let text = fs::read_to_string(&config).expect("read");
    let changed = |name: &str, from: &str, to: &str| {
        let path = config.with_file_name(name);
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).expect("written");
        format!("kubernetes:{}", path.display())
    };
    let token = changed("wrong-token", &KubeServer::token(ADMIN), "expired");
    let error = list(&token).await;
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert!(error.to_string().contains(&server.url()), "{error}");

    let dead = changed("wrong-port", &server.url(), "https://127.0.0.1:9");
    let error = list(&dead).await;
    assert!(
        matches!(error, Error::Unavailable { action: "list", .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(
        said.contains("https://127.0.0.1:9") && said.contains("Connection refused"),
        "{said}"
    );

    let ca = server.ca_file().display().to_string();
    let distrusted = changed("wrong-ca", &format!("    certificate-authority: {ca}\n"), "");
    let error = list(&distrusted).await;
    assert!(error.to_string().contains("certificate"), "{error}");
}

async fn list(address: &str) -> Error {
    let store = Store::open(address).await.expect("opened");
    store.list::<IpPool>().await.expect_err("a wrong configuration")
}
