//! `lab demo`, as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::process::{Command, Output};

use e2e::{
    lab::unique_name,
    labdir::{LabDir, State},
};

fn start_demo(name: &str) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command
        .args(["demo", "--name", name])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

fn check(name: &str, output: &Output) {
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{shown}\n{errors}", output.status);
    let last = shown.lines().last().unwrap_or_default();
    let (passed, failed) = last.split_once(", ").unwrap_or_default();
    assert_eq!(failed, "0 failed", "{shown}");
    // 6 pods to each other, to 3 nodes and to the router's prefix, and the router to 6 pods: 60 pings alone.
    let passed: usize = passed
        .trim_end_matches(" passed")
        .parse()
        .unwrap_or_else(|_| panic!("last line: {last}"));
    assert!(passed > 60, "{shown}");
    for table in [
        "Nodes",
        "Pods",
        "Blocks",
        "BGP sessions",
        "Kernel routes of node a",
    ] {
        assert!(
            shown.lines().any(|line| line == table),
            "no {table:?} in\n{shown}"
        );
    }
    assert!(!shown.contains('\x1b'), "colours in a pipe:\n{shown}");
    assert_eq!(LabDir::named(name).unwrap().state(), State::Absent);
}

/// Both at once, on the same addresses: labs do not see each other.
#[test]
fn two_demos_at_once_pass() {
    let names = [unique_name(), unique_name()];
    let demos: Vec<_> = names.iter().map(|name| start_demo(name)).collect();
    let outputs: Vec<_> = demos
        .into_iter()
        .map(|demo| demo.wait_with_output().unwrap())
        .collect();
    for (name, output) in names.iter().zip(&outputs) {
        check(name, output);
    }
}
