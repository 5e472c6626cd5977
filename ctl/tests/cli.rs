//! What a person sees of `routectl`, errors included: the real binary, on a real datastore and a socket of ours.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::JoinHandle,
};

use agent::admin::types::{
    Attachment, Kernel, Path as BgpPath, Peer, PeerKind, Problem, Query, Reply, Request, Route, Status,
};
use cni::protocol::{read_frame, write_frame};
use tempfile::TempDir;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("datastore")).expect("made");
        Place { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn manifest(&self, file: &str, text: &str) {
        let path = self.path("datastore").join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_routectl"));
        command
            .args(args)
            .env(
                "ROUTELET_DATASTORE",
                format!("file:{}", self.path("datastore").display()),
            )
            .env("ROUTELET_ADMIN_SOCKET", self.path("admin.sock"));
        command.output().expect("it runs")
    }

    /// What it prints, where it succeeds.
    fn says(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {err}");
        assert_eq!(err, "", "{args:?}");
        out
    }

    /// The one line it prints, where it fails.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{args:?}: {}",
            text(&output.stdout)
        );
        assert_eq!(text(&output.stdout), "", "{args:?}");
        let err = text(&output.stderr);
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
        err.replace(&self.dir.path().display().to_string(), "DIR")
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.says(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// An agent that answers one question.
    fn agent(&self, reply: Reply) -> JoinHandle<Query> {
        let socket = self.path("admin.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a question");
            let request: Request = read_frame(&mut stream).expect("a question");
            write_frame(&mut stream, &reply).expect("answered");
            request.query
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const POOL: &str = "\
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.10.0.0/24, natOutgoing: true, ipipMode: CrossSubnet}
";
const BLOCK: &str = "\
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {name: 10-10-0-0-30}
spec:
  cidr: 10.10.0.0/30
  affinity: host:node-1
  allocations: [0, null, null, null]
  attributes: [{handle_id: h, secondary: {node: node-1}}]
  unallocated: [1, 2, 3]
  strictAffinity: false
";
const RESERVATION: &str = "\
apiVersion: crd.projectcalico.org/v1
kind: IPReservation
metadata: {name: gateway}
spec: {reservedCIDRs: [10.10.0.3]}
";

#[test]
fn ipam_show() {
    let place = Place::new();
    place.manifest("ippools/pods.yaml", POOL);
    place.manifest("ipamblocks/10-10-0-0-30.yaml", BLOCK);
    place.manifest("ipreservations/gateway.yaml", RESERVATION);
    assert_eq!(
        place.says(&["ipam", "show"]),
        "\
+----------+--------------+-----------+------------+--------------+-----------+
| GROUPING | CIDR         | IPS TOTAL | IPS IN USE | IPS RESERVED |  IPS FREE |
+----------+--------------+-----------+------------+--------------+-----------+
| IP Pool  | 10.10.0.0/24 |       256 |     1 (0%) |       1 (0%) | 254 (99%) |
+----------+--------------+-----------+------------+--------------+-----------+
"
    );
    assert_eq!(
        place.says(&["ipam", "show", "--show-blocks", "-o", "wide"]),
        "\
+-------------+----------+--------------+-----------+------------+--------------+-----------+
| NAME        | GROUPING | CIDR         | IPS TOTAL | IPS IN USE | IPS RESERVED |  IPS FREE |
+-------------+----------+--------------+-----------+------------+--------------+-----------+
| pods        | IP Pool  | 10.10.0.0/24 |       256 |     1 (0%) |       1 (0%) | 254 (99%) |
| host:node-1 | Block    | 10.10.0.0/30 |         4 |    1 (25%) |      1 (25%) |   2 (50%) |
+-------------+----------+--------------+-----------+------------+--------------+-----------+
"
    );
    let json = place.json(&["ipam", "show", "--show-blocks"]);
    assert_eq!(json["pools"][0]["inUse"], 1);
    assert_eq!(json["pools"][0]["blocks"][0]["affinity"], "host:node-1");
    assert_eq!(place.json(&["ipam", "show"])["pools"][0].get("blocks"), None);
}

#[test]
fn ipam_show_counts_what_64_bits_cannot() {
    let place = Place::new();
    place.manifest(
        "ippools/pods.yaml",
        &POOL.replace(
            "10.10.0.0/24, natOutgoing: true, ipipMode: CrossSubnet",
            "'fd00::/64'",
        ),
    );
    let said = place.says(&["ipam", "show"]);
    assert!(said.contains("| 1.8447e+19 |"), "{said}");
    assert_eq!(
        place.json(&["ipam", "show"])["pools"][0]["total"],
        18_446_744_073_709_551_616.0
    );
}

#[test]
fn get_prints_a_table_a_kind() {
    let place = Place::new();
    place.manifest("ippools/pods.yaml", POOL);
    place.manifest("ipamblocks/10-10-0-0-30.yaml", BLOCK);
    for kind in ["ippools", "IPPool", "ipp"] {
        assert_eq!(
            place.says(&["get", kind]),
            "\
NAME   CIDR           BLOCKS   NAT    IPIPMODE      VXLANMODE   DISABLED   SELECTOR
pods   10.10.0.0/24   /26      true   CrossSubnet   Never       false      all()
"
        );
    }
    assert_eq!(
        place.says(&["get", "block"]),
        "\
NAME           CIDR           AFFINITY      IN USE   FREE
10-10-0-0-30   10.10.0.0/30   host:node-1   1        3
"
    );
    assert!(
        place
            .says(&["get", "ippool", "pods", "-o", "wide"])
            .contains("ASSIGNMENT")
    );
}

#[test]
fn get_prints_every_kind() {
    let place = Place::new();
    let manifests = [
        ("nodes", "v1", "Node", "status: {}"),
        (
            "ipamconfigs",
            "crd.projectcalico.org/v1",
            "IPAMConfig",
            "spec: {}",
        ),
        (
            "blockaffinities",
            "crd.projectcalico.org/v1",
            "BlockAffinity",
            "spec: {node: a, cidr: 10.0.0.0/26}",
        ),
        (
            "ipamhandles",
            "crd.projectcalico.org/v1",
            "IPAMHandle",
            "spec: {handleID: H, block: {10.0.0.0/26: 2}}",
        ),
        (
            "bgpconfigurations",
            "crd.projectcalico.org/v1",
            "BGPConfiguration",
            "spec: {asNumber: 64512}",
        ),
        (
            "bgppeers",
            "crd.projectcalico.org/v1",
            "BGPPeer",
            "spec: {peerIP: 10.0.0.1, asNumber: 65000}",
        ),
        (
            "bgpfilters",
            "crd.projectcalico.org/v1",
            "BGPFilter",
            "spec: {exportV4: [{action: Accept}]}",
        ),
        ("namespaces", "v1", "Namespace", ""),
    ];
    for (plural, api_version, kind, body) in manifests {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: default}}\n{body}\n");
        place.manifest(&format!("{plural}/default.yaml"), &text);
    }
    for (plural, _, kind, _) in manifests {
        for format in ["table", "wide"] {
            let said = place.says(&["get", plural, "-o", format]);
            assert_eq!(said.lines().count(), 2, "{plural}: {said}");
        }
        assert_eq!(place.json(&["get", plural])["items"][0]["kind"], kind);
    }
    assert_eq!(
        place.says(&["get", "bgppeers"]),
        "NAME      PEER       NODES      ASN\ndefault   10.0.0.1   (global)   65000\n"
    );
}

#[test]
fn get_knows_namespaces() {
    let place = Place::new();
    for namespace in ["red", "blue"] {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: {namespace}}}\n");
        place.manifest(&format!("pods/{namespace}/web.yaml"), &text);
    }
    let all = "NAMESPACE   NAME   PHASE   NODE   IPS\nblue        web    -       -      -\nred         web    -       -      -\n";
    assert_eq!(place.says(&["get", "pods"]), all);
    assert_eq!(
        place.json(&["get", "pods", "-n", "red"])["items"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    for args in [
        &["get", "pod", "red/web"][..],
        &["get", "pod", "web", "-n", "red"],
    ] {
        assert_eq!(place.json(args)["metadata"]["namespace"], "red");
    }
    assert_eq!(
        place.fails(&["get", "pod", "web"]),
        "routectl: Pod lives in a namespace: give NAMESPACE/web, or --namespace\n"
    );
    assert_eq!(
        place.fails(&["get", "nodes", "-n", "red"]),
        "routectl: Node is cluster-wide: leave --namespace out\n"
    );
}

#[test]
fn get_gives_programs_objects() {
    let place = Place::new();
    place.manifest("ippools/pods.yaml", POOL);
    let one = place.json(&["get", "ippool", "pods"]);
    assert_eq!(one["spec"]["cidr"], "10.10.0.0/24");
    let all = place.json(&["get", "ippools"]);
    assert_eq!((&all["kind"], &all["items"][0]), (&"List".into(), &one));
    let yaml = place.says(&["get", "ippools", "-o", "yaml"]);
    assert_eq!(
        serde_yaml::from_str::<serde_json::Value>(&yaml).expect("YAML"),
        all
    );
    assert_eq!(place.json(&["get", "nodes"])["items"], serde_json::json!([]));
}

#[test]
fn what_get_cannot_do_it_says() {
    let place = Place::new();
    assert_eq!(
        place.fails(&["get", "ippool", "none"]),
        "routectl: IPPool \"none\" not found\n"
    );
    let said = place.fails(&["get", "gateways"]);
    assert!(
        said.starts_with("routectl: there is no kind \"gateways\": expected one of nodes, ippools, "),
        "{said}"
    );
    assert!(place.fails(&["get", "ippool", "../x"]).contains("metadata.name"));
    assert_eq!(
        place.fails(&["get", "nodes", "--datastore", "file:/nowhere/at/all"]),
        "routectl: there is no datastore at /nowhere/at/all (--datastore or ROUTELET_DATASTORE names another one)\n"
    );
    assert!(!Path::new("/nowhere").exists());
    assert_eq!(
        place.fails(&["get", "nodes", "--datastore", "etcd:x"]),
        "routectl: unknown datastore \"etcd:x\": expected file:DIRECTORY, kubernetes or kubernetes:KUBECONFIG[?context=NAME] (--datastore or ROUTELET_DATASTORE names another one)\n"
    );
    let output = place.run(&["get", "nodes"]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        (String::new(), "There is no Node.\n".to_string())
    );
}

#[test]
fn a_broken_manifest_is_named_beside_the_good_ones() {
    let place = Place::new();
    place.manifest("ippools/pods.yaml", POOL);
    place.manifest(
        "ippools/other.yaml",
        &POOL.replace("10.10.0.0/24", "10.10.0.0/33"),
    );
    let output = place.run(&["get", "ippools"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).lines().count(), 2);
    let err = text(&output.stderr);
    assert!(
        err.contains("other.yaml:3: IPPool \"other\": metadata.name: pods belongs in ippools/pods.yaml"),
        "{err}"
    );
    place.manifest("ippools/third.yml", POOL);
    let err = text(&place.run(&["get", "ippools"]).stderr);
    assert!(
        err.contains("manifests end in .yaml, so name it third.yaml"),
        "{err}"
    );
    let fixed_name = POOL
        .replace("name: pods", "name: other")
        .replace("10.10.0.0/24", "10.10.0.0/33");
    place.manifest("ippools/other.yaml", &fixed_name);
    let said = place.fails(&["get", "ippool", "other"]);
    assert!(
        said.contains("/datastore/ippools/other.yaml:4: IPPool \"other\": spec.cidr: not a network"),
        "{said}"
    );
}

#[test]
fn a_misspelt_field_is_named() {
    let place = Place::new();
    place.manifest("ippools/pods.yaml", &POOL.replace("natOutgoing", "natOutgoin"));
    let err = text(&place.run(&["get", "ippools"]).stderr);
    assert!(
        err.ends_with("pods.yaml:4: spec.natOutgoin: no such field in IPPool: it has no effect\n"),
        "{err}"
    );
}

fn status() -> Status {
    let peer = |address: &str, kind, established: bool| Peer {
        address: address.parse().expect("an address"),
        name: "tor-a".to_string(),
        kind,
        remote_as: 65000,
        state: if established { "Established" } else { "Active" }.to_string(),
        established,
        since: 1_795_181_102,
        last_error: if established { "" } else { "connection refused" }.to_string(),
        prefixes_received: 3,
        prefixes_sent: 1,
        flaps: 2,
        stale_prefixes: 0,
    };
    Status {
        node: "node-1".to_string(),
        version: "0.1.0".to_string(),
        pid: 42,
        started: 1_795_181_100,
        datastore: "file:/x".to_string(),
        waiting_for: Vec::new(),
        addresses: vec!["192.168.33.11/24".parse().expect("an address")],
        router_id: Some("192.168.33.11".to_string()),
        local_as: 64512,
        bgp_converged: true,
        peers: vec![
            peer("192.168.33.12", PeerKind::Mesh, true),
            peer("192.168.33.1", PeerKind::Global, false),
        ],
        kernel: Kernel {
            protocol: 80,
            desired: 5,
            installed: 4,
            repairs: 1,
        },
        tunnels: vec![agent::admin::types::Tunnel {
            device: "tunl0".into(),
            state: "up".into(),
            address: Some("10.10.0.7".parse().expect("an address")),
            mtu: Some(1480),
        }],
        announced: vec!["10.10.0.0/26".parse().expect("a block")],
        attachments: 2,
        problems: vec![Problem::new("BGPPeer \"x\"", "spec.password is not supported")],
    }
}

#[test]
fn node_status() {
    let place = Place::new();
    let agent = place.agent(Reply::Status(Box::new(status())));
    assert_eq!(
        place.says(&["node", "status"]),
        "\
routelet 0.1.0 runs on node-1 since 2026-11-20 13:25:00Z (process 42, AS 64512, router ID 192.168.33.11)
Routes in the kernel: 4 of 5 (protocol 80, 1 repaired); pods: 2; announced: 10.10.0.0/26
Tunnel tunl0: up, address 10.10.0.7, MTU 1480

IPv4 BGP status
+---------------+-------------------+-------+----------------------+----------------------------+
| PEER ADDRESS  | PEER TYPE         | STATE | SINCE                | INFO                       |
+---------------+-------------------+-------+----------------------+----------------------------+
| 192.168.33.12 | node-to-node mesh | up    | 2026-11-20 13:25:02Z | Established                |
| 192.168.33.1  | global            | start | 2026-11-20 13:25:02Z | Active: connection refused |
+---------------+-------------------+-------+----------------------+----------------------------+

IPv6 BGP status
No IPv6 peers found.

Problems
- BGPPeer \"x\": spec.password is not supported
"
    );
    assert_eq!(agent.join().expect("answered"), Query::Status);
    let _agent = place.agent(Reply::Status(Box::new(status())));
    assert_eq!(
        place.json(&["node", "status"])["peers"][1]["lastError"],
        "connection refused"
    );
    let _agent = place.agent(Reply::Status(Box::new(status())));
    assert!(
        place
            .says(&["node", "status", "-o", "wide"])
            .contains("| RECEIVED | SENT | FLAPS |")
    );
}

#[test]
fn node_pods() {
    let place = Place::new();
    let attachment = Attachment {
        container_id: "0123456789abcdef".to_string(),
        ifname: "eth0".to_string(),
        pod: Some("default/web".to_string()),
        phase: Some("Running".to_string()),
        host_device: "cali0123".to_string(),
        addresses: vec!["10.10.0.1".parse().expect("an address")],
    };
    let agent = place.agent(Reply::Attachments(vec![attachment]));
    assert_eq!(
        place.says(&["node", "pods"]),
        "\
POD           PHASE     INTERFACE   HOST DEVICE   ADDRESSES   CONTAINER
default/web   Running   eth0        cali0123      10.10.0.1   0123456789abc
"
    );
    assert_eq!(agent.join().expect("answered"), Query::Attachments);
}

fn route() -> Route {
    let path = |from: &str, best: bool, reason: &str| BgpPath {
        from: from.to_string(),
        next_hop: Some("192.168.33.12".parse().expect("an address")),
        as_path: "65000 65001".to_string(),
        local_pref: best.then_some(100),
        stale: false,
        best,
        reason: reason.to_string(),
    };
    Route {
        prefix: "10.10.1.0/26".parse().expect("a prefix"),
        kernel: Some("via 192.168.33.12 dev eth0".to_string()),
        kernel_problem: String::new(),
        paths: vec![
            path("node-2", true, "the only one"),
            path("tor-a", false, "longer AS path"),
        ],
        sent_to: [("tor-b".to_string(), "not sent: learned from iBGP".to_string())].into(),
    }
}

#[test]
fn routes_and_why() {
    let place = Place::new();
    let agent = place.agent(Reply::Routes(vec![route()]));
    assert_eq!(
        place.says(&["routes"]),
        "\
PREFIX         FROM     NEXT HOP        AS PATH       USED   KERNEL
10.10.1.0/26   node-2   192.168.33.12   65000 65001   yes    via 192.168.33.12 dev eth0
               tor-a    192.168.33.12   65000 65001   no
"
    );
    assert_eq!(agent.join().expect("answered"), Query::Routes { prefix: None });
    let agent = place.agent(Reply::Routes(vec![route()]));
    assert_eq!(
        place.says(&["why", "10.10.1.0/26"]),
        "\
10.10.1.0/26
  kernel: via 192.168.33.12 dev eth0
  from node-2 (next hop 192.168.33.12, AS path 65000 65001, local preference 100): used: the only one
  from tor-a (next hop 192.168.33.12, AS path 65000 65001): not used: longer AS path
  to tor-b: not sent: learned from iBGP
"
    );
    let prefix = "10.10.1.0/26".parse().ok();
    assert_eq!(agent.join().expect("answered"), Query::Routes { prefix });
    let _agent = place.agent(Reply::Routes(Vec::new()));
    assert!(
        place
            .fails(&["why", "10.10.1.0/26"])
            .contains("no route to 10.10.1.0/26: no peer announced it")
    );
}

#[test]
fn a_missing_agent_is_one_line_that_says_what_to_do() {
    let place = Place::new();
    let said = place.fails(&["node", "status"]);
    assert!(
        said.contains("DIR/admin.sock") && said.contains("--admin-socket"),
        "{said}"
    );
    assert!(said.contains("is routelet running on this node?"), "{said}");
    let _agent = place.agent(Reply::Error("no such query".to_string()));
    assert_eq!(
        place.fails(&["node", "status"]),
        "routectl: the agent says: no such query\n"
    );
    let _agent = place.agent(Reply::Attachments(Vec::new()));
    assert!(place.fails(&["node", "status"]).contains("of different versions"));
}

#[test]
fn a_wrong_command_line_is_refused_with_a_hint() {
    let place = Place::new();
    for (args, hint) in [
        (&["why", "10.0.0.1"][..], "<PREFIX>"),
        (&["get"], "<KIND>"),
        (&["get", "nodes", "-o", "xml"], "table"),
        (&["status"], "unrecognized subcommand"),
        (&[], "Usage"),
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).contains(hint),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}
