//! Two network namespaces joined by a link: BIRD runs in one, the speaker under test in the other.
//!
//! Everything has a name of its own and goes when the lab is dropped.

use std::fmt::Write as _;
use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

pub(crate) const OUR_V4: &str = "192.0.2.1";
pub(crate) const OUR_V6: &str = "2001:db8::1";
pub(crate) const BIRD_V4: &str = "192.0.2.2";
pub(crate) const BIRD_V6: &str = "2001:db8::2";

/// How long anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Lab {
    ours: String,
    theirs: String,
    dir: tempfile::TempDir,
    bird: Mutex<Option<Child>>,
}

/// What differs between the configurations of BIRD.
pub(crate) struct Bird {
    pub(crate) local_as: u32,
    /// The session runs over IPv6.
    pub(crate) over_v6: bool,
    /// In the protocol block.
    pub(crate) options: &'static str,
    pub(crate) routes_v4: Vec<&'static str>,
    pub(crate) routes_v6: Vec<&'static str>,
}

impl Default for Bird {
    fn default() -> Self {
        Self {
            local_as: 64513,
            over_v6: false,
            options: "",
            routes_v4: vec!["198.51.100.0/24"],
            routes_v6: vec!["2001:db8:ffff::/48"],
        }
    }
}

impl Bird {
    fn config(&self) -> String {
        let statics = |routes: &[&str]| {
            routes.iter().fold(String::new(), |mut all, route| {
                let _ = write!(all, "route {route} blackhole; ");
                all
            })
        };
        format!(
            "log stderr all;
             router id {BIRD_V4};
             protocol device {{ scan time 1; }}
             protocol static static4 {{ ipv4; {routes4} }}
             protocol static static6 {{ ipv6; {routes6} }}
             protocol bgp ours {{
                 local {local} as {local_as};
                 neighbor {neighbor} as 64512;
                 connect delay time 1;
                 connect retry time 2;
                 error wait time 1, 2;
                 graceful restart on;
                 {options}
                 ipv4 {{ import all; export where source = RTS_STATIC; next hop address {BIRD_V4}; }};
                 ipv6 {{ import all; export where source = RTS_STATIC; next hop address {BIRD_V6}; }};
             }}",
            routes4 = statics(&self.routes_v4),
            routes6 = statics(&self.routes_v6),
            local_as = self.local_as,
            local = if self.over_v6 { BIRD_V6 } else { BIRD_V4 },
            neighbor = if self.over_v6 { OUR_V6 } else { OUR_V4 },
            options = self.options,
        )
    }
}

impl Lab {
    /// `None`, with a line that says why, where namespaces or BIRD are not to be had.
    pub(crate) fn new() -> Option<Lab> {
        if !nix_is_root() {
            println!("skipped: needs root for network namespaces");
            return None;
        }
        if Command::new("bird").arg("--version").output().is_err() {
            println!("skipped: needs BIRD 2 (apt-get install bird2)");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "rbgp-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let (ours, theirs) = (format!("{name}-u"), format!("{name}-b"));
        let lab = Lab {
            ours,
            theirs,
            dir: tempfile::tempdir().unwrap(),
            bird: Mutex::new(None),
        };
        lab.build();
        Some(lab)
    }

    fn build(&self) {
        let Lab { ours, theirs, .. } = self;
        for namespace in [ours, theirs] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        ip(&format!(
            "-n {ours} link add eth0 type veth peer name eth0 netns {theirs}"
        ));
        for (namespace, v4, v6) in [(ours, OUR_V4, OUR_V6), (theirs, BIRD_V4, BIRD_V6)] {
            ip(&format!("-n {namespace} addr add {v4}/24 dev eth0"));
            ip(&format!("-n {namespace} addr add {v6}/64 dev eth0 nodad"));
            ip(&format!("-n {namespace} link set eth0 up"));
        }
    }

    /// Starts BIRD; `recover` as after a crash, with its forwarding state kept.
    pub(crate) fn start_bird(&self, bird: &Bird, recover: bool) {
        let config = self.dir.path().join("bird.conf");
        std::fs::write(&config, bird.config()).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("bird.log"))
            .unwrap();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.theirs, "bird", "-f", "-c"])
            .arg(config);
        command
            .arg("-s")
            .arg(self.socket())
            .arg("-P")
            .arg(self.dir.path().join("bird.pid"));
        if recover {
            command.arg("-R");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.bird.lock().unwrap() = Some(child);
    }

    /// As kill -9 does.
    pub(crate) fn kill_bird(&self) {
        if let Some(mut bird) = self.bird.lock().unwrap().take() {
            bird.kill().unwrap();
            bird.wait().unwrap();
        }
    }

    pub(crate) fn birdc(&self, command: &str) -> String {
        let output = Command::new("birdc")
            .arg("-s")
            .arg(self.socket())
            .args(command.split(' '))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn bird_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("bird.log")).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("bird.ctl")
    }

    /// Runs the test on a thread that is inside our namespace.
    pub(crate) fn run<F: Future>(&self, test: impl FnOnce() -> F + Send) -> F::Output
    where
        F::Output: Send,
    {
        let namespace = File::open(format!("/run/netns/{}", self.ours)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(test())
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Waits until `check` finds nothing to complain about.
    pub(crate) async fn eventually(&self, what: &str, mut check: impl AsyncFnMut() -> Result<(), String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(seen) = check().await else { return };
            if Instant::now() > deadline {
                panic!(
                    "{what}: not within {PATIENCE:?}; seen:\n{seen}\nBIRD's log:\n{}",
                    self.bird_log()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until BIRD's answer to `command` contains `text`, or does not.
    pub(crate) async fn bird_shows(&self, command: &str, text: &str, wanted: bool) {
        let what = format!(
            "birdc {command}: {text:?} {}",
            if wanted { "there" } else { "gone" }
        );
        self.eventually(&what, async || {
            let answer = self.birdc(command);
            if answer.contains(text) == wanted && answer.contains("BIRD") {
                Ok(())
            } else {
                Err(answer)
            }
        })
        .await;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut bird) = self.bird.lock().ok().and_then(|mut bird| bird.take()) {
            let _ = bird.kill();
            let _ = bird.wait();
        }
        for namespace in [&self.ours, &self.theirs] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
