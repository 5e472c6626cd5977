//! `routelet install-cni` and `uninstall-cni` as an init container runs them: the real binary, killed at any moment
//! and on a disk that refuses.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Instant,
};

const ROUTELET: &str = env!("CARGO_BIN_EXE_routelet");
const PLUGIN: &str = "routelet-cni";

struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Host {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A plugin of this many octets, all the same.
    fn release(&self, octet: u8, length: usize) {
        let path = self.path(PLUGIN);
        fs::write(&path, vec![octet; length]).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn install(&self) -> Command {
        let mut command = Command::new(ROUTELET);
        command.arg("install-cni");
        command.args(self.flags());
        command.arg("--source").arg(self.path(PLUGIN));
        // An init container has the agent's variables too.
        command
            .env("ROUTELET_NODE_NAME", "a")
            .env("ROUTELET_LOG", "debug");
        command
    }

    fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        vec![
            "--bin-dir".into(),
            path("bin"),
            "--conf-dir".into(),
            path("net.d"),
        ]
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn succeed(command: &mut Command) -> String {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// All octets alike: none is of another plugin's, none is missing.
fn check_whole(path: &Path, length: usize) -> u8 {
    let content = fs::read(path).unwrap();
    assert_eq!(content.len(), length, "a part of a plugin");
    let first = content[0];
    assert!(
        content.iter().all(|octet| *octet == first),
        "a mixture of two plugins"
    );
    let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755);
    first
}

#[test]
fn killed_at_any_moment_there_is_one_whole_plugin() {
    const LENGTH: usize = 8 << 20;
    let host = Host::new();
    host.release(b'0', LENGTH);
    // How long it takes when it is left alone, to kill it within that.
    let start = Instant::now();
    succeed(&mut host.install());
    let whole = start.elapsed();
    let installed = host.path("bin").join(PLUGIN);
    let rounds = 40;
    let mut unfinished = 0;
    for round in 0..rounds {
        let octet = b'a' + u8::try_from(round % 26).unwrap();
        host.release(octet, LENGTH);
        let mut child = host.install().stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(whole * round / rounds);
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
        unfinished += u32::from(check_whole(&installed, LENGTH) != octet);
    }
    assert!(unfinished > 0, "no kill came in time");
    host.release(b'z', LENGTH);
    succeed(&mut host.install());
    assert_eq!(check_whole(&installed, LENGTH), b'z');
    assert_eq!(host.names("bin"), [PLUGIN], "a leftover");
}

#[test]
fn two_at_once_do_not_get_into_each_others_way() {
    const LENGTH: usize = 1 << 20;
    let host = Host::new();
    host.release(b'n', LENGTH);
    let children: Vec<_> = (0..8)
        .map(|_| host.install().stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(check_whole(&host.path("bin").join(PLUGIN), LENGTH), b'n');
    assert_eq!(host.names("bin"), [PLUGIN]);
}

#[test]
fn a_disk_that_refuses_is_named_and_nothing_changes() {
    let host = Host::new();
    host.release(b'1', 1000);
    succeed(&mut host.install());
    host.release(b'2', 1000);
    let bin = host.path("bin").display().to_string();
    let install = host.install();
    // A mount namespace of its own: the mount is gone with the process.
    let mut refused = Command::new("unshare");
    refused.args(["--mount", "sh", "-ec"]);
    refused.arg("mount --bind \"$0\" \"$0\"; mount -o remount,ro,bind \"$0\"; exec \"$@\"");
    refused
        .arg(&bin)
        .arg(install.get_program())
        .args(install.get_args());
    let output = run(&mut refused);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&bin) && said.contains("Read-only file system") && said.contains("--bin-dir"),
        "{said}"
    );
    assert_eq!(check_whole(&host.path("bin").join(PLUGIN), 1000), b'1');
    assert_eq!(host.names("bin"), [PLUGIN]);
}

#[test]
fn it_says_what_it_did_and_writes_nothing_else() {
    let host = Host::new();
    host.release(b'1', 10);
    fs::create_dir(host.path("net.d")).unwrap();
    let calico = host.path("net.d").join("10-calico.conflist");
    fs::write(&calico, r#"{"plugins":[{"type":"calico"}]}"#).unwrap();
    let said = succeed(&mut host.install());
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].ends_with("bin/routelet-cni: installed"), "{said}");
    assert!(
        lines[1].contains("10-calico.conflist (calico): sorts before"),
        "{said}"
    );
    assert_eq!(host.names("net.d"), ["10-calico.conflist"]);
    assert!(succeed(&mut host.install()).contains(": unchanged"));

    let mut uninstall = Command::new(ROUTELET);
    uninstall.arg("uninstall-cni").args(host.flags());
    let said = succeed(&mut uninstall);
    assert!(said.contains("10-routelet.conflist: not there"), "{said}");
    assert_eq!(host.names("bin"), [PLUGIN], "pods that are attached need it");
    succeed(uninstall.arg("--remove-plugin"));
    assert!(host.names("bin").is_empty());
    assert_eq!(host.names("net.d"), ["10-calico.conflist"]);
}

#[test]
fn a_missing_plugin_is_an_error_that_says_where_it_was_looked_for() {
    let host = Host::new();
    let output = run(&mut host.install());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("there is no such file") && said.contains("ROUTELET_CNI_SOURCE"),
        "{said}"
    );
    assert!(
        !host.path("bin").exists(),
        "nothing is made before it is known what for"
    );
}
