//! What goes out: queued messages first, then as many UPDATEs as one write should hold, made at that moment.
//!
//! A connection whose last bytes are not written yet is given no more. That is the whole of flow control: what a
//! slow peer has not heard stays a set of prefixes in its Adj-RIB-Out.

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Instant;

use tracing::{debug, error};

use super::connection::FAMILIES;
use super::peer::{Peer, Session};
use super::{Identity, SpeakerCore};
use crate::config::PeerConfig;
use crate::fsm::{ConnId, Side};
use crate::rib::export::{ExportTo, NotSent, export, permitted};
use crate::rib::{AdjRibOut, Announcement, Best, LocRib, Route};
use crate::types::Family;
use crate::wire::{
    EncodeError, Negotiated, Nlri, encode_announcements, encode_end_of_rib, encode_withdrawals,
};

/// How many bytes one write holds before no more UPDATEs are added.
const CHUNK: usize = 64 * 1024;
/// How many prefixes are looked at together, and so can share a message.
const BATCH: usize = 1024;

/// Bytes for a connection. Report with [`SpeakerCore::handle_written`] when the socket has taken them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub conn: ConnId,
    /// What.
    pub bytes: Bytes,
}

impl SpeakerCore {
    /// Bytes for some connection that has none under way; `None` if there is nothing to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        while let Some(address) = self.ready.first().copied() {
            match self.transmit_to(address, now) {
                Some(transmit) => return Some(transmit),
                None => self.ready.remove(&address),
            };
        }
        None
    }

    fn transmit_to(&mut self, address: IpAddr, now: Instant) -> Option<Transmit> {
        let end_of_rib = self.may_send_end_of_rib();
        let peer = self.peers.get_mut(&address)?;
        for side in [Side::Main, Side::Inbound] {
            let Some(connection) = peer.idle_connection(side) else {
                continue;
            };
            let conn = connection.id;
            let mut out = BytesMut::new();
            if connection.has_queued() {
                let count = connection.drain_queued(&mut out);
                peer.counters.messages_out += count;
            }
            if side == Side::Main {
                peer.fill_with_updates(&self.loc_rib, &self.identity, end_of_rib, &mut out);
            }
            if !out.is_empty() {
                peer.writing(side, now);
                return Some(Transmit {
                    conn,
                    bytes: out.freeze(),
                });
            }
        }
        None
    }

    /// What a peer should hold for a destination, or why nothing.
    pub(super) fn export_to(&self, peer: &Peer, prefix: &IpNet) -> Result<Route, NotSent> {
        let session = peer.session.as_ref().ok_or(NotSent::SessionDown)?;
        export_over(
            peer_view(peer.address, &peer.config, session, &self.identity),
            session,
            &self.loc_rib,
            prefix,
        )
    }
}

fn peer_view<'a>(
    address: IpAddr,
    config: &'a PeerConfig,
    session: &Session,
    identity: &Identity,
) -> ExportTo<'a> {
    ExportTo {
        address,
        config,
        local_as: config.local_as.unwrap_or(identity.local_as),
        local_address: session.local_address,
        cluster: identity.cluster,
    }
}

fn export_over(
    to: ExportTo<'_>,
    session: &Session,
    loc_rib: &LocRib,
    prefix: &IpNet,
) -> Result<Route, NotSent> {
    let family = Family::of(prefix);
    if !session.agreed.negotiated.families.contains(&family) {
        return Err(NotSent::FamilyNotNegotiated);
    }
    let best = loc_rib.best(prefix).ok_or(NotSent::NoBestPath)?;
    export(family, best, &to)
}

impl Peer {
    /// Notes a change of `prefix` for the peer, if it may hear of it or holds something to be taken back.
    pub(super) fn mark(&mut self, prefix: IpNet, best: Option<&Best>, identity: &Identity) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let to = peer_view(self.address, &self.config, session, identity);
        let carried = session.agreed.negotiated.families.contains(&Family::of(&prefix));
        let hears = carried && best.is_some_and(|best| permitted(best, &to).is_ok());
        let concerned = hears || session.adj_rib_out.holds(&prefix);
        if concerned {
            session.adj_rib_out.mark(prefix);
        }
        concerned
    }

    fn fill_with_updates(
        &mut self,
        loc_rib: &LocRib,
        identity: &Identity,
        end_of_rib: bool,
        out: &mut BytesMut,
    ) {
        let Some(session) = &mut self.session else { return };
        // Taken out so that the export can look at the rest of the session.
        let mut adj_rib_out = std::mem::take(&mut session.adj_rib_out);
        let to = peer_view(self.address, &self.config, session, identity);
        let negotiated = &session.agreed.negotiated;
        let mut count = 0;
        while out.len() < CHUNK && !adj_rib_out.is_drained() {
            let batch = adj_rib_out.take_batch(BATCH, |prefix| {
                export_over(to.clone(), session, loc_rib, prefix).ok()
            });
            count += withdraw(&batch.withdrawn, negotiated, out);
            for announcement in &batch.announced {
                count += announce(announcement, negotiated, &mut adj_rib_out, out);
            }
        }
        if adj_rib_out.is_drained() && end_of_rib {
            for family in std::mem::take(&mut session.end_of_rib_due) {
                if session.agreed.sends_end_of_rib() && encode_end_of_rib(family, out).is_ok() {
                    count += 1;
                }
            }
        }
        session.adj_rib_out = adj_rib_out;
        self.counters.updates_out += count;
        self.counters.messages_out += count;
        if count > 0 {
            debug!(parent: &self.span, updates = count, bytes = out.len(), "sending");
        }
    }
}

fn withdraw(prefixes: &[IpNet], negotiated: &Negotiated, out: &mut BytesMut) -> u64 {
    let mut count = 0;
    for family in FAMILIES {
        let of_family = prefixes.iter().filter(|prefix| Family::of(prefix) == family);
        let nlri: Vec<Nlri> = of_family.map(|prefix| Nlri::new(*prefix)).collect();
        if nlri.is_empty() {
            continue;
        }
        match encode_withdrawals(family, &nlri, negotiated, out) {
            Ok(messages) => count += messages as u64,
            Err(error) => error!(%error, "withdrawals could not be encoded"),
        }
    }
    count
}

/// Announces, or withdraws what cannot be said to this peer (RFC 8654 section 5).
fn announce(
    announcement: &Announcement,
    negotiated: &Negotiated,
    adj_rib_out: &mut AdjRibOut,
    out: &mut BytesMut,
) -> u64 {
    let Announcement {
        family,
        next_hop,
        attributes,
        prefixes,
    } = announcement;
    let nlri: Vec<Nlri> = prefixes.iter().map(|prefix| Nlri::new(*prefix)).collect();
    let announced: Result<usize, EncodeError> =
        encode_announcements(*family, *next_hop, attributes, &nlri, negotiated, out);
    match announced {
        Ok(messages) => messages as u64,
        Err(error) => {
            error!(%error, ?prefixes, "routes could not be encoded and are withdrawn");
            prefixes.iter().for_each(|prefix| adj_rib_out.forget(prefix));
            withdraw(prefixes, negotiated, out)
        }
    }
}
