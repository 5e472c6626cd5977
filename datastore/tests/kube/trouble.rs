//! Slow, flapping and dead connections, and a server that is away for long.

use std::time::{Duration, Instant};

use datastore::{
    Resource, Store, WatchEvent,
    kube::Limits,
    types::{BgpPeer, BlockAffinity, IpPool, Node, Pod},
};

use crate::{
    proxy::TcpProxy,
    support::{Events, PATIENCE, admin, impatient, next, next_event, next_item, pool, start, through},
};

fn numbered(node: &Node) -> u64 {
    let number = node.metadata.annotations.get("number");
    number.map_or(0, |number| number.parse().expect("a number"))
}

async fn number(store: &Store, name: &str, number: u64) -> Node {
    let mut node: Node = store.get(name).await.expect("there");
    node.metadata
        .annotations
        .insert("number".to_string(), number.to_string());
    store.update(&node).await.expect("updated")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_without_a_word_is_noticed() {
    let server = start();
    let direct = admin(&server).await;
    direct.create(&Node::new("n")).await.expect("created");
    let proxy = TcpProxy::start(server.port()).await;
    let limits = Limits {
        idle: Duration::from_secs(2),
        request: Duration::from_secs(2),
        ..impatient()
    };
    let store = through(&server, &proxy.url(), limits).await;
    let mut events = store.watch::<Node>();
    assert!(matches!(next(&mut events).await, WatchEvent::Restarted(nodes) if nodes.len() == 1));
    proxy.freeze();
    let node = number(&direct, "n", 1).await;
    assert_eq!(next_event(&mut events).await, WatchEvent::Applied(node.clone()));
    // A call on a connection that died fails in time, and the next one has a new connection.
    proxy.freeze();
    let mut attempts = 0;
    let read = loop {
        match store.get::<Node>("n").await {
            Ok(node) => break node,
            Err(error) => assert!(error.to_string().contains("no answer within"), "{error}"),
        }
        attempts += 1;
        assert!(attempts < 5, "no new connection after {attempts} attempts");
    };
    assert_eq!(read, node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_and_flapping_connection_loses_nothing() {
    let server = start();
    let direct = admin(&server).await;
    direct.create(&Node::new("n")).await.expect("created");
    for number in 0..200 {
        direct
            .create(&pool(&format!("pool-{number}")))
            .await
            .expect("created");
    }
    let proxy = TcpProxy::start(server.port()).await;
    proxy.slow_down(Duration::from_millis(20));
    let store = through(&server, &proxy.url(), impatient()).await;
    assert_eq!(store.list::<IpPool>().await.expect("listed").len(), 200);

    let mut events = store.watch::<Node>();
    assert!(matches!(next(&mut events).await, WatchEvent::Restarted(nodes) if nodes.len() == 1));
    let last = 60;
    let writer = tokio::spawn(async move {
        for step in 1..=last {
            number(&direct, "n", step).await;
            if step % 5 == 0 {
                proxy.cut();
            }
        }
        proxy
    });
    let mut seen = 0;
    while seen < last {
        match next_event(&mut events).await {
            WatchEvent::Applied(node) => {
                assert!(
                    numbered(&node) > seen,
                    "went back from {seen} to {}",
                    numbered(&node)
                );
                seen = numbered(&node);
            }
            other => panic!("expected Applied, got {other:?}"),
        }
    }
    writer.await.expect("no panic");
}

/// Waits until a watch has said that the server is away.
async fn trouble_of<T: Resource>(events: &mut Events<T>) {
    loop {
        if next_item(events).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_not_hammered_and_all_is_caught_up_afterwards() {
    let mut server = start();
    let direct = admin(&server).await;
    let proxy = TcpProxy::start(server.port()).await;
    let store = through(&server, &proxy.url(), impatient()).await;
    let mut nodes = store.watch::<Node>();
    let mut pools = store.watch::<IpPool>();
    let mut peers = store.watch::<BgpPeer>();
    let mut affinities = store.watch::<BlockAffinity>();
    let mut pods = store.watch::<Pod>();
    assert_eq!(next(&mut nodes).await, WatchEvent::Restarted(Vec::new()));
    assert_eq!(next(&mut pools).await, WatchEvent::Restarted(Vec::new()));
    assert_eq!(next(&mut peers).await, WatchEvent::Restarted(Vec::new()));
    assert_eq!(next(&mut affinities).await, WatchEvent::Restarted(Vec::new()));
    assert_eq!(next(&mut pods).await, WatchEvent::Restarted(Vec::new()));
    let watches = 5;

    let before = proxy.connections();
    let away = Instant::now();
    server.kill_api_server();
    trouble_of(&mut nodes).await;
    trouble_of(&mut pools).await;
    trouble_of(&mut peers).await;
    trouble_of(&mut affinities).await;
    trouble_of(&mut pods).await;
    let attempts = 8 * watches;
    while proxy.connections() - before < attempts {
        assert!(
            away.elapsed() < PATIENCE,
            "only {} attempts",
            proxy.connections() - before
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.start_api_server().expect("started again");
    // Each watch: at most 6 short pauses, then one of 0.5 s or more an attempt; a connection each, and one more for
    // an attempt that finds a pooled connection closed.
    let allowed =
        watches * (7 + 2 * usize::try_from(away.elapsed().as_secs() + 1).expect("a short time")) * 2;
    let made = proxy.connections() - before;
    assert!(made <= allowed, "{made} connections in {:?}", away.elapsed());

    let pool = direct.create(&pool("a")).await.expect("created");
    let node = direct.create(&Node::new("n")).await.expect("created");
    assert_eq!(next_event(&mut pools).await, WatchEvent::Applied(pool));
    assert_eq!(next_event(&mut nodes).await, WatchEvent::Applied(node));
}
