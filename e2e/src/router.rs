//! A router of a lab: its namespace and its BIRD.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Result, bail, ensure};

use crate::{
    bird::{self, BirdRoute, BirdSession},
    lab::Lab,
    net::Netns,
    node::{AGENT_LIMIT, tail},
    preflight::system_path,
    process::{Recorded, run, spawn_daemon},
    topology::RouterSpec,
    wait::{GiveUp, wait_for},
};

/// A router of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Router<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) spec: &'a RouterSpec,
}

impl<'a> Router<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.spec.name
    }

    /// As the topology has it.
    pub fn spec(&self) -> &'a RouterSpec {
        self.spec
    }

    /// Its namespace.
    pub fn netns(&self) -> Netns {
        self.lab.netns(self.name())
    }

    /// Its part of the lab's directory.
    pub fn dir(&self) -> PathBuf {
        self.lab.dir().path().join(self.name())
    }

    /// BIRD's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir().join("bird.log")
    }

    /// BIRD's control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.dir().join("bird.ctl")
    }

    /// Writes BIRD's configuration, starts it and waits until it answers.
    ///
    /// # Errors
    /// It is running already, does not start, or does not answer.
    pub fn start(&self) -> Result<()> {
        if let Some(bird) = self.bird() {
            bail!(
                "BIRD of {} is running already (process {})",
                self.name(),
                bird.pid
            );
        }
        let config = self.dir().join("bird.conf");
        fs::write(&config, bird::config(self.lab.topology(), self.spec))?;
        let mut command = self.netns().command("bird");
        command.arg("-f").arg("-c").arg(&config);
        command.arg("-s").arg(self.control_socket());
        command.arg("-P").arg(self.dir().join("bird.pid"));
        let record = self.lab.dir().process_record();
        self.lab.adopt(
            spawn_daemon(&command, self.name(), &record, &self.log_path())?,
            self.name(),
        )?;
        wait_for(&format!("BIRD of {}", self.name()), AGENT_LIMIT, || {
            if self.bird().is_none() {
                let log = fs::read_to_string(self.log_path()).unwrap_or_default();
                return Err(GiveUp(format!("it has ended; its log ends with:\n{}", tail(&log, 10))).into());
            }
            self.birdc(&["show", "status"]).map(|_| ())
        })
    }

    /// BIRD, if it is running.
    pub fn bird(&self) -> Option<Recorded> {
        self.lab.running(self.name())
    }

    /// Runs a command of BIRD's (`show route`).
    ///
    /// # Errors
    /// BIRD does not answer.
    pub fn birdc(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("birdc");
        command
            .env("PATH", system_path())
            .arg("-s")
            .arg(self.control_socket())
            .args(words);
        run(&mut command)
    }

    /// BIRD's BGP sessions.
    ///
    /// # Errors
    /// BIRD does not answer.
    pub fn sessions(&self) -> Result<Vec<BirdSession>> {
        Ok(bird::parse_sessions(&self.birdc(&["show", "protocols"])?))
    }

    /// BIRD's routes.
    ///
    /// # Errors
    /// BIRD does not answer.
    pub fn bird_routes(&self) -> Result<Vec<BirdRoute>> {
        Ok(bird::parse_routes(&self.birdc(&["show", "route"])?))
    }

    /// Checks that every session is up.
    ///
    /// # Errors
    /// The first that is not, and its state.
    pub fn check_sessions(&self) -> Result<()> {
        let sessions = self.sessions()?;
        ensure!(!sessions.is_empty(), "{} has no BGP session", self.name());
        match sessions.iter().find(|session| !session.is_established()) {
            None => Ok(()),
            Some(down) => bail!("{}: {} is {} {}", self.name(), down.name, down.state, down.info),
        }
    }
}
