//! Addresses and routes: reading what the kernel says of them, for CHECK.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily,
    address::AddressMessage,
    route::{RouteAttribute, RouteMessage},
};
use nix::libc;

use super::{Batch, Netlink, NetlinkError, attribute, number};

/// Octets of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Octets of `struct rtmsg`.
const ROUTE_HEADER: usize = 12;

/// The link and the address that the body of an `RTM_NEWADDR` is about.
pub(super) fn decode(body: &[u8]) -> Option<(u32, IpAddr)> {
    let attributes = body.get(ADDRESS_HEADER..)?;
    let value =
        attribute(attributes, libc::IFA_LOCAL).or_else(|| attribute(attributes, libc::IFA_ADDRESS))?;
    let address = if let Ok(octets) = <[u8; 4]>::try_from(value) {
        IpAddr::from(octets)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(value).ok()?)
    };
    Some((number(body, 4)?, address))
}

/// Addresses of a link.
pub(crate) fn of_link(netlink: &mut Netlink, index: u32) -> Result<Vec<IpAddr>, NetlinkError> {
    let answers = netlink.dump(libc::RTM_GETADDR, &AddressMessage::default(), "list addresses")?;
    Ok(answers
        .iter()
        .filter_map(|answer| decode(&answer.body))
        .filter(|(link, _)| *link == index)
        .map(|(_, address)| address)
        .collect())
}

/// Index of the link that packets for an address leave by; `None` where there is no route.
pub(crate) fn way_to(netlink: &mut Netlink, address: IpAddr) -> Result<Option<u32>, NetlinkError> {
    let mut message = RouteMessage::default();
    (
        message.header.address_family,
        message.header.destination_prefix_length,
    ) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    let mut batch = Batch::default();
    batch.push(
        libc::RTM_GETROUTE,
        0,
        &message,
        format!("look for the route to {address}"),
    );
    let answers = match netlink.send(batch) {
        Err(error) if error.is(libc::ENETUNREACH) || error.is(libc::EHOSTUNREACH) => return Ok(None),
        answers => answers?,
    };
    Ok(answers.iter().find_map(|answer| {
        attribute(answer.body.get(ROUTE_HEADER..)?, libc::RTA_OIF).and_then(|value| number(value, 0))
    }))
}
