//! What a peer says, into its Adj-RIB-In (RFC 4271 section 9.1.1), with the guards: loops, too many prefixes, and
//! the dispositions of RFC 7606.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use ipnet::IpNet;
use tracing::warn;

use super::connection::FAMILIES;
use super::peer::Peer;
use super::{Identity, SpeakerCore};
use crate::rib::decision::Ineligible;
use crate::rib::{Route, RouteIn};
use crate::types::{Asn, Family};
use crate::wire::{Attributes, CeaseSubcode, Disposition, ErrorCode, Notification, Update};

impl SpeakerCore {
    pub(super) fn on_update(&mut self, address: IpAddr, update: Update, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        peer.note_malformed(&update);
        for unreach in &update.unreach {
            for nlri in &unreach.nlri {
                self.unlearn(address, nlri.prefix);
            }
        }
        let attributes = Arc::new(update.attributes);
        for reach in &update.reach {
            let route = Route {
                attributes: attributes.clone(),
                next_hop: Some(reach.next_hop),
            };
            for nlri in &reach.nlri {
                if !self.learn(address, nlri.prefix, route.clone(), now) {
                    return;
                }
            }
        }
        if let Some(family) = update.end_of_rib {
            self.on_end_of_rib(address, family);
        }
    }

    /// Takes one announcement. Whether the session goes on.
    fn learn(&mut self, address: IpAddr, prefix: IpNet, route: Route, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(&address) else {
            return false;
        };
        if !peer.adj_rib_in.contains(&prefix) && peer.adj_rib_in.len() >= peer.config.max_prefixes as usize {
            let notification = too_many_prefixes(Family::of(&prefix), peer.config.max_prefixes);
            self.with_peer(address, now, |peer, cx| peer.fail(notification, cx));
            return false;
        }
        let local_as = peer.local_as(&self.identity);
        let ineligible = find_loop(
            &route.attributes,
            peer,
            &[local_as, self.identity.local_as],
            &self.identity,
        );
        if peer.adj_rib_in.insert(
            prefix,
            RouteIn {
                route,
                ineligible,
                stale: false,
            },
        ) {
            self.loc_rib.add_source(prefix, address);
            self.reconsider(prefix);
        }
        true
    }

    fn unlearn(&mut self, address: IpAddr, prefix: IpNet) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        if peer.adj_rib_in.remove(&prefix) {
            self.loc_rib.remove_source(&prefix, address);
            self.reconsider(prefix);
        }
    }

    /// Drops a peer's routes of a family, or only the stale ones.
    pub(super) fn flush(&mut self, address: IpAddr, family: Family, only_stale: bool) {
        let Some(peer) = self.peers.get(&address) else {
            return;
        };
        for prefix in peer.adj_rib_in.prefixes(family, only_stale) {
            self.unlearn(address, prefix);
        }
    }

    pub(super) fn flush_all(&mut self, address: IpAddr) {
        FAMILIES
            .into_iter()
            .for_each(|family| self.flush(address, family, false));
    }
}

impl Peer {
    /// Counts what RFC 7606 has done to an UPDATE, and logs it once a session.
    fn note_malformed(&mut self, update: &Update) {
        let Some(disposition) = update.disposition() else {
            return;
        };
        if disposition == Disposition::TreatAsWithdraw {
            let routes: usize = update.unreach.iter().map(|unreach| unreach.nlri.len()).sum();
            self.counters.treated_as_withdrawn += routes as u64;
        } else {
            self.counters.attributes_discarded += update.errors.len() as u64;
        }
        if !std::mem::replace(&mut self.malformed_logged, true) {
            let errors: Vec<String> = update.errors.iter().map(ToString::to_string).collect();
            let routes: Vec<String> = update
                .unreach
                .iter()
                .flat_map(|u| &u.nlri)
                .take(4)
                .map(ToString::to_string)
                .collect();
            warn!(parent: &self.span, ?disposition, ?errors, ?routes, "malformed UPDATE; counted from here on");
        }
    }
}

fn too_many_prefixes(family: Family, max: u32) -> Notification {
    // RFC 4486 section 4: the family and the bound.
    let mut data = BytesMut::new();
    data.put_u16(family.afi);
    data.put_u8(family.safi);
    data.put_u32(max);
    Notification::with_data(ErrorCode::Cease(CeaseSubcode::MaximumPrefixes), data)
}

/// A route that has been here before (RFC 4271 section 9.1.2, RFC 4456 section 8).
fn find_loop(attributes: &Attributes, peer: &Peer, own: &[Asn], identity: &Identity) -> Option<Ineligible> {
    let times = own
        .iter()
        .map(|asn| attributes.as_path.count(*asn))
        .max()
        .unwrap_or(0);
    if times > peer.config.allow_own_as as usize {
        return Some(Ineligible::AsLoop);
    }
    if attributes.originator_id == Some(identity.router_id) {
        return Some(Ineligible::OriginatorLoop);
    }
    attributes
        .cluster_list
        .contains(&identity.cluster)
        .then_some(Ineligible::ClusterLoop)
}
