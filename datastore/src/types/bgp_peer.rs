//! `BGPPeer`: who peers with whom.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    rules::{self, given},
    values::{AsNumber, GoDuration, Password},
};
use crate::{FieldError, Metadata};

/// Who peers with whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeer {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `BGPPeer`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// The two sides and their session.
    pub spec: BgpPeerSpec,
}

super::calico_resource!(BgpPeer, BgpPeerSpec, "BGPPeer", "bgppeers", validate: validate);

/// Spec of a [`BgpPeer`]. Our side is `node` or `nodeSelector`, or every node where neither is given; the other side
/// is `peerIP` or `peerSelector`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// The one node that has this peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The nodes that have this peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// The peer: `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
    #[serde(rename = "peerIP", skip_serializing_if = "Option::is_none")]
    pub peer_ip: Option<String>,
    /// The nodes that are peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_selector: Option<String>,
    /// The peer's AS; default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// The AS we show to this peer.
    #[serde(rename = "localASNumber", skip_serializing_if = "Option::is_none")]
    pub local_as_number: Option<AsNumber>,
    /// The older form of `nextHopMode: Keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_original_next_hop: Option<bool>,
    /// Which next hop is announced to this peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// Password of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Our address in the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,
    /// How long the peer's routes are kept while it restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<GoDuration>,
    /// Between two KEEPALIVE messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<GoDuration>,
    /// How often our own AS may be in a received AS_PATH.
    #[schemars(range(min = 0))]
    #[serde(rename = "numAllowedLocalASNumbers", skip_serializing_if = "Option::is_none")]
    pub num_allowed_local_as_numbers: Option<i32>,
    /// Generalised TTL security (RFC 5082): the peer is at most this many hops away.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// Gateway through which the peer is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable_by: Option<String>,
    /// Names of BGPFilters, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// Whether the peering exists in the other direction too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<ReversePeering>,
}

/// Which next hop is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NextHopMode {
    /// By the rules of RFC 4271, section 5.1.3.
    Auto,
    /// Our address.
    #[serde(rename = "Self")]
    SelfAddress,
    /// The one the route came with.
    Keep,
}

/// Our address in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceAddress {
    /// The node's.
    UseNodeIP,
    /// What the kernel chooses.
    None,
}

/// Whether a peering exists in the other direction too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReversePeering {
    /// Yes, between nodes.
    Auto,
    /// Only if another BGPPeer says so.
    Manual,
}

fn validate(object: &BgpPeer) -> Result<(), FieldError> {
    let spec = &object.spec;
    let both = |a: &Option<String>, b: &Option<String>| given(a).is_some() && given(b).is_some();
    rules::rule(
        !both(&spec.node, &spec.node_selector),
        "spec.nodeSelector",
        "not together with spec.node: give one of them, or neither for every node",
    )?;
    rules::rule(
        !both(&spec.peer_ip, &spec.peer_selector),
        "spec.peerSelector",
        "not together with spec.peerIP: give one of them",
    )?;
    rules::rule(
        given(&spec.peer_ip).is_some() || given(&spec.peer_selector).is_some(),
        "spec.peerIP",
        "missing: give spec.peerIP, or spec.peerSelector to choose nodes as peers",
    )?;
    rules::rule(
        given(&spec.peer_selector).is_none() || spec.as_number.is_none(),
        "spec.asNumber",
        "not together with spec.peerSelector: nodes have their own AS numbers",
    )?;
    rules::rule(
        spec.keep_original_next_hop != Some(true) || spec.next_hop_mode.is_none(),
        "spec.keepOriginalNextHop",
        "not together with spec.nextHopMode: give spec.nextHopMode: Keep alone",
    )?;
    if let Some(peer) = given(&spec.peer_ip) {
        validate_address(peer)?;
    }
    rules::selector("spec.nodeSelector", given(&spec.node_selector))?;
    rules::selector("spec.peerSelector", given(&spec.peer_selector))?;
    validate_session(spec)
}

fn validate_session(spec: &BgpPeerSpec) -> Result<(), FieldError> {
    rules::as_number("spec.asNumber", spec.as_number)?;
    rules::as_number("spec.localASNumber", spec.local_as_number)?;
    rules::password("spec.password", &spec.password)?;
    rules::rule(
        spec.num_allowed_local_as_numbers.unwrap_or(0) >= 0,
        "spec.numAllowedLocalASNumbers",
        "negative: expected 0 or more",
    )?;
    rules::rule(
        spec.ttl_security != Some(0),
        "spec.ttlSecurity",
        "0 hops: expected 1 to 255",
    )?;
    if let Some(gateway) = given(&spec.reachable_by) {
        let message = format_args!("\"{gateway}\" is not an address");
        rules::rule(gateway.parse::<IpAddr>().is_ok(), "spec.reachableBy", message)?;
    }
    for (at, filter) in spec.filters.iter().enumerate() {
        rules::rule(
            !filter.is_empty(),
            format!("spec.filters[{at}]"),
            "empty: expected a BGPFilter's name",
        )?;
    }
    Ok(())
}

fn validate_address(text: &str) -> Result<(), FieldError> {
    let with_port = text.parse::<SocketAddr>();
    let good = text.parse::<IpAddr>().is_ok() || with_port.is_ok_and(|at| at.port() != 0);
    rules::rule(
        good,
        "spec.peerIP",
        format_args!("\"{text}\" is not an address: expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT"),
    )
}
