//! The reading of the kernel as a whole: devices, addresses, IPv4 routes, IPv6 routes, one after the other, because a
//! socket carries one dump at a time.

use std::mem;

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP_INTR;
use nix::errno::Errno;

use super::{
    codec::{self, Event, Flagged},
    netlink::Message,
    route::RouteRecord,
    types::{Family, Link, Links, Refusal, TableId},
};

/// How often a stage is read again because the kernel changed meanwhile; the events that follow mend the rest.
const ATTEMPTS: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Links,
    Addresses,
    Routes(Family),
}

/// A reading under way.
#[derive(Debug)]
pub(super) struct Dump {
    table: TableId,
    stage: Stage,
    attempt: u32,
    /// The kernel changed during the stage.
    interrupted: bool,
    /// What the stage has read so far.
    events: Vec<Event>,
    links: Vec<Link>,
    addresses: Vec<(u32, IpNet)>,
    routes: Vec<RouteRecord>,
}

/// What comes after a stage.
#[derive(Debug)]
pub(super) enum Next {
    /// This request.
    Request(Flagged),
    /// Nothing: here is the whole.
    Whole(Links, Vec<RouteRecord>),
}

impl Dump {
    /// A reading, and its first request.
    pub(super) fn start(table: TableId) -> (Self, Flagged) {
        let dump = Dump {
            table,
            stage: Stage::Links,
            attempt: 1,
            interrupted: false,
            events: Vec::new(),
            links: Vec::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
        };
        let request = dump.request();
        (dump, request)
    }

    /// A message of the stage under way.
    pub(super) fn handle_message(&mut self, message: Message) {
        self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        self.events.extend(codec::event(message));
    }

    /// The stage has ended.
    ///
    /// # Errors
    /// The kernel's refusal, unless it says that there is no such family or table.
    pub(super) fn handle_end(&mut self, outcome: Result<(), Refusal>) -> Result<Next, Refusal> {
        if let Err(refusal) = outcome {
            let absent = [Errno::ENOENT, Errno::EOPNOTSUPP, Errno::EAFNOSUPPORT];
            let nothing =
                matches!(self.stage, Stage::Routes(_)) && absent.iter().any(|errno| refusal.is(*errno));
            if !nothing {
                return Err(refusal);
            }
        }
        let events = mem::take(&mut self.events);
        if mem::take(&mut self.interrupted) && self.attempt < ATTEMPTS {
            self.attempt += 1;
            return Ok(Next::Request(self.request()));
        }
        events.into_iter().for_each(|event| self.keep(event));
        self.attempt = 1;
        self.stage = match self.stage {
            Stage::Links => Stage::Addresses,
            Stage::Addresses => Stage::Routes(Family::V4),
            Stage::Routes(Family::V4) => Stage::Routes(Family::V6),
            Stage::Routes(Family::V6) => return Ok(self.whole()),
        };
        Ok(Next::Request(self.request()))
    }

    fn request(&self) -> Flagged {
        match self.stage {
            Stage::Links => codec::dump_links(),
            Stage::Addresses => codec::dump_addresses(),
            Stage::Routes(family) => codec::dump_routes(family, self.table),
        }
    }

    fn keep(&mut self, event: Event) {
        match event {
            Event::Link(link) => self.links.push(link),
            Event::Address { index, net } => self.addresses.push((index, net)),
            Event::Route { record, .. } if record.table == self.table => self.routes.push(record),
            _ => {}
        }
    }

    fn whole(&mut self) -> Next {
        let mut links: Links = mem::take(&mut self.links).into_iter().collect();
        for (index, net) in mem::take(&mut self.addresses) {
            if let Some(link) = links.get_mut(index) {
                link.addresses.push(net);
            }
        }
        Next::Whole(links, mem::take(&mut self.routes))
    }
}
