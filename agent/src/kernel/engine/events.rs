//! What the engine makes of events, and of a reading of the whole.

use std::time::Instant;

use super::{Engine, RESYNC_RETRY, Received, Trust};
use crate::kernel::{
    codec::{self, Event},
    dump::Next,
    route::RouteRecord,
    types::{Error, Link, Links, Refusal},
};

impl Engine {
    /// Reads all events there are.
    pub(super) fn read_events(&mut self) -> Result<(), Error> {
        loop {
            match self.events.receive()? {
                Received::Nothing => return Ok(()),
                Received::Overrun => {
                    self.overruns += 1;
                    tracing::debug!("events were lost; the kernel is read again");
                    let now = Instant::now();
                    self.resync.wanted = Some(now);
                    self.resync.awaited = true;
                    self.surroundings_changed(now);
                }
                Received::Messages(messages) => {
                    let now = Instant::now();
                    for event in messages.into_iter().filter_map(codec::event) {
                        self.handle_event(event, now);
                    }
                }
            }
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Link(link) => self.handle_link(link, now),
            Event::LinkGone(index) => self.handle_link_gone(index, now),
            Event::Address { index, net } => self.handle_address(index, |addresses| {
                if !addresses.contains(&net) {
                    addresses.push(net);
                }
            }),
            Event::AddressGone { index, net } => {
                self.handle_address(index, |addresses| addresses.retain(|address| *address != net));
                // IPv4 takes routes away without a word when a device's last address, or a route's source, goes.
                if net.addr().is_ipv4() && self.plan.uses_device_v4(index) {
                    self.want_resync(now);
                }
                self.surroundings_changed(now);
                return;
            }
            Event::Rules => {}
            Event::Route { record, replaces } if record.table == self.settings.table => {
                let ours = record.protocol == self.settings.protocol;
                let trust = self.plan.handle_route(record, replaces, &self.links, now);
                self.judge(trust, now);
                if ours {
                    return;
                }
            }
            Event::RouteGone(record) if record.table == self.settings.table => {
                let trust = self.plan.handle_route_gone(&record, &self.links, now);
                self.judge(trust, now);
                if record.protocol == self.settings.protocol {
                    return;
                }
            }
            Event::Route { .. } | Event::RouteGone(_) => {}
        }
        self.surroundings_changed(now);
    }

    fn judge(&mut self, trust: Trust, now: Instant) {
        if trust == Trust::Lost {
            self.want_resync(now);
        }
    }

    fn handle_address(&mut self, index: u32, change: impl FnOnce(&mut Vec<ipnet::IpNet>)) {
        if let Some(link) = self.links.get_mut(index) {
            change(&mut link.addresses);
            self.links_changed = true;
        }
    }

    fn handle_link(&mut self, mut link: Link, now: Instant) {
        let (index, name, up) = (link.index, link.name.clone(), link.up);
        let old = self.links.index(index);
        link.addresses = old.map(|old| old.addresses.clone()).unwrap_or_default();
        let (was_up, renamed) = (
            old.is_some_and(|old| old.up),
            old.is_some_and(|old| old.name != name),
        );
        self.links.insert(link);
        self.links_changed = true;
        if was_up && !up {
            let trust = self.plan.handle_link_down(index, false, &self.links);
            self.judge(trust, now);
        }
        if up && (!was_up || renamed) {
            self.plan.handle_link_up(&name);
        }
        if renamed {
            // Routes that use it are known by its old name.
            self.want_resync(now);
        }
    }

    fn handle_link_gone(&mut self, index: u32, now: Instant) {
        if self.links.remove(index).is_some() {
            self.links_changed = true;
            let trust = self.plan.handle_link_down(index, true, &self.links);
            self.judge(trust, now);
        }
    }

    /// A stage of the reading has ended.
    pub(super) fn handle_dump_end(&mut self, outcome: Result<(), Refusal>) -> Result<(), Error> {
        let Some(dump) = &mut self.resync.dump else {
            return Ok(());
        };
        match dump.handle_end(outcome) {
            Ok(Next::Request(request)) => self.outbox.push_back((request, super::Request::Dump)),
            Ok(Next::Whole(links, routes)) => self.handle_whole(links, routes),
            Err(refusal) => {
                self.resync.dump = None;
                self.resync.wanted = Some(Instant::now() + RESYNC_RETRY);
                let error = Error::Refused {
                    request: "list devices, addresses and routes".to_owned(),
                    refusal,
                };
                if self.started.is_some() {
                    return Err(error);
                }
                tracing::warn!(%error, "cannot read the kernel; trying again");
            }
        }
        Ok(())
    }

    fn handle_whole(&mut self, links: Links, routes: Vec<RouteRecord>) {
        let now = Instant::now();
        self.resync.dump = None;
        self.resync.awaited = false;
        self.resync.done += 1;
        let differs = links != self.links;
        self.links = links;
        self.plan.handle_dump(routes, &self.links, now);
        if differs {
            self.links_changed = true;
            let up: Vec<String> = self
                .links
                .iter()
                .filter(|link| link.up)
                .map(|link| link.name.clone())
                .collect();
            up.iter().for_each(|name| self.plan.handle_link_up(name));
        }
        self.surroundings_changed(now);
        if let Some(started) = self.started.take() {
            // The handles see the devices before anybody can ask.
            self.channels
                .links
                .send_replace(std::sync::Arc::new(self.links.clone()));
            let _ = started.send(Ok(()));
        }
    }
}
