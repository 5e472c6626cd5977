//! A route as the kernel has it, and as it is wanted: the words that the codec, the plan and the engine share.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::types::{Family, Gateway, Links, NextHop, RouteTarget, TableId};

/// What makes two routes of a table the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RouteKey {
    pub(super) prefix: IpNet,
    pub(super) metric: u32,
}

impl RouteKey {
    /// The key of our route to `prefix`: it has the metric that the kernel gives a route without one.
    pub(super) fn ours(prefix: IpNet) -> Self {
        let metric = match Family::of(prefix.addr()) {
            Family::V4 => 0,
            Family::V6 => 1024,
        };
        RouteKey {
            prefix: prefix.trunc(),
            metric,
        }
    }
}

/// A change of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// Make it; fails where there is one with that key, whosever it is.
    Create(RouteKey, RouteTarget),
    /// Put it in the place of ours with that key, at one stroke.
    Replace(RouteKey, RouteTarget),
    /// Take ours away.
    Delete(RouteKey),
}

/// Kinds of route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unicast,
    Local,
    Blackhole,
    /// Unreachable, prohibited, multicast and the like.
    Other,
}

/// A next hop as the kernel has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) gateway: Option<IpAddr>,
    /// The device's index; 0 for none.
    pub(super) index: u32,
    pub(super) onlink: bool,
}

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RouteRecord {
    pub(super) key: RouteKey,
    pub(super) table: TableId,
    pub(super) protocol: u8,
    pub(super) kind: Kind,
    pub(super) hops: Vec<Hop>,
}

impl RouteRecord {
    /// Where it leads, in our words; none where we have no word for it.
    pub(super) fn target(&self, links: &Links) -> Option<RouteTarget> {
        match (self.kind, self.hops.as_slice()) {
            (Kind::Blackhole, _) => Some(RouteTarget::Blackhole),
            (
                Kind::Unicast,
                [
                    Hop {
                        gateway: None, index, ..
                    },
                ],
            ) => Some(RouteTarget::Device {
                name: device(links, *index),
            }),
            (Kind::Unicast, hops) => {
                let gateways: Option<Vec<Gateway>> = hops.iter().map(|hop| hop.gateway(links)).collect();
                gateways.map(|gateways| normalise(RouteTarget::Gateways(gateways)))
            }
            _ => None,
        }
    }

    /// How an address that this route is for is reached.
    pub(super) fn next_hop(&self, links: &Links) -> NextHop {
        match (self.kind, self.hops.first()) {
            (Kind::Local, _) => NextHop::Local,
            (Kind::Unicast, Some(hop)) if hop.index != 0 => match hop.gateway {
                Some(gateway) => NextHop::Via {
                    gateway,
                    device: device(links, hop.index),
                },
                None => NextHop::Connected {
                    device: device(links, hop.index),
                },
            },
            _ => NextHop::Unreachable,
        }
    }

    /// True where the kernel takes the route away, without a word in IPv4, when the device goes down (all its next hops
    /// are dead) or, where `gone`, when the device is removed (any of them is).
    pub(super) fn dies_with(&self, links: &Links, index: u32, gone: bool) -> bool {
        let up = |hop: &Hop| hop.index != index && links.index(hop.index).is_some_and(|link| link.up);
        let uses = self.hops.iter().any(|hop| hop.index == index);
        uses && (gone || !self.hops.iter().any(up))
    }
}

impl Hop {
    fn gateway(&self, links: &Links) -> Option<Gateway> {
        let device = (self.index != 0).then(|| device(links, self.index));
        self.gateway.map(|address| Gateway {
            address,
            device,
            onlink: self.onlink,
        })
    }
}

fn device(links: &Links, index: u32) -> String {
    links
        .index(index)
        .map_or_else(|| format!("if{index}"), |link| link.name.clone())
}

/// A wanted target, in normal form. Where it leaves the device open, any will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted(RouteTarget);

impl Wanted {
    pub(super) fn new(target: RouteTarget) -> Self {
        Wanted(normalise(target))
    }

    pub(super) fn target(&self) -> &RouteTarget {
        &self.0
    }
}

/// A route of ours in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) target: Option<RouteTarget>,
    pub(super) record: RouteRecord,
}

impl Installed {
    pub(super) fn new(record: RouteRecord, links: &Links) -> Self {
        Installed {
            target: record.target(links),
            record,
        }
    }
}

impl PartialEq<Installed> for Wanted {
    fn eq(&self, installed: &Installed) -> bool {
        match (&self.0, &installed.target) {
            (RouteTarget::Gateways(wanted), Some(RouteTarget::Gateways(actual))) => {
                wanted.len() == actual.len()
                    && wanted
                        .iter()
                        .zip(actual)
                        .all(|(wanted, actual)| satisfies(wanted, actual))
            }
            (wanted, Some(actual)) => wanted == actual,
            (_, None) => false,
        }
    }
}

fn satisfies(wanted: &Gateway, actual: &Gateway) -> bool {
    wanted.address == actual.address
        && wanted.onlink == actual.onlink
        && (wanted.device.is_none() || wanted.device == actual.device)
}

/// Gateways have no order and no doubles.
fn normalise(target: RouteTarget) -> RouteTarget {
    match target {
        RouteTarget::Gateways(mut gateways) => {
            gateways.sort();
            gateways.dedup();
            RouteTarget::Gateways(gateways)
        }
        other => other,
    }
}

/// The routes of our table that are not ours.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    routes: BTreeMap<IpNet, Vec<RouteRecord>>,
}

impl Foreign {
    pub(super) fn insert(&mut self, record: RouteRecord) {
        let routes = self.routes.entry(record.key.prefix).or_default();
        if !routes.contains(&record) {
            routes.push(record);
        }
    }

    /// Takes one away; false where it was not there.
    pub(super) fn remove(&mut self, record: &RouteRecord) -> bool {
        let Some(routes) = self.routes.get_mut(&record.key.prefix) else {
            return false;
        };
        let before = routes.len();
        routes.retain(|route| route != record);
        let removed = routes.len() < before;
        if routes.is_empty() {
            self.routes.remove(&record.key.prefix);
        }
        removed
    }

    /// Takes away all with that key; returns how many there were.
    pub(super) fn remove_key(&mut self, key: &RouteKey) -> usize {
        let Some(routes) = self.routes.get_mut(&key.prefix) else {
            return 0;
        };
        let before = routes.len();
        routes.retain(|route| route.key != *key);
        before - routes.len()
    }

    /// Keeps those that `keep` says, and returns the keys of the others.
    pub(super) fn retain(&mut self, keep: impl Fn(&RouteRecord) -> bool) -> Vec<RouteKey> {
        let mut gone = Vec::new();
        self.routes.retain(|_, routes| {
            gone.extend(routes.iter().filter(|route| !keep(route)).map(|route| route.key));
            routes.retain(&keep);
            !routes.is_empty()
        });
        gone
    }

    /// The route that stands in the way of ours.
    pub(super) fn conflict(&self, key: &RouteKey) -> Option<&RouteRecord> {
        self.routes
            .get(&key.prefix)?
            .iter()
            .find(|route| route.key == *key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RouteRecord> {
        self.routes.values().flatten()
    }

    /// The route a packet to `address` would follow if ours did not exist: longest prefix, then lowest metric.
    pub(super) fn lookup(&self, address: IpAddr) -> Option<&RouteRecord> {
        let host = IpNet::from(address);
        (0..=host.prefix_len()).rev().find_map(|length| {
            let prefix = IpNet::new(address, length).ok()?.trunc();
            self.routes
                .get(&prefix)?
                .iter()
                .min_by_key(|route| route.key.metric)
        })
    }
}

/// A protocol number's name, as `ip route` prints it.
pub(super) fn protocol_name(protocol: u8) -> String {
    let known = match protocol {
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        other => return other.to_string(),
    };
    known.to_owned()
}
