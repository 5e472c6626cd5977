//! What can be seen of a node: the kernel's routes and the agent's BGP sessions.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use super::Node;

/// The agent's mark on its routes, as `ip` shows it.
pub(super) const ROUTE_PROTOCOL: &str = "80";

/// A route as `ip -j route` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KernelRoute {
    /// `default`, an address, or a prefix.
    pub dst: String,
    /// Next hop.
    pub gateway: Option<String>,
    /// Device.
    pub dev: Option<String>,
    /// Who made it: `kernel`, `boot`, `bird`, or a number.
    #[serde(default)]
    pub protocol: String,
    /// `unicast`, `blackhole`, ….
    #[serde(default, rename = "type")]
    pub kind: String,
    /// `link`, `global`, ….
    #[serde(default)]
    pub scope: String,
}

impl KernelRoute {
    /// Did the agent make it?
    pub fn is_ours(&self) -> bool {
        self.protocol == ROUTE_PROTOCOL
    }

    /// Does it drop its packets?
    pub fn is_blackhole(&self) -> bool {
        self.kind == "blackhole"
    }
}

/// A BGP session as `routectl node status -o json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The peer's address.
    pub address: String,
    /// `node-to-node mesh`, `node specific` or `global`.
    pub kind: String,
    /// The peer's AS.
    pub remote_as: u32,
    /// State of the FSM.
    pub state: String,
    /// True where that is Established.
    pub established: bool,
    /// Why it is not.
    #[serde(default)]
    pub last_error: String,
    /// Prefixes accepted from the peer.
    #[serde(default)]
    pub prefixes_received: u64,
    /// Prefixes announced to it.
    #[serde(default)]
    pub prefixes_sent: u64,
}

impl Node<'_> {
    /// The IPv4 routes in the kernel's main table.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn routes(&self) -> Result<Vec<KernelRoute>> {
        let routes = self
            .netns()
            .ip_json(&["-d", "-4", "route", "show", "table", "main"])?;
        Ok(serde_json::from_value(routes)?)
    }

    /// The routes that the agent made.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn own_routes(&self) -> Result<Vec<KernelRoute>> {
        let mut routes = self.routes()?;
        routes.retain(KernelRoute::is_ours);
        Ok(routes)
    }

    /// The route to exactly this destination, as `ip` shows it.
    ///
    /// # Errors
    /// There is none.
    pub fn route_to(&self, dst: &str) -> Result<KernelRoute> {
        let routes = self.routes()?;
        let shown: Vec<_> = routes.iter().map(|route| route.dst.clone()).collect();
        let found = routes.into_iter().find(|route| route.dst == dst);
        found.ok_or_else(|| {
            anyhow!(
                "no route to {dst} on {}; there are: {}",
                self.name(),
                shown.join(", ")
            )
        })
    }

    /// The agent's BGP sessions.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn sessions(&self) -> Result<Vec<Session>> {
        let status = self.routectl_json(&["node", "status"])?;
        let peers = status.get("peers").unwrap_or(&status).clone();
        serde_json::from_value(peers)
            .with_context(|| format!("`routectl node status -o json` said: {status}"))
    }

    /// How many BGP sessions the topology gives it: the full mesh, and the routers of its subnet.
    pub fn expected_sessions(&self) -> usize {
        let topology = self.lab.topology();
        let has_router = |subnet: &String| *subnet == self.spec.subnet;
        let routers = topology
            .routers
            .iter()
            .filter(|router| router.addresses.keys().any(has_router));
        topology.nodes.len() - 1 + routers.count()
    }

    /// Checks that every session the topology asks for is up.
    ///
    /// # Errors
    /// The first that is not, and its state.
    pub fn check_sessions(&self) -> Result<()> {
        let sessions = self.sessions()?;
        let is_v4 = |session: &&Session| {
            session
                .address
                .parse()
                .is_ok_and(|address: std::net::IpAddr| address.is_ipv4())
        };
        let v4: Vec<_> = sessions.iter().filter(is_v4).collect();
        ensure!(
            v4.len() == self.expected_sessions(),
            "{} has {} sessions, not {}",
            self.name(),
            v4.len(),
            self.expected_sessions()
        );
        match v4.iter().find(|session| !session.established) {
            None => Ok(()),
            Some(down) => bail!(
                "{}: {} is {} {}",
                self.name(),
                down.address,
                down.state,
                down.last_error
            ),
        }
    }
}
