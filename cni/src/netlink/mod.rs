//! A synchronous rtnetlink socket (RFC 3549) that sends many requests at once.
//!
//! A round trip a request is what makes a plugin slow, so a [`Batch`] is one `send`. The kernel works through it
//! in order before `send` returns, and goes on after a request that failed. Only the last request asks for an
//! acknowledgement; a request that fails is always answered. So everything up to that acknowledgement is the
//! whole answer, and it is there already when the first `recv` is made.
//!
//! Requests are encoded by `netlink-packet-route`; answers are read by hand ([`link`], [`address`]), attribute by
//! attribute: a newer kernel may add to them what a strict decoder has never heard of.

pub(crate) mod address;
pub(crate) mod link;

use std::io;

use netlink_packet_core::{
    Emitable, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader,
    NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;

/// Octets of a netlink header.
const HEADER: usize = 16;
/// Largest datagram the kernel answers with.
const DATAGRAM: usize = 64 << 10;
/// `NLMSGERR_ATTR_MSG`: the kernel's own words on what is wrong.
const ERROR_MESSAGE: u16 = 1;

/// Why the kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    /// The kernel said no.
    #[error("cannot {what}: {source}{}", if explanation.is_empty() { String::new() } else { format!(" ({explanation})") })]
    Refused {
        /// What was asked.
        what: String,
        /// Its errno.
        source: io::Error,
        /// Its words, where it has any.
        explanation: String,
    },
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The answer makes no sense.
    #[error("the kernel's netlink answer is cut short")]
    Truncated,
}

impl NetlinkError {
    /// Is this the kernel's refusal with that errno?
    pub(crate) fn is(&self, errno: i32) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(errno))
    }
}

/// Requests to be sent together.
#[derive(Default)]
pub(crate) struct Batch {
    octets: Vec<u8>,
    requests: Vec<Request>,
}

struct Request {
    /// Where its header begins.
    offset: usize,
    /// For the error message, as in "set eth0 up".
    what: String,
    /// An errno that means it is so already.
    tolerated: Option<i32>,
}

impl Batch {
    /// Adds a request: a message type (`RTM_*`), flags (`NLM_F_*`; `NLM_F_REQUEST` is implied) and its body.
    pub(crate) fn push(&mut self, kind: u16, flags: u16, body: &impl Emitable, what: impl Into<String>) {
        let offset = self.octets.len();
        let length = HEADER + body.buffer_len();
        self.octets.resize(offset + length.next_multiple_of(4), 0);
        if let Some(room) = self.octets.get_mut(offset + HEADER..offset + length) {
            body.emit(room);
        }
        self.requests.push(Request {
            offset,
            what: what.into(),
            tolerated: None,
        });
        self.write_header(offset, kind, flags | NLM_F_REQUEST, length);
    }

    /// Takes that errno of the latest request for success.
    pub(crate) fn tolerate(&mut self, errno: i32) {
        if let Some(request) = self.requests.last_mut() {
            request.tolerated = Some(errno);
        }
    }

    fn write_header(&mut self, offset: usize, kind: u16, flags: u16, length: usize) {
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(length).unwrap_or(u32::MAX);
        header.message_type = kind;
        header.flags = flags;
        header.sequence_number = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        if let Some(room) = self.octets.get_mut(offset..offset + HEADER) {
            header.emit(room);
        }
    }

    /// Has the last request acknowledged.
    fn finish(&mut self) {
        let Some(last) = self.requests.last() else { return };
        let at = last.offset + 6;
        if let Some([low, high]) = self.octets.get_mut(at..at + 2) {
            let flags = u16::from_ne_bytes([*low, *high]) | NLM_F_ACK;
            [*low, *high] = flags.to_ne_bytes();
        }
    }
}

/// A message from the kernel that is neither error nor acknowledgement.
pub(crate) struct Answer {
    /// `RTM_*`.
    pub(crate) kind: u16,
    /// What follows the netlink header.
    pub(crate) body: Vec<u8>,
}

/// A socket. It belongs to the network namespace it was opened in, wherever its thread goes.
pub(crate) struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the thread's network namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Sends a batch and returns the answers, or the first error that is not tolerated.
    pub(crate) fn send(&mut self, mut batch: Batch) -> Result<Vec<Answer>, NetlinkError> {
        batch.finish();
        let last = u32::try_from(batch.requests.len()).unwrap_or(u32::MAX);
        self.socket.send(&batch.octets, 0)?;
        let mut answers = Vec::new();
        let mut first_error = None;
        loop {
            for message in self.receive()? {
                match message.kind {
                    NLMSG_ERROR => {
                        let error = batch.error(&message)?;
                        first_error = first_error.or(error);
                        if message.sequence == last {
                            return first_error.map_or(Ok(answers), Err);
                        }
                    }
                    _ => answers.push(Answer {
                        kind: message.kind,
                        body: message.body,
                    }),
                }
            }
        }
    }

    /// Sends one request whose answer is a list.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        what: &str,
    ) -> Result<Vec<Answer>, NetlinkError> {
        let mut batch = Batch::default();
        batch.push(kind, NLM_F_DUMP, body, what);
        self.socket.send(&batch.octets, 0)?;
        let mut answers = Vec::new();
        loop {
            for message in self.receive()? {
                match message.kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => batch.error(&message)?.map_or(Ok(()), Err)?,
                    _ => answers.push(Answer {
                        kind: message.kind,
                        body: message.body,
                    }),
                }
            }
        }
    }

    /// One datagram. The kernel has answered before `send` returned, so that waiting would be waiting for ever.
    fn receive(&mut self) -> Result<Vec<Message>, NetlinkError> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT)?;
        messages(&self.buffer)
    }
}

impl Batch {
    /// What an error message means: `None` for an acknowledgement or a tolerated error.
    fn error(&self, message: &Message) -> Result<Option<NetlinkError>, NetlinkError> {
        let errno = number(&message.body, 0)
            .ok_or(NetlinkError::Truncated)?
            .cast_signed();
        let index = (message.sequence as usize).wrapping_sub(1);
        let request = self.requests.get(index).ok_or(NetlinkError::Truncated)?;
        if errno == 0 || request.tolerated == Some(-errno) {
            return Ok(None);
        }
        let words = message.body.get(4 + HEADER..).unwrap_or_default();
        let explanation = attribute(words, ERROR_MESSAGE).map(text).unwrap_or_default();
        Ok(Some(NetlinkError::Refused {
            what: request.what.clone(),
            source: io::Error::from_raw_os_error(-errno),
            explanation,
        }))
    }
}

/// A message as received.
struct Message {
    kind: u16,
    sequence: u32,
    body: Vec<u8>,
}

/// Splits a datagram.
fn messages(mut datagram: &[u8]) -> Result<Vec<Message>, NetlinkError> {
    let mut found = Vec::new();
    while !datagram.is_empty() {
        let length = number(datagram, 0).ok_or(NetlinkError::Truncated)? as usize;
        let body = datagram.get(HEADER..length).ok_or(NetlinkError::Truncated)?;
        let kind = number(datagram, 4).ok_or(NetlinkError::Truncated)?;
        found.push(Message {
            kind: (kind & 0xffff) as u16,
            sequence: number(datagram, 8).ok_or(NetlinkError::Truncated)?,
            body: body.to_vec(),
        });
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// The native-endian 32-bit number at an offset.
fn number(octets: &[u8], offset: usize) -> Option<u32> {
    let bytes = octets.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The value of an attribute, where it is there.
fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|nla| nla.kind() == kind)
        .and_then(|nla| {
            let length = usize::from(nla.length());
            nla.into_inner().get(NLA_HEADER_SIZE..length)
        })
}

/// A NUL-terminated string.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|octet| *octet == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever arrives, splitting and reading it ends in a value or an error.
        #[test]
        fn answers_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = messages(&octets);
            let _ = link::Link::decode(&octets);
            let _ = address::decode(&octets);
            let _ = attribute(&octets, 3);
        }
    }

    #[test]
    fn datagram_cut_short_is_refused() {
        assert!(matches!(
            messages(&[32, 0, 0, 0, 2, 0]),
            Err(NetlinkError::Truncated)
        ));
        assert!(matches!(messages(&[0; 16]), Err(NetlinkError::Truncated)));
    }
}
