//! A network namespace for a test, and `ip` in it.

use std::{
    fs::File,
    io::Write,
    panic,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::sched::{CloneFlags, setns};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A namespace that goes when this is dropped.
struct Namespace {
    name: String,
}

impl Namespace {
    fn create() -> Self {
        let name = format!(
            "rk-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &name]);
        Namespace { name }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs `body` in a namespace of its own, on a thread of its own with a runtime of its own.
pub(crate) fn run<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    let namespace = Namespace::create();
    let path = format!("/run/netns/{}", namespace.name);
    let test = thread::spawn(move || {
        setns(
            File::open(&path).expect("open the namespace"),
            CloneFlags::CLONE_NEWNET,
        )
        .expect("setns");
        ip(&["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(body());
    });
    let outcome = test.join();
    drop(namespace);
    if let Err(panic) = outcome {
        panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the calling thread's namespace; it must succeed.
pub(crate) fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("run ip");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {error}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `ip` with the words of `line`.
pub(crate) fn ip_line(line: &str) -> String {
    ip(&line.split_whitespace().collect::<Vec<_>>())
}

/// Runs many `ip` commands in one process.
pub(crate) fn ip_batch(lines: impl IntoIterator<Item = String>) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("run ip");
    let mut stdin = child.stdin.take().expect("stdin");
    for line in lines {
        writeln!(stdin, "{line}").expect("write");
    }
    drop(stdin);
    assert!(child.wait().expect("wait").success(), "ip -batch failed");
}

/// A device with addresses, up. It is an end of a veth pair, which every kernel has; the other end stays nearby.
pub(crate) fn device(name: &str, addresses: &[&str]) {
    let peer = format!("{name}-peer");
    ip(&["link", "add", name, "type", "veth", "peer", "name", &peer]);
    ip(&["link", "set", &peer, "up"]);
    for address in addresses {
        let mut arguments = vec!["address", "add", address, "dev", name];
        if address.contains(':') {
            arguments.push("nodad");
        }
        ip(&arguments);
    }
    ip(&["link", "set", name, "up"]);
}

/// All IPv4 and IPv6 routes to a prefix in the main table, as `ip` prints them.
pub(crate) fn show(prefix: &str) -> String {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let lines = ip(&[family, "route", "show", prefix]);
    lines.split_whitespace().collect::<Vec<_>>().join(" ")
}
