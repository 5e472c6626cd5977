//! How tracked addresses are reached: when to ask the kernel again, and what it said.
//!
//! Pure bookkeeping; the engine sends the lookups. A change of the surroundings does not ask at once but a moment later,
//! so that a burst of changes costs one round of lookups.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::types::NextHop;

/// How long a burst of changes may go on before the addresses are looked up again.
const DEBOUNCE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct NextHops {
    tracked: BTreeSet<IpAddr>,
    known: BTreeMap<IpAddr, NextHop>,
    /// Answers of the round under way.
    fresh: BTreeMap<IpAddr, NextHop>,
    /// Lookups of the round under way that are not answered yet.
    outstanding: usize,
    due: Option<Instant>,
}

impl NextHops {
    pub(super) fn set_tracked(&mut self, tracked: BTreeSet<IpAddr>, now: Instant) {
        self.tracked = tracked;
        self.due = Some(now);
    }

    /// Routes, addresses or devices changed.
    pub(super) fn handle_change(&mut self, now: Instant) {
        self.due.get_or_insert(now + DEBOUNCE);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.filter(|_| self.outstanding == 0)
    }

    /// The addresses to look up now, each to be answered by [`NextHops::handle_answer`].
    pub(super) fn poll_round(&mut self, now: Instant) -> Option<Vec<IpAddr>> {
        self.next_due().filter(|due| *due <= now)?;
        self.due = None;
        self.fresh.clear();
        self.outstanding = self.tracked.len();
        Some(self.tracked.iter().copied().collect())
    }

    /// An answer.
    pub(super) fn handle_answer(&mut self, address: IpAddr, next_hop: NextHop) {
        self.fresh.insert(address, next_hop);
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// The answers to the round under way were lost.
    pub(super) fn handle_overrun(&mut self, now: Instant) {
        self.outstanding = 0;
        self.due = Some(now);
    }

    /// What is known, where a round has ended that changed it.
    pub(super) fn poll_changed(&mut self) -> Option<BTreeMap<IpAddr, NextHop>> {
        if self.outstanding > 0 {
            return None;
        }
        // The tracked set may have changed during the round; the next one is due then.
        let mut known = self.known.clone();
        known.append(&mut self.fresh);
        known.retain(|address, _| self.tracked.contains(address));
        if known == self.known {
            return None;
        }
        self.known = known.clone();
        Some(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn connected(device: &str) -> NextHop {
        NextHop::Connected {
            device: device.into(),
        }
    }

    #[test]
    fn a_burst_of_changes_costs_one_round() {
        let (mut hops, now) = (NextHops::default(), Instant::now());
        hops.set_tracked([address(1), address(2)].into(), now);
        assert_eq!(hops.poll_round(now), Some(vec![address(1), address(2)]));
        hops.handle_answer(address(1), connected("eth0"));
        assert_eq!(hops.poll_changed(), None, "the round has not ended");
        hops.handle_change(now);
        hops.handle_change(now + DEBOUNCE / 2);
        assert_eq!(hops.poll_round(now + DEBOUNCE), None, "one round at a time");
        hops.handle_answer(address(2), NextHop::Unreachable);
        assert_eq!(hops.poll_changed().unwrap().len(), 2);
        assert_eq!(hops.poll_changed(), None, "told once");
        assert_eq!(hops.poll_round(now + DEBOUNCE / 2), None, "too early");
        assert!(hops.poll_round(now + DEBOUNCE).is_some());
    }

    #[test]
    fn an_address_no_longer_tracked_is_forgotten() {
        let (mut hops, now) = (NextHops::default(), Instant::now());
        hops.set_tracked([address(1)].into(), now);
        hops.poll_round(now).unwrap();
        hops.handle_answer(address(1), connected("eth0"));
        hops.poll_changed().unwrap();
        hops.set_tracked(BTreeSet::new(), now);
        assert_eq!(hops.poll_round(now), Some(Vec::new()));
        assert_eq!(hops.poll_changed(), Some(BTreeMap::new()));
    }
}
