//! What the node should look like: a pure function of a [`Snapshot`].
//!
//! It never looks at history, so the order in which things arrive cannot matter; whoever applies it works out what
//! differs from what is there. One file a concern: [`blocks`], [`encapsulation`], [`passwords`], [`peers`],
//! [`routes`].

pub mod blocks;
pub mod encapsulation;
pub mod passwords;
pub mod peers;
pub mod routes;
#[cfg(test)]
mod tests;
pub mod unsupported;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use bgp::{LocalRoute, NextHopState, PeerConfig};
use ipnet::IpNet;

use self::encapsulation::Encapsulation;
use crate::{
    admin::types::{PeerKind, Problem},
    kernel::{NextHop, Removal, Routes},
    snapshot::Snapshot,
};

/// What the node should look like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// Routes with our protocol number.
    pub routes: Arc<Routes>,
    /// Which other routes of ours may be deleted now.
    pub removal: Removal,
    /// The speaker's settings; absent until the node's address and the configuration are known.
    pub bgp: Option<Bgp>,
    /// Prefixes to announce.
    pub announced: BTreeMap<IpNet, LocalRoute>,
    /// Next hops the kernel is to look up.
    pub tracked: BTreeSet<IpAddr>,
    /// What the lookup means for the choice of paths.
    pub reachability: BTreeMap<IpAddr, NextHopState>,
    /// What cannot be as the configuration asks.
    pub problems: BTreeSet<Problem>,
}

/// The speaker's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Bgp {
    /// This node's AS.
    pub local_as: u32,
    /// BGP identifier.
    pub router_id: std::net::Ipv4Addr,
    /// Where to listen.
    pub listen: Vec<std::net::SocketAddr>,
    /// Peers, by address.
    pub peers: BTreeMap<IpAddr, Peer>,
}

/// A peer, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Where it comes from.
    pub kind: PeerKind,
    /// Settings of its session.
    pub config: PeerConfig,
}

/// What the node should look like.
pub fn desired(snapshot: &Snapshot) -> Desired {
    let mut problems = invalid_objects(snapshot);
    unsupported::report(snapshot, &mut problems);
    let own_blocks = blocks::own_blocks(snapshot);
    problems.extend(snapshot.tunnel.problems.iter().cloned());
    let bgp = peers::bgp(snapshot, &mut problems);
    let encapsulation = Encapsulation::new(snapshot);
    Desired {
        routes: Arc::new(routes::routes(
            snapshot,
            &own_blocks,
            &encapsulation,
            &mut problems,
        )),
        removal: routes::removal(snapshot, &encapsulation),
        announced: blocks::announced(snapshot, &own_blocks),
        tracked: snapshot
            .learned
            .values()
            .flat_map(|route| route.next_hops.iter().copied())
            .collect(),
        reachability: snapshot
            .next_hops
            .iter()
            .map(|(hop, found)| (*hop, reachability(found)))
            .collect(),
        bgp,
        problems,
    }
}

fn reachability(found: &NextHop) -> NextHopState {
    match found {
        NextHop::Connected { .. } => NextHopState::Reachable {
            metric: 0,
            gateway: None,
        },
        // One hop further away: a peer in our own subnet is preferred (RFC 4271, 9.1.2.2 e).
        NextHop::Via { gateway, .. } => NextHopState::Reachable {
            metric: 1,
            gateway: Some(*gateway),
        },
        NextHop::Unreachable | NextHop::Local => NextHopState::Unreachable,
    }
}

fn invalid_objects(snapshot: &Snapshot) -> BTreeSet<Problem> {
    let kinds = [
        &snapshot.nodes.invalid,
        &snapshot.pools.invalid,
        &snapshot.affinities.invalid,
        &snapshot.bgp_configurations.invalid,
        &snapshot.bgp_peers.invalid,
        &snapshot.secrets.invalid,
    ];
    let about = |invalid: &datastore::Invalid| format!("{} \"{}\"", invalid.kind, invalid.name);
    let all = kinds.into_iter().flat_map(|kind| kind.values());
    all.map(|invalid| Problem::new(about(invalid), format!("not in force: {invalid}")))
        .collect()
}
