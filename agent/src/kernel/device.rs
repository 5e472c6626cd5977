//! Changes of a device that somebody asks for: up, down, MTU, addresses, and the making of an IPIP device.
//!
//! Each is one request; asking for what is so already is no error.

use std::fmt;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};
use nix::errno::Errno;

use super::codec::Flagged;

/// A change of a device, which is given by its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Up(u32),
    Down(u32),
    Mtu(u32, u32),
    AddAddress(u32, IpNet),
    RemoveAddress(u32, IpNet),
    /// Make a device of that name.
    CreateIpip(String),
}

impl Change {
    /// The request.
    pub(super) fn request(&self) -> Flagged {
        match self {
            Change::Up(index) => {
                let mut message = link(*index);
                message.header.flags = LinkFlags::Up;
                message.header.change_mask = LinkFlags::Up;
                (NLM_F_ACK, RouteNetlinkMessage::SetLink(message))
            }
            Change::Down(index) => {
                let mut message = link(*index);
                message.header.change_mask = LinkFlags::Up;
                (NLM_F_ACK, RouteNetlinkMessage::SetLink(message))
            }
            Change::Mtu(index, mtu) => {
                let mut message = link(*index);
                message.attributes.push(LinkAttribute::Mtu(*mtu));
                (NLM_F_ACK, RouteNetlinkMessage::SetLink(message))
            }
            Change::AddAddress(index, net) => {
                let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
                (flags, RouteNetlinkMessage::NewAddress(address(*index, *net)))
            }
            Change::RemoveAddress(index, net) => {
                (NLM_F_ACK, RouteNetlinkMessage::DelAddress(address(*index, *net)))
            }
            Change::CreateIpip(name) => {
                let mut message = LinkMessage::default();
                message.attributes.push(LinkAttribute::IfName(name.clone()));
                let kind = LinkInfo::Kind(InfoKind::IpIp);
                message.attributes.push(LinkAttribute::LinkInfo(vec![kind]));
                let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
                (flags, RouteNetlinkMessage::NewLink(message))
            }
        }
    }

    /// Errors that mean that it is so already.
    pub(super) fn harmless(&self) -> [Errno; 2] {
        match self {
            Change::Down(_) => [Errno::ENODEV, Errno::ENOENT],
            Change::AddAddress(..) | Change::CreateIpip(_) => [Errno::EEXIST; 2],
            Change::RemoveAddress(..) => [Errno::EADDRNOTAVAIL, Errno::ENODEV],
            // No request is answered with this one.
            Change::Up(_) | Change::Mtu(..) => [Errno::UnknownErrno; 2],
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Up(index) => write!(f, "set device {index} up"),
            Change::Down(index) => write!(f, "set device {index} down"),
            Change::Mtu(index, mtu) => write!(f, "set the MTU of device {index} to {mtu}"),
            Change::AddAddress(index, net) => write!(f, "give device {index} the address {net}"),
            Change::RemoveAddress(index, net) => write!(f, "take the address {net} from device {index}"),
            Change::CreateIpip(name) => write!(f, "make the IPIP device {name}"),
        }
    }
}

fn link(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn address(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message.attributes.push(AddressAttribute::Address(net.addr()));
    message
}
