//! Our OPEN, and the checks of the peer's (RFC 4271 section 6.2, RFC 6286, RFC 4724 section 3).
//!
//! What needs no configuration (version, hold time of 1 or 2 s, identifier 0, malformed parameters) has been
//! checked when the message was decoded.

use std::time::Duration;

use super::Identity;
use crate::config::PeerConfig;
use crate::fsm::Agreed;
use crate::types::{Family, HoldTime};
use crate::wire::{
    Capability, GracefulRestart, GracefulRestartFamily, Negotiated, Open, OpenError, SessionType,
};

/// The OPEN we send to a peer.
pub(crate) fn local_open(config: &PeerConfig, identity: &Identity) -> Open {
    let mut capabilities: Vec<Capability> = config
        .families()
        .into_iter()
        .map(Capability::Multiprotocol)
        .collect();
    capabilities.push(Capability::RouteRefresh);
    if config.graceful_restart {
        capabilities.push(Capability::GracefulRestart(graceful_restart(config, identity)));
    }
    let asn = config.local_as.unwrap_or(identity.local_as);
    capabilities.push(Capability::FourOctetAs(asn));
    Open {
        asn,
        hold_time: config.hold_time().unwrap_or(HoldTime::DEFAULT),
        router_id: identity.router_id,
        capabilities,
    }
}

fn graceful_restart(config: &PeerConfig, identity: &Identity) -> GracefulRestart {
    let forwarding_preserved = identity.forwarding_preserved;
    let families = config.families().into_iter();
    GracefulRestart {
        restarting: identity.restarting,
        notification: false,
        restart_time: u16::try_from(identity.restart_time.as_secs())
            .unwrap_or(4095)
            .min(4095),
        families: families
            .map(|family| GracefulRestartFamily {
                family,
                forwarding_preserved,
            })
            .collect(),
    }
}

/// Accepts the peer's OPEN, or says what is wrong with it.
pub(crate) fn check(config: &PeerConfig, identity: &Identity, open: Open) -> Result<Agreed, OpenError> {
    if open.asn != config.remote_as {
        return Err(OpenError::BadPeerAs(open.asn));
    }
    let local = local_open(config, identity);
    let negotiated = Negotiated::from_opens(&local, &open);
    // Two ASes may use the same identifier; within one it must be unique (RFC 6286 section 2.2).
    if open.router_id == identity.router_id && negotiated.session_type == SessionType::Ibgp {
        return Err(OpenError::BadBgpIdentifier(open.router_id));
    }
    if negotiated.families.is_empty() {
        let wanted = config
            .families()
            .into_iter()
            .next()
            .unwrap_or(Family::IPV4_UNICAST);
        return Err(OpenError::UnsupportedCapability(Capability::Multiprotocol(
            wanted,
        )));
    }
    Ok(Agreed { negotiated, open })
}

impl Agreed {
    /// For how long the peer's routes of `family` are kept when it goes away without a word; `None` if not at all.
    pub(crate) fn restart_time(&self, config: &PeerConfig, family: Family) -> Option<Duration> {
        let restart = self.open.graceful_restart().filter(|_| config.graceful_restart)?;
        let covered = restart.families.iter().any(|covered| covered.family == family);
        (covered && self.negotiated.families.contains(&family))
            .then(|| Duration::from_secs(restart.restart_time.into()))
    }

    /// Whether the peer, back again, still forwards what it had told us of `family`.
    pub(crate) fn forwarding_preserved(&self, family: Family) -> bool {
        self.open.graceful_restart().is_some_and(|restart| {
            restart
                .families
                .iter()
                .any(|each| each.family == family && each.forwarding_preserved)
        })
    }

    /// Whether the peer waits for End-of-RIB, having restarted.
    pub(crate) fn peer_is_restarting(&self) -> bool {
        self.open
            .graceful_restart()
            .is_some_and(|restart| restart.restarting)
    }

    /// Whether the peer sends End-of-RIB.
    pub(crate) fn sends_end_of_rib(&self) -> bool {
        self.open.graceful_restart().is_some()
    }
}
