//! The Adj-RIB-In: what one peer told us and has not taken back.
//!
//! Routes that may not be used are kept with the reason. While the peer restarts (RFC 4724) its routes are marked
//! stale; they stay in use until the peer has told us everything again or its time is up.

use std::collections::HashMap;

use ipnet::IpNet;

use super::Route;
use super::decision::Ineligible;
use crate::types::Family;

/// A route as a peer announced it.
#[derive(Debug, Clone)]
pub(crate) struct RouteIn {
    pub(crate) route: Route,
    /// Loops; what depends on next hops is judged when deciding.
    pub(crate) ineligible: Option<Ineligible>,
    /// Not heard again since the peer went away.
    pub(crate) stale: bool,
}

/// The routes of one peer.
#[derive(Debug, Default)]
pub(crate) struct AdjRibIn {
    routes: HashMap<IpNet, RouteIn>,
}

impl AdjRibIn {
    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&RouteIn> {
        self.routes.get(prefix)
    }

    /// Adds or replaces a route. Whether it differs from what was there; a stale route heard again unchanged is
    /// fresh, not different.
    pub(crate) fn insert(&mut self, prefix: IpNet, route: RouteIn) -> bool {
        match self.routes.insert(prefix, route.clone()) {
            Some(old) => old.route != route.route || old.ineligible != route.ineligible,
            None => true,
        }
    }

    /// Whether there was something to remove.
    pub(crate) fn remove(&mut self, prefix: &IpNet) -> bool {
        self.routes.remove(prefix).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    pub(crate) fn contains(&self, prefix: &IpNet) -> bool {
        self.routes.contains_key(prefix)
    }

    pub(crate) fn stale_count(&self) -> usize {
        self.routes.values().filter(|route| route.stale).count()
    }

    /// Marks every route of `family` stale.
    pub(crate) fn mark_stale(&mut self, family: Family) {
        self.routes
            .iter_mut()
            .filter(|(prefix, _)| Family::of(prefix) == family)
            .for_each(|(_, r)| r.stale = true);
    }

    /// The prefixes of `family`; only the stale ones if asked.
    pub(crate) fn prefixes(&self, family: Family, only_stale: bool) -> Vec<IpNet> {
        let wanted = |(prefix, route): &(&IpNet, &RouteIn)| {
            Family::of(prefix) == family && (route.stale || !only_stale)
        };
        self.routes
            .iter()
            .filter(wanted)
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    /// Every route.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpNet, &RouteIn)> {
        self.routes.iter()
    }
}
