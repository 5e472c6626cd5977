//! Messages and their framing: the header of RFC 4271 section 4.1 and the checks of section 6.1.

use bytes::{BufMut, Bytes, BytesMut};

use super::cursor::Cursor;
use super::error::{DecodeError, EncodeError, HeaderError, RouteRefreshError};
use super::negotiated::Negotiated;
use super::notification::{ErrorCode, Notification};
use super::open::Open;
use super::update::Update;
use super::{decode, pack};
use crate::types::Family;

/// Marker, length and type.
pub(super) const HEADER_LEN: usize = 19;
const MARKER: [u8; 16] = [0xFF; 16];
/// The fixed part of a NOTIFICATION.
const NOTIFICATION_MIN: usize = 21;

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// OPEN.
    Open,
    /// UPDATE.
    Update,
    /// NOTIFICATION.
    Notification,
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh,
}

impl MessageType {
    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Open),
            2 => Some(Self::Update),
            3 => Some(Self::Notification),
            4 => Some(Self::Keepalive),
            5 => Some(Self::RouteRefresh),
            _ => None,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    /// Whether a message of the type may have so many octets, header included, when the session allows `max`.
    fn allows_length(self, length: usize, max: usize) -> bool {
        match self {
            // Not extended by RFC 8654 (section 4).
            Self::Open => (29..=Negotiated::MESSAGE_MAX).contains(&length),
            Self::Update => (23..=max).contains(&length),
            Self::Notification => (NOTIFICATION_MIN..=max).contains(&length),
            Self::Keepalive => length == HEADER_LEN,
            Self::RouteRefresh => (23..=max).contains(&length),
        }
    }
}

/// One whole message whose header has been checked and whose body has not been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    kind: MessageType,
    /// Header included.
    bytes: Bytes,
}

impl Frame {
    /// Cuts the first message out of a receive buffer. `None`: more bytes are needed. `max` is 4096 until the session
    /// is established, then [`Negotiated::max_receive`]. After an error the buffer is of no more use.
    pub fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Frame>, HeaderError> {
        let mut cursor = Cursor::new(buffer);
        let Some(marker) = cursor.array::<16>() else {
            return Ok(None);
        };
        if marker != MARKER {
            return Err(HeaderError::NotSynchronized);
        }
        let (Some(length), Some(number)) = (cursor.u16(), cursor.u8()) else {
            return Ok(None);
        };
        let bad_length = HeaderError::BadLength(length);
        let length = usize::from(length);
        if !(HEADER_LEN..=max).contains(&length) {
            return Err(bad_length);
        }
        let kind = MessageType::from_number(number).ok_or(HeaderError::BadType(number))?;
        if !kind.allows_length(length, max) {
            return Err(bad_length);
        }
        if buffer.len() < length {
            return Ok(None);
        }
        Ok(Some(Frame {
            kind,
            bytes: buffer.split_to(length).freeze(),
        }))
    }

    /// The type of the message, so that the state machine can refuse it unread.
    pub fn message_type(&self) -> MessageType {
        self.kind
    }

    /// The message, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn body(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }
}

/// A BGP message.
// One is alive at a time, and most are UPDATEs: a box around the largest would only add an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who I am.
    Open(Open),
    /// Routes that come and go.
    Update(Update),
    /// Why the session ends.
    Notification(Notification),
    /// Still here.
    Keepalive,
    /// Tell me all again.
    RouteRefresh(RouteRefresh),
}

/// A ROUTE-REFRESH message (RFC 2918, RFC 7313).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// The family it is about.
    pub family: Family,
    /// What it says about it.
    pub subtype: RefreshSubtype,
}

/// What a ROUTE-REFRESH says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefreshSubtype {
    /// Please send all routes again.
    Request,
    /// All routes follow.
    Begin,
    /// Those were all routes.
    End,
    /// To be ignored (RFC 7313 section 5).
    Other(u8),
}

impl RefreshSubtype {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Request,
            1 => Self::Begin,
            2 => Self::End,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Begin => 1,
            Self::End => 2,
            Self::Other(number) => number,
        }
    }
}

impl Message {
    /// The type of the message.
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Open(_) => MessageType::Open,
            Self::Update(_) => MessageType::Update,
            Self::Notification(_) => MessageType::Notification,
            Self::Keepalive => MessageType::Keepalive,
            Self::RouteRefresh(_) => MessageType::RouteRefresh,
        }
    }

    /// Reads a message. Only UPDATE depends on `negotiated`; before OPENs were exchanged any value will do.
    pub fn decode(frame: &Frame, negotiated: &Negotiated) -> Result<Message, DecodeError> {
        let body = frame.body();
        Ok(match frame.kind {
            MessageType::Open => Self::Open(Open::decode(body)?),
            MessageType::Update => Self::Update(decode::decode(body, negotiated)?),
            MessageType::Notification => Self::Notification(decode_notification(frame)?),
            MessageType::Keepalive => Self::Keepalive,
            MessageType::RouteRefresh => Self::RouteRefresh(decode_route_refresh(frame)?),
        })
    }

    /// Appends the message to a send buffer. Only UPDATE and NOTIFICATION depend on `negotiated`. An UPDATE
    /// becomes as many messages as it needs. After an error the buffer is as it was.
    pub fn encode(&self, negotiated: &Negotiated, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Open(open) => put_message(MessageType::Open, Negotiated::MESSAGE_MAX, out, |out| {
                open.encode(out)
            }),
            Self::Update(update) => pack::encode_update(update, negotiated, out),
            Self::Notification(notification) => encode_notification(notification, negotiated.max_send(), out),
            Self::Keepalive => put_message(MessageType::Keepalive, HEADER_LEN, out, |_| Ok(())),
            Self::RouteRefresh(refresh) => {
                put_message(MessageType::RouteRefresh, Negotiated::MESSAGE_MAX, out, |out| {
                    out.put_u16(refresh.family.afi);
                    out.put_u8(refresh.subtype.number());
                    out.put_u8(refresh.family.safi);
                    Ok(())
                })
            }
        }
    }
}

/// Appends a message: the header, whatever `body` writes, and then the length. After an error `out` is as it was.
pub(super) fn put_message(
    kind: MessageType,
    max: usize,
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let mut message = out.split_off(out.len());
    message.put_slice(&MARKER);
    message.put_u16(0);
    message.put_u8(kind.number());
    body(&mut message)?;

    let length = message.len();
    let octets = u16::try_from(length)
        .ok()
        .filter(|_| length <= max)
        .ok_or(EncodeError::MessageTooLong)?;
    if let Some(field) = message.get_mut(16..18) {
        field.copy_from_slice(&octets.to_be_bytes());
    }
    out.unsplit(message);
    Ok(())
}

fn decode_notification(frame: &Frame) -> Result<Notification, HeaderError> {
    // Framing has seen to it that code and subcode are there.
    let too_short = HeaderError::BadLength(u16::try_from(frame.bytes.len()).unwrap_or(u16::MAX));
    let mut cursor = Cursor::new(frame.body());
    let [code, subcode] = cursor.array().ok_or(too_short)?;
    let data = Bytes::copy_from_slice(cursor.rest());
    Ok(Notification::with_data(
        ErrorCode::from_numbers(code, subcode),
        data,
    ))
}

/// Data that does not fit the message is cut: the code matters more.
fn encode_notification(
    notification: &Notification,
    max: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let room = max.saturating_sub(NOTIFICATION_MIN);
    let data = notification.data.get(..room).unwrap_or(&notification.data);
    put_message(MessageType::Notification, max, out, |out| {
        out.put_u8(notification.error.code());
        out.put_u8(notification.error.subcode());
        out.put_slice(data);
        Ok(())
    })
}

fn decode_route_refresh(frame: &Frame) -> Result<RouteRefresh, DecodeError> {
    let too_short = HeaderError::BadLength(u16::try_from(frame.bytes.len()).unwrap_or(u16::MAX));
    let mut cursor = Cursor::new(frame.body());
    let afi = cursor.u16().ok_or(too_short)?;
    let subtype = RefreshSubtype::from_number(cursor.u8().ok_or(too_short)?);
    let safi = cursor.u8().ok_or(too_short)?;
    // More may follow a request (outbound route filters, RFC 5291, which are never negotiated), but not a mark.
    let is_mark = matches!(subtype, RefreshSubtype::Begin | RefreshSubtype::End);
    if is_mark && !cursor.is_empty() {
        return Err(RouteRefreshError {
            message: frame.bytes.clone(),
        }
        .into());
    }
    Ok(RouteRefresh {
        family: Family { afi, safi },
        subtype,
    })
}
