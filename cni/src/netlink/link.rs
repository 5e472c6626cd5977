//! Links: asking for them, and reading what the kernel says of them.

use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use nix::libc;

use super::{Answer, Batch, Netlink, NetlinkError, attribute, number, text};

/// Octets of `struct ifinfomsg`.
const HEADER: usize = 16;

/// What the plugin wants to know of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Index in its namespace.
    pub(crate) index: u32,
    /// Is it set up?
    pub(crate) up: bool,
    /// Name.
    pub(crate) name: String,
    /// Label, empty where it has none.
    pub(crate) alias: String,
    /// Link-layer address.
    pub(crate) mac: Vec<u8>,
    /// Largest packet.
    pub(crate) mtu: u32,
    /// Group; the agent moves what it is about to delete out of group 0.
    pub(crate) group: u32,
    /// Index of the other end of a veth pair, in that end's namespace.
    pub(crate) peer: Option<u32>,
}

impl Link {
    /// Reads the body of an `RTM_NEWLINK`.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let attributes = body.get(HEADER..)?;
        let get = |kind| attribute(attributes, kind);
        let get_number = |kind| get(kind).and_then(|value| number(value, 0));
        Some(Self {
            index: number(body, 4)?,
            up: number(body, 8)? & libc::IFF_UP.cast_unsigned() != 0,
            name: get(libc::IFLA_IFNAME).map(text)?,
            alias: get(libc::IFLA_IFALIAS).map(text).unwrap_or_default(),
            mac: get(libc::IFLA_ADDRESS).unwrap_or_default().to_vec(),
            mtu: get_number(libc::IFLA_MTU).unwrap_or_default(),
            group: get_number(libc::IFLA_GROUP).unwrap_or_default(),
            peer: get_number(libc::IFLA_LINK),
        })
    }

    /// The first link among answers.
    pub(crate) fn among(answers: &[Answer]) -> Option<Self> {
        answers
            .iter()
            .filter(|answer| answer.kind == libc::RTM_NEWLINK)
            .find_map(|answer| Self::decode(&answer.body))
    }
}

/// Adds the question for a link of that name to a batch.
pub(crate) fn ask(batch: &mut Batch, name: &str) {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    batch.push(
        libc::RTM_GETLINK,
        NLM_F_REQUEST,
        &message,
        format!("look for {name}"),
    );
    batch.tolerate(libc::ENODEV);
}

/// The link of that name, where there is one.
pub(crate) fn find(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::default();
    ask(&mut batch, name);
    Ok(Link::among(&netlink.send(batch)?))
}

/// Every link of the namespace.
pub(crate) fn list(netlink: &mut Netlink) -> Result<Vec<Link>, NetlinkError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    let answers = netlink.dump(libc::RTM_GETLINK, &message, "list links")?;
    Ok(answers
        .iter()
        .filter_map(|answer| Link::decode(&answer.body))
        .collect())
}

/// Deletes a link; well if it is gone already.
pub(crate) fn delete(netlink: &mut Netlink, link: &Link) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    let mut batch = Batch::default();
    batch.push(libc::RTM_DELLINK, 0, &message, format!("delete {}", link.name));
    batch.tolerate(libc::ENODEV);
    netlink.send(batch).map(drop)
}
