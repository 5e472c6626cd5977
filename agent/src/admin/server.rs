//! Answers the admin socket from what the reconciler, the kernel's task and the speaker say of themselves.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use bgp::{RouteQuery, SpeakerStatus};
use datastore::types::Pod;
use ipnet::IpNet;
use tokio::{net::UnixListener, sync::watch};
use tokio_util::sync::CancellationToken;

use super::types::{
    Attachment, Kernel as KernelReport, Path, Peer, PeerKind, Problem, Query, Reply, Request, Route, Status,
    Tunnel, VERSION,
};
use crate::{
    attachments::Attachments, cache::Objects, kernel::Kernel, reconciler::View, socket, tunnel::TunnelState,
};

/// What the admin server looks at.
#[derive(Debug)]
pub struct AdminServer {
    /// This node.
    pub node: String,
    /// Where the objects live.
    pub datastore: String,
    /// When the agent started.
    pub started: SystemTime,
    /// Mark of our routes.
    pub route_protocol: u8,
    /// The record.
    pub attachments: Attachments,
    /// The kernel.
    pub kernel: Kernel,
    /// What the reconciler has done last.
    pub view: watch::Receiver<Arc<View>>,
    /// The pods of this node, as the datastore has them.
    pub pods: watch::Receiver<Objects<Pod>>,
}

/// Serves `routectl` until `stop`.
pub async fn serve(server: Arc<AdminServer>, listener: UnixListener, stop: CancellationToken) {
    let answer = move |request: Request| {
        let server = server.clone();
        async move { server.answer(request).await }
    };
    socket::serve(listener, stop, answer, |error| {
        Reply::Error(format!("cannot read the request: {error}"))
    })
    .await;
}

impl AdminServer {
    async fn answer(&self, request: Request) -> Reply {
        if request.version != VERSION {
            let theirs = request.version;
            return Reply::Error(format!(
                "this agent speaks version {VERSION} of the admin socket, not {theirs}: use the routectl of its release"
            ));
        }
        match request.query {
            Query::Status => Reply::Status(Box::new(self.status().await)),
            Query::Routes { prefix } => match self.routes(prefix).await {
                Ok(routes) => Reply::Routes(routes),
                Err(error) => Reply::Error(error.to_string()),
            },
            Query::Attachments => Reply::Attachments(self.attached()),
        }
    }

    async fn status(&self) -> Status {
        let view = self.view.borrow().clone();
        let speaker = match &view.speaker {
            Some(speaker) => Some(speaker.status().await),
            None => None,
        };
        let bgp = view.desired.bgp.as_ref();
        Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            started: seconds(self.started),
            datastore: self.datastore.clone(),
            waiting_for: view.waiting_for.iter().map(ToString::to_string).collect(),
            addresses: view.addresses.iter().collect(),
            router_id: bgp.map(|bgp| bgp.router_id.to_string()),
            local_as: bgp.map(|bgp| bgp.local_as).unwrap_or_default(),
            bgp_converged: view.bgp_converged,
            peers: speaker
                .as_ref()
                .map(|status| peers(&view, status))
                .unwrap_or_default(),
            tunnels: tunnel(&view.tunnel).into_iter().collect(),
            kernel: self.kernel_report(),
            announced: view.desired.announced.keys().copied().collect(),
            attachments: self.attachments.table().len(),
            problems: self.problems(&view, speaker.as_ref()),
        }
    }

    fn kernel_report(&self) -> KernelReport {
        let status = self.kernel.status();
        KernelReport {
            protocol: self.route_protocol,
            desired: status.desired,
            installed: status.installed,
            repairs: status.repairs,
        }
    }

    fn problems(&self, view: &View, speaker: Option<&SpeakerStatus>) -> Vec<Problem> {
        let mut problems: Vec<Problem> = view.desired.problems.iter().cloned().collect();
        problems.extend(view.problems.iter().cloned());
        let of_kernel = self.kernel.status();
        let routes = of_kernel.problems.iter();
        problems
            .extend(routes.map(|problem| Problem::new(format!("route {}", problem.prefix), &problem.reason)));
        if let Some(speaker) = speaker {
            let listeners = speaker.listeners.iter();
            problems.extend(listeners.filter_map(|listener| {
                let error = listener.error.as_ref()?;
                Some(Problem::new(format!("BGP listener {}", listener.address), error))
            }));
        }
        problems.sort();
        problems.dedup();
        problems
    }

    async fn routes(&self, only: Option<IpNet>) -> Result<Vec<Route>, crate::kernel::Error> {
        let view = self.view.borrow().clone();
        let mut routes: BTreeMap<IpNet, Route> = BTreeMap::new();
        let wanted = |prefix: &IpNet| only.is_none_or(|only| only == *prefix);
        for installed in self
            .kernel
            .routes()
            .await?
            .into_iter()
            .filter(|route| wanted(&route.prefix))
        {
            let target = installed
                .target
                .map_or("of a kind we never make".to_string(), |target| target.to_string());
            entry(&mut routes, installed.prefix).kernel = Some(target);
        }
        for problem in self
            .kernel
            .status()
            .problems
            .iter()
            .filter(|problem| wanted(&problem.prefix))
        {
            entry(&mut routes, problem.prefix).kernel_problem = problem.reason.clone();
        }
        if let Some(speaker) = &view.speaker {
            let query = only.map_or(RouteQuery::All, RouteQuery::Prefix);
            for known in speaker.routes(query).await {
                add_paths(entry(&mut routes, known.prefix), known);
            }
        }
        Ok(routes.into_values().collect())
    }

    fn attached(&self) -> Vec<Attachment> {
        let table = self.attachments.table();
        let pods = self.pods.borrow().all.clone();
        let attached = table.values().map(|attachment| {
            let pod = attachment
                .pod
                .as_ref()
                .map(|pod| format!("{}/{}", pod.namespace, pod.name));
            let known = pod.as_ref().and_then(|name| pods.get(name));
            Attachment {
                container_id: attachment.id.container_id.clone(),
                ifname: attachment.id.ifname.clone(),
                phase: known.and_then(|pod| pod.status.phase.clone()),
                pod,
                host_device: attachment.host_device.clone(),
                addresses: attachment.addresses.clone(),
            }
        });
        attached.collect()
    }
}

fn entry(routes: &mut BTreeMap<IpNet, Route>, prefix: IpNet) -> &mut Route {
    routes.entry(prefix).or_insert_with(|| Route {
        prefix,
        kernel: None,
        kernel_problem: String::new(),
        paths: Vec::new(),
        sent_to: BTreeMap::new(),
    })
}

fn peers(view: &View, speaker: &SpeakerStatus) -> Vec<Peer> {
    let now = seconds(SystemTime::now());
    let wanted = view.desired.bgp.as_ref().map(|bgp| &bgp.peers);
    let report = |status: &bgp::PeerStatus| Peer {
        address: status.address,
        name: status.name.clone(),
        kind: wanted
            .and_then(|peers| peers.get(&status.address))
            .map_or(PeerKind::Global, |peer| peer.kind),
        remote_as: status.remote_as.0,
        state: status.state.to_string(),
        established: status.state == bgp::SessionState::Established,
        since: now.saturating_sub(status.state_seconds),
        last_error: status.last_error.clone().unwrap_or_default(),
        prefixes_received: status.counters.prefixes_in,
        prefixes_sent: status.counters.prefixes_out,
        flaps: status.counters.flaps,
        stale_prefixes: status.stale.as_ref().map_or(0, |stale| stale.prefixes),
    };
    speaker.peers.iter().map(report).collect()
}

fn tunnel(tunnel: &crate::tunnel::Tunnel) -> Option<Tunnel> {
    let state = match tunnel.state {
        TunnelState::Off => return None,
        TunnelState::Starting => "starting",
        TunnelState::Up { .. } => "up",
        TunnelState::Unavailable => "unavailable",
    };
    Some(Tunnel {
        device: crate::tunnel::DEVICE.to_string(),
        state: state.to_string(),
        address: tunnel.address().map(Into::into),
        mtu: tunnel.mtu(),
    })
}

fn add_paths(route: &mut Route, known: bgp::RouteStatus) {
    let path = |path: bgp::PathStatus| Path {
        from: path.peer_name.unwrap_or_else(|| "local".to_string()),
        next_hop: path.next_hop,
        as_path: path.as_path,
        local_pref: path.local_pref,
        stale: path.stale,
        best: path.verdict.is_best(),
        reason: path.reason,
    };
    route.paths = known.paths.into_iter().map(path).collect();
    route.sent_to = known
        .advertised_to
        .into_iter()
        .map(|to| (to.name, to.reason))
        .collect();
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
