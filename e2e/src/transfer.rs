//! A TCP transfer that goes on while something is done to the network: every octet must arrive, in order.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{net::Netns, wait::wait_for};

/// What is sent at once, and the pause after it: about 3 MB/s, which leaves the processor to others.
const CHUNK: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(5);
/// How long either end waits for the other before the transfer has failed.
const STALL: Duration = Duration::from_secs(30);

/// A transfer under way.
#[derive(Debug)]
pub struct Transfer {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: Option<JoinHandle<Result<u64>>>,
    receiver: Option<JoinHandle<Result<u64>>>,
}

impl Transfer {
    /// Starts to send from one namespace to an address in another, and waits until something has arrived.
    ///
    /// # Errors
    /// The two do not get together.
    pub fn start(from: &Netns, to: &Netns, address: IpAddr) -> Result<Self> {
        let listener = to.within(move || TcpListener::bind((address, 0)))??;
        let target = listener.local_addr()?;
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let receiver = thread::spawn({
            let received = received.clone();
            move || receive(&listener, &received)
        });
        let sender = from.within(move || TcpStream::connect_timeout(&target, STALL))?;
        let sender = sender.with_context(|| format!("cannot connect to {target}"))?;
        let sender = thread::spawn({
            let stop = stop.clone();
            move || send(sender, target, &stop)
        });
        let transfer = Transfer {
            stop,
            received,
            sender: Some(sender),
            receiver: Some(receiver),
        };
        transfer.wait_progress()?;
        Ok(transfer)
    }

    /// Waits until some more has arrived than had when it was called.
    ///
    /// # Errors
    /// It has not, within the limit.
    pub fn wait_progress(&self) -> Result<()> {
        let before = self.received.load(Ordering::Relaxed);
        let wanted = before + 8 * CHUNK as u64;
        wait_for("the transfer to go on", STALL, || {
            let now = self.received.load(Ordering::Relaxed);
            ensure!(now >= wanted, "{} octets more", now - before);
            Ok(())
        })
    }

    /// Ends it in order, and gives back how many octets were sent, all of which have arrived.
    ///
    /// # Errors
    /// The connection broke, something is missing, or what arrived is not what was sent.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = join(self.sender.take()).context("the sender")?;
        let received = join(self.receiver.take()).context("the receiver")?;
        ensure!(
            sent == received,
            "{sent} octets were sent, {received} have arrived"
        );
        Ok(sent)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn join(thread: Option<JoinHandle<Result<u64>>>) -> Result<u64> {
    let thread = thread.context("it has been awaited already")?;
    thread.join().map_err(|_| anyhow!("it panicked"))?
}

/// The octet at a position of the stream: a period that divides no power of two, so that a piece that is missing or
/// comes twice shows.
fn octet(position: u64) -> u8 {
    (position % 251) as u8
}

fn send(mut stream: TcpStream, target: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    stream.set_write_timeout(Some(STALL))?;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let chunk: Vec<u8> = (sent..sent + CHUNK as u64).map(octet).collect();
        stream
            .write_all(&chunk)
            .with_context(|| format!("after {sent} octets to {target}"))?;
        sent += CHUNK as u64;
        thread::sleep(PAUSE);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(sent)
}

fn receive(listener: &TcpListener, received: &AtomicU64) -> Result<u64> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(STALL))?;
    let mut buffer = vec![0; CHUNK];
    let mut position = 0;
    loop {
        let length = stream
            .read(&mut buffer)
            .with_context(|| format!("after {position} octets"))?;
        if length == 0 {
            return Ok(position);
        }
        for found in buffer.iter().take(length) {
            if *found != octet(position) {
                bail!("octet {position} is {found}, not {}", octet(position));
            }
            position += 1;
        }
        received.store(position, Ordering::Relaxed);
    }
}
