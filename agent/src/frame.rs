//! The framing of both sockets ([`cni::protocol`]), for tokio streams.

use std::{io, time::Duration};

use cni::protocol::{MAX_FRAME, encode_frame};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// How long a client may take to send its request, and to take its reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads one frame.
///
/// # Errors
/// `InvalidData` where the frame is too long or is not what is expected, `TimedOut` where it does not come.
pub async fn read<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    timeout(PATIENCE, async {
        let length = stream.read_u32().await?;
        if length > MAX_FRAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of {length} octets"),
            ));
        }
        // Grows with what really arrives: a client that only claims a length costs nothing.
        let mut body = Vec::new();
        let read = AsyncReadExt::take(&mut *stream, u64::from(length))
            .read_to_end(&mut body)
            .await?;
        if read < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&body)?)
    })
    .await?
}

/// Writes one frame.
///
/// # Errors
/// `InvalidData` where the value is too long, `TimedOut` where the client does not take it.
pub async fn write<T: Serialize>(stream: &mut UnixStream, value: &T) -> io::Result<()> {
    let frame = encode_frame(value)?;
    timeout(PATIENCE, stream.write_all(&frame)).await?
}
