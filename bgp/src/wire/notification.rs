//! NOTIFICATION: why a session ends (RFC 4271 sections 4.5 and 6).
//!
//! Codes and subcodes are enums with names for people; numbers nobody has assigned yet are kept, so that what a
//! peer said is never lost. Sources: RFC 4271, 4486 (Cease), 5492, 6608 (FSM), 7313 (ROUTE-REFRESH), 8538 (hard
//! reset), 9003 (shutdown communication), 9234 (role mismatch), 9384 (BFD down), 9687 (send hold timer).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Defines a subcode enum: variant, number, the name people read.
macro_rules! subcodes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $text] $(#[$vdoc])* $variant,)*
            /// A subcode without a name here.
            Other(u8),
        }

        impl $name {
            /// The number on the wire.
            pub fn value(self) -> u8 {
                match self {
                    $($name::$variant => $value,)*
                    $name::Other(value) => value,
                }
            }
        }

        impl From<u8> for $name {
            fn from(value: u8) -> Self {
                match value {
                    $($value => $name::$variant,)*
                    other => $name::Other(other),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant => f.write_str($text),)*
                    $name::Other(value) => write!(f, "subcode {value}"),
                }
            }
        }
    };
}

subcodes! {
    /// Message Header Error subcodes.
    HeaderSubcode {
        Unspecific = 0, "Unspecific";
        ConnectionNotSynchronized = 1, "Connection Not Synchronized";
        BadMessageLength = 2, "Bad Message Length";
        BadMessageType = 3, "Bad Message Type";
    }
}

subcodes! {
    /// OPEN Message Error subcodes.
    OpenSubcode {
        Unspecific = 0, "Unspecific";
        UnsupportedVersionNumber = 1, "Unsupported Version Number";
        BadPeerAs = 2, "Bad Peer AS";
        BadBgpIdentifier = 3, "Bad BGP Identifier";
        UnsupportedOptionalParameter = 4, "Unsupported Optional Parameter";
        UnacceptableHoldTime = 6, "Unacceptable Hold Time";
        UnsupportedCapability = 7, "Unsupported Capability";
        RoleMismatch = 11, "Role Mismatch";
    }
}

subcodes! {
    /// UPDATE Message Error subcodes.
    UpdateSubcode {
        Unspecific = 0, "Unspecific";
        MalformedAttributeList = 1, "Malformed Attribute List";
        UnrecognizedWellKnownAttribute = 2, "Unrecognized Well-known Attribute";
        MissingWellKnownAttribute = 3, "Missing Well-known Attribute";
        AttributeFlagsError = 4, "Attribute Flags Error";
        AttributeLengthError = 5, "Attribute Length Error";
        InvalidOrigin = 6, "Invalid ORIGIN Attribute";
        InvalidNextHop = 8, "Invalid NEXT_HOP Attribute";
        OptionalAttributeError = 9, "Optional Attribute Error";
        InvalidNetworkField = 10, "Invalid Network Field";
        MalformedAsPath = 11, "Malformed AS_PATH";
    }
}

subcodes! {
    /// Finite State Machine Error subcodes (RFC 6608): a message that the state does not allow.
    FsmSubcode {
        Unspecific = 0, "Unspecific";
        UnexpectedInOpenSent = 1, "Unexpected Message in OpenSent";
        UnexpectedInOpenConfirm = 2, "Unexpected Message in OpenConfirm";
        UnexpectedInEstablished = 3, "Unexpected Message in Established";
    }
}

subcodes! {
    /// Cease subcodes (RFC 4486 and its successors).
    CeaseSubcode {
        Unspecific = 0, "Unspecific";
        MaximumPrefixes = 1, "Maximum Number of Prefixes Reached";
        AdministrativeShutdown = 2, "Administrative Shutdown";
        PeerDeconfigured = 3, "Peer De-configured";
        AdministrativeReset = 4, "Administrative Reset";
        ConnectionRejected = 5, "Connection Rejected";
        OtherConfigurationChange = 6, "Other Configuration Change";
        ConnectionCollisionResolution = 7, "Connection Collision Resolution";
        OutOfResources = 8, "Out of Resources";
        HardReset = 9, "Hard Reset";
        BfdDown = 10, "BFD Down";
    }
}

subcodes! {
    /// ROUTE-REFRESH Message Error subcodes (RFC 7313).
    RouteRefreshSubcode {
        Unspecific = 0, "Unspecific";
        InvalidMessageLength = 1, "Invalid Message Length";
    }
}

/// An error code with its subcode. Shown as people know it: `Cease/Administrative Shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 1: the message header.
    MessageHeader(HeaderSubcode),
    /// 2: the OPEN message.
    OpenMessage(OpenSubcode),
    /// 3: the UPDATE message.
    UpdateMessage(UpdateSubcode),
    /// 4: nothing heard for the hold time.
    HoldTimerExpired,
    /// 5: a message the state does not allow.
    FiniteStateMachine(FsmSubcode),
    /// 6: a wish, not an error.
    Cease(CeaseSubcode),
    /// 7: the ROUTE-REFRESH message.
    RouteRefreshMessage(RouteRefreshSubcode),
    /// 8: nothing could be sent for the send hold time (RFC 9687).
    SendHoldTimerExpired,
    /// A code, or a subcode of a code that has none, without a name here.
    Other {
        /// The code.
        code: u8,
        /// The subcode.
        subcode: u8,
    },
}

impl ErrorCode {
    /// From the two numbers on the wire.
    pub fn from_numbers(code: u8, subcode: u8) -> Self {
        match (code, subcode) {
            (1, s) => Self::MessageHeader(s.into()),
            (2, s) => Self::OpenMessage(s.into()),
            (3, s) => Self::UpdateMessage(s.into()),
            (4, 0) => Self::HoldTimerExpired,
            (5, s) => Self::FiniteStateMachine(s.into()),
            (6, s) => Self::Cease(s.into()),
            (7, s) => Self::RouteRefreshMessage(s.into()),
            (8, 0) => Self::SendHoldTimerExpired,
            (code, subcode) => Self::Other { code, subcode },
        }
    }

    /// The code on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::MessageHeader(_) => 1,
            Self::OpenMessage(_) => 2,
            Self::UpdateMessage(_) => 3,
            Self::HoldTimerExpired => 4,
            Self::FiniteStateMachine(_) => 5,
            Self::Cease(_) => 6,
            Self::RouteRefreshMessage(_) => 7,
            Self::SendHoldTimerExpired => 8,
            Self::Other { code, .. } => code,
        }
    }

    /// The subcode on the wire.
    pub fn subcode(self) -> u8 {
        match self {
            Self::MessageHeader(s) => s.value(),
            Self::OpenMessage(s) => s.value(),
            Self::UpdateMessage(s) => s.value(),
            Self::FiniteStateMachine(s) => s.value(),
            Self::Cease(s) => s.value(),
            Self::RouteRefreshMessage(s) => s.value(),
            Self::HoldTimerExpired | Self::SendHoldTimerExpired => 0,
            Self::Other { subcode, .. } => subcode,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageHeader(s) => write!(f, "Message Header Error/{s}"),
            Self::OpenMessage(s) => write!(f, "OPEN Message Error/{s}"),
            Self::UpdateMessage(s) => write!(f, "UPDATE Message Error/{s}"),
            Self::HoldTimerExpired => f.write_str("Hold Timer Expired"),
            Self::FiniteStateMachine(s) => write!(f, "Finite State Machine Error/{s}"),
            Self::Cease(s) => write!(f, "Cease/{s}"),
            Self::RouteRefreshMessage(s) => write!(f, "ROUTE-REFRESH Message Error/{s}"),
            Self::SendHoldTimerExpired => f.write_str("Send Hold Timer Expired"),
            Self::Other { code, subcode } => write!(f, "code {code}/subcode {subcode}"),
        }
    }
}

/// A NOTIFICATION message. After it is sent or received the session is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// What happened.
    pub error: ErrorCode,
    /// What the code says belongs to it, often the offending field.
    pub data: Bytes,
}

impl Notification {
    /// A notification without data.
    pub fn new(error: ErrorCode) -> Self {
        Self {
            error,
            data: Bytes::new(),
        }
    }

    /// A notification with data.
    pub fn with_data(error: ErrorCode, data: impl Into<Bytes>) -> Self {
        Self {
            error,
            data: data.into(),
        }
    }

    /// Cease with a subcode.
    pub fn cease(subcode: CeaseSubcode) -> Self {
        Self::new(ErrorCode::Cease(subcode))
    }

    /// Cease/Administrative Shutdown with words for the operator at the other end (RFC 9003), cut at 255 octets.
    pub fn administrative_shutdown(message: &str) -> Self {
        Self::with_shutdown_message(CeaseSubcode::AdministrativeShutdown, message)
    }

    /// Cease/Administrative Reset with words for the operator at the other end (RFC 9003), cut at 255 octets.
    pub fn administrative_reset(message: &str) -> Self {
        Self::with_shutdown_message(CeaseSubcode::AdministrativeReset, message)
    }

    fn with_shutdown_message(subcode: CeaseSubcode, message: &str) -> Self {
        let mut end = message.len().min(usize::from(u8::MAX));
        while !message.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let text = message.get(..end).unwrap_or_default();
        let mut data = BytesMut::new();
        data.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
        data.put_slice(text.as_bytes());
        Self::with_data(ErrorCode::Cease(subcode), data)
    }

    /// The words that came with an administrative shutdown or reset, if there are any and they are UTF-8.
    /// They come from the peer: escape them before they reach a terminal or a log.
    pub fn shutdown_message(&self) -> Option<&str> {
        let ErrorCode::Cease(CeaseSubcode::AdministrativeShutdown | CeaseSubcode::AdministrativeReset) =
            self.error
        else {
            return None;
        };
        let (length, rest) = self.data.split_first()?;
        let text = std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// Wraps a notification as a hard reset (RFC 8538): the peer must not keep our routes, graceful restart or not.
    pub fn hard_reset(&self) -> Self {
        let mut data = BytesMut::new();
        data.put_u8(self.error.code());
        data.put_u8(self.error.subcode());
        data.put_slice(&self.data);
        Self::with_data(ErrorCode::Cease(CeaseSubcode::HardReset), data)
    }

    /// Whether it is a hard reset.
    pub fn is_hard_reset(&self) -> bool {
        self.error == ErrorCode::Cease(CeaseSubcode::HardReset)
    }

    /// What a hard reset wraps; `None` if this is not one or it wraps nothing.
    pub fn hard_reset_reason(&self) -> Option<Notification> {
        if !self.is_hard_reset() {
            return None;
        }
        let ([code, subcode], _) = self.data.split_first_chunk::<2>()?;
        Some(Self::with_data(
            ErrorCode::from_numbers(*code, *subcode),
            self.data.slice(2..),
        ))
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One level only: a peer may wrap a hard reset in a hard reset a thousand times.
        let reason = self.hard_reset_reason();
        self.error.fmt(f)?;
        if let Some(reason) = &reason {
            write!(f, " ({})", reason.error)?;
        }
        if let Some(message) = reason.as_ref().unwrap_or(self).shutdown_message() {
            write!(f, ": {message:?}")?;
        }
        Ok(())
    }
}
