//! The attribute list of an UPDATE from bytes: which attributes there are, what they say, and what is wrong with them.
//!
//! The judgements are the table in [`super::disposition`]; this file finds what is to be judged. What the whole comes
//! to is for `decode` to say.

use std::net::Ipv4Addr;

use bytes::Bytes;

use super::as_path::AsPath;
use super::attribute::{Aggregator, AttributeCode, Attributes, UnknownAttribute};
use super::cursor::Cursor;
use super::decode_value::{self as value, MpReach};
use super::disposition::{self, Disposition, EXTENDED_LENGTH, OPTIONAL, PARTIAL, Rule, TRANSITIVE};
use super::error::{AttributeError, AttributeErrorKind, MultiprotocolError, UpdateError};
use super::negotiated::{Negotiated, SessionType};
use super::update::Unreach;
use crate::types::Asn;

/// One attribute as it stands in the list.
#[derive(Clone, Copy)]
struct Raw<'a> {
    code: AttributeCode,
    flags: u8,
    value: &'a [u8],
    /// All of it, header included.
    octets: &'a [u8],
}

/// What has been gathered from an attribute list.
pub(super) struct AttributeList<'a> {
    pub(super) negotiated: &'a Negotiated,
    /// How often each type code occurred, up to twice.
    seen: [u8; 256],
    /// How many attributes there were.
    pub(super) count: usize,
    pub(super) attributes: Attributes,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) mp_reach: Option<MpReach>,
    pub(super) mp_unreach: Option<Unreach>,
    pub(super) as4_path: Option<AsPath>,
    pub(super) as4_aggregator: Option<Aggregator>,
    pub(super) errors: Vec<AttributeError>,
}

impl<'a> AttributeList<'a> {
    /// Reads a whole list.
    pub(super) fn decode(list: &[u8], negotiated: &'a Negotiated) -> Result<Self, UpdateError> {
        let mut gathered = Self {
            negotiated,
            seen: [0; 256],
            count: 0,
            attributes: Attributes::default(),
            next_hop: None,
            mp_reach: None,
            mp_unreach: None,
            as4_path: None,
            as4_aggregator: None,
            errors: Vec::new(),
        };
        let mut cursor = Cursor::new(list);
        while !cursor.is_empty() {
            let rest = cursor.rest();
            let Some(raw) = next_attribute(&mut cursor) else {
                gathered.overrun(rest)?;
                break;
            };
            gathered.count = gathered.count.saturating_add(1);
            gathered.attribute(raw)?;
        }
        gathered
            .attributes
            .unknown
            .sort_by_key(|attribute| attribute.code);
        Ok(gathered)
    }

    /// The list ends within an attribute. What it was about is lost if it carried routes.
    fn overrun(&mut self, rest: &[u8]) -> Result<(), UpdateError> {
        let code = AttributeCode(rest.get(1).copied().unwrap_or(0));
        if code == AttributeCode::MP_REACH_NLRI || code == AttributeCode::MP_UNREACH_NLRI {
            let attribute = Bytes::copy_from_slice(rest);
            return Err(UpdateError::Multiprotocol {
                code,
                error: MultiprotocolError::Truncated,
                attribute,
            });
        }
        self.mark_seen(code);
        self.error(code, AttributeErrorKind::Overrun, disposition::OVERRUN, rest);
        Ok(())
    }

    pub(super) fn error(
        &mut self,
        code: AttributeCode,
        kind: AttributeErrorKind,
        what: Disposition,
        octets: &[u8],
    ) {
        let attribute = Bytes::copy_from_slice(octets);
        self.errors.push(AttributeError {
            code,
            kind,
            disposition: what,
            attribute,
        });
    }

    pub(super) fn has_seen(&self, code: AttributeCode) -> bool {
        self.times_seen(code) > 0
    }

    fn times_seen(&self, code: AttributeCode) -> u8 {
        self.seen.get(usize::from(code.0)).copied().unwrap_or(0)
    }

    fn mark_seen(&mut self, code: AttributeCode) {
        if let Some(seen) = self.seen.get_mut(usize::from(code.0)) {
            *seen = seen.saturating_add(1).min(2);
        }
    }

    fn attribute(&mut self, raw: Raw<'_>) -> Result<(), UpdateError> {
        let code = raw.code;
        let is_multiprotocol = matches!(
            code,
            AttributeCode::MP_REACH_NLRI | AttributeCode::MP_UNREACH_NLRI
        );
        if self.has_seen(code) {
            if is_multiprotocol {
                return Err(UpdateError::DuplicateMultiprotocol(code));
            }
            // Said once, however often it occurs.
            if self.times_seen(code) == 1 {
                self.error(
                    code,
                    AttributeErrorKind::Duplicate,
                    disposition::DUPLICATE,
                    raw.octets,
                );
            }
            self.mark_seen(code);
            return Ok(());
        }
        self.mark_seen(code);
        let Some(rule) = Rule::of(code) else {
            return self.unknown(raw);
        };
        if !rule.allowed_from(self.negotiated.session_type) || self.is_as4_from_four_octet_speaker(code) {
            self.error(
                code,
                AttributeErrorKind::NotAllowed,
                disposition::NOT_ALLOWED,
                raw.octets,
            );
            return Ok(());
        }
        if !rule.flags_are_right(raw.flags) {
            let kind = AttributeErrorKind::Flags(raw.flags);
            self.error(code, kind, disposition::WRONG_FLAGS, raw.octets);
            // The routes are needed all the same, to be withdrawn.
            if !is_multiprotocol {
                return Ok(());
            }
        }
        if is_multiprotocol {
            return self.multiprotocol(raw);
        }
        if let Err(kind) = self.value(code, raw.value) {
            self.error(code, kind, rule.malformed, raw.octets);
        }
        Ok(())
    }

    /// RFC 6793 section 4.1: a speaker of four octets has no use for them.
    fn is_as4_from_four_octet_speaker(&self, code: AttributeCode) -> bool {
        self.negotiated.four_octet_as
            && matches!(code, AttributeCode::AS4_PATH | AttributeCode::AS4_AGGREGATOR)
    }

    fn unknown(&mut self, raw: Raw<'_>) -> Result<(), UpdateError> {
        if raw.flags & OPTIONAL == 0 {
            let attribute = Bytes::copy_from_slice(raw.octets);
            return Err(UpdateError::UnrecognizedWellKnown {
                code: raw.code,
                attribute,
            });
        }
        if raw.flags & TRANSITIVE != 0 {
            let partial = raw.flags & PARTIAL != 0;
            let value = Bytes::copy_from_slice(raw.value);
            self.attributes.unknown.push(UnknownAttribute {
                code: raw.code,
                partial,
                value,
            });
        }
        Ok(())
    }

    fn multiprotocol(&mut self, raw: Raw<'_>) -> Result<(), UpdateError> {
        let result = if raw.code == AttributeCode::MP_REACH_NLRI {
            value::mp_reach(raw.value, self.negotiated).map(|reach| self.mp_reach = Some(reach))
        } else {
            value::mp_unreach(raw.value, self.negotiated).map(|unreach| self.mp_unreach = Some(unreach))
        };
        let failed = |error| {
            let attribute = Bytes::copy_from_slice(raw.octets);
            UpdateError::Multiprotocol {
                code: raw.code,
                error,
                attribute,
            }
        };
        result.map_err(failed)?;
        if self
            .mp_reach
            .as_ref()
            .is_some_and(|reach| raw.code == AttributeCode::MP_REACH_NLRI && !reach.next_hop_is_host())
        {
            let kind = AttributeErrorKind::InvalidNextHop;
            self.error(raw.code, kind, Disposition::TreatAsWithdraw, raw.octets);
        }
        Ok(())
    }

    /// Reads the value of any attribute that carries no routes.
    fn value(&mut self, code: AttributeCode, bytes: &[u8]) -> Result<(), AttributeErrorKind> {
        let four_octets = self.negotiated.four_octet_as;
        let external = self.negotiated.session_type == SessionType::Ebgp;
        let attributes = &mut self.attributes;
        match code {
            AttributeCode::ORIGIN => attributes.origin = value::origin(bytes)?,
            AttributeCode::AS_PATH => attributes.as_path = value::as_path(bytes, four_octets, !external)?,
            AttributeCode::NEXT_HOP => self.next_hop = Some(value::array(bytes)?.into()),
            AttributeCode::MULTI_EXIT_DISC => attributes.med = Some(value::number(bytes)?),
            AttributeCode::LOCAL_PREF => attributes.local_pref = Some(value::number(bytes)?),
            AttributeCode::ATOMIC_AGGREGATE => {
                value::array::<0>(bytes)?;
                attributes.atomic_aggregate = true;
            }
            AttributeCode::AGGREGATOR => attributes.aggregator = Some(value::aggregator(bytes, four_octets)?),
            AttributeCode::COMMUNITIES => attributes.communities = value::communities(bytes)?,
            AttributeCode::ORIGINATOR_ID => attributes.originator_id = Some(value::number(bytes)?.into()),
            AttributeCode::CLUSTER_LIST => attributes.cluster_list = value::cluster_list(bytes)?,
            AttributeCode::EXTENDED_COMMUNITIES => {
                attributes.extended_communities = value::extended_communities(bytes)?;
            }
            AttributeCode::AS4_PATH => self.as4_path = Some(value::as4_path(bytes)?),
            AttributeCode::AS4_AGGREGATOR => self.as4_aggregator = Some(value::aggregator(bytes, true)?),
            AttributeCode::LARGE_COMMUNITY => {
                attributes.large_communities = value::large_communities(bytes)?;
            }
            AttributeCode::ONLY_TO_CUSTOMER => {
                attributes.only_to_customer = Some(Asn(value::number(bytes)?));
            }
            // MP_REACH_NLRI and MP_UNREACH_NLRI are read elsewhere, and there are no more rules.
            _ => {}
        }
        Ok(())
    }
}

fn next_attribute<'a>(cursor: &mut Cursor<'a>) -> Option<Raw<'a>> {
    let whole = cursor.rest();
    let [flags, code] = cursor.array()?;
    let value = if flags & EXTENDED_LENGTH != 0 {
        cursor.block_u16()?
    } else {
        cursor.block_u8()?
    };
    let octets = whole.get(..whole.len().saturating_sub(cursor.remaining()))?;
    Some(Raw {
        code: AttributeCode(code),
        flags,
        value,
        octets,
    })
}
