//! What the rest of the agent says to the kernel and hears from it. No netlink type appears here.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A routing table's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub u32);

impl TableId {
    /// The main table.
    pub const MAIN: TableId = TableId(254);
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the kernel side works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Protocol number of every route of ours. A route that bears another is never touched.
    pub protocol: u8,
    /// The table our routes live in.
    pub table: TableId,
    /// How often the kernel is read again as a whole.
    pub resync: Duration,
    /// Receive buffer for the kernel's events, in octets. Where it overflows the kernel is read again.
    pub event_buffer: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            protocol: 80,
            table: TableId::MAIN,
            resync: Duration::from_secs(90),
            event_buffer: 8 << 20,
        }
    }
}

/// A next hop of a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gateway {
    /// Its address.
    pub address: IpAddr,
    /// The device towards it; none lets the kernel find it. An IPv6 link-local address needs one.
    pub device: Option<String>,
    /// True where the gateway is on the link although no route says so (tunnels).
    pub onlink: bool,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RouteTarget {
    /// Nowhere: packets are dropped.
    Blackhole,
    /// Straight onto a device, scope link.
    Device {
        /// Its name.
        name: String,
    },
    /// Through one gateway, or several with equal weight (ECMP). Order has no meaning.
    Gateways(Vec<Gateway>),
}

impl RouteTarget {
    /// A route through one gateway whose device the kernel finds.
    pub fn via(address: IpAddr) -> Self {
        RouteTarget::Gateways(vec![Gateway {
            address,
            device: None,
            onlink: false,
        }])
    }

    /// A route onto a device.
    pub fn device(name: impl Into<String>) -> Self {
        RouteTarget::Device { name: name.into() }
    }

    /// The devices the route names.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        let (own, gateways) = match self {
            RouteTarget::Blackhole => (None, &[][..]),
            RouteTarget::Device { name } => (Some(name.as_str()), &[][..]),
            RouteTarget::Gateways(gateways) => (None, gateways.as_slice()),
        };
        own.into_iter()
            .chain(gateways.iter().filter_map(|gateway| gateway.device.as_deref()))
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteTarget::Blackhole => f.write_str("blackhole"),
            RouteTarget::Device { name } => write!(f, "dev {name}"),
            RouteTarget::Gateways(gateways) => {
                for (position, gateway) in gateways.iter().enumerate() {
                    let separator = if position == 0 { "" } else { ", " };
                    write!(f, "{separator}via {}", gateway.address)?;
                    if let Some(device) = &gateway.device {
                        write!(f, " dev {device}")?;
                    }
                    if gateway.onlink {
                        f.write_str(" onlink")?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The routes there should be.
pub type Routes = BTreeMap<IpNet, RouteTarget>;

/// Which routes of ours may be deleted that are not desired, which earlier runs of the agent may have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Removal {
    /// None: not everything that is desired is known yet. Routes are only added and replaced.
    #[default]
    Hold,
    /// Blackholes and device routes, whose desired state is known; routes through gateways stay until BGP has converged.
    HoldGateways,
    /// All.
    Allow,
}

/// A route of ours as it is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstalledRoute {
    /// Destination.
    pub prefix: IpNet,
    /// Its metric; ours have the kernel's default (0 for IPv4, 1024 for IPv6), an earlier run may have left others.
    pub metric: u32,
    /// Where it leads; none for a kind of route we never make.
    pub target: Option<RouteTarget>,
}

/// How well the kernel agrees with what is desired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelStatus {
    /// Routes there should be.
    pub desired: usize,
    /// Those of them that are in the kernel, exactly as desired.
    pub installed: usize,
    /// Those that are not.
    pub pending: usize,
    /// Routes of ours that nobody desires: about to be deleted, or held (see [`Removal`]).
    pub stale: usize,
    /// Pending because a foreign route has the same key.
    pub foreign_conflicts: usize,
    /// Pending because the kernel refused them.
    pub errors: usize,
    /// Times a route of ours that somebody else changed or deleted was put back.
    pub repairs: u64,
    /// Times the kernel was read as a whole.
    pub resyncs: u64,
    /// Times events were lost because they came faster than we read them.
    pub overruns: u64,
    /// What is pending and why, by prefix; at most [`KernelStatus::MAX_PROBLEMS`].
    pub problems: Vec<RouteProblem>,
}

impl KernelStatus {
    /// Length of the list of problems.
    pub const MAX_PROBLEMS: usize = 100;
}

/// Why a route is not in the kernel as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteProblem {
    /// The route's destination.
    pub prefix: IpNet,
    /// What is wrong, for a person.
    pub reason: String,
}

/// The network devices, by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    by_index: BTreeMap<u32, Link>,
}

impl Links {
    /// The device of that index.
    pub fn index(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The device of that name.
    pub fn name(&self, name: &str) -> Option<&Link> {
        self.iter().find(|link| link.name == name)
    }

    /// All devices, by rising index.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// The device that has this address, and the address with its prefix length.
    pub fn owner(&self, address: IpAddr) -> Option<(&Link, IpNet)> {
        self.iter().find_map(|link| {
            link.addresses
                .iter()
                .find(|net| net.addr() == address)
                .map(|net| (link, *net))
        })
    }

    pub(super) fn insert(&mut self, link: Link) -> Option<Link> {
        self.by_index.insert(link.index, link)
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Link> {
        self.by_index.remove(&index)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Link> {
        self.by_index.get_mut(&index)
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        Links {
            by_index: links.into_iter().map(|link| (link.index, link)).collect(),
        }
    }
}

/// A network device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Administratively up.
    pub up: bool,
    /// The loopback device.
    pub loopback: bool,
    /// Its MTU, in octets.
    pub mtu: u32,
    /// Its link-layer address; empty where it has none.
    pub mac: Vec<u8>,
    /// Its `ifalias`.
    pub alias: Option<String>,
    /// Its addresses with their prefix lengths, in the kernel's order.
    pub addresses: Vec<IpNet>,
}

/// How the kernel reaches an address, without the help of our own routes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NextHop {
    /// It is an address of this node.
    Local,
    /// It is on a link of ours.
    Connected {
        /// The device.
        device: String,
    },
    /// Through a router.
    Via {
        /// The router.
        gateway: IpAddr,
        /// The device towards it.
        device: String,
    },
    /// Not at all.
    Unreachable,
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The unspecified address.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A netlink socket cannot be had or used.
    #[error("cannot {action} the kernel over netlink: {source} (the agent needs CAP_NET_ADMIN)")]
    Socket {
        /// What was tried (`open a socket to`, `ask`).
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel said no.
    #[error("the kernel refuses to {request}: {refusal}")]
    Refused {
        /// What was asked, as `delete the route 10.0.0.1/32`.
        request: String,
        /// Its answer.
        refusal: Refusal,
    },
    /// The answer was lost; the kernel is being read again.
    #[error("the kernel's answer was lost in an overrun")]
    Overrun,
    /// The owning task has ended.
    #[error("the kernel task has ended")]
    Stopped,
    /// A file of `/proc/sys` cannot be read or written.
    #[error("cannot set {} to {value}: {source}", .path.display())]
    Sysctl {
        /// The file.
        path: std::path::PathBuf,
        /// What it was to hold.
        value: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// True where the kernel has no such kind of device.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Error::Refused { refusal, .. } if refusal.is(nix::errno::Errno::EOPNOTSUPP))
    }
}

/// An error number from the kernel and, where it gave one, its explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `errno`, positive.
    pub errno: i32,
    /// The kernel's explanation (extended acknowledgement); empty where there is none.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            io::Error::from_raw_os_error(self.errno).fmt(f)
        } else {
            f.write_str(&self.message)
        }
    }
}
