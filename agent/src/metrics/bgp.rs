//! BGP sessions, from the speaker's own status.

use bgp::{PeerStatus, SessionState, SpeakerStatus};
use prometheus_client::{encoding::EncodeLabelSet, registry::Registry};

use super::{counter, counters, gauge, gauges};

/// Peers that are told apart, in the order of their addresses. The others are added up under [`OTHERS`].
const MAX_PEERS: usize = 256;
const OTHERS: &str = "others";

/// Every state, with the number that RFC 4273 (bgpPeerState) gives it.
const STATES: [(SessionState, usize); 6] = [
    (SessionState::Idle, 1),
    (SessionState::Connect, 2),
    (SessionState::Active, 3),
    (SessionState::OpenSent, 4),
    (SessionState::OpenConfirm, 5),
    (SessionState::Established, 6),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    /// Its address.
    peer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}

pub(super) fn register(registry: &mut Registry, speaker: &SpeakerStatus) {
    let registry = registry.sub_registry_with_prefix("bgp");
    register_sessions(registry, speaker);
    register_peers(registry, &speaker.peers);
    gauge(
        registry,
        "converged",
        "1 once every peer has sent its routes or had its time to",
        usize::from(speaker.converged),
    );
    gauge(
        registry,
        "destinations",
        "Destinations with a usable path, ours included",
        speaker.destinations,
    );
    gauge(
        registry,
        "listeners_failed",
        "Addresses that cannot be listened on",
        speaker
            .listeners
            .iter()
            .filter(|listener| listener.error.is_some())
            .count(),
    );
    counter(
        registry,
        "refused_connections",
        "Connections closed at once: from nobody we know, or more than we take",
        speaker.refused_connections,
    );
}

fn register_sessions(registry: &mut Registry, speaker: &SpeakerStatus) {
    let count = |state| speaker.peers.iter().filter(|peer| peer.state == state).count();
    let sessions = STATES.map(|(state, _)| {
        (
            State {
                state: state.to_string(),
            },
            count(state),
        )
    });
    gauges(
        registry,
        "sessions",
        "Sessions by state (RFC 4271, section 8.2.2)",
        sessions,
    );
}

fn register_peers(registry: &mut Registry, peers: &[PeerStatus]) {
    let apart = peers.get(..MAX_PEERS).unwrap_or(peers);
    let state = |peer: &PeerStatus| {
        let number = STATES.iter().find(|(state, _)| *state == peer.state);
        (Peer::of(peer), number.map_or(0, |(_, number)| *number))
    };
    gauges(
        registry,
        "peer_state",
        "State of the session, as RFC 4273 numbers them: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established",
        apart.iter().map(state),
    );
    let labels = |index: usize, peer: &PeerStatus| {
        if index < MAX_PEERS {
            Peer::of(peer)
        } else {
            Peer {
                peer: OTHERS.to_string(),
            }
        }
    };
    let sizes = |value: fn(&PeerStatus) -> usize| {
        let of = move |(index, peer): (usize, &PeerStatus)| (labels(index, peer), value(peer));
        peers.iter().enumerate().map(of).collect::<Vec<_>>()
    };
    let counts = |value: fn(&PeerStatus) -> u64| {
        let of = move |(index, peer): (usize, &PeerStatus)| (labels(index, peer), value(peer));
        peers.iter().enumerate().map(of).collect::<Vec<_>>()
    };
    gauges(
        registry,
        "prefixes_received",
        "Prefixes that the peer has announced and not withdrawn",
        sizes(|peer| peer.counters.prefixes_in),
    );
    gauges(
        registry,
        "prefixes_sent",
        "Prefixes that the peer holds from us",
        sizes(|peer| peer.counters.prefixes_out),
    );
    gauges(
        registry,
        "prefixes_stale",
        "Prefixes kept for a peer that restarts (RFC 4724)",
        sizes(|peer| peer.stale.as_ref().map_or(0, |stale| stale.prefixes)),
    );
    counters(
        registry,
        "session_flaps",
        "Times the session went down after it was up",
        counts(|peer| peer.counters.flaps),
    );
    counters(
        registry,
        "updates_received",
        "UPDATE messages received",
        counts(|peer| peer.counters.updates_in),
    );
    counters(
        registry,
        "updates_sent",
        "UPDATE messages sent",
        counts(|peer| peer.counters.updates_out),
    );
    counters(
        registry,
        "routes_malformed",
        "Routes withdrawn because their attributes were malformed (RFC 7606)",
        counts(|peer| peer.counters.treated_as_withdrawn),
    );
}

impl Peer {
    fn of(peer: &PeerStatus) -> Self {
        Peer {
            peer: peer.address.to_string(),
        }
    }
}
