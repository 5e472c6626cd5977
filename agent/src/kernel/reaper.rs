//! Deletes devices in batches.
//!
//! A deletion waits for the kernel (an RCU grace period, about 20 ms) while it holds the sender up. So the devices are
//! put into a group of their own and the group is deleted by one message, all in one datagram, from a thread that may
//! block. What is to be deleted later is collected for a moment first, and while a batch is under way.

use std::{
    collections::BTreeSet,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use nix::{errno::Errno, libc::MSG_DONTWAIT};
use tokio::{sync::Notify, task::spawn_blocking};

use super::{
    codec,
    netlink::{self, append, split},
    types::{Error, Refusal},
};

/// The group that devices to delete are put into. Nobody else uses a number like this by chance ("rtl" and 1).
const GROUP: u32 = 0x7274_6c01;

/// Devices a batch: the kernel deletes a batch under one lock, and others wait for that.
const BATCH: usize = 128;

/// How long devices are collected.
const COLLECT: Duration = Duration::from_millis(50);

/// Room for an answer.
const ANSWER: usize = 32 << 10;

/// Owns a blocking socket, opened in the namespace of the thread that started the kernel side, and a task for what is
/// deleted later. The task ends with the last handle.
#[derive(Debug)]
pub(super) struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: Mutex<netlink_sys::Socket>,
    later: Mutex<BTreeSet<u32>>,
    wake: Notify,
}

impl Reaper {
    pub(super) fn start() -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            socket: Mutex::new(netlink::open_blocking()?),
            later: Mutex::default(),
            wake: Notify::new(),
        });
        tokio::spawn(reap(Arc::downgrade(&shared)));
        Ok(Reaper { shared })
    }

    /// Deletes devices, and waits until they are gone. One that does not exist is fine.
    pub(super) async fn delete(&self, indices: BTreeSet<u32>) -> Result<(), Error> {
        self.shared.clone().delete(indices).await
    }

    /// Deletes a device a moment later.
    pub(super) fn delete_later(&self, index: u32) {
        lock(&self.shared.later).insert(index);
        self.shared.wake.notify_one();
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.shared.wake.notify_one();
    }
}

impl Shared {
    async fn delete(self: Arc<Self>, indices: BTreeSet<u32>) -> Result<(), Error> {
        let indices: Vec<u32> = indices.into_iter().collect();
        let delete = move || {
            let mut socket = lock(&self.socket);
            indices
                .chunks(BATCH)
                .try_for_each(|batch| delete_batch(&mut socket, batch))
        };
        spawn_blocking(delete).await.map_err(|_| Error::Stopped)?
    }
}

/// Deletes what is to be deleted later, until the handle is gone and nothing is left.
async fn reap(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let indices = mem::take(&mut *lock(&shared.later));
        if !indices.is_empty() {
            if let Err(error) = shared.clone().delete(indices).await {
                tracing::warn!(%error, "devices stay");
            }
        } else if Arc::strong_count(&shared) == 1 {
            return;
        } else {
            shared.wake.notified().await;
            tokio::time::sleep(COLLECT).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn delete_batch(socket: &mut netlink_sys::Socket, indices: &[u32]) -> Result<(), Error> {
    let marks = indices.iter().map(|index| codec::set_group(*index, GROUP));
    let mut datagram = Vec::new();
    let mut last = 0;
    for (flags, message) in marks.chain([codec::delete_group(GROUP)]) {
        last += 1;
        append(&mut datagram, last, flags, message);
    }
    let refusals = converse(socket, &datagram, last).map_err(|source| Error::Socket {
        action: "ask",
        source,
    })?;
    for (sequence, refusal) in refusals {
        if refusal.is(Errno::ENODEV) {
            continue;
        }
        let position = usize::try_from(sequence).unwrap_or_default().checked_sub(1);
        let request = match position.and_then(|position| indices.get(position)) {
            Some(index) => format!("mark device {index} for deletion"),
            None => format!("delete devices {indices:?}"),
        };
        return Err(Error::Refused { request, refusal });
    }
    Ok(())
}

/// Sends requests 1 to `last`, and returns the refusals when all are answered.
fn converse(socket: &mut netlink_sys::Socket, datagram: &[u8], last: u32) -> io::Result<Vec<(u32, Refusal)>> {
    // Answers that a conversation cut short left behind would be mistaken for ours.
    let mut buffer = vec![0; ANSWER];
    while socket.recv(&mut buffer.as_mut_slice(), MSG_DONTWAIT).is_ok() {}
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
