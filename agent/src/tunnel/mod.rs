//! The node's IPIP tunnel (RFC 2003): `tunl0`, its address, and what the other nodes are told of it.
//!
//! One device serves all nodes: a route says `via NODE dev tunl0 onlink`, and the kernel puts the packet into one to
//! NODE. So there is nothing to set up per node, and decapsulation needs only that the device is up. It is up while any
//! pool has `ipipMode` Always or CrossSubnet. It has an address of its own out of such a pool, from which the node's own
//! packets to remote pods come, and which stands in the Node object's annotation `projectcalico.org/IPv4IPIPTunnelAddr`.
//!
//! The mode is switched on all nodes, but not at the same moment, and no packet may be lost in between. So:
//! - What is received bare is always forwarded, so a node may stop to encapsulate when it likes.
//! - What is received encapsulated needs our device. It is taken down only [`Settings::grace`] after the last pool's mode
//!   went, and the annotation goes first.
//! - A node's annotation says that its device is up. Until it is there, routes to that node stay as they are, for
//!   [`Settings::settle`] at most after our own device came up: a node may have none because no pool gives it an address.
//!
//! What it does not do: it programs no route ([`mod@crate::desired`] decides, from [`Tunnel`]) and loads no module by
//! itself, though the kernel does when it is asked for the device.

mod manager;
mod policy;

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

pub use manager::{Inputs, Manager};
pub use policy::is_asked_for;

use crate::admin::types::Problem;

/// The device.
pub const DEVICE: &str = "tunl0";

/// Octets that encapsulation adds to a packet: an IPv4 header.
pub const OVERHEAD: u32 = 20;

/// How the tunnel is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub node: String,
    /// MTU of the device; else that of the device with the node's address, less [`OVERHEAD`].
    pub mtu: Option<u32>,
    /// How long the device stays after no pool asks for it any more.
    pub grace: Duration,
    /// How long other nodes get to bring theirs up.
    pub settle: Duration,
}

/// The tunnel, as the rest of the agent sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// Whether it carries packets.
    pub state: TunnelState,
    /// What is not as the configuration asks.
    pub problems: BTreeSet<Problem>,
}

/// Whether the tunnel carries packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TunnelState {
    /// There is none, and no pool asks for it.
    Off,
    /// Nothing is known yet, or it is being set up.
    #[default]
    Starting,
    /// It carries packets.
    Up {
        /// Its address; none where no pool gives one.
        address: Option<Ipv4Addr>,
        /// Its MTU, in octets.
        mtu: u32,
        /// True once the other nodes had the time to bring theirs up.
        settled: bool,
    },
    /// This node cannot have one.
    Unavailable,
}

impl Tunnel {
    /// Its address, where it carries packets and has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self.state {
            TunnelState::Up { address, .. } => address,
            _ => None,
        }
    }

    /// The size of the largest packet it carries, where it carries any.
    pub fn mtu(&self) -> Option<u32> {
        match self.state {
            TunnelState::Up { mtu, .. } => Some(mtu),
            _ => None,
        }
    }
}
