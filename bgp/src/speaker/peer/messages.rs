//! Messages of the peer on their way to the state machine.

use tracing::{debug, info};

use super::{Context, Peer, PeerEvent};
use crate::fsm::{Event, SessionState, Side, State};
use crate::speaker::open;
use crate::wire::{Frame, Message, MessageType, Negotiated, Open, RefreshSubtype, SessionType};

impl Peer {
    pub(super) fn handle_frame(&mut self, side: Side, frame: &Frame, cx: &mut Context<'_>) {
        let plain = Negotiated::plain(SessionType::Ebgp);
        let state = self.machine(side).fsm.state();
        let established = matches!(state, State::Established { .. });
        let negotiated = match state {
            State::Established { agreed, .. } => &agreed.negotiated,
            _ => &plain,
        };
        // What the state does not allow is refused unread.
        let refused = match frame.message_type() {
            MessageType::Open if state.name() != SessionState::OpenSent => Some(Event::RepeatedOpen),
            MessageType::Update if !established => Some(Event::UpdateMessage),
            MessageType::RouteRefresh if !established => Some(Event::RouteRefreshMessage),
            _ => None,
        };
        if let Some(event) = refused {
            return self.handle(side, event, cx);
        }
        match Message::decode(frame, negotiated) {
            Ok(message) => self.handle_message(side, message, cx),
            Err(error) => {
                debug!(parent: &self.span, %error, "malformed message");
                self.handle(side, Event::MessageError(error.notification()), cx);
            }
        }
    }

    fn handle_message(&mut self, side: Side, message: Message, cx: &mut Context<'_>) {
        match message {
            Message::Open(open) => self.handle_open(side, open, cx),
            Message::Keepalive => {
                let established = self.machine(side).state() == SessionState::Established;
                self.handle(side, Event::KeepaliveMessage, cx);
                if established {
                    self.note_keepalive(cx);
                }
            }
            Message::Update(update) => {
                self.counters.updates_in += 1;
                self.handle(side, Event::UpdateMessage, cx);
                cx.events.push(PeerEvent::Update(Box::new(update)));
            }
            Message::Notification(notification) => {
                self.handle(side, Event::NotificationMessage(notification), cx);
            }
            Message::RouteRefresh(refresh) => {
                self.handle(side, Event::RouteRefreshMessage, cx);
                if refresh.subtype == RefreshSubtype::Request {
                    cx.events.push(PeerEvent::RouteRefresh(refresh.family));
                }
            }
        }
    }

    /// A peer that does not send End-of-RIB has sent everything when it has nothing but a KEEPALIVE to send.
    fn note_keepalive(&mut self, cx: &mut Context<'_>) {
        let Some(session) = self
            .session
            .as_mut()
            .filter(|session| !session.agreed.sends_end_of_rib())
        else {
            return;
        };
        let missing = session
            .agreed
            .negotiated
            .families
            .difference(&session.end_of_rib_received);
        cx.events
            .extend(missing.map(|family| PeerEvent::EndOfRib(*family)));
    }

    fn handle_open(&mut self, side: Side, open: Open, cx: &mut Context<'_>) {
        let event = match open::check(&self.config, cx.identity, open) {
            Ok(agreed) if self.survives_collision(side, &agreed, cx) => Event::BgpOpen(Box::new(agreed)),
            Ok(_) => Event::OpenCollisionDump,
            Err(error) => {
                info!(parent: &self.span, %error, "the peer's OPEN is refused");
                Event::MessageError(error.notification())
            }
        };
        self.handle(side, event, cx);
    }
}
