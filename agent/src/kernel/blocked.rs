//! Routes that cannot be changed at present: why, and when to try again.
//!
//! Two kinds wait for an event and need no clock (a device that is to come up, a foreign route that is to go). A route
//! that the kernel refused is tried again after a delay that doubles, or sooner where the surroundings changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{route::RouteKey, types::RouteProblem};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// The delay before try number `attempt`, from 1.
pub(super) fn delay(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY)
}

/// Why a route waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// A device it names is missing or down.
    Device(String),
    /// A foreign route has its key.
    Conflict(String),
    /// The kernel refused it, or somebody keeps undoing it.
    Failed { why: String, attempt: u32, due: Instant },
}

/// The routes that wait.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    reasons: BTreeMap<RouteKey, Reason>,
    due: BTreeSet<(Instant, RouteKey)>,
}

impl Blocked {
    /// `key` waits for the device `name`. True where it did not already.
    pub(super) fn wait_for_device(&mut self, key: RouteKey, name: &str) -> bool {
        self.set(key, Reason::Device(name.to_owned()))
    }

    /// `key` waits until a foreign route goes. True where it did not already.
    pub(super) fn wait_for_foreign(&mut self, key: RouteKey, why: String) -> bool {
        self.set(key, Reason::Conflict(why))
    }

    /// `key` failed once more and is tried again after a delay. Returns how often it has failed in a row.
    pub(super) fn fail(&mut self, key: RouteKey, why: String, now: Instant) -> u32 {
        let attempt = match self.reasons.get(&key) {
            Some(Reason::Failed { attempt, .. }) => attempt.saturating_add(1),
            _ => 1,
        };
        self.postpone(key, why, attempt, now);
        attempt
    }

    /// `key` is not to be tried before the delay of try number `attempt`.
    pub(super) fn postpone(&mut self, key: RouteKey, why: String, attempt: u32, now: Instant) {
        let due = now + delay(attempt);
        self.set(key, Reason::Failed { why, attempt, due });
        self.due.insert((due, key));
    }

    /// `key` waits no more.
    pub(super) fn clear(&mut self, key: &RouteKey) {
        if let Some(Reason::Failed { due, .. }) = self.reasons.remove(key) {
            self.due.remove(&(due, *key));
        }
    }

    /// True where `key` failed and its delay is not over.
    pub(super) fn is_delayed(&self, key: &RouteKey, now: Instant) -> bool {
        matches!(self.reasons.get(key), Some(Reason::Failed { due, .. }) if *due > now)
    }

    /// When the next delay is over.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The routes whose delay is over; each is given out once.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<RouteKey> {
        let mut keys = Vec::new();
        while let Some((due, key)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, key));
            keys.push(key);
        }
        keys
    }

    /// Ends the delay of every route that failed: the surroundings have changed.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due.clear();
        for (key, reason) in &mut self.reasons {
            if let Reason::Failed { due, .. } = reason {
                *due = now.min(*due);
                self.due.insert((*due, *key));
            }
        }
    }

    /// The routes that wait for the device `name`.
    pub(super) fn waiting_for(&self, name: &str) -> Vec<RouteKey> {
        let waits = |reason: &Reason| matches!(reason, Reason::Device(device) if device == name);
        self.reasons
            .iter()
            .filter(|(_, reason)| waits(reason))
            .map(|(key, _)| *key)
            .collect()
    }

    /// The routes that wait for a foreign route to go.
    pub(super) fn in_conflict(&self) -> Vec<RouteKey> {
        let conflict = |reason: &Reason| matches!(reason, Reason::Conflict(_));
        self.reasons
            .iter()
            .filter(|(_, reason)| conflict(reason))
            .map(|(key, _)| *key)
            .collect()
    }

    /// How many wait for a foreign route to go, and how many failed.
    pub(super) fn counts(&self) -> (usize, usize) {
        self.reasons
            .values()
            .fold((0, 0), |(conflicts, failures), reason| match reason {
                Reason::Device(_) => (conflicts, failures),
                Reason::Conflict(_) => (conflicts + 1, failures),
                Reason::Failed { .. } => (conflicts, failures + 1),
            })
    }

    /// The first `limit` routes that wait, and why.
    pub(super) fn problems(&self, limit: usize) -> Vec<RouteProblem> {
        let problem = |(key, reason): (&RouteKey, &Reason)| RouteProblem {
            prefix: key.prefix,
            reason: match reason {
                Reason::Device(name) => format!("waits for device {name}, which is missing or down"),
                Reason::Conflict(why) => why.clone(),
                Reason::Failed { why, attempt: 1, .. } => why.clone(),
                Reason::Failed { why, attempt, .. } => format!("{why} ({attempt} times in a row)"),
            },
        };
        self.reasons.iter().take(limit).map(problem).collect()
    }

    fn set(&mut self, key: RouteKey, reason: Reason) -> bool {
        let old = self.reasons.insert(key, reason.clone());
        if let Some(Reason::Failed { due, .. }) = &old {
            self.due.remove(&(*due, key));
        }
        old.as_ref() != Some(&reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(prefix: &str) -> RouteKey {
        RouteKey::ours(prefix.parse().unwrap())
    }

    #[test]
    fn delays_double_up_to_a_bound() {
        let delays: Vec<u128> = (1..=4).map(|attempt| delay(attempt).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800]);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }

    #[test]
    fn a_failed_route_is_given_out_once_when_its_delay_is_over() {
        let (mut blocked, now) = (Blocked::default(), Instant::now());
        let route = key("10.0.0.0/24");
        assert_eq!(blocked.fail(route, "no".into(), now), 1);
        assert_eq!(blocked.next_due(), Some(now + FIRST_DELAY));
        assert!(blocked.is_delayed(&route, now));
        assert!(blocked.take_due(now).is_empty());
        let later = now + FIRST_DELAY;
        assert_eq!(blocked.take_due(later), [route]);
        assert!(blocked.take_due(later).is_empty(), "given out twice");
        assert_eq!(blocked.fail(route, "no".into(), later), 2, "the count goes on");
        assert_eq!(blocked.next_due(), Some(later + 2 * FIRST_DELAY));
        blocked.clear(&route);
        assert_eq!((blocked.next_due(), blocked.counts()), (None, (0, 0)));
    }

    #[test]
    fn a_change_of_the_surroundings_ends_delays_but_not_other_waits() {
        let (mut blocked, now) = (Blocked::default(), Instant::now());
        blocked.fail(key("10.0.0.0/24"), "no".into(), now);
        blocked.wait_for_device(key("10.0.1.0/24"), "eth7");
        blocked.wait_for_foreign(key("10.0.2.0/24"), "static has it".into());
        blocked.hurry(now);
        assert_eq!(blocked.take_due(now), [key("10.0.0.0/24")]);
        assert_eq!(blocked.waiting_for("eth7"), [key("10.0.1.0/24")]);
        assert_eq!(blocked.in_conflict(), [key("10.0.2.0/24")]);
        assert_eq!(blocked.counts(), (1, 1));
        assert_eq!(blocked.problems(2).len(), 2);
    }
}
