//! The kernel side: the routes there should be, the devices there are, and how addresses are reached.
//!
//! One task (`engine`) owns two rtnetlink sockets: one for requests and their acknowledgements, one for events. Everybody
//! else holds a [`Kernel`], a cheap handle. Data flows one way: [`Kernel::set_routes`] says what should be, the task
//! makes the kernel agree, and [`Kernel::status`] says where it does not and why.
//!
//! What it holds to:
//! - Only routes that bear our protocol number are ever replaced or deleted. A foreign route with the same key
//!   (destination and metric) is a conflict: reported, left alone, and retried once it goes.
//! - A route that changes is replaced in one message. It is never deleted and added.
//! - Nothing that [`Removal`] holds is deleted.
//! - Events keep our picture true; a periodic reading of the whole mends what events did not tell, and a lost event
//!   brings such a reading about at once.
//!
//! What it does not do: write policy rules, or know of BGP, pods or the datastore. Devices and their addresses it changes
//! only when it is asked to, one at a time, and keeps no watch over them.

mod autodetect;
mod blocked;
mod codec;
mod device;
mod dump;
mod engine;
mod netlink;
mod next_hops;
mod plan;
mod reaper;
mod route;
mod sysctl;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::types::{
    Error, Family, Gateway, InstalledRoute, KernelStatus, Link, Links, NextHop, Refusal, Removal,
    RouteProblem, RouteTarget, Routes, Settings, TableId,
};
pub use self::{
    autodetect::{AutodetectError, autodetect},
    sysctl::{enable_forwarding, prepare_tunnel},
};
use self::{
    engine::{Channels, Engine},
    reaper::Reaper,
};

/// Requests that may wait for the task at once; a caller beyond that waits.
const COMMANDS: usize = 64;

/// A handle on the task that owns the kernel's routes. The task ends when the last handle is dropped, and leaves the
/// routes in the kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    desired: watch::Sender<Desired>,
    tracked: watch::Sender<BTreeSet<IpAddr>>,
    commands: mpsc::Sender<Command>,
    published: Published,
    reaper: Reaper,
}

/// What the callers last set.
#[derive(Debug, Clone, Default)]
struct Desired {
    /// Rises with every call of [`Kernel::set_routes`].
    generation: u64,
    routes: Arc<Routes>,
    removal: Removal,
}

/// What the task says.
#[derive(Debug, Clone)]
struct Published {
    /// The last generation of [`Desired`] that was worked off, and how it went.
    status: watch::Receiver<(u64, Arc<KernelStatus>)>,
    links: watch::Receiver<Arc<Links>>,
    next_hops: watch::Receiver<Arc<BTreeMap<IpAddr, NextHop>>>,
}

/// A request with an answer.
#[derive(Debug)]
enum Command {
    Routes(oneshot::Sender<Vec<InstalledRoute>>),
    RemoveDeviceRoute {
        prefix: IpNet,
        device: String,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    FindLink(String, oneshot::Sender<Result<Option<Link>, Error>>),
    Device(device::Change, oneshot::Sender<Result<(), Error>>),
    SourceAddress(IpAddr, oneshot::Sender<Result<IpAddr, Error>>),
}

impl Kernel {
    /// Opens the sockets in the calling thread's network namespace, reads the kernel and starts the task on the
    /// current runtime. Nothing is changed before the first [`Kernel::set_routes`].
    ///
    /// # Errors
    /// [`Error::Socket`] or [`Error::Refused`] where the kernel cannot be read.
    pub async fn start(settings: Settings) -> Result<Kernel, Error> {
        let desired = watch::Sender::new(Desired::default());
        let tracked = watch::Sender::new(BTreeSet::new());
        let (commands, commands_out) = mpsc::channel(COMMANDS);
        let (status, status_out) = watch::channel(Default::default());
        let (links, links_out) = watch::channel(Default::default());
        let (next_hops, next_hops_out) = watch::channel(Default::default());
        let channels = Channels {
            desired: desired.subscribe(),
            tracked: tracked.subscribe(),
            commands: commands_out,
            status,
            links,
            next_hops,
        };
        let reaper = Reaper::start()?;
        let (started, outcome) = oneshot::channel();
        tokio::spawn(Engine::new(settings, channels, started)?.run());
        outcome.await.map_err(|_| Error::Stopped)??;
        let published = Published {
            status: status_out,
            links: links_out,
            next_hops: next_hops_out,
        };
        Ok(Kernel {
            shared: Arc::new(Shared {
                desired,
                tracked,
                commands,
                published,
                reaper,
            }),
        })
    }

    /// Sets the routes there should be. The newest call wins; it never blocks.
    pub fn set_routes(&self, routes: Arc<Routes>, removal: Removal) {
        self.shared.desired.send_modify(|desired| {
            *desired = Desired {
                generation: desired.generation + 1,
                routes,
                removal,
            };
        });
    }

    /// Waits until everything that was set before this call has been tried, and says how it went: what could not be
    /// done is in [`KernelStatus::problems`] and is retried.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn synced(&self) -> Result<Arc<KernelStatus>, Error> {
        let wanted = self.shared.desired.borrow().generation;
        let mut status = self.shared.published.status.clone();
        let settled = status.wait_for(|(generation, _)| *generation >= wanted).await;
        settled
            .map(|settled| settled.1.clone())
            .map_err(|_| Error::Stopped)
    }

    /// How well the kernel agrees with what is desired.
    pub fn status(&self) -> Arc<KernelStatus> {
        self.shared.published.status.borrow().1.clone()
    }

    /// Every route of ours in the kernel, by prefix.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn routes(&self) -> Result<Vec<InstalledRoute>, Error> {
        self.ask(Command::Routes).await
    }

    /// Removes our route to `prefix` if it leads onto `device`, and takes it from what is desired until the next
    /// [`Kernel::set_routes`]. It is gone when this returns, also where it was not there.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Overrun`] or [`Error::Stopped`].
    pub async fn remove_device_route(&self, prefix: IpNet, device: &str) -> Result<(), Error> {
        let device = device.to_owned();
        self.ask(|reply| Command::RemoveDeviceRoute {
            prefix,
            device,
            reply,
        })
        .await?
    }

    /// The devices and their addresses, kept true by events.
    pub fn watch_links(&self) -> watch::Receiver<Arc<Links>> {
        self.shared.published.links.clone()
    }

    /// Sets the addresses whose next hops are resolved. The newest call wins; it never blocks.
    pub fn track_next_hops(&self, addresses: BTreeSet<IpAddr>) {
        self.shared.tracked.send_if_modified(|tracked| {
            let changed = *tracked != addresses;
            *tracked = addresses;
            changed
        });
    }

    /// How each tracked address is reached; one that is not resolved yet is absent.
    pub fn watch_next_hops(&self) -> watch::Receiver<Arc<BTreeMap<IpAddr, NextHop>>> {
        self.shared.published.next_hops.clone()
    }

    /// The address this node would send from to reach `destination`.
    ///
    /// # Errors
    /// [`Error::Refused`] where it cannot be reached, [`Error::Overrun`] or [`Error::Stopped`].
    pub async fn source_address(&self, destination: IpAddr) -> Result<IpAddr, Error> {
        self.ask(|reply| Command::SourceAddress(destination, reply))
            .await?
    }

    /// The device of that name as it is now, which [`Kernel::watch_links`] may tell only a moment later.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Overrun`] or [`Error::Stopped`].
    pub async fn find_link(&self, name: &str) -> Result<Option<Link>, Error> {
        self.ask(|reply| Command::FindLink(name.to_owned(), reply))
            .await?
    }

    /// Sets a device down, which takes its routes away at once. A device that does not exist is down.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Overrun`] or [`Error::Stopped`].
    pub async fn set_link_down(&self, index: u32) -> Result<(), Error> {
        self.change_device(device::Change::Down(index)).await
    }

    /// Sets a device up.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Overrun`] or [`Error::Stopped`].
    pub async fn set_link_up(&self, index: u32) -> Result<(), Error> {
        self.change_device(device::Change::Up(index)).await
    }

    /// Sets a device's MTU, in octets.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Overrun`] or [`Error::Stopped`].
    pub async fn set_link_mtu(&self, index: u32, mtu: u32) -> Result<(), Error> {
        self.change_device(device::Change::Mtu(index, mtu)).await
    }

    /// Gives a device an address; one it has is fine.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Overrun`] or [`Error::Stopped`].
    pub async fn add_address(&self, index: u32, net: IpNet) -> Result<(), Error> {
        self.change_device(device::Change::AddAddress(index, net)).await
    }

    /// Takes an address from a device; one it does not have is fine. With the last IPv4 address of a device the kernel
    /// takes every IPv4 route through it.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Overrun`] or [`Error::Stopped`].
    pub async fn remove_address(&self, index: u32, net: IpNet) -> Result<(), Error> {
        self.change_device(device::Change::RemoveAddress(index, net))
            .await
    }

    /// Makes an IPIP device without fixed ends (RFC 2003); one of that name is fine. The kernel loads its module for it
    /// where it can.
    ///
    /// # Errors
    /// [`Error::Refused`], which [`Error::is_unsupported`] where the kernel has no IPIP; [`Error::Overrun`] or
    /// [`Error::Stopped`].
    pub async fn create_ipip(&self, name: &str) -> Result<(), Error> {
        self.change_device(device::Change::CreateIpip(name.to_owned()))
            .await
    }

    /// Deletes a device (with a veth pair, both ends) a moment later, together with others. A failure is logged. Where
    /// the process ends before, the device stays.
    pub fn delete_link(&self, index: u32) {
        self.shared.reaper.delete_later(index);
    }

    /// Deletes devices in one batch, which waits for the kernel once and not once a device. A device that does not
    /// exist is fine.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Socket`] or [`Error::Stopped`].
    pub async fn delete_links(&self, indices: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        self.shared.reaper.delete(indices.into_iter().collect()).await
    }

    async fn change_device(&self, change: device::Change) -> Result<(), Error> {
        self.ask(|reply| Command::Device(change, reply)).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.shared
            .commands
            .send(command(reply))
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)
    }
}
