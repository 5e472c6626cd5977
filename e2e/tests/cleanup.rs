//! A lab goes away whatever happened to it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::ensure;
use common::eventually;
use e2e::{
    Lab, Topology,
    lab::{down, unique_name},
    labdir::{LabDir, State},
    net::NETNS_DIR,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn lab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(args)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Namespaces of a lab that exist.
fn namespaces(name: &str) -> Vec<String> {
    let names = std::fs::read_dir(NETNS_DIR)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|namespace| namespace.starts_with(&format!("{name}-")))
        .collect()
}

/// Takes a lab down even where the test fails.
struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = down(&self.0);
    }
}

#[test]
fn a_crashed_lab_is_cleaned_by_name() {
    let name = unique_name();
    let _guard = Down(name.clone());
    let mut demo = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["demo", "--name", &name])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let dir = LabDir::named(&name).unwrap();
    let processes = eventually("a router and three agents", || {
        let processes = dir.processes();
        ensure!(processes.len() == 4, "{processes:?}");
        Ok(processes)
    });
    let busy = lab(&["down", &name]);
    assert!(!busy.status.success());
    assert!(
        text(&busy).contains(&format!("in use by process {}", demo.id())),
        "{}",
        text(&busy)
    );

    kill(Pid::from_raw(i32::try_from(demo.id()).unwrap()), Signal::SIGKILL).unwrap();
    demo.wait().unwrap();
    assert!(
        processes.iter().all(|process| process.is_alive()),
        "they outlive the crash"
    );
    assert_eq!(dir.state(), State::Broken);
    let listed = text(&lab(&["list"]));
    assert!(listed.contains(&format!("{name}: incomplete")), "{listed}");

    assert!(lab(&["down", &name]).status.success());
    assert!(!processes.iter().any(|process| process.is_alive()));
    assert_eq!(namespaces(&name), [] as [String; 0]);
    assert_eq!(dir.state(), State::Absent);
    assert!(!Path::new(&dir.path()).exists());
    let again = lab(&["down", &name]);
    assert!(
        again.status.success() && text(&again).contains("was not there"),
        "{}",
        text(&again)
    );
}

#[test]
fn a_demo_that_is_interrupted_removes_its_lab() {
    let name = unique_name();
    let _guard = Down(name.clone());
    let demo = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["demo", "--name", &name])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let dir = LabDir::named(&name).unwrap();
    eventually("an agent", || {
        ensure!(dir.processes().iter().any(|process| process.name == "a"), "none");
        Ok(())
    });
    let processes = dir.processes();
    kill(Pid::from_raw(i32::try_from(demo.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = demo.wait_with_output().unwrap();
    assert!(!output.status.success(), "{}", text(&output));
    assert_eq!(dir.state(), State::Absent);
    assert_eq!(namespaces(&name), [] as [String; 0]);
    assert!(!processes.iter().any(|process| process.is_alive()));
}

#[test]
fn a_lab_left_up_can_be_worked_with_and_brought_up_twice() {
    let name = unique_name();
    let _guard = Down(name.clone());
    let up = lab(&["up", "--name", &name]);
    assert!(up.status.success(), "{}", text(&up));
    assert!(
        text(&up).contains(&format!("exec --name {name} a")),
        "{}",
        text(&up)
    );
    let again = lab(&["up", "--name", &name]);
    assert!(
        again.status.success() && text(&again).contains("is up already"),
        "{}",
        text(&again)
    );

    let attached = lab(&["attach", "--name", &name, "a", "web"]);
    assert!(attached.status.success(), "{}", text(&attached));
    let address = text(&attached).trim().rsplit(' ').next().unwrap().to_string();
    let inside = lab(&[
        "exec", "--name", &name, "web", "--", "ip", "-4", "address", "show", "eth0",
    ]);
    assert!(
        text(&inside).contains(&format!("{address}/32")),
        "{}",
        text(&inside)
    );
    let pinged = lab(&["exec", "--name", &name, "a", "--", "ping", "-c1", "-W5", &address]);
    assert!(pinged.status.success(), "{}", text(&pinged));
    let status = lab(&["status", "--name", &name]);
    assert!(
        status.status.success() && text(&status).contains(&address),
        "{}",
        text(&status)
    );
    let detached = lab(&["detach", "--name", &name, "web"]);
    assert!(detached.status.success(), "{}", text(&detached));
    assert!(lab(&["down", &name]).status.success());
    assert_eq!(namespaces(&name), [] as [String; 0]);
}

/// Two commands that want the same name: one gets it.
#[test]
fn a_name_that_is_taken_is_refused_and_the_owner_is_unharmed() {
    let name = unique_name();
    let topology = Topology::demo().unwrap();
    let first = Lab::build(&name, topology.clone()).unwrap();
    let refused = format!("{:#}", Lab::build(&name, topology).unwrap_err());
    assert!(refused.contains("in use by process"), "{refused}");
    assert_eq!(namespaces(&name).len(), 5);
    first.down().unwrap();
    assert_eq!(namespaces(&name), [] as [String; 0]);
}
