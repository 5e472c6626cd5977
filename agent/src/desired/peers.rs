//! Which sessions the speaker should have: the mesh of nodes, and the BGPPeers that select this node.
//!
//! A session carries its own family, as Calico's do: IPv4 over IPv4, IPv6 over IPv6.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bgp::{Asn, NextHopMode, PeerConfig};
use datastore::{
    selector::Selector,
    types::{BgpConfigurationSpec, BgpPeer, BindMode, Node, NodeAddress, annotation},
};
use ipnet::IpNet;

use super::{Bgp, Peer, passwords, unsupported};
use crate::{
    admin::types::{PeerKind, Problem},
    snapshot::Snapshot,
};

/// AS number where neither BGPConfiguration nor the node gives one.
const DEFAULT_AS: u32 = 64512;

/// Name of the BGPConfiguration that holds for all nodes.
const DEFAULT_CONFIGURATION: &str = "default";

/// The speaker's settings; absent before everything they depend on is known, for a speaker that starts with half of
/// its routes would make its peers forget the other half.
pub fn bgp(snapshot: &Snapshot, problems: &mut BTreeSet<Problem>) -> Option<Bgp> {
    if !snapshot.waiting_for().is_empty() {
        return None;
    }
    let router_id = snapshot.addresses.router_id()?;
    let settings = snapshot
        .bgp_configurations
        .all
        .get(DEFAULT_CONFIGURATION)
        .map(|object| object.spec.clone());
    let settings = settings.unwrap_or_default();
    let global_as = settings.as_number.map_or(DEFAULT_AS, |number| number.0);
    let context = Context {
        snapshot,
        global_as,
        local_as: snapshot.own_node().and_then(node_as).unwrap_or(global_as),
        port: settings.listen_port.unwrap_or(bgp::BGP_PORT),
    };
    let mut peers: BTreeMap<IpAddr, Option<Peer>> = BTreeMap::new();
    if settings.node_to_node_mesh_enabled.unwrap_or(true) {
        match passwords::of_mesh(snapshot, &settings) {
            Ok(password) => peers.extend(context.mesh(password.as_ref())),
            Err(why) => {
                let message = format!("{why}; the sessions of the mesh are not made");
                let about = format!("BGPConfiguration \"{DEFAULT_CONFIGURATION}\"");
                problems.insert(Problem::new(about, message));
            }
        }
    }
    // A BGPPeer says more than the mesh does: where both name an address, it holds, be it that there is no session.
    for peer in snapshot.bgp_peers.all.values() {
        peers.extend(context.explicit(peer, problems));
    }
    let made = |(address, peer): (IpAddr, Option<Peer>)| Some((address, peer?));
    Some(Bgp {
        local_as: context.local_as,
        router_id,
        listen: listen(&settings, &context),
        peers: peers.into_iter().filter_map(made).collect(),
    })
}

fn listen(settings: &BgpConfigurationSpec, context: &Context<'_>) -> Vec<SocketAddr> {
    let any = |address: IpNet| match address {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let own_only = settings.bind_mode == Some(BindMode::NodeIP);
    let addresses = context.snapshot.addresses.iter();
    let hosts = addresses.map(|address| if own_only { address.addr() } else { any(address) });
    hosts.map(|host| SocketAddr::new(host, context.port)).collect()
}

struct Context<'a> {
    snapshot: &'a Snapshot,
    global_as: u32,
    local_as: u32,
    /// Where nodes listen.
    port: u16,
}

impl Context<'_> {
    /// Every other node that is not a route reflector, if this one is not.
    fn mesh(&self, password: Option<&bgp::Password>) -> Vec<(IpAddr, Option<Peer>)> {
        if self.snapshot.own_node().is_some_and(is_route_reflector) {
            return Vec::new();
        }
        let others = self
            .snapshot
            .nodes
            .all
            .values()
            .filter(|node| node.metadata.name != self.snapshot.node);
        others
            .filter(|node| !is_route_reflector(node))
            .flat_map(|node| self.sessions_with(node, password))
            .collect()
    }

    fn sessions_with(&self, node: &Node, password: Option<&bgp::Password>) -> Vec<(IpAddr, Option<Peer>)> {
        let session = |address: IpAddr| {
            let own = self.snapshot.addresses.of_family_of(address)?;
            let mut config = self.base(
                &node.metadata.name,
                address,
                node_as(node).unwrap_or(self.global_as),
            );
            // One side of each pair waits, as Calico's nodes do: no collisions in a mesh that starts together.
            config.passive = own > address;
            config.password = password.cloned();
            let kind = PeerKind::Mesh;
            Some((address, Some(Peer { kind, config })))
        };
        node_addresses(node).into_iter().filter_map(session).collect()
    }

    /// The addresses a BGPPeer names as this node's peers; with none where there can be no session.
    fn explicit(&self, peer: &BgpPeer, problems: &mut BTreeSet<Problem>) -> Vec<(IpAddr, Option<Peer>)> {
        let mut report = |message: String| {
            problems.insert(Problem::new(
                format!("BGPPeer \"{}\"", peer.metadata.name),
                message,
            ));
        };
        let kind = match self.selects_this_node(peer) {
            Ok(Some(kind)) => kind,
            Ok(None) => return Vec::new(),
            Err(error) => {
                report(error);
                return Vec::new();
            }
        };
        for field in unsupported::of_peer(&peer.spec) {
            report(format!(
                "{field} is not supported by this version; the session runs without it"
            ));
        }
        let password = passwords::of_peer(self.snapshot, &peer.spec);
        if let Err(why) = &password {
            report(format!("{why}; the session is not made"));
        }
        let remotes = self.remotes(peer).unwrap_or_else(|error| {
            report(error);
            Vec::new()
        });
        let sessions = remotes.into_iter().filter_map(|(address, port, remote_as)| {
            if self.snapshot.addresses.of_family_of(address).is_none() {
                report(format!("{address}: this node has no address of that family"));
                return None;
            }
            let session = |password: &Option<bgp::Password>| {
                let mut session =
                    self.explicit_session(peer, kind, SocketAddr::new(address, port), remote_as);
                session.config.password.clone_from(password);
                session
            };
            Some((address, password.as_ref().ok().map(session)))
        });
        sessions.collect()
    }

    fn explicit_session(&self, peer: &BgpPeer, kind: PeerKind, remote: SocketAddr, remote_as: u32) -> Peer {
        let spec = &peer.spec;
        let mut config = self.base(&peer.metadata.name, remote.ip(), remote_as);
        config.port = remote.port();
        config.local_as = spec.local_as_number.map(|number| Asn(number.0));
        config.next_hop = next_hop_mode(spec);
        config.allow_own_as = spec
            .num_allowed_local_as_numbers
            .unwrap_or(0)
            .max(0)
            .unsigned_abs();
        if spec.source_address == Some(datastore::types::SourceAddress::None) {
            config.source = None;
        }
        Peer { kind, config }
    }

    fn base(&self, name: &str, address: IpAddr, remote_as: u32) -> PeerConfig {
        let own = self.snapshot.addresses;
        let mut config = PeerConfig::new(name, Asn(remote_as));
        config.port = self.port;
        config.source = own.of_family_of(address);
        config.families = vec![match address {
            IpAddr::V4(_) => bgp::Family::IPV4_UNICAST,
            IpAddr::V6(_) => bgp::Family::IPV6_UNICAST,
        }];
        config.next_hop_v4 = own.v4.map(|net| net.addr());
        config.next_hop_v6 = own.v6.map(|net| net.addr());
        config
    }

    fn selects_this_node(&self, peer: &BgpPeer) -> Result<Option<PeerKind>, String> {
        let spec = &peer.spec;
        if let Some(node) = given(spec.node.as_deref()) {
            return Ok((*node == self.snapshot.node).then_some(PeerKind::NodeSpecific));
        }
        let Some(selector) = given(spec.node_selector.as_deref()) else {
            return Ok(Some(PeerKind::Global));
        };
        let selector: Selector = selector.parse().map_err(|e| format!("spec.nodeSelector: {e}"))?;
        let selected = self
            .snapshot
            .own_node()
            .is_some_and(|node| selector.matches(&node.metadata.labels));
        Ok(selected.then_some(PeerKind::NodeSpecific))
    }

    /// Address, port and AS of everything the BGPPeer names as remote end.
    fn remotes(&self, peer: &BgpPeer) -> Result<Vec<(IpAddr, u16, u32)>, String> {
        let spec = &peer.spec;
        if let Some(text) = given(spec.peer_ip.as_deref()) {
            let (address, port) = parse_remote(text).map_err(|e| format!("spec.peerIP: {e}"))?;
            let remote_as = spec.as_number.map_or(self.global_as, |number| number.0);
            return Ok(vec![(address, port.unwrap_or(bgp::BGP_PORT), remote_as)]);
        }
        let text = given(spec.peer_selector.as_deref())
            .ok_or("neither spec.peerIP nor spec.peerSelector is given")?;
        let selector: Selector = text.parse().map_err(|e| format!("spec.peerSelector: {e}"))?;
        let others = self
            .snapshot
            .nodes
            .all
            .values()
            .filter(|node| node.metadata.name != self.snapshot.node);
        let selected = others.filter(|node| selector.matches(&node.metadata.labels));
        let remotes = selected.flat_map(|node| {
            let remote_as = node_as(node).unwrap_or(self.global_as);
            node_addresses(node)
                .into_iter()
                .map(move |address| (address, self.port, remote_as))
        });
        Ok(remotes.collect())
    }
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
fn parse_remote(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    let socket = || {
        text.parse::<SocketAddr>()
            .map(|socket| (socket.ip(), Some(socket.port())))
    };
    text.parse::<IpAddr>()
        .map(|address| (address, None))
        .or_else(|_| socket())
        .map_err(|_| {
            format!("\"{text}\" is not an address: expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT")
        })
}

fn next_hop_mode(spec: &datastore::types::BgpPeerSpec) -> NextHopMode {
    use datastore::types::NextHopMode as Mode;
    match spec.next_hop_mode {
        Some(Mode::SelfAddress) => NextHopMode::SelfAddress,
        Some(Mode::Keep) => NextHopMode::Keep,
        None if spec.keep_original_next_hop == Some(true) => NextHopMode::Keep,
        Some(Mode::Auto) | None => NextHopMode::Auto,
    }
}

fn is_route_reflector(node: &Node) -> bool {
    node.metadata
        .annotations
        .contains_key(annotation::ROUTE_REFLECTOR_CLUSTER_ID)
}

fn node_as(node: &Node) -> Option<u32> {
    let text = node.metadata.annotations.get(annotation::AS_NUMBER)?;
    text.parse::<datastore::types::AsNumber>()
        .ok()
        .map(|number| number.0)
}

/// The addresses a node is reached at: what its annotations say, else what the kubelet says.
fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let annotated = [annotation::IPV4_ADDRESS, annotation::IPV6_ADDRESS]
        .into_iter()
        .filter_map(|key| {
            let text = node.metadata.annotations.get(key)?;
            text.parse::<IpNet>()
                .map(|net| net.addr())
                .or_else(|_| text.parse())
                .ok()
        });
    let annotated: Vec<IpAddr> = annotated.collect();
    if !annotated.is_empty() {
        return annotated;
    }
    let internal = |address: &&NodeAddress| address.address_type == "InternalIP";
    node.status
        .addresses
        .iter()
        .filter(internal)
        .filter_map(|address| address.address.parse().ok())
        .collect()
}
