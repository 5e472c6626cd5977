//! BGP-4 messages: bytes in, values out, and back. No sockets, no clock, no state but what is passed in.
//!
//! - In: [`Frame::take`] cuts whole messages out of a receive buffer and checks their headers; [`Message::decode`]
//!   reads one. Every error is an enum that knows its exact NOTIFICATION ([`DecodeError::notification`]).
//! - Out: [`Message::encode`], and for many routes with the same attributes [`encode_announcements`],
//!   [`encode_withdrawals`] and [`encode_end_of_rib`], which fill as few messages as the peer's limit allows.
//! - What a session has agreed on, and so how its UPDATEs look, is a [`Negotiated`].
//!
//! Nothing a peer sends makes this code panic or allocate more than a small multiple of the message's length; the
//! lints below keep indexing and unchecked arithmetic out of it. What it does not do: judge a well-formed route
//! (loops, policy, whether a next hop can be reached) or say when a message is welcome. That is for the RIB and
//! the state machine.
//!
//! RFC 4271 (BGP-4), 1997 (communities), 2545 and 4760 (IPv6, multiprotocol), 2918 and 7313 (route refresh), 4360
//! (extended communities), 4456 (route reflection), 4724 and 8538 (graceful restart), 5065 (confederation segments),
//! 5492 (capabilities), 6793 (four-octet AS), 7606 (error handling), 7607 (AS 0), 7911 (ADD-PATH), 8092 (large
//! communities), 8654 (extended messages), 8950 (IPv6 next hops for IPv4), 9003 (shutdown communication), 9072 (long
//! OPEN parameters), 9234 (roles).

#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::expect_used
)]

mod as_path;
mod attribute;
mod capability;
mod community;
mod cursor;
mod decode;
mod decode_list;
mod decode_value;
mod disposition;
mod encode;
mod error;
mod message;
mod negotiated;
mod nlri;
mod notification;
mod open;
mod pack;
mod update;

pub use as_path::{AsPath, Segment, SegmentKind};
pub use attribute::{Aggregator, AttributeCode, Attributes, NextHop, Origin, UnknownAttribute};
pub use capability::{AddPath, Capability, ExtendedNextHop, GracefulRestart, GracefulRestartFamily, Role};
pub use community::{Community, ExtendedCommunity, LargeCommunity, ParseCommunityError};
pub use disposition::Disposition;
pub use error::{
    AttributeError, AttributeErrorKind, DecodeError, EncodeError, HeaderError, MultiprotocolError,
    RouteRefreshError, UpdateError,
};
pub use message::{Frame, Message, MessageType, RefreshSubtype, RouteRefresh};
pub use negotiated::{Negotiated, SessionType};
pub use nlri::{Nlri, NlriError};
pub use notification::{
    CeaseSubcode, ErrorCode, FsmSubcode, HeaderSubcode, Notification, OpenSubcode, RouteRefreshSubcode,
    UpdateSubcode,
};
pub use open::{Open, OpenError};
pub use pack::{encode_announcements, encode_end_of_rib, encode_withdrawals};
pub use update::{Reach, Unreach, Update};
