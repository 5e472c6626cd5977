//! The lab on a real API server: agents with the rights of `manifests/base/rbac.yaml`, and a server that goes away.
//!
//! Without etcd and kube-apiserver these tests fail and say `make kube-assets`.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use common::{CONVERGENCE, PING_INTERVAL, check_addresses, eventually, must, one_rack, wait_mesh};
use e2e::{
    Attachment, Lab, Node, Topology,
    lab::{ApiServer, unique_name},
    labdir::{LabDir, State},
    ping::Pinger,
    topology::Datastore,
    wait_for,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(15);
/// An agent that has lost the API server asks again after 30 s at the latest.
const CATCH_UP: Duration = Duration::from_secs(75);
/// What a runtime would call at once: far below the plugin's own limit of 30 s.
const PROMPT: Duration = Duration::from_secs(10);
/// CNI: try again later.
const TRY_AGAIN: u64 = 11;

fn on_kubernetes(nodes: usize, pool: &str) -> Topology {
    let mut topology = one_rack(nodes, pool, 28);
    topology.datastore = Datastore::Kubernetes;
    topology
}

fn api_server(lab: &Lab) -> ApiServer<'_> {
    lab.api_server().unwrap()
}

fn caught_up<T>(what: &str, probe: impl FnMut() -> Result<T>) -> T {
    must(wait_for(what, CATCH_UP, probe))
}

#[test]
fn the_demo_passes() {
    let name = unique_name();
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["demo", "--name", &name, "--datastore", "kubernetes"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{shown}\n{errors}", output.status);
    let last = shown.lines().last().unwrap_or_default();
    let (passed, failed) = last.split_once(", ").unwrap_or_default();
    assert_eq!(failed, "0 failed", "{shown}");
    let passed: usize = passed.trim_end_matches(" passed").parse().unwrap();
    assert!(passed > 60, "{shown}");
    assert_eq!(LabDir::named(&name).unwrap().state(), State::Absent);
}

/// Takes the rule with this resource out of the agents' ClusterRole, and gives the whole role back.
fn without_rule(lab: &Lab, resource: &str) -> Value {
    let role = must(api_server(lab).kubectl(&["get", "clusterrole", "routelet", "-o", "json"]));
    let role: Value = serde_json::from_str(&role).unwrap();
    let rules = role["rules"].as_array().unwrap();
    let is_it = |rule: &&Value| rule["resources"].as_array().unwrap().contains(&json!(resource));
    let left: Vec<_> = rules.iter().filter(|rule| !is_it(rule)).collect();
    assert!(left.len() < rules.len(), "no rule about {resource} in {role}");
    set_rules(lab, &json!(left));
    role["rules"].clone()
}

fn set_rules(lab: &Lab, rules: &Value) {
    let patch = json!({ "rules": rules }).to_string();
    must(api_server(lab).kubectl(&["patch", "clusterrole", "routelet", "--type=merge", "-p", &patch]));
}

fn wait_log(node: &Node<'_>, text: &str) {
    caught_up(&format!("\"{text}\" in the log"), || {
        ensure!(node.log().contains(text), "{}", node.log());
        Ok(())
    });
}

#[test]
fn a_missing_right_is_named_and_takes_nothing_else_down() {
    let lab = must(Lab::build(&unique_name(), on_kubernetes(1, "10.62.0.0/24")));
    let all = without_rule(&lab, "ippools");
    must(lab.start());
    let node = lab.node("a");
    let process = node.agent().unwrap();
    wait_log(&node, "not allowed to list ippools.crd.projectcalico.org");
    set_rules(&lab, &all);
    // The rights are back: nothing has to be started again.
    let pod = caught_up("an address", || lab.attach("first", "a"));
    eventually("a ping", || lab.ping("a", "first"));

    without_rule(&lab, "ipamhandles");
    let late = lab.make_pod("late", "a").unwrap();
    eventually("the refusal", || {
        let output = node.cni("ADD", &late)?;
        let text = output.error_text();
        ensure!(
            output.error_code() == Some(TRY_AGAIN)
                && text.contains("not allowed to get ipamhandles.crd.projectcalico.org"),
            "{text}"
        );
        Ok(())
    });
    wait_log(&node, "not allowed to get ipamhandles.crd.projectcalico.org");
    must(lab.ping("a", "first"));
    assert_eq!(must(lab.add(&pod)).addresses, pod.addresses);
    set_rules(&lab, &all);
    eventually("an address", || lab.add(&late));
    assert_eq!(node.agent(), Some(process), "the agent was started again");
}

/// The agent's rights are those of the manifest: nothing works that is not written there.
#[test]
fn agents_have_the_rights_of_the_manifest_and_no_others() {
    let lab = must(Lab::build(&unique_name(), on_kubernetes(1, "10.63.0.0/24")));
    let kubeconfig = lab.node("a").dir().join("agent.kubeconfig");
    let may = |verb: &str, resource: &str, namespace: &str| {
        let kubectl = must(e2e::kube::assets()).join("kubectl");
        let mut command = lab.netns("a").command(kubectl);
        command.arg("--kubeconfig").arg(&kubeconfig);
        command.arg("--cache-dir").arg(lab.node("a").dir().join("cache"));
        command.args(["auth", "can-i", verb, resource, "-n", namespace]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    for (verb, resource, namespace) in [
        ("patch", "nodes", ""),
        ("watch", "ippools.crd.projectcalico.org", ""),
        ("watch", "secrets", "kube-system"),
        ("watch", "pods", ""),
    ] {
        assert!(may(verb, resource, namespace), "cannot {verb} {resource}");
    }
    for (verb, resource, namespace) in [
        ("create", "nodes", ""),
        ("update", "ippools.crd.projectcalico.org", ""),
        ("watch", "secrets", "default"),
        ("create", "pods", "default"),
    ] {
        assert!(!may(verb, resource, namespace), "can {verb} {resource}");
    }
}

#[test]
fn the_phase_of_a_nodes_pods_is_known_and_of_no_other() {
    let lab = common::up(on_kubernetes(2, "10.69.0.0/24"));
    must(lab.attach("here", "a"));
    must(lab.attach("stranger", "a"));
    for (pod, node) in [("here", "a"), ("stranger", "b")] {
        let overrides = format!("--overrides={}", json!({"spec": {"nodeName": node}}));
        must(api_server(&lab).kubectl(&["run", pod, "--image=localhost/none", &overrides]));
    }
    caught_up("the phase of the node's own pod", || {
        let pods = lab.node("a").routectl_json(&["node", "pods"])?;
        let phase_of = |name: &str| {
            let mut all = pods.as_array().into_iter().flatten();
            all.find(|pod| pod["pod"] == format!("default/{name}"))
                .map(|pod| pod["phase"].clone())
        };
        let phases = (phase_of("here"), phase_of("stranger"));
        ensure!(
            phases == (Some(json!("Pending")), Some(Value::Null)),
            "{phases:?} in {pods}"
        );
        Ok(())
    });
}

/// Verbs and resources of the rules in `manifests/base/rbac.yaml`, as they are in the API server.
fn granted(lab: &Lab) -> BTreeSet<(String, String)> {
    let roles = ["clusterrole", "role"].map(|kind| {
        let text =
            must(api_server(lab).kubectl(&["get", kind, "routelet", "-n", "kube-system", "-o", "json"]));
        serde_json::from_str::<Value>(&text).unwrap()
    });
    let words = |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).unwrap() };
    let rules = roles.iter().flat_map(|role| role["rules"].as_array().unwrap());
    let mut granted = BTreeSet::new();
    for rule in rules {
        for resource in words(&rule["resources"]) {
            granted.extend(
                words(&rule["verbs"])
                    .into_iter()
                    .map(|verb| (verb, resource.clone())),
            );
        }
    }
    granted
}

/// A block that is claimed, used and emptied, and whose end somebody began and did not live to finish: the agents need
/// every right that they have.
#[test]
fn every_right_is_used() {
    let lab = common::up(on_kubernetes(2, "10.68.0.0/24"));
    let pods = [("one", "a"), ("other", "b")].map(|(pod, node)| must(lab.attach(pod, node)));
    pods.iter().for_each(|pod| must(lab.detach(&pod.pod)));
    let api_server = api_server(&lab);
    for (kind, patch) in [
        ("ipamblocks", r#"{"spec":{"deleted":true}}"#),
        ("blockaffinities", r#"{"spec":{"state":"pendingDeletion"}}"#),
    ] {
        for name in must(api_server.kubectl(&["get", kind, "-o", "name"])).lines() {
            must(api_server.kubectl(&["patch", name, "--type=merge", "-p", patch]));
        }
    }
    caught_up("blocks and affinities to be gone", || {
        let left = api_server.kubectl(&["get", "blockaffinities,ipamblocks", "-o", "name"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    });
    // A watch is written down when it ends.
    lab.nodes()
        .for_each(|node| must(node.kill_agent(Signal::SIGTERM)));
    let granted = granted(&lab);
    eventually("each right in the audit log", || {
        let asked = api_server.asked()?;
        let (unused, refused): (Vec<_>, Vec<_>) = (
            granted.difference(&asked).collect(),
            asked.difference(&granted).collect(),
        );
        ensure!(
            unused.is_empty() && refused.is_empty(),
            "not used: {unused:?}, not granted: {refused:?}"
        );
        Ok(())
    });
}

/// Processor time that a process has used, in hundredths of a second.
fn processor_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // utime and stime are fields 14 and 15; the first here is field 3.
    fields[11..=12]
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum()
}

/// How many attachments wait for their addresses to be released.
fn releasing(node: &Node<'_>) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(node.dir().join("state/attachments"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        count += usize::from(text.contains("\"releasing\""));
    }
    Ok(count)
}

fn del(lab: &Lab, pod: &Attachment) {
    let started = Instant::now();
    let output = must(lab.node(&pod.node).cni("DEL", pod));
    assert_eq!(output.status, 0, "DEL of {}: {}", pod.pod, output.error_text());
    assert!(started.elapsed() < PROMPT, "DEL took {:?}", started.elapsed());
}

fn refused_promptly(lab: &Lab, pod: &Attachment) {
    let started = Instant::now();
    let output = must(lab.node(&pod.node).cni("ADD", pod));
    let text = output.error_text();
    assert_eq!(output.error_code(), Some(TRY_AGAIN), "{text}");
    assert!(text.contains("the datastore is away"), "{text}");
    assert!(started.elapsed() < PROMPT, "ADD took {:?}", started.elapsed());
}

fn ping_both_ways(lab: &Lab, one: &str, other: &str) -> [Pinger; 2] {
    [(one, other), (other, one)].map(|(from, to)| must(lab.pinger(from, to, PING_INTERVAL)))
}

fn assert_none_lost(pingers: [Pinger; 2]) {
    for pinger in pingers {
        let report = pinger.stop().unwrap();
        assert_eq!(report.lost, [] as [u64; 0], "of {} pings", report.sent);
    }
}

/// Lets the pings go on until the API server has been away for long enough.
fn sit_out(pingers: &[Pinger; 2], since: Instant) {
    while since.elapsed() < OUTAGE {
        for pinger in pingers {
            must(pinger.wait_answers(20, CONVERGENCE));
        }
    }
}

#[test]
fn an_api_server_that_is_away_is_missed_by_no_pod() {
    let lab = common::up(on_kubernetes(2, "10.64.0.0/24"));
    let pods: Vec<_> = [("p1", "a"), ("p2", "b"), ("gone", "a")]
        .map(|(pod, node)| must(lab.attach(pod, node)))
        .to_vec();
    wait_mesh(&lab, &pods);
    let node = lab.node("a");
    let agent = node.agent().unwrap();
    let pingers = ping_both_ways(&lab, "p1", "p2");
    let (late, never) = (
        lab.make_pod("late", "a").unwrap(),
        lab.make_pod("never", "a").unwrap(),
    );

    must(api_server(&lab).kill());
    let since = Instant::now();
    let (time, lines) = (processor_time(agent.pid), node.log().lines().count());
    // What is recorded goes on: the same answer again, and an end. A new address there is none.
    assert_eq!(must(lab.add(&pods[0])).addresses, pods[0].addresses);
    del(&lab, &pods[2]);
    del(&lab, &pods[2]);
    refused_promptly(&lab, &late);
    refused_promptly(&lab, &never);
    del(&lab, &never);
    assert_eq!(must(releasing(&node)), 2, "releases that wait in the record");
    sit_out(&pingers, since);
    let (time, lines) = (
        processor_time(agent.pid) - time,
        node.log().lines().count() - lines,
    );
    assert!(time < 200, "{time} hundredths of a second of processor time");
    assert!(lines < 150, "{lines} lines in the log:\n{}", node.log());
    must(node.check_sessions());

    must(api_server(&lab).start());
    let late = caught_up("an address", || lab.add(&late));
    let there = [pods[0].clone(), pods[1].clone(), late];
    caught_up("every release", || {
        let waiting = releasing(&node)?;
        ensure!(waiting == 0, "{waiting} wait");
        check_addresses(&lab, &there)
    });
    wait_mesh(&lab, &there);
    assert_none_lost(pingers);
    must(follow_a_change(&lab));
    assert_eq!(node.agent(), Some(agent), "the agent was started again");
}

/// What an administrator writes after the outage reaches the agents: without the mesh there is no session.
fn follow_a_change(lab: &Lab) -> Result<()> {
    let patch = r#"{"spec":{"nodeToNodeMeshEnabled":false}}"#;
    api_server(lab).kubectl(&[
        "patch",
        "bgpconfigurations",
        "default",
        "--type=merge",
        "-p",
        patch,
    ])?;
    wait_for("the mesh to end", CATCH_UP, || {
        for node in lab.nodes() {
            let sessions = node.sessions()?;
            ensure!(sessions.is_empty(), "{}: {sessions:?}", node.name());
        }
        Ok(())
    })?;
    let patch = r#"{"spec":{"nodeToNodeMeshEnabled":true}}"#;
    api_server(lab).kubectl(&[
        "patch",
        "bgpconfigurations",
        "default",
        "--type=merge",
        "-p",
        patch,
    ])?;
    lab.wait_sessions().context("the mesh, back again")
}

#[test]
fn an_agent_that_comes_back_before_the_api_server_does_keeps_what_there_is() {
    let lab = common::up(on_kubernetes(2, "10.65.0.0/24"));
    let pods: Vec<_> = [("p1", "a"), ("p2", "b"), ("gone", "a")]
        .map(|(pod, node)| must(lab.attach(pod, node)))
        .to_vec();
    wait_mesh(&lab, &pods);
    let node = lab.node("a");
    let routes = node.own_routes().unwrap();
    let pingers = ping_both_ways(&lab, "p1", "p2");

    must(api_server(&lab).kill());
    let since = Instant::now();
    must(node.kill_agent(Signal::SIGKILL));
    must(node.start_agent());
    must(node.wait_ready());
    wait_log(&node, "cannot list secrets: https://");
    assert_eq!(must(lab.add(&pods[0])).addresses, pods[0].addresses);
    sit_out(&pingers, since);
    assert_eq!(node.own_routes().unwrap(), routes, "while the API server is away");
    del(&lab, &pods[2]);
    refused_promptly(&lab, &lab.make_pod("late", "a").unwrap());

    must(api_server(&lab).start());
    caught_up("the sessions", || {
        lab.nodes().try_for_each(|node| node.check_sessions())
    });
    let there = [pods[0].clone(), pods[1].clone()];
    caught_up("the release", || check_addresses(&lab, &there));
    eventually("the routes without those of the pod that is gone", || {
        let gone = pods[2].address()?.to_string();
        let expected: Vec<_> = routes.iter().filter(|route| route.dst != gone).cloned().collect();
        let now = node.own_routes()?;
        ensure!(now == expected, "{now:?} instead of {expected:?}");
        Ok(())
    });
    assert_none_lost(pingers);
}

/// A server that takes connections and says nothing: an answer comes all the same, and before the plugin loses patience.
#[test]
fn an_api_server_that_never_answers_holds_no_runtime_up() {
    let lab = common::up(on_kubernetes(1, "10.66.0.0/24"));
    let pods = ["stays", "gone"].map(|pod| must(lab.attach(pod, "a")));
    let (node, server) = (lab.node("a"), api_server(&lab).process().unwrap());
    let late = lab.make_pod("late", "a").unwrap();

    server.signal(Signal::SIGSTOP);
    assert_eq!(must(lab.add(&pods[0])).addresses, pods[0].addresses);
    del(&lab, &pods[1]);
    assert_eq!(must(releasing(&node)), 1);
    let output = must(node.cni("ADD", &late));
    let text = output.error_text();
    assert_eq!(output.error_code(), Some(TRY_AGAIN), "{text}");
    assert!(text.contains("the datastore is away"), "{text}");

    server.signal(Signal::SIGCONT);
    let late = caught_up("an address", || lab.add(&late));
    caught_up("the release", || {
        check_addresses(&lab, &[pods[0].clone(), late.clone()])
    });
    must(lab.ping("stays", "late"));
}

/// Each is told in the agent's log and by `routectl`, and the agent lives on where that can help.
#[test]
fn what_keeps_an_agent_from_the_api_server_is_told() {
    let lab = must(Lab::build(&unique_name(), on_kubernetes(1, "10.67.0.0/24")));
    let node = lab.node("a");
    let kubeconfig = node.dir().join("agent.kubeconfig");
    let good = fs::read_to_string(&kubeconfig).unwrap();
    let routectl = || {
        let mut command = node.command(lab.binaries().routectl());
        command.args(["get", "bgppeers"]);
        command.env(
            "ROUTELET_DATASTORE",
            format!("kubernetes:{}", kubeconfig.display()),
        );
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };

    // A file that is not there: it cannot start, and says which.
    fs::remove_file(&kubeconfig).unwrap();
    let name = kubeconfig.display().to_string();
    must(node.start_agent());
    eventually("the agent to give up", || {
        ensure!(node.agent().is_none(), "it is running");
        Ok(())
    });
    let log = node.log();
    assert!(
        log.contains(&format!("cannot use the kubeconfig {name}")) && log.contains("No such file"),
        "{log}"
    );
    assert!(routectl().contains(&name));

    // A token that nobody gave out.
    let token = good.split("token: ").nth(1).unwrap().split('\n').next().unwrap();
    fs::write(&kubeconfig, good.replace(token, "nobodys")).unwrap();
    must(node.start_agent());
    wait_log(&node, "does not accept our credentials");
    let said = routectl();
    assert!(said.contains("does not accept our credentials"), "{said}");
    must(node.wait_ready());
    must(node.kill_agent(Signal::SIGTERM));

    // A kind that is not there, until it is: then all goes on by itself.
    fs::write(&kubeconfig, &good).unwrap();
    let crd = must(api_server(&lab).kubectl(&["get", "crd", "bgppeers.crd.projectcalico.org", "-o", "json"]));
    must(api_server(&lab).kubectl(&["delete", "crd", "bgppeers.crd.projectcalico.org"]));
    must(node.start_agent());
    wait_log(&node, "the API server has no BGPPeer");
    let said = routectl();
    assert!(said.contains("the API server has no BGPPeer"), "{said}");
    let mut crd: Value = serde_json::from_str(&crd).unwrap();
    crd["metadata"] = json!({"name": "bgppeers.crd.projectcalico.org"});
    crd["status"] = Value::Null;
    must(api_server(&lab).kubectl_with(&["create", "--validate=false", "-f", "-"], &crd.to_string()));
    caught_up("BGP to start", || {
        ensure!(node.log().contains("BGP has converged"), "{}", node.log());
        Ok(())
    });
}
