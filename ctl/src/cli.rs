//! The command line, as clap sees it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ipnet::IpNet;

use crate::output::Format;

/// What the Routelet agent on this node is doing, and what is in the datastore
#[derive(Debug, Parser)]
#[command(name = "routectl", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// Where the objects live: `file:DIRECTORY`
    #[arg(
        long,
        global = true,
        env = "ROUTELET_DATASTORE",
        default_value = "file:/var/lib/routelet/datastore"
    )]
    pub(crate) datastore: String,

    /// Socket of the agent on this node
    #[arg(
        long,
        global = true,
        env = "ROUTELET_ADMIN_SOCKET",
        default_value = "/run/routelet/admin.sock"
    )]
    pub(crate) admin_socket: PathBuf,

    /// How to print: `table`, `wide` (a table with more columns), `json` or `yaml`
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, hide_possible_values = true)]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What the agent on this node is doing
    #[command(subcommand)]
    Node(NodeCommand),

    /// Addresses: how many there are and who has them
    #[command(subcommand)]
    Ipam(IpamCommand),

    /// Objects of the datastore
    Get {
        /// Kind of object: `nodes`, `ippools`, `blocks`, `bgppeers`, … in singular, plural or short form
        kind: String,
        /// Only this object: NAME, or NAMESPACE/NAME
        name: Option<String>,
        /// Only objects of this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },

    /// Routes the agent on this node knows: from whom, and which are in the kernel
    Routes {
        /// Only this prefix (ADDRESS/LENGTH)
        prefix: Option<IpNet>,
    },

    /// Why a route is used, not used, announced or not announced
    Why {
        /// The prefix (ADDRESS/LENGTH)
        prefix: IpNet,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// The agent, its BGP sessions and its routes
    Status,
    /// The pods attached here
    Pods,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// How full the pools are
    Show {
        /// Show the blocks of each pool too
        #[arg(long)]
        show_blocks: bool,
    },
}
