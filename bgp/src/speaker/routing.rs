//! From what peers say to what is best, and on to those who have to know (RFC 4271 section 9).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use ipnet::IpNet;
use tracing::warn;

use super::SpeakerCore;
use super::connection::FAMILIES;
use super::peer::Peer;
use crate::config::{LocalRoute, NextHopState};
use crate::rib::decision::{Candidate, Ineligible, Verdict, decide};
use crate::rib::{Best, Route, RouteIn, Source};
use crate::status::{BestRoute, RouteChanges};
use crate::types::{Asn, Family};
use crate::wire::{Attributes, CeaseSubcode, Disposition, ErrorCode, Notification, Origin, Update};

/// A route we originate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalEntry {
    pub(super) attributes: Arc<Attributes>,
}

impl LocalEntry {
    pub(super) fn new(route: LocalRoute) -> Self {
        let attributes = Attributes {
            origin: Origin::Igp,
            communities: route.communities,
            large_communities: route.large_communities,
            local_pref: route.local_pref,
            med: route.med,
            ..Attributes::default()
        };
        Self {
            attributes: Arc::new(attributes),
        }
    }
}

/// Every path to one destination, with what became of each.
pub(super) struct Decided {
    pub(super) paths: Vec<(Source, Route)>,
    pub(super) verdicts: Vec<Verdict>,
}

impl SpeakerCore {
    /// What has changed among the best learned routes since the last call; `None` if nothing has.
    pub fn poll_routes(&mut self) -> Option<RouteChanges> {
        if self.changed.is_empty() && !self.convergence.has_news() {
            return None;
        }
        self.convergence.take_news();
        let changed = std::mem::take(&mut self.changed);
        let changed = changed
            .into_iter()
            .map(|prefix| (prefix, self.best_learned(&prefix)))
            .collect();
        Some(RouteChanges {
            changed,
            converged: self.convergence.is_reached(),
        })
    }

    fn best_learned(&self, prefix: &IpNet) -> Option<BestRoute> {
        let best = self.loc_rib.best(prefix)?;
        let attributes = &best.route.attributes;
        Some(BestRoute {
            next_hops: vec![best.route.next_hop?.addr()],
            peer: best.source.peer()?,
            external: matches!(best.source, Source::External(_)),
            as_path: attributes.as_path.to_string(),
            local_pref: attributes
                .local_pref
                .unwrap_or(crate::rib::decision::DEFAULT_LOCAL_PREF),
            med: attributes.med,
            communities: attributes.communities.clone(),
            large_communities: attributes.large_communities.clone(),
        })
    }

    // ---- in

    pub(super) fn on_session_up(&mut self, address: IpAddr, now: Instant) {
        self.resume_stale(address, now);
        self.refresh_own_addresses();
        self.mark_all(address);
        self.check_converged();
    }

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

    // ---- best

    /// Decides anew about one destination.
    pub(super) fn reconsider(&mut self, prefix: IpNet) {
        let decided = self.decide(&prefix);
        let winner =
            decided
                .paths
                .into_iter()
                .zip(decided.verdicts)
                .find_map(|(path, verdict)| match verdict {
                    Verdict::Best(by) => Some((path, by)),
                    _ => None,
                });
        let best = winner.map(|((source, route), by)| Best { source, route, by });
        let was_learned = self.is_learned(&prefix);
        if !self.loc_rib.set_best(prefix, best) {
            return;
        }
        if was_learned || self.is_learned(&prefix) {
            self.changed.insert(prefix);
        }
        let family = Family::of(&prefix);
        for (address, peer) in &mut self.peers {
            if let Some(session) = &mut peer.session
                && session.agreed.negotiated.families.contains(&family)
            {
                session.adj_rib_out.mark(prefix);
                self.ready.insert(*address);
            }
        }
    }

    pub(super) fn reconsider_all(&mut self) {
        let prefixes: Vec<IpNet> = self.loc_rib.prefixes().collect();
        prefixes.into_iter().for_each(|prefix| self.reconsider(prefix));
    }

    /// Decides anew about everything a peer has a path to.
    pub(super) fn reconsider_from(&mut self, address: IpAddr) {
        let Some(peer) = self.peers.get(&address) else {
            return;
        };
        let prefixes: Vec<IpNet> = peer.adj_rib_in.iter().map(|(prefix, _)| *prefix).collect();
        prefixes.into_iter().for_each(|prefix| self.reconsider(prefix));
    }

    fn is_learned(&self, prefix: &IpNet) -> bool {
        self.loc_rib
            .best(prefix)
            .is_some_and(|best| best.source != Source::Local)
    }

    /// The decision process for one destination, losers and all.
    pub(super) fn decide(&self, prefix: &IpNet) -> Decided {
        let mut paths = Vec::new();
        let mut details = Vec::new();
        if let Some(local) = self.local_routes.get(prefix) {
            paths.push((
                Source::Local,
                Route {
                    attributes: local.attributes.clone(),
                    next_hop: None,
                },
            ));
            details.push((None, self.identity.router_id, 0));
        }
        for address in self.loc_rib.sources(prefix) {
            let Some(peer) = self.peers.get(&address) else {
                continue;
            };
            let Some(learned) = peer.adj_rib_in.get(prefix) else {
                continue;
            };
            let (unusable, metric) = self.judge_next_hop(&learned.route);
            details.push((learned.ineligible.or(unusable), peer.router_id, metric));
            paths.push((self.source(peer), learned.route.clone()));
        }
        let candidates: Vec<Candidate<'_>> = paths
            .iter()
            .zip(&details)
            .map(|((source, route), (ineligible, router_id, metric))| Candidate {
                attributes: &route.attributes,
                peer: source.peer(),
                external: matches!(source, Source::External(_)),
                next_hop_metric: *metric,
                router_id: *router_id,
                ineligible: *ineligible,
            })
            .collect();
        let verdicts = decide(&candidates);
        Decided { paths, verdicts }
    }

    fn source(&self, peer: &Peer) -> Source {
        if peer.config.remote_as != peer.local_as(&self.identity) {
            return Source::External(peer.address);
        }
        let client = peer.config.route_reflector_client;
        Source::Internal {
            peer: peer.address,
            router_id: peer.router_id,
            client,
        }
    }

    fn judge_next_hop(&self, route: &Route) -> (Option<Ineligible>, u32) {
        let Some(next_hop) = route.next_hop.map(|next_hop| next_hop.addr()) else {
            return (None, 0);
        };
        if self.own_addresses.contains(&next_hop) {
            return (Some(Ineligible::NextHopIsSelf), 0);
        }
        match self.next_hops.get(&next_hop) {
            None => (None, 0),
            Some(NextHopState::Reachable { metric }) => (None, *metric),
            Some(NextHopState::Unreachable) => (Some(Ineligible::NextHopUnreachable), 0),
        }
    }

    fn refresh_own_addresses(&mut self) {
        let mut own: BTreeSet<IpAddr> = BTreeSet::new();
        for peer in self.peers.values() {
            own.extend(peer.session.as_ref().map(|session| session.local_address));
            own.extend(peer.config.next_hop_v4.map(IpAddr::V4));
            own.extend(peer.config.next_hop_v6.map(IpAddr::V6));
        }
        if self.own_addresses != own {
            self.own_addresses = own;
            self.reconsider_all();
        }
    }

    // ---- out

    /// The peer has to hear of everything.
    fn mark_all(&mut self, address: IpAddr) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let Some(session) = &mut peer.session else { return };
        let families = &session.agreed.negotiated.families;
        for (prefix, _) in self
            .loc_rib
            .bests()
            .filter(|(prefix, _)| families.contains(&Family::of(prefix)))
        {
            session.adj_rib_out.mark(prefix);
        }
        self.ready.insert(address);
    }

    /// What the peer may hear has changed: whatever comes out different is sent.
    pub(super) fn export_again(&mut self, address: IpAddr) {
        self.mark_all(address);
    }

    pub(super) fn on_route_refresh(&mut self, address: IpAddr, family: Family) {
        let Some(session) = self
            .peers
            .get_mut(&address)
            .and_then(|peer| peer.session.as_mut())
        else {
            return;
        };
        session.adj_rib_out.refresh(family);
        self.ready.insert(address);
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
fn find_loop(
    attributes: &Attributes,
    peer: &Peer,
    own: &[Asn],
    identity: &super::Identity,
) -> Option<Ineligible> {
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
