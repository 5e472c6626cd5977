//! Answers for people: sessions as they are, and for each route every path, the choice, and who hears of it.
//!
//! Reasons come from the code that decides, run again; there is no second opinion to drift away from it.

use std::time::Instant;

use ipnet::IpNet;

use super::SpeakerCore;
use super::peer::{Peer, Session};
use crate::rib::decision::Verdict;
use crate::rib::{Route, Source};
use crate::status::{
    Advertisement, AdvertisementStatus, PathStatus, PeerCounters, PeerStatus, RouteQuery, RouteStatus,
    SessionStatus, SpeakerStatus, StaleStatus,
};

impl SpeakerCore {
    /// The speaker as it is now. Listeners are the driver's to fill in.
    pub fn status(&self, now: Instant) -> SpeakerStatus {
        SpeakerStatus {
            local_as: self.identity.local_as,
            router_id: self.identity.router_id,
            converged: self.is_converged(),
            peers: self.peers.values().map(|peer| peer.status(now)).collect(),
            listeners: Vec::new(),
            refused_connections: self.refused_connections,
            destinations: self.loc_rib.bests().count(),
        }
    }

    /// Destinations with every path to them, by prefix; for an address the longest prefix first. See [`RouteQuery`]
    /// for which peers are told about.
    pub fn routes(&self, query: &RouteQuery) -> Vec<RouteStatus> {
        let matching = self.loc_rib.prefixes().filter(|prefix| query.matches(prefix));
        let mut prefixes: Vec<IpNet> = matching.collect();
        if let RouteQuery::Address(_) = query {
            prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.prefix_len()));
        }
        let refusals = !matches!(query, RouteQuery::All | RouteQuery::Within(_));
        prefixes
            .into_iter()
            .map(|prefix| self.explain(prefix, refusals))
            .collect()
    }

    fn explain(&self, prefix: IpNet, refusals: bool) -> RouteStatus {
        let decided = self.decide(&prefix);
        let mut paths: Vec<PathStatus> = decided
            .paths
            .iter()
            .zip(decided.verdicts)
            .map(|((source, route), verdict)| self.path_status(&prefix, *source, route, verdict))
            .collect();
        paths.sort_by_key(|path| !path.verdict.is_best());
        let advertised_to = self
            .peers
            .values()
            .filter_map(|peer| self.advertisement(&prefix, peer, refusals))
            .collect();
        RouteStatus {
            prefix,
            paths,
            advertised_to,
        }
    }

    fn path_status(&self, prefix: &IpNet, source: Source, route: &Route, verdict: Verdict) -> PathStatus {
        let peer = source.peer().and_then(|address| self.peers.get(&address));
        let learned = peer.and_then(|peer| peer.adj_rib_in.get(prefix));
        PathStatus {
            peer: source.peer(),
            peer_name: peer.map(|peer| peer.config.name.clone()),
            next_hop: route.next_hop.map(|next_hop| next_hop.addr()),
            origin: route.attributes.origin,
            as_path: route.attributes.as_path.to_string(),
            local_pref: route.attributes.local_pref,
            med: route.attributes.med,
            communities: route.attributes.communities.clone(),
            large_communities: route.attributes.large_communities.clone(),
            stale: learned.is_some_and(|learned| learned.stale),
            verdict,
            reason: verdict.to_string(),
        }
    }

    /// `None` if the peer does not hear of it and refusals are not asked for.
    fn advertisement(&self, prefix: &IpNet, peer: &Peer, refusals: bool) -> Option<AdvertisementStatus> {
        let rib = peer.session.as_ref().map(|session| &session.adj_rib_out);
        let outcome = match self.export_to(peer, prefix) {
            Err(_) if !refusals => return None,
            Err(why) => Advertisement::NotSent(why),
            Ok(_) if rib.is_none_or(|rib| rib.is_pending(prefix)) => Advertisement::Pending,
            Ok(route) => {
                let sent = rib.and_then(|rib| rib.get(prefix)).unwrap_or(&route);
                Advertisement::Sent {
                    next_hop: sent.next_hop.map(|next_hop| next_hop.addr()),
                }
            }
        };
        Some(AdvertisementStatus {
            peer: peer.address,
            name: peer.config.name.clone(),
            outcome,
            reason: outcome.to_string(),
        })
    }
}

impl Peer {
    fn status(&self, now: Instant) -> PeerStatus {
        PeerStatus {
            address: self.address,
            name: self.config.name.clone(),
            remote_as: self.config.remote_as,
            state: self.state(),
            state_seconds: now.saturating_duration_since(self.state_since()).as_secs(),
            last_error: self.last_error.clone(),
            session: self.session.as_ref().map(|session| session_status(self, session)),
            stale: self.stale.as_ref().map(|stale| StaleStatus {
                prefixes: self.adj_rib_in.stale_count(),
                seconds_left: stale.deadline.saturating_duration_since(now).as_secs(),
            }),
            counters: PeerCounters {
                prefixes_in: self.adj_rib_in.len(),
                prefixes_usable: self
                    .adj_rib_in
                    .iter()
                    .filter(|(_, route)| route.ineligible.is_none())
                    .count(),
                prefixes_out: self
                    .session
                    .as_ref()
                    .map_or(0, |session| session.adj_rib_out.len()),
                ..self.counters.clone()
            },
        }
    }
}

fn session_status(peer: &Peer, session: &Session) -> SessionStatus {
    let negotiated = &session.agreed.negotiated;
    let graceful = |family| session.agreed.restart_time(&peer.config, family).is_some();
    SessionStatus {
        local_address: session.local_address,
        router_id: session.agreed.open.router_id,
        hold_time: negotiated.hold_time.seconds(),
        families: negotiated.families.iter().copied().collect(),
        graceful_restart: negotiated.families.iter().any(|family| graceful(*family)),
        route_refresh: negotiated.route_refresh,
        four_octet_as: negotiated.four_octet_as,
        end_of_rib_received: session.end_of_rib_received.iter().copied().collect(),
    }
}
