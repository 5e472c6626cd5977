//! Network namespaces and what is in them, by way of `ip`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::process::{capture, run};

/// Where iproute2 keeps named namespaces.
pub const NETNS_DIR: &str = "/var/run/netns";

/// A named network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Netns(String);

impl Netns {
    /// The namespace of that name, whether or not it exists.
    pub fn named(name: impl Into<String>) -> Self {
        Netns(name.into())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Its path, as a container runtime hands it to a plugin.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.0)
    }

    /// Does it exist?
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Creates it, with `lo` up.
    ///
    /// # Errors
    /// It exists, or the kernel refuses.
    pub fn create(&self) -> Result<()> {
        run(Command::new("ip").args(["netns", "add", &self.0]))?;
        self.ip(&["link", "set", "lo", "up"])?;
        Ok(())
    }

    /// Deletes it, where it exists.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete(&self) -> Result<()> {
        if self.exists() {
            run(Command::new("ip").args(["netns", "delete", &self.0]))?;
        }
        Ok(())
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    /// Does something inside, in a thread of its own: the sockets it opens stay there.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let path = self.path();
        let entered = thread::spawn(move || -> Result<T> {
            let namespace = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {}", path.display()))?;
            Ok(work())
        });
        entered.join().map_err(|_| anyhow!("it panicked"))?
    }

    /// Runs `ip` inside.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.0]).args(args))
    }

    /// Runs several `ip` commands inside, each a line; stops at the first that fails.
    ///
    /// # Errors
    /// One fails.
    pub fn ip_batch(&self, lines: &[String]) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.0, "-batch", "-"]);
        let captured = capture(&mut command, &lines.join("\n"))?;
        captured.success(&format!("ip -n {} -batch", self.0))?;
        Ok(())
    }

    /// Runs `ip -j` inside and parses what it says.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn ip_json(&self, args: &[&str]) -> Result<Value> {
        let text = run(Command::new("ip").args(["-n", &self.0, "-j"]).args(args))?;
        if text.trim().is_empty() {
            return Ok(Value::Array(Vec::new()));
        }
        serde_json::from_str(&text).with_context(|| format!("`ip -j {}` said: {text}", args.join(" ")))
    }

    /// Sets kernel parameters of the namespace, given as paths below `/proc/sys/net` and values.
    ///
    /// # Errors
    /// The kernel refuses, or `/proc/sys` is read-only.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        let script: Vec<_> = settings
            .iter()
            .map(|(key, value)| format!("echo {value} > /proc/sys/net/{key}"))
            .collect();
        run(self.command("sh").args(["-ec", &script.join("\n")]))?;
        Ok(())
    }

    /// Names of the links whose name starts so.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn links(&self, prefix: &str) -> Result<Vec<String>> {
        let links = self.ip_json(&["link", "show"])?;
        let names = links.as_array().into_iter().flatten();
        let names = names.filter_map(|link| link["ifname"].as_str());
        Ok(names
            .filter(|name| name.starts_with(prefix))
            .map(str::to_string)
            .collect())
    }
}
