//! What the plan makes of what it sees of the kernel: events, readings of the whole, time.

use std::{collections::BTreeMap, time::Instant};

use super::{Plan, QUARREL, Trust};
use crate::kernel::{
    route::{Foreign, Installed, RouteKey, RouteRecord},
    types::Links,
};

impl Plan {
    /// There is a route, in the place of another with the same key where `replaces`.
    pub(in crate::kernel) fn handle_route(
        &mut self,
        record: RouteRecord,
        replaces: bool,
        links: &Links,
        now: Instant,
    ) -> Trust {
        let key = record.key;
        self.dirty.insert(key);
        let ours = record.protocol == self.protocol;
        let mut trust = Trust::Kept;
        let (own, foreign) = (
            self.delta.actual().get(&key),
            self.foreign.conflict(&key).is_some(),
        );
        // Which one of several was replaced, and which one of several of ours is in force, is not said.
        if (replaces && foreign && own.is_some())
            || (!replaces && ours && own.is_some_and(|own| own.record != record))
        {
            trust = Trust::Lost;
        }
        if replaces && !ours && own.is_some() && !foreign {
            self.observe(key, None, links, now);
        }
        if replaces && self.foreign.remove_key(&key) > 1 {
            trust = Trust::Lost;
        }
        if ours {
            self.observe(key, Some(Installed::new(record, links)), links, now);
        } else {
            self.foreign.insert(record);
        }
        trust
    }

    /// There is a route no more.
    pub(in crate::kernel) fn handle_route_gone(
        &mut self,
        record: &RouteRecord,
        links: &Links,
        now: Instant,
    ) -> Trust {
        self.dirty.insert(record.key);
        if record.protocol != self.protocol {
            self.foreign.remove(record);
            return Trust::Kept;
        }
        match self.delta.actual().get(&record.key) {
            // One next hop of several, or a route that had the same key.
            Some(installed) if installed.record != *record => Trust::Lost,
            Some(_) => {
                self.observe(record.key, None, links, now);
                Trust::Kept
            }
            None => Trust::Kept,
        }
    }

    /// The kernel has been read as a whole. Routes of ours that are not as they were are put back.
    pub(in crate::kernel) fn handle_dump(&mut self, records: Vec<RouteRecord>, links: &Links, now: Instant) {
        let (mut own, mut foreign) = (BTreeMap::new(), Foreign::default());
        for record in records {
            if record.protocol == self.protocol {
                // Of several with one key the first is in force.
                own.entry(record.key)
                    .or_insert_with(|| Installed::new(record, links));
            } else {
                foreign.insert(record);
            }
        }
        self.foreign = foreign;
        self.dirty.extend(self.blocked.in_conflict());
        let known: Vec<RouteKey> = self.delta.actual().keys().copied().collect();
        for key in known.into_iter().filter(|key| !own.contains_key(key)) {
            self.dirty.insert(key);
            self.observe(key, None, links, now);
        }
        for (key, installed) in own {
            if self.delta.actual().get(&key) != Some(&installed) {
                self.dirty.insert(key);
                self.observe(key, Some(installed), links, now);
            }
        }
        self.mended.retain(|_, (last, _)| *last + QUARREL > now);
    }

    /// The device went down, or is `gone`. IPv4 takes its routes away without a word.
    pub(in crate::kernel) fn handle_link_down(&mut self, index: u32, gone: bool, links: &Links) -> Trust {
        let v4 = |record: &RouteRecord| record.key.prefix.addr().is_ipv4();
        let dies = |record: &RouteRecord| v4(record) && record.dies_with(links, index, gone);
        let dead: Vec<RouteKey> = self
            .delta
            .actual()
            .iter()
            .filter(|(_, installed)| dies(&installed.record))
            .map(|(key, _)| *key)
            .collect();
        let several = |installed: &Installed| installed.record.hops.len() > 1;
        let mut trust = Trust::Kept;
        for key in dead {
            if self.delta.remove_actual(&key).as_ref().is_some_and(several) {
                trust = Trust::Lost;
            }
            self.dirty.insert(key);
        }
        self.dirty.extend(self.foreign.retain(|record| !dies(record)));
        // IPv6 does say so, before or after the device's own event: that is nobody's mischief.
        self.broken.retain(|_, devices| !devices.contains(&index));
        trust
    }

    /// The device is up, or new, or has another name.
    pub(in crate::kernel) fn handle_link_up(&mut self, name: &str) {
        self.dirty.extend(self.blocked.waiting_for(name));
    }

    /// True where an IPv4 route uses the device.
    pub(in crate::kernel) fn uses_device_v4(&self, index: u32) -> bool {
        let uses = |record: &RouteRecord| {
            record.key.prefix.addr().is_ipv4() && record.hops.iter().any(|hop| hop.index == index)
        };
        self.delta
            .actual()
            .values()
            .any(|installed| uses(&installed.record))
            || self.foreign.iter().any(uses)
    }

    /// The surroundings changed: what the kernel refused may work now.
    pub(in crate::kernel) fn hurry(&mut self, now: Instant) {
        self.blocked.hurry(now);
    }

    /// Time has passed.
    pub(in crate::kernel) fn handle_timeout(&mut self, now: Instant) {
        self.dirty.extend(self.blocked.take_due(now));
    }

    /// The kernel has `installed` for `key`. Where that undoes what was as wanted, somebody else did it.
    fn observe(&mut self, key: RouteKey, installed: Option<Installed>, links: &Links, now: Instant) {
        let was_right = self.delta.is_installed(&key);
        let lost = match installed {
            Some(installed) => {
                let old = self.delta.actual().get(&key).map(|old| old.record.clone());
                self.delta.set_actual(key, installed);
                old
            }
            None => self.delta.remove_actual(&key).map(|old| old.record),
        };
        if self.delta.is_installed(&key) {
            if !self.busy.contains_key(&key) {
                self.broken.remove(&key);
            }
        } else if was_right {
            self.note_damage(key, lost, links, now);
        }
    }

    fn note_damage(&mut self, key: RouteKey, lost: Option<RouteRecord>, links: &Links, now: Instant) {
        let devices: Vec<u32> = lost
            .iter()
            .flat_map(|record| &record.hops)
            .map(|hop| hop.index)
            .collect();
        if devices
            .iter()
            .any(|index| !links.index(*index).is_some_and(|link| link.up))
        {
            // The route went with its device.
            return;
        }
        self.broken.insert(key, devices);
        if let Some((_, times)) = self
            .mended
            .get(&key)
            .copied()
            .filter(|(last, _)| *last + QUARREL > now)
        {
            self.blocked.postpone(
                key,
                "somebody else keeps changing this route".to_owned(),
                times,
                now,
            );
        }
    }
}
