//! The values of path attributes from bytes. What an error leads to is not decided here.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::as_path::{AsPath, Segment, SegmentKind};
use super::attribute::{Aggregator, NextHop, Origin};
use super::community::{Community, ExtendedCommunity, LargeCommunity};
use super::cursor::Cursor;
use super::error::{AttributeErrorKind, MultiprotocolError};
use super::negotiated::Negotiated;
use super::nlri::{self, Nlri};
use super::update::Unreach;
use crate::types::{Asn, Family, RouterId};

type Result<T> = std::result::Result<T, AttributeErrorKind>;

/// A value of exactly `N` octets.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    <[u8; N]>::try_from(bytes).map_err(|_| AttributeErrorKind::Length(bytes.len()))
}

/// A value of exactly four octets.
pub(super) fn number(bytes: &[u8]) -> Result<u32> {
    array(bytes).map(u32::from_be_bytes)
}

/// One or more items of `N` octets.
fn items<const N: usize, T>(bytes: &[u8], item: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    if chunks.is_empty() || !rest.is_empty() {
        return Err(AttributeErrorKind::Length(bytes.len()));
    }
    Ok(chunks.iter().map(|chunk| item(*chunk)).collect())
}

pub(super) fn origin(bytes: &[u8]) -> Result<Origin> {
    let [value] = array(bytes)?;
    Origin::from_number(value).ok_or(AttributeErrorKind::UndefinedOrigin(value))
}

/// A path from AS_PATH. Confederation segments have no business outside the confederation (RFC 5065 section 5).
pub(super) fn as_path(bytes: &[u8], four_octets: bool, confederation_allowed: bool) -> Result<AsPath> {
    let path = segments(bytes, four_octets).ok_or(AttributeErrorKind::MalformedPath)?;
    if path.has_confederation_segments() && !confederation_allowed {
        return Err(AttributeErrorKind::MalformedPath);
    }
    Ok(path)
}

/// A path from AS4_PATH. Confederation segments are to be left out, not to be punished (RFC 6793 section 6).
pub(super) fn as4_path(bytes: &[u8]) -> Result<AsPath> {
    let path = segments(bytes, true).ok_or(AttributeErrorKind::MalformedPath)?;
    Ok(path.without_confederation())
}

/// `None` for a segment that is empty, cut off or of no known kind, and for AS 0 (RFC 7607).
fn segments(bytes: &[u8], four_octets: bool) -> Option<AsPath> {
    let mut cursor = Cursor::new(bytes);
    let mut segments = Vec::new();
    while !cursor.is_empty() {
        let kind = SegmentKind::from_number(cursor.u8()?)?;
        let count = usize::from(cursor.u8()?);
        let octets = cursor.take(count.checked_mul(if four_octets { 4 } else { 2 })?)?;
        let asns: Vec<Asn> = if four_octets {
            octets
                .as_chunks()
                .0
                .iter()
                .map(|asn| Asn(u32::from_be_bytes(*asn)))
                .collect()
        } else {
            octets
                .as_chunks()
                .0
                .iter()
                .map(|asn| Asn(u16::from_be_bytes(*asn).into()))
                .collect()
        };
        if asns.is_empty() || asns.contains(&Asn(0)) {
            return None;
        }
        segments.push(Segment { kind, asns });
    }
    Some(AsPath { segments })
}

pub(super) fn aggregator(bytes: &[u8], four_octets: bool) -> Result<Aggregator> {
    let wrong_length = AttributeErrorKind::Length(bytes.len());
    let mut cursor = Cursor::new(bytes);
    let asn = if four_octets {
        cursor.u32()
    } else {
        cursor.u16().map(u32::from)
    };
    let (asn, router_id) = asn.zip(cursor.u32()).ok_or(wrong_length)?;
    if !cursor.is_empty() {
        return Err(wrong_length);
    }
    if asn == 0 {
        return Err(AttributeErrorKind::ZeroAs);
    }
    Ok(Aggregator {
        asn: Asn(asn),
        router_id: router_id.into(),
    })
}

pub(super) fn communities(bytes: &[u8]) -> Result<Vec<Community>> {
    items(bytes, |octets| Community(u32::from_be_bytes(octets)))
}

pub(super) fn cluster_list(bytes: &[u8]) -> Result<Vec<RouterId>> {
    items(bytes, |octets: [u8; 4]| RouterId(octets.into()))
}

pub(super) fn extended_communities(bytes: &[u8]) -> Result<Vec<ExtendedCommunity>> {
    items(bytes, ExtendedCommunity)
}

/// Duplicates are removed, the first of each stays (RFC 8092 section 3).
pub(super) fn large_communities(bytes: &[u8]) -> Result<Vec<LargeCommunity>> {
    let part = |number: u128, shift: u32| (number.wrapping_shr(shift) & 0xFFFF_FFFF) as u32;
    let all = items(bytes, |octets: [u8; 12]| {
        let number = octets
            .iter()
            .fold(0_u128, |number, &octet| (number << 8) | u128::from(octet));
        LargeCommunity {
            global: part(number, 64),
            local1: part(number, 32),
            local2: part(number, 0),
        }
    })?;
    let mut seen = std::collections::HashSet::new();
    Ok(all
        .into_iter()
        .filter(|community| seen.insert(*community))
        .collect())
}

/// MP_REACH_NLRI. Of a family that was not negotiated only the family is known.
pub(super) struct MpReach {
    pub(super) family: Family,
    /// `None` if the family was not negotiated.
    pub(super) next_hop: Option<NextHop>,
    pub(super) nlri: Vec<Nlri>,
}

impl MpReach {
    /// Whether the next hop can be a host's address. Nothing can be said for a family that was not negotiated.
    pub(super) fn next_hop_is_host(&self) -> bool {
        match self.next_hop {
            Some(NextHop::V4(addr)) => is_host_v4(addr),
            Some(NextHop::V6 { global, .. }) => !global.is_unspecified() && !global.is_multicast(),
            None => true,
        }
    }
}

/// Whether an address can be a host's.
pub(super) fn is_host_v4(addr: Ipv4Addr) -> bool {
    !addr.is_unspecified() && !addr.is_multicast() && !addr.is_broadcast()
}

pub(super) fn mp_reach(
    bytes: &[u8],
    negotiated: &Negotiated,
) -> std::result::Result<MpReach, MultiprotocolError> {
    let mut cursor = Cursor::new(bytes);
    let family = family(&mut cursor)?;
    if !is_readable(family, negotiated) {
        return Ok(MpReach {
            family,
            next_hop: None,
            nlri: Vec::new(),
        });
    }
    let next_hop = cursor.block_u8().ok_or(MultiprotocolError::Truncated)?;
    let next_hop = Some(self::next_hop(next_hop, family, negotiated)?);
    let _reserved = cursor.u8().ok_or(MultiprotocolError::Truncated)?;
    let nlri = prefixes(cursor, family, negotiated)?;
    Ok(MpReach {
        family,
        next_hop,
        nlri,
    })
}

pub(super) fn mp_unreach(
    bytes: &[u8],
    negotiated: &Negotiated,
) -> std::result::Result<Unreach, MultiprotocolError> {
    let mut cursor = Cursor::new(bytes);
    let family = family(&mut cursor)?;
    if !is_readable(family, negotiated) {
        return Ok(Unreach {
            family,
            nlri: Vec::new(),
        });
    }
    Ok(Unreach {
        family,
        nlri: prefixes(cursor, family, negotiated)?,
    })
}

fn is_readable(family: Family, negotiated: &Negotiated) -> bool {
    family.is_supported() && negotiated.families.contains(&family)
}

fn family(cursor: &mut Cursor<'_>) -> std::result::Result<Family, MultiprotocolError> {
    let afi = cursor.u16().ok_or(MultiprotocolError::Truncated)?;
    Ok(Family {
        afi,
        safi: cursor.u8().ok_or(MultiprotocolError::Truncated)?,
    })
}

fn prefixes(
    cursor: Cursor<'_>,
    family: Family,
    negotiated: &Negotiated,
) -> std::result::Result<Vec<Nlri>, MultiprotocolError> {
    let add_path = negotiated.add_path_receive.contains(&family);
    nlri::decode(cursor.rest(), family, add_path).map_err(MultiprotocolError::Nlri)
}

fn next_hop(
    bytes: &[u8],
    family: Family,
    negotiated: &Negotiated,
) -> std::result::Result<NextHop, MultiprotocolError> {
    let wrong_length = MultiprotocolError::NextHopLength(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    let is_ipv4 = family.afi == Family::AFI_IPV4;
    if let (true, Ok(octets)) = (is_ipv4, <[u8; 4]>::try_from(bytes)) {
        return Ok(NextHop::V4(octets.into()));
    }
    if is_ipv4 && !negotiated.extended_next_hop.contains(&family) {
        return Err(wrong_length);
    }
    let mut cursor = Cursor::new(bytes);
    let global = cursor.array::<16>().map(Ipv6Addr::from).ok_or(wrong_length)?;
    if cursor.is_empty() {
        return Ok(next_hop_v6(global, None));
    }
    let link_local = cursor.array::<16>().map(Ipv6Addr::from).ok_or(wrong_length)?;
    if cursor.is_empty() {
        Ok(next_hop_v6(global, Some(link_local)))
    } else {
        Err(wrong_length)
    }
}

/// Speakers differ in how they say that they have only a link-local address: alone, twice, or after zeros.
fn next_hop_v6(global: Ipv6Addr, second: Option<Ipv6Addr>) -> NextHop {
    let link_local = second.filter(Ipv6Addr::is_unicast_link_local);
    if global.is_unicast_link_local() {
        return NextHop::V6 {
            global,
            link_local: Some(global),
        };
    }
    match link_local {
        Some(link_local) if global.is_unspecified() => NextHop::V6 {
            global: link_local,
            link_local: Some(link_local),
        },
        link_local => NextHop::V6 { global, link_local },
    }
}
