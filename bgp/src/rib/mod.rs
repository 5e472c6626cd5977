//! The routing information bases (RFC 4271 section 3.2).
//!
//! - [`AdjRibIn`]: what one peer told us, ineligible routes included, so that "why not this one" has an answer.
//! - [`LocRib`]: every destination, which peers have a path to it, and the best path with the reason it won.
//! - [`AdjRibOut`]: what one peer holds from us, and the set of prefixes it has yet to hear about.
//!
//! [`decision`] chooses among paths and [`export`] says what a peer may hear; both are pure functions. Nothing
//! here knows messages on the wire, sessions or time.

mod adj_in;
mod adj_out;
pub(crate) mod decision;
pub(crate) mod export;
mod loc_rib;

use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use adj_in::{AdjRibIn, RouteIn};
pub(crate) use adj_out::{AdjRibOut, Announcement};
use decision::DecisionStep;
pub(crate) use loc_rib::{Best, LocRib};

use crate::types::RouterId;
use crate::wire::{Attributes, NextHop};

/// A path: attributes and where to send packets. Attributes are shared among the prefixes that came together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) attributes: Arc<Attributes>,
    /// None for a route we originate.
    pub(crate) next_hop: Option<NextHop>,
}

/// Where a path comes from, which decides whom it may be told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// We originate it.
    Local,
    /// A peer of another AS.
    External(IpAddr),
    /// A peer of our own AS.
    Internal {
        peer: IpAddr,
        /// The peer's BGP identifier.
        router_id: RouterId,
        /// We reflect this peer's routes (RFC 4456).
        client: bool,
    },
}

impl Source {
    pub(crate) fn peer(self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::External(peer) | Self::Internal { peer, .. } => Some(peer),
        }
    }
}
