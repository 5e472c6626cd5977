//! What goes wrong, as the plugin's user will read it.

use std::io;

use cni::protocol::{AttachmentId, Failure, code};

use super::bounded::is_away;

/// A request that is not one.
pub(super) fn decoding(error: &io::Error) -> Failure {
    failure(
        code::DECODING_FAILURE,
        "the agent cannot read the request",
        error.to_string(),
    )
}

/// A bug.
pub(super) fn internal(details: &str) -> Failure {
    failure(
        code::INTERNAL,
        "a bug in the agent; its log has more",
        details.to_string(),
    )
}

/// The record cannot be written.
pub(super) fn record(error: &io::Error) -> Failure {
    let details = format!("{error}; the state directory must be writable and have room");
    failure(
        code::IO_FAILURE,
        "the agent cannot record the attachment",
        details,
    )
}

/// IPAM gave no address.
pub(super) fn ipam(error: &ipam::Error) -> Failure {
    match error {
        ipam::Error::Exhausted { .. } => failure(
            code::EXHAUSTED,
            "no address is left for the pod",
            error.to_string(),
        ),
        ipam::Error::Invalid { .. } => failure(
            code::INVALID_CONFIG,
            "the addresses asked for cannot be given",
            error.to_string(),
        ),
        away if is_away(away) => failure(
            code::TRY_AGAIN,
            "the datastore is away: addresses are assigned and released when it is back",
            error.to_string(),
        ),
        _ => failure(
            code::TRY_AGAIN,
            "addresses cannot be assigned or released right now",
            error.to_string(),
        ),
    }
}

/// The kernel refused.
pub(super) fn kernel(error: &crate::kernel::Error) -> Failure {
    failure(code::KERNEL, "the kernel refused a change", error.to_string())
}

/// Container and interface make a file's name, so they must be what the CNI specification allows.
pub(super) fn check_id(id: &AttachmentId) -> Result<(), Failure> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let container = &id.container_id;
    let sound = container.starts_with(|c: char| c.is_ascii_alphanumeric()) && container.chars().all(word);
    if !sound || container.len() > 200 {
        let details = format!(
            "\"{container}\": a letter or digit, then letters, digits, '_', '.' and '-', at most 200"
        );
        return Err(failure(
            code::INVALID_ENVIRONMENT,
            "invalid container id",
            details,
        ));
    }
    let ifname = &id.ifname;
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if ifname.is_empty() || ifname.len() > 15 || ifname == "." || ifname == ".." || ifname.contains(forbidden)
    {
        let details = format!("\"{ifname}\": 1 to 15 octets without '/', ':' and white space");
        return Err(failure(
            code::INVALID_ENVIRONMENT,
            "invalid interface name",
            details,
        ));
    }
    Ok(())
}

fn failure(code: u32, message: &str, details: String) -> Failure {
    Failure {
        code,
        message: message.to_string(),
        details,
    }
}
