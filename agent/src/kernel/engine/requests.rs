//! Requests of the engine's, from the outbox to their answers.

use std::{net::IpAddr, time::Instant};

use ipnet::IpNet;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{RouteNetlinkMessage, route::RouteMessage};
use nix::errno::Errno;
use tokio::sync::oneshot;

use super::{Engine, Received};
use crate::kernel::{
    Command,
    codec::{self, Flagged},
    netlink::{self, Message},
    route::{Op, RouteKey},
    types::{Error, Link, NextHop, Refusal},
};

/// Requests in flight at most: their acknowledgements fit even into a receive buffer of the default size.
const WINDOW: usize = 256;

/// Length of a datagram of requests, about, in octets.
const DATAGRAM: usize = 16 << 10;

/// A request in flight: what its answer is for.
#[derive(Debug)]
pub(super) enum Request {
    /// A stage of the reading of the whole.
    Dump,
    /// A change by the plan.
    Change(RouteKey),
    /// A tracked address.
    NextHop(IpAddr),
    /// Somebody's, who waits.
    SourceAddress(IpAddr, oneshot::Sender<Result<IpAddr, Error>>),
    /// Somebody's, who waits.
    Link(String, oneshot::Sender<Result<Option<Link>, Error>>),
    /// Somebody's, who waits; one of these errors means that there was nothing to do.
    Done {
        description: String,
        harmless: [Errno; 2],
        reply: Done,
    },
}

type Done = oneshot::Sender<Result<(), Error>>;

impl Engine {
    pub(super) fn handle_command(&mut self, command: Command) {
        match command {
            Command::Routes(reply) => drop(reply.send(self.plan.installed())),
            Command::RemoveDeviceRoute {
                prefix,
                device,
                reply,
            } => self.remove_device_route(prefix, &device, reply),
            Command::FindLink(name, reply) => {
                self.outbox
                    .push_back((codec::find_link(&name), Request::Link(name, reply)));
            }
            Command::Device(change, reply) => {
                let request = Request::Done {
                    description: change.to_string(),
                    harmless: change.harmless(),
                    reply,
                };
                self.outbox.push_back((change.request(), request));
            }
            Command::SourceAddress(address, reply) => {
                let request = Request::SourceAddress(address, reply);
                self.outbox.push_back((codec::lookup(address, false), request));
            }
        }
    }

    fn remove_device_route(&mut self, prefix: IpNet, device: &str, reply: Done) {
        let key = RouteKey::ours(prefix);
        self.plan.forget(&key, device);
        let Some(link) = self.links.name(device) else {
            // A route goes with its device.
            let _ = reply.send(Ok(()));
            return;
        };
        let message =
            codec::delete_from_device(&key, link.index, self.settings.table, self.settings.protocol);
        let description = format!("delete the route {prefix} dev {device}");
        let request = Request::Done {
            description,
            harmless: [Errno::ESRCH, Errno::ENOENT],
            reply,
        };
        self.outbox.push_back((message, request));
    }

    /// Looks tracked addresses up again where that is due.
    pub(super) fn start_round(&mut self, now: Instant) {
        for address in self.next_hops.poll_round(now).into_iter().flatten() {
            self.outbox
                .push_back((codec::lookup(address, true), Request::NextHop(address)));
        }
    }

    /// Sends what there is to send, up to the window.
    pub(super) async fn send_pending(&mut self, now: Instant) -> Result<(), Error> {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        while self.in_flight.len() < WINDOW {
            let Some((flagged, request)) = self.next_request(now) else {
                break;
            };
            self.append(&mut datagram, flagged, request);
            if datagram.len() >= DATAGRAM {
                self.requests.send(&datagram).await?;
                datagram.clear();
            }
        }
        if !datagram.is_empty() {
            self.requests.send(&datagram).await?;
        }
        Ok(())
    }

    fn next_request(&mut self, now: Instant) -> Option<(Flagged, Request)> {
        if let Some(next) = self.outbox.pop_front() {
            return Some(next);
        }
        if self.is_resync_near(now) {
            return None;
        }
        loop {
            let op = self.plan.poll_op(&self.links, now)?;
            let (Op::Create(key, _) | Op::Replace(key, _) | Op::Delete(key)) = op;
            match codec::change(&op, self.settings.table, self.settings.protocol, &self.links) {
                Some(flagged) => {
                    tracing::debug!(?op, "route");
                    return Some((flagged, Request::Change(key)));
                }
                // The plan checks devices, so this is not to be expected; it is judged like the kernel's own word.
                None => self.outcomes.push((key, Err(Refusal::of(Errno::ENODEV)))),
            }
        }
    }

    fn append(&mut self, datagram: &mut Vec<u8>, (flags, message): Flagged, request: Request) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        netlink::append(datagram, self.sequence, flags, message);
        self.in_flight.insert(self.sequence, request);
    }

    /// Reads all answers there are.
    pub(super) fn read_answers(&mut self) -> Result<(), Error> {
        loop {
            match self.requests.receive()? {
                Received::Nothing => return Ok(()),
                Received::Overrun => self.handle_lost_answers(),
                Received::Messages(messages) => {
                    for message in messages {
                        self.handle_answer(message)?;
                    }
                }
            }
        }
    }

    fn handle_answer(&mut self, message: Message) -> Result<(), Error> {
        let sequence = message.header.sequence_number;
        let verdict = netlink::verdict(&message);
        match (self.in_flight.get(&sequence), verdict) {
            (None, _) => Ok(()),
            (Some(Request::Dump), None) => {
                self.resync
                    .dump
                    .iter_mut()
                    .for_each(|dump| dump.handle_message(message.clone()));
                Ok(())
            }
            (Some(Request::NextHop(_) | Request::SourceAddress(..) | Request::Link(..)), None) => {
                if let (Some(request), NetlinkPayload::InnerMessage(found)) =
                    (self.in_flight.remove(&sequence), message.payload)
                {
                    self.handle_found(request, &found);
                }
                Ok(())
            }
            (Some(_), None) => Ok(()),
            (Some(_), Some(verdict)) => match self.in_flight.remove(&sequence) {
                Some(request) => self.handle_verdict(request, verdict),
                None => Ok(()),
            },
        }
    }

    /// A lookup found something. One whose answer is of another kind than asked for goes unanswered, which its asker
    /// sees as the end of the task; the kernel gives no such answer.
    fn handle_found(&mut self, request: Request, found: &RouteNetlinkMessage) {
        match (request, found) {
            (Request::NextHop(address), RouteNetlinkMessage::NewRoute(route)) => {
                let next_hop = self.resolve(address, route);
                self.next_hops.handle_answer(address, next_hop);
            }
            (Request::SourceAddress(address, reply), RouteNetlinkMessage::NewRoute(route)) => {
                let source =
                    codec::source(route).ok_or_else(|| unreachable(address, Refusal::of(Errno::ENETUNREACH)));
                let _ = reply.send(source);
            }
            (Request::Link(_, reply), RouteNetlinkMessage::NewLink(link)) => {
                let known = |link: Link| {
                    let addresses = self.links.index(link.index).map(|known| known.addresses.clone());
                    Link {
                        addresses: addresses.unwrap_or_default(),
                        ..link
                    }
                };
                let _ = reply.send(Ok(codec::link(link).map(known)));
            }
            (Request::NextHop(address), _) => self.next_hops.handle_answer(address, NextHop::Unreachable),
            _ => {}
        }
    }

    /// The kernel's word, unless it speaks of a route of ours: then what it would say without ours.
    fn resolve(&self, address: IpAddr, route: &RouteMessage) -> NextHop {
        let found = codec::route(route).filter(|record| record.protocol != self.settings.protocol);
        match &found {
            Some(record) => record.next_hop(&self.links),
            None => match self.plan.foreign().lookup(address) {
                Some(record) => record.next_hop(&self.links),
                None => NextHop::Unreachable,
            },
        }
    }

    fn handle_verdict(&mut self, request: Request, verdict: Result<(), Refusal>) -> Result<(), Error> {
        match request {
            Request::Dump => return self.handle_dump_end(verdict),
            Request::Change(key) => self.outcomes.push((key, verdict)),
            Request::NextHop(address) => self.next_hops.handle_answer(address, NextHop::Unreachable),
            Request::SourceAddress(address, reply) => {
                let refusal = verdict.err().unwrap_or_else(|| Refusal::of(Errno::ENETUNREACH));
                let _ = reply.send(Err(unreachable(address, refusal)));
            }
            Request::Link(name, reply) => {
                let result = match verdict {
                    Err(refusal) if !refusal.is(Errno::ENODEV) => Err(Error::Refused {
                        request: format!("find device {name}"),
                        refusal,
                    }),
                    _ => Ok(None),
                };
                let _ = reply.send(result);
            }
            Request::Done {
                description,
                harmless,
                reply,
            } => {
                let result = match verdict {
                    Err(refusal) if !harmless.iter().any(|errno| refusal.is(*errno)) => Err(Error::Refused {
                        request: description,
                        refusal,
                    }),
                    _ => Ok(()),
                };
                let _ = reply.send(result);
            }
        }
        Ok(())
    }

    /// Answers were lost, nobody knows which: everything in flight is in doubt.
    fn handle_lost_answers(&mut self) {
        let now = Instant::now();
        self.overruns += 1;
        tracing::warn!(
            in_flight = self.in_flight.len(),
            "answers of the kernel were lost; it is read again"
        );
        for (_, request) in self.in_flight.drain() {
            match request {
                Request::SourceAddress(_, reply) => drop(reply.send(Err(Error::Overrun))),
                Request::Link(_, reply) => drop(reply.send(Err(Error::Overrun))),
                Request::Done { reply, .. } => drop(reply.send(Err(Error::Overrun))),
                Request::Dump | Request::Change(_) | Request::NextHop(_) => {}
            }
        }
        self.outcomes.clear();
        self.plan.handle_overrun();
        self.next_hops.handle_overrun(now);
        self.resync.dump = None;
        self.resync.awaited = true;
        self.resync.wanted = Some(now);
    }
}

fn unreachable(address: IpAddr, refusal: Refusal) -> Error {
    Error::Refused {
        request: format!("find a way to {address}"),
        refusal,
    }
}
