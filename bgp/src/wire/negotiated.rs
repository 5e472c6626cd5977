//! What a session may do: the part of two OPEN messages that both sides agree on.
//!
//! Decoding and encoding of UPDATE depend on it and on nothing else about the session.

use std::collections::BTreeSet;

use super::capability::Capability;
use super::open::Open;
use crate::types::{Family, HoldTime};

/// Whether the peer is in the local AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionType {
    /// The peer is in another AS.
    Ebgp,
    /// The peer is in the local AS.
    Ibgp,
}

/// What two speakers have agreed on. The directions are ours: `send` is from here to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Internal or external.
    pub session_type: SessionType,
    /// The smaller of the two hold times.
    pub hold_time: HoldTime,
    /// Whether AS numbers have four octets.
    pub four_octet_as: bool,
    /// Whether the peer may send messages of more than 4096 octets.
    pub extended_message_receive: bool,
    /// Whether the peer takes messages of more than 4096 octets.
    pub extended_message_send: bool,
    /// Whether the peer answers ROUTE-REFRESH, and may ask for one.
    pub route_refresh: bool,
    /// Whether refreshes have begin and end marks.
    pub enhanced_route_refresh: bool,
    /// The families that both carry.
    pub families: BTreeSet<Family>,
    /// The families in which the peer sends path identifiers.
    pub add_path_receive: BTreeSet<Family>,
    /// The families in which the peer expects path identifiers.
    pub add_path_send: BTreeSet<Family>,
    /// The families whose next hop may be an IPv6 address although they are not IPv6.
    pub extended_next_hop: BTreeSet<Family>,
}

impl Negotiated {
    /// The longest message of RFC 4271.
    pub const MESSAGE_MAX: usize = 4096;
    /// The longest message of RFC 8654.
    pub const EXTENDED_MESSAGE_MAX: usize = 65535;

    /// A session without any optional feature: IPv4 unicast, two-octet AS numbers.
    pub fn plain(session_type: SessionType) -> Self {
        Self {
            session_type,
            hold_time: HoldTime::DEFAULT,
            four_octet_as: false,
            extended_message_receive: false,
            extended_message_send: false,
            route_refresh: false,
            enhanced_route_refresh: false,
            families: BTreeSet::from([Family::IPV4_UNICAST]),
            add_path_receive: BTreeSet::new(),
            add_path_send: BTreeSet::new(),
            extended_next_hop: BTreeSet::new(),
        }
    }

    /// What the OPEN we sent and the OPEN we received have in common.
    pub fn from_opens(local: &Open, peer: &Open) -> Self {
        let both = |capability: Capability| local.has(&capability) && peer.has(&capability);
        let peer_families = peer.families();
        let families: BTreeSet<Family> = local
            .families()
            .into_iter()
            .filter(|family| peer_families.contains(family))
            .collect();
        let among =
            |wanted: &dyn Fn(Family) -> bool| families.iter().copied().filter(|&f| wanted(f)).collect();
        Self {
            session_type: if local.asn == peer.asn {
                SessionType::Ibgp
            } else {
                SessionType::Ebgp
            },
            hold_time: local.hold_time.min(peer.hold_time),
            four_octet_as: local.has_four_octet_as() && peer.has_four_octet_as(),
            extended_message_receive: local.has(&Capability::ExtendedMessage),
            extended_message_send: peer.has(&Capability::ExtendedMessage),
            route_refresh: both(Capability::RouteRefresh),
            enhanced_route_refresh: both(Capability::EnhancedRouteRefresh),
            add_path_receive: among(&|f| local.add_path(f).receive && peer.add_path(f).send),
            add_path_send: among(&|f| local.add_path(f).send && peer.add_path(f).receive),
            extended_next_hop: among(&|f| local.has_extended_next_hop(f) && peer.has_extended_next_hop(f)),
            families,
        }
    }

    /// The longest message the peer may send once the session is established.
    pub fn max_receive(&self) -> usize {
        if self.extended_message_receive {
            Self::EXTENDED_MESSAGE_MAX
        } else {
            Self::MESSAGE_MAX
        }
    }

    /// The longest UPDATE, NOTIFICATION or ROUTE-REFRESH the peer takes.
    pub fn max_send(&self) -> usize {
        if self.extended_message_send {
            Self::EXTENDED_MESSAGE_MAX
        } else {
            Self::MESSAGE_MAX
        }
    }
}
