//! What can be wrong with bytes from a peer, and the NOTIFICATION each error is answered with (RFC 4271 section 6,
//! as revised by RFC 7606).
//!
//! A [`DecodeError`] ends the session. What RFC 7606 lets a session survive is not an error of the message but an
//! [`AttributeError`], listed in the decoded [`Update`](super::Update) after it has been acted upon.

use bytes::{BufMut, Bytes, BytesMut};

use super::attribute::AttributeCode;
use super::disposition::Disposition;
use super::nlri::NlriError;
use super::notification::{ErrorCode, HeaderSubcode, Notification, RouteRefreshSubcode, UpdateSubcode};
use super::open::OpenError;

/// A message that ends the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// In the header.
    #[error("message header: {0}")]
    Header(#[from] HeaderError),
    /// In an OPEN.
    #[error("OPEN: {0}")]
    Open(#[from] OpenError),
    /// In an UPDATE.
    #[error("UPDATE: {0}")]
    Update(#[from] UpdateError),
    /// In a ROUTE-REFRESH.
    #[error("ROUTE-REFRESH: {0}")]
    RouteRefresh(#[from] RouteRefreshError),
}

impl DecodeError {
    /// What to tell the peer.
    pub fn notification(&self) -> Notification {
        match self {
            Self::Header(error) => error.notification(),
            Self::Open(error) => error.notification(),
            Self::Update(error) => error.notification(),
            Self::RouteRefresh(error) => error.notification(),
        }
    }
}

/// What is wrong with a message header (RFC 4271 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The marker is not all ones.
    #[error("the marker is not all ones")]
    NotSynchronized,
    /// A length no message of its type may have.
    #[error("a message of {0} octets")]
    BadLength(u16),
    /// A type nobody here knows.
    #[error("message type {0}")]
    BadType(u8),
}

impl HeaderError {
    /// What to tell the peer.
    pub fn notification(&self) -> Notification {
        let (subcode, data) = match self {
            Self::NotSynchronized => (HeaderSubcode::ConnectionNotSynchronized, Bytes::new()),
            Self::BadLength(length) => (
                HeaderSubcode::BadMessageLength,
                Bytes::copy_from_slice(&length.to_be_bytes()),
            ),
            Self::BadType(kind) => (HeaderSubcode::BadMessageType, Bytes::copy_from_slice(&[*kind])),
        };
        Notification::with_data(ErrorCode::MessageHeader(subcode), data)
    }
}

/// A ROUTE-REFRESH that begins or ends a refresh and does not have the length for it (RFC 7313 section 5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a begin or end of refresh of {} octets", .message.len())]
pub struct RouteRefreshError {
    /// The whole message.
    pub message: Bytes,
}

impl RouteRefreshError {
    /// What to tell the peer.
    pub fn notification(&self) -> Notification {
        let code = ErrorCode::RouteRefreshMessage(RouteRefreshSubcode::InvalidMessageLength);
        Notification::with_data(code, self.message.clone())
    }
}

/// What is so wrong with an UPDATE that the routes it is about are not known, and the session must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The length of the withdrawn routes or of the attributes exceeds the message.
    #[error("the lengths of withdrawn routes and attributes exceed the message")]
    MalformedLengths,
    /// MP_REACH_NLRI or MP_UNREACH_NLRI occurs twice.
    #[error("{0} occurs twice")]
    DuplicateMultiprotocol(AttributeCode),
    /// Withdrawn routes or NLRI cannot be read.
    #[error("{0}")]
    InvalidNetworkField(NlriError),
    /// MP_REACH_NLRI or MP_UNREACH_NLRI cannot be read.
    #[error("{code}: {error}")]
    Multiprotocol {
        /// Which of the two.
        code: AttributeCode,
        /// What is wrong with it.
        error: MultiprotocolError,
        /// All of it, as it came.
        attribute: Bytes,
    },
    /// An attribute that claims to be well-known and is not.
    #[error("unrecognized well-known {code}")]
    UnrecognizedWellKnown {
        /// Its type code.
        code: AttributeCode,
        /// All of it, as it came.
        attribute: Bytes,
    },
    /// An attribute whose routes should be treated as withdrawn, but there are none (RFC 7606 section 5.2).
    #[error("{0}, and no route to withdraw for it")]
    NothingToWithdraw(AttributeError),
}

/// What is wrong with MP_REACH_NLRI or MP_UNREACH_NLRI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultiprotocolError {
    /// It ends before its fixed part does.
    #[error("too short")]
    Truncated,
    /// A next hop of a length its family does not have.
    #[error("next hop of {0} octets")]
    NextHopLength(u8),
    /// The prefixes cannot be read.
    #[error("{0}")]
    Nlri(NlriError),
}

impl UpdateError {
    /// What to tell the peer.
    pub fn notification(&self) -> Notification {
        let (subcode, data) = match self {
            Self::MalformedLengths | Self::DuplicateMultiprotocol(_) => {
                (UpdateSubcode::MalformedAttributeList, Bytes::new())
            }
            Self::InvalidNetworkField(_) => (UpdateSubcode::InvalidNetworkField, Bytes::new()),
            Self::Multiprotocol { attribute, .. } => {
                (UpdateSubcode::OptionalAttributeError, attribute.clone())
            }
            Self::UnrecognizedWellKnown { attribute, .. } => {
                (UpdateSubcode::UnrecognizedWellKnownAttribute, attribute.clone())
            }
            Self::NothingToWithdraw(error) => (error.kind.subcode(), error.data()),
        };
        Notification::with_data(ErrorCode::UpdateMessage(subcode), data)
    }
}

/// An error in one attribute, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {kind}")]
pub struct AttributeError {
    /// The attribute.
    pub code: AttributeCode,
    /// What is wrong with it.
    pub kind: AttributeErrorKind,
    /// What RFC 7606 wants done about it.
    pub disposition: Disposition,
    /// The attribute as it came; empty if it is missing.
    pub attribute: Bytes,
}

impl AttributeError {
    /// What belongs in the data of a NOTIFICATION about it.
    fn data(&self) -> Bytes {
        if self.kind == AttributeErrorKind::Missing {
            let mut data = BytesMut::new();
            data.put_u8(self.code.0);
            return data.freeze();
        }
        self.attribute.clone()
    }
}

/// What can be wrong with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AttributeErrorKind {
    /// Its length exceeds the attribute list, or the list ends within its header.
    #[error("does not fit the attribute list")]
    Overrun,
    /// The Optional or Transitive bit is not what the attribute wants.
    #[error("flags {0:#04x}")]
    Flags(u8),
    /// A length it cannot have.
    #[error("length of {0} octets")]
    Length(usize),
    /// An ORIGIN that is none of the three.
    #[error("undefined value {0}")]
    UndefinedOrigin(u8),
    /// Segments that are empty, of unknown kind, of a kind the peer may not send, or cut off; or AS 0.
    #[error("malformed path")]
    MalformedPath,
    /// An address that is no host's.
    #[error("not the address of a host")]
    InvalidNextHop,
    /// AS 0 in an attribute that names an AS (RFC 7607).
    #[error("AS 0")]
    ZeroAs,
    /// It must be there and is not.
    #[error("missing")]
    Missing,
    /// It occurs more than once; the first counts.
    #[error("occurs more than once")]
    Duplicate,
    /// Such a peer has no business sending it.
    #[error("not allowed from such a peer")]
    NotAllowed,
}

impl AttributeErrorKind {
    /// The subcode RFC 4271 gives the error, for the cases where it still ends the session.
    fn subcode(self) -> UpdateSubcode {
        match self {
            Self::Overrun | Self::Duplicate => UpdateSubcode::MalformedAttributeList,
            Self::Flags(_) => UpdateSubcode::AttributeFlagsError,
            Self::Length(_) => UpdateSubcode::AttributeLengthError,
            Self::UndefinedOrigin(_) => UpdateSubcode::InvalidOrigin,
            Self::MalformedPath => UpdateSubcode::MalformedAsPath,
            Self::InvalidNextHop => UpdateSubcode::InvalidNextHop,
            Self::ZeroAs | Self::NotAllowed => UpdateSubcode::OptionalAttributeError,
            Self::Missing => UpdateSubcode::MissingWellKnownAttribute,
        }
    }
}

/// Why a message cannot be written. All of them are about what we want to say, not about the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message would be longer than the peer takes.
    #[error("the message would be longer than the peer takes")]
    MessageTooLong,
    /// The attributes leave no room for even one prefix (RFC 8654 section 5): withdraw the route instead.
    #[error("attributes of {0} octets leave no room for a prefix")]
    AttributesTooLong(usize),
    /// A capability with a value of more than 255 octets.
    #[error("the value of capability {0} has more than 255 octets")]
    CapabilityTooLong(u8),
    /// A next hop that routes of the family cannot have on this session.
    #[error("a {family} route cannot have next hop {next_hop} on this session")]
    NextHop {
        /// The family of the routes.
        family: crate::types::Family,
        /// The next hop.
        next_hop: std::net::IpAddr,
    },
    /// A prefix that is not of the family it is listed under.
    #[error("{prefix} is not {family}")]
    WrongFamily {
        /// The family.
        family: crate::types::Family,
        /// The prefix.
        prefix: ipnet::IpNet,
    },
}
