//! A container runtime of a test's own: Debian's containerd and runc, with all that they keep below one directory.
//!
//! It knows nothing of the machine's containerd, if there is one, and is driven by `ctr`, as an administrator would.
//! Dropping it ends what runs in it, and then itself.
//!
//! What it does not do: pods (CRI). A [`Container`] is run with the settings that a kubelet would give it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    preflight::system_path,
    process::{Captured, capture, run},
    wait::{GiveUp, wait_for},
};

/// How long it may take to start, and a container to end.
const LIMIT: Duration = Duration::from_secs(30);
/// Its own namespace of containers and images; nothing to do with the kernel's.
const NAMESPACE: &str = "e2e";
/// What a container has unless it is taken away.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    process: Child,
}

/// A directory of the host's that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// May the container not write to it?
    pub read_only: bool,
}

/// A container to be run, with no privilege that is not named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name, and that of its cgroup.
    pub id: String,
    /// The image's name.
    pub image: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Capabilities, without `CAP_`; it has no others.
    pub capabilities: Vec<String>,
    /// Is its root read-only?
    pub read_only_root: bool,
    /// What it sees of the host.
    pub mounts: Vec<Mount>,
    /// The network namespace it is in.
    pub netns: PathBuf,
}

impl Containerd {
    /// Starts one below `dir`, which should have a short path: there are sockets in it.
    ///
    /// # Errors
    /// It does not start; the end of its log is in the error.
    pub fn start(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let config = dir.join("config.toml");
        fs::write(&config, configuration(dir))?;
        let log = File::create(dir.join("containerd.log"))?;
        // It ends with the thread that started it, also where that is killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "containerd", "--config"])
            .arg(&config)
            .env("PATH", system_path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run containerd: run `make deps`, or `apt-get install containerd runc`")?;
        let mut containerd = Containerd {
            dir: dir.to_owned(),
            process,
        };
        wait_for("containerd", LIMIT, || {
            if let Some(status) = containerd.process.try_wait()? {
                let log = fs::read_to_string(containerd.dir.join("containerd.log")).unwrap_or_default();
                return Err(GiveUp(format!("it has ended ({status}):\n{log}")).into());
            }
            run(containerd.ctr().arg("version")).map(drop)
        })?;
        Ok(containerd)
    }

    /// `ctr`, for this containerd.
    pub fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.env("PATH", system_path());
        command.arg("--address").arg(self.dir.join("s"));
        command.args(["--namespace", NAMESPACE]);
        command
    }

    /// Imports an image from a tar, and gives back the names it has.
    ///
    /// # Errors
    /// containerd refuses it.
    pub fn import(&self, tar: &Path) -> Result<Vec<String>> {
        run(self.ctr().args(["image", "import"]).arg(tar))?;
        let names = run(self.ctr().args(["image", "ls", "--quiet"]))?;
        Ok(names.lines().map(str::to_string).collect())
    }

    /// Runs a container to its end.
    ///
    /// # Errors
    /// It cannot be started. An exit status other than 0 is no error here.
    pub fn run(&self, container: &Container) -> Result<Captured> {
        let mut command = self.ctr();
        command.args(["run", "--rm"]);
        capture(self.arguments(container, &mut command), "")
    }

    /// Starts a container; what it says goes into a file.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_container(&self, container: &Container) -> Result<()> {
        let mut command = self.ctr();
        command.args(["run", "--detach"]);
        let log = format!("file://{}", self.log_path(&container.id).display());
        command.args(["--log-uri", &log]);
        run(self.arguments(container, &mut command)).map(drop)
    }

    /// What a container that was started has said so far.
    pub fn log(&self, id: &str) -> String {
        fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    fn log_path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.log"))
    }

    /// Runs another program in a container.
    ///
    /// # Errors
    /// It cannot be started. An exit status other than 0 is no error here.
    pub fn exec(&self, id: &str, program: &[&str]) -> Result<Captured> {
        let mut command = self.ctr();
        command.arg("tasks").arg("exec");
        command.arg("--fifo-dir").arg(self.dir.join("fifo"));
        command.args(["--exec-id", "exec", id]);
        capture(command.args(program), "")
    }

    /// Process id of a container's program.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self, id: &str) -> Result<i32> {
        let table = run(self.ctr().args(["tasks", "ls"]))?;
        let row = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|columns| columns.first() == Some(&id));
        match row.as_deref() {
            Some([_, pid, "RUNNING"]) => pid.parse().context("the process id"),
            _ => bail!("{id} does not run:\n{table}{}", self.log(id)),
        }
    }

    /// Sends a signal to a container's program and waits for its end; gives back its exit status.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&self, id: &str, signal: &str) -> Result<u32> {
        run(self.ctr().args(["tasks", "kill", "--signal", signal, id]))?;
        wait_for(&format!("{id} to end"), LIMIT, || {
            let table = run(self.ctr().args(["tasks", "ls"]))?;
            ensure!(!table.contains("RUNNING"), "{table}");
            Ok(())
        })?;
        // Deleting a task says its exit status, by its own.
        let deleted = capture(self.ctr().args(["tasks", "delete", id]), "")?;
        run(self.ctr().args(["containers", "delete", id]))?;
        let status = deleted.status.code().context("ctr was killed")?;
        u32::try_from(status).context("an exit status")
    }

    fn arguments<'a>(&self, container: &Container, command: &'a mut Command) -> &'a mut Command {
        for capability in &container.capabilities {
            command.args(["--cap-add", &format!("CAP_{capability}")]);
        }
        for capability in DEFAULT_CAPABILITIES {
            if !container.capabilities.iter().any(|wanted| wanted == capability) {
                command.args(["--cap-drop", &format!("CAP_{capability}")]);
            }
        }
        if container.read_only_root {
            command.arg("--read-only");
        }
        for mount in &container.mounts {
            let access = if mount.read_only { "ro" } else { "rw" };
            let source = mount.source.display();
            command.args([
                "--mount",
                &format!(
                    "type=bind,src={source},dst={},options=rbind:{access}",
                    mount.target
                ),
            ]);
        }
        for (key, value) in &container.env {
            command.args(["--env", &format!("{key}={value}")]);
        }
        // Else they would be in directories of the machine's.
        command.arg("--runc-root").arg(self.dir.join("runc"));
        command.arg("--fifo-dir").arg(self.dir.join("fifo"));
        // One level: what is below a directory of ours would leave that behind.
        command.args(["--cgroup", &container.id, "--seccomp"]);
        command.args(["--with-ns", &format!("network:{}", container.netns.display())]);
        command
            .args([&container.image, &container.id])
            .args(&container.command)
    }

    fn end(&mut self) -> Result<()> {
        let tasks = run(self.ctr().args(["tasks", "ls", "--quiet"]))?;
        for id in tasks.lines() {
            run(self.ctr().args(["tasks", "delete", "--force", id]))?;
        }
        let containers = run(self.ctr().args(["containers", "ls", "--quiet"]))?;
        for id in containers.lines() {
            run(self.ctr().args(["containers", "delete", id]))?;
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("containers may be left over: {error:#}");
        }
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let ended = wait_for("containerd to end", LIMIT, || {
            ensure!(self.process.try_wait()?.is_some(), "it runs");
            Ok(())
        });
        if ended.is_err() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{dir}/s"
[ttrpc]
  address = "{dir}/t"
"#
    )
}
