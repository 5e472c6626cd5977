//! What the admin socket says: the types that `routectl` shares with the agent.
//!
//! Framing is that of the CNI socket ([`cni::protocol`]): a 4-octet length, then JSON; one request and one reply a
//! connection. Times are seconds since 1970 (UTC), so that a reader can do arithmetic on them.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Version of this protocol.
pub const VERSION: u32 = 1;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// The question.
    pub query: Query,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Query {
    /// How the agent and its sessions are. Answered by [`Reply::Status`].
    Status,
    /// Every path of every route, or of one prefix, with the reasons. Answered by [`Reply::Routes`].
    Routes {
        /// Only this prefix.
        prefix: Option<IpNet>,
    },
    /// The pods attached here. Answered by [`Reply::Attachments`].
    Attachments,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// Answer to [`Query::Status`].
    Status(Box<Status>),
    /// Answer to [`Query::Routes`].
    Routes(Vec<Route>),
    /// Answer to [`Query::Attachments`].
    Attachments(Vec<Attachment>),
    /// The question could not be answered.
    Error(String),
}

/// How the agent and its sessions are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Node's name.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// When the agent started.
    pub started: u64,
    /// Where its objects live (`file:/…`).
    pub datastore: String,
    /// Kinds whose first full list has not arrived yet; nothing is deleted before it is empty.
    pub waiting_for: Vec<String>,
    /// Addresses of this node.
    pub addresses: Vec<IpNet>,
    /// BGP identifier; absent until the node's address is known.
    pub router_id: Option<String>,
    /// The node's AS.
    pub local_as: u32,
    /// True once every peer that came up has sent all its routes, or the wait for it ended: until then learned
    /// routes that an earlier run of the agent left in the kernel stay there.
    pub bgp_converged: bool,
    /// BGP sessions, by address.
    pub peers: Vec<Peer>,
    /// Tunnels to other nodes; none where no pool asks for one.
    #[serde(default)]
    pub tunnels: Vec<Tunnel>,
    /// Routes in the kernel.
    pub kernel: Kernel,
    /// Blocks of this node that are announced.
    pub announced: Vec<IpNet>,
    /// Pods attached here.
    pub attachments: usize,
    /// Everything that is not as the configuration asks, in words for a person.
    pub problems: Vec<Problem>,
}

/// Something that is not as the configuration asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What it is about: `BGPPeer "tor-a"`, `route 10.0.0.0/24`.
    pub about: String,
    /// What is wrong and what would mend it.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(about: impl Into<String>, message: impl Into<String>) -> Self {
        Problem {
            about: about.into(),
            message: message.into(),
        }
    }
}

/// Where a peer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerKind {
    /// Another node, by `nodeToNodeMeshEnabled`.
    #[serde(rename = "node-to-node mesh")]
    Mesh,
    /// A BGPPeer with `node` or `nodeSelector`.
    #[serde(rename = "node specific")]
    NodeSpecific,
    /// A BGPPeer for all nodes.
    #[serde(rename = "global")]
    Global,
}

impl std::fmt::Display for PeerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PeerKind::Mesh => "node-to-node mesh",
            PeerKind::NodeSpecific => "node specific",
            PeerKind::Global => "global",
        })
    }
}

/// A BGP session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The peer's address.
    pub address: IpAddr,
    /// The BGPPeer's or node's name.
    pub name: String,
    /// Where the peer comes from.
    pub kind: PeerKind,
    /// The peer's AS.
    pub remote_as: u32,
    /// State of the FSM (RFC 4271, section 8.2.2): `Established`, `Active`, ….
    pub state: String,
    /// True where the state is Established.
    pub established: bool,
    /// When that state was entered.
    pub since: u64,
    /// Why the last session ended or the last attempt failed; empty where all is well.
    pub last_error: String,
    /// Prefixes accepted from the peer.
    pub prefixes_received: usize,
    /// Prefixes announced to the peer.
    pub prefixes_sent: usize,
    /// Times the session went down after it was up.
    pub flaps: u64,
    /// Prefixes kept for the peer while it restarts (RFC 4724).
    pub stale_prefixes: usize,
}

/// A tunnel device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// Its name.
    pub device: String,
    /// `starting`, `up` or `unavailable`; why it is unavailable is among the problems.
    pub state: String,
    /// Its address; absent where no pool gives it one.
    pub address: Option<IpAddr>,
    /// Its MTU, while it is up.
    pub mtu: Option<u32>,
}

/// Routes of ours in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// Protocol number of every route of ours.
    pub protocol: u8,
    /// Routes there should be.
    pub desired: usize,
    /// Routes there are.
    pub installed: usize,
    /// Times a route of ours that somebody else changed was repaired.
    pub repairs: u64,
}

/// What is known of a prefix: who announced it, which path is used and why, and where it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The prefix.
    pub prefix: IpNet,
    /// What the kernel has for it (`via 192.168.33.12 dev eth0`, `blackhole`); absent where it has nothing of ours.
    pub kernel: Option<String>,
    /// Why the kernel does not have what it should; empty where it has.
    pub kernel_problem: String,
    /// Paths, the best first.
    pub paths: Vec<Path>,
    /// By peer: sent or not, and why.
    pub sent_to: BTreeMap<String, String>,
}

/// A path to a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// Peer's name, or `local`.
    pub from: String,
    /// Next hop, absent for a local route.
    pub next_hop: Option<IpAddr>,
    /// AS path, as text.
    pub as_path: String,
    /// LOCAL_PREF, where the path carries one.
    pub local_pref: Option<u32>,
    /// Its peer is restarting and has not announced it again.
    pub stale: bool,
    /// True for the path in use.
    pub best: bool,
    /// Why it is best, or why it is not.
    pub reason: String,
}

/// A pod's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `namespace/name`, where known.
    pub pod: Option<String>,
    /// Phase of the pod (`Running`), as the datastore has it; absent where it has no such pod.
    pub phase: Option<String>,
    /// Host-side device.
    pub host_device: String,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}
