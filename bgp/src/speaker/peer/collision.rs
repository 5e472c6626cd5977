//! Two connections with one peer (RFC 4271 section 6.8, RFC 6286, RFC 4724 section 5).

use std::time::Duration;

use super::{Context, Peer};
use crate::fsm::{Agreed, Event, SessionState, Side};
use crate::speaker::Identity;
use crate::wire::{Message, Open};

/// A connection that comes this soon after the session is up belongs to a collision, not to a restarted peer.
const COLLISION_WINDOW: Duration = Duration::from_secs(3);

impl Peer {
    /// Whether the connection whose OPEN this is stays; if it does, the other one has been seen to.
    pub(super) fn survives_collision(&mut self, side: Side, agreed: &Agreed, cx: &mut Context<'_>) -> bool {
        let other = match side {
            Side::Main => Side::Inbound,
            Side::Inbound => Side::Main,
        };
        match self.machine(other).state() {
            SessionState::Idle | SessionState::Active | SessionState::OpenSent => true,
            SessionState::Connect => {
                self.handle(other, Event::OpenCollisionDump, cx);
                true
            }
            SessionState::OpenConfirm => {
                let survives = self.is_preferred(side, &agreed.open, cx.identity);
                if survives {
                    self.handle(other, Event::OpenCollisionDump, cx);
                }
                survives
            }
            SessionState::Established => self.supersedes_session(agreed, cx),
        }
    }

    /// Section 6.8: the connection that the side with the higher identifier made (or, RFC 6286, the higher AS).
    fn is_preferred(&self, side: Side, open: &Open, identity: &Identity) -> bool {
        let ours = (identity.router_id.to_u32(), self.local_as(identity));
        let theirs = (open.router_id.to_u32(), open.asn);
        match side {
            Side::Main => ours > theirs,
            Side::Inbound => theirs > ours,
        }
    }

    /// The peer has an established session and opens another: it restarted, or this is a late collision.
    fn supersedes_session(&mut self, agreed: &Agreed, cx: &mut Context<'_>) -> bool {
        let Some(session) = &self.session else { return true };
        let late = cx.now.duration_since(session.since) < COLLISION_WINDOW;
        let graceful = self.config.graceful_restart && session.agreed.sends_end_of_rib();
        if graceful && (agreed.peer_is_restarting() || !late) {
            self.handle(Side::Main, Event::Superseded, cx);
            return true;
        }
        // If the old connection is dead, its end will say so at the first byte.
        if let Some(connection) = &mut self.main.connection {
            connection.queue(Message::Keepalive);
        }
        false
    }
}
