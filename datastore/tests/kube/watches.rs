//! What a watch tells beyond the rules of the interface.

use datastore::{
    DeleteOptions, WatchEvent,
    kube::Limits,
    types::{IpPool, Node},
};
use e2e::kube::ADMIN;
use std::time::Duration;

use crate::{
    proxy::{HttpProxy, TcpProxy},
    support::{admin, impatient, next, next_event, pool, start, through},
};

const GOOD: &str = "
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: a}
spec: {cidr: 10.0.0.0/16}
";

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_used_is_told_and_its_last_good_version_stays() {
    let server = start();
    let store = admin(&server).await;
    server.apply(GOOD).expect("applied");
    let mut events = store.watch::<IpPool>();
    assert!(matches!(next(&mut events).await, WatchEvent::Restarted(pools) if pools.len() == 1));
    server.apply(&GOOD.replace("/16", "/99")).expect("applied");
    match next(&mut events).await {
        WatchEvent::Invalid(invalid) => assert_eq!(invalid.name, "a"),
        other => panic!("expected Invalid, got {other:?}"),
    }
    assert_eq!(store.list::<IpPool>().await.expect("listed"), []);
    // Who comes later hears of it after the first list.
    let mut later = store.watch::<IpPool>();
    assert_eq!(next(&mut later).await, WatchEvent::Restarted(Vec::new()));
    assert!(matches!(next(&mut later).await, WatchEvent::Invalid(_)));
    // Gone: its last good version is, for those who have it.
    let made = store.create(&pool("b")).await.expect("created");
    assert_eq!(next(&mut later).await, WatchEvent::Applied(made.clone()));
    assert_eq!(next(&mut events).await, WatchEvent::Applied(made));
    store
        .delete::<IpPool>("a", DeleteOptions::default())
        .await
        .expect("deleted");
    assert!(matches!(next(&mut events).await, WatchEvent::Deleted(pool) if pool.metadata.name == "a"));
    server.apply(GOOD).expect("applied");
    for events in [&mut events, &mut later] {
        assert!(matches!(next(events).await, WatchEvent::Applied(pool) if pool.metadata.name == "a"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_where_the_server_ended_it() {
    let server = start();
    let proxy = HttpProxy::start(&server.kubeconfig(ADMIN)).await;
    let limits = Limits {
        watch: Duration::from_secs(1),
        ..impatient()
    };
    let store = through(&server, &proxy.url(), limits).await;
    let mut events = store.watch::<IpPool>();
    assert_eq!(next(&mut events).await, WatchEvent::Restarted(Vec::new()));
    let mut watches = 0;
    for number in 0.. {
        let made = store
            .create(&pool(&format!("pool-{number}")))
            .await
            .expect("created");
        assert_eq!(next(&mut events).await, WatchEvent::Applied(made));
        let asked = proxy.take_asked();
        watches += asked.iter().filter(|asked| asked.is_watch()).count();
        let lists = asked
            .iter()
            .filter(|asked| asked.method == "GET" && !asked.is_watch());
        assert!(lists.count() <= usize::from(number == 0), "{asked:?}");
        if watches > 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A restarted server no longer knows what happened before: it answers 410 to whoever asks for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restarted_server_forgot_is_told_as_differences() {
    let mut server = start();
    let direct = admin(&server).await;
    for name in ["stays", "changes", "goes"] {
        direct.create(&pool(name)).await.expect("created");
    }
    let proxy = TcpProxy::start(server.port()).await;
    let store = through(&server, &proxy.url(), impatient()).await;
    let mut events = store.watch::<IpPool>();
    assert!(matches!(next(&mut events).await, WatchEvent::Restarted(pools) if pools.len() == 3));

    proxy.refuse(true);
    proxy.cut();
    let mut changed: IpPool = direct.get("changes").await.expect("there");
    changed.spec.disabled = true;
    let changed = direct.update(&changed).await.expect("updated");
    direct
        .delete::<IpPool>("goes", DeleteOptions::default())
        .await
        .expect("deleted");
    let new = direct.create(&pool("new")).await.expect("created");
    server.kill_api_server();
    server.start_api_server().expect("started again");
    // It is in the watch's way only once it has a history that begins after what the watch saw.
    direct.create(&Node::new("n")).await.expect("created");
    proxy.refuse(false);

    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(next_event(&mut events).await);
    }
    assert!(
        matches!(&seen[0], WatchEvent::Deleted(pool) if pool.metadata.name == "goes"),
        "{seen:?}"
    );
    assert_eq!(
        seen[1..],
        [WatchEvent::Applied(changed), WatchEvent::Applied(new)]
    );
    let last = direct.create(&pool("last")).await.expect("created");
    assert_eq!(next_event(&mut events).await, WatchEvent::Applied(last));
}
