//! A server that throttles or is in trouble is left alone as long as it asks, and for a bounded time.

use std::time::Duration;

use datastore::{
    Error, WatchEvent,
    kube::Limits,
    types::{IpPool, Node},
};
use e2e::kube::ADMIN;

use crate::{
    proxy::{Asked, HttpProxy, trouble},
    support::{impatient, next, next_event, next_item, pool, start, through},
};

#[tokio::test(flavor = "multi_thread")]
async fn throttled_calls_are_asked_again_for_a_bounded_time() {
    let server = start();
    let proxy = HttpProxy::start(&server.kubeconfig(ADMIN)).await;
    let limits = Limits {
        throttled: Duration::from_secs(3),
        ..impatient()
    };
    let store = through(&server, &proxy.url(), limits).await;

    // Reads and writes alike: a throttled request has not been begun.
    let mut made = pool("a");
    for step in 0..3 {
        let mut left = 2;
        proxy.answer(move |_| {
            left -= 1;
            (left >= 0).then(|| trouble(429, Some(u64::from(left == 0))))
        });
        match step {
            0 => made = store.create(&made).await.expect("created"),
            1 => {
                made.spec.disabled = true;
                made = store.update(&made).await.expect("updated");
            }
            _ => assert_eq!(store.list::<IpPool>().await.expect("listed"), [made.clone()]),
        }
        assert_eq!(proxy.take_asked().len(), 3);
    }

    proxy.answer(|_| Some(trouble(429, Some(1))));
    let error = store.list::<IpPool>().await.expect_err("throttled for ever");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("429"), "{error}");
    let asked = proxy.take_asked().len();
    assert!((2..=4).contains(&asked), "asked {asked} times");
    // A pause longer than anybody waits is not waited for.
    proxy.answer(|_| Some(trouble(429, Some(3600))));
    store.list::<IpPool>().await.expect_err("throttled for ever");
    assert_eq!(proxy.take_asked().len(), 1);
    // What the server may have begun is the caller's to repeat.
    proxy.answer(|_| Some(trouble(503, None)));
    let error = store.create(&pool("b")).await.expect_err("in trouble");
    assert!(
        matches!(error, Error::Unavailable { action: "create", .. }),
        "{error:?}"
    );
    assert_eq!(proxy.take_asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_server_in_trouble_does_not_spin_and_recovers() {
    let server = start();
    let proxy = HttpProxy::start(&server.kubeconfig(ADMIN)).await;
    let limits = Limits {
        throttled: Duration::ZERO,
        ..impatient()
    };
    let store = through(&server, &proxy.url(), limits).await;
    let direct = crate::support::admin(&server).await;
    direct.create(&Node::new("n")).await.expect("created");

    // From the first list on, then for watches alone, and watches that end at once.
    type Trouble = fn(&Asked) -> Option<http::Response<String>>;
    let troubles: [(&str, Trouble); 3] = [
        ("all fails", |_| Some(trouble(503, None))),
        ("watches are throttled", |asked| {
            asked.is_watch().then(|| trouble(429, Some(0)))
        }),
        ("watches end at once", |asked| {
            asked.is_watch().then(|| trouble(200, None)).map(empty)
        }),
    ];
    for (name, answers) in troubles {
        proxy.answer(answers);
        proxy.take_asked();
        let mut events = store.watch::<Node>();
        let window = Duration::from_secs(5);
        if name == "all fails" {
            let error = next_item(&mut events).await.expect_err("in trouble");
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        } else {
            assert!(matches!(next(&mut events).await, WatchEvent::Restarted(nodes) if nodes.len() == 1));
        }
        tokio::time::sleep(window).await;
        // Pauses of 25 ms and more, doubling to 1 s: at most 6 short ones, then one in 0.5 s or more.
        let asked = proxy.take_asked().len();
        assert!(
            (3..=20).contains(&asked),
            "{name}: asked {asked} times in {window:?}"
        );
        proxy.answer(|_| None);
        if name == "all fails" {
            assert!(
                matches!(next_event(&mut events).await, WatchEvent::Restarted(nodes) if nodes.len() == 1)
            );
        }
        let mut node: Node = direct.get("n").await.expect("there");
        node.metadata
            .annotations
            .insert("after".to_string(), name.to_string());
        let node = direct.update(&node).await.expect("updated");
        assert_eq!(next_event(&mut events).await, WatchEvent::Applied(node), "{name}");
    }
}

fn empty(response: http::Response<String>) -> http::Response<String> {
    response.map(|_| String::new())
}
