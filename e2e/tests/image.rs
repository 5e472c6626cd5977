//! The container image, and the containers that the DaemonSet makes of it: run by a real container runtime with exactly
//! the privileges that `manifests/base/daemonset.yaml` gives them.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "image/daemonset.rs"]
mod daemonset;
#[path = "image/host.rs"]
mod host;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::process::run;
use serde_yaml::Value;

use daemonset::DaemonSet;
use host::Host;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn make_image(binaries: &Path, out: &Path) -> Command {
    let mut command = Command::new(workspace().join("scripts/image"));
    command.arg(binaries).arg(out);
    command
}

fn fake_binaries(directory: &Path) -> PathBuf {
    let binaries = directory.join("binaries");
    fs::create_dir_all(&binaries).unwrap();
    for name in ["routelet", "routelet-cni", "routectl"] {
        fs::write(binaries.join(name), format!("#!/bin/{name}\n")).unwrap();
    }
    binaries
}

#[test]
fn the_same_binaries_give_the_same_image() {
    let directory = tempfile::tempdir().unwrap();
    let binaries = fake_binaries(directory.path());
    let first = directory.path().join("first.tar");
    run(&mut make_image(&binaries, &first)).unwrap();

    // Another time, other owners and permissions, another place, another user's settings.
    let elsewhere = tempfile::tempdir().unwrap();
    let binaries = fake_binaries(elsewhere.path());
    let routelet = binaries.join("routelet");
    fs::set_permissions(&routelet, fs::Permissions::from_mode(0o500)).unwrap();
    run(Command::new("touch").args(["-d", "2001-02-03"]).arg(&routelet)).unwrap();
    run(Command::new("chown").arg("12:34").arg(&routelet)).unwrap();
    let second = elsewhere.path().join("out/second.tar");
    let mut again = make_image(&binaries, &second);
    again
        .env("TZ", "Asia/Tokyo")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    run(&mut again).unwrap();
    assert_eq!(fs::read(first).unwrap(), fs::read(&second).unwrap());

    fs::write(&routelet, "another").unwrap();
    let third = elsewhere.path().join("third.tar");
    run(&mut make_image(&binaries, &third)).unwrap();
    assert_ne!(fs::read(&second).unwrap(), fs::read(third).unwrap());
}

#[test]
fn what_cannot_run_from_scratch_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("image.tar");
    let binaries = fake_binaries(directory.path());
    // It needs a loader and libraries, which the image has not.
    fs::copy(run_path("bash"), binaries.join("routectl")).unwrap();
    let error = run(&mut make_image(&binaries, &out)).unwrap_err().to_string();
    assert!(
        error.contains("routectl is not static: run `make build`"),
        "{error}"
    );
    fs::remove_file(binaries.join("routelet-cni")).unwrap();
    let error = run(&mut make_image(&binaries, &out)).unwrap_err().to_string();
    assert!(
        error.contains("routelet-cni is missing: run `make build`"),
        "{error}"
    );
    assert!(!out.exists());
}

fn run_path(program: &str) -> PathBuf {
    let found = run(Command::new("sh").args(["-c", &format!("command -v {program}")])).unwrap();
    PathBuf::from(found.trim())
}

#[test]
fn the_manifests_run_the_image_of_this_version_and_no_more_than_is_needed() {
    let base = workspace().join("manifests/base");
    let kustomization: Value =
        serde_yaml::from_str(&fs::read_to_string(base.join("kustomization.yaml")).unwrap()).unwrap();
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));

    let daemonset = DaemonSet::read(workspace());
    let agent = daemonset.container("routelet");
    assert_eq!(agent.capabilities(), ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"]);
    assert!(daemonset.container("install-cni").capabilities().is_empty());
    for container in ["routelet", "install-cni"] {
        let context = &daemonset.container(container).0["securityContext"];
        assert_eq!(context["privileged"], false, "{container}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
        assert_eq!(context["capabilities"]["drop"][0], "ALL", "{container}");
    }
    // Who asks the probes is the kubelet, at the address the agent listens on.
    let listen = daemonset.config("ROUTELET_HTTP_LISTEN");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &agent.0[probe]["httpGet"];
        let address = format!(
            "{}:{}",
            get["host"].as_str().unwrap(),
            get["port"].as_u64().unwrap()
        );
        assert_eq!(address, listen, "{probe}");
    }
}

#[test]
fn the_agent_serves_a_pod_with_the_daemonsets_privileges_alone() {
    let host = Host::new("image-serves", true);
    let said = host.install();
    assert!(said.contains("/opt/cni/bin/routelet-cni: installed"), "{said}");
    assert!(host.install().contains(": unchanged"));
    assert!(host.configuration().is_none(), "only a ready agent writes it");

    host.start_agent();
    host.wait_ready();
    host.check_privileges();
    let configuration = host.configuration().expect("a ready agent has written it");
    assert_eq!(configuration["plugins"][0]["type"], "routelet-cni");
    host.check_admin_socket();

    let pod = host.add_pod();
    host.check_pod(&pod);
    let metrics = host.get("/metrics").unwrap();
    for line in [
        "routelet_cni_requests_total{verb=\"ADD\",result=\"ok\"} 1",
        "routelet_attachments{state=\"active\"} 1",
        "routelet_ipam_blocks{state=\"confirmed\"} 1",
        "routelet_problems 0",
    ] {
        assert!(
            metrics.contains(&format!("\n{line}\n")),
            "no `{line}` in\n{metrics}"
        );
    }
    host.delete_pod(&pod);

    host.stop_agent();
    assert!(
        host.configuration().is_some(),
        "a restart must not make the node unready"
    );
    let said = host.uninstall();
    assert!(said.contains("10-routelet.conflist: removed"), "{said}");
    assert!(host.configuration().is_none());
}

/// Without privileges `/proc/sys` is read-only: the host must forward already, and where it does not, that is said.
#[test]
fn a_host_that_does_not_forward_is_alive_but_not_ready_until_it_does() {
    let host = Host::new("image-forwards", false);
    host.install();
    host.start_agent();
    let missing = host.wait_unready("forwarding");
    assert!(
        missing.contains("/proc/sys/net/ipv4/ip_forward") && missing.contains("set it on the host"),
        "{missing}"
    );
    let live = host.get("/livez").unwrap();
    assert!(
        live.starts_with("HTTP/1.1 200 "),
        "a restart would not mend it: {live}"
    );
    assert!(host.configuration().is_none(), "the node must not get pods");
    host.forward();
    host.wait_ready();
    assert!(host.configuration().is_some());
}
