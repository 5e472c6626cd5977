//! `routelet install-cni` and `routelet uninstall-cni`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{DEFAULT_BIN_DIR, DEFAULT_CONF_DIR, conflist, others, plugin};

/// Installs the CNI plugin. The network configuration is written by the agent, once it can serve pods.
#[derive(Debug, Clone, Args)]
pub struct InstallCni {
    /// Where the container runtime looks for plugins
    #[arg(long, env = "ROUTELET_CNI_BIN_DIR", default_value = DEFAULT_BIN_DIR)]
    pub bin_dir: PathBuf,

    /// Where the container runtime looks for configurations; only read
    #[arg(long, env = "ROUTELET_CNI_CONF_DIR", default_value = DEFAULT_CONF_DIR)]
    pub conf_dir: PathBuf,

    /// The plugin, or the directory it is in [default: beside this program]
    #[arg(long, env = "ROUTELET_CNI_SOURCE")]
    pub source: Option<PathBuf>,
}

impl InstallCni {
    /// Installs, and says what it did.
    ///
    /// # Errors
    /// In words for the administrator.
    pub fn run(self) -> anyhow::Result<()> {
        let source = match self.source {
            Some(source) => source,
            None => plugin::beside_this_program().context("cannot tell where this program is")?,
        };
        let outcome = plugin::install(&source, &self.bin_dir)?;
        println!("{}: {outcome}", self.bin_dir.join(plugin::NAME).display());
        for other in others::before_ours(&self.conf_dir)? {
            println!(
                "{other}: sorts before {}, so the runtime uses it for as long as it is there",
                conflist::NAME
            );
        }
        Ok(())
    }
}

/// Removes the network configuration, so that the node takes no new pods by it, and brings back what was set aside.
#[derive(Debug, Clone, Args)]
pub struct UninstallCni {
    /// Where the container runtime looks for configurations
    #[arg(long, env = "ROUTELET_CNI_CONF_DIR", default_value = DEFAULT_CONF_DIR)]
    pub conf_dir: PathBuf,

    /// Where the container runtime looks for plugins
    #[arg(long, env = "ROUTELET_CNI_BIN_DIR", default_value = DEFAULT_BIN_DIR)]
    pub bin_dir: PathBuf,

    /// Remove the plugin too. Pods that are still attached cannot be stopped without it
    #[arg(long)]
    pub remove_plugin: bool,
}

impl UninstallCni {
    /// Uninstalls, and says what it did.
    ///
    /// # Errors
    /// In words for the administrator.
    pub fn run(self) -> anyhow::Result<()> {
        let say = |path: PathBuf, done: bool| {
            println!(
                "{}: {}",
                path.display(),
                if done { "removed" } else { "not there" }
            );
        };
        let outcome = conflist::remove(&self.conf_dir)?;
        say(self.conf_dir.join(conflist::NAME), outcome.removed);
        for path in outcome.restored {
            println!("{}: restored", path.display());
        }
        if self.remove_plugin {
            let removed = plugin::uninstall(&self.bin_dir)?;
            say(self.bin_dir.join(plugin::NAME), removed);
        }
        Ok(())
    }
}
