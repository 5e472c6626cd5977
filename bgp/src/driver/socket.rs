//! Sockets with the options BGP wants: no Nagle, quick reuse of addresses, CS6 (RFC 4594) where it can be had.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::md5::{self, Keys, Passwords};
use crate::password::Password;
use crate::speaker::ConnectRequest;

/// DSCP CS6, network control, as the traffic class octet.
const NETWORK_CONTROL: u32 = 0xC0;
/// Connections the system may hold until they are accepted.
const BACKLOG: i32 = 128;

fn tcp(address: &SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Listens on an address. An IPv6 address takes IPv6 only, so that both wildcards can be listened on. Peers with a
/// password cannot connect without it even at first.
pub(super) fn listen(address: SocketAddr, passwords: &Passwords) -> io::Result<(TcpListener, Keys)> {
    let socket = tcp(&address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    let mut keys = Keys::default();
    keys.sync(&socket, address.is_ipv6(), passwords);
    socket.listen(BACKLOG)?;
    Ok((TcpListener::from_std(socket.into())?, keys))
}

/// Connects to a peer. Takes as long as the system lets it; the caller has the timer.
pub(super) async fn connect(request: ConnectRequest) -> io::Result<TcpStream> {
    let socket = tcp(&request.remote)?;
    if let Some(source) = request.source {
        socket.bind(&SocketAddr::new(source, 0).into()).map_err(|error| {
            io::Error::new(error.kind(), format!("from source address {source}: {error}"))
        })?;
    }
    // Before the handshake, so that they apply to the first packet.
    if let Some(password) = &request.password {
        md5::set(&socket, request.remote.ip(), password)?;
    }
    set_ttl(&SockRef::from(&socket), request.remote.ip(), request.ttl)?;
    mark(&SockRef::from(&socket), request.remote.ip());
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(request.remote)
        .await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Gives an accepted connection the same options. One that was not made under the peer's password is refused.
pub(super) fn adopt(
    stream: &TcpStream,
    remote: IpAddr,
    ttl: Option<u8>,
    password: Option<&Password>,
) -> io::Result<()> {
    md5::adopt(stream, remote, password)?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    mark(&socket, remote);
    set_ttl(&socket, remote, ttl)
}

fn set_ttl(socket: &SockRef<'_>, remote: IpAddr, ttl: Option<u8>) -> io::Result<()> {
    match ttl.map(u32::from) {
        None => Ok(()),
        Some(ttl) if remote.is_ipv4() => socket.set_ttl_v4(ttl),
        Some(ttl) => socket.set_unicast_hops_v6(ttl),
    }
}

/// A session without the mark works as well.
fn mark(socket: &SockRef<'_>, remote: IpAddr) {
    let marked = if remote.is_ipv4() {
        socket.set_tos_v4(NETWORK_CONTROL)
    } else {
        socket.set_tclass_v6(NETWORK_CONTROL)
    };
    if let Err(error) = marked {
        tracing::debug!(%error, "cannot mark packets as network control");
    }
}
