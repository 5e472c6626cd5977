//! What a lab looks like, as tables.

use std::{net::IpAddr, time::Duration};

use anyhow::Result;
use comfy_table::{Cell, Color, Table, presets::UTF8_FULL_CONDENSED};
use e2e::{
    Attachment, Lab, Node,
    bird::session_name,
    blocks::{Block, blocks},
    node::KernelRoute,
    report::{has_colour, say},
};

/// An empty table with this header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners());
    table.set_header(header.iter().map(Cell::new).collect::<Vec<_>>());
    if !has_colour() {
        table.force_no_tty();
    }
    table
}

/// A cell that is good news or bad news.
pub(crate) fn verdict(text: impl ToString, good: bool) -> Cell {
    Cell::new(text.to_string()).fg(if good { Color::Green } else { Color::Red })
}

/// Prints every table.
pub(crate) fn show_all(lab: &Lab) -> Result<()> {
    let pods = lab.pods()?;
    say(format_args!("Nodes\n{}", nodes(lab, &pods)));
    say(format_args!("\nPods\n{}", pods_table(&pods)));
    if let Some(node) = lab.nodes().find(|node| node.agent().is_some()) {
        say(format_args!("\nBlocks\n{}", blocks_table(lab, &blocks(&node)?)));
        say(format_args!("\nBGP sessions\n{}", sessions(lab)));
        say(format_args!(
            "\nKernel routes of node {}\n{}",
            node.name(),
            routes(&node, &node.routes()?)?
        ));
    }
    Ok(())
}

/// Nodes and routers.
pub(crate) fn nodes(lab: &Lab, pods: &[Attachment]) -> Table {
    let mut table = table(&["Name", "Subnet", "Address", "AS", "Runs", "Pods"]);
    for node in lab.nodes() {
        let spec = node.spec();
        let agent = match node.agent() {
            Some(agent) => verdict(format!("routelet, process {}", agent.pid), true),
            None => verdict("nothing", false),
        };
        let count = pods.iter().filter(|pod| pod.node == spec.name).count();
        table.add_row(vec![
            Cell::new(&spec.name),
            Cell::new(&spec.subnet),
            Cell::new(spec.address),
            Cell::new(lab.topology().as_number),
            agent,
            Cell::new(count),
        ]);
    }
    for router in lab.routers() {
        let spec = router.spec();
        let bird = match router.bird() {
            Some(bird) => verdict(format!("BIRD, process {}", bird.pid), true),
            None => verdict("nothing", false),
        };
        let subnets: Vec<_> = spec.addresses.keys().cloned().collect();
        let addresses: Vec<_> = spec.addresses.values().map(ToString::to_string).collect();
        table.add_row(vec![
            Cell::new(&spec.name),
            Cell::new(subnets.join("\n")),
            Cell::new(addresses.join("\n")),
            Cell::new(spec.as_number),
            bird,
            Cell::new(""),
        ]);
    }
    table
}

/// Pods and their addresses.
pub(crate) fn pods_table(pods: &[Attachment]) -> Table {
    let mut table = table(&["Pod", "Node", "Address"]);
    for pod in pods {
        let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
        table.add_row([pod.pod.clone(), pod.node.clone(), addresses.join("\n")]);
    }
    table
}

/// Blocks, who owns them, and where each router sends their packets.
pub(crate) fn blocks_table(lab: &Lab, blocks: &[Block]) -> Table {
    let routers: Vec<_> = lab.routers().collect();
    let mut header = vec![
        "Block".to_string(),
        "Owner".to_string(),
        "In use".to_string(),
        "By".to_string(),
    ];
    header.extend(
        routers
            .iter()
            .map(|router| format!("BIRD on {} sends it to", router.name())),
    );
    let mut table = table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    let tables: Vec<_> = routers
        .iter()
        .map(|router| router.bird_routes().unwrap_or_default())
        .collect();
    for block in blocks {
        let users: Vec<_> = block.used.iter().map(|(_, user)| user.as_str()).collect();
        let mut row = vec![
            Cell::new(block.cidr),
            Cell::new(block.owner.as_deref().unwrap_or("nobody")),
            Cell::new(format!("{} of {}", block.used.len(), block.size)),
            Cell::new(users.join(", ")),
        ];
        for routes in &tables {
            let via = routes
                .iter()
                .find(|route| route.prefix == block.cidr)
                .and_then(|route| route.via);
            row.push(match via {
                Some(via) => Cell::new(format!("{via} ({})", name_of(lab, via))),
                None => verdict("nowhere", false),
            });
        }
        table.add_row(row);
    }
    table
}

/// BGP sessions, as every agent and every BIRD sees them.
pub(crate) fn sessions(lab: &Lab) -> Table {
    let mut table = table(&["On", "Peer", "Peer AS", "Type", "State", "Received", "Sent"]);
    for node in lab.nodes() {
        let sessions = match node.sessions() {
            Ok(sessions) => sessions,
            Err(error) => {
                table.add_row(vec![Cell::new(node.name()), verdict(format!("{error:#}"), false)]);
                continue;
            }
        };
        for session in sessions {
            let peer = session
                .address
                .parse()
                .map(|address| name_of(lab, address))
                .unwrap_or_default();
            table.add_row(vec![
                Cell::new(node.name()),
                Cell::new(format!("{} ({peer})", session.address)),
                Cell::new(session.remote_as),
                Cell::new(&session.kind),
                verdict(&session.state, session.established),
                Cell::new(session.prefixes_received),
                Cell::new(session.prefixes_sent),
            ]);
        }
    }
    for router in lab.routers() {
        let (sessions, routes) = (
            router.sessions().unwrap_or_default(),
            router.bird_routes().unwrap_or_default(),
        );
        for session in sessions {
            let peers = |node: &&e2e::topology::NodeSpec| {
                session_name(&node.name, node.address.into()) == session.name
            };
            let node = lab.topology().nodes.iter().find(peers);
            let peer = node.map_or_else(
                || session.name.clone(),
                |node| format!("{} ({})", node.address, node.name),
            );
            let received = routes
                .iter()
                .filter(|route| route.protocol == session.name)
                .count();
            table.add_row(vec![
                Cell::new(router.name()),
                Cell::new(peer),
                Cell::new(lab.topology().as_number),
                Cell::new("BIRD"),
                verdict(&session.info, session.is_established()),
                Cell::new(received),
                Cell::new(router.spec().announces.len()),
            ]);
        }
    }
    table
}

/// The kernel's routes of a node, and what each is for.
pub(crate) fn routes(node: &Node<'_>, routes: &[KernelRoute]) -> Result<Table> {
    let lab = node.lab();
    let (pods, blocks) = (lab.pods()?, blocks(node)?);
    let mut table = table(&["Destination", "Via", "Device", "Protocol", "What it is"]);
    for route in routes {
        let protocol = if route.is_ours() {
            "80 (routelet)"
        } else {
            &route.protocol
        };
        table.add_row([
            route.dst.clone(),
            route
                .gateway
                .clone()
                .unwrap_or_else(|| if route.is_blackhole() { "blackhole" } else { "" }.to_string()),
            route.dev.clone().unwrap_or_default(),
            protocol.to_string(),
            meaning(lab, route, &pods, &blocks),
        ]);
    }
    Ok(table)
}

fn meaning(lab: &Lab, route: &KernelRoute, pods: &[Attachment], blocks: &[Block]) -> String {
    let pod = pods.iter().find(|pod| {
        pod.addresses
            .iter()
            .any(|address| address.to_string() == route.dst)
    });
    if let Some(pod) = pod {
        return format!("pod {}", pod.pod);
    }
    let block = blocks.iter().find(|block| block.cidr.to_string() == route.dst);
    if let Some(block) = block {
        let owner = block.owner.as_deref().unwrap_or("nobody");
        let own = if route.is_blackhole() {
            ": what no pod here has goes nowhere"
        } else {
            ""
        };
        return format!("block of {owner}{own}");
    }
    let announces = |router: &&e2e::topology::RouterSpec| {
        router
            .announces
            .iter()
            .any(|announcement| announcement.prefix.to_string() == route.dst)
    };
    if let Some(router) = lab.topology().routers.iter().find(announces) {
        return format!("announced by {}", router.name);
    }
    let subnet = lab
        .topology()
        .subnets
        .iter()
        .find(|subnet| subnet.cidr.to_string() == route.dst);
    subnet
        .map(|subnet| format!("subnet {}", subnet.name))
        .unwrap_or_default()
}

/// The node or router with this address.
fn name_of(lab: &Lab, address: IpAddr) -> String {
    let topology = lab.topology();
    let is_it = |candidate: std::net::Ipv4Addr| IpAddr::V4(candidate) == address;
    let node = topology
        .nodes
        .iter()
        .find(|node| is_it(node.address))
        .map(|node| &node.name);
    let router = || {
        topology
            .routers
            .iter()
            .find(|router| router.addresses.values().any(|own| is_it(*own)))
    };
    node.or_else(|| router().map(|router| &router.name))
        .cloned()
        .unwrap_or_default()
}

/// A ping's result as a cell: its time, or that it failed.
pub(crate) fn ping_cell(result: Option<&Result<Duration>>) -> Cell {
    match result {
        None => Cell::new(""),
        Some(Ok(time)) => verdict(format!("{:.2}", time.as_secs_f64() * 1000.0), true),
        Some(Err(_)) => verdict("FAILED", false),
    }
}
