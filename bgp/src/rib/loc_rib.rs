//! The Loc-RIB: every destination anybody has a path to, and the best of them.
//!
//! It remembers who has a path, not the paths: those are in the Adj-RIBs-In, so that there is one place for each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{DecisionStep, Route, Source};

/// The best path to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Best {
    pub(crate) source: Source,
    pub(crate) route: Route,
    /// What set it apart from the runner-up.
    pub(crate) by: Option<DecisionStep>,
    /// Who gets its packets first: the next hop itself, or the router that leads there. None for a route of our own.
    pub(crate) through: Option<IpAddr>,
}

impl Best {
    /// Whether it would look the same to everybody who hears of it.
    fn same_route(&self, other: &Best) -> bool {
        self.source == other.source && self.route == other.route && self.through == other.through
    }
}

#[derive(Debug, Default)]
struct Destination {
    peers: BTreeSet<IpAddr>,
    best: Option<Best>,
}

/// All destinations.
#[derive(Debug, Default)]
pub(crate) struct LocRib {
    destinations: BTreeMap<IpNet, Destination>,
}

impl LocRib {
    /// Notes that `peer` has a path to `prefix`.
    pub(crate) fn add_source(&mut self, prefix: IpNet, peer: IpAddr) {
        self.destinations.entry(prefix).or_default().peers.insert(peer);
    }

    /// Notes that `peer` has no path to `prefix` any more. The destination stays until [`set_best`](Self::set_best).
    pub(crate) fn remove_source(&mut self, prefix: &IpNet, peer: IpAddr) {
        if let Some(destination) = self.destinations.get_mut(prefix) {
            destination.peers.remove(&peer);
        }
    }

    /// The peers that have a path to `prefix`.
    pub(crate) fn sources(&self, prefix: &IpNet) -> impl Iterator<Item = IpAddr> + '_ {
        self.destinations
            .get(prefix)
            .into_iter()
            .flat_map(|d| d.peers.iter().copied())
    }

    /// The best path to `prefix`.
    pub(crate) fn best(&self, prefix: &IpNet) -> Option<&Best> {
        self.destinations.get(prefix)?.best.as_ref()
    }

    /// Installs the outcome of a decision. Whether anybody has to hear of it.
    pub(crate) fn set_best(&mut self, prefix: IpNet, best: Option<Best>) -> bool {
        let destination = self.destinations.entry(prefix).or_default();
        let changed = match (&destination.best, &best) {
            (Some(old), Some(new)) => !old.same_route(new),
            (None, None) => false,
            _ => true,
        };
        destination.best = best;
        if destination.best.is_none() && destination.peers.is_empty() {
            self.destinations.remove(&prefix);
        }
        changed
    }

    /// Every destination, best path or none.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.destinations.keys().copied()
    }

    /// Every best path.
    pub(crate) fn bests(&self) -> impl Iterator<Item = (IpNet, &Best)> + '_ {
        self.destinations
            .iter()
            .filter_map(|(prefix, d)| Some((*prefix, d.best.as_ref()?)))
    }
}
