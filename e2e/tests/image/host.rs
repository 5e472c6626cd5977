//! A host for the test: a network namespace, a containerd, and the directories that a pod mounts.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use e2e::{
    CniOutput,
    containerd::{Container, Containerd, Mount},
    net::Netns,
    preflight::{Binaries, system_path},
    process::{capture, run},
    wait_for,
};
use serde_json::Value;

use crate::{
    daemonset::{DaemonSet, Spec},
    workspace,
};

const LIMIT: Duration = Duration::from_secs(60);
const NODE: &str = "node-1";
const ADDRESS: &str = "192.0.2.10/24";

/// Parts are dropped in this order: containers, then namespaces, then files.
pub(crate) struct Host {
    containerd: Containerd,
    netns: Namespace,
    pod: Namespace,
    daemonset: DaemonSet,
    image: String,
    directory: tempfile::TempDir,
    id: String,
}

struct Namespace(Netns);

impl Namespace {
    fn create(name: String) -> Self {
        let namespace = Namespace(Netns::named(name));
        namespace.0.create().unwrap();
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.0.delete() {
            eprintln!("a namespace is left over: {error:#}");
        }
    }
}

/// A pod that the plugin has attached.
pub(crate) struct Pod {
    address: String,
    device: String,
}

/// The image that is tested.
fn image() -> PathBuf {
    let path = match env::var_os("ROUTELET_IMAGE") {
        Some(path) => PathBuf::from(path),
        None => {
            let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
            let target = target.unwrap_or_else(|| workspace().join("target"));
            target.join("routelet-image.tar")
        }
    };
    assert!(
        path.is_file(),
        "{} is missing: run `make image`, or say with ROUTELET_IMAGE where it is",
        path.display()
    );
    path
}

impl Host {
    pub(crate) fn new(name: &str, forwards: bool) -> Self {
        let id = format!("{name}-{}", std::process::id());
        // Below /run: the paths of sockets must be short.
        let directory = tempfile::Builder::new()
            .prefix("re2e")
            .tempdir_in("/run")
            .unwrap();
        let netns = Namespace::create(format!("{id}-node"));
        let forward = [("ipv4/ip_forward", if forwards { "1" } else { "0" })];
        netns.0.sysctl(&forward).unwrap();
        let address = format!("addr add {ADDRESS} dev eth0");
        let lines = [
            "link add eth0 type veth peer name uplink",
            &address,
            "link set eth0 up",
            "link set uplink up",
        ];
        netns.0.ip_batch(&lines.map(str::to_string)).unwrap();
        let pod = Namespace::create(format!("{id}-pod"));
        let containerd = Containerd::start(&directory.path().join("c")).unwrap_or_else(|e| panic!("{e:#}"));
        let names = containerd.import(&image()).unwrap_or_else(|e| panic!("{e:#}"));
        let [image] = &names[..] else {
            panic!("the image has the names {names:?}");
        };
        let image = image.clone();
        let host = Host {
            containerd,
            netns,
            pod,
            daemonset: DaemonSet::read(workspace()),
            image,
            directory,
            id,
        };
        host.write_pool();
        host
    }

    fn write_pool(&self) {
        let pools = self.volume("datastore").join("ippools");
        fs::create_dir_all(&pools).unwrap();
        let pool = workspace().join("manifests/base/pool.yaml");
        fs::copy(pool, pools.join("default-ipv4-ippool.yaml")).unwrap();
    }

    /// A directory of the host's, as a pod's volume.
    fn volume(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn container(&self, spec: &Spec, args: Vec<String>) -> Container {
        let mut mounts: Vec<_> = spec
            .mounts()
            .into_iter()
            .map(|(volume, target, read_only)| Mount {
                source: self.volume(&volume),
                target,
                read_only,
            })
            .collect();
        mounts.push(Mount {
            source: self.volume("datastore"),
            target: "/datastore".to_string(),
            read_only: false,
        });
        let mut env = self.daemonset.env(spec, NODE);
        // The one difference: there is no API server here.
        env.push(("ROUTELET_DATASTORE".to_string(), "file:/datastore".to_string()));
        Container {
            id: format!("{}-{}", self.id, spec.0["name"].as_str().unwrap()),
            image: self.image.clone(),
            command: [vec!["/routelet".to_string()], args].concat(),
            env,
            capabilities: spec.capabilities(),
            read_only_root: spec.read_only_root(),
            mounts,
            netns: self.netns.0.path(),
        }
    }

    /// Runs the init container.
    pub(crate) fn install(&self) -> String {
        let spec = self.daemonset.container("install-cni");
        let done = self.containerd.run(&self.container(&spec, spec.args())).unwrap();
        done.success("install-cni").unwrap()
    }

    /// Uninstalls, as the documentation has it.
    pub(crate) fn uninstall(&self) -> String {
        let spec = self.daemonset.container("routelet");
        let container = self.container(&spec, vec!["uninstall-cni".to_string()]);
        let done = self.containerd.run(&container).unwrap();
        done.success("uninstall-cni").unwrap()
    }

    pub(crate) fn start_agent(&self) {
        let spec = self.daemonset.container("routelet");
        let container = self.container(&spec, spec.args());
        self.containerd.start_container(&container).unwrap();
    }

    fn agent(&self) -> String {
        format!("{}-routelet", self.id)
    }

    pub(crate) fn stop_agent(&self) {
        let status = self.containerd.stop(&self.agent(), "SIGTERM").unwrap();
        let log = self.containerd.log(&self.agent());
        assert_eq!(status, 0, "{log}");
        assert!(log.contains("routes stay in the kernel"), "{log}");
    }

    /// An HTTP answer, as it is on the wire.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let listen = self.daemonset.config("ROUTELET_HTTP_LISTEN");
        let (address, port) = listen.rsplit_once(':').unwrap();
        let script = format!(
            "exec 3<>/dev/tcp/{address}/{port}; printf 'GET {path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' >&3; cat <&3"
        );
        run(self.netns.0.command("bash").args(["-c", &script]))
    }

    fn wait(&self, what: &str, probe: impl Fn(&str) -> bool) -> String {
        let ready = wait_for(what, LIMIT, || {
            let answer = self.get("/readyz")?;
            ensure!(probe(&answer), "{answer}");
            Ok(answer)
        });
        ready.unwrap_or_else(|error| panic!("{error:#}\n{}", self.containerd.log(&self.agent())))
    }

    pub(crate) fn wait_ready(&self) {
        self.wait("the agent to be ready", |answer| {
            answer.starts_with("HTTP/1.1 200 ")
        });
    }

    /// Waits until all but this is there; gives back what is said of it.
    pub(crate) fn wait_unready(&self, check: &str) -> String {
        let missing = |answer: &str| -> Vec<String> {
            let lines = answer.lines().filter(|line| line.starts_with("[-]"));
            lines
                .filter(|line| !line.starts_with("[-]cni-conf "))
                .map(str::to_string)
                .collect()
        };
        let only = |answer: &str| {
            let missing = missing(answer);
            missing.len() == 1 && missing[0].starts_with(&format!("[-]{check} "))
        };
        missing(&self.wait(&format!("only {check} to be missing"), only)).remove(0)
    }

    pub(crate) fn forward(&self) {
        self.netns.0.sysctl(&[("ipv4/ip_forward", "1")]).unwrap();
    }

    /// The network configuration, where there is one.
    pub(crate) fn configuration(&self) -> Option<Value> {
        let path = self.volume("cni-conf").join("10-routelet.conflist");
        let text = fs::read_to_string(path).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The kernel's own word on what the agent may do.
    pub(crate) fn check_privileges(&self) {
        let pid = self.containerd.pid(&self.agent()).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        // Bits 10, 12 and 13 (capability.h): NET_BIND_SERVICE, NET_ADMIN, NET_RAW.
        let wanted = 1 << 10 | 1 << 12 | 1 << 13;
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(field(set), wanted, "{set}\n{status}");
        }
        assert_eq!(field("NoNewPrivs:"), 1);
        assert_eq!(field("Seccomp:"), 2, "filtered");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let options = |path: &str| {
            let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let line = lines.find(|fields| fields[4] == path).unwrap();
            line[5].split(',').map(str::to_string).collect::<Vec<_>>()
        };
        for path in ["/", "/proc/sys"] {
            assert!(options(path).contains(&"ro".to_string()), "{path}: {mounts}");
        }
    }

    /// `routectl` in the container and the one on the host hear the same.
    pub(crate) fn check_admin_socket(&self) {
        let inside = self
            .containerd
            .exec(&self.agent(), &["/routectl", "node", "status", "-o", "json"]);
        let inside: Value = serde_json::from_str(&inside.unwrap().success("routectl").unwrap()).unwrap();
        assert_eq!(inside["node"], NODE);
        assert_eq!(inside["addresses"][0], ADDRESS);
        let mut outside = std::process::Command::new(Binaries::find().unwrap().routectl());
        outside.args(["node", "status", "-o", "json"]);
        outside.env("ROUTELET_ADMIN_SOCKET", self.volume("run").join("admin.sock"));
        let outside: Value = serde_json::from_str(&run(&mut outside).unwrap()).unwrap();
        assert_eq!(outside["started"], inside["started"]);
    }

    /// Calls the plugin that was installed, with the configuration that was written, as a container runtime does.
    fn plugin(&self, verb: &str) -> CniOutput {
        let configuration = self.configuration().unwrap();
        let mut network = configuration["plugins"][0].clone();
        network["cniVersion"] = configuration["cniVersion"].clone();
        network["name"] = configuration["name"].clone();
        let mut command = self.netns.0.command(self.volume("cni-bin").join("routelet-cni"));
        command.env_clear().env("PATH", system_path());
        let netns = self.pod.0.path();
        let run = self.volume("run");
        let variables: [(&str, &Path); 7] = [
            ("CNI_COMMAND", Path::new(verb)),
            ("CNI_CONTAINERID", Path::new(&self.id)),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", Path::new("eth0")),
            (
                "CNI_ARGS",
                Path::new("K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-1"),
            ),
            ("CNI_PATH", Path::new("/nonexistent")),
            // On a host the paths are those of the configuration.
            ("ROUTELET_CNI_SOCKET", &run.join("cni.sock")),
        ];
        command
            .envs(variables)
            .env("ROUTELET_STATE_DIR", self.volume("state"));
        CniOutput::read(capture(&mut command, &network.to_string()).unwrap()).unwrap()
    }

    pub(crate) fn add_pod(&self) -> Pod {
        let added = self.plugin("ADD");
        assert_eq!(
            added.status,
            0,
            "{added:?}\n{}",
            self.containerd.log(&self.agent())
        );
        let address = added.json["ips"][0]["address"].as_str().unwrap();
        Pod {
            address: address.trim_end_matches("/32").to_string(),
            device: added.json["interfaces"][0]["name"].as_str().unwrap().to_string(),
        }
    }

    /// The pod can be reached, and the agent has programmed what only it knows of: the block's blackhole.
    pub(crate) fn check_pod(&self, pod: &Pod) {
        let blackhole = wait_for("the block's blackhole", LIMIT, || {
            let routes = self.netns.0.ip(&["route", "show", "proto", "80"])?;
            let blackhole = routes.lines().find(|line| line.starts_with("blackhole 10.244."));
            ensure!(blackhole.is_some(), "{routes}");
            ensure!(
                routes.contains(&format!("{} dev {}", pod.address, pod.device)),
                "{routes}"
            );
            Ok(())
        });
        blackhole.unwrap_or_else(|error| panic!("{error:#}\n{}", self.containerd.log(&self.agent())));
        let mut ping = self.netns.0.command("ping");
        run(ping.args(["-c", "1", "-W", "5", &pod.address])).unwrap();
    }

    pub(crate) fn delete_pod(&self, pod: &Pod) {
        let deleted = self.plugin("DEL");
        assert_eq!(deleted.status, 0, "{deleted:?}");
        let routes = self.netns.0.ip(&["route", "show"]).unwrap();
        assert!(!routes.contains(&pod.device), "{routes}");
    }
}
