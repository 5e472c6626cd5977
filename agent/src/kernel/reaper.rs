//! Deletes devices in batches.
//!
//! A deletion waits for the kernel (an RCU grace period, about 20 ms) while it holds the sender up. So the devices are
//! put into a group of their own and the group is deleted by one message, all in one datagram, from a thread that may
//! block.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use netlink_packet_core::NLM_F_ACK;
use nix::errno::Errno;

use super::{
    codec,
    netlink::{self, append, split},
    types::{Error, Refusal},
};

/// The group that devices to delete are put into. Nobody else uses a number like this by chance ("rtl" + 0x01).
const GROUP: u32 = 0x7274_6c01;

/// Devices a batch: the kernel deletes a batch under one lock, and others wait for that.
const BATCH: usize = 128;

/// Room for an answer.
const ANSWER: usize = 32 << 10;

/// A blocking socket, opened in the namespace of the thread that started the kernel side.
#[derive(Debug, Clone)]
pub(super) struct Reaper {
    socket: Arc<Mutex<netlink_sys::Socket>>,
}

impl Reaper {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Reaper {
            socket: Arc::new(Mutex::new(netlink::open_blocking()?)),
        })
    }

    /// Deletes devices. One that does not exist is fine. Blocks.
    pub(super) fn delete(&self, names: &[String]) -> Result<(), Error> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        names
            .chunks(BATCH)
            .try_for_each(|batch| delete_batch(&mut socket, batch))
    }
}

fn delete_batch(socket: &mut netlink_sys::Socket, names: &[String]) -> Result<(), Error> {
    let requests: Vec<codec::Flagged> = names
        .iter()
        .map(|name| codec::set_group(name, GROUP))
        .chain([codec::delete_group(GROUP)])
        .collect();
    let mut datagram = Vec::new();
    let mut last = 0;
    for (flags, message) in requests {
        last += 1;
        append(&mut datagram, last, flags | NLM_F_ACK, message);
    }
    let answers = converse(socket, &datagram, last).map_err(|source| Error::Socket {
        action: "ask",
        source,
    })?;
    for (sequence, refusal) in answers {
        if refusal.is(Errno::ENODEV) || refusal.is(Errno::ENOENT) {
            continue;
        }
        let position = usize::try_from(sequence).unwrap_or_default().checked_sub(1);
        let request = match position.and_then(|position| names.get(position)) {
            Some(name) => format!("mark device {name} for deletion"),
            None => format!("delete {}", names.join(", ")),
        };
        return Err(Error::Refused { request, refusal });
    }
    Ok(())
}

/// Sends requests 1 to `last`, and returns the refusals when all are answered.
fn converse(socket: &mut netlink_sys::Socket, datagram: &[u8], last: u32) -> io::Result<Vec<(u32, Refusal)>> {
    // An answer that an earlier conversation left behind bears a number of its own, and would be mistaken for ours.
    let mut buffer = vec![0; ANSWER];
    while socket
        .recv(&mut buffer.as_mut_slice(), nix::libc::MSG_DONTWAIT)
        .is_ok()
    {}
    socket.send(datagram, 0)?;
    let mut refusals = Vec::new();
    let mut answered = 0;
    while answered < last {
        let length = match socket.recv(&mut buffer.as_mut_slice(), 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        for message in split(buffer.get(..length).unwrap_or_default()) {
            if let Some(verdict) = netlink::verdict(&message) {
                answered += 1;
                refusals.extend(
                    verdict
                        .err()
                        .map(|refusal| (message.header.sequence_number, refusal)),
                );
            }
        }
    }
    Ok(refusals)
}
