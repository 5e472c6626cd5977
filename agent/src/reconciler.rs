//! The loop that keeps the node as it should be: inputs -> [`Snapshot`] -> [`desired`] -> kernel and BGP.
//!
//! One task owns it. It looks at the newest state of every input, never at events, so that nothing is lost by being
//! slow and nothing depends on the order in which things arrive. What differs is worked out where it is applied: by
//! the kernel's tracker and by the speaker.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use bgp::{BestRoute, RouteFeed, Speaker, SpeakerConfig};
use datastore::types::{BgpConfiguration, BgpPeer, BlockAffinity, IpPool, Node, Secret};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::types::Problem,
    attachments::Table,
    cache::Objects,
    desired::{Bgp, Desired, desired},
    health::Pulse,
    kernel::{Kernel, NextHop},
    snapshot::{NodeAddresses, Snapshot},
    tunnel::Tunnel,
};

/// How long to wait for more after something changed: a burst of changes costs one pass.
const GATHER: Duration = Duration::from_millis(5);

/// How long to wait before starting the speaker is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Where the newest state of every input is seen.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Nodes.
    pub nodes: watch::Receiver<Objects<Node>>,
    /// Pools.
    pub pools: watch::Receiver<Objects<IpPool>>,
    /// Claims on blocks.
    pub affinities: watch::Receiver<Objects<BlockAffinity>>,
    /// BGP configuration.
    pub bgp_configurations: watch::Receiver<Objects<BgpConfiguration>>,
    /// BGP peers.
    pub bgp_peers: watch::Receiver<Objects<BgpPeer>>,
    /// Secrets of the agent's namespace.
    pub secrets: watch::Receiver<Objects<Secret>>,
    /// Pods attached here.
    pub attachments: watch::Receiver<Arc<Table>>,
    /// This node's addresses.
    pub addresses: watch::Receiver<NodeAddresses>,
    /// How next hops are reached.
    pub next_hops: watch::Receiver<Arc<BTreeMap<IpAddr, NextHop>>>,
    /// The IPIP tunnel.
    pub tunnel: watch::Receiver<Tunnel>,
}

impl Inputs {
    async fn changed(&mut self) {
        // An input that has ended no longer changes; it ends only when the agent does.
        let ended = tokio::select! {
            changed = self.nodes.changed() => changed.is_err(),
            changed = self.pools.changed() => changed.is_err(),
            changed = self.affinities.changed() => changed.is_err(),
            changed = self.bgp_configurations.changed() => changed.is_err(),
            changed = self.bgp_peers.changed() => changed.is_err(),
            changed = self.secrets.changed() => changed.is_err(),
            changed = self.attachments.changed() => changed.is_err(),
            changed = self.addresses.changed() => changed.is_err(),
            changed = self.next_hops.changed() => changed.is_err(),
            changed = self.tunnel.changed() => changed.is_err(),
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }
}

/// What the reconciler has done last, for the admin socket.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Kinds whose first full list has not arrived.
    pub waiting_for: Vec<&'static str>,
    /// This node's addresses.
    pub addresses: NodeAddresses,
    /// What the node should look like.
    pub desired: Arc<Desired>,
    /// True once BGP has told all it knew before a restart.
    pub bgp_converged: bool,
    /// The IPIP tunnel.
    pub tunnel: Tunnel,
    /// The speaker, once it runs.
    pub speaker: Option<Speaker>,
    /// What applying it met.
    pub problems: Vec<Problem>,
}

/// Owns the way from the inputs to the kernel and the speaker.
#[derive(Debug)]
pub struct Reconciler {
    node: String,
    namespace: String,
    inputs: Inputs,
    kernel: Kernel,
    /// Settings of the speaker that come from the command line.
    base: SpeakerConfig,
    speaker: Option<(Speaker, RouteFeed)>,
    learned: Arc<BTreeMap<IpNet, BestRoute>>,
    converged: bool,
    waiting_for: Vec<&'static str>,
    applied: Arc<Desired>,
    /// What the speaker has accepted; a refused configuration is tried again.
    bgp_in_force: Option<Bgp>,
    view: watch::Sender<Arc<View>>,
    pulse: Pulse,
}

impl Reconciler {
    /// A reconciler that has done nothing yet. `base` gives what the datastore does not say of the speaker.
    pub fn new(node: String, namespace: String, inputs: Inputs, kernel: Kernel, base: SpeakerConfig) -> Self {
        Reconciler {
            node,
            namespace,
            inputs,
            kernel,
            base,
            speaker: None,
            learned: Arc::default(),
            converged: false,
            waiting_for: Vec::new(),
            applied: Arc::default(),
            bgp_in_force: None,
            view: watch::Sender::default(),
            pulse: Pulse::default(),
        }
    }

    /// What it has done last.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Its sign of life.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Keeps the node as it should be until `stop`; gives the speaker back, so that the caller decides how it ends.
    pub async fn run(mut self, stop: CancellationToken) -> Option<Speaker> {
        loop {
            let problems = self.pass().await;
            let retry = !problems.is_empty();
            self.publish(problems);
            tokio::select! {
                () = stop.cancelled() => return self.speaker.map(|(speaker, _)| speaker),
                () = self.inputs.changed() => {}
                changes = next(&mut self.speaker) => match changes {
                    Some(changes) => self.learn(changes),
                    None => {
                        // Only a bug ends the speaker by itself: end with it, and be started again.
                        tracing::error!("the BGP speaker has ended");
                        return None;
                    }
                },
                () = tokio::time::sleep(RETRY), if retry => {}
                never = self.pulse.while_waiting() => match never {},
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// One way through: look, compute, apply.
    async fn pass(&mut self) -> Vec<Problem> {
        let snapshot = self.snapshot();
        self.waiting_for = snapshot.waiting_for();
        let wanted = Arc::new(desired(&snapshot));
        let before = std::mem::replace(&mut self.applied, wanted.clone());
        if before.routes != wanted.routes || before.removal != wanted.removal {
            self.kernel.set_routes(wanted.routes.clone(), wanted.removal);
        }
        self.kernel.track_next_hops(wanted.tracked.clone());
        match &wanted.bgp {
            Some(bgp) => self.apply_bgp(bgp, &before, &wanted).await,
            None => Vec::new(),
        }
    }

    async fn apply_bgp(&mut self, bgp: &Bgp, before: &Desired, wanted: &Desired) -> Vec<Problem> {
        let config = self.speaker_config(bgp);
        let Some((speaker, _)) = &self.speaker else {
            let problems = self.start_speaker(config, wanted).await;
            self.bgp_in_force = self.speaker.as_ref().map(|_| bgp.clone());
            return problems;
        };
        if before.announced != wanted.announced {
            speaker.set_routes(wanted.announced.clone()).await;
        }
        if before.reachability != wanted.reachability {
            speaker.set_next_hops(wanted.reachability.clone()).await;
        }
        if self.bgp_in_force.as_ref() != Some(bgp) {
            if let Err(error) = speaker.configure(config).await {
                tracing::warn!(%error, "BGP configuration refused; the last good one stays in force");
                return vec![Problem::new("BGP configuration", error.to_string())];
            }
            self.bgp_in_force = Some(bgp.clone());
        }
        Vec::new()
    }

    async fn start_speaker(&mut self, config: SpeakerConfig, wanted: &Desired) -> Vec<Problem> {
        match Speaker::start(config, wanted.announced.clone()).await {
            Ok((speaker, feed)) => {
                speaker.set_next_hops(wanted.reachability.clone()).await;
                self.speaker = Some((speaker, feed));
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(%error, "BGP cannot start; trying again");
                vec![Problem::new("BGP", error.to_string())]
            }
        }
    }

    fn speaker_config(&self, bgp: &Bgp) -> SpeakerConfig {
        SpeakerConfig {
            local_as: bgp::Asn(bgp.local_as),
            router_id: bgp::RouterId(bgp.router_id),
            listen: bgp.listen.clone(),
            peers: bgp
                .peers
                .iter()
                .map(|(address, peer)| (*address, peer.config.clone()))
                .collect(),
            ..self.base.clone()
        }
    }

    fn learn(&mut self, changes: bgp::RouteChanges) {
        let learned = Arc::make_mut(&mut self.learned);
        for (prefix, best) in changes.changed {
            match best {
                Some(best) => learned.insert(prefix, best),
                None => learned.remove(&prefix),
            };
        }
        if changes.converged && !self.converged {
            tracing::info!("BGP has converged");
        }
        self.converged |= changes.converged;
    }

    fn snapshot(&mut self) -> Snapshot {
        let inputs = &mut self.inputs;
        Snapshot {
            node: self.node.clone(),
            addresses: *inputs.addresses.borrow_and_update(),
            nodes: inputs.nodes.borrow_and_update().clone(),
            pools: inputs.pools.borrow_and_update().clone(),
            affinities: inputs.affinities.borrow_and_update().clone(),
            bgp_configurations: inputs.bgp_configurations.borrow_and_update().clone(),
            bgp_peers: inputs.bgp_peers.borrow_and_update().clone(),
            secrets: inputs.secrets.borrow_and_update().clone(),
            namespace: self.namespace.clone(),
            attachments: inputs.attachments.borrow_and_update().clone(),
            learned: self.learned.clone(),
            bgp_converged: self.converged,
            next_hops: inputs.next_hops.borrow_and_update().clone(),
            tunnel: inputs.tunnel.borrow_and_update().clone(),
        }
    }

    fn publish(&mut self, problems: Vec<Problem>) {
        // What the last pass saw: looking at the inputs again would mark as seen what no pass has looked at.
        self.view.send_replace(Arc::new(View {
            waiting_for: self.waiting_for.clone(),
            addresses: *self.inputs.addresses.borrow(),
            desired: self.applied.clone(),
            bgp_converged: self.converged,
            tunnel: self.inputs.tunnel.borrow().clone(),
            speaker: self.speaker.as_ref().map(|(speaker, _)| speaker.clone()),
            problems,
        }));
    }
}

/// The next change of learned routes: never, while there is no speaker; none, once it has ended.
async fn next(speaker: &mut Option<(Speaker, RouteFeed)>) -> Option<bgp::RouteChanges> {
    match speaker {
        Some((_, feed)) => feed.next().await,
        None => std::future::pending().await,
    }
}
