//! What really is on a wire: `tcpdump`, and how it saw pings travel.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{net::Netns, wait::wait_for};

/// How long `tcpdump` may take to listen, or to see what has been sent.
const LIMIT: Duration = Duration::from_secs(20);

/// Pings and encapsulated packets seen on one device, until it is dropped.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    output: PathBuf,
}

/// How a packet travelled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carriage {
    /// As it is.
    Bare,
    /// Inside a packet between these two.
    Ipip(IpAddr, IpAddr),
}

impl Capture {
    /// Listens on a device, and returns once it does. What is seen goes to the file `output`.
    ///
    /// # Errors
    /// `tcpdump` cannot be started, or does not listen.
    pub fn start(place: &Netns, device: &str, output: PathBuf) -> Result<Self> {
        let messages = output.with_extension("messages");
        let mut command = place.command("tcpdump");
        command.args([
            "-nn",
            "-l",
            "--immediate-mode",
            "-i",
            device,
            "icmp or ip proto 4",
        ]);
        command
            .stdin(Stdio::null())
            .stdout(File::create(&output).with_context(|| format!("cannot write {}", output.display()))?)
            .stderr(File::create(&messages)?);
        let child = command.spawn().context("cannot run tcpdump")?;
        let capture = Capture { child, output };
        wait_for("tcpdump to listen", LIMIT, || {
            let said = fs::read_to_string(&messages)?;
            ensure!(said.contains("listening on"), "{said}");
            Ok(())
        })?;
        Ok(capture)
    }

    /// How the echo requests (or the replies) from one address to another travelled, once one has been seen.
    ///
    /// # Errors
    /// None has, within the limit.
    pub fn carriages(&self, from: IpAddr, to: IpAddr, kind: &str) -> Result<BTreeSet<Carriage>> {
        wait_for(&format!("a packet from {from} to {to}"), LIMIT, || {
            let text = read(&self.output)?;
            let seen = carriages(&text, from, to, kind);
            ensure!(!seen.is_empty(), "none among\n{text}");
            Ok(seen)
        })
    }

    /// Everything seen so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn text(&self) -> Result<String> {
        read(&self.output)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads `… IP A > B: ICMP echo request, …` and `… IP X > Y: IP A > B: ICMP echo request, …`.
fn carriages(text: &str, from: IpAddr, to: IpAddr, kind: &str) -> BTreeSet<Carriage> {
    let packets = text.lines().filter_map(|line| {
        let (headers, _) = line.split_once(&format!(": ICMP echo {kind},"))?;
        let headers: Vec<_> = headers.split("IP ").skip(1).map(addresses).collect();
        match headers.as_slice() {
            [Some(inner)] => Some((*inner, Carriage::Bare)),
            [Some(outer), Some(inner)] => Some((*inner, Carriage::Ipip(outer.0, outer.1))),
            _ => None,
        }
    });
    packets
        .filter(|(inner, _)| *inner == (from, to))
        .map(|(_, carriage)| carriage)
        .collect()
}

fn addresses(header: &str) -> Option<(IpAddr, IpAddr)> {
    let (from, to) = header.trim_end().trim_end_matches(':').split_once(" > ")?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_and_encapsulated_packets_are_told_apart() {
        let text = "\
            14:03:12.201799 IP 10.1.0.1 > 10.2.0.1: ICMP echo request, id 1, seq 1, length 64\n\
            14:03:12.201800 IP 192.168.33.11 > 192.168.34.11: IP 10.1.0.1 > 10.2.0.2: ICMP echo request, id 2, seq 1, length 64\n\
            14:03:12.201801 rack-a In  IP 192.168.34.11 > 192.168.33.11: IP 10.2.0.2 > 10.1.0.1: ICMP echo reply, id 2, seq 1, length 64\n\
            14:03:12.201802 IP 192.168.34.11 > 192.168.33.11: ICMP 192.168.34.11 protocol 4 unreachable, length 112\n";
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (one, bare, other) = (address("10.1.0.1"), address("10.2.0.1"), address("10.2.0.2"));
        let there = Carriage::Ipip(address("192.168.33.11"), address("192.168.34.11"));
        let back = Carriage::Ipip(address("192.168.34.11"), address("192.168.33.11"));
        assert_eq!(carriages(text, one, bare, "request"), [Carriage::Bare].into());
        assert_eq!(carriages(text, one, other, "request"), [there].into());
        assert_eq!(carriages(text, other, one, "reply"), [back].into());
        assert!(carriages(text, other, one, "request").is_empty());
    }
}
