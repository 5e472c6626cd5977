//! A host and its pods as network namespaces, an agent that answers as a test wants, and the plugin's binary called
//! as a container runtime calls it. Needs root and iproute2.
//!
//! Namespaces have names of their own (`rcni-<pid>-<number>-...`) and go when what made them is dropped.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test fails")]

use std::{
    io::{Read, Write},
    net::IpAddr,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use cni::{
    pending::Queue,
    protocol::{self, AddReply, AttachmentId, DelRequest, Reply, Request, Success, Verb},
    veth::host_device,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Route protocol the agents of these tests hand out.
pub(crate) const PROTOCOL: u8 = 80;
/// An address of every host.
pub(crate) const HOST_V4: &str = "10.99.0.1";
/// An address of every host.
pub(crate) const HOST_V6: &str = "fd99::1";

/// A network namespace with a name.
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// Does it go with this value?
    owned: bool,
}

impl Namespace {
    pub(crate) fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rcni-{}-{number}-{role}", std::process::id());
        run(&["ip", "netns", "add", &name]);
        let namespace = Self { name, owned: true };
        namespace.ip("link set lo up");
        namespace
    }

    /// The same namespace, for another thread.
    pub(crate) fn alias(&self) -> Self {
        Self {
            name: self.name.clone(),
            owned: false,
        }
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// What `ip` says inside; it must succeed.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let mut command = vec!["ip", "-n", &self.name];
        command.extend(arguments.split_whitespace());
        run(&command)
    }

    /// The same as JSON.
    pub(crate) fn ip_json(&self, arguments: &str) -> Value {
        let text = self.ip(&format!("-j -d {arguments}"));
        if text.trim().is_empty() {
            return json!([]);
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("ip {arguments}: {error}: {text}"))
    }

    /// Runs a command inside.
    pub(crate) fn run(&self, arguments: &str) -> String {
        let mut command = vec!["ip", "netns", "exec", &self.name];
        command.extend(arguments.split_whitespace());
        run(&command)
    }

    pub(crate) fn sysctl(&self, name: &str) -> String {
        self.run(&format!("cat /proc/sys/net/{name}")).trim().to_owned()
    }

    /// One echo request must be answered. The first may meet a link that is still coming up.
    pub(crate) fn ping(&self, to: &str) {
        self.run(&format!("ping -n -q -c 1 -w 5 {to}"));
    }

    /// Names of its links.
    pub(crate) fn links(&self) -> Vec<String> {
        let links = self.ip_json("link show");
        let names = links.as_array().unwrap().iter();
        names
            .map(|link| link["ifname"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Destinations of the routes that bear the agent's protocol.
    pub(crate) fn routes(&self) -> Vec<String> {
        ["-4", "-6"]
            .iter()
            .flat_map(|family| {
                let routes = self.ip_json(&format!("{family} route show proto {PROTOCOL}"));
                let destinations = routes.as_array().unwrap().iter();
                destinations
                    .map(|route| route["dst"].as_str().unwrap().to_owned())
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.owned {
            let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        }
    }
}

/// Runs a command that must succeed, and returns what it says.
fn run(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; these tests need root, iproute2 and ping"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A node: its namespace, its state directory and its agent's socket.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    directory: TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new("host");
        namespace.ip(&format!("addr add {HOST_V4}/32 dev lo"));
        namespace.ip(&format!("addr add {HOST_V6}/128 dev lo nodad"));
        Self {
            namespace,
            directory: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("cni.sock")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// DELs that wait on disk.
    pub(crate) fn pending(&self) -> Vec<DelRequest> {
        let queue = Queue::new(&self.state());
        if !queue.directory().exists() {
            return Vec::new();
        }
        let entries = queue.lock().unwrap().entries().unwrap();
        entries.into_iter().map(|entry| entry.request.unwrap()).collect()
    }

    /// Pods' devices.
    pub(crate) fn devices(&self) -> Vec<String> {
        let mut links = self.namespace.links();
        links.retain(|name| name.starts_with("cali"));
        links
    }

    /// An agent that gives these addresses and says yes to everything else.
    pub(crate) fn agent(&self, addresses: &[&str]) -> Agent {
        let reply = add_reply(addresses);
        self.agent_that(move |request| match request.verb {
            Verb::Add(_) => Some(reply.clone()),
            _ => Some(Reply::Ok(Success::Done)),
        })
    }

    /// An agent that answers as it is told; `None` hangs up.
    pub(crate) fn agent_that(&self, answer: impl Fn(&Request) -> Option<Reply> + Send + 'static) -> Agent {
        Agent::start(&self.socket(), answer)
    }
}

/// The answer to an ADD.
pub(crate) fn add_reply(addresses: &[&str]) -> Reply {
    Reply::Ok(Success::Add(AddReply {
        addresses: addresses
            .iter()
            .map(|each| each.parse::<IpAddr>().unwrap())
            .collect(),
        mtu: 1400,
        route_protocol: PROTOCOL,
    }))
}

/// An agent's end of the socket, on a thread.
pub(crate) struct Agent {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<Verb>>>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn start(socket: &Path, answer: impl Fn(&Request) -> Option<Reply> + Send + 'static) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = channel();
        let log = heard.clone();
        let thread = std::thread::spawn(move || serve(&listener, &stopped, &log, answer));
        Self {
            socket: socket.to_owned(),
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// What it has been asked since the last look.
    pub(crate) fn heard(&self) -> Vec<Verb> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    /// Attachments it was asked to remove since the last look at what it heard.
    pub(crate) fn removed(&self) -> Vec<AttachmentId> {
        let heard = self.heard();
        heard
            .into_iter()
            .filter_map(|verb| match verb {
                Verb::Del(request) => Some(request.id),
                _ => None,
            })
            .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let _ = UnixStream::connect(&self.socket);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(
    listener: &UnixListener,
    stopped: &Receiver<()>,
    heard: &Mutex<Vec<Verb>>,
    answer: impl Fn(&Request) -> Option<Reply>,
) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        if stopped.try_recv().is_ok() {
            return;
        }
        let Ok(request) = protocol::read_frame::<Request>(&mut stream) else {
            continue;
        };
        heard.lock().unwrap().push(request.verb.clone());
        if let Some(reply) = answer(&request) {
            let _ = protocol::write_frame(&mut stream, &reply);
        }
    }
}

/// A pod's sandbox.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) container_id: String,
    /// Kubernetes' name for it, in namespace `default`.
    pub(crate) name: String,
}

impl Pod {
    pub(crate) fn new(name: &str, container_id: &str) -> Self {
        Self {
            namespace: Namespace::new("pod"),
            container_id: container_id.into(),
            name: name.into(),
        }
    }

    pub(crate) fn id(&self) -> AttachmentId {
        AttachmentId {
            container_id: self.container_id.clone(),
            ifname: "eth0".into(),
        }
    }

    /// Its device on the host.
    pub(crate) fn device(&self) -> String {
        host_device("default", &self.name)
    }
}

/// A call of the plugin.
pub(crate) struct Call {
    variables: Vec<(String, String)>,
    configuration: Value,
    namespace: Option<String>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Call {
    /// A call on a host for a pod, as containerd makes it.
    pub(crate) fn new(verb: &str, host: &Host, pod: &Pod) -> Self {
        Self::bare(verb)
            .on(host)
            .set("CNI_CONTAINERID", &pod.container_id)
            .set("CNI_NETNS", &pod.namespace.path())
            .set("CNI_IFNAME", "eth0")
            .set("CNI_PATH", "/opt/cni/bin")
            .set(
                "CNI_ARGS",
                &format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_UID=u-1",
                    pod.name
                ),
            )
    }

    /// A call with nothing but the verb.
    pub(crate) fn bare(verb: &str) -> Self {
        Self {
            variables: vec![("CNI_COMMAND".into(), verb.into())],
            configuration: json!({"cniVersion": "1.0.0", "name": "pods", "type": "routelet-cni"}),
            namespace: None,
        }
    }

    /// Makes the call on a host.
    pub(crate) fn on(mut self, host: &Host) -> Self {
        self.namespace = Some(host.namespace.name.clone());
        self.set("ROUTELET_CNI_SOCKET", host.socket().to_str().unwrap())
            .set("ROUTELET_STATE_DIR", host.state().to_str().unwrap())
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(each, _)| each != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets a field of the configuration.
    pub(crate) fn field(mut self, key: &str, value: Value) -> Self {
        self.configuration[key] = value;
        self
    }

    pub(crate) fn run(&self) -> Outcome {
        self.run_with(&self.configuration.to_string())
    }

    /// Runs with that text on standard input.
    pub(crate) fn run_with(&self, input: &str) -> Outcome {
        let mut child = self.spawn(input);
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Outcome {
            status: child.wait().unwrap(),
            stdout,
            stderr,
        }
    }

    /// Kills the call when it has run that long.
    pub(crate) fn killed_after(&self, delay: Duration) {
        let mut child = self.spawn(&self.configuration.to_string());
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn spawn(&self, input: &str) -> Child {
        let binary = env!("CARGO_BIN_EXE_routelet-cni");
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, binary]);
                command
            }
            None => Command::new(binary),
        };
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A plugin that fails for its environment does not read on.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child
    }

    /// Must succeed with a result.
    pub(crate) fn result(&self) -> Value {
        let outcome = self.run();
        assert!(outcome.status.success(), "{outcome:?}");
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
    }

    /// Must succeed and say nothing.
    pub(crate) fn done(&self) {
        let outcome = self.run();
        assert!(
            outcome.status.success() && outcome.stdout.is_empty(),
            "{outcome:?}"
        );
    }

    /// Must fail with that code and say so.
    pub(crate) fn fails(&self, code: u32, message: &str) -> Value {
        self.run().failure(code, message)
    }
}

impl Outcome {
    /// The CNI error, which must have that code and hold that text.
    pub(crate) fn failure(&self, code: u32, message: &str) -> Value {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        let error: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(error["code"], code, "{error}");
        let text = format!("{}; {}", error["msg"].as_str().unwrap(), error["details"]);
        assert!(text.contains(message), "{message:?} is not in {text:?}");
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        error
    }
}

/// Waits until something holds.
pub(crate) fn eventually<T: std::fmt::Debug>(what: &str, look: impl Fn() -> T, holds: impl Fn(&T) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = look();
        if holds(&seen) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: still {seen:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
