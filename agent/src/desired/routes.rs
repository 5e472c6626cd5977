//! Which routes of ours the kernel should have: pods, blackholes for the node's blocks, and what BGP has learned.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bgp::BestRoute;
use ipnet::IpNet;

use super::encapsulation::{self, Encapsulation, Way};
use crate::{
    admin::types::Problem,
    attachments::{Attachment, State},
    kernel::{Gateway, NextHop, Removal, RouteTarget, Routes},
    snapshot::Snapshot,
};

/// All routes. Where two claim a prefix, the pod has it, then the blackhole, then BGP.
pub fn routes(
    snapshot: &Snapshot,
    own_blocks: &BTreeSet<IpNet>,
    encapsulation: &Encapsulation<'_>,
    problems: &mut BTreeSet<Problem>,
) -> Routes {
    let mut routes = learned_routes(snapshot, encapsulation, problems);
    // A block of one address is its pod's route or nothing; every other one must not loop through the default route.
    let blackholed = own_blocks
        .iter()
        .filter(|block| block.prefix_len() < block.max_prefix_len());
    routes.extend(blackholed.map(|block| (*block, RouteTarget::Blackhole)));
    routes.extend(pod_routes(snapshot));
    routes
}

/// What may be deleted: nothing before the first full sync; learned routes of an earlier run not before BGP has
/// converged, so that a restart of the agent takes no route away; none of those that wait for the tunnel, or for the
/// kernel to say how their next hop is reached.
pub fn removal(snapshot: &Snapshot, encapsulation: &Encapsulation<'_>) -> Removal {
    if !snapshot.waiting_for().is_empty() {
        Removal::Hold
    } else if snapshot.bgp_converged && !encapsulation.is_waiting() && all_next_hops_are_known(snapshot) {
        Removal::Allow
    } else {
        Removal::HoldGateways
    }
}

/// A next hop that is not reachable is known, too.
fn all_next_hops_are_known(snapshot: &Snapshot) -> bool {
    let mut hops = snapshot.learned.values().flat_map(|route| &route.next_hops);
    hops.all(|hop| snapshot.next_hops.contains_key(hop))
}

fn pod_routes(snapshot: &Snapshot) -> impl Iterator<Item = (IpNet, RouteTarget)> {
    let device = |name: &str| RouteTarget::Device {
        name: name.to_string(),
    };
    let owners = device_owners(snapshot).into_values();
    owners.flat_map(move |attachment| {
        let target = device(&attachment.host_device);
        attachment
            .addresses
            .iter()
            .map(move |address| (IpNet::from(*address), target.clone()))
    })
}

/// A pod that is created anew under its old name has the device of its predecessor, which may be known here a little
/// longer: the later one has it.
fn device_owners(snapshot: &Snapshot) -> BTreeMap<&str, &Attachment> {
    let mut owners: BTreeMap<&str, &Attachment> = BTreeMap::new();
    for attachment in snapshot
        .attachments
        .values()
        .filter(|attachment| attachment.state == State::Active)
    {
        let owner = owners.entry(&attachment.host_device).or_insert(attachment);
        if owner.order < attachment.order {
            *owner = attachment;
        }
    }
    owners
}

fn learned_routes(
    snapshot: &Snapshot,
    encapsulation: &Encapsulation<'_>,
    problems: &mut BTreeSet<Problem>,
) -> Routes {
    let mut routes = Routes::new();
    for (prefix, route) in snapshot.learned.iter() {
        match gateways(snapshot, encapsulation, prefix, route) {
            Ok(gateways) => {
                routes.insert(*prefix, RouteTarget::Gateways(gateways));
            }
            // Not looked up yet (the kernel's answer brings us back here), or it waits for the tunnel.
            Err(None) => {}
            Err(Some(hop)) => {
                let message = format!(
                    "the next hop {hop}, announced by {}, is not reachable from here",
                    route.peer
                );
                problems.insert(Problem::new(format!("route {prefix}"), message));
            }
        }
    }
    routes
}

/// The reachable ones among a route's next hops; where there is none, one that is not (an address of our own is no
/// way to anywhere else).
fn gateways(
    snapshot: &Snapshot,
    encapsulation: &Encapsulation<'_>,
    prefix: &IpNet,
    route: &BestRoute,
) -> Result<Vec<Gateway>, Option<IpAddr>> {
    let mut gateways = Vec::new();
    let mut unreachable = None;
    for hop in &route.next_hops {
        let way = encapsulation.way(prefix, *hop);
        if way == Way::Later {
            return Err(None);
        }
        let (address, device) = match snapshot.next_hops.get(hop) {
            Some(NextHop::Connected { device }) => (*hop, device),
            Some(NextHop::Via { gateway, device }) => (*gateway, device),
            Some(NextHop::Unreachable | NextHop::Local) => {
                unreachable = Some(*hop);
                continue;
            }
            None => continue,
        };
        let gateway = match way {
            Way::Direct => Gateway {
                address,
                device: Some(device.clone()),
                onlink: false,
            },
            Way::Tunnel(end) => encapsulation::gateway(end),
            Way::Later | Way::Never => continue,
        };
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    if gateways.is_empty() {
        Err(unreachable)
    } else {
        Ok(gateways)
    }
}
