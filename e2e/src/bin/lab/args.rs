//! The command line of `lab`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::{Topology, topology::Datastore};

/// A small data centre in network namespaces: nodes that run routelet, routers that run BIRD, and pods.
#[derive(Debug, Parser)]
#[command(name = "lab", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Where the topology comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct TopologyArg {
    /// YAML file with the topology [default: two racks, three nodes, one router]
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Where the objects live: manifests in a directory, or a real API server in a namespace of the lab [default: what the
    /// topology says, else file]
    #[arg(long, value_name = "WHERE")]
    datastore: Option<Datastore>,
}

impl TopologyArg {
    /// The topology nobody had to write.
    pub(crate) fn is_default(&self) -> bool {
        self.topology.is_none()
    }

    pub(crate) fn read(&self) -> Result<Topology> {
        let mut topology = match &self.topology {
            Some(path) => Topology::read(path),
            None => Topology::demo(),
        }?;
        if let Some(datastore) = self.datastore {
            topology.datastore = datastore;
        }
        Ok(topology)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build a lab, attach pods, show everything, check every path, and remove it all
    Demo {
        #[command(flatten)]
        topology: TopologyArg,
        /// Name of the lab
        #[arg(long, default_value = "demo")]
        name: String,
        /// Give every pool this ipipMode; where this kernel has no IPIP, run under user-mode Linux [default: CrossSubnet
        /// where this kernel has IPIP; with a topology of your own what it says]
        #[arg(long, value_name = "MODE", value_parser = ["Never", "Always", "CrossSubnet"])]
        ipip: Option<String>,
    },
    /// Build a lab to play with
    Up {
        #[command(flatten)]
        topology: TopologyArg,
        /// Name of the lab
        #[arg(long, default_value = "routelet")]
        name: String,
    },
    /// Remove every trace of labs, also of ones that crashed
    Down {
        /// Names of the labs
        #[arg(value_name = "NAME", default_value = "routelet")]
        names: Vec<String>,
        /// Every lab there is
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
    /// List the labs there are
    List,
    /// Show nodes, pods, blocks, sessions and routes
    Status {
        /// Name of the lab
        #[arg(long, default_value = "routelet")]
        name: String,
    },
    /// Attach a pod to a node, by the CNI plugin's ADD
    Attach {
        /// Name of the lab
        #[arg(long, default_value = "routelet")]
        name: String,
        /// The node
        node: String,
        /// A name for the pod
        pod: String,
    },
    /// Detach a pod, by the CNI plugin's DEL
    Detach {
        /// Name of the lab
        #[arg(long, default_value = "routelet")]
        name: String,
        /// The pod
        pod: String,
    },
    /// Run a command on a node, a router or in a pod; a shell where none is given
    Exec {
        /// Name of the lab
        #[arg(long, default_value = "routelet")]
        name: String,
        /// The node, router or pod
        place: String,
        /// The command, after `--`
        #[arg(last = true)]
        words: Vec<String>,
    },
}
