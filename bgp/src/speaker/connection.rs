//! One transport connection: bytes that came and are not a whole message yet, and messages that have to go out.
//!
//! Both are bounded by nature. A message is taken out of the buffer as soon as it is whole. What waits to go out is
//! at most an OPEN, a KEEPALIVE and a NOTIFICATION; UPDATEs are made when the socket can take them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};

use crate::fsm::ConnId;
use crate::types::Family;
use crate::wire::{Frame, HeaderError, Message, Negotiated, Notification, SessionType};

/// A connection, open or being opened.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    /// Our end, once it is connected.
    pub(crate) local: Option<SocketAddr>,
    received: BytesMut,
    queued: VecDeque<Message>,
    /// Bytes were handed out and the socket has not taken them all.
    pub(crate) in_flight: bool,
}

impl Connection {
    pub(crate) fn new(id: ConnId, local: Option<SocketAddr>) -> Self {
        Self {
            id,
            local,
            received: BytesMut::new(),
            queued: VecDeque::new(),
            in_flight: false,
        }
    }

    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        self.local.map(|local| local.ip().to_canonical())
    }

    /// Takes bytes from the peer.
    pub(crate) fn push_received(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole message, unread.
    pub(crate) fn next_frame(&mut self, max: usize) -> Result<Option<Frame>, HeaderError> {
        Frame::take(&mut self.received, max)
    }

    /// Queues a message that is not an UPDATE. A second KEEPALIVE would say nothing new.
    pub(crate) fn queue(&mut self, message: Message) {
        if message != Message::Keepalive || !self.queued.contains(&Message::Keepalive) {
            self.queued.push_back(message);
        }
    }

    /// Whether messages wait.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Encodes what waits. Returns how many messages it was.
    pub(crate) fn drain_queued(&mut self, out: &mut BytesMut) -> u64 {
        // None of these messages depends on what was negotiated.
        let plain = Negotiated::plain(SessionType::Ebgp);
        let mut count = 0;
        for message in self.queued.drain(..) {
            match message.encode(&plain, out) {
                Ok(()) => count += 1,
                Err(error) => tracing::error!(%error, "a message could not be encoded"),
            }
        }
        count
    }

    /// The last bytes of the connection: what waits, and a NOTIFICATION.
    pub(crate) fn finish(&mut self, notification: Notification) -> Bytes {
        self.queue(Message::Notification(notification));
        let mut out = BytesMut::new();
        self.drain_queued(&mut out);
        out.freeze()
    }
}

/// The order families are always given in.
pub(crate) const FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
