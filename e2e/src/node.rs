//! A node of a lab: its namespace, its agent, and the programs that talk to that agent.

use std::{fs, os::unix::net::UnixStream, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    cni::{Attachment, CNI_VERSION, CniOutput, IFNAME, network_config},
    lab::{Lab, without_proxy},
    net::Netns,
    preflight::system_path,
    process::{Captured, Recorded, capture, run, spawn_daemon},
    topology::NodeSpec,
    wait::{GiveUp, wait_for},
};

mod observe;

pub use observe::{KernelRoute, Session};

/// How long an agent may take to serve its sockets, or to end.
pub const AGENT_LIMIT: Duration = Duration::from_secs(20);
/// A node of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) spec: &'a NodeSpec,
}

impl<'a> Node<'a> {
    /// The lab it is part of.
    pub fn lab(&self) -> &'a Lab {
        self.lab
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &'a str {
        &self.spec.name
    }

    /// As the topology has it.
    pub fn spec(&self) -> &'a NodeSpec {
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

    /// The agent's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir().join("routelet.log")
    }

    /// What the agent has logged, over all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The variables that tell every one of our programs where it is.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let run = self.dir().join("run");
        let mut env = vec![
            ("ROUTELET_DATASTORE", self.lab.datastore_url(self)),
            ("ROUTELET_NODE_NAME", self.name().to_string()),
            ("ROUTELET_RUN_DIR", run.display().to_string()),
            (
                "ROUTELET_STATE_DIR",
                self.dir().join("state").display().to_string(),
            ),
            ("ROUTELET_CNI_SOCKET", run.join("cni.sock").display().to_string()),
            (
                "ROUTELET_ADMIN_SOCKET",
                run.join("admin.sock").display().to_string(),
            ),
        ];
        if let Some(kubeconfig) = self.lab.node_kubeconfig(self) {
            env.push(("KUBECONFIG", kubeconfig.display().to_string()));
        }
        env
    }

    /// A command that runs on the node.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.netns().command(program);
        without_proxy(&mut command);
        command.envs(self.env());
        command.env(
            "PATH",
            format!(
                "{}:{}{}",
                self.lab.binaries().dir().display(),
                system_path(),
                self.lab.kubectl_path()
            ),
        );
        command
    }

    /// Runs a command on the node and gives back its standard output.
    ///
    /// # Errors
    /// It fails.
    pub fn exec(&self, words: &[&str]) -> Result<String> {
        let (program, args) = words.split_first().context("no command given")?;
        run(self.command(program).args(args))
    }

    /// Starts the agent; [`Node::wait_ready`] waits for it.
    ///
    /// # Errors
    /// It is running already, or cannot be started.
    pub fn start_agent(&self) -> Result<()> {
        if let Some(agent) = self.agent() {
            bail!(
                "the agent of {} is running already (process {})",
                self.name(),
                agent.pid
            );
        }
        let mut command = self.netns().command(self.lab.binaries().routelet());
        without_proxy(&mut command);
        command.envs(self.env()).envs(&self.lab.topology().agent_env);
        command.env("ROUTELET_DATASTORE", self.lab.agent_datastore_url(self));
        let cidr = self
            .lab
            .topology()
            .node_cidr(self.spec)
            .context("no address for the node")?;
        command.arg("--node-ip").arg(cidr.to_string());
        if let Some(address6) = self.spec.address6 {
            let subnet = self
                .lab
                .topology()
                .subnet(&self.spec.subnet)
                .and_then(|subnet| subnet.cidr6);
            let length = subnet.map_or(64, |subnet| subnet.prefix_len());
            command.arg("--node-ip6").arg(format!("{address6}/{length}"));
        }
        let record = self.lab.dir().process_record();
        let child = spawn_daemon(&command, self.name(), &record, &self.log_path())?;
        self.lab.adopt(child, self.name())
    }

    /// The agent, if it is running.
    pub fn agent(&self) -> Option<Recorded> {
        self.lab.running(self.name())
    }

    /// Waits until the agent serves the plugin and `routectl`.
    ///
    /// # Errors
    /// It ends, or takes too long; the end of its log is in the error.
    pub fn wait_ready(&self) -> Result<()> {
        let run = self.dir().join("run");
        wait_for(&format!("the agent of {}", self.name()), AGENT_LIMIT, || {
            if self.agent().is_none() {
                return Err(GiveUp(format!(
                    "it has ended; its log ends with:\n{}",
                    tail(&self.log(), 10)
                ))
                .into());
            }
            for socket in ["cni.sock", "admin.sock"] {
                let path = run.join(socket);
                UnixStream::connect(&path)
                    .with_context(|| format!("cannot connect to {}", path.display()))?;
            }
            Ok(())
        })
    }

    /// Ends the agent with a signal and waits until it is gone.
    ///
    /// # Errors
    /// It is not running, or does not end.
    pub fn kill_agent(&self, signal: Signal) -> Result<()> {
        let agent = self
            .agent()
            .with_context(|| format!("the agent of {} is not running", self.name()))?;
        agent.signal(signal);
        agent.wait_gone(AGENT_LIMIT)
    }

    /// Calls the plugin for a pod of the lab, as a container runtime does.
    ///
    /// # Errors
    /// It cannot be run, or what it says is not JSON. A CNI error is no error here.
    pub fn cni(&self, verb: &str, pod: &Attachment) -> Result<CniOutput> {
        let netns = self.lab.netns(&pod.pod).path();
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            pod.pod, pod.container_id
        );
        let env = [
            ("CNI_COMMAND", verb.to_string()),
            ("CNI_CONTAINERID", pod.container_id.clone()),
            ("CNI_NETNS", netns.display().to_string()),
            ("CNI_IFNAME", IFNAME.to_string()),
            ("CNI_ARGS", args),
        ];
        self.cni_raw(&env, &network_config().to_string())
    }

    /// Calls the plugin with just these `CNI_*` variables and this standard input.
    ///
    /// # Errors
    /// As [`Node::cni`].
    pub fn cni_raw(&self, env: &[(&str, String)], input: &str) -> Result<CniOutput> {
        let mut command = self.netns().command(self.lab.binaries().routelet_cni());
        command.env_clear().env("PATH", system_path());
        command.env("CNI_PATH", self.lab.binaries().dir());
        command.envs(
            self.env()
                .into_iter()
                .filter(|(key, _)| matches!(*key, "ROUTELET_CNI_SOCKET" | "ROUTELET_STATE_DIR")),
        );
        command.envs(env.iter().map(|(key, value)| (key, value)));
        CniOutput::read(capture(&mut command, input)?)
    }

    /// Asks the plugin for the CNI versions it speaks.
    ///
    /// # Errors
    /// As [`Node::cni`].
    pub fn cni_version(&self) -> Result<CniOutput> {
        let input = serde_json::json!({"cniVersion": CNI_VERSION}).to_string();
        self.cni_raw(&[("CNI_COMMAND", "VERSION".to_string())], &input)
    }

    /// Runs `routectl` on the node.
    ///
    /// # Errors
    /// It cannot be run. An exit status other than 0 is no error here.
    pub fn routectl(&self, args: &[&str]) -> Result<Captured> {
        capture(self.command(self.lab.binaries().routectl()).args(args), "")
    }

    /// Runs `routectl … -o json` on the node and parses what it says.
    ///
    /// # Errors
    /// It fails, or what it says is not JSON.
    pub fn routectl_json(&self, args: &[&str]) -> Result<Value> {
        let shown = format!("routectl {} -o json", args.join(" "));
        let text = self
            .routectl(&[args, &["-o", "json"]].concat())?
            .success(&shown)?;
        serde_json::from_str(&text).with_context(|| format!("`{shown}` is no JSON: {text}"))
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}
