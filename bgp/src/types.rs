//! The small types that every part of the speaker, its configuration and its status share.
//!
//! They carry the rules that hold everywhere (a hold time is 0 or at least 3 seconds, RFC 4271 section 4.2) so
//! that no other part has to check again. Nothing here knows how they look on the wire beyond their numbers.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An autonomous system number (RFC 6793: four octets). Shown plain, as in `4200000000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl Asn {
    /// What stands in the two-octet fields for a number that does not fit them (RFC 6793).
    pub const AS_TRANS: Asn = Asn(23456);

    /// The number as two octets, if it fits.
    pub fn as_u16(self) -> Option<u16> {
        u16::try_from(self.0).ok()
    }

    /// What to write in a two-octet field: the number itself, or AS_TRANS.
    pub fn to_u16_or_trans(self) -> u16 {
        self.as_u16().unwrap_or(23456)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Asn {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Asn)
    }
}

impl From<u32> for Asn {
    fn from(number: u32) -> Self {
        Asn(number)
    }
}

/// A BGP identifier: four octets, unique within an AS, written like an IPv4 address (RFC 6286).
/// A route reflector's cluster id has the same shape and uses the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouterId(pub Ipv4Addr);

impl RouterId {
    /// As the number that collision handling and best path compare.
    pub fn to_u32(self) -> u32 {
        self.0.to_bits()
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RouterId {
    type Err = std::net::AddrParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(RouterId)
    }
}

impl From<u32> for RouterId {
    fn from(number: u32) -> Self {
        RouterId(Ipv4Addr::from_bits(number))
    }
}

/// An address family and its subsequent family (RFC 4760). Any pair can be represented, since a peer may name any
/// pair; the speaker routes [`IPV4_UNICAST`](Self::IPV4_UNICAST) and [`IPV6_UNICAST`](Self::IPV6_UNICAST).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Family {
    /// The address family identifier.
    pub afi: u16,
    /// The subsequent address family identifier.
    pub safi: u8,
}

impl Family {
    /// AFI 1, IPv4.
    pub const AFI_IPV4: u16 = 1;
    /// AFI 2, IPv6.
    pub const AFI_IPV6: u16 = 2;
    /// SAFI 1, unicast forwarding.
    pub const SAFI_UNICAST: u8 = 1;
    /// IPv4 unicast, what RFC 4271 itself carries.
    pub const IPV4_UNICAST: Family = Family {
        afi: Self::AFI_IPV4,
        safi: Self::SAFI_UNICAST,
    };
    /// IPv6 unicast (RFC 2545).
    pub const IPV6_UNICAST: Family = Family {
        afi: Self::AFI_IPV6,
        safi: Self::SAFI_UNICAST,
    };

    /// The unicast family a prefix belongs to.
    pub fn of(prefix: &IpNet) -> Family {
        match prefix {
            IpNet::V4(_) => Self::IPV4_UNICAST,
            IpNet::V6(_) => Self::IPV6_UNICAST,
        }
    }

    /// Whether the speaker can decode and route the family.
    pub fn is_supported(self) -> bool {
        self == Self::IPV4_UNICAST || self == Self::IPV6_UNICAST
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IPV4_UNICAST => f.pad("ipv4-unicast"),
            Self::IPV6_UNICAST => f.pad("ipv6-unicast"),
            Family { afi, safi } => f.pad(&format!("afi-{afi}-safi-{safi}")),
        }
    }
}

/// The text is not the name of an address family.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address family; expected ipv4-unicast, ipv6-unicast or afi-N-safi-N")]
pub struct ParseFamilyError(String);

impl FromStr for Family {
    type Err = ParseFamilyError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "ipv4-unicast" => return Ok(Self::IPV4_UNICAST),
            "ipv6-unicast" => return Ok(Self::IPV6_UNICAST),
            _ => {}
        }
        let numbers = || {
            let (afi, safi) = s.strip_prefix("afi-")?.split_once("-safi-")?;
            Some(Family {
                afi: afi.parse().ok()?,
                safi: safi.parse().ok()?,
            })
        };
        numbers().ok_or_else(|| ParseFamilyError(s.to_owned()))
    }
}

impl From<Family> for String {
    fn from(family: Family) -> Self {
        family.to_string()
    }
}

impl TryFrom<String> for Family {
    type Error = ParseFamilyError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

/// A hold time: 0 (no keepalives, no hold timer) or 3 to 65535 seconds (RFC 4271 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
pub struct HoldTime(u16);

/// 1 and 2 seconds are not hold times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hold time is 0 or at least 3 seconds, not {0}")]
pub struct InvalidHoldTime(pub u16);

impl HoldTime {
    /// No keepalives and no hold timer.
    pub const DISABLED: HoldTime = HoldTime(0);
    /// The 90 seconds that RFC 4271 suggests.
    pub const DEFAULT: HoldTime = HoldTime(90);

    /// A hold time of so many seconds; 1 and 2 are refused.
    pub fn new(seconds: u16) -> Result<HoldTime, InvalidHoldTime> {
        if seconds == 1 || seconds == 2 {
            Err(InvalidHoldTime(seconds))
        } else {
            Ok(HoldTime(seconds))
        }
    }

    /// In seconds.
    pub fn seconds(self) -> u16 {
        self.0
    }

    /// How long to wait for a message from the peer; `None` when the hold timer is off.
    pub fn duration(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_secs(self.0.into()))
    }

    /// How often to send keepalives: a third of the hold time; `None` when they are off.
    pub fn keepalive(self) -> Option<Duration> {
        self.duration().map(|hold| hold / 3)
    }
}

impl Default for HoldTime {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for HoldTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

impl TryFrom<u16> for HoldTime {
    type Error = InvalidHoldTime;

    fn try_from(seconds: u16) -> Result<Self, Self::Error> {
        Self::new(seconds)
    }
}

impl From<HoldTime> for u16 {
    fn from(hold_time: HoldTime) -> Self {
        hold_time.0
    }
}
