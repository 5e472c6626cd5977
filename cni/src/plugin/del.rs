//! DEL: the agent unwires the pod, and it succeeds whatever is or is not there.
//!
//! The pod's namespace may be gone and is never looked at. Where the agent cannot be told, the pod's host-side
//! device is deleted here, so that the address is unreachable, and the DEL waits on disk for the agent.

use super::{
    agent::{AgentError, Conversation, DEL_PATIENCE},
    configuration::Configuration,
    environment::Environment,
};
use crate::{
    netlink::{Netlink, NetlinkError, link},
    pending::Queue,
    protocol::{AttachmentId, DelRequest, Failure, Verb, code},
    veth,
};

/// Serves the call.
pub(super) fn del(environment: &Environment, configuration: &Configuration) -> Result<(), Failure> {
    let request = DelRequest {
        id: environment.attachment()?,
        network: configuration.network()?.to_owned(),
    };
    let id = request.id.clone();
    match tell_or_queue(environment, configuration, request)? {
        Told::Done => Ok(()),
        Told::Queued => Ok(cut_off(&id)?),
    }
}

/// What became of a DEL.
pub(super) enum Told {
    /// The agent did it.
    Done,
    /// The agent will.
    Queued,
}

/// Tells the agent, or has it told later.
pub(super) fn tell_or_queue(
    environment: &Environment,
    configuration: &Configuration,
    request: DelRequest,
) -> Result<Told, Failure> {
    let error = match tell(environment, configuration, request.clone()) {
        Ok(()) => return Ok(Told::Done),
        Err(error @ (AgentError::Away { .. } | AgentError::Silent { .. })) => error,
        Err(error) => return Err(error.into()),
    };
    let queue = Queue::new(environment.state_directory());
    match queue.push(&request) {
        Ok(()) => Ok(Told::Queued),
        Err(reason) => Err(Failure::new(code::TRY_AGAIN, error.to_string()).because(format!(
            "and the DEL cannot be queued in {}: {reason}",
            queue.directory().display()
        ))),
    }
}

fn tell(
    environment: &Environment,
    configuration: &Configuration,
    request: DelRequest,
) -> Result<(), AgentError> {
    let mut conversation = Conversation::open(&environment.socket(configuration.socket()?))?;
    conversation.send(Verb::Del(request))?;
    conversation.reply(DEL_PATIENCE).map(drop)
}

/// Deletes the device that bears the attachment's label, and with it the routes to the pod.
fn cut_off(id: &AttachmentId) -> Result<(), NetlinkError> {
    let mut host = Netlink::open()?;
    let label = veth::label(id);
    for link in link::list(&mut host)? {
        if link.alias == label {
            link::delete(&mut host, &link)?;
        }
    }
    Ok(())
}
