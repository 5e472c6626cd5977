//! Path attributes as values: what a route carries besides its prefix and its next hop.
//!
//! The next hop is not in here: one UPDATE may carry an IPv4 and an IPv6 next hop for the same attributes, and
//! routes that share attributes but not next hops still share the memory. How attributes look on the wire is in
//! `decode` and `encode`, what a malformed one leads to in [`super::disposition`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::as_path::AsPath;
use super::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::types::{Asn, RouterId};

/// Where a route came from in the first place; the lower is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Interior to the originating AS.
    Igp,
    /// Learned through EGP.
    Egp,
    /// By some other means, such as redistribution.
    #[default]
    Incomplete,
}

impl Origin {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Igp => "IGP",
            Self::Egp => "EGP",
            Self::Incomplete => "incomplete",
        })
    }
}

/// Who formed an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: RouterId,
}

/// Where to send the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, with a link-local one beside it if the peer shares a link (RFC 2545 section 3). Where the
    /// peer has only a link-local address, that one is `global` too.
    V6 {
        /// The global address.
        global: Ipv6Addr,
        /// The link-local address.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The address that is compared, resolved and shown: the global one.
    pub fn addr(self) -> IpAddr {
        match self {
            Self::V4(addr) => addr.into(),
            Self::V6 { global, .. } => global.into(),
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::V4(addr),
            IpAddr::V6(global) => Self::V6 {
                global,
                link_local: None,
            },
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(addr) => addr.fmt(f),
            Self::V6 {
                global,
                link_local: Some(link_local),
            } => write!(f, "{global} ({link_local})"),
            Self::V6 {
                global,
                link_local: None,
            } => global.fmt(f),
        }
    }
}

/// A transitive attribute the speaker does not know. It is passed on with the Partial bit set (RFC 4271 section 9).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownAttribute {
    /// Its type code.
    pub code: AttributeCode,
    /// Whether the Partial bit was set when it arrived.
    pub partial: bool,
    /// Its value.
    pub value: Bytes,
}

/// An attribute's type code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeCode(pub u8);

macro_rules! attribute_codes {
    ($($name:ident = $value:literal;)*) => {
        impl AttributeCode {
            $(#[doc = concat!("Type code ", $value, ".")] pub const $name: AttributeCode = AttributeCode($value);)*

            /// The name in the RFCs, if the speaker knows the attribute.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

attribute_codes! {
    ORIGIN = 1;
    AS_PATH = 2;
    NEXT_HOP = 3;
    MULTI_EXIT_DISC = 4;
    LOCAL_PREF = 5;
    ATOMIC_AGGREGATE = 6;
    AGGREGATOR = 7;
    COMMUNITIES = 8;
    ORIGINATOR_ID = 9;
    CLUSTER_LIST = 10;
    MP_REACH_NLRI = 14;
    MP_UNREACH_NLRI = 15;
    EXTENDED_COMMUNITIES = 16;
    AS4_PATH = 17;
    AS4_AGGREGATOR = 18;
    LARGE_COMMUNITY = 32;
    ONLY_TO_CUSTOMER = 35;
}

impl fmt::Display for AttributeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute {}", self.0),
        }
    }
}

impl fmt::Debug for AttributeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The attributes of a route, without its next hop. Compare, hash and share (`Arc<Attributes>`) as a whole.
///
/// Empty lists mean that the attribute is absent: no list attribute may be empty on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, with AS4_PATH merged in where the session knows only two octets.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; never from an external peer.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, with AS4_AGGREGATOR merged in.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES.
    pub communities: Vec<Community>,
    /// ORIGINATOR_ID (RFC 4456); never from an external peer.
    pub originator_id: Option<RouterId>,
    /// CLUSTER_LIST (RFC 4456), the nearest reflector first; never from an external peer.
    pub cluster_list: Vec<RouterId>,
    /// EXTENDED COMMUNITIES.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// LARGE_COMMUNITY, without duplicates.
    pub large_communities: Vec<LargeCommunity>,
    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub only_to_customer: Option<Asn>,
    /// Transitive attributes the speaker does not know, by type code.
    pub unknown: Vec<UnknownAttribute>,
}
