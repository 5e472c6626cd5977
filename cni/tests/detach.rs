//! DEL with and without an agent, and the verbs that only look: CHECK, GC, STATUS, VERSION.

mod lab;

use std::process::{Command, Stdio};

use cni::protocol::{DelRequest, Failure, Reply, Verb, code};
use lab::{Call, Host, Pod};
use serde_json::{Value, json};

fn request(pod: &Pod) -> DelRequest {
    DelRequest {
        id: pod.id(),
        network: "pods".into(),
    }
}

#[test]
fn agent_is_told_and_may_be_told_again() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let agent = host.agent(&["10.65.0.7"]);
    let call = Call::new("DEL", &host, &pod);
    call.done();
    call.done();
    assert_eq!(
        agent.heard(),
        [Verb::Del(request(&pod)), Verb::Del(request(&pod))]
    );
    assert_eq!(host.pending(), []);
}

#[test]
fn namespace_may_be_gone_and_settings_wrong() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let agent = host.agent(&["10.65.0.7"]);
    for netns in ["", "/run/netns/no-such-pod"] {
        Call::new("DEL", &host, &pod)
            .set("CNI_NETNS", netns)
            .field("mtu", json!("big"))
            .done();
        assert_eq!(agent.heard(), [Verb::Del(request(&pod))]);
    }
}

#[test]
fn what_the_agent_refuses_is_an_error() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent =
        host.agent_that(|_| Some(Reply::Error(Failure::new(code::KERNEL, "cannot delete the link"))));
    Call::new("DEL", &host, &pod).fails(101, "cannot delete the link");
    assert_eq!(host.pending(), []);
}

#[test]
fn without_agent_the_pod_is_cut_off_and_the_del_waits() {
    let (host, pod, other) = (Host::new(), Pod::new("nginx", "c1"), Pod::new("other", "c2"));
    let agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &pod).result();
    drop(agent);
    let agent = host.agent(&["10.65.0.8"]);
    Call::new("ADD", &host, &other).result();
    drop(agent);

    let call = Call::new("DEL", &host, &pod)
        .set("CNI_ARGS", "")
        .set("CNI_NETNS", "");
    call.done();
    assert_eq!(host.pending(), [request(&pod)]);
    assert_eq!(host.devices(), [other.device()]);
    assert_eq!(host.namespace.routes(), ["10.65.0.8"]);
    assert_eq!(pod.namespace.links(), ["lo"]);
    call.done();
    assert_eq!(host.pending(), [request(&pod)]);

    let _agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &pod).result();
    assert_eq!(host.pending(), [], "a new ADD takes the DEL back");
}

/// The old sandbox's DEL comes late, when the pod's name has a new sandbox.
#[test]
fn late_del_leaves_the_successor_alone() {
    let (host, old, new) = (Host::new(), Pod::new("db-0", "c1"), Pod::new("db-0", "c2"));
    let agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &old).result();
    Call::new("ADD", &host, &new).result();
    drop(agent);
    Call::new("DEL", &host, &old).done();
    assert_eq!(host.devices(), [new.device()]);
    host.namespace.ping("10.65.0.7");
}

#[test]
fn del_that_can_neither_be_told_nor_queued_fails() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    std::fs::write(host.state(), "a file is in the way").unwrap();
    Call::new("DEL", &host, &pod).fails(11, "the DEL cannot be queued in");
}

#[test]
fn check_says_what_differs() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent(&["10.65.0.7", "fd65::7"]);
    let add = Call::new("ADD", &host, &pod);
    let device = pod.device();
    let harm: &[(&str, &str, &str)] = &[
        (
            "pod",
            "addr del 10.65.0.7/32 dev eth0",
            "the pod's eth0 has not got 10.65.0.7",
        ),
        (
            "pod",
            "addr del fd65::7/128 dev eth0",
            "the pod's eth0 has not got fd65::7",
        ),
        ("pod", "link set eth0 down", "the pod's eth0 is down"),
        (
            "pod",
            "link set eth0 address 02:00:00:00:00:01",
            "is 02:00:00:00:00:01, not",
        ),
        ("host", "link set D down", "the host's D is down"),
        (
            "host",
            "route del 10.65.0.7",
            "the host does not route 10.65.0.7 to D",
        ),
        (
            "host",
            "route del fd65::7",
            "the host does not route fd65::7 to D",
        ),
        (
            "host",
            "link set D alias other",
            "no device of the host is labelled \"routelet c1 eth0\"",
        ),
        ("host", "link del D", "the pod has no eth0"),
    ];
    for (side, command, message) in harm {
        let result = add.result();
        let check = Call::new("CHECK", &host, &pod).field("prevResult", result);
        check.done();
        let namespace = if *side == "pod" {
            &pod.namespace
        } else {
            &host.namespace
        };
        namespace.ip(&command.replace('D', &device));
        check.fails(103, &message.replace('D', &device));
    }
}

#[test]
fn check_needs_the_result_of_add() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let check = Call::new("CHECK", &host, &pod);
    check.fails(7, "prevResult (the result of ADD) is missing");
    let result = json!({"interfaces": [{"name": "eth0"}], "ips": []});
    check
        .field("prevResult", result)
        .fails(7, "prevResult.interfaces is without eth0");
    Call::new("CHECK", &host, &pod)
        .field("cniVersion", json!("0.3.1"))
        .fails(1, "takes 0.4.0 or later");
}

#[test]
fn status_is_the_agents() {
    let host = Host::new();
    let status = || Call::bare("STATUS").on(&host).field("cniVersion", json!("1.1.0"));
    status().fails(50, "the routelet agent does not answer at");
    let agent = host.agent(&[]);
    status().done();
    assert_eq!(agent.heard(), [Verb::Status]);
    drop(agent);
    let _agent = host.agent_that(|_| Some(Reply::Error(Failure::new(code::NOT_AVAILABLE, "still starting"))));
    status().fails(50, "still starting");
    Call::bare("STATUS")
        .on(&host)
        .fails(1, "cniVersion 1.0.0 does not know STATUS");
}

#[test]
fn gc_deletes_nothing() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &pod).result();
    agent.heard();
    let gc = || Call::bare("GC").on(&host).field("cniVersion", json!("1.1.0"));
    gc().done();
    gc().field("cni.dev/valid-attachments", json!([])).done();
    assert_eq!(agent.heard(), []);
    host.namespace.ping("10.65.0.7");
}

#[test]
fn version_needs_no_node() {
    let outcome = Call::bare("VERSION").run_with(r#"{"cniVersion": "1.0.0"}"#);
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let supported = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    assert_eq!(
        answer,
        json!({"cniVersion": "1.0.0", "supportedVersions": supported})
    );
}

#[test]
fn bad_calls_say_what_is_wrong() {
    Call::bare("ATTACH").fails(
        4,
        "CNI_COMMAND is \"ATTACH\"; it must be one of ADD, DEL, CHECK, GC, STATUS, VERSION",
    );
    Call::bare("ADD")
        .run_with("{\"name\": }")
        .failure(6, "is not JSON: expected value at line 1 column 10");
    Call::bare("ADD").run_with("").failure(6, "is empty");
    Call::bare("ADD").fails(4, "CNI_CONTAINERID is not set");
    let error = Call::bare("DEL")
        .field("cniVersion", json!("0.2.0"))
        .fails(1, "supported are 0.3.1, 0.4.0, 1.0.0, 1.1.0");
    assert_eq!(error["cniVersion"], "1.1.0");
    let error = Call::bare("DEL")
        .field("cniVersion", json!("0.4.0"))
        .fails(4, "CNI_CONTAINERID is not set");
    assert_eq!(error["cniVersion"], "0.4.0");
    let long = format!("{{\"name\": \"{}\"}}", "a".repeat(1 << 20));
    Call::bare("ADD")
        .run_with(&long)
        .failure(6, "is longer than 1048576 octets");
}

#[test]
fn person_who_runs_it_reads_one_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_routelet-cni"))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.len(), text.lines().count()),
        (Some(1), 0, 1)
    );
    for part in [
        "routelet-cni",
        env!("CARGO_PKG_VERSION"),
        "container runtimes call it",
        "CNI_COMMAND",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}
