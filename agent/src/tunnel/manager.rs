//! The task that owns the tunnel: it looks at pools, nodes and devices, and makes device, address and annotation agree
//! with them.
//!
//! Every step may be repeated, so a crash at any of them is mended by the next look. What ties the node to its address is
//! the IPAM handle: it is written first and released last. Of an address on the device, or in the annotation, that the
//! handle does not have, nothing is believed.

mod address;
mod device;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use datastore::{
    Store,
    types::{IpPool, Node, annotation},
};
use ipam::{Allocator, names};
use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{DEVICE, Settings, Tunnel, TunnelState, policy};
use crate::{
    admin::types::Problem,
    cache::Objects,
    kernel::{Kernel, Link, Links},
    snapshot::NodeAddresses,
};

/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How soon a kernel without IPIP is asked again: somebody may have loaded the module.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(10);

/// How long the tunnel waits for its address before it is used without.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for more after something changed.
const GATHER: Duration = Duration::from_millis(5);

/// Where the newest state of every input is seen.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Pools.
    pub pools: watch::Receiver<Objects<IpPool>>,
    /// Nodes, this one among them.
    pub nodes: watch::Receiver<Objects<Node>>,
    /// This node's addresses.
    pub addresses: watch::Receiver<NodeAddresses>,
    /// The devices.
    pub links: watch::Receiver<Arc<Links>>,
}

impl Inputs {
    async fn changed(&mut self) {
        let ended = tokio::select! {
            changed = self.pools.changed() => changed.is_err(),
            changed = self.nodes.changed() => changed.is_err(),
            changed = self.addresses.changed() => changed.is_err(),
            changed = self.links.changed() => changed.is_err(),
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }
}

/// What one look at the inputs sees.
struct Seen {
    pools: Objects<IpPool>,
    nodes: Objects<Node>,
    addresses: NodeAddresses,
    links: Arc<Links>,
}

impl Seen {
    fn pools(&self) -> impl Iterator<Item = &IpPool> {
        self.pools.all.values()
    }

    fn device(&self) -> Option<&Link> {
        self.links.name(DEVICE)
    }

    /// What the Node object says is the device's address.
    fn annotated(&self, node: &str) -> Option<&str> {
        let annotations = &self.nodes.all.get(node)?.metadata.annotations;
        annotations
            .get(annotation::IPV4_IPIP_TUNNEL_ADDR)
            .map(String::as_str)
    }
}

/// Owns the tunnel.
#[derive(Debug)]
pub struct Manager {
    settings: Settings,
    inputs: Inputs,
    kernel: Kernel,
    store: Store,
    allocator: Allocator,
    handle: String,
    /// The addresses that the handle has, once it has been looked up; changes are made by us alone.
    held: Option<Vec<Ipv4Addr>>,
    /// We have the device up.
    running: bool,
    /// Its kernel parameters are set.
    prepared: bool,
    /// When the other nodes had time enough; absent where our device was up before we came.
    settled_at: Option<Instant>,
    /// When it was first seen that no pool asks for the device.
    unwanted_since: Option<Instant>,
    /// When to look again, whatever happens.
    again: Option<Instant>,
    tunnel: watch::Sender<Tunnel>,
}

impl Manager {
    /// A manager that has done nothing yet.
    pub fn new(
        settings: Settings,
        inputs: Inputs,
        kernel: Kernel,
        store: Store,
        allocator: Allocator,
    ) -> Self {
        Manager {
            handle: names::ipip_tunnel_handle(&settings.node),
            settings,
            inputs,
            kernel,
            store,
            allocator,
            held: None,
            running: false,
            prepared: false,
            settled_at: None,
            unwanted_since: None,
            again: None,
            tunnel: watch::Sender::default(),
        }
    }

    /// The tunnel, as it is.
    pub fn watch(&self) -> watch::Receiver<Tunnel> {
        self.tunnel.subscribe()
    }

    /// Keeps the tunnel as it should be until `stop`, and leaves it then as it is.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.again = None;
            let tunnel = self.pass().await;
            self.publish(tunnel);
            let again = self.again;
            let due = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inputs.changed() => {}
                () = due => {}
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    fn publish(&self, tunnel: Tunnel) {
        self.tunnel.send_if_modified(|before| {
            for problem in tunnel.problems.difference(&before.problems) {
                tracing::warn!(about = problem.about, problem = problem.message, "tunnel");
            }
            if before.state != tunnel.state {
                tracing::info!(device = DEVICE, state = ?tunnel.state, "tunnel");
            }
            let changed = *before != tunnel;
            *before = tunnel;
            changed
        });
    }

    fn look_again(&mut self, at: Instant) {
        self.again = Some(self.again.map_or(at, |earlier| earlier.min(at)));
    }

    async fn pass(&mut self) -> Tunnel {
        let inputs = &mut self.inputs;
        let seen = Seen {
            pools: inputs.pools.borrow_and_update().clone(),
            nodes: inputs.nodes.borrow_and_update().clone(),
            addresses: *inputs.addresses.borrow_and_update(),
            links: inputs.links.borrow_and_update().clone(),
        };
        if !seen.pools.synced || !seen.nodes.synced {
            return Tunnel::default();
        }
        let mut problems = BTreeSet::new();
        let state = if policy::is_asked_for(seen.pools()) {
            self.unwanted_since = None;
            self.keep_up(&seen, &mut problems).await
        } else {
            self.retire(&seen, &mut problems).await
        };
        Tunnel { state, problems }
    }

    /// Device, then address, then annotation.
    async fn keep_up(&mut self, seen: &Seen, problems: &mut BTreeSet<Problem>) -> TunnelState {
        let mut report = |message: String| problems.insert(Problem::new(format!("tunnel {DEVICE}"), message));
        let (device, mtu) = match self.bring_up(seen, &mut report).await {
            Ok(device) => device,
            Err(message) => {
                report(message);
                self.running = false;
                self.look_again(Instant::now() + UNAVAILABLE_RETRY);
                return TunnelState::Unavailable;
            }
        };
        let before = self.up(configured(&device), mtu);
        if configured(&device).is_some() {
            // As an earlier agent left it, and so good enough to use while the datastore is asked.
            self.tunnel.send_if_modified(|tunnel| {
                let first = tunnel.state == TunnelState::Starting;
                if first {
                    tunnel.state = before;
                }
                first
            });
        }
        let address = match timeout(PATIENCE, self.address(seen)).await {
            Ok(Ok(address)) => address,
            failed => {
                report(match failed {
                    Ok(Err(message)) => message,
                    _ => "no address for it yet: the datastore does not answer".to_string(),
                });
                self.look_again(Instant::now() + RETRY);
                // Packets of pods need none: what the device has stays.
                return self.up(configured(&device), mtu);
            }
        };
        if let Err(message) = self.apply(seen, &device, address).await {
            report(message);
            self.look_again(Instant::now() + RETRY);
        }
        self.up(address, mtu)
    }

    fn up(&mut self, address: Option<Ipv4Addr>, mtu: u32) -> TunnelState {
        let settled = match self.settled_at {
            Some(at) if at > Instant::now() => {
                self.look_again(at);
                false
            }
            _ => true,
        };
        TunnelState::Up {
            address,
            mtu,
            settled,
        }
    }

    /// Nobody asks for it: after the grace, everything of ours goes. A device that is none of our doing stays.
    async fn retire(&mut self, seen: &Seen, problems: &mut BTreeSet<Problem>) -> TunnelState {
        let annotated = seen.annotated(&self.settings.node).is_some();
        let held = match self.look_up().await {
            Ok(held) => !held.is_empty(),
            Err(error) => {
                tracing::debug!(error, "tunnel");
                self.look_again(Instant::now() + RETRY);
                false
            }
        };
        if !annotated && !held && !self.running {
            self.unwanted_since = None;
            return TunnelState::Off;
        }
        let now = Instant::now();
        let due = *self.unwanted_since.get_or_insert(now) + self.settings.grace;
        if now < due {
            self.look_again(due);
            return match seen.device().filter(|device| device.up) {
                Some(device) => self.up(configured(device), device.mtu),
                None => TunnelState::Off,
            };
        }
        if let Err(message) = self.take_down(seen).await {
            problems.insert(Problem::new(format!("tunnel {DEVICE}"), message));
            self.look_again(now + RETRY);
        }
        TunnelState::Off
    }

    /// The annotation, then the device, then the address: nobody sends to a device that is down, and the address is free
    /// only when it cannot be reached any more.
    async fn take_down(&mut self, seen: &Seen) -> Result<(), String> {
        let held = self.look_up().await?;
        let annotated = seen.annotated(&self.settings.node);
        let annotated: Option<Ipv4Addr> = annotated.and_then(|text| text.parse().ok());
        self.annotate(seen, None).await?;
        if let Some(device) = seen.device() {
            let is_ours = |net: &IpNet| {
                v4(net.addr()).is_some_and(|address| held.contains(&address) || Some(address) == annotated)
            };
            let (ours, others): (Vec<IpNet>, Vec<IpNet>) =
                device.addresses.iter().partition(|net| is_ours(net));
            for net in ours {
                let removed = self.kernel.remove_address(device.index, net).await;
                removed.map_err(|error| error.to_string())?;
            }
            if !others.iter().any(|net| net.addr().is_ipv4()) {
                let down = self.kernel.set_link_down(device.index).await;
                down.map_err(|error| error.to_string())?;
            }
        }
        self.running = false;
        self.held = None;
        let released = self.allocator.release_handle(&self.handle).await;
        released.map_err(|error| format!("cannot release its address: {error}"))?;
        self.held = Some(Vec::new());
        tracing::info!(device = DEVICE, "tunnel taken down");
        Ok(())
    }
}

/// The address that the device has.
fn configured(device: &Link) -> Option<Ipv4Addr> {
    device.addresses.iter().find_map(|net| v4(net.addr()))
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
