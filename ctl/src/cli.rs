//! The command line, as clap sees it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::output::Format;

/// What the Routelet agent on this node is doing, and what is in the datastore: to see and to change
#[derive(Debug, Parser)]
#[command(name = "routectl", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// Where the objects live: `file:DIRECTORY`, `kubernetes`, or `kubernetes:KUBECONFIG`
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

    /// Create or change objects, from manifests as `get -o yaml` and kubectl have them
    ///
    /// Everything is checked before anything is written. What a manifest does not say is taken back to its default;
    /// fields that routectl does not know, and labels and annotations, are kept.
    Apply {
        #[command(flatten)]
        files: Files,
        #[command(flatten)]
        force: Force,
    },

    /// Delete objects, by kind and name or by manifests
    Delete {
        /// Kind of object
        #[arg(
            required_unless_present = "files",
            conflicts_with = "files",
            requires = "names"
        )]
        kind: Option<String>,
        /// The objects: NAME, or NAMESPACE/NAME
        names: Vec<String>,
        /// The objects are in this namespace
        #[arg(short, long, conflicts_with = "files")]
        namespace: Option<String>,
        #[command(flatten)]
        from: OptionalFiles,
        /// An object that is not there is no error
        #[arg(long)]
        ignore_not_found: bool,
        #[command(flatten)]
        force: Force,
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

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A file of manifests, a directory of such files, or `-` for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Look into the directories in directories, too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OptionalFiles {
    /// A file of manifests, a directory of such files, or `-` for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Look into the directories in directories, too
    #[arg(short = 'R', long, requires = "files")]
    pub(crate) recursive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Force {
    /// Even objects that only agents should write: IPAMBlock, BlockAffinity and IPAMHandle
    #[arg(long)]
    pub(crate) force: bool,
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
