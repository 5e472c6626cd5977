//! What the agent on this node says, over its admin socket.

use std::{fmt::Write, path::Path};

use agent::admin::{
    client,
    types::{self, Attachment, Peer, Query, Reply, Route, Status},
};
use anyhow::{Result, anyhow, bail};
use ipnet::IpNet;

use crate::output::{Format, for_programs, lined_table, or_dash, plain_table, time};

/// `routectl node status`.
pub(crate) fn status(socket: &Path, format: Format) -> Result<String> {
    let Reply::Status(status) = ask(socket, Query::Status)? else {
        bail!(UNEXPECTED);
    };
    match for_programs(format, &status)? {
        Some(text) => Ok(text),
        None => Ok(status_text(&status, format == Format::Wide)),
    }
}

/// `routectl node pods`.
pub(crate) fn pods(socket: &Path, format: Format) -> Result<String> {
    let Reply::Attachments(attachments) = ask(socket, Query::Attachments)? else {
        bail!(UNEXPECTED);
    };
    if let Some(text) = for_programs(format, &attachments)? {
        return Ok(text);
    }
    if attachments.is_empty() {
        eprintln!("No pod is attached to this node.");
        return Ok(String::new());
    }
    let headers = [
        "POD",
        "PHASE",
        "INTERFACE",
        "HOST DEVICE",
        "ADDRESSES",
        "CONTAINER",
    ];
    Ok(plain_table(
        &headers,
        attachments.iter().map(attachment_row).collect(),
    ))
}

/// `routectl routes`.
pub(crate) fn routes(socket: &Path, prefix: Option<IpNet>, format: Format) -> Result<String> {
    let routes = ask_routes(socket, prefix)?;
    if let Some(text) = for_programs(format, &routes)? {
        return Ok(text);
    }
    if routes.is_empty() {
        eprintln!(
            "The agent knows no {}.",
            prefix.map_or("route".to_string(), |prefix| format!("route to {prefix}"))
        );
        return Ok(String::new());
    }
    let headers = ["PREFIX", "FROM", "NEXT HOP", "AS PATH", "USED", "KERNEL"];
    Ok(plain_table(
        &headers,
        routes.iter().flat_map(route_rows).collect(),
    ))
}

/// `routectl why`.
pub(crate) fn why(socket: &Path, prefix: IpNet, format: Format) -> Result<String> {
    let routes = ask_routes(socket, Some(prefix))?;
    if let Some(text) = for_programs(format, &routes)? {
        return Ok(text);
    }
    let Some(route) = routes.first() else {
        bail!("the agent knows no route to {prefix}: no peer announced it, and it is no block of this node");
    };
    Ok(why_text(route))
}

const UNEXPECTED: &str = "the agent answered another question: agent and routectl are of different versions";

fn ask_routes(socket: &Path, prefix: Option<IpNet>) -> Result<Vec<Route>> {
    match ask(socket, Query::Routes { prefix })? {
        Reply::Routes(routes) => Ok(routes),
        _ => bail!(UNEXPECTED),
    }
}

fn ask(socket: &Path, query: Query) -> Result<Reply> {
    // The error's text has its cause in it.
    client::ask(socket, query).map_err(|error| anyhow!("{error}"))
}

fn status_text(status: &Status, wide: bool) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "routelet {} runs on {} since {} (process {}, AS {}, router ID {})",
        status.version,
        status.node,
        time(status.started),
        status.pid,
        status.local_as,
        status.router_id.as_deref().unwrap_or("not known yet"),
    );
    let kernel = &status.kernel;
    let _ = writeln!(
        text,
        "Routes in the kernel: {} of {} (protocol {}, {} repaired); pods: {}; announced: {}",
        kernel.installed,
        kernel.desired,
        kernel.protocol,
        kernel.repairs,
        status.attachments,
        or_dash(
            status
                .announced
                .iter()
                .map(IpNet::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    );
    for tunnel in &status.tunnels {
        let _ = write!(text, "Tunnel {}: {}", tunnel.device, tunnel.state);
        if let Some(address) = tunnel.address {
            let _ = write!(text, ", address {address}");
        }
        if let Some(mtu) = tunnel.mtu {
            let _ = write!(text, ", MTU {mtu}");
        }
        text.push('\n');
    }
    if !status.waiting_for.is_empty() {
        let _ = writeln!(
            text,
            "Waiting for the first list of: {}",
            status.waiting_for.join(", ")
        );
    }
    for (family, is_v6) in [("IPv4", false), ("IPv6", true)] {
        let _ = writeln!(text, "\n{family} BGP status");
        let peers: Vec<_> = status
            .peers
            .iter()
            .filter(|peer| peer.address.is_ipv6() == is_v6)
            .collect();
        if peers.is_empty() {
            let _ = writeln!(text, "No {family} peers found.");
        } else {
            text.push_str(&peer_table(&peers, wide));
        }
    }
    if !status.problems.is_empty() {
        let _ = writeln!(text, "\nProblems");
    }
    for problem in &status.problems {
        let _ = writeln!(text, "- {}: {}", problem.about, problem.message);
    }
    text
}

fn peer_table(peers: &[&Peer], wide: bool) -> String {
    let mut headers = vec!["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"];
    if wide {
        headers.extend(["NAME", "ASN", "RECEIVED", "SENT", "FLAPS"]);
    }
    let row = |peer: &&Peer| {
        let mut row = vec![
            peer.address.to_string(),
            peer.kind.to_string(),
            if peer.established { "up" } else { "start" }.to_string(),
            time(peer.since),
            info(peer),
        ];
        if wide {
            row.push(peer.name.clone());
            row.push(peer.remote_as.to_string());
            row.push(peer.prefixes_received.to_string());
            row.push(peer.prefixes_sent.to_string());
            row.push(peer.flaps.to_string());
        }
        row
    };
    lined_table(&headers, peers.iter().map(row).collect(), 6)
}

/// The state's name, and why a session is not up.
fn info(peer: &Peer) -> String {
    if peer.established || peer.last_error.is_empty() {
        peer.state.clone()
    } else {
        format!("{}: {}", peer.state, peer.last_error)
    }
}

fn attachment_row(attachment: &Attachment) -> Vec<String> {
    let addresses: Vec<_> = attachment.addresses.iter().map(ToString::to_string).collect();
    vec![
        or_dash(attachment.pod.clone().unwrap_or_default()),
        or_dash(attachment.phase.clone().unwrap_or_default()),
        attachment.ifname.clone(),
        attachment.host_device.clone(),
        or_dash(addresses.join(",")),
        attachment.container_id.chars().take(13).collect(),
    ]
}

/// A row a path; what concerns the prefix stands in the first.
fn route_rows(route: &Route) -> Vec<Vec<String>> {
    let kernel = match (&route.kernel, route.kernel_problem.as_str()) {
        (_, problem) if !problem.is_empty() => format!("({problem})"),
        (Some(kernel), _) => kernel.clone(),
        (None, _) => "-".to_string(),
    };
    let row = |(at, path): (usize, &types::Path)| {
        let first = |text: &str| if at == 0 { text.to_string() } else { String::new() };
        vec![
            first(&route.prefix.to_string()),
            path.from.clone(),
            path.next_hop
                .map_or_else(|| "-".to_string(), |address| address.to_string()),
            or_dash(path.as_path.clone()),
            if path.best { "yes" } else { "no" }.to_string(),
            first(&kernel),
        ]
    };
    if route.paths.is_empty() {
        let dash = || "-".to_string();
        return vec![vec![
            route.prefix.to_string(),
            dash(),
            dash(),
            dash(),
            dash(),
            kernel,
        ]];
    }
    route.paths.iter().enumerate().map(row).collect()
}

fn why_text(route: &Route) -> String {
    let mut text = format!("{}\n", route.prefix);
    let _ = match (&route.kernel, route.kernel_problem.as_str()) {
        (_, problem) if !problem.is_empty() => writeln!(text, "  kernel: {problem}"),
        (Some(kernel), _) => writeln!(text, "  kernel: {kernel}"),
        (None, _) => writeln!(text, "  kernel: no route of ours"),
    };
    for path in &route.paths {
        let mut facts = Vec::new();
        facts.extend(path.next_hop.map(|address| format!("next hop {address}")));
        if !path.as_path.is_empty() {
            facts.push(format!("AS path {}", path.as_path));
        }
        facts.extend(
            path.local_pref
                .map(|preference| format!("local preference {preference}")),
        );
        if path.stale {
            facts.push("stale: its peer is restarting".to_string());
        }
        let facts = if facts.is_empty() {
            String::new()
        } else {
            format!(" ({})", facts.join(", "))
        };
        let used = if path.best { "used" } else { "not used" };
        let _ = writeln!(text, "  from {}{facts}: {used}: {}", path.from, path.reason);
    }
    for (peer, fate) in &route.sent_to {
        let _ = writeln!(text, "  to {peer}: {fate}");
    }
    text
}
