//! A pod's wiring as netlink requests: the veth pair, then one batch for each end. Nothing here sends.
//!
//! The pod's end: its address /32 (or /128), a gateway every pod shares, the default route by it, and a permanent
//! neighbour, so that the pod never has to ask. For IPv4 the gateway is 169.254.1.1, which nobody has: the host
//! answers for it by proxy ARP. For IPv6 it is the link-local address of the host's end, which follows from its
//! MAC address (RFC 4291, appendix A). The host's end: a route to each address, of the agent's route protocol.
//!
//! Every request leaves alone, or puts right, what is there already.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd},
};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use nix::libc;

use crate::{
    netlink::{Batch, link},
    veth::HOST_MAC,
};

/// The pod's IPv4 gateway.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The pod's IPv6 gateway: the link-local address that belongs to [`HOST_MAC`].
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Gateway for a pod's address.
pub(super) fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY_V4.into(),
        IpAddr::V6(_) => GATEWAY_V6.into(),
    }
}

/// Makes the pair, the pod's end straight in the pod's namespace, and asks for the host's end.
pub(super) fn pair(host_device: &str, ifname: &str, pod: &impl AsFd) -> Batch {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(ifname.to_owned()),
        LinkAttribute::NetNsFd(pod.as_fd().as_raw_fd()),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    let mut host = LinkMessage::default();
    host.attributes = vec![
        LinkAttribute::IfName(host_device.to_owned()),
        LinkAttribute::Address(HOST_MAC.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    let mut batch = Batch::default();
    batch.push(
        libc::RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &host,
        format!("make the veth pair {host_device}, {ifname}"),
    );
    link::ask(&mut batch, host_device);
    batch
}

/// The host's end.
pub(super) struct HostSide<'a> {
    pub(super) device: &'a str,
    pub(super) index: u32,
    pub(super) label: &'a str,
    pub(super) mtu: u32,
    pub(super) addresses: &'a [IpAddr],
    pub(super) protocol: u8,
}

impl HostSide<'_> {
    /// Labels it, sets it up, and routes the pod's addresses to it.
    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        let label = LinkAttribute::IfAlias(self.label.to_owned());
        set_up(&mut batch, self.device, self.index, self.mtu, vec![label]);
        if self.addresses.iter().any(IpAddr::is_ipv6) {
            push_address(&mut batch, self.device, self.index, GATEWAY_V6.into(), 64);
        }
        for address in self.addresses {
            let mut route = route(*address, self.index);
            route.header.protocol = RouteProtocol::from(self.protocol);
            route.header.scope = match address {
                IpAddr::V4(_) => RouteScope::Link,
                IpAddr::V6(_) => RouteScope::Universe,
            };
            batch.push(
                libc::RTM_NEWROUTE,
                NLM_F_CREATE | NLM_F_REPLACE,
                &route,
                format!("route {address} to {}", self.device),
            );
        }
        batch
    }
}

/// The pod's end.
pub(super) struct PodSide<'a> {
    pub(super) ifname: &'a str,
    pub(super) index: u32,
    pub(super) mtu: u32,
    pub(super) addresses: &'a [IpAddr],
}

impl PodSide<'_> {
    /// Sets it up with addresses, gateways, default routes and neighbours, and asks for it.
    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        set_up(&mut batch, self.ifname, self.index, self.mtu, Vec::new());
        for address in self.addresses {
            let length = if address.is_ipv4() { 32 } else { 128 };
            push_address(&mut batch, self.ifname, self.index, *address, length);
        }
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = self.addresses.iter().partition(|each| each.is_ipv4());
        if !v4.is_empty() {
            self.push_gateway_route(&mut batch);
            self.push_default(&mut batch, GATEWAY_V4.into());
        }
        if !v6.is_empty() {
            self.push_default(&mut batch, GATEWAY_V6.into());
        }
        link::ask(&mut batch, self.ifname);
        batch
    }

    /// `169.254.1.1 dev eth0 scope link`: the gateway is no neighbour by any address the pod has. Appended, because a
    /// pod's second interface has one of its own.
    fn push_gateway_route(&self, batch: &mut Batch) {
        let mut route = route(GATEWAY_V4.into(), self.index);
        route.header.scope = RouteScope::Link;
        let what = format!("route {GATEWAY_V4} to the pod's {}", self.ifname);
        batch.push(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, &route, what);
        batch.tolerate(libc::EEXIST);
    }

    /// A default route that is there already stays: this may be the pod's second interface.
    fn push_default(&self, batch: &mut Batch, gateway: IpAddr) {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.family = family(gateway);
        neighbour.header.ifindex = self.index;
        neighbour.header.state = NeighbourState::Permanent;
        neighbour.header.kind = RouteType::Unicast;
        neighbour.attributes = vec![
            NeighbourAttribute::Destination(gateway.into()),
            NeighbourAttribute::LinkLayerAddress(HOST_MAC.to_vec()),
        ];
        let what = format!("make {gateway} a neighbour of the pod's {}", self.ifname);
        batch.push(libc::RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &neighbour, what);

        let mut route = route(gateway, self.index);
        route.header.destination_prefix_length = 0;
        route.attributes = vec![
            RouteAttribute::Gateway(gateway.into()),
            RouteAttribute::Oif(self.index),
        ];
        let what = format!("set the pod's default route via {gateway}");
        batch.push(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, what);
        batch.tolerate(libc::EEXIST);
    }
}

/// Sets a link up, with its MTU and what else is given.
fn set_up(batch: &mut Batch, name: &str, index: u32, mtu: u32, mut attributes: Vec<LinkAttribute>) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    attributes.push(LinkAttribute::Mtu(mtu));
    message.attributes = attributes;
    let what = format!("set {name} up with MTU {mtu}");
    batch.push(libc::RTM_SETLINK, 0, &message, what);
}

/// NODAD: nobody else can have the address, and a pod that starts must not wait a second to find that out.
fn push_address(batch: &mut Batch, name: &str, index: u32, address: IpAddr, length: u8) {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = length;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    if address == IpAddr::from(GATEWAY_V6) {
        message.header.scope = AddressScope::Link;
    }
    let what = format!("add {address}/{length} to {name}");
    batch.push(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &message, what);
}

/// A unicast route of the main table to one address.
fn route(address: IpAddr, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(address.into()),
        RouteAttribute::Oif(index),
    ];
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
