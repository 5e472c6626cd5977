//! The command line as a whole: the agent, which is what runs without a command, and what is done to a host before and
//! after it.

use clap::{Parser, Subcommand};

use crate::{
    config::Config,
    install::command::{InstallCni, UninstallCni},
};

/// routelet, the Routelet node agent: routes this node's pods, tells the other nodes and the top-of-rack routers
/// about them by BGP, and serves the CNI plugin.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "routelet",
    version,
    max_term_width = 110,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, once")]
pub enum Command {
    /// Run the agent; this is also what happens without a command
    Run(Config),
    /// Install the CNI plugin for the container runtime
    InstallCni(InstallCni),
    /// Remove the network configuration from the container runtime
    UninstallCni(UninstallCni),
}

impl Cli {
    /// What to do.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.config))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Command {
        Cli::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .into_command()
    }

    #[test]
    fn the_definition_is_sound() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_agent_runs_with_and_without_its_command() {
        for words in [
            &["routelet", "--node-name", "a"][..],
            &["routelet", "run", "--node-name", "a"],
        ] {
            match parse(words) {
                Command::Run(config) => assert_eq!(config.node_name.as_deref(), Some("a")),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(parse(&["routelet"]), Command::Run(_)));
    }

    #[test]
    fn a_command_has_its_own_flags_only() {
        match parse(&["routelet", "install-cni", "--bin-dir", "/b"]) {
            Command::InstallCni(install) => assert_eq!(install.bin_dir.to_str(), Some("/b")),
            other => panic!("{other:?}"),
        }
        let mixed = ["routelet", "--node-name", "a", "install-cni"];
        assert!(
            Cli::try_parse_from(mixed).is_err(),
            "flags of the agent mean nothing there"
        );
    }
}
