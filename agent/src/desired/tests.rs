//! `desired` as lists of states: each test builds a snapshot the way a cluster looks and says what must follow.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use bgp::NextHopState;
use cni::protocol::AttachmentId;
use datastore::types::{
    AffinityState, BgpConfiguration, BgpConfigurationSpec, BgpPeer, BgpPeerSpec, BlockAffinity,
    BlockAffinitySpec, IpPool, IpPoolSpec, Node, annotation,
};
use ipnet::IpNet;

use super::*;
use crate::{
    attachments::{Attachment, State},
    cache::Objects,
    kernel::{Gateway, RouteTarget},
    snapshot::NodeAddresses,
};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn objects<T>(all: impl IntoIterator<Item = (String, T)>) -> Objects<T> {
    Objects {
        synced: true,
        all: Arc::new(all.into_iter().collect()),
        invalid: Arc::default(),
        refused: None,
    }
}

fn node(name: &str, address: &str, labels: &[(&str, &str)]) -> (String, Node) {
    let mut node = Node::new(name);
    node.metadata
        .annotations
        .insert(annotation::IPV4_ADDRESS.into(), address.into());
    node.metadata.labels = labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    (name.to_string(), node)
}

fn affinity(node: &str, cidr: &str, state: AffinityState) -> (String, BlockAffinity) {
    let spec = BlockAffinitySpec {
        state,
        node: node.into(),
        affinity_type: Some("host".into()),
        cidr: net(cidr),
        deleted: "false".into(),
    };
    let name = format!("{node}-{}", cidr.replace(['.', ':', '/'], "-"));
    (name.clone(), BlockAffinity::new(name, spec))
}

fn attachment(container: &str, device: &str, order: u64, addresses: &[&str]) -> (AttachmentId, Attachment) {
    let id = AttachmentId {
        container_id: container.into(),
        ifname: "eth0".into(),
    };
    let attachment = Attachment {
        id: id.clone(),
        handle: format!("net.{container}"),
        pod: None,
        host_device: device.into(),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        boot_id: "boot".into(),
        order,
        state: State::Active,
    };
    (id, attachment)
}

/// Node a of three; a and b in one subnet, c in another; a has one block.
pub(super) fn cluster() -> Snapshot {
    Snapshot {
        node: "a".into(),
        addresses: NodeAddresses {
            v4: Some("192.168.33.11/24".parse().unwrap()),
            v6: None,
        },
        nodes: objects([
            node("a", "192.168.33.11/24", &[("rack", "a")]),
            node("b", "192.168.33.12/24", &[("rack", "a")]),
            node("c", "192.168.34.11/24", &[("rack", "b")]),
        ]),
        pools: objects([(
            "pool".to_string(),
            IpPool::new("pool", IpPoolSpec::new(net("10.233.64.0/18"))),
        )]),
        affinities: objects([
            affinity("a", "10.233.64.0/26", AffinityState::Confirmed),
            affinity("a", "10.233.64.64/26", AffinityState::Pending),
            affinity("b", "10.233.65.0/26", AffinityState::Confirmed),
        ]),
        bgp_configurations: objects([]),
        bgp_peers: objects([]),
        secrets: objects([]),
        namespace: "kube-system".into(),
        ..Snapshot::default()
    }
}

pub(super) fn peer(name: &str, change: impl FnOnce(&mut BgpPeerSpec)) -> (String, BgpPeer) {
    let mut spec = BgpPeerSpec {
        as_number: Some("65000".parse().unwrap()),
        ..BgpPeerSpec::default()
    };
    change(&mut spec);
    (name.to_string(), BgpPeer::new(name, spec))
}

fn learn(snapshot: &mut Snapshot, prefix: &str, hop: &str) {
    let route = bgp::BestRoute {
        next_hops: vec![ip(hop)],
        peer: ip("192.168.33.1"),
        external: false,
        as_path: String::new(),
        local_pref: 100,
        med: None,
        communities: Vec::new(),
        large_communities: Vec::new(),
    };
    Arc::make_mut(&mut snapshot.learned).insert(net(prefix), route);
}

fn gateways(hops: &[(&str, &str)]) -> RouteTarget {
    let gateway = |(address, device): &(&str, &str)| Gateway {
        address: ip(address),
        device: Some(device.to_string()),
        onlink: false,
    };
    RouteTarget::Gateways(hops.iter().map(gateway).collect())
}

#[test]
fn only_confirmed_blocks_of_this_node_are_announced_and_blackholed() {
    let wanted = desired(&cluster());
    assert_eq!(
        wanted.announced.keys().copied().collect::<Vec<_>>(),
        [net("10.233.64.0/26")]
    );
    let expected = BTreeMap::from([(net("10.233.64.0/26"), RouteTarget::Blackhole)]);
    assert_eq!(*wanted.routes, expected);
}

#[test]
fn a_block_that_is_being_given_back_or_is_not_a_hosts_is_not_ours() {
    let mut snapshot = cluster();
    let mut virtual_owner = affinity("a", "10.233.66.0/26", AffinityState::Confirmed);
    virtual_owner.1.spec.affinity_type = Some("virtual".into());
    let mut deleted = affinity("a", "10.233.67.0/26", AffinityState::Confirmed);
    deleted.1.spec.deleted = "true".into();
    let going = affinity("a", "10.233.68.0/26", AffinityState::PendingDeletion);
    snapshot.affinities = objects([virtual_owner, deleted, going]);
    assert!(desired(&snapshot).announced.is_empty());
}

#[test]
fn an_affinity_without_a_type_is_a_hosts() {
    let mut snapshot = cluster();
    let mut old = affinity("a", "10.233.66.0/26", AffinityState::Confirmed);
    old.1.spec.affinity_type = None;
    snapshot.affinities = objects([old]);
    assert!(desired(&snapshot).announced.contains_key(&net("10.233.66.0/26")));
}

#[test]
fn a_pod_has_a_route_and_a_borrowed_address_is_announced_by_itself() {
    let mut snapshot = cluster();
    let pods = [
        attachment("one", "cali1", 1, &["10.233.64.5"]),
        attachment("two", "cali2", 2, &["10.233.65.9", "fd00::9"]),
    ];
    snapshot.attachments = Arc::new(BTreeMap::from(pods));
    let wanted = desired(&snapshot);
    assert_eq!(
        wanted.routes[&net("10.233.64.5/32")],
        RouteTarget::device("cali1")
    );
    assert_eq!(
        wanted.routes[&net("10.233.65.9/32")],
        RouteTarget::device("cali2")
    );
    assert_eq!(wanted.routes[&net("fd00::9/128")], RouteTarget::device("cali2"));
    let announced: Vec<IpNet> = wanted.announced.keys().copied().collect();
    assert_eq!(
        announced,
        [net("10.233.64.0/26"), net("10.233.65.9/32"), net("fd00::9/128")]
    );
}

#[test]
fn a_pool_that_is_not_exported_is_not_announced_but_still_routed() {
    let mut snapshot = cluster();
    let mut pool = IpPool::new("pool", IpPoolSpec::new(net("10.233.64.0/18")));
    pool.spec.disable_bgp_export = true;
    snapshot.pools = objects([("pool".to_string(), pool)]);
    let wanted = desired(&snapshot);
    assert!(wanted.announced.is_empty());
    assert!(wanted.routes.contains_key(&net("10.233.64.0/26")));
}

#[test]
fn the_later_of_two_pods_on_one_device_has_it() {
    let mut snapshot = cluster();
    let pods = [
        attachment("new", "cali1", 7, &["10.233.64.8"]),
        attachment("old", "cali1", 3, &["10.233.64.7"]),
    ];
    snapshot.attachments = Arc::new(BTreeMap::from(pods));
    let wanted = desired(&snapshot);
    assert!(wanted.routes.contains_key(&net("10.233.64.8/32")));
    assert!(!wanted.routes.contains_key(&net("10.233.64.7/32")));
}

#[test]
fn learned_routes_go_where_the_kernel_says_their_next_hop_is() {
    let mut snapshot = cluster();
    learn(&mut snapshot, "10.233.65.0/26", "192.168.33.12");
    learn(&mut snapshot, "10.233.96.0/26", "192.168.34.11");
    learn(&mut snapshot, "10.99.0.0/16", "172.16.0.1");
    learn(&mut snapshot, "10.98.0.0/16", "192.168.33.99");
    snapshot.next_hops = Arc::new(BTreeMap::from([
        (
            ip("192.168.33.12"),
            NextHop::Connected {
                device: "eth0".into(),
            },
        ),
        (
            ip("192.168.34.11"),
            NextHop::Via {
                gateway: ip("192.168.33.1"),
                device: "eth0".into(),
            },
        ),
        (ip("172.16.0.1"), NextHop::Unreachable),
    ]));
    let wanted = desired(&snapshot);
    assert_eq!(
        wanted.routes[&net("10.233.65.0/26")],
        gateways(&[("192.168.33.12", "eth0")])
    );
    assert_eq!(
        wanted.routes[&net("10.233.96.0/26")],
        gateways(&[("192.168.33.1", "eth0")])
    );
    assert!(!wanted.routes.contains_key(&net("10.99.0.0/16")));
    let about: Vec<&str> = wanted
        .problems
        .iter()
        .map(|problem| problem.about.as_str())
        .collect();
    assert_eq!(
        about,
        ["route 10.99.0.0/16"],
        "what is not looked up yet is not a problem yet"
    );
    assert_eq!(wanted.reachability[&ip("172.16.0.1")], NextHopState::Unreachable);
    assert_eq!(wanted.tracked.len(), 4);
}

#[test]
fn nobody_elses_announcement_takes_a_pod_or_a_block_of_ours_away() {
    let mut snapshot = cluster();
    snapshot.attachments = Arc::new(BTreeMap::from([attachment("one", "cali1", 1, &["10.233.64.5"])]));
    learn(&mut snapshot, "10.233.64.0/26", "192.168.33.12");
    learn(&mut snapshot, "10.233.64.5/32", "192.168.33.12");
    let reach = BTreeMap::from([(
        ip("192.168.33.12"),
        NextHop::Connected {
            device: "eth0".into(),
        },
    )]);
    snapshot.next_hops = Arc::new(reach);
    let wanted = desired(&snapshot);
    assert_eq!(wanted.routes[&net("10.233.64.0/26")], RouteTarget::Blackhole);
    assert_eq!(
        wanted.routes[&net("10.233.64.5/32")],
        RouteTarget::device("cali1")
    );
}

#[test]
fn nothing_is_deleted_before_the_first_sync_and_no_gateway_before_bgp_has_converged() {
    let mut snapshot = cluster();
    assert_eq!(desired(&snapshot).removal, Removal::HoldGateways);
    snapshot.bgp_converged = true;
    assert_eq!(desired(&snapshot).removal, Removal::Allow);
    // Routes may arrive with the end of convergence: until they can be installed, an earlier agent's must stay.
    learn(&mut snapshot, "10.233.96.0/24", "192.168.34.11");
    assert_eq!(desired(&snapshot).removal, Removal::HoldGateways);
    snapshot.next_hops = Arc::new(BTreeMap::from([(ip("192.168.34.11"), NextHop::Unreachable)]));
    assert_eq!(desired(&snapshot).removal, Removal::Allow);
    snapshot.bgp_peers.synced = false;
    let wanted = desired(&snapshot);
    assert_eq!(wanted.removal, Removal::Hold);
    assert!(
        wanted.bgp.is_none(),
        "a speaker that starts without all its routes makes peers forget them"
    );
}

#[test]
fn the_mesh_has_every_other_node_and_one_side_of_each_pair_waits() {
    let wanted = desired(&cluster()).bgp.unwrap();
    assert_eq!(wanted.local_as, 64512);
    assert_eq!(wanted.router_id.to_string(), "192.168.33.11");
    assert_eq!(wanted.listen, ["0.0.0.0:179".parse().unwrap()]);
    let peers: Vec<_> = wanted
        .peers
        .iter()
        .map(|(a, p)| (a.to_string(), p.config.name.as_str()))
        .collect();
    assert_eq!(
        peers,
        [
            ("192.168.33.12".to_string(), "b"),
            ("192.168.34.11".to_string(), "c")
        ]
    );
    assert!(
        wanted
            .peers
            .values()
            .all(|peer| !peer.config.passive && peer.kind == PeerKind::Mesh)
    );
    let mut seen_from_b = cluster();
    seen_from_b.node = "b".into();
    seen_from_b.addresses.v4 = Some("192.168.33.12/24".parse().unwrap());
    assert!(
        desired(&seen_from_b).bgp.unwrap().peers[&ip("192.168.33.11")]
            .config
            .passive
    );
}

#[test]
fn configuration_steers_as_port_mesh_and_binding() {
    let mut snapshot = cluster();
    let spec = BgpConfigurationSpec {
        as_number: Some("64600".parse().unwrap()),
        listen_port: Some(1790),
        node_to_node_mesh_enabled: Some(false),
        bind_mode: Some(datastore::types::BindMode::NodeIP),
        ..BgpConfigurationSpec::default()
    };
    snapshot.bgp_configurations = objects([("default".to_string(), BgpConfiguration::new("default", spec))]);
    let wanted = desired(&snapshot).bgp.unwrap();
    assert_eq!(wanted.local_as, 64600);
    assert_eq!(wanted.listen, ["192.168.33.11:1790".parse().unwrap()]);
    assert!(wanted.peers.is_empty());
}

#[test]
fn a_bgp_peer_reaches_the_nodes_it_selects() {
    let mut snapshot = cluster();
    snapshot.bgp_peers = objects([
        peer("for-all", |spec| spec.peer_ip = Some("192.168.33.1".into())),
        peer("rack-a", |spec| {
            spec.peer_ip = Some("192.168.33.2:1790".into());
            spec.node_selector = Some("rack == 'a'".into());
        }),
        peer("rack-b", |spec| {
            spec.peer_ip = Some("192.168.33.3".into());
            spec.node_selector = Some("rack == 'b'".into());
        }),
        peer("by-name", |spec| {
            spec.peer_ip = Some("192.168.33.4".into());
            spec.node = Some("a".into());
        }),
    ]);
    let peers = desired(&snapshot).bgp.unwrap().peers;
    assert_eq!(peers[&ip("192.168.33.1")].kind, PeerKind::Global);
    assert_eq!(peers[&ip("192.168.33.1")].config.remote_as, bgp::Asn(65000));
    assert_eq!(peers[&ip("192.168.33.2")].kind, PeerKind::NodeSpecific);
    assert_eq!(peers[&ip("192.168.33.2")].config.port, 1790);
    assert!(!peers.contains_key(&ip("192.168.33.3")));
    assert!(peers.contains_key(&ip("192.168.33.4")));
}

#[test]
fn what_is_not_supported_is_said_by_name() {
    let mut snapshot = cluster();
    snapshot.bgp_peers = objects([
        peer("hops", |spec| {
            spec.peer_ip = Some("192.168.33.1".into());
            spec.reachable_by = Some("192.168.33.254".into());
        }),
        peer("six", |spec| spec.peer_ip = Some("fd00::1".into())),
    ]);
    let wanted = desired(&snapshot);
    let said: Vec<String> = wanted
        .problems
        .iter()
        .map(|p| format!("{}: {}", p.about, p.message))
        .collect();
    assert!(
        said[0].starts_with("BGPPeer \"hops\": spec.reachableBy is not supported"),
        "{said:?}"
    );
    assert!(said[1].contains("no address of that family"), "{said:?}");
    assert!(wanted.bgp.unwrap().peers.contains_key(&ip("192.168.33.1")));
}

#[test]
fn what_a_pool_asks_for_and_nobody_does_is_said() {
    let mut snapshot = cluster();
    let mut pool = IpPool::new("pool", IpPoolSpec::new(net("10.233.64.0/18")));
    pool.spec.nat_outgoing = true;
    snapshot.pools = objects([("pool".to_string(), pool.clone())]);
    let problems = desired(&snapshot).problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|p| p.about == "IPPool \"pool\"" && p.message.contains("spec.natOutgoing"))
    );
    pool.spec.disabled = true;
    snapshot.pools = objects([("pool".to_string(), pool)]);
    assert!(
        desired(&snapshot).problems.is_empty(),
        "a disabled pool asks for nothing"
    );
}

#[test]
fn what_the_bgp_configuration_asks_for_and_nobody_does_is_said() {
    let mut snapshot = cluster();
    let spec = BgpConfigurationSpec {
        ignored_interfaces: vec!["eth9".into()],
        ..BgpConfigurationSpec::default()
    };
    let named = |name: &str| (name.to_string(), BgpConfiguration::new(name, spec.clone()));
    snapshot.bgp_configurations = objects([named("default"), named("node.a"), named("node.b")]);
    let said: Vec<String> = desired(&snapshot)
        .problems
        .into_iter()
        .map(|p| format!("{}: {}", p.about, p.message))
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("BGPConfiguration \"default\": spec.ignoredInterfaces is not"),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("BGPConfiguration \"node.a\": settings of one node"),
        "{said:?}"
    );
}

#[test]
fn a_route_reflector_is_not_in_the_mesh() {
    let mut snapshot = cluster();
    let mut nodes = (*snapshot.nodes.all).clone();
    let reflector = nodes.get_mut("c").unwrap();
    reflector
        .metadata
        .annotations
        .insert(annotation::ROUTE_REFLECTOR_CLUSTER_ID.into(), "1.0.0.1".into());
    snapshot.nodes = objects(nodes);
    let peers = desired(&snapshot).bgp.unwrap().peers;
    assert_eq!(peers.keys().copied().collect::<Vec<_>>(), [ip("192.168.33.12")]);
}
