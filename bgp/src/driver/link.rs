//! One connection: a task that reads, a task that writes, and an end that is bounded in time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::socket;
use crate::fsm::ConnId;
use crate::speaker::ConnectRequest;

/// How much is read at once.
const READ: usize = 16 * 1024;
/// How long last words may take.
const LINGER: Duration = Duration::from_secs(1);

/// What happens on a connection.
#[derive(Debug)]
pub(super) enum LinkEvent {
    Connected(ConnId, TcpStream),
    Received(ConnId, Bytes),
    Written(ConnId),
    Closed(ConnId, String),
}

/// A connection, open or being opened. Dropping it closes at once.
#[derive(Debug)]
pub(super) enum Link {
    Connecting {
        _attempt: Aborted,
    },
    Open {
        reader: Aborted,
        writer: Aborted,
        bytes: mpsc::Sender<Bytes>,
    },
}

/// A task that ends with its handle.
#[derive(Debug)]
pub(super) struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Opens a connection; [`LinkEvent::Connected`] or [`LinkEvent::Closed`] follows.
    pub(super) fn connect(conn: ConnId, request: ConnectRequest, events: mpsc::Sender<LinkEvent>) -> Self {
        let task = tokio::spawn(async move {
            let remote = request.remote;
            let event = match socket::connect(request).await {
                Ok(stream) => LinkEvent::Connected(conn, stream),
                Err(error) => LinkEvent::Closed(conn, format!("cannot connect to {remote}: {error}")),
            };
            // Nobody to tell means that the speaker is gone.
            let _ = events.send(event).await;
        });
        Self::Connecting {
            _attempt: Aborted(task),
        }
    }

    /// Reads from and writes to an open connection.
    pub(super) fn open(conn: ConnId, stream: TcpStream, events: mpsc::Sender<LinkEvent>) -> Self {
        let (read, write) = stream.into_split();
        // One write under way, one waiting: the core gives no more, and last words come once.
        let (bytes, queue) = mpsc::channel(2);
        let reader = tokio::spawn(read_all(conn, read, events.clone()));
        let writer = tokio::spawn(write_all(conn, write, queue, events));
        Self::Open {
            reader: Aborted(reader),
            writer: Aborted(writer),
            bytes,
        }
    }

    /// Passes bytes to the writer.
    pub(super) fn send(&self, data: Bytes) {
        if let Self::Open { bytes, .. } = self
            && bytes.try_send(data).is_err()
        {
            // The writer is gone, and has said so.
            tracing::debug!("bytes for a connection that is gone");
        }
    }

    /// Closes, with last words if there are any.
    pub(super) fn close(self, last: Bytes, closing: &mut JoinSet<()>) {
        let Self::Open {
            mut reader,
            mut writer,
            bytes,
        } = self
        else {
            return;
        };
        if last.is_empty() || bytes.try_send(last).is_err() {
            return;
        }
        drop(bytes);
        closing.spawn(async move {
            let finish = async {
                let _ = (&mut writer.0).await;
                // Bytes of the peer that nobody reads would turn the end into a reset, which may overtake the
                // last words; so read on until the peer closes too.
                let _ = (&mut reader.0).await;
            };
            let _ = tokio::time::timeout(LINGER, finish).await;
        });
    }
}

async fn read_all(conn: ConnId, mut socket: OwnedReadHalf, events: mpsc::Sender<LinkEvent>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        let event = match socket.read_buf(&mut buffer).await {
            Ok(0) => LinkEvent::Closed(conn, "closed by the peer".to_owned()),
            Ok(_) => LinkEvent::Received(conn, buffer.split().freeze()),
            Err(error) => LinkEvent::Closed(conn, error.to_string()),
        };
        let last = matches!(event, LinkEvent::Closed(..));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

async fn write_all(
    conn: ConnId,
    mut socket: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Bytes>,
    events: mpsc::Sender<LinkEvent>,
) {
    while let Some(bytes) = queue.recv().await {
        if let Err(error) = socket.write_all(&bytes).await {
            // The reader sees the same end, after the peer's last words; whether it spoke or just went away
            // decides about its routes. This is for the case that it does not.
            tokio::time::sleep(LINGER).await;
            let _ = events.send(LinkEvent::Closed(conn, error.to_string())).await;
            return;
        }
        if events.send(LinkEvent::Written(conn)).await.is_err() {
            return;
        }
    }
    let _ = socket.shutdown().await;
}
