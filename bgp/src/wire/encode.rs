//! Path attributes to bytes, by ascending type code (RFC 4271 section 5), each with the flags of its rule.
//!
//! What an external peer may not be sent (LOCAL_PREF, ORIGINATOR_ID, CLUSTER_LIST) is left out for one, whatever the
//! caller says. For a peer that knows only two-octet AS numbers the long ones go to AS4_PATH and AS4_AGGREGATOR.

use std::iter::Peekable;
use std::net::Ipv4Addr;
use std::slice;

use bytes::{BufMut, BytesMut};

use super::as_path::AsPath;
use super::attribute::{AttributeCode, Attributes, UnknownAttribute};
use super::disposition::{EXTENDED_LENGTH, OPTIONAL, PARTIAL, Rule, TRANSITIVE};
use super::error::EncodeError;
use super::negotiated::Negotiated;
use crate::types::Asn;

/// All attributes of a route but MP_REACH_NLRI. `next_hop` is for NEXT_HOP, where NLRI is not in MP_REACH_NLRI.
pub(super) fn encode(
    attributes: &Attributes,
    next_hop: Option<Ipv4Addr>,
    negotiated: &Negotiated,
) -> Result<BytesMut, EncodeError> {
    let mut writer = Writer::new(attributes, negotiated);
    let four_octets = negotiated.four_octet_as;
    writer.put(AttributeCode::ORIGIN, |out| {
        out.put_u8(attributes.origin.number())
    })?;
    writer.put(AttributeCode::AS_PATH, |out| {
        put_as_path(&attributes.as_path, four_octets, out)
    })?;
    writer.put_if(AttributeCode::NEXT_HOP, next_hop, |hop, out| {
        out.put_slice(&hop.octets())
    })?;
    writer.put_if(AttributeCode::MULTI_EXIT_DISC, attributes.med, |med, out| {
        out.put_u32(med)
    })?;
    writer.put_if(AttributeCode::LOCAL_PREF, attributes.local_pref, |pref, out| {
        out.put_u32(pref)
    })?;
    writer.put_if(
        AttributeCode::ATOMIC_AGGREGATE,
        attributes.atomic_aggregate.then_some(()),
        |(), _| (),
    )?;
    writer.put_if(
        AttributeCode::AGGREGATOR,
        attributes.aggregator,
        |aggregator, out| {
            put_asn(aggregator.asn, four_octets, out);
            out.put_u32(aggregator.router_id.to_u32());
        },
    )?;
    writer.put_list(
        AttributeCode::COMMUNITIES,
        &attributes.communities,
        |each, out| out.put_u32(each.0),
    )?;
    writer.put_if(
        AttributeCode::ORIGINATOR_ID,
        attributes.originator_id,
        |id, out| {
            out.put_u32(id.to_u32());
        },
    )?;
    writer.put_list(
        AttributeCode::CLUSTER_LIST,
        &attributes.cluster_list,
        |each, out| {
            out.put_u32(each.to_u32());
        },
    )?;
    writer.put_list(
        AttributeCode::EXTENDED_COMMUNITIES,
        &attributes.extended_communities,
        |each, out| {
            out.put_slice(&each.0);
        },
    )?;
    if !four_octets {
        encode_as4(attributes, &mut writer)?;
    }
    writer.put_list(
        AttributeCode::LARGE_COMMUNITY,
        &attributes.large_communities,
        |each, out| {
            out.put_u32(each.global);
            out.put_u32(each.local1);
            out.put_u32(each.local2);
        },
    )?;
    writer.put_if(
        AttributeCode::ONLY_TO_CUSTOMER,
        attributes.only_to_customer,
        |asn, out| out.put_u32(asn.0),
    )?;
    writer.finish()
}

/// AS4_PATH and AS4_AGGREGATOR, where two octets do not say it all (RFC 6793 section 4.2.2).
fn encode_as4(attributes: &Attributes, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
    let is_long = |asn: Asn| asn.as_u16().is_none();
    let as4_path = attributes.as_path.without_confederation();
    let needed = as4_path.asns().any(is_long);
    let as4_path = needed.then_some(as4_path);
    writer.put_if(AttributeCode::AS4_PATH, as4_path, |path, out| {
        put_as_path(&path, true, out)
    })?;
    let as4_aggregator = attributes.aggregator.filter(|aggregator| is_long(aggregator.asn));
    writer.put_if(
        AttributeCode::AS4_AGGREGATOR,
        as4_aggregator,
        |aggregator, out| {
            out.put_u32(aggregator.asn.0);
            out.put_u32(aggregator.router_id.to_u32());
        },
    )
}

fn put_asn(asn: Asn, four_octets: bool, out: &mut BytesMut) {
    if four_octets {
        out.put_u32(asn.0);
    } else {
        out.put_u16(asn.to_u16_or_trans());
    }
}

/// Writes a path; a segment that is too long for its length octet becomes several.
fn put_as_path(path: &AsPath, four_octets: bool, out: &mut BytesMut) {
    for segment in &path.segments {
        for asns in segment.asns.chunks(AsPath::SEGMENT_MAX) {
            out.put_u8(segment.kind.number());
            out.put_u8(u8::try_from(asns.len()).unwrap_or(u8::MAX));
            asns.iter().for_each(|&asn| put_asn(asn, four_octets, out));
        }
    }
}

/// Writes one attribute with its header. An external caller is `pack`, for MP_REACH_NLRI and MP_UNREACH_NLRI.
pub(super) fn put_attribute(
    code: AttributeCode,
    flags: u8,
    value: &[u8],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if let Ok(length) = u8::try_from(value.len()) {
        out.put_slice(&[flags, code.0, length]);
    } else {
        let length = u16::try_from(value.len()).map_err(|_| EncodeError::AttributesTooLong(value.len()))?;
        out.put_slice(&[flags | EXTENDED_LENGTH, code.0]);
        out.put_u16(length);
    }
    out.put_slice(value);
    Ok(())
}

/// Writes attributes in order, with the unknown ones where their codes belong.
struct Writer<'a> {
    negotiated: &'a Negotiated,
    unknown: Peekable<slice::Iter<'a, UnknownAttribute>>,
    value: BytesMut,
    out: BytesMut,
}

impl<'a> Writer<'a> {
    fn new(attributes: &'a Attributes, negotiated: &'a Negotiated) -> Self {
        let unknown = attributes.unknown.iter().peekable();
        Self {
            negotiated,
            unknown,
            value: BytesMut::new(),
            out: BytesMut::new(),
        }
    }

    fn put(&mut self, code: AttributeCode, write: impl FnOnce(&mut BytesMut)) -> Result<(), EncodeError> {
        self.put_unknown_below(Some(code))?;
        let Some(rule) = Rule::of(code) else { return Ok(()) };
        if !rule.allowed_from(self.negotiated.session_type) {
            return Ok(());
        }
        self.value.clear();
        write(&mut self.value);
        put_attribute(code, rule.flags, &self.value, &mut self.out)
    }

    fn put_if<T>(
        &mut self,
        code: AttributeCode,
        value: Option<T>,
        write: impl FnOnce(T, &mut BytesMut),
    ) -> Result<(), EncodeError> {
        value.map_or(Ok(()), |value| self.put(code, |out| write(value, out)))
    }

    fn put_list<T>(
        &mut self,
        code: AttributeCode,
        list: &[T],
        write: impl Fn(&T, &mut BytesMut),
    ) -> Result<(), EncodeError> {
        let list = (!list.is_empty()).then_some(list);
        self.put_if(code, list, |list, out| {
            list.iter().for_each(|each| write(each, out))
        })
    }

    /// Unknown attributes are passed on with the Partial bit set (RFC 4271 section 9).
    fn put_unknown_below(&mut self, limit: Option<AttributeCode>) -> Result<(), EncodeError> {
        while let Some(next) = self
            .unknown
            .next_if(|next| limit.is_none_or(|limit| next.code < limit))
        {
            let flags = OPTIONAL | TRANSITIVE | PARTIAL;
            put_attribute(next.code, flags, &next.value, &mut self.out)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<BytesMut, EncodeError> {
        self.put_unknown_below(None)?;
        Ok(self.out)
    }
}
