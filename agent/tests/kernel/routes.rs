//! Making, replacing and deleting routes; what is not ours stays.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use agent::kernel::{Gateway, InstalledRoute, Kernel, Removal, RouteTarget, Settings};

use crate::{
    address, apply, apply_all, eventually, gateways,
    namespace::{device, ip_batch, ip_line, run, show},
    problems, routes, start, via,
};

fn two_uplinks() {
    device("eth0", &["192.0.2.1/24", "2001:db8::1/64"]);
    device("eth1", &["198.51.100.1/24", "2001:db8:1::1/64"]);
}

#[test]
fn routes_are_made_replaced_and_deleted_in_both_families() {
    run(|| async {
        two_uplinks();
        device("cali1", &[]);
        let kernel = start().await;
        let first = routes([
            ("10.1.0.0/26", RouteTarget::Blackhole),
            ("10.2.0.0/26", via("192.0.2.9")),
            ("10.3.0.0/26", gateways(["192.0.2.9", "198.51.100.9"])),
            ("10.1.0.5/32", RouteTarget::device("cali1")),
            ("fd00:1::/122", RouteTarget::Blackhole),
            ("fd00:2::/122", via("2001:db8::9")),
            ("fd00:3::/122", gateways(["2001:db8::9", "2001:db8:1::9"])),
            ("fd00:1::5/128", RouteTarget::device("cali1")),
        ]);
        apply_all(&kernel, &first).await;
        assert_eq!(show("10.1.0.0/26"), "blackhole 10.1.0.0/26 proto 80");
        assert_eq!(show("10.2.0.0/26"), "10.2.0.0/26 via 192.0.2.9 dev eth0 proto 80");
        assert_eq!(
            show("10.3.0.0/26"),
            "10.3.0.0/26 proto 80 nexthop via 192.0.2.9 dev eth0 weight 1 nexthop via 198.51.100.9 dev eth1 weight 1"
        );
        assert_eq!(show("10.1.0.5/32"), "10.1.0.5 dev cali1 proto 80 scope link");
        assert!(show("fd00:1::/122").starts_with("blackhole fd00:1::/122 dev lo proto 80 metric 1024"));
        assert!(
            show("fd00:2::/122").starts_with("fd00:2::/122 via 2001:db8::9 dev eth0 proto 80 metric 1024")
        );
        assert!(show("fd00:3::/122").contains("nexthop via 2001:db8:1::9 dev eth1"));
        assert!(show("fd00:1::5").starts_with("fd00:1::5 dev cali1 proto 80 metric 1024"));

        // Each kind becomes each other kind.
        let second = routes([
            ("10.1.0.0/26", via("192.0.2.9")),
            ("10.2.0.0/26", gateways(["192.0.2.9", "198.51.100.9"])),
            ("10.3.0.0/26", RouteTarget::device("cali1")),
            ("10.1.0.5/32", RouteTarget::Blackhole),
            ("fd00:1::/122", via("2001:db8::9")),
            ("fd00:2::/122", gateways(["2001:db8::9", "2001:db8:1::9"])),
            ("fd00:3::/122", RouteTarget::device("cali1")),
            ("fd00:1::5/128", RouteTarget::Blackhole),
        ]);
        apply_all(&kernel, &second).await;
        let third = routes([
            ("10.1.0.0/26", gateways(["192.0.2.9", "198.51.100.9"])),
            ("10.2.0.0/26", RouteTarget::Blackhole),
            ("10.3.0.0/26", via("198.51.100.9")),
            ("fd00:1::/122", gateways(["2001:db8::9", "2001:db8:1::9"])),
            ("fd00:2::/122", RouteTarget::Blackhole),
            ("fd00:3::/122", via("2001:db8:1::9")),
        ]);
        apply_all(&kernel, &third).await;
        // What the kernel has agrees with what a fresh reader sees: one route a prefix and nothing else.
        let fresh = start().await.routes().await.unwrap();
        assert_eq!(fresh, kernel.routes().await.unwrap());
        let prefixes: BTreeSet<_> = fresh.iter().map(|route| route.prefix).collect();
        assert_eq!(prefixes, third.keys().copied().collect());
        assert_eq!(fresh.len(), third.len());
        assert!(show("10.3.0.0/26").contains("via 198.51.100.9 dev eth1 proto 80"));
        assert!(
            !show("fd00:3::/122").contains("cali1"),
            "{}",
            show("fd00:3::/122")
        );

        let status = apply_all(&kernel, &routes([])).await;
        assert_eq!((status.repairs, status.errors), (0, 0));
        assert_eq!(
            ip_line("route show proto 80") + &ip_line("-6 route show proto 80"),
            ""
        );
    });
}

#[test]
fn an_onlink_gateway_keeps_its_device() {
    run(|| async {
        device("tunl0", &["10.9.0.1/32"]);
        let kernel = start().await;
        let onlink = |address: &str| {
            let address = address.parse().unwrap();
            RouteTarget::Gateways(vec![Gateway {
                address,
                device: Some("tunl0".into()),
                onlink: true,
            }])
        };
        apply_all(&kernel, &routes([("10.2.0.0/26", onlink("203.0.113.7"))])).await;
        assert_eq!(
            show("10.2.0.0/26"),
            "10.2.0.0/26 via 203.0.113.7 dev tunl0 proto 80 onlink"
        );
        apply_all(&kernel, &routes([("10.2.0.0/26", onlink("203.0.113.8"))])).await;
        assert_eq!(
            show("10.2.0.0/26"),
            "10.2.0.0/26 via 203.0.113.8 dev tunl0 proto 80 onlink"
        );
    });
}

/// Looks an address up over and over on a thread of its own, to see whether it ever falls through to the default route.
struct Watcher {
    stop: Arc<AtomicBool>,
    lookups: Arc<AtomicU32>,
    thread: std::thread::JoinHandle<bool>,
}

impl Watcher {
    async fn start(address: &'static str) -> Self {
        let (stop, lookups) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (stop.clone(), lookups.clone());
        let thread = std::thread::spawn(move || {
            let mut gap = false;
            while !stopped.load(Ordering::Relaxed) {
                gap |= crate::next_hops::lookup(address).is_ok_and(|prefix_length| prefix_length == 0);
                count.fetch_add(1, Ordering::Relaxed);
            }
            gap
        });
        let watcher = Watcher {
            stop,
            lookups,
            thread,
        };
        watcher.looks(1).await;
        watcher
    }

    /// Waits for some more lookups.
    async fn looks(&self, more: u32) {
        let wanted = self.lookups.load(Ordering::Relaxed) + more;
        let lookups = || self.lookups.load(Ordering::Relaxed);
        eventually("lookups", || (lookups() >= wanted).then_some(()), lookups).await;
    }

    /// True where there was a gap.
    fn finish(self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn a_route_that_changes_is_never_missing() {
    run(|| async {
        two_uplinks();
        ip_line("route add default via 192.0.2.254");
        ip_line("-6 route add default via 2001:db8::254");
        let kernel = start().await;
        let states = [
            [RouteTarget::Blackhole, RouteTarget::Blackhole],
            [via("192.0.2.9"), via("2001:db8::9")],
            [
                gateways(["192.0.2.9", "198.51.100.9"]),
                gateways(["2001:db8::9", "2001:db8:1::9"]),
            ],
            [via("198.51.100.9"), via("2001:db8:1::9")],
            [RouteTarget::device("eth1"), RouteTarget::device("eth1")],
            [
                gateways(["192.0.2.8", "198.51.100.8"]),
                gateways(["2001:db8::8", "2001:db8:1::8"]),
            ],
        ];
        let desired =
            |[v4, v6]: &[RouteTarget; 2]| routes([("10.1.0.0/26", v4.clone()), ("fd00:1::/122", v6.clone())]);
        apply_all(&kernel, &desired(&states[0])).await;
        let watchers = [
            Watcher::start("10.1.0.1").await,
            Watcher::start("fd00:1::1").await,
        ];
        for round in 0..60 {
            apply_all(&kernel, &desired(&states[round % states.len()])).await;
            for watcher in &watchers {
                watcher.looks(2).await;
            }
        }
        for watcher in watchers {
            assert!(!watcher.finish(), "a packet would have taken the default route");
        }
    });
}

#[test]
fn a_gap_would_be_seen() {
    run(|| async {
        two_uplinks();
        ip_line("route add default via 192.0.2.254");
        ip_line("route add blackhole 10.1.0.0/26");
        let watcher = Watcher::start("10.1.0.1").await;
        ip_line("route del blackhole 10.1.0.0/26");
        watcher.looks(2).await;
        ip_line("route add 10.1.0.0/26 via 192.0.2.9");
        assert!(watcher.finish(), "delete-then-add went unnoticed");
    });
}

#[test]
fn foreign_routes_are_left_alone_and_reported() {
    run(|| async {
        two_uplinks();
        ip_line("route add 10.1.0.0/26 via 192.0.2.77 proto static");
        ip_line("route add 10.7.0.0/26 via 192.0.2.77 proto bird");
        ip_line("-6 route add fd00:1::/122 via 2001:db8::77 proto static");
        // Another metric is another key, so no conflict.
        ip_line("route add 10.2.0.0/26 via 192.0.2.77 proto static metric 50");
        let foreign = || ip_line("route show proto static") + &ip_line("-6 route show proto static");
        let before = foreign();
        let kernel = start().await;
        let desired = routes([
            ("10.1.0.0/26", via("192.0.2.9")),
            ("10.2.0.0/26", via("192.0.2.9")),
            ("fd00:1::/122", via("2001:db8::9")),
        ]);
        let status = apply(&kernel, &desired, Removal::Allow).await;
        assert_eq!(
            (status.installed, status.pending, status.foreign_conflicts),
            (1, 2, 2)
        );
        let found = problems(&status);
        assert_eq!(
            found["10.1.0.0/26"],
            "a route that is not ours is in the way: via 192.0.2.77 dev eth0 proto static"
        );
        assert!(found.contains_key("fd00:1::/122"), "{found:?}");
        assert_eq!(foreign(), before);

        // When they go, ours come, without being set again.
        ip_line("route del 10.1.0.0/26 proto static");
        ip_line("-6 route del fd00:1::/122 proto static");
        eventually(
            "no conflict",
            || (kernel.status().installed == 3).then_some(()),
            || kernel.status(),
        )
        .await;
        assert_eq!(show("10.1.0.0/26"), "10.1.0.0/26 via 192.0.2.9 dev eth0 proto 80");

        // Somebody puts theirs in the place of ours: now it is theirs.
        ip_line("route replace 10.1.0.0/26 via 192.0.2.77 proto static");
        eventually(
            "a conflict",
            || (kernel.status().foreign_conflicts == 1).then_some(()),
            || kernel.status(),
        )
        .await;
        apply(&kernel, &routes([]), Removal::Allow).await;
        assert_eq!(
            show("10.1.0.0/26"),
            "10.1.0.0/26 via 192.0.2.77 dev eth0 proto static"
        );
        assert_eq!(
            show("10.7.0.0/26"),
            "10.7.0.0/26 via 192.0.2.77 dev eth0 proto bird"
        );
        assert_eq!(ip_line("route show proto 80"), "");
    });
}

#[test]
fn routes_of_an_earlier_run_are_held_and_then_removed() {
    run(|| async {
        two_uplinks();
        device("cali1", &[]);
        let old = routes([
            ("10.1.0.0/26", RouteTarget::Blackhole),
            ("10.1.0.5/32", RouteTarget::device("cali1")),
            ("10.2.0.0/26", via("192.0.2.9")),
            ("10.3.0.0/26", via("192.0.2.9")),
            ("fd00:2::/122", via("2001:db8::9")),
        ]);
        apply_all(&start().await, &old).await;
        // The first run ended with its handle, and left its routes. It also had one with another metric.
        ip_line("route add 10.4.0.0/26 via 192.0.2.9 metric 7 proto 80");

        let kernel = start().await;
        assert_eq!(kernel.routes().await.unwrap().len(), 6);
        let desired = routes([
            ("10.3.0.0/26", via("198.51.100.9")),
            ("10.5.0.0/26", RouteTarget::Blackhole),
        ]);
        let status = apply(&kernel, &desired, Removal::Hold).await;
        assert_eq!(
            (status.installed, status.stale),
            (2, 5),
            "added and replaced, nothing deleted"
        );
        assert_eq!(
            show("10.3.0.0/26"),
            "10.3.0.0/26 via 198.51.100.9 dev eth1 proto 80"
        );

        let status = apply(&kernel, &desired, Removal::HoldGateways).await;
        assert_eq!((status.installed, status.stale), (2, 3));
        assert_eq!(
            show("10.1.0.0/26") + &show("10.1.0.5/32"),
            "",
            "local routes are known to be stale"
        );
        assert_ne!(show("10.2.0.0/26"), "", "learned routes are not");

        apply_all(&kernel, &desired).await;
        assert_eq!(kernel.routes().await.unwrap().len(), 2);
    });
}

#[test]
fn a_route_is_gone_when_its_removal_returns() {
    run(|| async {
        device("cali1", &[]);
        let kernel = start().await;
        let desired = routes([
            ("10.1.0.5/32", RouteTarget::device("cali1")),
            ("fd00:1::5/128", RouteTarget::device("cali1")),
        ]);
        apply_all(&kernel, &desired).await;
        for prefix in ["10.1.0.5/32", "fd00:1::5/128", "10.99.0.0/26"] {
            kernel
                .remove_device_route(prefix.parse().unwrap(), "cali1")
                .await
                .unwrap();
            assert_eq!(show(prefix), "");
        }
        // It is not put back, until it is wanted again.
        let status = kernel.synced().await.unwrap();
        assert_eq!((status.desired, status.repairs), (0, 0));
        apply_all(&kernel, &desired).await;
        // Neither a route that leads elsewhere nor a foreign one is removed.
        device("cali2", &[]);
        ip_line("route add 10.8.0.0/26 dev cali1 proto static");
        for (prefix, device) in [
            ("10.1.0.5/32", "cali2"),
            ("10.1.0.5/32", "none"),
            ("10.8.0.0/26", "cali1"),
        ] {
            kernel
                .remove_device_route(prefix.parse().unwrap(), device)
                .await
                .unwrap();
            assert_ne!(show(prefix), "", "{prefix} {device}");
        }
        assert_eq!(kernel.synced().await.unwrap().installed, 2);
    });
}

#[test]
fn what_the_kernel_refuses_is_reported_and_retried() {
    run(|| async {
        device("eth0", &["192.0.2.1/24"]);
        let kernel = start().await;
        let desired = routes([
            ("10.1.0.0/26", via("198.51.100.9")),
            ("10.2.0.0/26", via("192.0.2.9")),
            ("10.3.0.0/26", RouteTarget::Gateways(Vec::new())),
        ]);
        let status = apply(&kernel, &desired, Removal::Allow).await;
        assert_eq!((status.installed, status.pending, status.errors), (1, 2, 2));
        let reason = &problems(&status)["10.1.0.0/26"];
        assert!(reason.starts_with("the kernel refuses it: "), "{reason}");
        assert!(
            problems(&status)["10.3.0.0/26"].contains("no gateway"),
            "{status:?}"
        );
        ip_line("address add 198.51.100.1/24 dev eth0");
        eventually(
            "the gateway is found",
            || (kernel.status().installed == 2).then_some(()),
            || kernel.status(),
        )
        .await;
    });
}

#[test]
fn ten_thousand_routes() {
    run(|| async {
        two_uplinks();
        let kernel = start().await;
        let desired = |gateway: &str| {
            let prefix = |number: u32| {
                format!(
                    "10.{}.{}.{}/26",
                    number >> 10,
                    (number >> 2) & 255,
                    (number & 3) << 6
                )
            };
            Arc::new(
                (0..10_000)
                    .map(|number| (prefix(number).parse().unwrap(), via(gateway)))
                    .collect(),
            )
        };
        let started = std::time::Instant::now();
        apply_all(&kernel, &desired("192.0.2.9")).await;
        let made = started.elapsed();
        assert_eq!(ip_line("route show proto 80").lines().count(), 10_000);
        let started = std::time::Instant::now();
        apply_all(&kernel, &desired("198.51.100.9")).await;
        let replaced = started.elapsed();
        assert_eq!(
            ip_line("route show proto 80 via 198.51.100.9").lines().count(),
            10_000
        );
        let started = std::time::Instant::now();
        let status = apply_all(&kernel, &routes([])).await;
        println!(
            "10,000 routes: made in {made:?}, replaced in {replaced:?}, deleted in {:?}",
            started.elapsed()
        );
        assert_eq!((status.repairs, status.errors, status.overruns), (0, 0, 0));
        assert_eq!(ip_line("route show proto 80"), "");
    });
}

#[test]
fn another_table_and_protocol() {
    run(|| async {
        device("eth0", &["192.0.2.1/24", "2001:db8::1/64"]);
        let settings = Settings {
            protocol: 77,
            table: agent::kernel::TableId(4000),
            ..Settings::default()
        };
        let kernel = Kernel::start(settings.clone()).await.unwrap();
        let desired = routes([
            ("10.1.0.0/26", via("192.0.2.9")),
            ("fd00:1::/122", via("2001:db8::9")),
        ]);
        apply_all(&kernel, &desired).await;
        assert_eq!(show("10.1.0.0/26"), "", "not in the main table");
        let table = ip_line("route show table 4000");
        assert_eq!(table.trim(), "10.1.0.0/26 via 192.0.2.9 dev eth0 proto 77");
        let found: Vec<InstalledRoute> = Kernel::start(settings).await.unwrap().routes().await.unwrap();
        assert_eq!(found.len(), 2);
    });
}

#[test]
fn a_large_foreign_table_does_no_harm() {
    run(|| async {
        device("eth0", &["192.0.2.1/24"]);
        let foreign = |number: u32| {
            format!(
                "route add 172.16.{}.{}/32 via 192.0.2.77",
                number >> 8,
                number & 255
            )
        };
        ip_batch((0..3000).map(foreign));
        let kernel = start().await;
        apply_all(&kernel, &routes([("10.1.0.0/26", via("192.0.2.9"))])).await;
        apply_all(&kernel, &routes([])).await;
        assert_eq!(ip_line("route show via 192.0.2.77").lines().count(), 3000);
        assert!(kernel.source_address(address("172.16.1.1")).await.is_ok());
    });
}
