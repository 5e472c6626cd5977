//! Routes into as few UPDATE messages as they fit (RFC 4271 section 4.3, RFC 4760, RFC 8654, RFC 8950).
//!
//! IPv4 routes with an IPv4 next hop use the classic fields that every speaker reads; all others MP_REACH_NLRI and
//! MP_UNREACH_NLRI, which come first and alone in their message (RFC 7606 section 5.1). Either all of a call is
//! written or nothing.

use bytes::{BufMut, BytesMut};

use super::attribute::{AttributeCode, Attributes, NextHop};
use super::disposition::OPTIONAL;
use super::encode;
use super::error::EncodeError;
use super::message::{HEADER_LEN, MessageType, put_message};
use super::negotiated::Negotiated;
use super::nlri::{self, Nlri};
use super::update::Update;
use crate::types::Family;

/// Header, and the two length fields of an UPDATE.
const UPDATE_MIN: usize = HEADER_LEN + 4;
/// The longest header of an attribute.
const ATTRIBUTE_HEADER: usize = 4;

/// Appends UPDATEs that announce `nlri`, which share attributes and a next hop. Returns how many there are.
///
/// [`EncodeError::AttributesTooLong`] means that these routes cannot be told to this peer: withdraw them from it.
pub fn encode_announcements(
    family: Family,
    next_hop: NextHop,
    attributes: &Attributes,
    nlri: &[Nlri],
    negotiated: &Negotiated,
    out: &mut BytesMut,
) -> Result<usize, EncodeError> {
    match (family, next_hop) {
        (Family::IPV4_UNICAST, NextHop::V4(hop)) => {
            let attributes = encode::encode(attributes, Some(hop), negotiated)?;
            let packer = Packer::new(family, attributes.len(), nlri, negotiated)?;
            packer.messages(out, |prefixes, out| {
                out.put_u16(0);
                put_length(&attributes, out)?;
                out.put_slice(&attributes);
                out.put_slice(prefixes);
                Ok(())
            })
        }
        _ => {
            let attributes = encode::encode(attributes, None, negotiated)?;
            let head = multiprotocol_head(family, next_hop, negotiated)?;
            let fixed = ATTRIBUTE_HEADER
                .saturating_add(head.len())
                .saturating_add(attributes.len());
            let packer = Packer::new(family, fixed, nlri, negotiated)?;
            packer.messages(out, |prefixes, out| {
                put_multiprotocol(AttributeCode::MP_REACH_NLRI, &head, prefixes, &attributes, out)
            })
        }
    }
}

/// Appends UPDATEs that withdraw `nlri`. Returns how many there are.
pub fn encode_withdrawals(
    family: Family,
    nlri: &[Nlri],
    negotiated: &Negotiated,
    out: &mut BytesMut,
) -> Result<usize, EncodeError> {
    if family == Family::IPV4_UNICAST {
        return Packer::new(family, 0, nlri, negotiated)?.messages(out, |prefixes, out| {
            put_length(prefixes, out)?;
            out.put_slice(prefixes);
            out.put_u16(0);
            Ok(())
        });
    }
    let head = family_octets(family);
    let packer = Packer::new(
        family,
        ATTRIBUTE_HEADER.saturating_add(head.len()),
        nlri,
        negotiated,
    )?;
    packer.messages(out, |prefixes, out| {
        put_multiprotocol(AttributeCode::MP_UNREACH_NLRI, &head, prefixes, &[], out)
    })
}

/// Appends the mark that all routes of a family have been sent (RFC 4724 section 2).
pub fn encode_end_of_rib(family: Family, out: &mut BytesMut) -> Result<(), EncodeError> {
    put_message(MessageType::Update, Negotiated::MESSAGE_MAX, out, |out| {
        if family == Family::IPV4_UNICAST {
            out.put_u32(0);
            return Ok(());
        }
        put_multiprotocol(
            AttributeCode::MP_UNREACH_NLRI,
            &family_octets(family),
            &[],
            &[],
            out,
        )
    })
}

/// Appends all messages an [`Update`] needs.
pub(super) fn encode_update(
    update: &Update,
    negotiated: &Negotiated,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let mut messages = BytesMut::new();
    for unreach in &update.unreach {
        encode_withdrawals(unreach.family, &unreach.nlri, negotiated, &mut messages)?;
    }
    for reach in &update.reach {
        let attributes = &update.attributes;
        encode_announcements(
            reach.family,
            reach.next_hop,
            attributes,
            &reach.nlri,
            negotiated,
            &mut messages,
        )?;
    }
    if let Some(family) = update.end_of_rib {
        encode_end_of_rib(family, &mut messages)?;
    }
    out.unsplit(messages);
    Ok(())
}

/// Divides prefixes among messages.
struct Packer<'a> {
    nlri: &'a [Nlri],
    add_path: bool,
    /// How many octets of prefixes fit one message.
    room: usize,
    max: usize,
}

impl<'a> Packer<'a> {
    /// `fixed` is what each message holds besides the UPDATE's own fields and the prefixes.
    fn new(
        family: Family,
        fixed: usize,
        nlri: &'a [Nlri],
        negotiated: &Negotiated,
    ) -> Result<Self, EncodeError> {
        if let Some(wrong) = nlri.iter().find(|nlri| nlri.family() != family) {
            return Err(EncodeError::WrongFamily {
                family,
                prefix: wrong.prefix,
            });
        }
        let max = negotiated.max_send();
        let add_path = negotiated.add_path_send.contains(&family);
        let room = max.saturating_sub(UPDATE_MIN.saturating_add(fixed));
        let longest = nlri
            .iter()
            .map(|nlri| nlri::encoded_len(nlri, add_path))
            .max()
            .unwrap_or(0);
        if longest > room {
            return Err(EncodeError::AttributesTooLong(fixed));
        }
        Ok(Self {
            nlri,
            add_path,
            room,
            max,
        })
    }

    /// Writes one message a portion of prefixes.
    fn messages(
        self,
        out: &mut BytesMut,
        mut body: impl FnMut(&[u8], &mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<usize, EncodeError> {
        let mut messages = BytesMut::new();
        let mut count: usize = 0;
        let mut rest = self.nlri.iter().peekable();
        while rest.peek().is_some() {
            let mut prefixes = BytesMut::new();
            while let Some(nlri) = rest.next_if(|nlri| self.fits(&prefixes, nlri)) {
                nlri::encode(nlri, self.add_path, &mut prefixes);
            }
            put_message(MessageType::Update, self.max, &mut messages, |out| {
                body(&prefixes, out)
            })?;
            count = count.saturating_add(1);
        }
        out.unsplit(messages);
        Ok(count)
    }

    /// One prefix always fits: the constructor has seen to it.
    fn fits(&self, prefixes: &BytesMut, nlri: &Nlri) -> bool {
        prefixes
            .len()
            .saturating_add(nlri::encoded_len(nlri, self.add_path))
            <= self.room
    }
}

fn family_octets(family: Family) -> BytesMut {
    let mut octets = BytesMut::new();
    octets.put_u16(family.afi);
    octets.put_u8(family.safi);
    octets
}

/// What comes before the prefixes in MP_REACH_NLRI.
fn multiprotocol_head(
    family: Family,
    next_hop: NextHop,
    negotiated: &Negotiated,
) -> Result<BytesMut, EncodeError> {
    let is_allowed = match next_hop {
        NextHop::V4(_) => family.afi == Family::AFI_IPV4,
        NextHop::V6 { .. } => {
            family.afi == Family::AFI_IPV6 || negotiated.extended_next_hop.contains(&family)
        }
    };
    if !is_allowed {
        return Err(EncodeError::NextHop {
            family,
            next_hop: next_hop.addr(),
        });
    }
    let mut head = family_octets(family);
    match next_hop {
        NextHop::V4(addr) => {
            head.put_u8(4);
            head.put_slice(&addr.octets());
        }
        NextHop::V6 { global, link_local } => {
            head.put_u8(if link_local.is_some() { 32 } else { 16 });
            head.put_slice(&global.octets());
            link_local.iter().for_each(|addr| head.put_slice(&addr.octets()));
        }
    }
    head.put_u8(0);
    Ok(head)
}

/// The body of an UPDATE with MP_REACH_NLRI or MP_UNREACH_NLRI, before all other attributes.
fn put_multiprotocol(
    code: AttributeCode,
    head: &[u8],
    prefixes: &[u8],
    attributes: &[u8],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let mut all = BytesMut::new();
    encode::put_attribute(code, OPTIONAL, &[head, prefixes].concat(), &mut all)?;
    all.put_slice(attributes);
    out.put_u16(0);
    put_length(&all, out)?;
    out.put_slice(&all);
    Ok(())
}

fn put_length(bytes: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u16(u16::try_from(bytes.len()).map_err(|_| EncodeError::MessageTooLong)?);
    Ok(())
}
