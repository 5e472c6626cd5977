//! What to do next to the kernel's routes. Pure: no sockets; the clock and the devices are arguments.
//!
//! Getters say how things stand. `set_*` takes what is wanted, `handle_*` what happened. [`Plan::poll_op`] gives out the
//! next change; its outcome comes back through [`Plan::handle_outcome`]. A route has at most one change under way.
//! Changes that make or replace come before those that delete, so that traffic finds its new route before the old one
//! goes.
//!
//! The kernel's word is final: an acknowledged change counts once its event (or a reading of the whole) has shown it.

mod observed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::{
    blocked::Blocked,
    route::{Foreign, Installed, Op, RouteKey, Wanted, protocol_name},
    types::{InstalledRoute, KernelStatus, Links, Refusal, Removal, RouteTarget, Routes},
};
use crate::delta::Delta;

/// A route that somebody else changes twice within this time is put back with a delay that doubles.
const QUARREL: Duration = Duration::from_secs(10);

/// Whether our picture of the kernel survived what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Trust {
    /// The picture is still true.
    Kept,
    /// It may not be: the kernel is to be read again.
    Lost,
}

#[derive(Debug)]
pub(super) struct Plan {
    protocol: u8,
    delta: Delta<RouteKey, Wanted, Installed>,
    foreign: Foreign,
    removal: Removal,
    blocked: Blocked,
    /// Routes to look at.
    dirty: BTreeSet<RouteKey>,
    /// Routes to delete once nothing is left to make or replace.
    doomed: BTreeSet<RouteKey>,
    /// Changes under way, and the target sent; none for a deletion.
    busy: BTreeMap<RouteKey, Option<RouteTarget>>,
    /// Routes that were as wanted until somebody else changed them, and the devices they used.
    broken: BTreeMap<RouteKey, Vec<u32>>,
    /// When a route was last put back, and how often in quick succession.
    mended: BTreeMap<RouteKey, (Instant, u32)>,
    repairs: u64,
}

impl Plan {
    pub(super) fn new(protocol: u8) -> Self {
        Plan {
            protocol,
            delta: Delta::new(),
            foreign: Foreign::default(),
            removal: Removal::Hold,
            blocked: Blocked::default(),
            dirty: BTreeSet::new(),
            doomed: BTreeSet::new(),
            busy: BTreeMap::new(),
            broken: BTreeMap::new(),
            mended: BTreeMap::new(),
            repairs: 0,
        }
    }

    /// True where nothing can be done at present: every route is as wanted, held, or waits.
    pub(super) fn is_settled(&self) -> bool {
        self.dirty.is_empty() && self.doomed.is_empty() && self.busy.is_empty()
    }

    /// True where changes are under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.blocked.next_due()
    }

    pub(super) fn foreign(&self) -> &Foreign {
        &self.foreign
    }

    /// Our routes in the kernel.
    pub(super) fn installed(&self) -> Vec<InstalledRoute> {
        let route = |(key, installed): (&RouteKey, &Installed)| InstalledRoute {
            prefix: key.prefix,
            metric: key.metric,
            target: installed.target.clone(),
        };
        self.delta.actual().iter().map(route).collect()
    }

    /// How things stand; the counters of resyncs and overruns are the engine's.
    pub(super) fn status(&self) -> KernelStatus {
        let (desired, pending) = (self.delta.desired().len(), self.delta.updates().len());
        let (foreign_conflicts, errors) = self.blocked.counts();
        KernelStatus {
            desired,
            installed: desired - pending,
            pending,
            stale: self.delta.deletions().len(),
            foreign_conflicts,
            errors,
            repairs: self.repairs,
            problems: self.blocked.problems(KernelStatus::MAX_PROBLEMS),
            ..KernelStatus::default()
        }
    }

    /// Takes what is wanted, as a whole.
    pub(super) fn set_desired(&mut self, routes: &Arc<Routes>, removal: Removal) {
        let wanted = |(prefix, target): (&ipnet::IpNet, &RouteTarget)| {
            (RouteKey::ours(*prefix), Wanted::new(target.clone()))
        };
        for key in self.delta.replace_desired(routes.iter().map(wanted).collect()) {
            self.blocked.clear(&key);
            self.broken.remove(&key);
            self.dirty.insert(key);
        }
        if self.removal != removal {
            self.removal = removal;
            self.dirty.extend(self.delta.deletions());
        }
    }

    /// Wants a route onto that device no more. The caller deletes it.
    pub(super) fn forget(&mut self, key: &RouteKey, device: &str) {
        let onto =
            |wanted: &Wanted| matches!(wanted.target(), RouteTarget::Device { name } if name == device);
        if self.delta.desired().get(key).is_some_and(onto) {
            self.delta.remove_desired(key);
            self.blocked.clear(key);
            self.broken.remove(key);
            self.dirty.insert(*key);
        }
    }

    /// The next change to make.
    pub(super) fn poll_op(&mut self, links: &Links, now: Instant) -> Option<Op> {
        while let Some(key) = self.dirty.pop_first() {
            if self.busy.contains_key(&key) {
                continue;
            }
            if let Some((op, target)) = self.next_change(key, links, now) {
                self.busy.insert(key, Some(target));
                return Some(op);
            }
        }
        while let Some(key) = self.doomed.pop_first() {
            if !self.busy.contains_key(&key) && self.may_delete(&key) {
                self.busy.insert(key, None);
                return Some(Op::Delete(key));
            }
        }
        None
    }

    fn next_change(&mut self, key: RouteKey, links: &Links, now: Instant) -> Option<(Op, RouteTarget)> {
        if !self.delta.updates().contains(&key) {
            if !self.delta.deletions().contains(&key) {
                self.blocked.clear(&key);
            } else if self.may_delete(&key) && !self.blocked.is_delayed(&key, now) {
                self.doomed.insert(key);
            }
            return None;
        }
        if self.blocked.is_delayed(&key, now) {
            return None;
        }
        let target = self.delta.desired().get(&key)?.target().clone();
        if target == RouteTarget::Gateways(Vec::new()) {
            self.blocked.fail(key, "no gateway is given".to_owned(), now);
            return None;
        }
        let ready = |device: &str| links.name(device).is_some_and(|link| link.up);
        if let Some(device) = target.devices().find(|device| !ready(device)) {
            self.broken.remove(&key);
            self.blocked.wait_for_device(key, device);
            return None;
        }
        if let Some(foreign) = self.foreign.conflict(&key) {
            let owner = protocol_name(foreign.protocol);
            let why = match foreign.target(links) {
                Some(target) => format!("a route that is not ours is in the way: {target} proto {owner}"),
                None => format!("a route that is not ours is in the way: proto {owner}"),
            };
            self.broken.remove(&key);
            if self.blocked.wait_for_foreign(key, why.clone()) {
                tracing::warn!(prefix = %key.prefix, reason = why, "route conflict");
            }
            return None;
        }
        let op = match self.delta.actual().get(&key) {
            Some(_) => Op::Replace(key, target.clone()),
            None => Op::Create(key, target.clone()),
        };
        Some((op, target))
    }

    fn may_delete(&self, key: &RouteKey) -> bool {
        let Some(installed) = self
            .delta
            .actual()
            .get(key)
            .filter(|_| self.delta.deletions().contains(key))
        else {
            return false;
        };
        match self.removal {
            Removal::Hold => false,
            Removal::HoldGateways => {
                matches!(
                    installed.target,
                    Some(RouteTarget::Blackhole | RouteTarget::Device { .. })
                )
            }
            Removal::Allow => true,
        }
    }

    /// The kernel answered a change, and every event up to then has been handled.
    pub(super) fn handle_outcome(
        &mut self,
        key: RouteKey,
        outcome: Result<(), Refusal>,
        now: Instant,
    ) -> Trust {
        let Some(sent) = self.busy.remove(&key) else {
            return Trust::Kept;
        };
        let pending = self.delta.updates().contains(&key);
        let undone = match &sent {
            Some(target) => {
                pending
                    && self
                        .delta
                        .desired()
                        .get(&key)
                        .is_some_and(|wanted| wanted.target() == target)
            }
            None => self.delta.deletions().contains(&key),
        };
        if !undone {
            self.handle_success(key, pending, now);
            return Trust::Kept;
        }
        let (why, trust) = explain(&outcome, sent.is_none());
        let attempt = self.blocked.fail(key, why.clone(), now);
        if attempt == 1 && trust == Trust::Kept {
            tracing::warn!(prefix = %key.prefix, reason = why, "route refused");
        }
        trust
    }

    fn handle_success(&mut self, key: RouteKey, pending: bool, now: Instant) {
        self.dirty.insert(key);
        if pending {
            return;
        }
        self.blocked.clear(&key);
        if self.broken.remove(&key).is_some() {
            self.repairs += 1;
            let quick = self.mended.get(&key).filter(|(last, _)| *last + QUARREL > now);
            let times = quick.map_or(1, |(_, times)| times.saturating_add(1));
            self.mended.insert(key, (now, times));
        }
    }

    /// The answers to all changes under way were lost.
    pub(super) fn handle_overrun(&mut self) {
        self.dirty.extend(std::mem::take(&mut self.busy).into_keys());
    }
}

/// What to tell a person, and whether our picture led us astray.
fn explain(outcome: &Result<(), Refusal>, deletion: bool) -> (String, Trust) {
    match outcome {
        Ok(()) => (
            "the kernel accepted the change but does not show it".to_owned(),
            Trust::Lost,
        ),
        Err(refusal) if refusal.is(Errno::EEXIST) => (
            "another route to the same destination has just appeared".to_owned(),
            Trust::Lost,
        ),
        Err(refusal) if refusal.is(Errno::ENOENT) || refusal.is(Errno::ESRCH) => {
            ("the route has just vanished".to_owned(), Trust::Lost)
        }
        Err(refusal) if deletion => (format!("cannot be deleted: {refusal}"), Trust::Kept),
        Err(refusal) => (format!("the kernel refuses it: {refusal}"), Trust::Kept),
    }
}

#[cfg(test)]
mod tests;
