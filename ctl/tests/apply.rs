//! `routectl apply`, `delete`, and `get` that `apply` takes back: the real binary on a directory, and the same story on
//! a real API server.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use e2e::kube::{ADMIN, KubeServer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A datastore, and a directory for manifests.
struct Place {
    dir: TempDir,
    datastore: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("datastore");
        fs::create_dir(&root).expect("made");
        let datastore = format!("file:{}", root.display());
        Place { dir, datastore }
    }

    fn write(&self, file: &str, text: &str) -> String {
        let path = self.dir.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_routectl"))
            .args(args)
            .env("ROUTELET_DATASTORE", &self.datastore)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut stdin = child.stdin.take().expect("standard input");
        // One that refuses its arguments does not read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    /// What it prints, and what it warns of, where it succeeds.
    fn warns(&self, args: &[&str], input: &str) -> (String, String) {
        let output = self.run(args, input);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {err}");
        (out, self.shorten(&err))
    }

    fn says(&self, args: &[&str], input: &str) -> String {
        let (out, err) = self.warns(args, input);
        assert_eq!(err, "", "{args:?}");
        out
    }

    /// What it complains of, where it fails.
    fn fails(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        let err = self.shorten(&text(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(1),
            "{args:?}: {}{err}",
            text(&output.stdout)
        );
        err
    }

    fn shorten(&self, said: &str) -> String {
        said.replace(&self.dir.path().display().to_string(), "DIR")
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        let json = self.says(&["get", kind, name, "-o", "json"], "");
        serde_json::from_str(&json).expect("JSON")
    }

    fn stored(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join("datastore").join(file)).expect("stored")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const POOL: &str = "\
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata:
  name: pods
spec:
  cidr: 10.10.0.0/16
";
const PEER: &str = "\
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata:
  name: tor
spec:
  peerIP: 192.0.2.1
  asNumber: '1.10'
";
const BLOCK: &str = "\
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {name: 10-10-0-0-31}
spec:
  cidr: 10.10.0.0/31
  allocations: [null, null]
  attributes: []
  unallocated: [0, 1]
  strictAffinity: false
";

fn two() -> String {
    format!("{POOL}---\n{PEER}")
}

/// What a person does, one thing after another, on any datastore.
fn story(place: &Place) {
    let apply = ["apply", "-f", "-"];
    let created = "ippool \"pods\" created\nbgppeer \"tor\" created\n";
    assert_eq!(place.says(&apply, &two()), created);
    let unchanged = "ippool \"pods\" unchanged\nbgppeer \"tor\" unchanged\n";
    assert_eq!(place.says(&apply, &two()), unchanged);
    assert_eq!(place.get("bgppeer", "tor")["spec"]["asNumber"], 65546);

    let version = |kind, name| place.get(kind, name)["metadata"]["resourceVersion"].clone();
    let before = version("bgppeer", "tor");
    let changed = two().replace("10.10.0.0/16", "10.10.0.0/16\n  natOutgoing: true");
    assert_eq!(
        place.says(&apply, &changed),
        "ippool \"pods\" configured\nbgppeer \"tor\" unchanged\n"
    );
    assert_eq!(version("bgppeer", "tor"), before, "unchanged means not written");
    assert_eq!(place.get("ippool", "pods")["spec"]["natOutgoing"], true);
    // What a manifest no longer says is back at its default.
    assert_eq!(place.says(&apply, POOL), "ippool \"pods\" configured\n");
    assert_eq!(place.get("ippool", "pods")["spec"]["natOutgoing"], false);

    // What get prints, apply takes: unchanged, and edited.
    for kind in ["ippools", "bgppeers"] {
        let list = place.says(&["get", kind, "-o", "yaml"], "");
        let said = place.says(&apply, &list);
        assert!(said.ends_with("unchanged\n"), "{said}");
    }
    let old = place.says(&["get", "ippool", "pods", "-o", "yaml"], "");
    let edit = old.replace("disabled: false", "disabled: true");
    assert_eq!(place.says(&apply, &edit), "ippool \"pods\" configured\n");
    let said = place.fails(&apply, &edit.replace("natOutgoing: false", "natOutgoing: true"));
    assert!(
        said.contains("has changed") && said.contains("get it again"),
        "{said}"
    );
    assert_eq!(place.get("ippool", "pods")["spec"]["natOutgoing"], false);

    // A range is for ever, and so is a refused change of anything else beside it.
    let moved = format!("{}---\n{}", PEER.replace("1.10", "7"), POOL.replace("/16", "/17"));
    let said = place.fails(&apply, &moved);
    assert_eq!(
        said,
        "routectl: nothing was changed:\nstandard input:14: document 2: IPPool \"pods\": spec.cidr: \
         immutable: it is 10.10.0.0/16 and stays so; make a new pool\n"
    );
    let sized = POOL.replace("cidr:", "blockSize: 27\n  cidr:");
    assert!(
        place
            .fails(&apply, &sized)
            .contains("standard input:6: document 1: IPPool \"pods\": spec.blockSize: immutable: it is 26")
    );
    assert_eq!(place.get("bgppeer", "tor")["spec"]["asNumber"], 65546);

    // Fields that we do not know are warned of, stored, and kept by a manifest that does not have them.
    let later = PEER.replace("asNumber", "laterField: {x: [1]}\n  asNumber");
    let (said, warned) = place.warns(&apply, &later);
    assert_eq!(said, "bgppeer \"tor\" configured\n");
    assert_eq!(
        warned,
        "warning: standard input:7: document 1: BGPPeer \"tor\": spec.laterField: no such field in BGPPeer: it has no effect\n"
    );
    assert_eq!(place.warns(&apply, &later).0, "bgppeer \"tor\" unchanged\n");
    assert_eq!(
        place.says(&apply, &PEER.replace("1.10", "7")),
        "bgppeer \"tor\" configured\n"
    );
    assert_eq!(
        place.warns(&apply, &later.replace("1.10", "7")).0,
        "bgppeer \"tor\" unchanged\n"
    );

    // Labels are added.
    let labels = |labels: &str| {
        PEER.replace("1.10", "7")
            .replace("name: tor", &format!("name: tor\n  labels: {labels}"))
    };
    place.says(&apply, &labels("{a: one}"));
    place.says(&apply, &labels("{b: two}"));
    assert_eq!(
        place.get("bgppeer", "tor")["metadata"]["labels"],
        json!({"a": "one", "b": "two"})
    );

    let said = place.fails(&["delete", "bgppeer", "tor", "none"], "");
    assert_eq!(said, "routectl: BGPPeer \"none\" not found\n");
    assert_eq!(
        place.says(&["delete", "-f", "-", "--ignore-not-found"], &two()),
        "ippool \"pods\" deleted\n"
    );
    assert_eq!(
        place.fails(&["delete", "-f", "-"], &two()),
        "routectl: IPPool \"pods\" not found\nBGPPeer \"tor\" not found\n"
    );
    // What was saved is created again.
    assert_eq!(place.says(&apply, &old), "ippool \"pods\" created\n");

    let said = place.fails(&apply, BLOCK);
    assert!(
        said.contains("IPAMBlock \"10-10-0-0-31\": written by agents and not by hand")
            && said.contains("--force"),
        "{said}"
    );
    let (said, warned) = place.warns(&["apply", "--force", "-f", "-"], BLOCK);
    assert_eq!(said, "ipamblock \"10-10-0-0-31\" created\n");
    assert!(
        warned.starts_with("warning: IPAMBlock \"10-10-0-0-31\": written by agents"),
        "{warned}"
    );
    assert_eq!(
        place.get("block", "10-10-0-0-31")["spec"]["allocations"],
        json!([null, null])
    );
    assert!(
        place
            .fails(&["delete", "block", "10-10-0-0-31"], "")
            .contains("--force")
    );
    place.warns(&["delete", "block", "10-10-0-0-31", "--force"], "");
}

#[test]
fn the_story_on_a_directory() {
    let place = Place::new();
    story(&place);
    let left: Vec<PathBuf> = walk(&place.dir.path().join("datastore"));
    assert_eq!(left.len(), 1, "only the pool is left: {left:?}");
    assert!(place.stored("ippools/pods.yaml").contains("natOutgoing: false"));
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .expect("listed")
        .map(|entry| entry.expect("listed").path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect()
}

#[test]
fn the_story_on_an_api_server() {
    let server = KubeServer::start().expect("an API server");
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    // A kubectl that is older than the rules in CEL (Kubernetes 1.23) does not know their field.
    let crds = crds.display().to_string();
    server
        .kubectl(&["apply", "--validate=false", "-f", &crds])
        .expect("applied");
    server
        .kubectl(&[
            "wait",
            "--for=condition=established",
            "--timeout=60s",
            "crd",
            "--all",
        ])
        .expect("served");
    let place = Place {
        dir: tempfile::tempdir().expect("a directory"),
        datastore: format!("kubernetes:{}", server.kubeconfig(ADMIN).display()),
    };
    story(&place);
    let names = server
        .kubectl(&["get", "ippools,bgppeers,ipamblocks", "-o", "name"])
        .expect("listed");
    assert_eq!(names, "ippool.crd.projectcalico.org/pods\n");
    // What the server alone refuses, it refuses with the field's name, too.
    let said = place.fails(
        &["apply", "-f", "-"],
        &PEER.replace("name: tor", "name: tor\n  labels: {a: '!'}"),
    );
    assert!(said.contains("BGPPeer \"tor\": metadata.labels"), "{said}");
}

#[test]
fn every_problem_is_told_before_anything_is_written() {
    let place = Place::new();
    let good = place.write("m/a.yaml", &two());
    place.write(
        "m/b.yaml",
        &format!("---\n# more\n---\n{}", POOL.replace("name: pods", "name: other")),
    );
    place.write(
        "m/c.yml",
        &PEER
            .replace("192.0.2.1", "192.0.2.300")
            .replace("name: tor", "name: c"),
    );
    place.write("m/d.json", "{\"kind\": \"Gateway\"}");
    place.write("m/e.yaml", "a: [\n");
    place.write("m/sub/f.yaml", POOL);
    place.write("m/readme.txt", "no manifest");
    place.write("m/.hidden.yaml", "no manifest");
    let dir = place.dir.path().join("m").display().to_string();
    let said = place.fails(&["apply", "-f", &dir], "");
    assert!(said.starts_with("routectl: nothing was changed:\nDIR/m/d.json:1: document 1: Gateway: kind: there is no kind \"Gateway\" here: expected one of Node, IPPool, "), "{said}");
    assert!(said.contains("\nDIR/m/e.yaml:2: document 1: "), "{said}");
    fs::remove_file(place.dir.path().join("m/d.json")).expect("removed");
    fs::remove_file(place.dir.path().join("m/e.yaml")).expect("removed");

    let said = place.fails(&["apply", "-R", "-f", &dir], "");
    assert_eq!(
        said,
        "\
routectl: nothing was changed:
DIR/m/c.yml:6: document 1: BGPPeer \"c\": spec.peerIP: \"192.0.2.300\" is not an address: expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT
DIR/m/sub/f.yaml:4: document 1: IPPool \"pods\": metadata.name: given twice: it is also in DIR/m/a.yaml, document 1
"
    );
    place.write("m/c.yml", "# nothing\n");
    let said = place.fails(&["apply", "-f", &dir], "");
    assert_eq!(
        said,
        "\
routectl: nothing was changed:
DIR/m/b.yaml:9: document 1: IPPool \"other\": spec.cidr: 10.10.0.0/16 overlaps 10.10.0.0/16 of IPPool \"pods\"
"
    );
    assert_eq!(walk(&place.dir.path().join("datastore")), Vec::<PathBuf>::new());
    place.says(&["apply", "-f", &good], "");
    // It overlaps what is stored as well.
    let inside = POOL.replace("name: pods", "name: inside").replace("/16", "/24");
    assert!(
        place
            .fails(&["apply", "-f", "-"], &inside)
            .contains("10.10.0.0/24 overlaps 10.10.0.0/16 of IPPool \"pods\"")
    );
    assert!(
        place
            .fails(&["apply", "-f", &dir.replace("/m", "/none")], "")
            .contains("cannot read DIR/none: No such file")
    );
    assert_eq!(
        place.fails(&["apply", "-f", "-"], "# nothing\n"),
        "routectl: there is no manifest in -\n"
    );
}

#[test]
fn a_node_keeps_what_its_manifest_does_not_speak_of() {
    let place = Place::new();
    let node = "\
apiVersion: v1
kind: Node
metadata:
  name: a
  annotations: {projectcalico.org/IPv4Address: 192.0.2.7/24}
spec: {podCIDR: 10.0.0.0/24, unschedulable: true}
status: {addresses: [{type: InternalIP, address: 192.0.2.7}]}
";
    place.says(&["apply", "-f", "-"], node);
    let labelled = "apiVersion: v1\nkind: Node\nmetadata: {name: a, labels: {rack: a}}\n";
    assert_eq!(
        place.says(&["apply", "-f", "-"], labelled),
        "node \"a\" configured\n"
    );
    let stored = place.get("node", "a");
    assert_eq!(stored["status"]["addresses"][0]["address"], "192.0.2.7");
    assert_eq!(
        stored["metadata"]["annotations"]["projectcalico.org/IPv4Address"],
        "192.0.2.7/24"
    );
    assert_eq!(stored["metadata"]["labels"], json!({"rack": "a"}));
    assert!(place.stored("nodes/a.yaml").contains("unschedulable: true"));
}

#[test]
fn programs_get_what_was_done_as_json() {
    let place = Place::new();
    place.says(&["apply", "-f", "-"], POOL);
    let said = place.says(&["apply", "-f", "-", "-o", "json"], &two());
    assert_eq!(
        serde_json::from_str::<Value>(&said).expect("JSON"),
        json!([
            {"kind": "IPPool", "name": "pods", "outcome": "unchanged"},
            {"kind": "BGPPeer", "name": "tor", "outcome": "created"},
        ])
    );
}

#[test]
fn a_wrong_command_line_is_refused_with_a_hint() {
    let place = Place::new();
    for (args, hint) in [
        (&["apply"][..], "--filename <FILE>"),
        (&["delete"], "KIND"),
        (&["delete", "ippool"], "NAMES"),
        (&["delete", "ippool", "a", "-f", "-"], "cannot be used with"),
    ] {
        let output = place.run(args, "");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).contains(hint),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    assert!(
        place
            .fails(&["delete", "gateway", "a"], "")
            .contains("there is no kind \"gateway\"")
    );
    assert!(place.fails(&["delete", "pod", "a"], "").contains("NAMESPACE/a"));
}
