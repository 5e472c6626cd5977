//! UPDATE from bytes: its fields, and what the peer meant after RFC 7606 has been applied to the errors among the
//! attributes.

use super::attribute::{AttributeCode, NextHop};
use super::cursor::Cursor;
use super::decode_list::AttributeList;
use super::decode_value::{self as value, MpReach};
use super::disposition::{self, Disposition};
use super::error::{AttributeErrorKind, UpdateError};
use super::negotiated::{Negotiated, SessionType};
use super::nlri::{self, Nlri};
use super::update::{Reach, Unreach, Update};
use crate::types::{Asn, Family};

/// Reads the body of an UPDATE.
pub(super) fn decode(body: &[u8], negotiated: &Negotiated) -> Result<Update, UpdateError> {
    let mut cursor = Cursor::new(body);
    let withdrawn = cursor.block_u16().ok_or(UpdateError::MalformedLengths)?;
    let attributes = cursor.block_u16().ok_or(UpdateError::MalformedLengths)?;
    let announced = cursor.rest();
    if body.len() == 4 {
        return Ok(end_of_rib(Family::IPV4_UNICAST, negotiated));
    }
    let add_path = negotiated.add_path_receive.contains(&Family::IPV4_UNICAST);
    let prefixes =
        |bytes| nlri::decode(bytes, Family::IPV4_UNICAST, add_path).map_err(UpdateError::InvalidNetworkField);
    let withdrawn = prefixes(withdrawn)?;
    let announced = prefixes(announced)?;

    let list = AttributeList::decode(attributes, negotiated)?;
    if let (Some(unreach), 1) = (&list.mp_unreach, list.count)
        && unreach.nlri.is_empty()
        && withdrawn.is_empty()
        && announced.is_empty()
    {
        return Ok(end_of_rib(unreach.family, negotiated));
    }
    list.finish(withdrawn, announced)
}

fn end_of_rib(family: Family, negotiated: &Negotiated) -> Update {
    let end_of_rib = negotiated.families.contains(&family).then_some(family);
    Update {
        end_of_rib,
        ..Update::default()
    }
}

impl AttributeList<'_> {
    /// Puts together what the peer meant.
    fn finish(mut self, withdrawn: Vec<Nlri>, announced: Vec<Nlri>) -> Result<Update, UpdateError> {
        // Decided on what was encoded, be the family negotiated or not.
        let announces = !announced.is_empty() || self.has_seen(AttributeCode::MP_REACH_NLRI);
        if announces {
            self.check_mandatory(!announced.is_empty());
        }
        let withdraw_all = self
            .errors
            .iter()
            .find(|error| error.disposition >= Disposition::TreatAsWithdraw);
        let withdraw_all = withdraw_all.cloned();
        if let (Some(error), false) = (&withdraw_all, announces) {
            return Err(UpdateError::NothingToWithdraw(error.clone()));
        }
        self.merge_as4();

        let mut update = Update::default();
        update.add_unreach(Family::IPV4_UNICAST, withdrawn);
        if let Some(unreach) = self.mp_unreach.take() {
            update.add_unreach(unreach.family, unreach.nlri);
        }
        let classic = self.next_hop.map(|hop| (Family::IPV4_UNICAST, NextHop::V4(hop)));
        let multiprotocol = self.mp_reach.take();
        if withdraw_all.is_some() {
            update.add_unreach(Family::IPV4_UNICAST, announced);
            if let Some(reach) = multiprotocol {
                update.add_unreach(reach.family, reach.nlri);
            }
        } else {
            if let Some((family, next_hop)) = classic {
                update.add_reach(family, next_hop, announced);
            }
            if let Some(MpReach {
                family,
                next_hop: Some(next_hop),
                nlri,
            }) = multiprotocol
            {
                update.add_reach(family, next_hop, nlri);
            }
        }
        let families = &self.negotiated.families;
        update.reach.retain(|reach| families.contains(&reach.family));
        update
            .unreach
            .retain(|unreach| families.contains(&unreach.family));
        if !update.reach.is_empty() {
            update.attributes = self.attributes;
        }
        update.errors = self.errors;
        Ok(update)
    }

    /// Mandatory are ORIGIN and AS_PATH, for NLRI outside MP_REACH_NLRI a NEXT_HOP that is a host's (RFC 4760 section 3
    /// wants it ignored otherwise), and between internal peers LOCAL_PREF (RFC 4271 section 5.1.5).
    fn check_mandatory(&mut self, has_classic_nlri: bool) {
        let internal = self.negotiated.session_type == SessionType::Ibgp;
        let mandatory = [
            (AttributeCode::ORIGIN, true),
            (AttributeCode::AS_PATH, true),
            (AttributeCode::NEXT_HOP, has_classic_nlri),
            (AttributeCode::LOCAL_PREF, internal),
        ];
        for (code, needed) in mandatory {
            if needed && !self.has_seen(code) {
                self.error(code, AttributeErrorKind::Missing, disposition::MISSING, &[]);
            }
        }
        if let (true, Some(hop)) = (has_classic_nlri, self.next_hop)
            && !value::is_host_v4(hop)
        {
            let kind = AttributeErrorKind::InvalidNextHop;
            self.error(
                AttributeCode::NEXT_HOP,
                kind,
                Disposition::TreatAsWithdraw,
                &hop.octets(),
            );
        }
    }

    /// RFC 6793 section 4.2.3.
    fn merge_as4(&mut self) {
        let attributes = &mut self.attributes;
        if let (Some(aggregator), Some(as4_aggregator)) = (attributes.aggregator, self.as4_aggregator) {
            if aggregator.asn != Asn::AS_TRANS {
                // Somebody who knows only two octets has aggregated since: the long ones are out of date.
                return;
            }
            attributes.aggregator = Some(as4_aggregator);
        }
        if let Some(as4_path) = &self.as4_path {
            attributes.as_path = attributes.as_path.reconstruct(as4_path);
        }
    }
}

impl Update {
    fn add_unreach(&mut self, family: Family, nlri: Vec<Nlri>) {
        match self.unreach.iter_mut().find(|unreach| unreach.family == family) {
            _ if nlri.is_empty() => {}
            Some(unreach) => unreach.nlri.extend(nlri),
            None => self.unreach.push(Unreach { family, nlri }),
        }
    }

    fn add_reach(&mut self, family: Family, next_hop: NextHop, nlri: Vec<Nlri>) {
        if !nlri.is_empty() {
            self.reach.push(Reach {
                family,
                next_hop,
                nlri,
            });
        }
    }
}
