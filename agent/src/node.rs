//! This node: its addresses, and its Node object.

use std::{net::IpAddr, time::Duration};

use datastore::{
    Error, Resource, Store,
    types::{Node, annotation},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    cache::Objects,
    kernel::{self, Family, Kernel, Links},
    snapshot::NodeAddresses,
};

/// Time between two attempts to write the Node object: the first, and the longest that comes of doubling it.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How often a write is repeated because somebody else wrote meanwhile.
const ATTEMPTS: u32 = 5;

/// How the node's address of one family is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSource {
    /// There is none.
    None,
    /// Given with its subnet.
    Net(IpNet),
    /// Given; the device that has it tells the subnet.
    Address(IpAddr),
    /// A method of [`kernel::autodetect`].
    Method(String),
}

impl AddressSource {
    /// Reads `--node-ip` or `--node-ip6`.
    ///
    /// # Errors
    /// Where an address is of the other family.
    pub fn parse(text: &str, family: Family) -> anyhow::Result<Self> {
        let source = match text {
            "none" => AddressSource::None,
            _ => match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
                (Ok(net), _) => AddressSource::Net(net),
                (_, Ok(address)) => AddressSource::Address(address),
                _ => AddressSource::Method(text.to_string()),
            },
        };
        let given = match &source {
            AddressSource::Net(net) => Some(net.addr()),
            AddressSource::Address(address) => Some(*address),
            _ => None,
        };
        let fits = given.is_none_or(|address| Family::of(address) == family);
        anyhow::ensure!(fits, "{text} is not an {family} address");
        Ok(source)
    }

    /// The address, as the devices are now; absent while no device has a fitting one.
    ///
    /// # Errors
    /// Where the method finds nothing, in words for the administrator.
    fn resolve(&self, family: Family, links: &Links) -> Result<Option<IpNet>, kernel::AutodetectError> {
        match self {
            AddressSource::None => Ok(None),
            AddressSource::Net(net) => Ok(Some(*net)),
            AddressSource::Address(address) => {
                Ok(Some(links.owner(*address).map_or(IpNet::from(*address), |o| o.1)))
            }
            AddressSource::Method(method) => kernel::autodetect(method, family, links).map(Some),
        }
    }
}

/// Follows the node's addresses. One that was found stays while a device has it, whatever else comes up; one that
/// went stays until there is another, so that a flapping link does not take BGP down.
pub fn follow_addresses(
    kernel: &Kernel,
    v4: AddressSource,
    v6: AddressSource,
    stop: CancellationToken,
) -> watch::Receiver<NodeAddresses> {
    let mut links = kernel.watch_links();
    let (sender, receiver) = watch::channel(NodeAddresses::default());
    tokio::spawn(async move {
        loop {
            let now = links.borrow_and_update().clone();
            let found4 = find(&v4, Family::V4, sender.borrow().v4.map(IpNet::V4), &now);
            let found6 = find(&v6, Family::V6, sender.borrow().v6.map(IpNet::V6), &now);
            let found = NodeAddresses {
                v4: found4.and_then(as_v4),
                v6: found6.and_then(as_v6),
            };
            sender.send_if_modified(|addresses| {
                let changed = *addresses != found;
                if changed {
                    tracing::info!(v4 = ?found.v4, v6 = ?found.v6, "addresses of this node");
                    *addresses = found;
                }
                changed
            });
            tokio::select! {
                () = stop.cancelled() => return,
                changed = links.changed() => if changed.is_err() { return },
            }
        }
    });
    receiver
}

fn find(source: &AddressSource, family: Family, before: Option<IpNet>, links: &Links) -> Option<IpNet> {
    if let Some(before) = before
        && links.owner(before.addr()).is_some_and(|(_, net)| net == before)
    {
        return Some(before);
    }
    source.resolve(family, links).unwrap_or_else(|error| {
        tracing::warn!(%family, %error, "no address for this node");
        before
    })
}

fn as_v4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

fn as_v6(net: IpNet) -> Option<Ipv6Net> {
    match net {
        IpNet::V6(net) => Some(net),
        IpNet::V4(_) => None,
    }
}

/// Keeps the addresses in this node's Node object, for the others to peer with. Where nobody else makes the object
/// (the `file:` datastore has no kubelet) it is created.
pub async fn keep_registered(
    store: Store,
    name: String,
    mut addresses: watch::Receiver<NodeAddresses>,
    mut nodes: watch::Receiver<Objects<Node>>,
    stop: CancellationToken,
) {
    let (mut pause, mut not_before) = (RETRY, Instant::now());
    loop {
        let found = *addresses.borrow_and_update();
        let known = {
            let nodes = nodes.borrow_and_update();
            nodes.synced.then(|| nodes.all.get(&name).cloned())
        };
        let due = match &known {
            Some(Some(node)) => found != NodeAddresses::default() && !is_registered(node, &found),
            Some(None) => found != NodeAddresses::default(),
            None => false,
        };
        // Other nodes change all the time: that is no reason to ask a datastore that has just said no.
        if due && Instant::now() >= not_before {
            match register(&store, &name, &found).await {
                Ok(()) => pause = RETRY,
                Err(error) => {
                    tracing::warn!(%error, again_in = ?pause, "cannot write this node's Node object");
                    not_before = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_RETRY);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = addresses.changed() => if changed.is_err() { return },
            changed = nodes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(not_before.max(Instant::now() + RETRY)), if due => {}
        }
    }
}

fn is_registered(node: &Node, addresses: &NodeAddresses) -> bool {
    let has = |key: &str, net: Option<IpNet>| {
        net.is_none_or(|net| {
            node.metadata
                .annotations
                .get(key)
                .is_some_and(|value| *value == net.to_string())
        })
    };
    has(annotation::IPV4_ADDRESS, addresses.v4.map(IpNet::V4))
        && has(annotation::IPV6_ADDRESS, addresses.v6.map(IpNet::V6))
}

/// Sets an annotation of a Node object, or removes it.
///
/// # Errors
/// Those of the datastore: not found where there is no such Node yet, a conflict where others write it all the time.
pub async fn annotate(store: &Store, name: &str, key: &str, value: Option<&str>) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        let mut node = store.get::<Node>(name).await?;
        let annotations = &mut node.metadata.annotations;
        let before = match value {
            Some(value) => annotations.insert(key.to_string(), value.to_string()),
            None => annotations.remove(key),
        };
        if before.as_deref() == value {
            return Ok(());
        }
        match store.update(&node).await {
            Ok(_) => {
                tracing::info!(annotation = key, value, "annotated this node");
                return Ok(());
            }
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// On Kubernetes the kubelet makes the Node: what is missing is the Node and not the right to make one.
fn no_node(error: Error, name: &str) -> Error {
    match error {
        Error::Forbidden { .. } => Error::NotFound {
            kind: Node::KIND.kind,
            name: name.to_string(),
        },
        other => other,
    }
}

async fn register(store: &Store, name: &str, addresses: &NodeAddresses) -> Result<(), Error> {
    let (mut node, exists) = match store.get::<Node>(name).await {
        Ok(node) => (node, true),
        Err(error) if error.is_not_found() => (Node::new(name), false),
        Err(error) => return Err(error),
    };
    let annotations = &mut node.metadata.annotations;
    if let Some(net) = addresses.v4 {
        annotations.insert(annotation::IPV4_ADDRESS.to_string(), net.to_string());
    }
    if let Some(net) = addresses.v6 {
        annotations.insert(annotation::IPV6_ADDRESS.to_string(), net.to_string());
    }
    if exists {
        store.update(&node).await?;
    } else {
        store.create(&node).await.map_err(|error| no_node(error, name))?;
    }
    tracing::info!(v4 = ?addresses.v4, v6 = ?addresses.v6, "registered this node");
    Ok(())
}
