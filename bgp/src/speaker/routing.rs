//! From what peers say to what is best, and on to those who have to know (RFC 4271 section 9).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

use super::SpeakerCore;
use super::peer::Peer;
use crate::config::{LocalRoute, NextHopState};
use crate::rib::decision::{Candidate, DEFAULT_LOCAL_PREF, Ineligible, Verdict, decide};
use crate::rib::{Best, Route, Source};
use crate::status::{BestRoute, RouteChanges};
use crate::types::Family;
use crate::wire::{Attributes, Origin};

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
            local_pref: attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            med: attributes.med,
            communities: attributes.communities.clone(),
            large_communities: attributes.large_communities.clone(),
        })
    }

    // ---- best

    pub(super) fn on_session_up(&mut self, address: IpAddr, now: Instant) {
        self.resume_stale(address, now);
        self.refresh_own_addresses();
        self.mark_all(address);
        self.check_converged();
    }

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
        let best = winner.map(|((source, route), by)| {
            let through = self.forwarded_through(&route);
            Best {
                source,
                route,
                by,
                through,
            }
        });
        let was_learned = self.is_learned(&prefix);
        if !self.loc_rib.set_best(prefix, best) {
            return;
        }
        if was_learned || self.is_learned(&prefix) {
            self.changed.insert(prefix);
        }
        let best = self.loc_rib.best(&prefix);
        for (address, peer) in &mut self.peers {
            if peer.mark(prefix, best, &self.identity) {
                self.ready.insert(*address);
            }
        }
    }

    /// Decides anew about every destination that has a path through one of these next hops.
    pub(super) fn reconsider_through(&mut self, next_hops: &BTreeSet<IpAddr>) {
        if next_hops.is_empty() {
            return;
        }
        let learned = self.peers.values().flat_map(|peer| peer.adj_rib_in.iter());
        let through = learned.filter(|(_, learned)| {
            let next_hop = learned.route.next_hop.map(|next_hop| next_hop.addr());
            next_hop.is_some_and(|next_hop| next_hops.contains(&next_hop))
        });
        let prefixes: BTreeSet<IpNet> = through.map(|(prefix, _)| *prefix).collect();
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
            Some(NextHopState::Reachable { metric, .. }) => (None, *metric),
            Some(NextHopState::Unreachable) => (Some(Ineligible::NextHopUnreachable), 0),
        }
    }

    fn forwarded_through(&self, route: &Route) -> Option<IpAddr> {
        let next_hop = route.next_hop.as_ref()?.addr();
        match self.next_hops.get(&next_hop) {
            Some(NextHopState::Reachable {
                gateway: Some(gateway),
                ..
            }) => Some(*gateway),
            _ => Some(next_hop),
        }
    }

    pub(super) fn refresh_own_addresses(&mut self) {
        let mut own: BTreeSet<IpAddr> = BTreeSet::new();
        for peer in self.peers.values() {
            own.extend(peer.session.as_ref().map(|session| session.local_address));
            own.extend(peer.config.next_hop_v4.map(IpAddr::V4));
            own.extend(peer.config.next_hop_v6.map(IpAddr::V6));
        }
        let old = std::mem::replace(&mut self.own_addresses, own);
        let differing = old.symmetric_difference(&self.own_addresses).copied().collect();
        self.reconsider_through(&differing);
    }

    // ---- out

    /// The peer has to hear of everything; whatever comes out as it was is not sent again.
    pub(super) fn mark_all(&mut self, address: IpAddr) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        for (prefix, best) in self.loc_rib.bests() {
            peer.mark(prefix, Some(best), &self.identity);
        }
        self.ready.insert(address);
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
