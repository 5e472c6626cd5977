//! routelet, the Routelet node agent.

use std::{process::ExitCode, sync::Arc, time::Duration};

use agent::{
    admin::server::{self as admin, AdminServer},
    attachments::{Attachments, boot_id},
    cache, claims,
    cli::{Cli, Command},
    cni_server::{self, CniServer},
    config::{Config, LogFormat},
    endpoint::Endpoint,
    health::{self, Health},
    http,
    install::publish::{Publication, publish},
    kernel::{self, Family, Kernel},
    locks::Locks,
    metrics::{Metrics, Scraper},
    node::{self, AddressSource},
    reconciler::{Inputs, Reconciler},
    socket,
    tunnel::{self, Manager},
};
use anyhow::Context;
use clap::Parser;
use datastore::Store;
use ipam::Allocator;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How long the requests under way may take once the agent is told to stop. Kubernetes waits 30 s before it kills.
const DRAIN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let done = match Cli::parse().into_command() {
        Command::Run(config) => start_log(&config).and_then(|()| run(config)),
        Command::InstallCni(install) => install.run(),
        Command::UninstallCni(uninstall) => uninstall.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("routelet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| {
        format!(
            "--log \"{}\": expected a level (error, warn, info, debug, trace)",
            config.log
        )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => {
            use std::io::IsTerminal;
            log.with_ansi(std::io::stderr().is_terminal()).init();
        }
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let started = std::time::SystemTime::now();
    let name = config.node_name()?;
    let v4 = AddressSource::parse(&config.node_ip, Family::V4).context("--node-ip")?;
    let v6 = AddressSource::parse(&config.node_ip6, Family::V6).context("--node-ip6")?;
    tracing::info!(
        node = name,
        version = env!("CARGO_PKG_VERSION"),
        datastore = config.datastore,
        "starting"
    );

    // Bind early: a second agent on the same node is refused before it can touch anything.
    let state = &config.state_dir;
    let attachments = Attachments::open(state)
        .with_context(|| format!("cannot use the state directory {}", state.display()))?;
    let cni_socket = config.cni_socket();
    let cni_listener =
        socket::bind(&cni_socket).with_context(|| format!("cannot listen on {}", cni_socket.display()))?;
    let admin_socket = config.admin_socket();
    let admin_listener = socket::bind(&admin_socket)
        .with_context(|| format!("cannot listen on {}", admin_socket.display()))?;
    let http_listener = http::listen(&config.http_listen).await.context("--http-listen")?;
    let store = Store::open(&config.datastore)
        .await
        .context("cannot open the datastore")?;
    let kernel = start_kernel(&config).await?;

    // Follow everything that decides what this node should look like.
    let stop = CancellationToken::new();
    let metrics = Metrics::default();
    let forward_ipv6 = v6 != AddressSource::None;
    let addresses = node::follow_addresses(&kernel, v4, v6, stop.clone());
    let (nodes, pools) = (
        cache::follow(&store, &metrics.watch, stop.clone()),
        cache::follow(&store, &metrics.watch, stop.clone()),
    );
    let allocator = Allocator::new(store.clone(), name.clone());
    let tunnel = Manager::new(
        config.tunnel(&name),
        tunnel::Inputs {
            pools: pools.clone(),
            nodes: nodes.clone(),
            addresses: addresses.clone(),
            links: kernel.watch_links(),
        },
        kernel.clone(),
        store.clone(),
        allocator.clone(),
    );
    let inputs = Inputs {
        nodes,
        pools,
        affinities: cache::follow(&store, &metrics.watch, stop.clone()),
        bgp_configurations: cache::follow(&store, &metrics.watch, stop.clone()),
        bgp_peers: cache::follow(&store, &metrics.watch, stop.clone()),
        secrets: cache::follow_in(&config.namespace, &store, &metrics.watch, stop.clone()),
        attachments: attachments.subscribe(),
        addresses: addresses.clone(),
        next_hops: kernel.watch_next_hops(),
        tunnel: tunnel.watch(),
    };
    tokio::spawn(claims::finish(
        allocator.clone(),
        name.clone(),
        inputs.affinities.clone(),
        stop.clone(),
    ));
    let carried = tunnel.watch();
    tokio::spawn(tunnel.run(stop.clone()));
    let registration = node::keep_registered(
        store.clone(),
        name.clone(),
        addresses.clone(),
        inputs.nodes.clone(),
        stop.clone(),
    );
    tokio::spawn(registration);

    // Make the kernel and BGP agree with it.
    let base = speaker_base(&config, &kernel).await?;
    let reconciler = Reconciler::new(
        name.clone(),
        config.namespace.clone(),
        inputs.clone(),
        kernel.clone(),
        base,
    );
    let view = reconciler.view();
    let (publication, published) = tokio::sync::watch::channel(Publication::NotWanted);
    let health = Health {
        reconciler: reconciler.pulse(),
        observed: health::start_monitor(kernel.clone(), view.clone(), forward_ipv6, stop.clone()),
        view: view.clone(),
        cni_socket: cni_socket.clone(),
        publication: published,
    };
    let scraper = Scraper {
        node: name.clone(),
        started,
        metrics: metrics.clone(),
        inputs,
        attachments: attachments.clone(),
        kernel: kernel.clone(),
        view: view.clone(),
    };
    let mut reconciling = tokio::spawn(reconciler.run(stop.clone()));

    // Serve.
    let pods = cache::follow_pods_of(&name, &store, &metrics.watch, stop.clone());
    let cni_server = Arc::new(CniServer {
        node: name.clone(),
        allocator,
        attachments: attachments.clone(),
        kernel: kernel.clone(),
        addresses,
        pod_mtu: config.pod_mtu,
        tunnel: carried,
        route_protocol: config.route_protocol,
        boot_id: boot_id().context("cannot read this boot's id")?,
        locks: Locks::default(),
        metrics,
    });
    let admin_server = Arc::new(AdminServer {
        node: name,
        datastore: config.datastore.clone(),
        started,
        route_protocol: config.route_protocol,
        attachments,
        kernel,
        view,
        pods,
    });
    let queue = cni::pending::Queue::new(&config.state_dir);
    tokio::spawn(cni_server::clean_up(cni_server.clone(), queue, stop.clone()));
    tokio::spawn(admin::serve(admin_server, admin_listener, stop.clone()));
    let serving = tokio::spawn(cni_server::serve(cni_server, cni_listener, stop.clone()));
    if let Some(listener) = http_listener {
        let endpoint = Endpoint {
            health: health.clone(),
            scraper,
        };
        let answer = move |path| endpoint.clone().answer(path);
        tokio::spawn(http::serve(
            listener,
            http::Limits::default(),
            stop.clone(),
            answer,
        ));
    }
    if let Some(settings) = config.conflist() {
        tokio::spawn(publish(settings, health, publication, stop.clone()));
    }
    notify(sd_notify::NotifyState::Ready);
    tracing::info!(cni = %cni_socket.display(), admin = %admin_socket.display(), "ready");

    tokio::select! {
        signal = wait_for_signal() => signal?,
        // Without it the agent is of no use: end, and be started again.
        ended = &mut reconciling => anyhow::bail!("the reconciler has ended: {:?}", ended.err()),
    }
    notify(sd_notify::NotifyState::Stopping);
    stop.cancel();
    let drained = tokio::time::timeout(DRAIN, async {
        serving.await.context("the CNI server")?;
        // Peers keep our routes, and the kernel forwards on, until the next agent is there (RFC 4724).
        if let Some(speaker) = reconciling.await.context("the reconciler")? {
            speaker.shutdown(bgp::Shutdown::Restart).await;
        }
        anyhow::Ok(())
    });
    drained
        .await
        .context("requests under way did not end in time")??;
    tracing::info!("stopped; routes stay in the kernel for the next agent");
    Ok(())
}

async fn start_kernel(config: &Config) -> anyhow::Result<Kernel> {
    let settings = kernel::Settings {
        protocol: config.route_protocol,
        resync: config.resync(),
        ..kernel::Settings::default()
    };
    Ok(Kernel::start(settings).await?)
}

/// What the command line and the kernel say of the speaker. Routes of ours that are in the kernel already are there
/// because an agent ran before and forwarding went on: that is what the peers must hear (RFC 4724, section 4.1).
async fn speaker_base(config: &Config, kernel: &Kernel) -> anyhow::Result<bgp::SpeakerConfig> {
    let restarting = !kernel.routes().await?.is_empty();
    // AS and identifier are filled in once they are known.
    let mut base = bgp::SpeakerConfig::new(bgp::Asn(1), bgp::RouterId(std::net::Ipv4Addr::LOCALHOST));
    base.restart_time = config.restart_time();
    base.restarting = restarting;
    base.forwarding_preserved = true;
    Ok(base)
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping");
    Ok(())
}

/// Tells systemd, where it started us.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd does not listen");
    }
}
