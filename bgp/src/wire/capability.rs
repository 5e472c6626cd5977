//! Capabilities: what each side of a session can do (RFC 5492), and how they look in OPEN.
//!
//! A capability nobody here knows is kept as it came. A known one whose value does not fit its definition is an
//! error of the OPEN message: half-understood capabilities lead to sessions that differ at their two ends.

use bytes::{BufMut, Bytes, BytesMut};

use super::cursor::Cursor;
use crate::types::{Asn, Family};

/// A capability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// 1: carries routes of the family (RFC 4760).
    Multiprotocol(Family),
    /// 2: answers ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
    /// 5: families whose next hop may be of another address family (RFC 8950).
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// 6: takes messages of up to 65535 octets (RFC 8654).
    ExtendedMessage,
    /// 9: what the sender is to the receiver (RFC 9234).
    Role(Role),
    /// 64: keeps forwarding while BGP restarts (RFC 4724, RFC 8538).
    GracefulRestart(GracefulRestart),
    /// 65: four-octet AS numbers, and the sender's own (RFC 6793).
    FourOctetAs(Asn),
    /// 69: several paths to a prefix (RFC 7911).
    AddPath(Vec<AddPath>),
    /// 70: begin and end marks around a refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// Any other.
    Unknown {
        /// Its code.
        code: u8,
        /// Its value.
        value: Bytes,
    },
}

/// A family and the address family its next hops may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtendedNextHop {
    /// The family of the routes.
    pub family: Family,
    /// The address family of the next hops.
    pub next_hop_afi: u16,
}

/// What a speaker is to its peer (RFC 9234 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sells transit to the peer.
    Provider,
    /// A route server.
    RouteServer,
    /// A client of a route server.
    RouteServerClient,
    /// Buys transit from the peer.
    Customer,
    /// A lateral peer.
    Peer,
    /// A number nobody has assigned.
    Other(u8),
}

impl From<u8> for Role {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Provider,
            1 => Self::RouteServer,
            2 => Self::RouteServerClient,
            3 => Self::Customer,
            4 => Self::Peer,
            other => Self::Other(other),
        }
    }
}

impl From<Role> for u8 {
    fn from(role: Role) -> Self {
        match role {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
            Role::Other(number) => number,
        }
    }
}

/// The graceful restart capability.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GracefulRestart {
    /// R: the sender has restarted, and waits for End-of-RIB.
    pub restarting: bool,
    /// N: graceful also across NOTIFICATION and hold timer expiry (RFC 8538).
    pub notification: bool,
    /// How long to wait for the sender to come back, in seconds, at most 4095.
    pub restart_time: u16,
    /// The families it covers. None at all means that the sender only helps others restart.
    pub families: Vec<GracefulRestartFamily>,
}

/// A family that graceful restart covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GracefulRestartFamily {
    /// The family.
    pub family: Family,
    /// F: forwarding state survived the restart.
    pub forwarding_preserved: bool,
}

/// What a speaker does with several paths in a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddPath {
    /// The family.
    pub family: Family,
    /// Whether it takes them.
    pub receive: bool,
    /// Whether it sends them.
    pub send: bool,
}

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_ROUTE_REFRESH: u8 = 70;

impl Capability {
    /// Its code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => MULTIPROTOCOL,
            Self::RouteRefresh => ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => EXTENDED_MESSAGE,
            Self::Role(_) => ROLE,
            Self::GracefulRestart(_) => GRACEFUL_RESTART,
            Self::FourOctetAs(_) => FOUR_OCTET_AS,
            Self::AddPath(_) => ADD_PATH,
            Self::EnhancedRouteRefresh => ENHANCED_ROUTE_REFRESH,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Reads a value; `None` if it does not fit the definition of its code.
    pub(super) fn decode(code: u8, value: &[u8]) -> Option<Capability> {
        let mut cursor = Cursor::new(value);
        let capability = match code {
            MULTIPROTOCOL => {
                let afi = cursor.u16()?;
                let _reserved = cursor.u8()?;
                Self::Multiprotocol(Family {
                    afi,
                    safi: cursor.u8()?,
                })
            }
            ROUTE_REFRESH => Self::RouteRefresh,
            EXTENDED_NEXT_HOP => Self::ExtendedNextHop(list(&mut cursor, decode_extended_next_hop)?),
            EXTENDED_MESSAGE => Self::ExtendedMessage,
            ROLE => Self::Role(cursor.u8()?.into()),
            GRACEFUL_RESTART => Self::GracefulRestart(decode_graceful_restart(&mut cursor)?),
            FOUR_OCTET_AS => Self::FourOctetAs(Asn(cursor.u32()?)),
            ADD_PATH => Self::AddPath(list(&mut cursor, decode_add_path)?),
            ENHANCED_ROUTE_REFRESH => Self::EnhancedRouteRefresh,
            _ => {
                return Some(Self::Unknown {
                    code,
                    value: Bytes::copy_from_slice(value),
                });
            }
        };
        cursor.is_empty().then_some(capability)
    }

    /// Writes the value, without code and length.
    pub(super) fn encode_value(&self, out: &mut BytesMut) {
        match self {
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::Multiprotocol(family) => {
                out.put_u16(family.afi);
                out.put_u8(0);
                out.put_u8(family.safi);
            }
            Self::ExtendedNextHop(entries) => {
                for entry in entries {
                    out.put_u16(entry.family.afi);
                    out.put_u16(entry.family.safi.into());
                    out.put_u16(entry.next_hop_afi);
                }
            }
            Self::Role(role) => out.put_u8((*role).into()),
            Self::GracefulRestart(restart) => encode_graceful_restart(restart, out),
            Self::FourOctetAs(asn) => out.put_u32(asn.0),
            Self::AddPath(entries) => {
                for entry in entries {
                    put_family(entry.family, out);
                    out.put_u8(u8::from(entry.receive) | (u8::from(entry.send) << 1));
                }
            }
            Self::Unknown { value, .. } => out.put_slice(value),
        }
    }
}

/// Reads items until the bytes run out.
fn list<T>(cursor: &mut Cursor<'_>, decode: fn(&mut Cursor<'_>) -> Option<T>) -> Option<Vec<T>> {
    let mut items = Vec::new();
    while !cursor.is_empty() {
        items.push(decode(cursor)?);
    }
    Some(items)
}

fn decode_family(cursor: &mut Cursor<'_>) -> Option<Family> {
    Some(Family {
        afi: cursor.u16()?,
        safi: cursor.u8()?,
    })
}

fn put_family(family: Family, out: &mut BytesMut) {
    out.put_u16(family.afi);
    out.put_u8(family.safi);
}

fn decode_extended_next_hop(cursor: &mut Cursor<'_>) -> Option<ExtendedNextHop> {
    let afi = cursor.u16()?;
    // The SAFI has two octets here and one everywhere else.
    let safi = u8::try_from(cursor.u16()?).ok()?;
    Some(ExtendedNextHop {
        family: Family { afi, safi },
        next_hop_afi: cursor.u16()?,
    })
}

fn decode_add_path(cursor: &mut Cursor<'_>) -> Option<AddPath> {
    let family = decode_family(cursor)?;
    // Any other value than 1 to 3 means that the entry is to be ignored (RFC 7911 section 4).
    let (receive, send) = match cursor.u8()? {
        1 => (true, false),
        2 => (false, true),
        3 => (true, true),
        _ => (false, false),
    };
    Some(AddPath {
        family,
        receive,
        send,
    })
}

fn decode_graceful_restart(cursor: &mut Cursor<'_>) -> Option<GracefulRestart> {
    let head = cursor.u16()?;
    let families = list(cursor, |cursor| {
        let family = decode_family(cursor)?;
        Some(GracefulRestartFamily {
            family,
            forwarding_preserved: cursor.u8()? & 0x80 != 0,
        })
    })?;
    Some(GracefulRestart {
        restarting: head & 0x8000 != 0,
        notification: head & 0x4000 != 0,
        restart_time: head & 0x0FFF,
        families,
    })
}

fn encode_graceful_restart(restart: &GracefulRestart, out: &mut BytesMut) {
    let restarting = if restart.restarting { 0x8000 } else { 0 };
    let notification = if restart.notification { 0x4000 } else { 0 };
    out.put_u16(restarting | notification | restart.restart_time.min(0x0FFF));
    for entry in &restart.families {
        put_family(entry.family, out);
        out.put_u8(if entry.forwarding_preserved { 0x80 } else { 0 });
    }
}
