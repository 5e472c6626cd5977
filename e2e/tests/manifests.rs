//! The manifests of the quick start, applied to a real API server in its order: definitions, base, overlay. And what
//! the agent's ServiceAccount may do with them: that, and no more.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{fs, path::Path};

use e2e::kube::KubeServer;
use serde_json::Value;

/// Who the DaemonSet's agents are.
const AGENT: &str = "--as=system:serviceaccount:kube-system:routelet";

/// The manifests of a kustomization and of those it builds on. kubectl's own kustomize does this from 1.21 on; the one
/// here may be older. Patches and names of images are left out: they change nothing the server checks.
fn collect(folder: &Path) -> Vec<String> {
    let names = ["kustomization.yaml", "Kustomization"];
    let file = names
        .iter()
        .map(|name| folder.join(name))
        .find(|file| file.exists())
        .unwrap();
    let kustomization: Value = serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let resources = kustomization["resources"].as_array().unwrap();
    let paths = resources
        .iter()
        .map(|resource| folder.join(resource.as_str().unwrap()));
    paths
        .flat_map(|path| {
            if path.is_dir() {
                collect(&path)
            } else {
                vec![fs::read_to_string(path).unwrap()]
            }
        })
        .collect()
}

/// kubectl before 1.23 knows no `x-kubernetes-validations`, so its own check is left out: the server's is what counts.
fn apply(server: &KubeServer, folder: &str, more: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let manifests = collect(&root.join(folder)).join("\n---\n");
    let mut args = vec!["apply", "--validate=false", "-f", "-"];
    args.extend(more);
    server.kubectl_with(&args, &manifests).unwrap()
}

#[test]
fn the_quick_starts_manifests_are_what_the_server_takes() {
    let server = KubeServer::start().unwrap();
    apply(&server, "crds", &[]);
    let established = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd",
        "--all",
    ];
    server.kubectl(&established).unwrap();
    for folder in ["base", "overlays/tor-peering"] {
        let said = apply(&server, folder, &["--dry-run=server"]);
        assert!(
            said.contains("daemonset.apps/routelet created (server dry run)"),
            "{folder}: {said}"
        );
    }
    apply(&server, "base", &[]);
    let again = apply(&server, "base", &[]);
    // A server before 1.25 forgets the definitions' x-kubernetes-validations, so kubectl sends them every time.
    let changed = again
        .lines()
        .filter(|line| !line.starts_with("customresourcedefinition") && !line.ends_with("unchanged"));
    assert_eq!(
        changed.collect::<Vec<_>>(),
        [""; 0],
        "the second time changes nothing"
    );
    let overlay = apply(&server, "overlays/tor-peering", &[]);
    assert!(overlay.contains("bgppeer.crd.projectcalico.org/"), "{overlay}");
    let pool = server
        .kubectl(&["get", "ippools", "-o", "jsonpath={.items[*].spec.cidr}"])
        .unwrap();
    assert_eq!(pool, "10.244.0.0/16");
}

#[test]
fn the_agent_may_do_what_it_does_and_no_more() {
    let server = KubeServer::start().unwrap();
    apply(&server, "crds", &[]);
    apply(&server, "base", &[]);
    let may = |verb: &str, resource: &str, namespace: &str| {
        // `can-i` exits with 1 for "no".
        let asked = server.kubectl(&["auth", "can-i", verb, resource, AGENT, "-n", namespace]);
        asked.is_ok_and(|answer| answer.trim() == "yes")
    };
    for (verb, resource) in [
        ("list", "nodes"),
        ("watch", "nodes"),
        ("patch", "nodes"),
        ("watch", "ippools.crd.projectcalico.org"),
        ("watch", "bgppeers.crd.projectcalico.org"),
        ("update", "ipamblocks.crd.projectcalico.org"),
        ("create", "blockaffinities.crd.projectcalico.org"),
        ("delete", "ipamhandles.crd.projectcalico.org"),
        ("watch", "secrets"),
    ] {
        assert!(
            may(verb, resource, "kube-system"),
            "must be able to {verb} {resource}"
        );
    }
    for (verb, resource, namespace) in [
        ("delete", "nodes", "default"),
        ("create", "pods", "default"),
        ("update", "ippools.crd.projectcalico.org", "default"),
        ("delete", "bgppeers.crd.projectcalico.org", "default"),
        ("get", "secrets", "default"),
        ("update", "secrets", "kube-system"),
        ("*", "*", "kube-system"),
    ] {
        assert!(
            !may(verb, resource, namespace),
            "must not be able to {verb} {resource} in {namespace}"
        );
    }
}
