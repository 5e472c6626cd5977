//! The agent's command line. Every option is one flag and one `ROUTELET_*` variable, so that many agents can share
//! one machine.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use crate::{
    install::{self, conflist, conflist::Portmap},
    tunnel,
};

/// How long other nodes get to bring their tunnels up before routes to those that say nothing go through ours.
const TUNNEL_SETTLE: Duration = Duration::from_secs(10);

/// routelet, the Routelet node agent: routes this node's pods, tells the other nodes and the top-of-rack routers
/// about them by BGP, and serves the CNI plugin.
#[derive(Debug, Clone, Parser)]
#[command(name = "routelet", version, max_term_width = 110)]
pub struct Config {
    /// Where the objects live: `file:DIRECTORY`, `kubernetes` (in a pod: its service account), or `kubernetes:KUBECONFIG`
    #[arg(
        long,
        env = "ROUTELET_DATASTORE",
        default_value = "file:/var/lib/routelet/datastore"
    )]
    pub datastore: String,

    /// Name of this node, as its Node object is called [default: the host's name]
    #[arg(long, env = "ROUTELET_NODE_NAME")]
    pub node_name: Option<String>,

    /// Namespace of the agent, where the secrets with BGP passwords are
    #[arg(long, env = "ROUTELET_NAMESPACE", default_value = "kube-system")]
    pub namespace: String,

    /// Address of this node: ADDRESS/LENGTH, ADDRESS, or how to find it: `first-found`, `interface=NAME,…`,
    /// `skip-interface=NAME,…`, `cidr=CIDR,…`
    #[arg(long, env = "ROUTELET_NODE_IP", default_value = "first-found")]
    pub node_ip: String,

    /// IPv6 address of this node, in the same forms; `none` for no IPv6
    #[arg(long, env = "ROUTELET_NODE_IP6", default_value = "none")]
    pub node_ip6: String,

    /// Directory of the sockets
    #[arg(long, env = "ROUTELET_RUN_DIR", default_value = "/run/routelet")]
    pub run_dir: PathBuf,

    /// Directory of what must outlive the agent: its record of the attached pods
    #[arg(long, env = "ROUTELET_STATE_DIR", default_value = "/var/lib/routelet")]
    pub state_dir: PathBuf,

    /// Socket of the CNI plugin [default: RUN_DIR/cni.sock]
    #[arg(long, env = "ROUTELET_CNI_SOCKET")]
    pub cni_socket: Option<PathBuf>,

    /// Socket of routectl [default: RUN_DIR/admin.sock]
    #[arg(long, env = "ROUTELET_ADMIN_SOCKET")]
    pub admin_socket: Option<PathBuf>,

    /// Protocol number that marks our routes in the kernel; routes with another one are never touched
    #[arg(long, env = "ROUTELET_ROUTE_PROTOCOL", default_value_t = 80,
          value_parser = clap::value_parser!(u8).range(5..))]
    pub route_protocol: u8,

    /// Seconds between two full comparisons with the kernel
    #[arg(long, env = "ROUTELET_RESYNC_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub resync_seconds: u64,

    /// MTU of the pods' interfaces [default: that of the device with the node's address]
    #[arg(long, env = "ROUTELET_POD_MTU", value_parser = clap::value_parser!(u32).range(576..=65_535))]
    pub pod_mtu: Option<u32>,

    /// MTU of the IPIP tunnel [default: that of the device with the node's address, less 20]
    #[arg(long, env = "ROUTELET_IPIP_MTU", value_parser = clap::value_parser!(u32).range(556..=65_515))]
    pub ipip_mtu: Option<u32>,

    /// Seconds that the IPIP tunnel stays after ipipMode was set to Never everywhere: other nodes may still use it
    #[arg(long, env = "ROUTELET_TUNNEL_GRACE_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub tunnel_grace_seconds: u64,

    /// Seconds that peers keep our routes while the agent is restarted (RFC 4724)
    #[arg(long, env = "ROUTELET_RESTART_SECONDS", default_value_t = 120,
          value_parser = clap::value_parser!(u16).range(0..=4095))]
    pub restart_seconds: u16,

    /// Address of the HTTP endpoint with /livez, /readyz and /metrics: ADDRESS:PORT, or `none`
    #[arg(long, env = "ROUTELET_HTTP_LISTEN", default_value = "none")]
    pub http_listen: String,

    /// Where the network configuration for the container runtime is written once the node can take pods [default: not
    /// written]
    #[arg(long, env = "ROUTELET_CNI_CONF_DIR")]
    pub cni_conf_dir: Option<PathBuf>,

    /// Where the container runtime looks for plugins
    #[arg(long, env = "ROUTELET_CNI_BIN_DIR", default_value = install::DEFAULT_BIN_DIR)]
    pub cni_bin_dir: PathBuf,

    /// Whether the network configuration chains the plugin portmap (`hostPort`): `auto` where it is in --cni-bin-dir
    #[arg(long, env = "ROUTELET_CNI_PORTMAP", value_enum, default_value_t = Portmap::Auto)]
    pub cni_portmap: Portmap,

    /// Set Calico's network configuration aside when ours is written; `uninstall-cni` brings it back
    #[arg(long, env = "ROUTELET_CNI_DISABLE_CALICO")]
    pub cni_disable_calico: bool,

    /// What to log: a level, or directives as of the crate tracing-subscriber (`info,bgp=debug`)
    #[arg(long, env = "ROUTELET_LOG", default_value = "info")]
    pub log: String,

    /// How a log line looks
    #[arg(long, env = "ROUTELET_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// A JSON object a line.
    Json,
}

impl Config {
    /// The node's name: what was given, else the host's.
    ///
    /// # Errors
    /// Where the host has no usable name either.
    pub fn node_name(&self) -> anyhow::Result<String> {
        let name = match &self.node_name {
            Some(name) => name.clone(),
            // As the kubelet does: the host's name in lower case.
            None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
        };
        let usable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        anyhow::ensure!(
            !name.is_empty() && name.len() <= 253 && name.chars().all(usable),
            "\"{name}\" cannot be the name of a node: at most 253 lower-case letters, digits, '-' and '.' \
             (--node-name or ROUTELET_NODE_NAME gives another one)"
        );
        Ok(name)
    }

    /// Socket of the CNI plugin.
    pub fn cni_socket(&self) -> PathBuf {
        self.cni_socket
            .clone()
            .unwrap_or_else(|| self.run_dir.join("cni.sock"))
    }

    /// Socket of routectl.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin_socket
            .clone()
            .unwrap_or_else(|| self.run_dir.join("admin.sock"))
    }

    /// The network configuration to write, if it is to be written.
    pub fn conflist(&self) -> Option<conflist::Settings> {
        let conf_dir = self.cni_conf_dir.clone()?;
        Some(conflist::Settings {
            conf_dir,
            bin_dir: self.cni_bin_dir.clone(),
            portmap: self.cni_portmap,
            socket: self.cni_socket(),
            // A node without an address of a family cannot route its pods' addresses of that family.
            ipv4: self.node_ip != "none",
            ipv6: self.node_ip6 != "none",
            disable_calico: self.cni_disable_calico,
        })
    }

    /// Time between two full comparisons with the kernel.
    pub fn resync(&self) -> Duration {
        Duration::from_secs(self.resync_seconds)
    }

    /// How the IPIP tunnel of the node of that name is run.
    pub fn tunnel(&self, node: &str) -> tunnel::Settings {
        tunnel::Settings {
            node: node.to_string(),
            mtu: self.ipip_mtu,
            grace: Duration::from_secs(self.tunnel_grace_seconds),
            settle: TUNNEL_SETTLE,
        }
    }

    /// Time that peers keep our routes while the agent is restarted.
    pub fn restart_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.restart_seconds))
    }
}
