//! Pings: one, many at once, and a steady stream whose losses are counted.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    net::IpAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{interrupt, net::Netns, process::capture, wait::wait_for};

/// How many pings run at once.
const WORKERS: usize = 16;
/// How often a ping is repeated before it counts as failed: neighbours and routes may take a moment.
const ATTEMPTS: usize = 4;

/// Pings an address from a namespace; tries again where there is no answer within a second, a bounded number of
/// times.
///
/// # Errors
/// There is no answer.
pub fn ping(from: &Netns, to: IpAddr) -> Result<Duration> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        interrupt::check()?;
        match ping_once(from, to) {
            Ok(time) => return Ok(time),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("not tried")))
}

/// Pings an address once and waits up to a second for the answer.
///
/// # Errors
/// There is no answer.
pub fn ping_once(from: &Netns, to: IpAddr) -> Result<Duration> {
    let mut command = from.command("ping");
    command.args(["-n", "-c1", "-W1"]).arg(to.to_string());
    let captured = capture(&mut command, "")?;
    if !captured.status.success() {
        let said = format!("{}\n{}", captured.stdout, captured.stderr);
        let reason = said
            .lines()
            .find(|line| line.contains("From ") || line.contains("ping:"));
        bail!(
            "no answer from {to} to {}: {}",
            from.name(),
            reason.unwrap_or("nothing came back").trim()
        );
    }
    let time = captured
        .stdout
        .split("time=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let milliseconds: f64 = time.context("ping gives no time")?.parse()?;
    Ok(Duration::from_secs_f64(milliseconds / 1000.0))
}

/// Applies a function to every item, several at once; the results are in the items' order.
pub fn concurrently<T: Sync, R: Send>(items: &[T], apply: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(items.iter().enumerate());
    let work = || {
        let mut done = Vec::new();
        loop {
            // Taken in a statement of its own, so that the lock is released before the work is done.
            let item = next
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .next();
            let Some((index, item)) = item else { return done };
            done.push((index, apply(item)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS.min(items.len())).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| match worker.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.flatten().collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A steady stream of pings; [`Pinger::stop`] says what was lost.
#[derive(Debug)]
pub struct Pinger {
    child: Child,
    output: PathBuf,
}

/// What a [`Pinger`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingReport {
    /// How many were sent (and had the time to be answered).
    pub sent: u64,
    /// Sequence numbers of those never answered.
    pub lost: Vec<u64>,
}

impl Pinger {
    /// Starts to ping `to` from a namespace at this interval, and waits for the first answer. What `ping` writes goes
    /// to the file `output`.
    ///
    /// # Errors
    /// It cannot be started, or nothing answers.
    pub fn start(from: &Netns, to: IpAddr, interval: Duration, output: PathBuf) -> Result<Self> {
        let file = File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
        let mut command: Command = from.command("ping");
        command
            .args(["-n", "-i", &interval.as_secs_f64().to_string()])
            .arg(to.to_string());
        command
            .stdin(Stdio::null())
            .stderr(file.try_clone()?)
            .stdout(file);
        let pinger = Pinger {
            child: command.spawn()?,
            output,
        };
        wait_for(
            &format!("the first answer from {to}"),
            Duration::from_secs(10),
            || {
                ensure!(!answered(&pinger.read()?).is_empty(), "none");
                Ok(())
            },
        )?;
        Ok(pinger)
    }

    /// Waits until this many more pings were answered than were when it was called.
    ///
    /// # Errors
    /// They are not within the deadline.
    pub fn wait_answers(&self, more: usize, deadline: Duration) -> Result<()> {
        let before = answered(&self.read()?).len();
        wait_for(&format!("{more} more answers"), deadline, || {
            let now = answered(&self.read()?).len();
            ensure!(now >= before + more, "{}", now - before);
            Ok(())
        })
    }

    /// Stops, and says what was lost.
    ///
    /// # Errors
    /// `ping` does not end as it should.
    pub fn stop(mut self) -> Result<PingReport> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), Signal::SIGINT)?;
        self.child.wait()?;
        report(&self.read()?)
    }

    fn read(&self) -> Result<String> {
        let mut text = String::new();
        File::open(&self.output)?.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        // It has ended already, unless a test failed before `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answered(text: &str) -> BTreeSet<u64> {
    let answers = text.lines().filter(|line| line.contains(" bytes from "));
    let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok();
    answers.filter_map(number).collect()
}

/// The last one sent may have been on its way when `ping` was stopped: it does not count.
fn report(text: &str) -> Result<PingReport> {
    let summary = text.lines().find(|line| line.contains(" packets transmitted"));
    let sent = summary.and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    let sent = sent.with_context(|| format!("ping gave no summary: {text}"))?;
    let answered = answered(text);
    let counted = if answered.contains(&sent) {
        sent
    } else {
        sent.saturating_sub(1)
    };
    let lost = (1..=counted)
        .filter(|number| !answered.contains(number))
        .collect();
    Ok(PingReport { sent: counted, lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_and_the_last_one_in_flight_is_not() {
        let text = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\
            64 bytes from 10.0.0.1: icmp_seq=1 ttl=63 time=0.045 ms\n\
            64 bytes from 10.0.0.1: icmp_seq=3 ttl=63 time=0.045 ms\n\
            From 10.0.0.2 icmp_seq=4 Destination Host Unreachable\n\
            64 bytes from 10.0.0.1: icmp_seq=5 ttl=63 time=0.045 ms\n\n\
            --- 10.0.0.1 ping statistics ---\n\
            6 packets transmitted, 3 received, 50% packet loss, time 5ms\n";
        assert_eq!(
            report(text).unwrap(),
            PingReport {
                sent: 5,
                lost: vec![2, 4]
            }
        );
    }

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        let doubled = concurrently(&items, |item| item * 2);
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!(concurrently(&[] as &[u64], |item| *item).is_empty());
    }
}
