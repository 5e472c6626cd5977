//! Events into the two machines, and what their actions do to connections and to the session.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{debug, info};

use super::{Context, Peer, PeerEvent, Session};
use crate::fsm::{Action, Agreed, Event, Pace, SessionEnd, SessionState, Side};
use crate::rib::AdjRibOut;
use crate::speaker::connection::Connection;
use crate::speaker::restart::RESTARTED_PEER_SETTLES;
use crate::speaker::{ConnectRequest, Identity, Output, open};
use crate::wire::{CeaseSubcode, ErrorCode, Message};

/// A session that lasted this long was a success: the back-off starts over.
const STABLE: Duration = Duration::from_secs(30);

impl Peer {
    pub(super) fn handle(&mut self, side: Side, event: Event, cx: &mut Context<'_>) {
        let before = self.state();
        if self
            .session
            .as_ref()
            .is_some_and(|session| cx.now.duration_since(session.since) >= STABLE)
        {
            self.backoff.reset();
        }
        let mut pace = Pace {
            now: cx.now,
            backoff: &mut self.backoff,
            jitter: cx.jitter,
        };
        let machine = match side {
            Side::Main => &mut self.main,
            Side::Inbound => &mut self.inbound,
        };
        let was_established = machine.state() == SessionState::Established;
        for action in machine.fsm.handle(event, &mut pace) {
            self.perform(side, action, was_established, cx);
        }
        self.drop_dead_connections(cx);
        self.keep_going(cx);
        let after = self.state();
        if before != after {
            self.state_since = cx.now;
            debug!(parent: &self.span, from = %before, to = %after, "session state");
        }
    }

    fn perform(&mut self, side: Side, action: Action, was_established: bool, cx: &mut Context<'_>) {
        match action {
            Action::Connect(conn) => {
                let given_up = self
                    .machine_mut(side)
                    .connection
                    .replace(Connection::new(conn, None));
                given_up.iter().for_each(|old| cx.conn_ids.release(old.id));
                cx.outputs.push_back(Output::Connect {
                    conn,
                    request: self.connect_request(cx.identity),
                });
            }
            Action::Close(conn) => cx.outputs.push_back(Output::Close {
                conn,
                last: Default::default(),
            }),
            Action::NotifyAndClose(conn, notification) => {
                self.counters.messages_out += 1;
                let connection = self.machine_mut(side).connection.as_mut();
                let last = connection
                    .map(|connection| connection.finish(notification))
                    .unwrap_or_default();
                cx.outputs.push_back(Output::Close { conn, last });
            }
            Action::SendOpen(_) => {
                let open = open::local_open(&self.config, cx.identity);
                self.queue(side, Message::Open(open));
            }
            Action::SendKeepalive(_) => self.queue(side, Message::Keepalive),
            Action::Up(_, agreed) => self.established(side, agreed, cx),
            Action::End(end) => self.ended(end, was_established, cx),
            Action::Timer(_) => {}
        }
    }

    fn queue(&mut self, side: Side, message: Message) {
        if let Some(connection) = &mut self.machine_mut(side).connection {
            connection.queue(message);
        }
    }

    fn connect_request(&self, identity: &Identity) -> ConnectRequest {
        let external = self.config.remote_as != self.local_as(identity);
        ConnectRequest {
            remote: SocketAddr::new(self.address, self.config.port),
            source: self.config.source,
            ttl: (external && !self.config.multihop).then_some(1),
            password: self.config.password.clone(),
        }
    }

    fn established(&mut self, side: Side, agreed: Box<Agreed>, cx: &mut Context<'_>) {
        let other = if side == Side::Main {
            Side::Inbound
        } else {
            Side::Main
        };
        self.handle(other, Event::OpenCollisionDump, cx);
        if side == Side::Inbound {
            std::mem::swap(&mut self.main, &mut self.inbound);
        }
        let local = self.main.connection.as_ref().and_then(Connection::local_address);
        let families = agreed.negotiated.families.clone();
        self.router_id = agreed.open.router_id;
        self.malformed_logged = false;
        info!(parent: &self.span, router_id = %agreed.open.router_id, hold_time = %agreed.negotiated.hold_time,
            "session established");
        let settling_until = agreed
            .peer_is_restarting()
            .then(|| cx.now + RESTARTED_PEER_SETTLES);
        self.session = Some(Session {
            agreed,
            local_address: local.unwrap_or(self.address),
            since: cx.now,
            adj_rib_out: AdjRibOut::default(),
            end_of_rib_received: BTreeSet::new(),
            end_of_rib_due: families,
            settling_until,
        });
        cx.events.push(PeerEvent::Up);
    }

    fn ended(&mut self, end: SessionEnd, was_established: bool, cx: &mut Context<'_>) {
        if !is_collision(&end) {
            let reason = end.to_string();
            if was_established {
                info!(parent: &self.span, %reason, "session down");
                self.last_error = Some(reason);
            } else {
                self.no_session(reason);
            }
        }
        if end.is_oscillation() {
            let idle_until = self.main.fsm.idle_until();
            self.damped_until = Some(idle_until.unwrap_or_else(|| cx.now + self.backoff.next(cx.jitter)));
        }
        if was_established && let Some(session) = self.session.take() {
            self.counters.flaps += 1;
            cx.events.push(PeerEvent::Down {
                agreed: session.agreed,
                graceful: end.is_graceful(),
            });
        }
    }

    /// Notes why there is none. What was said already is not said again.
    pub(super) fn no_session(&mut self, reason: String) {
        if self.last_error.as_ref() != Some(&reason) {
            info!(parent: &self.span, %reason, "no session");
        }
        self.last_error = Some(reason);
    }

    fn drop_dead_connections(&mut self, cx: &mut Context<'_>) {
        for machine in [&mut self.main, &mut self.inbound] {
            let alive = machine.fsm.state().conn();
            if let Some(dead) = machine
                .connection
                .take_if(|connection| Some(connection.id) != alive)
            {
                cx.conn_ids.release(dead.id);
            }
        }
    }

    /// A machine that stopped for good although the peer is wanted is started again.
    fn keep_going(&mut self, cx: &mut Context<'_>) {
        if !self.enabled {
            return;
        }
        if self.inbound.state() == SessionState::Idle {
            let mut pace = Pace {
                now: cx.now,
                backoff: &mut self.backoff,
                jitter: cx.jitter,
            };
            // Waiting to be connected takes no action.
            self.inbound.fsm.handle(Event::StartPassive, &mut pace);
        }
        let parked = self.main.state() == SessionState::Idle && self.main.fsm.idle_until().is_none();
        if parked && !self.config.passive && self.inbound.state() < SessionState::OpenSent {
            let at = cx.now + self.backoff.next(cx.jitter);
            self.main.fsm.hold_idle_until(at);
        }
    }
}

fn is_collision(end: &SessionEnd) -> bool {
    let (SessionEnd::Sent(notification) | SessionEnd::Received(notification)) = end else {
        return false;
    };
    notification.error == ErrorCode::Cease(CeaseSubcode::ConnectionCollisionResolution)
}
