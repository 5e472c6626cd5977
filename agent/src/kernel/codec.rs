//! Between our words and rtnetlink's: requests are built and answers and events read here, and nowhere else.
//!
//! IPv4 and IPv6 differ in what makes two routes the same. In IPv4 it is destination, TOS and metric (0 by default); in
//! IPv6 destination and metric (1024 by default). Routes with a TOS or a source prefix are nothing to us.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
        RouteProtocol, RouteScope, RouteType, RouteVia,
    },
};

use super::{
    netlink::Message,
    route::{Hop, Kind, Op, RouteKey, RouteRecord},
    types::{Family, Gateway, Link, Links, RouteTarget, TableId},
};

/// `RTNLGRP_*`: links, IPv4 addresses, routes and rules, IPv6 addresses, routes and rules.
pub(super) const EVENT_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// A request, and the flags its header bears.
pub(super) type Flagged = (u16, RouteNetlinkMessage);

/// What the kernel says has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A device is new or has changed. Its addresses are not part of it.
    Link(Link),
    /// A device is gone.
    LinkGone(u32),
    /// A device has an address.
    Address { index: u32, net: IpNet },
    /// A device has an address no more.
    AddressGone { index: u32, net: IpNet },
    /// There is a route, in the place of another with the same key where `replaces`.
    Route { record: RouteRecord, replaces: bool },
    /// There is a route no more.
    RouteGone(RouteRecord),
    /// A policy rule came or went.
    Rules,
}

/// Reads an event, or an entry of a dump.
pub(super) fn event(message: Message) -> Option<Event> {
    let replaces = message.header.flags & NLM_F_REPLACE != 0;
    let NetlinkPayload::InnerMessage(inner) = message.payload else {
        return None;
    };
    match inner {
        RouteNetlinkMessage::NewLink(message) => link(&message).map(Event::Link),
        RouteNetlinkMessage::DelLink(message) => {
            // A port that leaves a bridge is told of with the family AF_BRIDGE; the device itself stays.
            let device = message.header.interface_family == AddressFamily::Unspec;
            device.then_some(Event::LinkGone(message.header.index))
        }
        RouteNetlinkMessage::NewAddress(message) => address(&message).map(|net| Event::Address {
            index: message.header.index,
            net,
        }),
        RouteNetlinkMessage::DelAddress(message) => address(&message).map(|net| Event::AddressGone {
            index: message.header.index,
            net,
        }),
        RouteNetlinkMessage::NewRoute(message) => {
            route(&message).map(|record| Event::Route { record, replaces })
        }
        RouteNetlinkMessage::DelRoute(message) => route(&message).map(Event::RouteGone),
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(Event::Rules),
        _ => None,
    }
}

/// Reads a device, without its addresses.
pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        loopback: flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn address(message: &AddressMessage) -> Option<IpNet> {
    // On a point-to-point link ADDRESS is the other end's and LOCAL ours; elsewhere IPv6 has ADDRESS only.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(any)?, message.header.prefix_len).ok()
}

/// Reads a route; none for one that is nothing to us.
pub(super) fn route(message: &RouteMessage) -> Option<RouteRecord> {
    let header = &message.header;
    let family = match header.address_family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    if header.flags.contains(RouteFlags::Cloned) || header.tos != 0 || header.source_prefix_length != 0 {
        return None;
    }
    let mut destination = family.unspecified();
    let mut record = RouteRecord {
        key: RouteKey {
            prefix: IpNet::new(destination, 0).ok()?,
            metric: 0,
        },
        table: TableId(u32::from(header.table)),
        protocol: header.protocol.into(),
        kind: kind(header.kind),
        hops: Vec::new(),
    };
    let mut single = Hop {
        onlink: header.flags.contains(RouteFlags::Onlink),
        ..Hop::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Table(table) => record.table = TableId(*table),
            RouteAttribute::Priority(metric) => record.key.metric = *metric,
            RouteAttribute::Oif(index) => single.index = *index,
            RouteAttribute::MultiPath(hops) => record.hops = hops.iter().map(hop).collect(),
            other => single.gateway = gateway(other).or(single.gateway),
        }
    }
    record.key.prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
    if record.hops.is_empty() && record.kind == Kind::Unicast {
        record.hops.push(single);
    }
    Some(record)
}

fn kind(kind: RouteType) -> Kind {
    match kind {
        RouteType::Unicast => Kind::Unicast,
        RouteType::Local => Kind::Local,
        RouteType::BlackHole => Kind::Blackhole,
        _ => Kind::Other,
    }
}

fn hop(hop: &RouteNextHop) -> Hop {
    Hop {
        gateway: hop.attributes.iter().find_map(gateway),
        index: hop.interface_index,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
    }
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The source address in the answer to [`lookup`].
pub(super) fn source(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    })
}

/// Asks for all devices.
pub(super) fn dump_links() -> Flagged {
    (NLM_F_DUMP, RouteNetlinkMessage::GetLink(LinkMessage::default()))
}

/// Asks for all addresses.
pub(super) fn dump_addresses() -> Flagged {
    (
        NLM_F_DUMP,
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
    )
}

/// Asks for all routes of a table, ours and others'.
pub(super) fn dump_routes(family: Family, table: TableId) -> Flagged {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    set_table(&mut message, table);
    (NLM_F_DUMP, RouteNetlinkMessage::GetRoute(message))
}

/// Asks for the entry of the FIB that a packet to `address` would follow, or (not `entry`) for the route it would have.
pub(super) fn lookup(address: IpAddr, entry: bool) -> Flagged {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(address));
    message.header.destination_prefix_length = IpNet::from(address).prefix_len();
    if entry {
        message.header.flags = RouteFlags::FibMatch;
    }
    message
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    (0, RouteNetlinkMessage::GetRoute(message))
}

/// Asks for the device of that name.
pub(super) fn find_link(name: &str) -> Flagged {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    (0, RouteNetlinkMessage::GetLink(message))
}

/// Asks to put a device into a group.
pub(super) fn set_group(index: u32, group: u32) -> Flagged {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Group(group));
    (NLM_F_ACK, RouteNetlinkMessage::SetLink(message))
}

/// Asks to delete every device of a group.
pub(super) fn delete_group(group: u32) -> Flagged {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    (NLM_F_ACK, RouteNetlinkMessage::DelLink(message))
}

/// Asks for a change of a route of protocol `protocol`. `None` where a device it names does not exist.
pub(super) fn change(op: &Op, table: TableId, protocol: u8, links: &Links) -> Option<Flagged> {
    let (flags, key, target) = match op {
        Op::Create(key, target) => (NLM_F_CREATE | NLM_F_EXCL, key, target),
        // Without CREATE: where the route we mean to replace is gone, nothing is replaced.
        Op::Replace(key, target) => (NLM_F_REPLACE, key, target),
        Op::Delete(key) => {
            let mut message = keyed(key, table, protocol);
            message.header.scope = RouteScope::NoWhere;
            return Some((NLM_F_ACK, RouteNetlinkMessage::DelRoute(message)));
        }
    };
    let mut message = keyed(key, table, protocol);
    message.header.kind = RouteType::Unicast;
    match target {
        RouteTarget::Blackhole => message.header.kind = RouteType::BlackHole,
        RouteTarget::Device { name } => {
            message.header.scope = RouteScope::Link;
            message
                .attributes
                .push(RouteAttribute::Oif(links.name(name)?.index));
        }
        RouteTarget::Gateways(gateways) => match gateways.as_slice() {
            [gateway] => set_gateway(&mut message, gateway, links)?,
            _ => {
                let hops: Option<Vec<_>> = gateways
                    .iter()
                    .map(|gateway| next_hop(gateway, key, links))
                    .collect();
                message.attributes.push(RouteAttribute::MultiPath(hops?));
            }
        },
    }
    Some((flags | NLM_F_ACK, RouteNetlinkMessage::NewRoute(message)))
}

/// Asks for the deletion of a route if it leads onto the device `index`.
pub(super) fn delete_from_device(key: &RouteKey, index: u32, table: TableId, protocol: u8) -> Flagged {
    let mut message = keyed(key, table, protocol);
    message.header.scope = RouteScope::NoWhere;
    message.attributes.push(RouteAttribute::Oif(index));
    (NLM_F_ACK, RouteNetlinkMessage::DelRoute(message))
}

fn keyed(key: &RouteKey, table: TableId, protocol: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(key.prefix.addr()));
    message.header.destination_prefix_length = key.prefix.prefix_len();
    message.header.protocol = RouteProtocol::from(protocol);
    message
        .attributes
        .push(RouteAttribute::Destination(key.prefix.network().into()));
    if key.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(key.metric));
    }
    set_table(&mut message, table);
    message
}

fn set_gateway(message: &mut RouteMessage, gateway: &Gateway, links: &Links) -> Option<()> {
    if gateway.onlink {
        message.header.flags |= RouteFlags::Onlink;
    }
    if let Some(device) = &gateway.device {
        message
            .attributes
            .push(RouteAttribute::Oif(links.name(device)?.index));
    }
    message
        .attributes
        .push(gateway_attribute(gateway.address, message.header.address_family));
    Some(())
}

fn next_hop(gateway: &Gateway, key: &RouteKey, links: &Links) -> Option<RouteNextHop> {
    let mut hop = RouteNextHop::default();
    if gateway.onlink {
        hop.flags |= RouteNextHopFlags::Onlink;
    }
    if let Some(device) = &gateway.device {
        hop.interface_index = links.name(device)?.index;
    }
    let family = address_family(Family::of(key.prefix.addr()));
    hop.attributes.push(gateway_attribute(gateway.address, family));
    Some(hop)
}

fn gateway_attribute(address: IpAddr, family: AddressFamily) -> RouteAttribute {
    match address {
        // RFC 8950: an IPv4 route through an IPv6 router.
        IpAddr::V6(address) if family == AddressFamily::Inet => RouteAttribute::Via(RouteVia::Inet6(address)),
        address => RouteAttribute::Gateway(address.into()),
    }
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn set_table(message: &mut RouteMessage, table: TableId) {
    match u8::try_from(table.0) {
        Ok(table) => message.header.table = table,
        Err(_) => {
            message.header.table = RouteHeader::RT_TABLE_UNSPEC;
            message.attributes.push(RouteAttribute::Table(table.0));
        }
    }
}
