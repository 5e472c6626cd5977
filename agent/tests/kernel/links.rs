//! Devices: what is known of them, routes that wait for them, and their removal.

use std::{collections::BTreeSet, sync::Arc};

use agent::kernel::{Link, Links, Removal, RouteTarget};

use crate::{
    apply, apply_all, eventually,
    namespace::{device, ip_line, run, show},
    problems, routes, start, via,
};

fn named(links: &Links, name: &str) -> Link {
    links
        .name(name)
        .unwrap_or_else(|| panic!("no {name} in {links:?}"))
        .clone()
}

#[test]
fn devices_are_known_with_their_addresses() {
    run(|| async {
        device("eth0", &["192.0.2.1/24", "2001:db8::1/64"]);
        let kernel = start().await;
        let mut watch = kernel.watch_links();
        let link = named(&watch.borrow_and_update(), "eth0");
        assert!(link.up && !link.loopback);
        assert_eq!((link.mtu, link.mac.len()), (1500, 6));
        assert!(
            link.addresses.contains(&"192.0.2.1/24".parse().unwrap()),
            "{link:?}"
        );
        assert!(
            link.addresses.contains(&"2001:db8::1/64".parse().unwrap()),
            "{link:?}"
        );
        assert!(named(&watch.borrow(), "lo").loopback);

        for command in [
            "link set eth0 mtu 1400 alias uplink",
            "address add 198.51.100.2/24 dev eth0",
            "address del 192.0.2.1/24 dev eth0",
            "link set eth0 down",
            "link add cali1 type veth peer name cali2",
        ] {
            ip_line(command);
        }
        let seen = watch.clone();
        let wanted = |links: &Arc<Links>| {
            let link = named(links, "eth0");
            let first = link.addresses.first().map(ToString::to_string);
            (link.mtu, link.alias.as_deref(), link.up, first.as_deref())
                == (1400, Some("uplink"), false, Some("198.51.100.2/24"))
                && links.name("cali2").is_some()
        };
        eventually(
            "all changes",
            || wanted(&watch.borrow_and_update()).then_some(()),
            || seen.borrow().clone(),
        )
        .await;
        ip_line("link del cali1");
        eventually(
            "no cali2",
            || watch.borrow_and_update().name("cali2").is_none().then_some(()),
            || seen.borrow().clone(),
        )
        .await;
    });
}

#[test]
fn a_route_waits_for_its_device() {
    run(|| async {
        let kernel = start().await;
        let desired = routes([
            ("10.1.0.5/32", RouteTarget::device("cali1")),
            ("fd00:1::5/128", RouteTarget::device("cali1")),
        ]);
        let status = apply(&kernel, &desired, Removal::Allow).await;
        assert_eq!((status.pending, status.errors), (2, 0));
        assert_eq!(
            problems(&status)["10.1.0.5/32"],
            "waits for device cali1, which is missing or down"
        );
        ip_line("link add cali1 type veth peer name peer1");
        ip_line("link set peer1 up");
        ip_line("link set cali1 up");
        let installed = |count| {
            let kernel = kernel.clone();
            let again = kernel.clone();
            eventually(
                "routes",
                move || (kernel.status().installed == count).then_some(()),
                move || again.status(),
            )
        };
        installed(2).await;
        assert_eq!(show("10.1.0.5/32"), "10.1.0.5 dev cali1 proto 80 scope link");

        // A device that goes down takes its routes along; that is nobody's mischief. When it is back, so are they.
        ip_line("link set cali1 down");
        installed(0).await;
        ip_line("link set cali1 up");
        installed(2).await;
        ip_line("link del cali1");
        installed(0).await;
        ip_line("link add cali1 type veth peer name peer1");
        ip_line("link set cali1 up");
        installed(2).await;
        assert_ne!(show("fd00:1::5/128"), "");
        // Down and up again before anybody looks.
        ip_line("link set cali1 down");
        ip_line("link set cali1 up");
        eventually(
            "back",
            || (!show("10.1.0.5/32").is_empty()).then_some(()),
            || kernel.status(),
        )
        .await;
        installed(2).await;
        assert_eq!(kernel.status().repairs, 0);
    });
}

#[test]
fn routes_come_back_after_the_uplink_lost_its_address() {
    run(|| async {
        device("eth0", &["192.0.2.1/24"]);
        let kernel = start().await;
        let desired = routes([
            ("10.1.0.0/26", via("192.0.2.9")),
            ("10.2.0.0/26", RouteTarget::Blackhole),
        ]);
        apply_all(&kernel, &desired).await;
        // The kernel takes the route away and says nothing of it.
        ip_line("address del 192.0.2.1/24 dev eth0");
        eventually(
            "the loss",
            || (kernel.status().installed == 1).then_some(()),
            || kernel.status(),
        )
        .await;
        ip_line("address add 192.0.2.1/24 dev eth0");
        eventually(
            "the route",
            || (kernel.status().installed == 2).then_some(()),
            || kernel.status(),
        )
        .await;
        assert_eq!(show("10.1.0.0/26"), "10.1.0.0/26 via 192.0.2.9 dev eth0 proto 80");
    });
}

#[test]
fn devices_are_set_down_and_deleted_in_a_batch() {
    run(|| async {
        let names: Vec<String> = (0..40).map(|number| format!("cali{number}")).collect();
        for name in &names {
            ip_line(&format!("link add {name} type veth peer name p-{name}"));
            ip_line(&format!("link set {name} up"));
        }
        device("eth0", &["192.0.2.1/24"]);
        ip_line("link set eth0 group 77");
        let kernel = start().await;
        apply_all(&kernel, &routes([("10.1.0.5/32", RouteTarget::device("cali0"))])).await;
        let link = kernel.find_link("cali0").await.unwrap().expect("cali0");
        assert!(link.up && link.name == "cali0", "{link:?}");
        kernel.set_link_down(link.index).await.unwrap();
        assert_eq!(show("10.1.0.5/32"), "", "the route is gone when the call returns");
        assert!(
            !kernel.find_link("cali0").await.unwrap().unwrap().up,
            "known at once"
        );
        kernel
            .set_link_down(9999)
            .await
            .expect("a device that does not exist is down");
        assert_eq!(kernel.find_link("cali-none").await.unwrap(), None);

        let index = |name: &str| kernel.watch_links().borrow().name(name).expect("a device").index;
        let batch: Vec<u32> = names.iter().map(|name| index(name)).chain([9999]).collect();
        let (now, later) = batch.split_at(20);
        kernel.delete_links(now.iter().copied()).await.unwrap();
        let names = || {
            let lines = ip_line("-o link show");
            lines
                .lines()
                .filter_map(|line| line.split([':', '@']).nth(1))
                .map(|name| name.trim().to_owned())
                .collect()
        };
        let left: BTreeSet<String> = names();
        assert!(
            left.contains("eth0") && left.contains("cali20") && !left.contains("cali19"),
            "{left:?}"
        );
        kernel
            .delete_links(now.iter().copied())
            .await
            .expect("twice is fine");
        kernel.delete_links([]).await.expect("none is fine");

        later.iter().for_each(|index| kernel.delete_link(*index));
        let gone = || (!names().iter().any(|name| name.contains("cali"))).then_some(());
        eventually("no cali device", gone, names).await;
        assert!(names().contains("eth0"));
        let error = kernel.delete_links([1]).await.unwrap_err();
        assert!(
            error.to_string().contains("refuses to delete devices [1]"),
            "{error}"
        );
    });
}

#[test]
fn a_device_is_changed_as_asked_and_asking_twice_does_no_harm() {
    run(|| async {
        device("eth0", &["192.0.2.1/24"]);
        let kernel = start().await;
        let mut watch = kernel.watch_links();
        let index = named(&watch.borrow_and_update(), "eth0").index;
        let (own, first) = ("10.233.64.7/32".parse().unwrap(), "192.0.2.1/24".parse().unwrap());
        kernel.set_link_down(index).await.unwrap();
        for _ in 0..2 {
            kernel.set_link_mtu(index, 1380).await.unwrap();
            kernel.set_link_up(index).await.unwrap();
            kernel.add_address(index, own).await.unwrap();
            kernel.remove_address(index, first).await.unwrap();
        }
        let seen = watch.clone();
        eventually(
            "the changes",
            || {
                let link = named(&watch.borrow_and_update(), "eth0");
                let v4: Vec<_> = link.addresses.iter().filter(|net| net.addr().is_ipv4()).collect();
                (link.up && link.mtu == 1380 && v4 == [&own]).then_some(())
            },
            || seen.borrow().clone(),
        )
        .await;

        let refused = kernel.add_address(9999, own).await.unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("the kernel refuses to give device 9999 the address 10.233.64.7/32: "),
            "{refused}"
        );
        assert!(!refused.is_unsupported());
    });
}

/// Some kernels have IPIP and some have not; which of the two must be clear.
#[test]
fn an_ipip_device_is_made_or_the_kernel_has_none() {
    run(|| async {
        let kernel = start().await;
        let mut made = Ok(());
        for _ in 0..2 {
            made = kernel.create_ipip("tunl0").await;
        }
        let found = kernel.find_link("tunl0").await.unwrap();
        match made {
            Ok(()) => assert!(found.is_some(), "made twice, and not there"),
            Err(error) => assert!(error.is_unsupported() && found.is_none(), "{error}: {found:?}"),
        }
    });
}
