//! IPIP on a machine whose kernel has none: the same program again, under user-mode Linux.
//!
//! A test says [`with_ipip`] and does its work there. Where this kernel has IPIP the work is done here; where it has not,
//! the test runs itself once more as a guest of `scripts/uml-run`, and what the guest says is the verdict.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};

/// Set inside the guest.
const GUEST_VARIABLE: &str = "ROUTELET_UML_GUEST";
/// Seconds that a test may take in the guest.
const LIMIT: &str = "240";

/// One guest at a time: each has but one processor, and they would take each other's.
static ONE_GUEST: Mutex<()> = Mutex::new(());

/// Does this kernel have IPIP? It is asked for a device, in a namespace of its own that is gone afterwards.
pub fn kernel_has_ipip() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--net", "ip", "link", "add", "name", "probe0", "type", "ipip"]);
    command.args(["local", "127.0.0.1", "remote", "127.0.0.2"]);
    command.output().is_ok_and(|output| output.status.success())
}

fn is_guest() -> bool {
    env::var_os(GUEST_VARIABLE).is_some()
}

/// A command that runs this program again, with these arguments, as a guest.
fn again(args: &[&str]) -> Result<Command> {
    ensure!(!is_guest(), "user-mode Linux has no IPIP either");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/uml-run");
    ensure!(
        script.is_file(),
        "this kernel has no IPIP (`modprobe ipip` loads it where there is a module), and {} is not there to bring one \
         that has",
        script.display()
    );
    let mut command = Command::new(script);
    command
        .args(["--limit", LIMIT])
        .arg(env::current_exe()?)
        .args(args);
    command.env(GUEST_VARIABLE, "1");
    Ok(command)
}

/// Does a test's work where there is IPIP. `test` is the name of the calling test, by which it is found again.
///
/// # Panics
/// The work does, or there is no kernel with IPIP to be had.
pub fn with_ipip(test: &str, work: impl FnOnce()) {
    if kernel_has_ipip() {
        return work();
    }
    let _turn = ONE_GUEST.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        let mut command = again(&["--exact", test, "--nocapture", "--test-threads=1"])?;
        command.output().context("cannot run scripts/uml-run")
    };
    let output = run().unwrap_or_else(|error| panic!("{error:#}"));
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "under user-mode Linux: {}\n{said}\n{errors}",
        output.status
    );
    assert!(said.contains("1 passed"), "no test is called {test}:\n{said}");
}

/// Runs this very command line as a guest, on this terminal; `None` where this kernel has IPIP itself.
///
/// # Errors
/// There is no kernel with IPIP to be had.
pub fn rerun_without_ipip() -> Result<Option<ExitCode>> {
    if kernel_has_ipip() {
        return Ok(None);
    }
    let args: Vec<String> = env::args().skip(1).collect();
    let mut command = again(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    crate::report::say("This kernel has no IPIP: running under user-mode Linux.\n");
    let status = command.status().context("cannot run scripts/uml-run")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(Some(code.map_or(ExitCode::FAILURE, ExitCode::from)))
}
