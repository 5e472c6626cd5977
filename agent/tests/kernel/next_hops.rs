//! How addresses are reached, without the help of our own routes.

use std::{collections::BTreeMap, net::IpAddr};

use agent::kernel::{Kernel, NextHop};
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteFlags, RouteMessage},
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use crate::{
    address, apply_all, eventually,
    namespace::{device, ip_line, run},
    routes, start, via,
};

/// The length of the prefix that a packet to `to` would follow, straight from the kernel.
pub(crate) fn lookup(to: &str) -> Result<u8, i32> {
    thread_local!(static SOCKET: Socket = Socket::new(NETLINK_ROUTE).unwrap());
    let to: IpAddr = to.parse().unwrap();
    let mut message = RouteMessage::default();
    let (family, length) = if to.is_ipv4() {
        (AddressFamily::Inet, 32)
    } else {
        (AddressFamily::Inet6, 128)
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.flags = RouteFlags::FibMatch;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let payload = NetlinkPayload::InnerMessage(RouteNetlinkMessage::GetRoute(message));
    let mut request = NetlinkMessage::new(header, payload);
    request.finalize();
    let mut datagram = vec![0; request.buffer_len()];
    request.serialize(&mut datagram);
    let answer = SOCKET.with(|socket| {
        socket.send(&datagram, 0).unwrap();
        socket.recv_from_full().unwrap().0
    });
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .unwrap()
        .payload
    {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
            Ok(route.header.destination_prefix_length)
        }
        NetlinkPayload::Error(error) => Err(-error.raw_code()),
        other => panic!("{other:?}"),
    }
}

async fn expect<const N: usize>(kernel: &Kernel, wanted: [(&str, NextHop); N]) {
    let wanted: BTreeMap<IpAddr, NextHop> = wanted
        .into_iter()
        .map(|(text, next_hop)| (address(text), next_hop))
        .collect();
    let watch = kernel.watch_next_hops();
    eventually(
        &format!("{wanted:?}"),
        || (**watch.borrow() == wanted).then_some(()),
        || watch.borrow().clone(),
    )
    .await;
}

fn connected(device: &str) -> NextHop {
    NextHop::Connected {
        device: device.into(),
    }
}

fn through(gateway: &str, device: &str) -> NextHop {
    NextHop::Via {
        gateway: address(gateway),
        device: device.into(),
    }
}

#[test]
fn next_hops_follow_the_kernel() {
    run(|| async {
        device("eth0", &["192.0.2.1/24", "2001:db8::1/64"]);
        device("eth1", &["198.51.100.1/24"]);
        ip_line("route add 203.0.113.0/24 via 192.0.2.254");
        let kernel = start().await;
        let tracked = [
            "192.0.2.1",
            "192.0.2.9",
            "203.0.113.9",
            "100.64.0.1",
            "2001:db8::9",
            "2001:db9::9",
        ];
        kernel.track_next_hops(tracked.map(address).into());
        let others = [
            ("192.0.2.1", NextHop::Local),
            ("192.0.2.9", connected("eth0")),
            ("2001:db8::9", connected("eth0")),
            ("2001:db9::9", NextHop::Unreachable),
        ];
        let [a, b, c, d] = others.clone();
        let all = |x, y| {
            [
                a.clone(),
                b.clone(),
                c.clone(),
                d.clone(),
                ("203.0.113.9", x),
                ("100.64.0.1", y),
            ]
        };
        expect(&kernel, all(through("192.0.2.254", "eth0"), NextHop::Unreachable)).await;
        ip_line("route replace 203.0.113.0/24 via 198.51.100.254");
        expect(
            &kernel,
            all(through("198.51.100.254", "eth1"), NextHop::Unreachable),
        )
        .await;
        ip_line("route add default via 192.0.2.254");
        expect(
            &kernel,
            all(through("198.51.100.254", "eth1"), through("192.0.2.254", "eth0")),
        )
        .await;
        // IPv4 says nothing of the routes that a device takes along.
        ip_line("link set eth1 down");
        expect(
            &kernel,
            all(through("192.0.2.254", "eth0"), through("192.0.2.254", "eth0")),
        )
        .await;
        ip_line("route add blackhole 203.0.113.9/32");
        expect(&kernel, all(NextHop::Unreachable, through("192.0.2.254", "eth0"))).await;

        kernel.track_next_hops([address("192.0.2.9")].into());
        expect(&kernel, [("192.0.2.9", connected("eth0"))]).await;
    });
}

#[test]
fn a_route_of_ours_is_no_way_to_a_next_hop() {
    run(|| async {
        device("eth0", &["192.0.2.1/24"]);
        device("eth1", &["198.51.100.1/24"]);
        let kernel = start().await;
        // Ours covers the next hop, and is the longest match.
        apply_all(&kernel, &routes([("203.0.113.0/24", via("198.51.100.9"))])).await;
        assert_eq!(lookup("203.0.113.9"), Ok(24));
        kernel.track_next_hops([address("203.0.113.9")].into());
        expect(&kernel, [("203.0.113.9", NextHop::Unreachable)]).await;
        ip_line("route add 203.0.0.0/16 via 192.0.2.254");
        assert_eq!(lookup("203.0.113.9"), Ok(24), "the kernel would still take ours");
        expect(&kernel, [("203.0.113.9", through("192.0.2.254", "eth0"))]).await;
        ip_line("route del 203.0.0.0/16");
        expect(&kernel, [("203.0.113.9", NextHop::Unreachable)]).await;
    });
}

#[test]
fn the_source_address_is_the_kernels_choice() {
    run(|| async {
        device("eth0", &["192.0.2.1/24", "2001:db8::1/64"]);
        ip_line("route add 203.0.113.0/24 via 192.0.2.254");
        let kernel = start().await;
        assert_eq!(
            kernel.source_address(address("203.0.113.9")).await.unwrap(),
            address("192.0.2.1")
        );
        assert_eq!(
            kernel.source_address(address("2001:db8::9")).await.unwrap(),
            address("2001:db8::1")
        );
        let error = kernel.source_address(address("100.64.0.1")).await.unwrap_err();
        assert!(error.to_string().contains("find a way to 100.64.0.1"), "{error}");
    });
}
