//! What a person sees when the input is wrong or a part is missing.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::fs;

use anyhow::ensure;
use common::{check_addresses, eventually, one_rack, up};
use e2e::{CniOutput, Lab, cni::network_config};
use nix::sys::signal::Signal;

const INCOMPATIBLE_VERSION: u64 = 1;
const INVALID_ENVIRONMENT: u64 = 4;
const DECODING_FAILURE: u64 = 6;
const TRY_AGAIN: u64 = 11;

fn small_lab() -> Lab {
    up(one_rack(1, "10.63.0.0/24", 26))
}

/// The variables of an ADD, one of them changed.
fn environment(key: &str, value: &str) -> Vec<(&'static str, String)> {
    let mut env = vec![
        ("CNI_COMMAND", "ADD".to_string()),
        ("CNI_CONTAINERID", "0123456789abcdef".to_string()),
        ("CNI_NETNS", "/var/run/netns/none".to_string()),
        ("CNI_IFNAME", "eth0".to_string()),
    ];
    for (name, old) in &mut env {
        if *name == key {
            *old = value.to_string();
        }
    }
    env.retain(|(_, value)| !value.is_empty());
    env
}

/// The error must have this code and these words, and the shape that the CNI specification gives it.
fn check(output: &CniOutput, code: u64, words: &[&str]) {
    assert_ne!(output.status, 0, "{}", output.json);
    assert_eq!(output.error_code(), Some(code), "{}", output.json);
    assert!(output.json["cniVersion"].is_string(), "{}", output.json);
    let text = output.error_text();
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

#[test]
fn the_plugin_says_what_is_wrong_with_its_input() {
    let lab = small_lab();
    let node = lab.node("a");
    let config = network_config().to_string();
    let call = |key: &str, value: &str, input: &str| node.cni_raw(&environment(key, value), input).unwrap();

    check(&call("", "", "{\"cniVersion\": "), DECODING_FAILURE, &["line 1"]);
    check(&call("", "", ""), DECODING_FAILURE, &[]);
    check(
        &call("CNI_COMMAND", "FROBNICATE", &config),
        INVALID_ENVIRONMENT,
        &["CNI_COMMAND", "FROBNICATE", "ADD"],
    );
    for missing in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        check(&call(missing, "", &config), INVALID_ENVIRONMENT, &[missing]);
    }
    let config = config.replace("1.0.0", "9.9.9");
    check(&call("", "", &config), INCOMPATIBLE_VERSION, &["9.9.9"]);
    // None of it left a trace.
    assert_eq!(node.netns().links("cali").unwrap(), [] as [String; 0]);
    check_addresses(&lab, &[]).unwrap();
}

#[test]
fn version_names_the_versions_supported() {
    let lab = small_lab();
    let output = lab.node("a").cni_version().unwrap();
    assert_eq!(output.status, 0, "{}", output.json);
    let supported = output.json["supportedVersions"].as_array().unwrap();
    assert!(
        supported.iter().any(|version| version == "1.0.0"),
        "{}",
        output.json
    );
}

/// ADD says so and leaves nothing; DEL succeeds and is made good when the agent is back.
#[test]
fn a_missing_agent_is_told_and_its_work_is_made_good() {
    let lab = small_lab();
    let node = lab.node("a");
    let pod = lab.attach("p", "a").unwrap();
    node.kill_agent(Signal::SIGTERM).unwrap();

    let late = lab.make_pod("late", "a").unwrap();
    check(&node.cni("ADD", &late).unwrap(), TRY_AGAIN, &["cni.sock"]);
    let links = node.netns().links("cali").unwrap();
    assert_eq!(links.len(), 1, "{links:?}");

    let output = node.cni("DEL", &pod).unwrap();
    assert_eq!(output.status, 0, "{}", output.json);
    node.start_agent().unwrap();
    node.wait_ready().unwrap();
    eventually("the address to be free", || check_addresses(&lab, &[]));
    eventually("the link to be gone", || {
        let links = node.netns().links("cali")?;
        ensure!(links.is_empty(), "{links:?}");
        Ok(())
    });
    let addresses = node.cni("ADD", &late).unwrap().addresses().unwrap();
    assert_eq!(addresses.len(), 1);
}

#[test]
fn routectl_without_an_agent_says_so() {
    let lab = small_lab();
    let node = lab.node("a");
    node.kill_agent(Signal::SIGKILL).unwrap();
    let output = node.routectl(&["node", "status"]).unwrap();
    assert!(!output.status.success());
    assert!(output.stderr.contains("admin.sock"), "{}", output.stderr);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}

/// A pool broken by hand: the agent and `routectl` name file and field, and what was in force stays so.
#[test]
fn a_broken_manifest_is_reported_and_the_last_good_one_stays() {
    let lab = small_lab();
    let node = lab.node("a");
    let first = lab.attach("p0", "a").unwrap();
    let path = lab.datastore().join("ippools/small.yaml");
    let good = fs::read_to_string(&path).unwrap();
    let bad = good.replace("blockSize: 26", "blockSize: wide");
    assert_ne!(good, bad);
    fs::write(&path, &bad).unwrap();

    for word in ["ippools/small.yaml", "blockSize"] {
        eventually(&format!("{word} in the agent's log"), || {
            let log = node.log();
            ensure!(log.contains(word), "{}", e2e::node::tail(&log, 5));
            Ok(())
        });
    }
    let output = node.routectl(&["get", "ippools"]).unwrap();
    let shown = format!("{}{}", output.stdout, output.stderr);
    assert!(
        shown.contains("ippools/small.yaml") && shown.contains("blockSize"),
        "{shown}"
    );

    let second = lab.attach("p1", "a").unwrap();
    eventually("a ping between the two", || lab.ping("p0", "p1"));
    let routes = node.own_routes().unwrap();
    assert!(
        routes
            .iter()
            .any(|route| route.dst == second.addresses[0].to_string()),
        "{routes:?}"
    );

    fs::write(&path, &good).unwrap();
    eventually("routectl without complaint", || {
        let output = node.routectl(&["get", "ippools"])?;
        ensure!(
            output.status.success() && !output.stderr.contains("blockSize"),
            "{}",
            output.stderr
        );
        Ok(())
    });
    check_addresses(&lab, &[first, second]).unwrap();
}
