//! `lab demo`: the product's main job, done for real and checked.

use std::{env, fs, net::IpAddr, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    Attachment, Lab, Topology, blocks,
    blocks::blocks,
    interrupt,
    labdir::State,
    ping::{concurrently, ping},
    preflight,
    report::Report,
    wait_for,
};

use crate::tables;

/// How long a change may take to reach every kernel.
const CONVERGENCE: Duration = Duration::from_secs(20);

/// Runs the demonstration; success only if every check passed.
pub(crate) fn run(name: &str, topology: Topology) -> Result<ExitCode> {
    preflight::check()?;
    let mut report = Report::new();
    report.say(format_args!(
        "Routelet demo: {} nodes in {} subnets, {} router{}, all in network namespaces called {name}-*.",
        topology.nodes.len(),
        topology.subnets.len(),
        topology.routers.len(),
        if topology.routers.len() == 1 { "" } else { "s" },
    ));
    let lab = Lab::build(name, topology)?;
    match demonstrate(&lab, &mut report) {
        Err(error) if !error.is::<Stopped>() => report.abort(&error),
        _ => {}
    }
    if !report.is_good() && !interrupt::is_set() {
        keep_logs(&lab, &report);
    }
    // From here on a Ctrl-C only counts as a failure: the lab is removed all the same.
    let interrupted = interrupt::take();
    report.heading("Removing the lab");
    let (dir, namespaces, processes) = (lab.dir().clone(), lab.dir().namespaces(), lab.dir().processes());
    report.check(
        "every process has ended, every namespace and file is gone",
        lab.down().and_then(|()| {
            ensure!(
                !processes.iter().any(|process| process.is_alive()),
                "a process is left"
            );
            ensure!(
                !namespaces.iter().any(|namespace| namespace.exists()),
                "a namespace is left"
            );
            ensure!(dir.state() == State::Absent, "{} is left", dir.path().display());
            Ok(())
        }),
    );
    let good = report.is_good() && !interrupted;
    report.say(format_args!("\n{}", report.summary()));
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn demonstrate(lab: &Lab, report: &mut Report) -> Result<()> {
    start(lab, report)?;
    let pods = attach(lab, report)?;
    show(lab, report, &pods)?;
    ping_everything(lab, report, &pods)?;
    delete(lab, report, &pods)
}

/// A check failed without which the rest makes no sense; it is counted already.
#[derive(Debug, thiserror::Error)]
#[error("cannot go on")]
struct Stopped;

fn needed<T>(found: Option<T>) -> Result<T> {
    found.ok_or_else(|| Stopped.into())
}

fn start(lab: &Lab, report: &mut Report) -> Result<()> {
    report.heading("Starting routelet on the nodes and BIRD on the router");
    needed(report.check("every daemon answers", lab.start()))?;
    needed(report.check(
        "every BGP session is established, as both ends see it",
        lab.wait_sessions(),
    ))
}

fn attach(lab: &Lab, report: &mut Report) -> Result<Vec<Attachment>> {
    let count = lab.topology().pods_per_node;
    report.heading(&format!(
        "Attaching {count} pods to each node, as a container runtime does (routelet-cni ADD)"
    ));
    let pods = needed(report.check("every pod has its address", lab.attach_to_each(count)))?;
    report.check("no address was given twice", distinct(&pods));
    let blocks = wait_for(
        "the blocks in BIRD's table and 10 in the kernels",
        CONVERGENCE,
        || check_blocks(lab),
    );
    report.check(
        "each block has one owner, and BIRD sends its packets there",
        blocks,
    );
    let learned = wait_for("what the routers announce", CONVERGENCE, || check_announced(lab));
    report.check(
        "what BIRD announces is in every node's kernel, as a route of routelet's",
        learned,
    );
    Ok(pods)
}

fn distinct(pods: &[Attachment]) -> Result<()> {
    let mut addresses: Vec<_> = pods.iter().flat_map(|pod| &pod.addresses).collect();
    let all = addresses.len();
    addresses.sort();
    addresses.dedup();
    ensure!(
        addresses.len() == all,
        "{} addresses for {all} interfaces",
        addresses.len()
    );
    Ok(())
}

fn check_blocks(lab: &Lab) -> Result<()> {
    let node = lab.nodes().next().context("no node")?;
    let blocks = blocks(&node)?;
    ensure!(!blocks.is_empty(), "there is no block");
    for block in blocks {
        let owner = block
            .owner
            .with_context(|| format!("nobody owns {}", block.cidr))?;
        let address = IpAddr::from(lab.find_node(&owner)?.spec().address);
        for router in lab.routers() {
            let routes = router.bird_routes()?;
            let route = routes.iter().find(|route| route.prefix == block.cidr);
            let via = route
                .with_context(|| format!("{} has no route to {}", router.name(), block.cidr))?
                .via;
            ensure!(
                via == Some(address),
                "{} sends {} to {via:?}, not to {address}",
                router.name(),
                block.cidr
            );
        }
    }
    Ok(())
}

fn check_announced(lab: &Lab) -> Result<()> {
    for announcement in lab.topology().routers.iter().flat_map(|router| &router.announces) {
        for node in lab.nodes() {
            let route = node.route_to(&announcement.prefix.to_string())?;
            ensure!(
                route.is_ours(),
                "{}: {} is of protocol {}",
                node.name(),
                route.dst,
                route.protocol
            );
        }
    }
    Ok(())
}

fn show(lab: &Lab, report: &mut Report, pods: &[Attachment]) -> Result<()> {
    report.heading("Nodes");
    report.say(tables::nodes(lab, pods));
    report.heading("Pods");
    report.say(tables::pods_table(pods));
    let node = lab.nodes().next().context("no node")?;
    report.heading("Blocks");
    report.say(tables::blocks_table(lab, &blocks(&node)?));
    report.heading("BGP sessions");
    report.say(tables::sessions(lab));
    report.heading(&format!("Kernel routes of node {}", node.name()));
    report.say(tables::routes(&node, &node.routes()?)?);
    interrupt::check()
}

fn ping_everything(lab: &Lab, report: &mut Report, pods: &[Attachment]) -> Result<()> {
    report.heading("Pings, from the row to the column (round trip in milliseconds)");
    let mut targets: Vec<(String, IpAddr)> = Vec::new();
    for pod in pods {
        targets.push((pod.pod.clone(), pod.address()?));
    }
    targets.extend(
        lab.nodes()
            .map(|node| (node.name().to_string(), node.spec().address.into())),
    );
    let answering = lab.topology().routers.iter().flat_map(|router| &router.announces);
    targets.extend(
        answering.filter_map(|announcement| Some((announcement.address?.to_string(), announcement.address?))),
    );
    let mut sources: Vec<String> = pods.iter().map(|pod| pod.pod.clone()).collect();
    sources.extend(lab.routers().map(|router| router.name().to_string()));

    let is_router = |name: &str| lab.topology().router(name).is_some();
    let pairs: Vec<_> = sources
        .iter()
        .flat_map(|from| targets.iter().map(move |to| (from, to)))
        .filter(|(from, to)| *from != &to.0 && (!is_router(from) || pods.iter().any(|pod| pod.pod == to.0)))
        .collect();
    let results = concurrently(&pairs, |(from, to)| ping(&lab.netns(from), to.1));
    let found = |from: &String, to: &String| {
        let index = pairs.iter().position(|(f, t)| *f == from && &t.0 == to)?;
        results.get(index)
    };
    let mut header = vec!["from \\ to"];
    header.extend(targets.iter().map(|(name, _)| name.as_str()));
    let mut table = tables::table(&header);
    for from in &sources {
        let mut row = vec![comfy_table::Cell::new(from)];
        row.extend(targets.iter().map(|(to, _)| tables::ping_cell(found(from, to))));
        table.add_row(row);
    }
    report.say(table);
    results.iter().for_each(|result| report.count(result.is_ok()));
    let failures: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    if let Some(first) = failures.first() {
        report.say(format_args!(
            "  {} of {} pings failed, the first: {first:#}",
            failures.len(),
            results.len()
        ));
    } else {
        report.say(format_args!("  all {} pings were answered", results.len()));
    }
    interrupt::check()
}

fn delete(lab: &Lab, report: &mut Report, pods: &[Attachment]) -> Result<()> {
    report.heading("Deleting the pods (routelet-cni DEL)");
    let deleted = concurrently(pods, |pod| lab.detach(&pod.pod))
        .into_iter()
        .collect::<Result<Vec<_>>>();
    report.check("every pod is deleted", deleted);
    let gone = wait_for("the addresses to be free", CONVERGENCE, || no_address(lab));
    report.check("no address is in use", gone);
    let gone = wait_for("the links to be gone", CONVERGENCE, || no_link(lab));
    report.check("no veth is left on a node", gone);
    let gone = wait_for("the routes to be gone", CONVERGENCE, || no_pod_route(lab, pods));
    report.check("no route to a pod is left on a node", gone);
    interrupt::check()
}

fn no_address(lab: &Lab) -> Result<()> {
    let node = lab.nodes().next().context("no node")?;
    let used: Vec<_> = blocks(&node)?
        .into_iter()
        .flat_map(|block| block.used)
        .filter(|(_, holder)| !is_tunnels(holder))
        .collect();
    ensure!(used.is_empty(), "in use: {used:?}");
    let handles = node.routectl_json(&["get", "ipamhandles"])?;
    let handles = blocks::items(&handles).iter();
    let left = handles.filter(|handle| !handle["spec"]["handleID"].as_str().is_some_and(is_tunnels));
    let left = left.count();
    ensure!(left == 0, "{left} handles are left");
    Ok(())
}

/// A node keeps the address of its tunnel.
fn is_tunnels(holder: &str) -> bool {
    holder.starts_with("ipip-tunnel-addr-")
}

fn no_link(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        let links = node.netns().links("cali")?;
        ensure!(links.is_empty(), "{} has {}", node.name(), links.join(", "));
    }
    Ok(())
}

fn no_pod_route(lab: &Lab, pods: &[Attachment]) -> Result<()> {
    for node in lab.nodes() {
        for route in node.routes()? {
            let is_pods = pods
                .iter()
                .flat_map(|pod| &pod.addresses)
                .any(|address| address.to_string() == route.dst);
            if is_pods || route.dev.as_deref().is_some_and(|dev| dev.starts_with("cali")) {
                bail!("{} has a route to {}", node.name(), route.dst);
            }
        }
    }
    Ok(())
}

/// Shows the ends of the logs and copies them to where they outlive the lab.
fn keep_logs(lab: &Lab, report: &Report) {
    report.say(lab.log_tails());
    let kept = env::temp_dir().join(format!("routelet-{}-logs-{}", lab.name(), std::process::id()));
    let logs = lab.nodes().map(|node| (node.name(), node.log_path()));
    let logs = logs.chain(lab.routers().map(|router| (router.name(), router.log_path())));
    let mut written = logs.filter(|(_, path)| path.exists());
    let copy = |(name, path): (&str, _)| fs::copy(path, kept.join(format!("{name}.log"))).map(drop);
    match fs::create_dir_all(&kept).and_then(|()| written.try_for_each(copy)) {
        Ok(()) => report.say(format_args!("The logs are in {}", kept.display())),
        Err(error) => report.say(format_args!(
            "The logs could not be copied to {}: {error}",
            kept.display()
        )),
    }
}
