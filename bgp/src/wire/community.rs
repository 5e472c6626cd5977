//! Communities: labels on routes, in three sizes (RFC 1997, RFC 4360, RFC 8092).
//!
//! Their text forms are what operators and BGPFilter resources write: `64512:100` and `64512:1:2`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A community of RFC 1997, written `high:low`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Community(pub u32);

impl Community {
    /// GRACEFUL_SHUTDOWN (RFC 8326): the route is about to go; prefer any other.
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xFFFF_0000);
    /// LLGR_STALE (RFC 9494): kept past a restart for long; prefer any other.
    pub const LLGR_STALE: Community = Community(0xFFFF_0006);
    /// NO_LLGR (RFC 9494): not to be kept for long past a restart.
    pub const NO_LLGR: Community = Community(0xFFFF_0007);
    /// BLACKHOLE (RFC 7999): discard the traffic.
    pub const BLACKHOLE: Community = Community(0xFFFF_029A);
    /// NO_EXPORT: not outside the confederation.
    pub const NO_EXPORT: Community = Community(0xFFFF_FF01);
    /// NO_ADVERTISE: to nobody.
    pub const NO_ADVERTISE: Community = Community(0xFFFF_FF02);
    /// NO_EXPORT_SUBCONFED: not to external peers, not even within the confederation.
    pub const NO_EXPORT_SUBCONFED: Community = Community(0xFFFF_FF03);

    /// From its two halves.
    pub fn new(high: u16, low: u16) -> Self {
        Community((u32::from(high) << 16) | u32::from(low))
    }

    /// The upper half, by convention the AS that gives the lower its meaning.
    pub fn high(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The lower half.
    pub fn low(self) -> u16 {
        (self.0 & 0xFFFF) as u16
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.high(), self.low())
    }
}

/// The text is not a community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}; expected {expected}")]
pub struct ParseCommunityError {
    text: String,
    kind: &'static str,
    expected: &'static str,
}

impl FromStr for Community {
    type Err = ParseCommunityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (high, low) = s.split_once(':')?;
            Some(Community::new(high.parse().ok()?, low.parse().ok()?))
        };
        let expected = "two numbers up to 65535, as in 64512:100";
        parse().ok_or_else(|| ParseCommunityError {
            text: s.to_owned(),
            kind: "community",
            expected,
        })
    }
}

/// A large community of RFC 8092, written `global:local1:local2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LargeCommunity {
    /// The AS that gives the rest its meaning.
    pub global: u32,
    /// The first part that AS defines.
    pub local1: u32,
    /// The second part that AS defines.
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl FromStr for LargeCommunity {
    type Err = ParseCommunityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = s.split(':').map(|part| part.parse().ok());
            let community = LargeCommunity {
                global: parts.next()??,
                local1: parts.next()??,
                local2: parts.next()??,
            };
            parts.next().is_none().then_some(community)
        };
        let expected = "three numbers up to 4294967295, as in 64512:1:2";
        parse().ok_or_else(|| ParseCommunityError {
            text: s.to_owned(),
            kind: "large community",
            expected,
        })
    }
}

/// An extended community of RFC 4360: a type in the first octet or two, and a value. Kept as it came; the speaker
/// only needs to know whether it may cross an AS boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

impl ExtendedCommunity {
    /// Whether it goes on to another AS (RFC 4360 section 2, the T bit is clear).
    pub fn is_transitive(self) -> bool {
        let [kind, ..] = self.0;
        kind & 0x40 == 0
    }
}

impl fmt::Display for ExtendedCommunity {
    /// `generic:HIGH:LOW` in hexadecimal, as other speakers show what they do not interpret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u64::from_be_bytes(self.0);
        write!(f, "generic:{:#010x}:{:#010x}", number >> 32, number & 0xFFFF_FFFF)
    }
}

macro_rules! string_conversions {
    ($($name:ident),*) => {$(
        impl From<$name> for String {
            fn from(community: $name) -> Self {
                community.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseCommunityError;

            fn try_from(s: String) -> Result<Self, Self::Error> {
                s.parse()
            }
        }
    )*};
}

string_conversions!(Community, LargeCommunity);
