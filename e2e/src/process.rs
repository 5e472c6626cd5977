//! Processes: commands whose output is wanted, and daemons that outlive the command that started them.
//!
//! A daemon is recorded by process id *and* start time before it becomes the program it is to run, so that a lab
//! that crashed at any moment can be cleaned, and so that a process id that the kernel gave to somebody else in the
//! meantime is never signalled.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::wait_for;

/// How long a command may take before it is killed.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long a process may take to vanish after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Writes `<pid> <start time> <name>` to the file in `$1`, then becomes the command in `$3…`. The shell keeps its
/// process id and its start time (field 22 of `stat`, the 20th after the command's name) when it does. Where it cannot
/// be recorded (the lab was taken down meanwhile) it does not run.
const RECORD_AND_EXEC: &str = r#"
start_time() { shift 19; echo "$1"; }
read -r stat < "/proc/$$/stat"
echo "$$ $(start_time ${stat##*) }) $2" >> "$1" || exit 1
shift 2
exec "$@"
"#;

/// What a command wrote and how it ended.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Captured {
    /// Standard output, where the command succeeded.
    ///
    /// # Errors
    /// It did not; the error holds what it said.
    pub fn success(self, what: &str) -> Result<String> {
        let said = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        ensure!(self.status.success(), "{what}: {}: {}", self.status, said.trim());
        Ok(self.stdout)
    }
}

/// Runs a command with this standard input and captures what it writes; kills it after [`COMMAND_LIMIT`].
///
/// # Errors
/// It cannot be started, or it took too long. An exit status other than 0 is no error here.
pub fn capture(command: &mut Command, input: &str) -> Result<Captured> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is no failure of ours.
        let _ = stdin.write_all(input.as_bytes());
    }
    let status = wait_within(&mut child, COMMAND_LIMIT).with_context(|| program.clone())?;
    Ok(Captured {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}

/// Runs a command and gives back its standard output.
///
/// # Errors
/// It cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    capture(command, "")?.success(&shown)
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn drain(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait_within(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            bail!("still running after {} s, killed", limit.as_secs());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// A process, told apart from a later one with the same process id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Process id.
    pub pid: i32,
    /// In clock ticks since the machine started.
    pub start_time: u64,
    /// What it is in the lab: the name of a node or router.
    pub name: String,
}

impl Recorded {
    /// Is that very process still there? One that has ended and waits to be reaped is not.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }

    /// Sends a signal, if it is still there.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end between the two; then there is nothing to do.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It has not within the limit.
    pub fn wait_gone(&self, limit: Duration) -> Result<()> {
        let what = format!("process {} ({}) to end", self.pid, self.name);
        wait_for(&what, limit, || {
            ensure!(!self.is_alive(), "it is running");
            Ok(())
        })
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        Some(Recorded {
            pid: words.next()?.parse().ok()?,
            start_time: words.next()?.parse().ok()?,
            name: words.next()?.to_string(),
        })
    }
}

/// When a process started, in clock ticks since the machine did; `None` where there is no such process, or it has
/// ended already and only waits to be reaped. Its first thread may have ended before the others: until those have too,
/// its sockets are open.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: field 3 (state) and on.
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3).copied();
    if matches!(field(3)?, "Z" | "X") && field(20)? == "1" {
        return None;
    }
    field(22)?.parse().ok()
}

/// The processes recorded in a file; none where there is no file.
pub fn recorded(record: &Path) -> Vec<Recorded> {
    let text = fs::read_to_string(record).unwrap_or_default();
    text.lines().filter_map(Recorded::parse).collect()
}

/// Starts a daemon: recorded as `name` in the file `record`, in a process group of its own (Ctrl-C does not reach
/// it), writing to the end of the file `log`.
///
/// # Errors
/// It cannot be started.
pub fn spawn_daemon(command: &Command, name: &str, record: &Path, log: &Path) -> Result<Child> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let mut shell = Command::new("sh");
    shell.args(["-c", RECORD_AND_EXEC, "sh"]).arg(record).arg(name);
    shell.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    shell
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(File::try_clone(&output)?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot run {}", shown(command)))
}

/// Ends processes: SIGTERM, and SIGKILL to those that are there after `grace`.
///
/// # Errors
/// One survives even that.
pub fn end_all(processes: &[Recorded], grace: Duration) -> Result<()> {
    for process in processes {
        process.signal(Signal::SIGTERM);
    }
    let start = Instant::now();
    while start.elapsed() < grace && processes.iter().any(Recorded::is_alive) {
        thread::sleep(Duration::from_millis(5));
    }
    for process in processes {
        process.signal(Signal::SIGKILL);
    }
    processes
        .iter()
        .try_for_each(|process| process.wait_gone(KILL_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_both_streams_and_the_status() {
        let captured = capture(Command::new("sh").args(["-c", "cat; echo err >&2; exit 3"]), "in").unwrap();
        assert_eq!(captured.status.code(), Some(3));
        assert_eq!(
            (captured.stdout.as_str(), captured.stderr.as_str()),
            ("in", "err\n")
        );
        let error = captured.success("it").unwrap_err().to_string();
        assert_eq!(error, "it: exit status: 3: err");
    }

    #[test]
    fn own_start_time_is_stable_and_other_processes_differ() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(own).is_some());
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
    }

    #[test]
    fn daemon_records_itself_and_only_that_process_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (record, log) = (dir.path().join("processes"), dir.path().join("log"));
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; exec sleep 1000"]);
        let mut child = spawn_daemon(&command, "a node", &record, &log).unwrap();
        let daemon = wait_for("the record", Duration::from_secs(10), || {
            let daemon = recorded(&record).pop().context("nothing recorded")?;
            ensure!(fs::read_to_string(&log)?.contains("started"), "not started");
            Ok(daemon)
        })
        .unwrap();
        assert_eq!(daemon.name, "a node");
        assert_eq!(daemon.pid.unsigned_abs(), child.id());
        assert!(daemon.is_alive());

        let stranger = Recorded {
            start_time: daemon.start_time + 1,
            ..daemon.clone()
        };
        end_all(&[stranger], Duration::ZERO).unwrap();
        assert!(
            child.try_wait().unwrap().is_none(),
            "a process with another start time was ended"
        );

        end_all(&[daemon], Duration::from_secs(10)).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
