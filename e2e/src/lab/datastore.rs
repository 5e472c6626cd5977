//! Where the objects of a lab live: in files, or in a real API server of the lab's own.
//!
//! The API server is a machine of its own, the namespace `<lab>-apiserver`, plugged into every subnet with the highest
//! address that nobody has there; so nodes reach it without a route, and nothing is ever on the host's network. Who
//! speaks to it:
//!
//! - each agent with a token of the ServiceAccount in `manifests/base`, asked for as the kubelet does (TokenRequest), so
//!   that it may do what `manifests/base/rbac.yaml` lets it do and nothing else;
//! - `routectl` on a node, and `kubectl`, as an administrator.
//!
//! The Nodes are there before the agents are, as kubelets make them. What this does not do: run controllers, a scheduler
//! or kubelets.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Lab, tail};
use crate::{
    kube::assets,
    manifests,
    net::Netns,
    node::Node,
    process::{Recorded, capture, spawn_daemon},
    topology::{Datastore, Topology},
    wait::{GiveUp, wait_for},
};

/// Name of its namespace, and of its folder.
pub(super) const API_SERVER: &str = "apiserver";
/// How long a server may take to be ready, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
const KILL_LIMIT: Duration = Duration::from_secs(10);
const PORT: u16 = 6443;
/// What the server's certificate says beside its address.
const SERVER_NAME: &str = "kubernetes.default.svc";
const ADMIN_TOKEN: &str = "admin-of-the-lab";
const NAMESPACE: &str = "kube-system";
const SERVICE_ACCOUNT: &str = "routelet";
/// As recorded; no node or router can be called so.
const ETCD_PROCESS: &str = "apiserver/etcd";
const API_PROCESS: &str = "apiserver/kube-apiserver";
/// Variables that would send a client to a proxy: the lab has no way out.
const PROXY_VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

impl Lab {
    /// The directory of the `file:` datastore.
    pub fn datastore(&self) -> PathBuf {
        self.dir.path().join("datastore")
    }

    /// The datastore as the programs of an administrator on a node are told of it.
    pub(crate) fn datastore_url(&self, node: &Node<'_>) -> String {
        match self.topology.datastore {
            Datastore::File => format!("file:{}", self.datastore().display()),
            Datastore::Kubernetes => kubernetes(&admin_kubeconfig(node)),
        }
    }

    /// The datastore as the agent of a node is told of it.
    pub(crate) fn agent_datastore_url(&self, node: &Node<'_>) -> String {
        match self.topology.datastore {
            Datastore::File => self.datastore_url(node),
            Datastore::Kubernetes => kubernetes(&agent_kubeconfig(node)),
        }
    }

    /// The API server, where the objects are in one.
    pub fn api_server(&self) -> Option<ApiServer<'_>> {
        (self.topology.datastore == Datastore::Kubernetes).then_some(ApiServer { lab: self })
    }

    /// `kubectl`'s configuration on a node, where the objects are in an API server.
    pub(crate) fn node_kubeconfig(&self, node: &Node<'_>) -> Option<PathBuf> {
        self.api_server().map(|_| admin_kubeconfig(node))
    }

    /// What PATH ends with on a node: where `kubectl` is, where there is something to ask.
    pub(crate) fn kubectl_path(&self) -> String {
        let folder = self.api_server().and_then(|_| assets().ok());
        folder.map_or_else(String::new, |folder| format!(":{}", folder.display()))
    }

    /// Fills the datastore with the objects of the topology.
    pub(super) fn seed(&self) -> Result<()> {
        match self.api_server() {
            None => manifests::seed(&self.datastore(), &self.topology),
            Some(api_server) => api_server.begin().context("the API server"),
        }
    }
}

fn kubernetes(kubeconfig: &Path) -> String {
    format!("kubernetes:{}", kubeconfig.display())
}

fn admin_kubeconfig(node: &Node<'_>) -> PathBuf {
    node.dir().join("admin.kubeconfig")
}

fn agent_kubeconfig(node: &Node<'_>) -> PathBuf {
    node.dir().join("agent.kubeconfig")
}

/// The API server's address in a subnet: the highest that nobody has.
pub(super) fn api_address(topology: &Topology, subnet: &str) -> Option<Ipv4Addr> {
    let taken = |address: &Ipv4Addr| {
        let by_node = topology.nodes.iter().any(|node| node.address == *address);
        let of_router =
            |router: &crate::topology::RouterSpec| router.addresses.values().any(|own| own == address);
        by_node || topology.routers.iter().any(of_router)
    };
    let cidr = topology.subnet(subnet)?.cidr;
    let (first, last) = (u32::from(cidr.network()), u32::from(cidr.broadcast()));
    let hosts = (first + 1..last).rev().map(Ipv4Addr::from);
    hosts.into_iter().find(|address| !taken(address))
}

/// The API server of a lab: etcd and kube-apiserver. How it is reached is said at the head of this file.
#[derive(Debug, Clone, Copy)]
pub struct ApiServer<'a> {
    lab: &'a Lab,
}

impl ApiServer<'_> {
    /// Its namespace.
    pub fn netns(&self) -> Netns {
        self.lab.netns(API_SERVER)
    }

    /// Its part of the lab's directory.
    pub fn dir(&self) -> PathBuf {
        self.lab.dir().path().join(API_SERVER)
    }

    /// kube-apiserver's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir().join("kube-apiserver.log")
    }

    /// What the agents have asked: verb and resource, as RBAC calls them.
    ///
    /// # Errors
    /// The server's audit log cannot be read.
    pub fn asked(&self) -> Result<BTreeSet<(String, String)>> {
        let log = fs::read_to_string(self.dir().join("audit.log"))?;
        let events = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let asked = events.filter_map(|event| {
            let resource = event["objectRef"]["resource"].as_str()?;
            Some((event["verb"].as_str()?.to_string(), resource.to_string()))
        });
        Ok(asked.collect())
    }

    /// The administrator's kubeconfig, for use in [`ApiServer::netns`].
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("admin.kubeconfig")
    }

    /// kube-apiserver, if it is running.
    pub fn process(&self) -> Option<Recorded> {
        self.lab.running(API_PROCESS)
    }

    /// `kubectl`, as an administrator.
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
        let mut command = self.netns().command(assets()?.join("kubectl"));
        without_proxy(&mut command);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.arg("--cache-dir").arg(self.dir().join("kubectl-cache"));
        command.args(args);
        capture(&mut command, input)?.success(&format!("kubectl {}", args.join(" ")))
    }

    /// Kills kube-apiserver, as a crash does. etcd and the data stay.
    ///
    /// # Errors
    /// It is not running, or does not end.
    pub fn kill(&self) -> Result<()> {
        let process = self.process().context("kube-apiserver is not running")?;
        process.signal(Signal::SIGKILL);
        process.wait_gone(KILL_LIMIT)
    }

    /// Starts kube-apiserver (again), and waits until it is ready.
    ///
    /// # Errors
    /// It does not start; what it wrote last is in the error.
    pub fn start(&self) -> Result<()> {
        let mut command = self.netns().command(assets()?.join("kube-apiserver"));
        command.args(self.flags()?);
        self.spawn(&command, API_PROCESS, &self.log_path())?;
        let ready = wait_for("kube-apiserver to be ready", START_LIMIT, || {
            self.check(API_PROCESS)?;
            self.kubectl(&["get", "--raw", "/readyz"]).map(|_| ())
        });
        ready.with_context(|| end_of(&self.log_path()))
    }

    /// Starts everything, and makes the objects of the topology and the credentials of the nodes.
    fn begin(&self) -> Result<()> {
        fs::create_dir_all(self.dir())?;
        // token, user, uid, groups
        let admin = format!("{ADMIN_TOKEN},admin,admin,system:masters\n");
        fs::write(self.dir().join("tokens"), admin)?;
        fs::write(
            self.dir().join("audit-policy.yaml"),
            serde_yaml::to_string(&audit_policy())?,
        )?;
        self.write_kubeconfig(&self.kubeconfig(), Ipv4Addr::LOCALHOST, ADMIN_TOKEN)?;
        self.start_etcd()?;
        self.start()?;
        self.make_objects()?;
        for node in self.lab.nodes() {
            self.make_credentials(&node)
                .with_context(|| format!("credentials of {}", node.name()))?;
        }
        Ok(())
    }

    fn start_etcd(&self) -> Result<()> {
        let log = self.dir().join("etcd.log");
        let mut command = self.netns().command(assets()?.join("etcd"));
        command.arg("--data-dir").arg(self.dir().join("etcd"));
        command.arg("--unsafe-no-fsync");
        self.spawn(&command, ETCD_PROCESS, &log)?;
        let netns = self.netns();
        let listening = wait_for("etcd to listen", START_LIMIT, || {
            self.check(ETCD_PROCESS)?;
            let connected = netns.within(|| std::net::TcpStream::connect(("127.0.0.1", 2379)).map(drop))?;
            Ok(connected?)
        });
        listening.with_context(|| end_of(&log))
    }

    fn flags(&self) -> Result<Vec<String>> {
        let dir = self.dir().display().to_string();
        let subnet = self.lab.topology().subnets.first().context("no subnet")?;
        let address =
            api_address(self.lab.topology(), &subnet.name).context("no address for the API server")?;
        let key = format!("{dir}/certificates/apiserver.key");
        Ok(vec![
            "--etcd-servers=http://127.0.0.1:2379".to_string(),
            format!("--secure-port={PORT}"),
            "--bind-address=0.0.0.0".to_string(),
            format!("--advertise-address={address}"),
            "--endpoint-reconciler-type=none".to_string(),
            format!("--cert-dir={dir}/certificates"),
            format!("--token-auth-file={dir}/tokens"),
            format!("--service-account-issuer=https://{SERVER_NAME}"),
            // Made together with the certificate.
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            "--authorization-mode=RBAC".to_string(),
            "--service-cluster-ip-range=10.96.0.0/16".to_string(),
            format!("--audit-policy-file={dir}/audit-policy.yaml"),
            format!("--audit-log-path={dir}/audit.log"),
            // It waits for a controller to give every pod's account a token.
            "--disable-admission-plugins=ServiceAccount".to_string(),
        ])
    }

    fn spawn(&self, command: &Command, name: &str, log: &Path) -> Result<()> {
        let record = self.lab.dir().process_record();
        self.lab.adopt(spawn_daemon(command, name, &record, log)?, name)
    }

    fn check(&self, name: &str) -> Result<()> {
        match self.lab.running(name) {
            Some(_) => Ok(()),
            None => Err(GiveUp("it has ended".to_string()).into()),
        }
    }

    /// The kinds and the rights as `manifests/` has them, then what the topology says.
    fn make_objects(&self) -> Result<()> {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
        // The rules in `x-kubernetes-validations` are unknown to a kubectl of 1.20.
        let crds = manifests.join("crds");
        self.kubectl(&["apply", "--validate=false", "-k", &crds.to_string_lossy()])?;
        for file in ["service-account.yaml", "rbac.yaml"] {
            let path = manifests.join("base").join(file);
            wait_for("the namespace of the agents", START_LIMIT, || {
                self.kubectl(&["apply", "-f", &path.to_string_lossy()])
            })?;
        }
        self.kubectl(&[
            "wait",
            "--for=condition=established",
            "--timeout=60s",
            "crd",
            "--all",
        ])?;
        let folder = self.dir().join("manifests");
        manifests::seed(&folder, self.lab.topology())?;
        wait_for("the kinds to be served", START_LIMIT, || {
            self.kubectl(&["apply", "-R", "-f", &folder.to_string_lossy()])
        })?;
        Ok(())
    }

    fn make_credentials(&self, node: &Node<'_>) -> Result<()> {
        let address =
            api_address(self.lab.topology(), &node.spec().subnet).context("no address for the API server")?;
        self.write_kubeconfig(&admin_kubeconfig(node), address, ADMIN_TOKEN)?;
        self.write_kubeconfig(&agent_kubeconfig(node), address, &self.token()?)
    }

    /// A token of the agents' ServiceAccount.
    fn token(&self) -> Result<String> {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86_400},
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{SERVICE_ACCOUNT}/token");
        let answer = self.kubectl_with(&["create", "--raw", &path, "-f", "-"], &request.to_string())?;
        let answer: Value = serde_json::from_str(&answer)?;
        let token = answer["status"]["token"].as_str();
        Ok(token.context("a TokenRequest without a token")?.to_string())
    }

    fn write_kubeconfig(&self, path: &Path, address: Ipv4Addr, token: &str) -> Result<()> {
        let certificate = self.dir().join("certificates/apiserver.crt");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {
                "server": format!("https://{address}:{PORT}"),
                "certificate-authority": certificate,
                "tls-server-name": SERVER_NAME,
            }}],
            "users": [{"name": "lab", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        });
        fs::write(path, serde_yaml::to_string(&kubeconfig)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What the agents ask is written down, and nothing else.
fn audit_policy() -> Value {
    let agents = format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [agents]}, {"level": "None"}],
    })
}

/// Takes the variables away that would send a client to a proxy.
pub(crate) fn without_proxy(command: &mut Command) {
    for variable in PROXY_VARIABLES {
        command.env_remove(variable);
    }
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    format!("{} ends with:\n{}", log.display(), tail(&text, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_has_an_address_of_its_own_in_each_subnet() {
        let mut topology = Topology::demo().unwrap();
        let address = |topology: &Topology| api_address(topology, "rack-a").unwrap().to_string();
        assert_eq!(address(&topology), "192.168.33.254");
        topology.nodes[0].address = "192.168.33.254".parse().unwrap();
        assert_eq!(address(&topology), "192.168.33.253");
    }
}
