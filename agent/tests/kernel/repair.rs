//! What others do to our routes, and events that are lost.

use std::time::Duration;

use agent::kernel::{Kernel, Removal, RouteTarget, Settings};

use crate::{
    apply, apply_all, eventually, gateways,
    namespace::{device, ip_batch, ip_line, run, show},
    routes, start, via,
};

#[test]
fn a_route_that_somebody_deletes_is_put_back_and_counted() {
    run(|| async {
        device("eth0", &["192.0.2.1/24", "2001:db8::1/64"]);
        let kernel = start().await;
        let desired = routes([
            ("10.1.0.0/26", via("192.0.2.9")),
            ("fd00:1::/122", via("2001:db8::9")),
        ]);
        apply_all(&kernel, &desired).await;
        assert_eq!(kernel.status().repairs, 0);
        for (repairs, command) in [
            (1, "route del 10.1.0.0/26"),
            (2, "-6 route del fd00:1::/122"),
            (3, "route change 10.1.0.0/26 via 192.0.2.66 proto 80"),
            (4, "route flush proto 80"),
        ] {
            ip_line(command);
            eventually(
                command,
                || (kernel.status().repairs == repairs).then_some(()),
                || kernel.status(),
            )
            .await;
            assert_eq!(kernel.status().installed, 2);
            assert_eq!(
                show("10.1.0.0/26"),
                "10.1.0.0/26 via 192.0.2.9 dev eth0 proto 80",
                "after {command}"
            );
            assert!(
                show("fd00:1::/122").contains("via 2001:db8::9 dev eth0 proto 80"),
                "after {command}"
            );
        }
    });
}

#[test]
fn a_lost_next_hop_of_several_is_put_back() {
    run(|| async {
        device("eth0", &["192.0.2.1/24", "2001:db8::1/64"]);
        let kernel = start().await;
        let desired = routes([
            ("10.1.0.0/26", gateways(["192.0.2.8", "192.0.2.9"])),
            ("fd00:1::/122", gateways(["2001:db8::8", "2001:db8::9"])),
        ]);
        apply_all(&kernel, &desired).await;
        ip_line("-6 route del fd00:1::/122 via 2001:db8::9 dev eth0");
        eventually(
            "a repair",
            || (kernel.status().repairs == 1).then_some(()),
            || kernel.status(),
        )
        .await;
        assert!(
            show("fd00:1::/122").contains("via 2001:db8::9"),
            "{}",
            show("fd00:1::/122")
        );
    });
}

#[test]
fn a_quarrel_does_not_become_a_busy_loop() {
    run(|| async {
        device("eth0", &["192.0.2.1/24"]);
        let kernel = start().await;
        apply_all(&kernel, &routes([("10.1.0.0/26", RouteTarget::Blackhole)])).await;
        // The other side undoes each repair as soon as it sees it.
        for repairs in 1..=4 {
            ip_line("route del blackhole 10.1.0.0/26");
            eventually(
                "a repair",
                || (kernel.status().repairs == repairs).then_some(()),
                || kernel.status(),
            )
            .await;
        }
        ip_line("route del blackhole 10.1.0.0/26");
        let complaint = eventually(
            "a complaint",
            || {
                kernel
                    .status()
                    .problems
                    .first()
                    .map(|problem| problem.reason.clone())
            },
            || kernel.status(),
        )
        .await;
        assert!(complaint.contains("somebody else keeps changing"), "{complaint}");
        eventually(
            "a repair in the end",
            || (kernel.status().repairs == 5).then_some(()),
            || kernel.status(),
        )
        .await;
    });
}

#[test]
fn the_periodic_reading_finds_what_events_did_not_tell() {
    run(|| async {
        device("eth0", &["192.0.2.1/24", "198.51.100.1/24"]);
        let settings = Settings {
            resync: Duration::from_millis(200),
            ..Settings::default()
        };
        let kernel = Kernel::start(settings).await.unwrap();
        let desired = routes([("10.1.0.0/26", RouteTarget::Blackhole)]);
        apply_all(&kernel, &desired).await;
        let before = kernel.status().resyncs;
        eventually(
            "a reading",
            || (kernel.status().resyncs > before + 1).then_some(()),
            || kernel.status(),
        )
        .await;
        let status = kernel.status();
        assert_eq!(
            (status.installed, status.repairs),
            (1, 0),
            "a reading that finds nothing mends nothing"
        );
    });
}

#[test]
fn lost_events_bring_about_a_reading() {
    run(|| async {
        device("eth0", &["192.0.2.1/24"]);
        // So small a buffer overflows while this thread, which the task runs on as well, is in `ip`.
        let settings = Settings {
            event_buffer: 4096,
            ..Settings::default()
        };
        let kernel = Kernel::start(settings).await.unwrap();
        let desired = routes([
            ("10.1.0.0/26", RouteTarget::Blackhole),
            ("10.2.0.0/26", via("192.0.2.9")),
        ]);
        apply_all(&kernel, &desired).await;
        let noise = |number: u32| {
            format!(
                "route add 172.16.{}.{}/32 via 192.0.2.77",
                number >> 8,
                number & 255
            )
        };
        ip_batch(
            (0..2000)
                .map(noise)
                .chain(["route del 10.2.0.0/26 via 192.0.2.9".to_owned()]),
        );
        eventually(
            "a repair",
            || (kernel.status().repairs == 1).then_some(()),
            || kernel.status(),
        )
        .await;
        let status = kernel.status();
        assert!(status.overruns > 0, "nothing was lost: {status:?}");
        assert_eq!(status.installed, 2);
        // Our own burst of changes may lose events as well.
        let many = (0..2000u32).map(|number| {
            (
                format!("10.7.{}.{}/32", number >> 8, number & 255)
                    .parse()
                    .unwrap(),
                RouteTarget::Blackhole,
            )
        });
        let many = std::sync::Arc::new(many.collect());
        let status = apply(&kernel, &many, Removal::Allow).await;
        eventually(
            "all",
            || (kernel.status().installed == 2000).then_some(()),
            || kernel.status(),
        )
        .await;
        assert_eq!(ip_line("route show proto 80").lines().count(), 2000, "{status:?}");
    });
}
