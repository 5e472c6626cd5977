//! What the speaker tells people about itself: sessions, counters, and why each route is where it is.
//!
//! Plain values that serialize; nothing here computes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::fsm::SessionState;
use crate::rib::decision::Verdict;
use crate::rib::export::NotSent;
use crate::types::{Asn, Family, RouterId};
use crate::wire::{Community, LargeCommunity, Origin};

/// The speaker at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpeakerStatus {
    /// Our AS.
    pub local_as: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// Every peer has sent all it has, or had its time to: what is not in the tables now is not in the network.
    pub converged: bool,
    /// The peers, by address.
    pub peers: Vec<PeerStatus>,
    /// Where we listen, or would.
    pub listeners: Vec<ListenerStatus>,
    /// Connections closed at once: from nobody we know, or more than we take.
    pub refused_connections: u64,
    /// Destinations with a usable path, ours included.
    pub destinations: usize,
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The address that was asked for; with the port that was given, if the system chose one.
    pub address: SocketAddr,
    /// Why nobody can connect to it; it is tried again.
    pub error: Option<String>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// The peer's address.
    pub address: IpAddr,
    /// For people, as in `mesh/node-b`.
    pub name: String,
    /// The AS the peer should be in.
    pub remote_as: Asn,
    /// How far the session is.
    pub state: SessionState,
    /// For how many seconds it has been in that state.
    pub state_seconds: u64,
    /// What ended the last connection, if one ended.
    pub last_error: Option<String>,
    /// What was agreed on; only while the session is up.
    pub session: Option<SessionStatus>,
    /// The peer is away and its routes are kept (RFC 4724): how many, and for how many seconds more at most.
    pub stale: Option<StaleStatus>,
    /// What has been counted since the peer was configured.
    pub counters: PeerCounters,
}

/// An established session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// Our end.
    pub local_address: IpAddr,
    /// The peer's BGP identifier.
    pub router_id: RouterId,
    /// The hold time in seconds; 0 means none.
    pub hold_time: u16,
    /// The families both carry.
    pub families: Vec<Family>,
    /// The peer's routes survive its restart.
    pub graceful_restart: bool,
    /// The peer answers and may send ROUTE-REFRESH.
    pub route_refresh: bool,
    /// AS numbers have four octets.
    pub four_octet_as: bool,
    /// The families of which the peer has sent everything.
    pub end_of_rib_received: Vec<Family>,
}

/// Routes kept for a peer that restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StaleStatus {
    /// How many.
    pub prefixes: usize,
    /// For how many seconds more at most.
    pub seconds_left: u64,
}

/// Counters of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerCounters {
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// UPDATEs received.
    pub updates_in: u64,
    /// UPDATEs sent.
    pub updates_out: u64,
    /// Prefixes the peer has announced and not withdrawn.
    pub prefixes_in: usize,
    /// Of those, prefixes that no loop or the like keeps out.
    pub prefixes_usable: usize,
    /// Prefixes the peer holds from us.
    pub prefixes_out: usize,
    /// Routes withdrawn because their attributes were malformed (RFC 7606).
    pub treated_as_withdrawn: u64,
    /// Attributes discarded because they were malformed (RFC 7606).
    pub attributes_discarded: u64,
    /// How many times the session has gone down after it was up.
    pub flaps: u64,
}

/// Which routes to show. A listing names the peers that hear of a route; a question about one destination also says
/// of each other peer why it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteQuery {
    /// Every destination.
    #[default]
    All,
    /// Exactly this prefix.
    Prefix(IpNet),
    /// This prefix and every longer one in it.
    Within(IpNet),
    /// Every destination that holds this address, the longest prefix first.
    Address(IpAddr),
}

impl RouteQuery {
    pub(crate) fn matches(&self, prefix: &IpNet) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(wanted) => wanted.trunc() == *prefix,
            Self::Within(wanted) => wanted.contains(prefix),
            Self::Address(address) => prefix.contains(address),
        }
    }
}

/// One destination: every path to it, and to whom it is announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The destination.
    pub prefix: IpNet,
    /// Every path, the best first.
    pub paths: Vec<PathStatus>,
    /// Who hears of it; where one destination was asked about, every peer.
    pub advertised_to: Vec<AdvertisementStatus>,
}

/// One path to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStatus {
    /// Who told us; `None` for a route we originate.
    pub peer: Option<IpAddr>,
    /// That peer's name.
    pub peer_name: Option<String>,
    /// Where packets go.
    pub next_hop: Option<IpAddr>,
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH as text.
    pub as_path: String,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY.
    pub large_communities: Vec<LargeCommunity>,
    /// Its peer is restarting and has not announced it again.
    pub stale: bool,
    /// Whether it is the best path, and why or why not.
    pub verdict: Verdict,
    /// The verdict in words.
    pub reason: String,
}

/// Whether a peer hears of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisementStatus {
    /// The peer.
    pub peer: IpAddr,
    /// Its name.
    pub name: String,
    /// Sent, or about to be, or why not.
    pub outcome: Advertisement,
    /// The outcome in words.
    pub reason: String,
}

/// What became of a route towards one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Advertisement {
    /// The peer has it, with this next hop.
    Sent {
        /// The next hop the peer was given.
        next_hop: Option<IpAddr>,
    },
    /// It goes out as soon as the peer reads.
    Pending,
    /// The peer shall not have it.
    NotSent(NotSent),
}

impl Advertisement {
    /// Whether the peer has the route.
    pub fn is_sent(self) -> bool {
        matches!(self, Self::Sent { .. })
    }
}

impl fmt::Display for Advertisement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent {
                next_hop: Some(next_hop),
            } => write!(f, "sent with next hop {next_hop}"),
            Self::Sent { next_hop: None } => f.write_str("sent"),
            Self::Pending => f.write_str("waiting for the peer to read"),
            Self::NotSent(why) => write!(f, "not sent: {why}"),
        }
    }
}

/// The best learned path to a destination: what a kernel route needs, and what policy may look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BestRoute {
    /// Where packets go. One address; a list so that several equal paths can be told some day.
    pub next_hops: Vec<IpAddr>,
    /// The peer it came from.
    pub peer: IpAddr,
    /// Whether that peer is in another AS.
    pub external: bool,
    /// AS_PATH as text.
    pub as_path: String,
    /// LOCAL_PREF; 100 if it carried none.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY.
    pub large_communities: Vec<LargeCommunity>,
}

/// What has changed among the best learned routes since one last asked; our own are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteChanges {
    /// The new best route of each destination that changed; `None` if there is none any more.
    pub changed: BTreeMap<IpNet, Option<BestRoute>>,
    /// As in [`SpeakerStatus::converged`]: before this is true, a route that is missing may only be late.
    pub converged: bool,
}
