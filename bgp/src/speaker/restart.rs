//! Graceful restart, both roles (RFC 4724), and when the tables can be called complete.
//!
//! As helper: a peer that goes away without a NOTIFICATION keeps its routes, marked stale, until it is back and has
//! sent its End-of-RIB, or its restart time is over. Where the RFC would drop what was stale already when the peer
//! goes away a second time, we keep it, under one deadline from the first time on: a node whose agent is replaced
//! twice in a row must not lose its pods.
//!
//! As restarting speaker: we hold back our End-of-RIB until every peer has sent its own, so that nobody drops what
//! we have yet to pass on. Routes themselves are sent as they come.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tracing::info;

use super::SpeakerCore;
use super::connection::FAMILIES;
use super::peer::Peer;
use crate::fsm::Agreed;
use crate::types::Family;

/// How long we wait for the End-of-RIB of a peer that has restarted like us and may be waiting for ours. RFC 4724
/// section 4.1 would not wait at all; its own routes come in that time.
pub(crate) const RESTARTED_PEER_SETTLES: Duration = Duration::from_secs(5);
/// How long a peer that is back may take to send its End-of-RIB.
const END_OF_RIB_WAIT: Duration = Duration::from_secs(300);
/// How long routes may stay stale however often the peer comes and goes, unless its restart time is longer.
const STALE_LIMIT: Duration = Duration::from_secs(600);

/// A peer's routes are kept although it has not confirmed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) families: BTreeSet<Family>,
    /// What is stale then is dropped.
    pub(crate) deadline: Instant,
    /// The deadline is never moved past this.
    limit: Instant,
}

/// Whether every peer has said everything.
#[derive(Debug)]
pub(crate) struct Convergence {
    /// When to stop waiting; `None` once converged.
    waiting_until: Option<Instant>,
    /// Converged, and whoever follows the routes knows.
    told: bool,
}

impl Convergence {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            waiting_until: Some(deadline),
            told: false,
        }
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.waiting_until.is_none()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting_until
    }

    /// Whether waiting has just ended because time is up.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        self.waiting_until.take_if(|deadline| *deadline <= now).is_some()
    }

    fn reach(&mut self) {
        self.waiting_until = None;
    }

    /// Whether this is news; it will not be a second time.
    pub(crate) fn take_news(&mut self) -> bool {
        self.is_reached() && !std::mem::replace(&mut self.told, true)
    }

    /// Whether [`take_news`](Self::take_news) would be true.
    pub(crate) fn has_news(&self) -> bool {
        self.is_reached() && !self.told
    }
}

impl Peer {
    /// Whether nothing more is to be waited for: the peer has sent everything, or has restarted like us and settled.
    fn is_synced(&self) -> bool {
        self.session.as_ref().is_some_and(|session| {
            let settled = session.agreed.peer_is_restarting() && session.settling_until.is_none();
            settled
                || session
                    .agreed
                    .negotiated
                    .families
                    .is_subset(&session.end_of_rib_received)
        })
    }

    /// Marks what may be kept as stale; returns the families that may not.
    fn keep_stale(&mut self, agreed: &Agreed, graceful: bool, now: Instant) -> Vec<Family> {
        let mut kept = BTreeSet::new();
        let mut longest = Duration::ZERO;
        for family in FAMILIES {
            let time = agreed
                .restart_time(&self.config, family)
                .filter(|time| graceful && !time.is_zero());
            if let Some(time) = time {
                self.adj_rib_in.mark_stale(family);
                kept.insert(family);
                longest = longest.max(time);
            }
        }
        let limit = self
            .stale
            .as_ref()
            .map_or(now + longest.max(STALE_LIMIT), |stale| stale.limit);
        let dropped = FAMILIES
            .into_iter()
            .filter(|family| !kept.contains(family))
            .collect();
        self.stale = (!kept.is_empty()).then(|| Stale {
            families: kept,
            deadline: (now + longest).min(limit),
            limit,
        });
        dropped
    }

    /// The peer is back: waits for its End-of-RIB. Returns the families it does not speak for any more.
    fn await_end_of_rib(&mut self, now: Instant) -> Vec<Family> {
        let (Some(stale), Some(session)) = (&mut self.stale, &self.session) else {
            return Vec::new();
        };
        let agreed = &session.agreed;
        let keeps = |family: &Family| {
            agreed.restart_time(&self.config, *family).is_some() && agreed.forwarding_preserved(*family)
        };
        let (kept, dropped): (BTreeSet<Family>, BTreeSet<Family>) =
            stale.families.iter().copied().partition(keeps);
        stale.families = kept;
        stale.deadline = (now + END_OF_RIB_WAIT).min(stale.limit);
        self.stale.take_if(|stale| stale.families.is_empty());
        dropped.into_iter().collect()
    }
}

impl SpeakerCore {
    /// Whether every peer has sent all it has, or had its time to.
    pub fn is_converged(&self) -> bool {
        self.convergence.is_reached()
    }

    pub(super) fn on_session_down(&mut self, address: IpAddr, agreed: &Agreed, graceful: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let dropped = peer.keep_stale(agreed, graceful, now);
        if let Some(stale) = &peer.stale {
            info!(parent: &peer.span, prefixes = peer.adj_rib_in.stale_count(),
                seconds = (stale.deadline - now).as_secs(), "routes kept while the peer restarts");
        }
        for family in dropped {
            self.flush(address, family, false);
        }
    }

    /// Stale routes of families that the peer no longer forwards for are dropped as soon as it is back.
    pub(super) fn resume_stale(&mut self, address: IpAddr, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        for family in peer.await_end_of_rib(now) {
            self.flush(address, family, true);
        }
    }

    pub(super) fn on_end_of_rib(&mut self, address: IpAddr, family: Family) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let Some(session) = &mut peer.session else { return };
        session.end_of_rib_received.insert(family);
        if let Some(stale) = &mut peer.stale {
            stale.families.remove(&family);
        }
        peer.stale.take_if(|stale| stale.families.is_empty());
        self.flush(address, family, true);
        self.check_converged();
    }

    /// The time of a restarting peer may be over.
    pub(super) fn expire_restart(&mut self, address: IpAddr, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let settling = peer.session.as_mut().map(|session| &mut session.settling_until);
        if settling.is_some_and(|until| until.take_if(|until| *until <= now).is_some()) {
            self.check_converged();
        }
        self.expire_stale(address, now);
    }

    fn expire_stale(&mut self, address: IpAddr, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        if peer.stale.take_if(|stale| stale.deadline <= now).is_none() {
            return;
        }
        info!(parent: &peer.span, prefixes = peer.adj_rib_in.stale_count(), "stale routes dropped: time is up");
        for family in FAMILIES {
            self.flush(address, family, true);
        }
    }

    pub(super) fn check_converged(&mut self) {
        if !self.convergence.is_reached() && self.peers.values().all(Peer::is_synced) {
            self.convergence.reach();
            self.on_converged();
        }
    }

    pub(super) fn on_converged(&mut self) {
        info!(destinations = self.loc_rib.bests().count(), "converged");
        self.identity.restarting = false;
        // End-of-RIB may have been held back.
        self.ready.extend(self.peers.keys());
    }

    /// Whether peers may be told that they have heard everything.
    pub(super) fn may_send_end_of_rib(&self) -> bool {
        !self.identity.restarting || self.convergence.is_reached()
    }
}
