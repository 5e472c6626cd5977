//! The CNI socket: what the plugin asks and what the agent answers.
//!
//! One connection carries one request and one reply. Each is a frame: a 4-octet big-endian length, then that many
//! octets of JSON. A frame is at most [`MAX_FRAME`] octets; a longer one is refused before it is read. The agent
//! answers a request whose `version` it does not know with [`code::INCOMPATIBLE_VERSION`].
//!
//! The plugin does what needs the pod's namespace, the agent what needs the cluster: see [`Request`].

use std::{
    io::{self, Read, Write},
    net::IpAddr,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of this protocol.
pub const VERSION: u32 = 1;

/// Largest frame, in octets.
pub const MAX_FRAME: u32 = 1 << 20;

/// Error codes of the CNI specification, 1.1.0, section "Error", and our own from 100.
pub mod code {
    /// Incompatible CNI version.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// Unsupported field in the network configuration.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// Container unknown or does not exist.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// Invalid environment variables.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// I/O failure.
    pub const IO_FAILURE: u32 = 5;
    /// Content that does not decode.
    pub const DECODING_FAILURE: u32 = 6;
    /// Invalid network configuration.
    pub const INVALID_CONFIG: u32 = 7;
    /// Try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: the plugin cannot serve ADD.
    pub const NOT_AVAILABLE: u32 = 50;
    /// No address is left for the pod.
    pub const EXHAUSTED: u32 = 100;
    /// The kernel refused a part of the pod's wiring.
    pub const KERNEL: u32 = 101;
    /// A bug: please report it.
    pub const INTERNAL: u32 = 102;
    /// CHECK: the attachment is not what ADD made of it.
    pub const CHECK_FAILED: u32 = 103;
}

/// What the plugin asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What to do.
    pub verb: Verb,
}

/// What the agent is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "UPPERCASE")]
pub enum Verb {
    /// Assign addresses, record the attachment, and expect a device called `host_device`. Answered by
    /// [`Success::Add`] once that is durable. Repeating it gives the same addresses.
    Add(AddRequest),
    /// Make the pod's addresses unreachable, remove its host-side device and release its addresses. Answered by
    /// [`Success::Done`], also where there is nothing to do.
    Del(DelRequest),
    /// Can the agent serve ADD?
    Status,
}

/// An interface of a container: the identity of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

/// An attachment to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddRequest {
    /// Which.
    pub id: AttachmentId,
    /// `name` of the network configuration; the first part of the IPAM handle.
    pub network: String,
    /// The pod, where `CNI_ARGS` names one (`K8S_POD_NAMESPACE`, `K8S_POD_NAME`, `K8S_POD_UID`).
    pub pod: Option<PodRef>,
    /// Device in the host's namespace that the plugin makes.
    pub host_device: String,
    /// Families wanted.
    pub assign: Families,
    /// `ipam.ipv4_pools`: CIDRs or names of pools; empty means any.
    #[serde(default)]
    pub ipv4_pools: Vec<String>,
    /// `ipam.ipv6_pools`.
    #[serde(default)]
    pub ipv6_pools: Vec<String>,
}

/// Address families wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Families {
    /// IPv4 (`ipam.assign_ipv4`, default true).
    pub ipv4: bool,
    /// IPv6 (`ipam.assign_ipv6`, default false).
    pub ipv6: bool,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; empty where the runtime does not say.
    #[serde(default)]
    pub uid: String,
}

/// An attachment to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelRequest {
    /// Which.
    pub id: AttachmentId,
    /// `name` of the network configuration: with the container it is the IPAM handle, so that an address is released
    /// even where the agent has no record of the attachment.
    pub network: String,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Ok(Success),
    /// Not done, and nothing is left behind.
    Error(Failure),
}

/// A request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Success {
    /// Answer to [`Verb::Add`].
    Add(AddReply),
    /// Answer to every other verb.
    Done,
}

/// What the plugin is to set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddReply {
    /// The pod's addresses, IPv4 before IPv6; each is a /32 or /128 of its own.
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends, unless the network configuration gives one.
    pub mtu: u32,
    /// Protocol number (`rtm_protocol`) that the host-side routes must bear for the agent to own them.
    pub route_protocol: u8,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}", if self.details.is_empty() { String::new() } else { format!(": {}", self.details) })]
pub struct Failure {
    /// One of [`code`].
    pub code: u32,
    /// `msg` of the CNI error: what went wrong.
    pub message: String,
    /// `details` of the CNI error: why, and how to mend it.
    #[serde(default)]
    pub details: String,
}

impl Failure {
    /// A failure with no details.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// The same failure, explained further.
    #[must_use]
    pub fn because(mut self, details: impl std::fmt::Display) -> Self {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(&details.to_string());
        self
    }
}

/// Writes one frame.
///
/// # Errors
/// `InvalidData` where the value does not encode or is longer than [`MAX_FRAME`]; whatever the writer says.
pub fn write_frame<T: Serialize>(writer: &mut impl Write, value: &T) -> io::Result<()> {
    let frame = encode_frame(value)?;
    writer.write_all(&frame)
}

/// A frame as octets: length, then JSON.
///
/// # Errors
/// `InvalidData` where the value does not encode or is longer than [`MAX_FRAME`].
pub fn encode_frame<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = u32::try_from(frame.len() - 4)
        .ok()
        .filter(|length| *length <= MAX_FRAME)
        .ok_or_else(too_long)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Reads one frame.
///
/// # Errors
/// `InvalidData` where the frame is longer than [`MAX_FRAME`] or is not what is expected; whatever the reader says.
pub fn read_frame<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_FRAME {
        return Err(too_long());
    }
    let mut body = Vec::new();
    reader.take(u64::from(length)).read_to_end(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn too_long() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("frame longer than {MAX_FRAME} octets"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            version: VERSION,
            verb: Verb::Del(DelRequest {
                id: AttachmentId {
                    container_id: "4f2d".into(),
                    ifname: "eth0".into(),
                },
                network: "pods".into(),
            }),
        }
    }

    /// What is on the wire is an interface: an agent and a plugin of different builds meet on it.
    #[test]
    fn frame_is_a_length_and_json() {
        let frame = encode_frame(&request()).unwrap();
        let (length, body) = frame.split_at(4);
        assert_eq!(length, (body.len() as u32).to_be_bytes());
        let expected = r#"{"version":1,"verb":{"verb":"DEL","id":{"container_id":"4f2d","ifname":"eth0"},"network":"pods"}}"#;
        assert_eq!(std::str::from_utf8(body).unwrap(), expected);
        assert_eq!(read_frame::<Request>(&mut frame.as_slice()).unwrap(), request());
    }

    #[test]
    fn frames_that_are_too_long_or_cut_short_are_refused() {
        let too_long = (MAX_FRAME + 1).to_be_bytes();
        let error = read_frame::<Request>(&mut too_long.as_slice()).unwrap_err();
        assert!(error.to_string().contains("longer than 1048576"), "{error}");
        let frame = encode_frame(&request()).unwrap();
        for length in 0..frame.len() {
            let error = read_frame::<Request>(&mut &frame[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} octets");
        }
        let long = Failure::new(code::INTERNAL, "a".repeat(MAX_FRAME as usize));
        assert!(encode_frame(&long).is_err());
    }
}
