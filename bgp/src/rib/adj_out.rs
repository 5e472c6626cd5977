//! The Adj-RIB-Out: what one peer holds from us, and what it has yet to hear.
//!
//! State, not a queue: a prefix that changes ten times while the peer does not read is pending once, and what is
//! finally sent is what holds then. So a slow peer costs at most the size of the table and delays nobody else.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::Route;
use crate::types::Family;
use crate::wire::{Attributes, NextHop};

/// What one peer was told and will be told.
#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    pending: BTreeSet<IpNet>,
    /// What the peer holds; `None` if it holds something that has to be said again (RFC 2918).
    advertised: HashMap<IpNet, Option<Route>>,
}

/// Routes with one next hop and one set of attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) family: Family,
    pub(crate) next_hop: NextHop,
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) prefixes: Vec<IpNet>,
}

/// What to tell a peer next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) withdrawn: Vec<IpNet>,
    pub(crate) announced: Vec<Announcement>,
}

impl AdjRibOut {
    /// The peer has to hear of a change of `prefix`.
    pub(crate) fn mark(&mut self, prefix: IpNet) {
        self.pending.insert(prefix);
    }

    /// The peer has to hear about everything it holds of `family` again.
    pub(crate) fn refresh(&mut self, family: Family) {
        for (prefix, route) in &mut self.advertised {
            if Family::of(prefix) == family {
                *route = None;
                self.pending.insert(*prefix);
            }
        }
    }

    /// Whether the peer holds any route for `prefix`.
    pub(crate) fn holds(&self, prefix: &IpNet) -> bool {
        self.advertised.contains_key(prefix)
    }

    /// Whether the peer has heard everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the peer has yet to hear of `prefix`.
    pub(crate) fn is_pending(&self, prefix: &IpNet) -> bool {
        self.pending.contains(prefix)
    }

    /// How many prefixes the peer holds from us.
    pub(crate) fn len(&self) -> usize {
        self.advertised.len()
    }

    /// The route the peer holds from us.
    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&Route> {
        self.advertised.get(prefix)?.as_ref()
    }

    /// Whatever is to be said about up to `limit` pending prefixes; `export` gives what the peer should hold now.
    /// Counts as said: the caller has to send it or give up the session.
    pub(crate) fn take_batch(
        &mut self,
        limit: usize,
        mut export: impl FnMut(&IpNet) -> Option<Route>,
    ) -> Batch {
        let mut batch = Batch::default();
        let mut groups: HashMap<(Family, NextHop, Arc<Attributes>), usize> = HashMap::new();
        for _ in 0..limit {
            let Some(prefix) = self.pending.pop_first() else {
                break;
            };
            match export(&prefix) {
                Some(Route {
                    attributes,
                    next_hop: Some(next_hop),
                }) => {
                    self.announce(prefix, attributes, next_hop, &mut batch, &mut groups);
                }
                _ => self.withdraw(prefix, &mut batch),
            }
        }
        batch
    }

    fn announce(
        &mut self,
        prefix: IpNet,
        attributes: Arc<Attributes>,
        next_hop: NextHop,
        batch: &mut Batch,
        groups: &mut HashMap<(Family, NextHop, Arc<Attributes>), usize>,
    ) {
        let route = Route {
            attributes,
            next_hop: Some(next_hop),
        };
        if self.get(&prefix) == Some(&route) {
            return;
        }
        let family = Family::of(&prefix);
        let at = *groups
            .entry((family, next_hop, route.attributes.clone()))
            .or_insert_with(|| {
                let attributes = route.attributes.clone();
                batch.announced.push(Announcement {
                    family,
                    next_hop,
                    attributes,
                    prefixes: Vec::new(),
                });
                batch.announced.len() - 1
            });
        let Some(group) = batch.announced.get_mut(at) else {
            return;
        };
        group.prefixes.push(prefix);
        // The group's attributes, so that equal ones share memory.
        self.advertised.insert(
            prefix,
            Some(Route {
                attributes: group.attributes.clone(),
                ..route
            }),
        );
    }

    fn withdraw(&mut self, prefix: IpNet, batch: &mut Batch) {
        if self.advertised.remove(&prefix).is_some() {
            batch.withdrawn.push(prefix);
        }
    }

    /// `prefix` could not be said after all: the peer must not keep what it had.
    pub(crate) fn forget(&mut self, prefix: &IpNet) {
        self.advertised.remove(prefix);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn prefix(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn route(med: u32) -> Route {
        let attributes = Attributes {
            med: Some(med),
            ..Attributes::default()
        };
        let next_hop = NextHop::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        Route {
            attributes: Arc::new(attributes),
            next_hop: Some(next_hop),
        }
    }

    #[test]
    fn a_prefix_that_changes_often_is_pending_once_and_sent_as_it_is_last() {
        let mut rib = AdjRibOut::default();
        for _ in 0..1000 {
            rib.mark(prefix("10.0.0.0/26"));
        }
        let batch = rib.take_batch(100, |_| Some(route(3)));
        assert_eq!(batch.announced.len(), 1);
        assert_eq!(batch.announced[0].prefixes, [prefix("10.0.0.0/26")]);
        assert!(rib.is_drained());
    }

    #[test]
    fn what_the_peer_never_heard_is_not_withdrawn_and_what_it_holds_is_not_repeated() {
        let mut rib = AdjRibOut::default();
        rib.mark(prefix("10.0.0.0/26"));
        assert_eq!(rib.take_batch(10, |_| None), Batch::default());
        rib.mark(prefix("10.0.0.0/26"));
        rib.take_batch(10, |_| Some(route(1)));
        rib.mark(prefix("10.0.0.0/26"));
        assert_eq!(rib.take_batch(10, |_| Some(route(1))), Batch::default());
        rib.mark(prefix("10.0.0.0/26"));
        assert_eq!(rib.take_batch(10, |_| None).withdrawn, [prefix("10.0.0.0/26")]);
    }

    #[test]
    fn equal_attributes_travel_together() {
        let mut rib = AdjRibOut::default();
        let all = ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26"].map(prefix);
        all.iter().for_each(|p| rib.mark(*p));
        let batch = rib.take_batch(10, |p| Some(route(if *p == all[1] { 9 } else { 1 })));
        assert_eq!(batch.announced.len(), 2);
        assert_eq!(batch.announced[0].prefixes, [all[0], all[2]]);
    }

    #[test]
    fn a_refresh_says_everything_again_and_still_withdraws_what_is_gone() {
        let mut rib = AdjRibOut::default();
        let all = ["10.0.0.0/26", "10.0.0.64/26"].map(prefix);
        all.iter().for_each(|p| rib.mark(*p));
        rib.take_batch(10, |_| Some(route(1)));
        rib.refresh(Family::IPV4_UNICAST);
        let batch = rib.take_batch(10, |p| (*p == all[0]).then(|| route(1)));
        assert_eq!(batch.announced[0].prefixes, [all[0]]);
        assert_eq!(batch.withdrawn, [all[1]]);
    }
}
