//! Network layer reachability information: prefixes, as UPDATE lists them (RFC 4271 section 4.3, RFC 4760 section 5),
//! with path identifiers where ADD-PATH was negotiated (RFC 7911).
//!
//! Bits past the prefix length have no meaning and are cleared. A length past the address is an error, and what
//! follows it cannot be found (RFC 7606 section 5.3).

use std::fmt;

use bytes::{BufMut, BytesMut};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::cursor::Cursor;
use crate::types::Family;

/// A prefix, and which of the peer's paths to it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// The prefix, without host bits.
    pub prefix: IpNet,
    /// The path identifier; 0 where ADD-PATH was not negotiated.
    pub path_id: u32,
}

impl Nlri {
    /// A prefix as it is without ADD-PATH. Host bits are cleared.
    pub fn new(prefix: IpNet) -> Self {
        Self {
            prefix: prefix.trunc(),
            path_id: 0,
        }
    }

    /// One of several paths to a prefix. Host bits are cleared.
    pub fn with_path_id(prefix: IpNet, path_id: u32) -> Self {
        Self {
            prefix: prefix.trunc(),
            path_id,
        }
    }

    /// The family it belongs to.
    pub fn family(&self) -> Family {
        Family::of(&self.prefix)
    }
}

impl From<IpNet> for Nlri {
    fn from(prefix: IpNet) -> Self {
        Self::new(prefix)
    }
}

impl From<Ipv4Net> for Nlri {
    fn from(prefix: Ipv4Net) -> Self {
        Self::new(prefix.into())
    }
}

impl From<Ipv6Net> for Nlri {
    fn from(prefix: Ipv6Net) -> Self {
        Self::new(prefix.into())
    }
}

impl fmt::Display for Nlri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)?;
        if self.path_id != 0 {
            write!(f, " path {}", self.path_id)?;
        }
        Ok(())
    }
}

/// Why a list of prefixes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NlriError {
    /// The prefix is longer than an address of its family.
    #[error("prefix length {0} exceeds the address")]
    PrefixTooLong(u8),
    /// The list ends within a prefix.
    #[error("the list ends within a prefix")]
    Truncated,
}

/// Reads prefixes of one unicast family until the bytes run out.
pub(super) fn decode(bytes: &[u8], family: Family, add_path: bool) -> Result<Vec<Nlri>, NlriError> {
    let mut cursor = Cursor::new(bytes);
    let mut list = Vec::new();
    while !cursor.is_empty() {
        list.push(decode_one(&mut cursor, family, add_path)?);
    }
    Ok(list)
}

fn decode_one(cursor: &mut Cursor<'_>, family: Family, add_path: bool) -> Result<Nlri, NlriError> {
    let path_id = if add_path {
        cursor.u32().ok_or(NlriError::Truncated)?
    } else {
        0
    };
    let length = cursor.u8().ok_or(NlriError::Truncated)?;
    let too_long = NlriError::PrefixTooLong(length);
    let prefix = if family.afi == Family::AFI_IPV6 {
        let octets = address_octets::<16>(cursor, length, too_long)?;
        IpNet::V6(Ipv6Net::new(octets.into(), length).map_err(|_| too_long)?)
    } else {
        let octets = address_octets::<4>(cursor, length, too_long)?;
        IpNet::V4(Ipv4Net::new(octets.into(), length).map_err(|_| too_long)?)
    };
    Ok(Nlri::with_path_id(prefix, path_id))
}

/// The octets a prefix of `length` bits has on the wire, filled up with zeros to a whole address.
fn address_octets<const N: usize>(
    cursor: &mut Cursor<'_>,
    length: u8,
    too_long: NlriError,
) -> Result<[u8; N], NlriError> {
    let mut octets = [0; N];
    let count = usize::from(length).div_ceil(8);
    let target = octets.get_mut(..count).ok_or(too_long)?;
    target.copy_from_slice(cursor.take(count).ok_or(NlriError::Truncated)?);
    Ok(octets)
}

/// Writes one prefix.
pub(super) fn encode(nlri: &Nlri, add_path: bool, out: &mut BytesMut) {
    if add_path {
        out.put_u32(nlri.path_id);
    }
    let length = nlri.prefix.prefix_len();
    let count = usize::from(length).div_ceil(8);
    out.put_u8(length);
    match nlri.prefix.trunc() {
        IpNet::V4(net) => out.extend(net.addr().octets().iter().take(count)),
        IpNet::V6(net) => out.extend(net.addr().octets().iter().take(count)),
    }
}

/// How many octets [`encode`] writes.
pub(super) fn encoded_len(nlri: &Nlri, add_path: bool) -> usize {
    let path_id = if add_path { 4_usize } else { 0 };
    path_id
        .saturating_add(1)
        .saturating_add(usize::from(nlri.prefix.prefix_len()).div_ceil(8))
}
