//! A real API server for one test: etcd and kube-apiserver on loopback, on ports and in a directory of their own.
//!
//! The programs come from the folder in `KUBEBUILDER_ASSETS`, as for every controller's tests, or from the cache that
//! `make kube-assets` fills. Both servers end with the value, and with the process that made it, however that ends: a
//! shell holds a pipe from it, and kills the server when the pipe closes.
//!
//! What it does not do: run controllers, a scheduler or kubelets. Nothing but its clients changes the objects in it:
//! no garbage collection, no service accounts' secrets, no namespace that ever finishes terminating. Who a client is
//! says a token of its own for each user ([`Builder::user`]); RBAC is on.

use std::{
    fmt::Write as _,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;

use crate::{
    process::{capture, start_time},
    wait::{GiveUp, wait_for},
};

/// The user that may do everything.
pub const ADMIN: &str = "admin";
/// Where in the user's cache `make kube-assets` puts the programs.
const CACHED: &str = "routelet/kube-assets/1.20.2-2";
/// What must be there.
const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];
/// How long a server may take to be ready, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Below the ports that the kernel gives to outgoing connections, so that a server that is restarted finds its port
/// free.
const PORTS: std::ops::Range<u16> = 12000..32000;
/// Starts a program and says its process id; ends it when standard input closes.
const SUPERVISE: &str = r#"log=$1; shift
"$@" </dev/null >>"$log" 2>&1 &
echo $!
read -r _
kill -9 $! 2>/dev/null
wait $!"#;

/// The folder with etcd, kube-apiserver and kubectl.
///
/// # Errors
/// There is none; the error says how to get it.
pub fn assets() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = || {
        let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
        cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")))
    };
    let folder = set("KUBEBUILDER_ASSETS")
        .or_else(|| set("ROUTELET_KUBE_ASSETS"))
        .map(PathBuf::from)
        .or_else(|| Some(cache()?.join(CACHED)))
        .context("neither KUBEBUILDER_ASSETS nor HOME is set")?;
    for program in PROGRAMS {
        ensure!(
            folder.join(program).is_file(),
            "no {program} in {}: run `make kube-assets`, or set KUBEBUILDER_ASSETS",
            folder.display()
        );
    }
    Ok(folder)
}

/// What is asked of an API server before it starts.
#[derive(Debug, Default)]
pub struct Builder {
    users: Vec<(String, Vec<String>)>,
    flags: Vec<String>,
}

impl Builder {
    /// A user with these groups. A service account is `system:serviceaccount:<namespace>:<name>`.
    #[must_use]
    pub fn user(mut self, name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(ToString::to_string).collect();
        self.users.push((name.to_string(), groups));
        self
    }

    /// One more flag of kube-apiserver.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_string());
        self
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// The programs are missing, or do not start; what they wrote last is in the error.
    pub fn start(self) -> Result<KubeServer> {
        let assets = assets()?;
        let mut last = anyhow!("never tried");
        for _ in 0..5 {
            match KubeServer::start_once(&assets, &self) {
                Ok(server) => return Ok(server),
                // Between choosing a port and using it somebody else may take it.
                Err(error) if format!("{error:#}").contains("address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// etcd and kube-apiserver. See the [module](self).
#[derive(Debug)]
pub struct KubeServer {
    assets: PathBuf,
    etcd_port: u16,
    port: u16,
    flags: Vec<String>,
    api_server: Option<Supervised>,
    etcd: Supervised,
    // The last to go: the servers write to it.
    dir: TempDir,
}

impl KubeServer {
    /// One with nothing special about it.
    ///
    /// # Errors
    /// See [`Builder::start`].
    pub fn start() -> Result<Self> {
        Builder::default().start()
    }

    /// One to be described first.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start_once(assets: &Path, builder: &Builder) -> Result<Self> {
        let dir = TempDir::with_prefix("routelet-kube-").context("cannot make a directory")?;
        write_tokens(dir.path(), &builder.users)?;
        let etcd_port = free_port()?;
        let etcd = start_etcd(assets, dir.path(), etcd_port, free_port()?)?;
        let mut server = KubeServer {
            assets: assets.to_path_buf(),
            etcd_port,
            port: free_port()?,
            flags: builder.flags.clone(),
            api_server: None,
            etcd,
            dir,
        };
        let url = server.url();
        for (user, _) in &builder.users {
            server.write_kubeconfig(user, user, &url)?;
        }
        server.write_kubeconfig(ADMIN, ADMIN, &url)?;
        server.start_api_server()?;
        Ok(server)
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// kube-apiserver's port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificates to trust, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("certificates/apiserver.crt")
    }

    /// A user's bearer token.
    pub fn token(user: &str) -> String {
        format!("token-of-{user}")
    }

    /// A user's kubeconfig; [`ADMIN`]'s may do everything.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.path().join(format!("{}.kubeconfig", file_name(user)))
    }

    /// Writes a kubeconfig for a user who speaks to the server through `url` (a proxy).
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig_via(&self, user: &str, url: &str) -> Result<PathBuf> {
        self.write_kubeconfig(&format!("{user}-via-{url}"), user, url)
    }

    fn write_kubeconfig(&self, name: &str, user: &str, url: &str) -> Result<PathBuf> {
        let path = self.kubeconfig(name);
        let token = Self::token(user);
        let ca = self.ca_file();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: {url}\n    certificate-authority: {}\n\
             users:\n- name: test\n  user:\n    token: \"{token}\"\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\n",
            ca.display()
        );
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// `kubectl`, as [`ADMIN`].
    ///
    /// # Errors
    /// It fails; what it said is in the error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "")
    }

    /// The same with standard input.
    ///
    /// # Errors
    /// It fails; what it said is in the error.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(self.assets.join("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig(ADMIN));
        command
            .arg("--cache-dir")
            .arg(self.dir.path().join("kubectl-cache"));
        command.args(args);
        capture(&mut command, input)?.success(&format!("kubectl {}", args.join(" ")))
    }

    /// Applies manifests, and waits until those of CustomResourceDefinitions are served.
    ///
    /// # Errors
    /// The server does not take them.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.kubectl_with(&["apply", "-f", "-"], manifests)?;
        if manifests.contains("kind: CustomResourceDefinition") {
            let wait = [
                "wait",
                "--for=condition=established",
                "--timeout=60s",
                "crd",
                "--all",
            ];
            self.kubectl(&wait)?;
        }
        Ok(())
    }

    /// Kills kube-apiserver, as a crash does. etcd and the data stay.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts kube-apiserver (again, on the same port), and waits until it is ready.
    ///
    /// # Errors
    /// It does not start; what it wrote last is in the error.
    pub fn start_api_server(&mut self) -> Result<()> {
        let log = self.dir.path().join("kube-apiserver.log");
        let mut command = Command::new(self.assets.join("kube-apiserver"));
        command.args(self.api_server_flags());
        let server = Supervised::start(&command, &log)?;
        let ready = wait_for("kube-apiserver to be ready", START_LIMIT, || {
            server.check()?;
            self.kubectl(&["get", "--raw", "/readyz"]).map(|_| ())
        });
        ready.with_context(|| tail(&log))?;
        self.api_server = Some(server);
        Ok(())
    }

    fn api_server_flags(&self) -> Vec<String> {
        let dir = self.dir.path().display();
        let key = format!("{dir}/certificates/apiserver.key");
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1".to_string(),
            "--advertise-address=127.0.0.1".to_string(),
            // The Endpoints of the service `kubernetes` may not be on loopback.
            "--endpoint-reconciler-type=none".to_string(),
            format!("--cert-dir={dir}/certificates"),
            format!("--token-auth-file={dir}/tokens"),
            "--service-account-issuer=https://kubernetes.default.svc".to_string(),
            // Made together with the certificate.
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            "--authorization-mode=RBAC".to_string(),
            "--service-cluster-ip-range=10.96.0.0/16".to_string(),
            // It waits for a controller to give every pod's account a token.
            "--disable-admission-plugins=ServiceAccount".to_string(),
        ];
        flags.extend(self.flags.iter().cloned());
        flags
    }

    /// The process ids of kube-apiserver (while it runs) and etcd.
    pub fn process_ids(&self) -> Vec<i32> {
        let servers = self.api_server.iter().chain([&self.etcd]);
        servers.map(|server| server.pid).collect()
    }
}

fn write_tokens(dir: &Path, users: &[(String, Vec<String>)]) -> Result<()> {
    let admin = (ADMIN.to_string(), vec!["system:masters".to_string()]);
    let mut text = String::new();
    for (name, groups) in users.iter().chain([&admin]) {
        // token, user, uid, groups
        writeln!(
            text,
            "{},{name},{name},\"{}\"",
            KubeServer::token(name),
            groups.join(",")
        )?;
    }
    fs::write(dir.join("tokens"), text).context("cannot write the tokens")
}

fn start_etcd(assets: &Path, dir: &Path, port: u16, peer_port: u16) -> Result<Supervised> {
    let (url, peer_url) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{peer_port}"),
    );
    let log = dir.join("etcd.log");
    let mut command = Command::new(assets.join("etcd"));
    command.arg("--data-dir").arg(dir.join("etcd"));
    command.args(["--unsafe-no-fsync", "--name", "test"]);
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args([
        "--listen-peer-urls",
        &peer_url,
        "--initial-advertise-peer-urls",
        &peer_url,
    ]);
    command.args(["--initial-cluster", &format!("test={peer_url}")]);
    let etcd = Supervised::start(&command, &log)?;
    let listening = wait_for("etcd to listen", START_LIMIT, || {
        etcd.check()?;
        std::net::TcpStream::connect(("127.0.0.1", port)).map(|_| ())?;
        Ok(())
    });
    listening.with_context(|| tail(&log))?;
    Ok(etcd)
}

/// A port that is free now.
fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let random = RandomState::new().build_hasher().finish();
        let width = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random % width)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port found between {} and {}", PORTS.start, PORTS.end)
}

fn file_name(user: &str) -> String {
    user.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(15);
    let last = lines.get(from..).unwrap_or_default().join("\n");
    format!("{} ends with:\n{last}", log.display())
}

/// A server process that ends with this value, and with this process.
#[derive(Debug)]
struct Supervised {
    pid: i32,
    shell: Child,
}

impl Supervised {
    fn start(command: &Command, log: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SUPERVISE, "sh"])
            .arg(log)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It would say that what it killed was killed.
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run sh")?;
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line.trim().parse().context("sh did not say a process id")?;
        Ok(Supervised { pid, shell })
    }

    /// Is it running?
    fn check(&self) -> Result<()> {
        match start_time(self.pid) {
            Some(_) => Ok(()),
            None => Err(GiveUp(format!("process {} has ended", self.pid)).into()),
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_script_puts_it() {
        let script =
            fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kube-assets")).unwrap();
        let value = |name: &str| {
            let line = script.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in the script"))
                .to_string()
        };
        let expected = format!("routelet/kube-assets/{}-{}", value("version="), value("build="));
        assert_eq!(CACHED, expected);
    }

    #[test]
    fn what_is_started_ends_with_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        let sleeper = Supervised::start(&command, &dir.path().join("log")).unwrap();
        sleeper.check().unwrap();
        let pid = sleeper.pid;
        drop(sleeper);
        assert_eq!(start_time(pid), None);
    }

    #[test]
    fn two_servers_do_not_get_in_each_others_way_and_leave_nothing() {
        let (one, mut two) = (KubeServer::start().unwrap(), KubeServer::start().unwrap());
        one.kubectl(&["create", "namespace", "one"]).unwrap();
        let names = two.kubectl(&["get", "namespaces", "--output=name"]).unwrap();
        assert!(!names.contains("namespace/one"), "{names}");
        two.kill_api_server();
        two.start_api_server().unwrap();
        two.kubectl(&["get", "namespace", "default"]).unwrap();
        let (dir, pids) = (one.dir.path().to_path_buf(), one.process_ids());
        drop(one);
        assert!(!dir.exists());
        for pid in pids {
            assert_eq!(start_time(pid), None, "process {pid}");
        }
    }
}
