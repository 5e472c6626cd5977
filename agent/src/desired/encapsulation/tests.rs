//! The mode of the pool, the place of the node and the state of the tunnel at both ends, in all that matters.

use std::sync::Arc;

use bgp::BestRoute;
use datastore::types::{IpPool, IpPoolSpec};

use super::*;
use crate::{
    cache::Objects,
    desired::desired,
    kernel::{NextHop, Removal, RouteTarget},
    snapshot::NodeAddresses,
    tunnel::Tunnel,
};

const NEAR: &str = "10.233.65.0/26";
const FAR: &str = "10.233.96.0/26";
const OUTSIDE: &str = "10.99.0.0/16";

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn objects<T>(all: impl IntoIterator<Item = (String, T)>) -> Objects<T> {
    Objects {
        synced: true,
        all: Arc::new(all.into_iter().collect()),
        ..Objects::default()
    }
}

/// A node whose tunnel has an address, or says nothing of it.
fn node(name: &str, address: &str, tunnel: Option<&str>) -> (String, Node) {
    let mut node = Node::new(name);
    let annotations = &mut node.metadata.annotations;
    annotations.insert(annotation::IPV4_ADDRESS.into(), address.into());
    if let Some(tunnel) = tunnel {
        annotations.insert(annotation::IPV4_IPIP_TUNNEL_ADDR.into(), tunnel.into());
    }
    (name.to_string(), node)
}

fn pool(name: &str, cidr: &str, mode: EncapMode) -> (String, IpPool) {
    let mut spec = IpPoolSpec::new(net(cidr));
    spec.ipip_mode = mode;
    (name.to_string(), IpPool::new(name, spec))
}

fn learned(hop: &str) -> BestRoute {
    BestRoute {
        next_hops: vec![ip(hop)],
        peer: ip(hop),
        external: false,
        as_path: String::new(),
        local_pref: 100,
        med: None,
        communities: Vec::new(),
        large_communities: Vec::new(),
    }
}

fn up(settled: bool) -> Tunnel {
    Tunnel {
        state: TunnelState::Up {
            address: Some("10.233.64.0".parse().unwrap()),
            mtu: 1480,
            settled,
        },
        ..Tunnel::default()
    }
}

/// Node a sees b in its own subnet and c beyond a router that announces a prefix of its own; the tunnel is up
/// everywhere.
fn cluster(mode: EncapMode) -> Snapshot {
    let via = NextHop::Via {
        gateway: ip("192.168.33.1"),
        device: "eth0".into(),
    };
    let on_link = NextHop::Connected {
        device: "eth0".into(),
    };
    Snapshot {
        node: "a".into(),
        addresses: NodeAddresses {
            v4: Some("192.168.33.11/24".parse().unwrap()),
            v6: None,
        },
        nodes: objects([
            node("a", "192.168.33.11/24", Some("10.233.64.0")),
            node("b", "192.168.33.12/24", Some("10.233.65.0")),
            node("c", "192.168.34.11/24", Some("10.233.96.0")),
        ]),
        pools: objects([pool("pool", "10.233.64.0/18", mode)]),
        affinities: objects([]),
        bgp_configurations: objects([]),
        bgp_peers: objects([]),
        learned: Arc::new(BTreeMap::from([
            (net(NEAR), learned("192.168.33.12")),
            (net(FAR), learned("192.168.34.11")),
            (net(OUTSIDE), learned("192.168.33.1")),
        ])),
        bgp_converged: true,
        next_hops: Arc::new(BTreeMap::from([
            (ip("192.168.33.12"), on_link.clone()),
            (ip("192.168.34.11"), via),
            (ip("192.168.33.1"), on_link),
        ])),
        tunnel: up(true),
        ..Snapshot::default()
    }
}

fn target(snapshot: &Snapshot, prefix: &str) -> Option<String> {
    desired(snapshot)
        .routes
        .get(&net(prefix))
        .map(RouteTarget::to_string)
}

const TUNNELLED_NEAR: &str = "via 192.168.33.12 dev tunl0 onlink";
const TUNNELLED_FAR: &str = "via 192.168.34.11 dev tunl0 onlink";
const DIRECT_NEAR: &str = "via 192.168.33.12 dev eth0";
const DIRECT_FAR: &str = "via 192.168.33.1 dev eth0";

#[test]
fn the_mode_says_which_nodes_are_behind_the_tunnel() {
    let cases = [
        (EncapMode::Never, DIRECT_NEAR, DIRECT_FAR),
        (EncapMode::CrossSubnet, DIRECT_NEAR, TUNNELLED_FAR),
        (EncapMode::Always, TUNNELLED_NEAR, TUNNELLED_FAR),
    ];
    for (mode, near, far) in cases {
        let snapshot = cluster(mode);
        assert_eq!(target(&snapshot, NEAR).as_deref(), Some(near), "{mode:?}");
        assert_eq!(target(&snapshot, FAR).as_deref(), Some(far), "{mode:?}");
        assert_eq!(
            target(&snapshot, OUTSIDE).as_deref(),
            Some("via 192.168.33.1 dev eth0"),
            "{mode:?}: a prefix outside every pool"
        );
        assert_eq!(desired(&snapshot).removal, Removal::Allow, "{mode:?}");
    }
}

#[test]
fn the_most_specific_pool_counts_and_a_single_address_follows_its_pool() {
    let mut snapshot = cluster(EncapMode::Always);
    let inner = pool("inner", "10.233.96.0/24", EncapMode::Never);
    snapshot.pools = objects([pool("pool", "10.233.64.0/18", EncapMode::Always), inner]);
    Arc::make_mut(&mut snapshot.learned).insert(net("10.233.70.9/32"), learned("192.168.34.11"));
    assert_eq!(target(&snapshot, FAR).as_deref(), Some(DIRECT_FAR));
    assert_eq!(
        target(&snapshot, "10.233.70.9/32").as_deref(),
        Some(TUNNELLED_FAR)
    );
}

#[test]
fn a_next_hop_that_is_no_node_is_never_behind_the_tunnel() {
    let mut snapshot = cluster(EncapMode::Always);
    Arc::make_mut(&mut snapshot.learned).insert(net(FAR), learned("192.168.33.1"));
    assert_eq!(target(&snapshot, FAR).as_deref(), Some(DIRECT_FAR));
}

#[test]
fn several_paths_each_go_their_way() {
    let mut snapshot = cluster(EncapMode::CrossSubnet);
    let mut route = learned("192.168.33.12");
    route.next_hops.push(ip("192.168.34.11"));
    Arc::make_mut(&mut snapshot.learned).insert(net(FAR), route);
    let both = format!("{DIRECT_NEAR}, {TUNNELLED_FAR}");
    assert_eq!(target(&snapshot, FAR), Some(both));
}

#[test]
fn until_the_tunnel_is_up_the_kernel_keeps_what_it_has() {
    for state in [TunnelState::Starting, TunnelState::Off] {
        let mut snapshot = cluster(EncapMode::CrossSubnet);
        snapshot.tunnel.state = state.clone();
        assert_eq!(target(&snapshot, FAR), None, "{state:?}");
        assert_eq!(target(&snapshot, NEAR).as_deref(), Some(DIRECT_NEAR));
        assert_eq!(desired(&snapshot).removal, Removal::HoldGateways, "{state:?}");
        snapshot.bgp_peers.synced = false;
        assert_eq!(desired(&snapshot).removal, Removal::Hold);
    }
}

#[test]
fn a_node_that_does_not_say_its_tunnel_is_up_is_waited_for_but_not_forever() {
    let mut snapshot = cluster(EncapMode::Always);
    let mut nodes = (*snapshot.nodes.all).clone();
    nodes.extend([node("c", "192.168.34.11/24", None)]);
    snapshot.nodes = objects(nodes);
    snapshot.tunnel = up(false);
    assert_eq!(target(&snapshot, FAR), None);
    assert_eq!(
        target(&snapshot, NEAR).as_deref(),
        Some(TUNNELLED_NEAR),
        "b does say so"
    );
    assert_eq!(desired(&snapshot).removal, Removal::HoldGateways);
    snapshot.tunnel = up(true);
    assert_eq!(target(&snapshot, FAR).as_deref(), Some(TUNNELLED_FAR));
    assert_eq!(desired(&snapshot).removal, Removal::Allow);
}

#[test]
fn a_node_that_cannot_have_a_tunnel_sends_nothing_bare_in_its_place() {
    let mut snapshot = cluster(EncapMode::CrossSubnet);
    snapshot.tunnel = Tunnel {
        state: TunnelState::Unavailable,
        problems: [crate::admin::types::Problem::new("tunnel tunl0", "none")].into(),
    };
    let wanted = desired(&snapshot);
    assert!(!wanted.routes.contains_key(&net(FAR)));
    assert!(wanted.routes.contains_key(&net(NEAR)));
    assert_eq!(wanted.removal, Removal::Allow, "an earlier route goes");
    assert_eq!(wanted.problems, snapshot.tunnel.problems);
}

#[test]
fn a_node_that_cannot_be_reached_is_no_end_of_a_tunnel() {
    let mut snapshot = cluster(EncapMode::Always);
    Arc::make_mut(&mut snapshot.next_hops).insert(ip("192.168.34.11"), NextHop::Unreachable);
    let wanted = desired(&snapshot);
    assert!(!wanted.routes.contains_key(&net(FAR)));
    assert_eq!(wanted.problems.len(), 1, "{:?}", wanted.problems);
}

#[test]
fn a_borrowed_tunnel_address_is_announced_by_itself() {
    let wanted = desired(&cluster(EncapMode::Always));
    assert_eq!(
        wanted.announced.keys().copied().collect::<Vec<_>>(),
        [net("10.233.64.0/32")],
        "no block of this node's has it"
    );
}
