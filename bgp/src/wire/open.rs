//! OPEN: who the speaker is and what it can do (RFC 4271 section 4.2, RFC 5492, RFC 6793, RFC 9072).
//!
//! Checks here are those that need no configuration; whether the AS is the one expected of the peer, or the
//! identifier is our own, is for the state machine to say, with the same [`OpenError`].

use bytes::{BufMut, Bytes, BytesMut};

use super::capability::{AddPath, Capability, GracefulRestart, Role};
use super::cursor::Cursor;
use super::error::EncodeError;
use super::notification::{ErrorCode, Notification, OpenSubcode};
use crate::types::{Asn, Family, HoldTime, RouterId};

/// The only version of BGP there is.
const VERSION: u8 = 4;
/// The optional parameter that carries capabilities.
const CAPABILITIES: u8 = 2;
/// What stands for length and type when parameters are longer than one octet can say (RFC 9072).
const EXTENDED: u8 = 255;

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS: from the four-octet capability if it is there. On the wire, a number that does not fit two
    /// octets also needs [`Capability::FourOctetAs`] in `capabilities`; it is not added by itself.
    pub asn: Asn,
    /// The hold time the sender proposes.
    pub hold_time: HoldTime,
    /// The sender's BGP identifier, never 0.0.0.0 in what was decoded.
    pub router_id: RouterId,
    /// The sender's capabilities, in their order.
    pub capabilities: Vec<Capability>,
}

/// What is wrong with an OPEN message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not version 4.
    #[error("BGP version {0}, not 4")]
    UnsupportedVersion(u8),
    /// An AS that is 0 or not the one expected.
    #[error("unacceptable AS {0}")]
    BadPeerAs(Asn),
    /// An identifier that is 0.0.0.0 or taken.
    #[error("unacceptable BGP identifier {0}")]
    BadBgpIdentifier(RouterId),
    /// A hold time of 1 or 2 seconds, or one that policy refuses.
    #[error("unacceptable hold time of {0} seconds")]
    UnacceptableHoldTime(u16),
    /// An optional parameter that is not capabilities.
    #[error("optional parameter of unknown type {0}")]
    UnsupportedOptionalParameter(u8),
    /// The optional parameters do not fit their lengths.
    #[error("malformed optional parameters")]
    MalformedOptionalParameters,
    /// A capability whose value does not fit its definition.
    #[error("malformed value of capability {0}")]
    MalformedCapability(u8),
    /// A capability that is required and was not offered, for the state machine to use.
    #[error("the peer lacks required capability {}", .0.code())]
    UnsupportedCapability(Capability),
    /// The two roles do not go together (RFC 9234), for the state machine to use.
    #[error("the peer's role does not go with ours")]
    RoleMismatch,
}

impl OpenError {
    /// What to tell the peer.
    pub fn notification(&self) -> Notification {
        let (subcode, data) = match self {
            Self::UnsupportedVersion(_) => (
                OpenSubcode::UnsupportedVersionNumber,
                Bytes::from_static(&[0, VERSION]),
            ),
            Self::BadPeerAs(_) => (OpenSubcode::BadPeerAs, Bytes::new()),
            Self::BadBgpIdentifier(_) => (OpenSubcode::BadBgpIdentifier, Bytes::new()),
            Self::UnacceptableHoldTime(_) => (OpenSubcode::UnacceptableHoldTime, Bytes::new()),
            Self::UnsupportedOptionalParameter(_) => {
                (OpenSubcode::UnsupportedOptionalParameter, Bytes::new())
            }
            Self::MalformedOptionalParameters | Self::MalformedCapability(_) => {
                (OpenSubcode::Unspecific, Bytes::new())
            }
            Self::UnsupportedCapability(capability) => {
                let mut data = BytesMut::new();
                // One that is too long to send is not one we can ask for; its absence from the data does no harm.
                let _ = put_capability(capability, &mut data);
                (OpenSubcode::UnsupportedCapability, data.freeze())
            }
            Self::RoleMismatch => (OpenSubcode::RoleMismatch, Bytes::new()),
        };
        Notification::with_data(ErrorCode::OpenMessage(subcode), data)
    }
}

impl Open {
    /// Whether exactly this capability is there.
    pub fn has(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// The families it carries; IPv4 unicast if it names none (RFC 4760 section 8).
    pub fn families(&self) -> Vec<Family> {
        let named = self
            .capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::Multiprotocol(family) => Some(*family),
                _ => None,
            });
        let families: Vec<Family> = named.collect();
        if families.is_empty() {
            vec![Family::IPV4_UNICAST]
        } else {
            families
        }
    }

    /// Whether it knows four-octet AS numbers.
    pub fn has_four_octet_as(&self) -> bool {
        self.four_octet_as().is_some()
    }

    fn four_octet_as(&self) -> Option<Asn> {
        self.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        })
    }

    /// What it does with several paths in a family.
    pub fn add_path(&self, family: Family) -> AddPath {
        let entries = self
            .capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::AddPath(entries) => Some(entries),
                _ => None,
            });
        let mut entries = entries.flatten().filter(|entry| entry.family == family);
        entries.next().copied().unwrap_or(AddPath {
            family,
            receive: false,
            send: false,
        })
    }

    /// Whether routes of the family may have IPv6 next hops.
    pub fn has_extended_next_hop(&self, family: Family) -> bool {
        self.capabilities.iter().any(|capability| match capability {
            Capability::ExtendedNextHop(entries) => entries
                .iter()
                .any(|entry| entry.family == family && entry.next_hop_afi == Family::AFI_IPV6),
            _ => false,
        })
    }

    /// Its graceful restart capability.
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        // RFC 4724 section 3: of several instances only the last counts.
        self.capabilities
            .iter()
            .rev()
            .find_map(|capability| match capability {
                Capability::GracefulRestart(restart) => Some(restart),
                _ => None,
            })
    }

    /// What it says it is to us.
    pub fn role(&self) -> Option<Role> {
        self.capabilities.iter().find_map(|capability| match capability {
            Capability::Role(role) => Some(*role),
            _ => None,
        })
    }

    /// Reads the body of an OPEN message.
    pub(super) fn decode(body: &[u8]) -> Result<Open, OpenError> {
        let malformed = OpenError::MalformedOptionalParameters;
        let mut cursor = Cursor::new(body);
        let version = cursor.u8().ok_or(malformed.clone())?;
        if version != VERSION {
            return Err(OpenError::UnsupportedVersion(version));
        }
        let my_as = cursor.u16().ok_or(malformed.clone())?;
        let hold_time = cursor.u16().ok_or(malformed.clone())?;
        let router_id = RouterId::from(cursor.u32().ok_or(malformed)?);

        let mut open = Open {
            asn: Asn(my_as.into()),
            hold_time: HoldTime::new(hold_time).map_err(|_| OpenError::UnacceptableHoldTime(hold_time))?,
            router_id,
            capabilities: decode_parameters(cursor)?,
        };
        if let Some(asn) = open.four_octet_as() {
            open.asn = asn;
        }
        // The two-octet field must not be zero either (RFC 7607).
        if my_as == 0 || open.asn == Asn(0) {
            return Err(OpenError::BadPeerAs(Asn(0)));
        }
        if router_id.to_u32() == 0 {
            return Err(OpenError::BadBgpIdentifier(router_id));
        }
        Ok(open)
    }

    /// Writes the body of an OPEN message. All capabilities go into one parameter, or into the extended format
    /// when one octet cannot say their length.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            put_capability(capability, &mut capabilities)?;
        }
        out.put_u8(VERSION);
        out.put_u16(self.asn.to_u16_or_trans());
        out.put_u16(self.hold_time.seconds());
        out.put_u32(self.router_id.to_u32());

        let length = capabilities.len();
        match u8::try_from(length) {
            Ok(0) => out.put_u8(0),
            Ok(short) if short < EXTENDED.saturating_sub(2) => {
                out.put_slice(&[short.saturating_add(2), CAPABILITIES, short]);
            }
            _ => {
                let octets = |length| u16::try_from(length).map_err(|_| EncodeError::MessageTooLong);
                out.put_slice(&[EXTENDED, EXTENDED]);
                out.put_u16(octets(length.saturating_add(3))?);
                out.put_u8(CAPABILITIES);
                out.put_u16(octets(length)?);
            }
        }
        out.put_slice(&capabilities);
        Ok(())
    }
}

/// Reads the optional parameters, in the one-octet or the extended format, and the capabilities in them.
fn decode_parameters(mut cursor: Cursor<'_>) -> Result<Vec<Capability>, OpenError> {
    let malformed = || OpenError::MalformedOptionalParameters;
    let mut extended = false;
    let length = cursor.u8().ok_or_else(malformed)?;
    // RFC 9072: the type decides; the length octet next to it should be 255 but need not be.
    let length = if length != 0 && cursor.rest().first() == Some(&EXTENDED) {
        extended = true;
        cursor.take(1);
        cursor.u16().ok_or_else(malformed)?
    } else {
        length.into()
    };
    if cursor.remaining() != usize::from(length) {
        return Err(malformed());
    }
    let mut capabilities = Vec::new();
    while !cursor.is_empty() {
        let kind = cursor.u8().ok_or_else(malformed)?;
        let value = if extended {
            cursor.block_u16()
        } else {
            cursor.block_u8()
        };
        let value = value.ok_or_else(malformed)?;
        if kind != CAPABILITIES {
            return Err(OpenError::UnsupportedOptionalParameter(kind));
        }
        decode_capabilities(value, &mut capabilities)?;
    }
    Ok(capabilities)
}

fn decode_capabilities(bytes: &[u8], capabilities: &mut Vec<Capability>) -> Result<(), OpenError> {
    let malformed = || OpenError::MalformedOptionalParameters;
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_empty() {
        let code = cursor.u8().ok_or_else(malformed)?;
        let value = cursor.block_u8().ok_or_else(malformed)?;
        capabilities.push(Capability::decode(code, value).ok_or(OpenError::MalformedCapability(code))?);
    }
    Ok(())
}

/// Writes a capability with its code and length.
fn put_capability(capability: &Capability, out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut value = BytesMut::new();
    capability.encode_value(&mut value);
    let code = capability.code();
    let length = u8::try_from(value.len()).map_err(|_| EncodeError::CapabilityTooLong(code))?;
    out.put_slice(&[code, length]);
    out.put_slice(&value);
    Ok(())
}
