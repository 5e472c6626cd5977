//! The transport: rtnetlink sockets that carry many messages in one datagram, for requests and for events.
//!
//! The kernel carries a request out while it is being sent, so requests take effect in the order of sending, and an
//! event that one causes is in its receivers' queues before the acknowledgement is. Reading all acknowledgements and
//! *then* all events therefore gives a picture at least as new as every acknowledged request; the engine relies on it.
//!
//! A receive queue that overflows loses messages, and the kernel says so once (`ENOBUFS`): [`Received::Overrun`].

use std::io;

use netlink_packet_core::{
    NLM_F_ACK_TLVS, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlaBuffer, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::types::{Error, Refusal};

/// Larger than any datagram the kernel sends (dumps come in at most 32 KiB).
const DATAGRAM: usize = 128 << 10;

/// Room for the acknowledgements of everything in flight, and for a dump.
const REQUEST_BUFFER: usize = 4 << 20;

/// Length of a message's header.
const HEADER: usize = 16;

/// `NLMSGERR_ATTR_MSG`: the explanation in an extended acknowledgement.
const EXPLANATION: u16 = 1;

/// The message of a request or an event.
pub(super) type Message = NetlinkMessage<RouteNetlinkMessage>;

/// Opens a blocking socket for requests.
pub(super) fn open_blocking() -> Result<netlink_sys::Socket, Error> {
    let open = || {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // An acknowledgement carries an explanation and not the whole request.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(socket)
    };
    open().map_err(|source| Error::Socket {
        action: "open a socket to",
        source,
    })
}

/// What one read gave.
#[derive(Debug)]
pub(super) enum Received {
    /// Messages of one datagram.
    Messages(Vec<Message>),
    /// Messages were lost.
    Overrun,
    /// There is nothing to read at present.
    Nothing,
}

/// A socket of the engine's.
#[derive(Debug)]
pub(super) struct Socket {
    inner: AsyncFd<netlink_sys::Socket>,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket for requests.
    pub(super) fn requests() -> Result<Self, Error> {
        let socket = open_blocking()?;
        // Filters in dump requests count only with strict checking; kernels older than 4.20 send everything instead.
        let _ = socket.set_netlink_get_strict_chk(true);
        Self::new(socket, REQUEST_BUFFER)
    }

    /// A socket for the events of `groups`, with a receive buffer of `buffer` octets.
    pub(super) fn events(groups: &[u32], buffer: usize) -> Result<Self, Error> {
        let socket = open_blocking()?;
        groups
            .iter()
            .try_for_each(|group| socket.add_membership(*group))
            .map_err(|source| Error::Socket {
                action: "hear events from",
                source,
            })?;
        Self::new(socket, buffer)
    }

    fn new(socket: netlink_sys::Socket, buffer: usize) -> Result<Self, Error> {
        // Where the agent may not exceed rmem_max it gets that much.
        if setsockopt(&socket, RcvBufForce, &buffer).is_err() {
            let _ = socket.set_rx_buf_sz(i32::try_from(buffer).unwrap_or(i32::MAX));
        }
        let inner = socket
            .set_non_blocking(true)
            .and_then(|()| register(socket))
            .map_err(|source| Error::Socket {
                action: "open a socket to",
                source,
            })?;
        Ok(Socket {
            inner,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Waits until there is something to read.
    pub(super) async fn readable(&self) -> Result<(), Error> {
        let ready = self.inner.readable().await;
        ready.map(drop).map_err(|source| Error::Socket {
            action: "hear",
            source,
        })
    }

    /// Reads one datagram, without waiting.
    pub(super) fn receive(&mut self) -> Result<Received, Error> {
        let Socket { inner, buffer } = self;
        let read = inner.try_io(Interest::READABLE, |socket| {
            socket.recv(&mut buffer.as_mut_slice(), libc::MSG_TRUNC)
        });
        match read {
            Ok(length) => Ok(match buffer.get(..length) {
                Some(datagram) => Received::Messages(split(datagram)),
                None => Received::Overrun,
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Received::Messages(Vec::new())),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Received::Overrun),
            Err(source) => Err(Error::Socket {
                action: "hear",
                source,
            }),
        }
    }

    /// Sends a datagram; the kernel has carried its requests out when this returns.
    pub(super) async fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        let sent = self
            .inner
            .async_io(Interest::WRITABLE, |socket| socket.send(datagram, 0))
            .await;
        sent.map(drop).map_err(|source| Error::Socket {
            action: "ask",
            source,
        })
    }
}

/// Gives a socket to the runtime's reactor.
#[allow(unsafe_code)]
fn register(socket: netlink_sys::Socket) -> io::Result<AsyncFd<netlink_sys::Socket>> {
    // SAFETY: a netlink_sys::Socket owns a file descriptor that is open until it is dropped and never another one, and
    // nobody gets at it for writing while the AsyncFd holds it.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Appends a request to a datagram.
pub(super) fn append(datagram: &mut Vec<u8>, sequence: u32, flags: u16, request: RouteNetlinkMessage) {
    let mut header = NetlinkHeader::default();
    header.sequence_number = sequence;
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let start = datagram.len();
    datagram.resize(start + align(message.buffer_len()), 0);
    if let Some(room) = datagram.get_mut(start..) {
        message.serialize(room);
    }
}

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The messages of a datagram. One that cannot be decoded is left out: it is of a kind that newer kernels have.
pub(super) fn split(datagram: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while let Some(length) = rest
        .first_chunk::<4>()
        .map(|octets| u32::from_ne_bytes(*octets) as usize)
    {
        let Some(message) = rest.get(..length).filter(|_| length >= HEADER) else {
            break;
        };
        match Message::deserialize(message) {
            Ok(message) => messages.push(message),
            Err(error) => tracing::debug!(%error, "netlink message left out"),
        }
        rest = rest.get(align(length)..).unwrap_or_default();
    }
    messages
}

/// The answer to a request, where the message ends one.
pub(super) fn verdict(message: &Message) -> Option<Result<(), Refusal>> {
    match &message.payload {
        NetlinkPayload::Error(error) => Some(match error.code {
            None => Ok(()),
            Some(code) => {
                let tlvs = message.header.flags & NLM_F_ACK_TLVS != 0;
                let explanation = tlvs
                    .then(|| error.header.get(HEADER..))
                    .flatten()
                    .unwrap_or_default();
                Err(Refusal {
                    errno: code.get().abs(),
                    message: explain(explanation),
                })
            }
        }),
        NetlinkPayload::Done(done) if done.code < 0 => Some(Err(Refusal {
            errno: -done.code,
            message: explain(&done.extended_ack),
        })),
        NetlinkPayload::Done(_) => Some(Ok(())),
        _ => None,
    }
}

fn explain(attributes: &[u8]) -> String {
    let explanation = NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute: &NlaBuffer<&[u8]>| attribute.kind() == EXPLANATION);
    let text = explanation
        .map(|attribute| attribute.value().to_vec())
        .unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
}

impl Refusal {
    /// A refusal without an explanation.
    pub(super) fn of(errno: Errno) -> Self {
        Refusal {
            errno: errno as i32,
            message: String::new(),
        }
    }

    pub(super) fn is(&self, errno: Errno) -> bool {
        self.errno == errno as i32
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn what_is_appended_is_split_again_and_a_damaged_tail_does_no_harm() {
        let mut datagram = Vec::new();
        for sequence in 1..=3 {
            append(
                &mut datagram,
                sequence,
                0,
                RouteNetlinkMessage::GetLink(LinkMessage::default()),
            );
        }
        let sequences = |datagram: &[u8]| -> Vec<u32> {
            split(datagram)
                .iter()
                .map(|message| message.header.sequence_number)
                .collect()
        };
        assert_eq!(sequences(&datagram), [1, 2, 3]);
        assert_eq!(sequences(&datagram[..datagram.len() - 1]), [1, 2]);
        datagram.extend([3, 0, 0, 0, 9, 9]);
        assert_eq!(
            sequences(&datagram),
            [1, 2, 3],
            "a length below the header's ends the datagram"
        );
    }

    #[test]
    fn a_refusal_carries_the_kernels_explanation() {
        let text = b"Nexthop has invalid gateway\0";
        let mut message = Vec::new();
        let attribute = 4 + text.len();
        let length = HEADER + 4 + HEADER + attribute;
        message.extend((length as u32).to_ne_bytes());
        message.extend(2u16.to_ne_bytes());
        message.extend(NLM_F_ACK_TLVS.to_ne_bytes());
        message.extend([0; 8]);
        message.extend((-libc::ENETUNREACH).to_ne_bytes());
        message.extend([0; HEADER]);
        message.extend((attribute as u16).to_ne_bytes());
        message.extend(EXPLANATION.to_ne_bytes());
        message.extend(text);
        let messages = split(&message);
        let refusal = verdict(&messages[0]).unwrap().unwrap_err();
        assert!(refusal.is(Errno::ENETUNREACH));
        assert_eq!(refusal.to_string(), "Nexthop has invalid gateway");
    }
}
