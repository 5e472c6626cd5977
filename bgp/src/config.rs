//! What the operator wants: the speaker, its peers, the routes it originates.
//!
//! Plain values with defaults; nothing here reads files or knows Kubernetes. [`SpeakerConfig::validate`] refuses
//! what could never work, with the peer and the field in the error, so that the last good configuration can stay
//! in force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::password::Password;
use crate::types::{Asn, Family, HoldTime, RouterId};
use crate::wire::{Community, LargeCommunity};

/// The port BGP listens on.
pub const BGP_PORT: u16 = 179;

/// Everything the speaker is told, peers included. Giving it a new one is a sync: only the sessions whose
/// settings differ are touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Our AS number, unless a peer's `local_as` says otherwise.
    pub local_as: Asn,
    /// Our BGP identifier; unique among all speakers.
    pub router_id: RouterId,
    /// Where to accept sessions; empty means no listener.
    pub listen: Vec<SocketAddr>,
    /// We are starting again after a crash or an upgrade: says so to the peers (the R bit, RFC 4724), so that
    /// they do not wait for our End-of-RIB before sending theirs.
    pub restarting: bool,
    /// How long peers shall keep our routes while we are away (RFC 4724; at most 4095 s).
    pub restart_time: Duration,
    /// The kernel keeps forwarding while we are away (the F bit of RFC 4724).
    pub forwarding_preserved: bool,
    /// How long to wait for peers' End-of-RIB before the tables count as converged.
    pub selection_deferral: Duration,
    /// The cluster we reflect routes in (RFC 4456); our router id if not set.
    pub cluster_id: Option<RouterId>,
    /// The peers by address.
    pub peers: BTreeMap<IpAddr, PeerConfig>,
}

impl SpeakerConfig {
    /// A speaker with no listener and no peers; 120 s of restart time.
    pub fn new(local_as: Asn, router_id: RouterId) -> Self {
        Self {
            local_as,
            router_id,
            listen: Vec::new(),
            restarting: false,
            restart_time: Duration::from_secs(120),
            forwarding_preserved: true,
            selection_deferral: Duration::from_secs(60),
            cluster_id: None,
            peers: BTreeMap::new(),
        }
    }

    /// Refuses what could never work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.local_as.0 == 0 {
            return Err(ConfigError::LocalAs);
        }
        if self.router_id.to_u32() == 0 {
            return Err(ConfigError::RouterId);
        }
        if self.restart_time > Duration::from_secs(4095) {
            return Err(ConfigError::RestartTime(self.restart_time.as_secs()));
        }
        self.peers
            .iter()
            .try_for_each(|(address, peer)| peer.validate(*address))
    }

    /// The cluster id of our route reflection.
    pub(crate) fn cluster(&self) -> RouterId {
        self.cluster_id.unwrap_or(self.router_id)
    }
}

/// What the speaker says of itself as next hop to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NextHopMode {
    /// Ourselves towards another AS; unchanged within our own.
    #[default]
    Auto,
    /// Always ourselves.
    SelfAddress,
    /// Always as learned; ourselves only for routes we originate.
    Keep,
}

/// One peer. Its address is its key in [`SpeakerConfig::peers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// For people, as in `mesh/node-b`.
    pub name: String,
    /// The AS the peer must say it is in.
    pub remote_as: Asn,
    /// The AS we say we are in, if not the speaker's.
    pub local_as: Option<Asn>,
    /// Where the peer listens.
    pub port: u16,
    /// The address to connect from.
    pub source: Option<IpAddr>,
    /// Wait for the peer to connect; never connect.
    pub passive: bool,
    /// The hold time we offer: whole seconds, 0 or at least 3.
    pub hold_time: Duration,
    /// What to exchange with the peer.
    pub families: Vec<Family>,
    /// The next hop of what we send.
    pub next_hop: NextHopMode,
    /// Ourselves as an IPv4 next hop; the session's own address if not set.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// Ourselves as an IPv6 next hop; the session's own address if not set.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// Offer graceful restart (RFC 4724), and keep the peer's routes while it restarts.
    pub graceful_restart: bool,
    /// More prefixes than this end the session (Cease/1): a bound on memory, not a policy.
    pub max_prefixes: u32,
    /// A peer of another AS may be more than one hop away; otherwise packets leave with a TTL of 1.
    pub multihop: bool,
    /// Routes learned within our AS are passed on to and from this peer (RFC 4456).
    pub route_reflector_client: bool,
    /// How many times our own AS may stand in a received AS_PATH.
    pub allow_own_as: u32,
    /// Both ends sign with it (RFC 2385). There is no session with a peer that has another one, or none.
    pub password: Option<Password>,
}

impl PeerConfig {
    /// A peer with every setting at its default.
    pub fn new(name: impl Into<String>, remote_as: Asn) -> Self {
        Self {
            name: name.into(),
            remote_as,
            local_as: None,
            port: BGP_PORT,
            source: None,
            passive: false,
            hold_time: Duration::from_secs(HoldTime::DEFAULT.seconds().into()),
            families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
            next_hop: NextHopMode::Auto,
            next_hop_v4: None,
            next_hop_v6: None,
            graceful_restart: true,
            max_prefixes: 1_000_000,
            multihop: true,
            route_reflector_client: false,
            allow_own_as: 0,
            password: None,
        }
    }

    fn validate(&self, address: IpAddr) -> Result<(), ConfigError> {
        let refuse = |field, problem| {
            Err(ConfigError::Peer {
                peer: self.name.clone(),
                address,
                field,
                problem,
            })
        };
        if self.remote_as.0 == 0 {
            return refuse("remote_as", "an AS number is at least 1");
        }
        if self.local_as == Some(Asn(0)) {
            return refuse("local_as", "an AS number is at least 1");
        }
        if self.port == 0 && !self.passive {
            return refuse("port", "a peer to connect to needs a port");
        }
        if self.hold_time().is_none() {
            return refuse("hold_time", "a hold time is 0 or 3 to 65535 whole seconds");
        }
        if !self.families.iter().any(|family| family.is_supported()) {
            return refuse(
                "families",
                "at least one of ipv4-unicast and ipv6-unicast is needed",
            );
        }
        if self
            .source
            .is_some_and(|source| source.is_ipv4() != address.is_ipv4())
        {
            return refuse("source", "the source must be of the peer's own IP version");
        }
        Ok(())
    }

    /// The hold time as the protocol has it; `None` if it is not one.
    pub(crate) fn hold_time(&self) -> Option<HoldTime> {
        if self.hold_time.subsec_nanos() != 0 {
            return None;
        }
        u16::try_from(self.hold_time.as_secs())
            .ok()
            .and_then(|seconds| HoldTime::new(seconds).ok())
    }

    /// The families we can offer, each once.
    pub(crate) fn families(&self) -> BTreeSet<Family> {
        self.families
            .iter()
            .copied()
            .filter(|family| family.is_supported())
            .collect()
    }

    /// Whether a session under `self` must be reset to become one under `new`.
    pub(crate) fn needs_reset(&self, new: &PeerConfig) -> bool {
        // What only steers export or names the peer is applied to the running session.
        let comparable = |config: &PeerConfig| PeerConfig {
            name: String::new(),
            families: config.families().into_iter().collect(),
            next_hop: NextHopMode::Auto,
            next_hop_v4: None,
            next_hop_v6: None,
            max_prefixes: 0,
            route_reflector_client: false,
            ..config.clone()
        };
        comparable(self) != comparable(new)
    }
}

/// A route we originate; the prefix is its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRoute {
    /// Communities to announce it with (RFC 1997).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// Large communities to announce it with (RFC 8092).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large_communities: Vec<LargeCommunity>,
    /// LOCAL_PREF within our AS; 100 if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC towards other ASes; none if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
}

/// What is known of a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NextHopState {
    /// Routes through it may be used; a lower metric is nearer.
    Reachable {
        /// The interior cost to the next hop.
        metric: u32,
        /// The router that packets for it go to first, where it is on no link of ours.
        gateway: Option<IpAddr>,
    },
    /// Routes through it may not be used.
    Unreachable,
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shutdown {
    /// We shall be back: close the connections without a word, so that peers keep forwarding (RFC 4724).
    Restart,
    /// We are leaving: Cease/Administrative Shutdown with words for the operator at the other end (RFC 9003).
    Administrative(String),
}

/// Why a configuration is refused. The one in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// AS 0 is reserved (RFC 7607).
    #[error("local_as: an AS number is at least 1, not 0")]
    LocalAs,
    /// 0.0.0.0 is not a BGP identifier (RFC 6286).
    #[error("router_id: 0.0.0.0 is not a BGP identifier; use an IPv4 address of this node")]
    RouterId,
    /// The field of RFC 4724 has 12 bits.
    #[error("restart_time: at most 4095 seconds, not {0}")]
    RestartTime(u64),
    /// A peer could never come up.
    #[error("peer {peer} ({address}): {field}: {problem}")]
    Peer {
        /// The peer's name.
        peer: String,
        /// The peer's address.
        address: IpAddr,
        /// Which setting.
        field: &'static str,
        /// What is wrong with it, and what is accepted.
        problem: &'static str,
    },
    /// The speaker's task has ended.
    #[error("the BGP speaker has shut down")]
    Stopped,
}
