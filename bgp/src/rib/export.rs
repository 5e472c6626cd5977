//! What one peer may hear of a best path, and in which words (RFC 4271 sections 5.1 and 9.2, RFC 4456, RFC 1997).
//!
//! A pure function whose refusals carry their reason: "why is this not advertised" is answered by the same code
//! that decided it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decision::DEFAULT_LOCAL_PREF;
use super::{Best, Route, Source};
use crate::config::{NextHopMode, PeerConfig};
use crate::types::{Asn, Family, RouterId};
use crate::wire::{Attributes, Community, NextHop};

/// Why a route is not sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NotSent {
    /// There is no session.
    SessionDown,
    /// The session does not carry the address family.
    FamilyNotNegotiated,
    /// No usable path.
    NoBestPath,
    /// The best path came from this very peer.
    LearnedFromPeer,
    /// Learned within our AS, and so not passed on within it (unless for a reflector's client).
    SplitHorizon,
    /// Its packets would go from the peer to us and from us back to the peer.
    ForwardedThroughPeer,
    /// It carries NO_ADVERTISE.
    NoAdvertise,
    /// It carries NO_EXPORT or NO_EXPORT_SUBCONFED, and the peer is in another AS.
    NoExport,
    /// We have no address of the family to give as next hop on this session.
    NoNextHop,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionDown => "the session is down",
            Self::FamilyNotNegotiated => "the session does not carry this address family",
            Self::NoBestPath => "there is no usable path",
            Self::LearnedFromPeer => "it was learned from this peer",
            Self::SplitHorizon => "it was learned within our AS and the peer is in it",
            Self::ForwardedThroughPeer => "its packets go through this peer",
            Self::NoAdvertise => "it carries the community NO_ADVERTISE",
            Self::NoExport => "it carries the community NO_EXPORT",
            Self::NoNextHop => "there is no address of this family to give as next hop",
        })
    }
}

/// MED of what another speaker of our AS originates, when we tell another AS: above the none (which counts as 0) of its
/// originator, so that a router that peers with both sends packets straight to where they belong.
const TRANSIT_MED: u32 = 100;

/// The peer as export sees it.
#[derive(Debug, Clone)]
pub(crate) struct ExportTo<'a> {
    pub(crate) address: IpAddr,
    pub(crate) config: &'a PeerConfig,
    /// The AS we are in, as far as this peer knows.
    pub(crate) local_as: Asn,
    /// Our end of the session.
    pub(crate) local_address: IpAddr,
    pub(crate) cluster: RouterId,
}

impl ExportTo<'_> {
    fn external(&self) -> bool {
        self.config.remote_as != self.local_as
    }
}

/// The route as `to` shall hear it, or why it shall not.
pub(crate) fn export(family: Family, best: &Best, to: &ExportTo<'_>) -> Result<Route, NotSent> {
    permitted(best, to)?;
    let next_hop = next_hop(family, best, to)?;
    let attributes = if to.external() {
        external_attributes(&best.route.attributes, best.source, to)
    } else {
        internal_attributes(&best.route.attributes, best.source, to)
    };
    Ok(Route {
        attributes: Arc::new(attributes),
        next_hop: Some(next_hop),
    })
}

/// Whether policy lets `to` hear of the path at all, before it is put into words.
pub(crate) fn permitted(best: &Best, to: &ExportTo<'_>) -> Result<(), NotSent> {
    if best.source.peer() == Some(to.address) {
        return Err(NotSent::LearnedFromPeer);
    }
    if let Source::Internal { client, .. } = best.source
        && !to.external()
        && !client
        && !to.config.route_reflector_client
    {
        return Err(NotSent::SplitHorizon);
    }
    let communities = &best.route.attributes.communities;
    if communities.contains(&Community::NO_ADVERTISE) {
        return Err(NotSent::NoAdvertise);
    }
    let kept_inside = [Community::NO_EXPORT, Community::NO_EXPORT_SUBCONFED];
    if to.external()
        && kept_inside
            .iter()
            .any(|community| communities.contains(community))
    {
        return Err(NotSent::NoExport);
    }
    Ok(())
}

fn next_hop(family: Family, best: &Best, to: &ExportTo<'_>) -> Result<NextHop, NotSent> {
    let keep = match to.config.next_hop {
        NextHopMode::Auto => !to.external(),
        NextHopMode::SelfAddress => false,
        NextHopMode::Keep => true,
    };
    match best.route.next_hop {
        Some(learned) if keep => Ok(NextHop::from(learned.addr())),
        // The peer would send its packets to us, and we would send them back.
        Some(_) if best.through == Some(to.address) => Err(NotSent::ForwardedThroughPeer),
        _ => own_next_hop(family, to)
            .map(NextHop::from)
            .ok_or(NotSent::NoNextHop),
    }
}

fn own_next_hop(family: Family, to: &ExportTo<'_>) -> Option<IpAddr> {
    let (configured, matches) = if family == Family::IPV4_UNICAST {
        (to.config.next_hop_v4.map(IpAddr::V4), to.local_address.is_ipv4())
    } else {
        (to.config.next_hop_v6.map(IpAddr::V6), to.local_address.is_ipv6())
    };
    configured.or(matches.then_some(to.local_address))
}

fn external_attributes(learned: &Attributes, source: Source, to: &ExportTo<'_>) -> Attributes {
    Attributes {
        as_path: learned.as_path.without_confederation().prepend(to.local_as, 1),
        local_pref: None,
        // A MED is for the AS it was given to, and goes no further (RFC 4271, section 5.1.4).
        med: match source {
            Source::Local => learned.med,
            Source::Internal { .. } => Some(TRANSIT_MED),
            Source::External(_) => None,
        },
        originator_id: None,
        cluster_list: Vec::new(),
        extended_communities: learned
            .extended_communities
            .iter()
            .copied()
            .filter(|c| c.is_transitive())
            .collect(),
        ..learned.clone()
    }
}

fn internal_attributes(learned: &Attributes, source: Source, to: &ExportTo<'_>) -> Attributes {
    let mut attributes = learned.clone();
    attributes.local_pref.get_or_insert(DEFAULT_LOCAL_PREF);
    if let Source::Internal { router_id, .. } = source {
        attributes.originator_id.get_or_insert(router_id);
        attributes.cluster_list.insert(0, to.cluster);
    }
    attributes
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
