//! TCP MD5 signatures (RFC 2385), by which both ends of a session prove that they know its password.
//!
//! The kernel does the work. A socket is told with `TCP_MD5SIG` (tcp(7), `struct tcp_md5sig` of linux/tcp.h) which key
//! goes with which remote address. From then on it signs what it sends there, and drops, without an answer, what comes
//! from there with a wrong signature or without one; a socket without a key drops what is signed. So where the ends
//! do not agree nothing is refused: connecting just takes too long.
//!
//! A listener has a key for each peer with a password ([`Keys`]). What it accepts inherits the key, which is how
//! [`adopt`] tells a connection that was made under a password from one that slipped in before there was one. A key
//! must be there before the first packet: set before `connect` and before `listen`.
//!
//! This is the one file of the crate with `unsafe` in it: neither the standard library nor socket2 knows the option.

use std::collections::BTreeMap;
use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::password::Password;

/// Which peers have a password.
pub(super) type Passwords = BTreeMap<IpAddr, Password>;

/// `struct tcp_md5sig`: a `struct sockaddr_storage` of 128 octets, and what follows it.
#[repr(C, align(8))]
struct TcpMd5Sig {
    family: u16,
    /// Any port: the key is the address's.
    port: u16,
    /// The rest of the `sockaddr`: the address itself begins at octet 0 for IPv4; for IPv6 at octet 4, after the flow.
    address: [u8; 124],
    flags: u8,
    prefix_length: u8,
    /// 0 takes the key away.
    key_length: u16,
    interface: i32,
    key: [u8; Password::MAX],
}

const _: () = assert!(size_of::<TcpMd5Sig>() == 128 + 8 + Password::MAX);

impl TcpMd5Sig {
    fn new(remote: IpAddr, key: &[u8]) -> Self {
        let mut option = Self {
            family: 0,
            port: 0,
            address: [0; 124],
            flags: 0,
            prefix_length: 0,
            key_length: 0,
            interface: 0,
            key: [0; Password::MAX],
        };
        match remote {
            IpAddr::V4(address) => {
                option.family = libc::AF_INET as u16;
                fill(&mut option.address, &address.octets());
            }
            IpAddr::V6(address) => {
                option.family = libc::AF_INET6 as u16;
                fill(&mut option.address[4..], &address.octets());
            }
        }
        option.key_length = fill(&mut option.key, key);
        option
    }
}

/// Copies as much as there is room for; says how much.
fn fill(into: &mut [u8], from: &[u8]) -> u16 {
    let copied = into.iter_mut().zip(from);
    copied.fold(0, |count, (into, from)| {
        *into = *from;
        count + 1
    })
}

/// Signs all between the socket and `remote` with this password.
pub(super) fn set(socket: &impl AsFd, remote: IpAddr, password: &Password) -> io::Result<()> {
    set_option(socket, &TcpMd5Sig::new(remote, password.octets())).map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(libc::ENOPROTOOPT) => "; this kernel has no TCP MD5 signatures (CONFIG_TCP_MD5SIG)",
            Some(libc::ENOMEM | libc::ENOBUFS) => "; raise the sysctl net.core.optmem_max",
            _ => "",
        };
        io::Error::new(
            error.kind(),
            format!("cannot set the session's password: {error}{hint}"),
        )
    })
}

/// Signs no more. Whether there was a key.
fn clear(socket: &impl AsFd, remote: IpAddr) -> bool {
    set_option(socket, &TcpMd5Sig::new(remote, &[])).is_ok()
}

/// Sees to it that an accepted connection was made under the password that is in force, if there is one, and under
/// none if there is none.
pub(super) fn adopt(socket: &impl AsFd, remote: IpAddr, password: Option<&Password>) -> io::Result<()> {
    match (clear(socket, remote), password) {
        (true, Some(password)) => set(socket, remote, password),
        (false, None) => Ok(()),
        (true, None) => Err(io::Error::other(
            "it was made under a password that is no longer there",
        )),
        (false, Some(_)) => Err(io::Error::other("it was made without the password")),
    }
}

#[allow(unsafe_code)]
fn set_option(socket: &impl AsFd, option: &TcpMd5Sig) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed. The pointer and the length are those of one
    // initialised `repr(C)` value without padding, which outlives the call; the kernel copies it and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            std::ptr::from_ref(option).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The keys of one listener.
#[derive(Debug, Default)]
pub(super) struct Keys {
    in_force: Passwords,
    /// Why the kernel did not take the others.
    failed: BTreeMap<IpAddr, String>,
}

impl Keys {
    /// Makes these the keys of the listener, as far as its family goes; what stays the same is not touched. A key that
    /// the kernel does not take is noted, and tried again the next time.
    pub(super) fn sync(&mut self, socket: &impl AsFd, ipv6: bool, wanted: &Passwords) {
        let gone = |peer: &IpAddr| !wanted.contains_key(peer);
        self.failed.retain(|peer, _| !gone(peer));
        self.in_force.retain(|peer, _| {
            let gone = gone(peer);
            if gone {
                clear(socket, *peer);
            }
            !gone
        });
        for (peer, password) in wanted.iter().filter(|(peer, _)| peer.is_ipv6() == ipv6) {
            if self.in_force.get(peer) == Some(password) {
                continue;
            }
            match set(socket, *peer, password) {
                Ok(()) => {
                    self.failed.remove(peer);
                    self.in_force.insert(*peer, password.clone());
                }
                Err(error) => {
                    // Better no key than yesterday's.
                    if self.in_force.remove(peer).is_some() {
                        clear(socket, *peer);
                    }
                    let error = error.to_string();
                    if self.failed.get(peer) != Some(&error) {
                        tracing::warn!(%peer, %error, "the peer cannot connect");
                    }
                    self.failed.insert(*peer, error);
                }
            }
        }
    }

    /// Why peers cannot connect.
    pub(super) fn failed(&self) -> &BTreeMap<IpAddr, String> {
        &self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(offset_of!(TcpMd5Sig, address), 4);
        assert_eq!(offset_of!(TcpMd5Sig, prefix_length), 129);
        assert_eq!(offset_of!(TcpMd5Sig, key_length), 130);
        assert_eq!(offset_of!(TcpMd5Sig, key), 136);
        let option = TcpMd5Sig::new("2001:db8::7".parse().unwrap(), b"abc");
        assert_eq!(
            (option.address[4], option.address[19], option.key_length),
            (0x20, 7, 3)
        );
        let option = TcpMd5Sig::new("192.0.2.7".parse().unwrap(), b"");
        assert_eq!(
            (option.address[0], option.address[3], option.key_length),
            (192, 7, 0)
        );
    }

    #[tokio::test]
    async fn a_connection_is_adopted_only_as_it_was_made() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = address.ip();
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let password = Password::new("secret").unwrap();
        let error = adopt(&stream, peer, Some(&password)).unwrap_err();
        assert!(error.to_string().contains("without the password"), "{error}");
        adopt(&stream, peer, None).unwrap();
        set(&stream, peer, &password).unwrap();
        adopt(&stream, peer, Some(&password)).unwrap();
        assert!(adopt(&stream, peer, None).is_err());
    }
}
