//! UPDATE: routes that come and routes that go (RFC 4271 section 4.3, RFC 4760).
//!
//! Decoded, an UPDATE is what the peer meant after RFC 7606 has been applied: routes that a malformed attribute
//! turned into withdrawals are among [`Update::unreach`] already, and [`Update::errors`] says why. Families that were not
//! negotiated have been left out.

use super::attribute::{Attributes, NextHop};
use super::disposition::Disposition;
use super::error::AttributeError;
use super::nlri::Nlri;
use crate::types::Family;

/// Routes of one family that are announced with one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The family.
    pub family: Family,
    /// Where the packets go.
    pub next_hop: NextHop,
    /// The prefixes.
    pub nlri: Vec<Nlri>,
}

/// Routes of one family that are withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreach {
    /// The family.
    pub family: Family,
    /// The prefixes.
    pub nlri: Vec<Nlri>,
}

/// An UPDATE message. Apply `unreach` before `reach`: a prefix in both is announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// What is withdrawn, by family; no list is empty.
    pub unreach: Vec<Unreach>,
    /// What is announced, by family; no list is empty.
    pub reach: Vec<Reach>,
    /// The attributes of everything in `reach`; the default when that is empty.
    pub attributes: Attributes,
    /// The peer has sent all it has of the family (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// What was wrong with the attributes and has been dealt with. Nothing that is sent.
    pub errors: Vec<AttributeError>,
}

impl Update {
    /// An announcement of one family.
    pub fn announce(family: Family, next_hop: NextHop, attributes: Attributes, nlri: Vec<Nlri>) -> Self {
        Self {
            reach: vec![Reach {
                family,
                next_hop,
                nlri,
            }],
            attributes,
            ..Self::default()
        }
    }

    /// A withdrawal of one family.
    pub fn withdraw(family: Family, nlri: Vec<Nlri>) -> Self {
        Self {
            unreach: vec![Unreach { family, nlri }],
            ..Self::default()
        }
    }

    /// The mark that all routes of a family have been sent.
    pub fn end_of_rib(family: Family) -> Self {
        Self {
            end_of_rib: Some(family),
            ..Self::default()
        }
    }

    /// The strongest thing that was done about an attribute; `None` if all were well.
    pub fn disposition(&self) -> Option<Disposition> {
        self.errors.iter().map(|error| error.disposition).max()
    }
}
