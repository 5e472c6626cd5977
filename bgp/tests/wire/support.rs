//! Short forms the tests share: messages from hex, attributes from parts, sessions.

use std::collections::BTreeSet;

use bgp::types::{Asn, Family};
use bgp::wire::{
    AsPath, Attributes, DecodeError, Frame, Message, Negotiated, Nlri, Notification, Origin, SessionType,
    Update,
};
use bytes::{BufMut, Bytes, BytesMut};

/// Bytes from hex digits; anything else in the text is for the reader.
pub(crate) fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    assert!(digits.len().is_multiple_of(2), "odd number of digits in {text:?}");
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect::<Vec<u8>>().into()
}

/// A message of a type with a body.
pub(crate) fn message(kind: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&[0xFF; 16]);
    out.put_u16(u16::try_from(body.len() + 19).unwrap());
    out.put_u8(kind);
    out.put_slice(body);
    out.freeze()
}

/// The body of an UPDATE from its three parts.
pub(crate) fn update_body(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u16(u16::try_from(withdrawn.len()).unwrap());
    out.put_slice(withdrawn);
    out.put_u16(u16::try_from(attributes.len()).unwrap());
    out.put_slice(attributes);
    out.put_slice(nlri);
    out.freeze()
}

/// Decodes exactly one message.
pub(crate) fn decode(bytes: &[u8], negotiated: &Negotiated) -> Result<Message, DecodeError> {
    let mut buffer = BytesMut::from(bytes);
    let frame = Frame::take(&mut buffer, negotiated.max_receive())?.expect("a whole message");
    assert!(buffer.is_empty(), "{} octets after the message", buffer.len());
    Message::decode(&frame, negotiated)
}

/// Decodes every message there is.
pub(crate) fn decode_all(bytes: &[u8], negotiated: &Negotiated) -> Vec<Message> {
    let mut buffer = BytesMut::from(bytes);
    let mut messages = Vec::new();
    while let Some(frame) = Frame::take(&mut buffer, negotiated.max_receive()).expect("a valid header") {
        messages.push(Message::decode(&frame, negotiated).expect("a valid message"));
    }
    assert!(
        buffer.is_empty(),
        "{} octets after the last message",
        buffer.len()
    );
    messages
}

/// Decodes an UPDATE from its three parts.
pub(crate) fn decode_update(
    withdrawn: &[u8],
    attributes: &[u8],
    nlri: &[u8],
    negotiated: &Negotiated,
) -> Result<Update, Notification> {
    match decode(&message(2, &update_body(withdrawn, attributes, nlri)), negotiated) {
        Ok(Message::Update(update)) => Ok(update),
        Ok(other) => panic!("not an UPDATE: {other:?}"),
        Err(error) => Err(error.notification()),
    }
}

/// Encodes a message that must be encodable.
pub(crate) fn encode(message: &Message, negotiated: &Negotiated) -> Bytes {
    let mut out = BytesMut::new();
    message
        .encode(negotiated, &mut out)
        .expect("an encodable message");
    out.freeze()
}

/// A session with four-octet AS numbers and both families.
pub(crate) fn session(session_type: SessionType) -> Negotiated {
    Negotiated {
        four_octet_as: true,
        families: BTreeSet::from([Family::IPV4_UNICAST, Family::IPV6_UNICAST]),
        ..Negotiated::plain(session_type)
    }
}

/// Attributes of a plain external route.
pub(crate) fn attributes() -> Attributes {
    Attributes {
        origin: Origin::Igp,
        as_path: AsPath::from_sequence([Asn(64512)]),
        ..Attributes::default()
    }
}

/// A list of prefixes from text.
pub(crate) fn nlri(prefixes: &[&str]) -> Vec<Nlri> {
    prefixes
        .iter()
        .map(|prefix| Nlri::new(prefix.parse().unwrap()))
        .collect()
}
