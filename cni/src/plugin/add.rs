//! ADD: wires a pod.
//!
//! The agent is asked first and answered last: while it makes the addresses durable, the veth pair is made. Then
//! the host's end is set up, so that the pod's end has a carrier, then the pod's end.
//!
//! It is all or nothing. What this call made is undone when a later step fails: the link is deleted and the agent
//! is told DEL, or, where it cannot be told, the DEL is queued. What an earlier ADD of the same attachment made is
//! not: a repeat that fails leaves the pod as it was. Identity is the link's label; a device of the pod's name
//! with another label, or none, or one the agent has condemned (a group other than 0), is a leftover and replaced.

use std::net::IpAddr;

use serde_json::Value;

use super::{
    agent::{ADD_PATIENCE, AgentError, Conversation},
    answer::{self, Attachment},
    configuration::{Configuration, Settings},
    del,
    environment::Environment,
    namespace::Namespaces,
    sysctl,
    wiring::{self, HostSide, PodSide},
};
use crate::{
    netlink::{
        Netlink,
        link::{self, Link},
    },
    pending::Queue,
    protocol::{AddReply, AddRequest, AttachmentId, DelRequest, Failure, Families, Success, Verb, code},
    veth,
};

/// Serves the call.
pub(super) fn add(environment: &Environment, configuration: &Configuration) -> Result<Value, Failure> {
    let settings = configuration.settings()?;
    let id = environment.attachment()?;
    let request = request(environment, configuration, &settings, &id)?;
    let sandbox = environment.netns()?;
    let namespaces = Namespaces::open(sandbox)?;
    let mut addition = Addition {
        host: Netlink::open()?,
        pod: namespaces.in_pod(Netlink::open)??,
        namespaces: &namespaces,
        settings: &settings,
        device: request.host_device.clone(),
        label: veth::label(&id),
        made: None,
        id,
    };
    take_back(environment, &addition.id)?;
    let mut conversation = Conversation::open(&environment.socket(configuration.socket()?))?;
    let outcome = addition.converse(&mut conversation, request);
    match outcome {
        Ok((reply, pod)) => Ok(answer::result(
            configuration.version,
            &Attachment {
                mtu: addition.mtu(&reply),
                host_device: addition.device,
                ifname: addition.id.ifname,
                pod_mac: pod.mac,
                sandbox: sandbox.to_string_lossy().into_owned(),
                addresses: reply.addresses,
                dns: settings.dns,
            },
        )),
        Err(failed) => Err(addition.undo(environment, configuration, failed)),
    }
}

fn request(
    environment: &Environment,
    configuration: &Configuration,
    settings: &Settings,
    id: &AttachmentId,
) -> Result<AddRequest, Failure> {
    let pod = environment.pod()?;
    let host_device = match &pod {
        // A pod's second interface needs a device of its own; no pod's name holds a slash.
        Some(pod) if id.ifname == "eth0" => veth::host_device(&pod.namespace, &pod.name),
        Some(pod) => veth::host_device(&pod.namespace, &format!("{}/{}", pod.name, id.ifname)),
        None => veth::host_device(&id.container_id, &id.ifname),
    };
    Ok(AddRequest {
        id: id.clone(),
        network: configuration.network()?.to_owned(),
        pod,
        host_device,
        assign: settings.assign,
        ipv4_pools: settings.ipv4_pools.clone(),
        ipv6_pools: settings.ipv6_pools.clone(),
    })
}

/// A DEL of the same attachment that still waits on disk would take away what this ADD makes.
fn take_back(environment: &Environment, id: &AttachmentId) -> Result<(), Failure> {
    let queue = Queue::new(environment.state_directory());
    queue.forget(id).map_err(|error| {
        Failure::new(
            code::IO_FAILURE,
            "cannot take back a DEL that waits for the agent",
        )
        .because(format!("{}: {error}", queue.directory().display()))
    })
}

/// An ADD that failed, and whether the agent may hold addresses for it.
struct Failed {
    failure: Failure,
    agent_may_hold: bool,
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            failure: error.into(),
            agent_may_hold: true,
        }
    }
}

/// An ADD under way.
struct Addition<'a> {
    host: Netlink,
    pod: Netlink,
    namespaces: &'a Namespaces,
    settings: &'a Settings,
    id: AttachmentId,
    device: String,
    label: String,
    /// The host's end, where this call made it.
    made: Option<Link>,
}

impl Addition<'_> {
    /// Everything between the request and the result: the reply, and the pod's end.
    fn converse(
        &mut self,
        conversation: &mut Conversation,
        request: AddRequest,
    ) -> Result<(AddReply, Link), Failed> {
        conversation.send(Verb::Add(request))?;
        let link = self.link().and_then(|link| {
            sysctl::host_side(&self.device, self.settings.assign)?;
            Ok(link)
        });
        let reply = match conversation.reply(ADD_PATIENCE) {
            Ok(Success::Add(reply)) => reply,
            Ok(Success::Done) => return Err(conversation.confused().into()),
            Err(AgentError::Refused(failure)) => {
                return Err(Failed {
                    failure,
                    agent_may_hold: false,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let link = link?;
        let pod = self.wire(&link, &reply)?;
        Ok((reply, pod))
    }

    /// The host's end of the pair: the one an earlier ADD of this attachment made, or a new one.
    fn link(&mut self) -> Result<Link, Failure> {
        let made = self.make();
        let in_the_way = match made {
            Ok(link) => return Ok(link),
            Err(error) if error.code == code::KERNEL => match link::find(&mut self.host, &self.device)? {
                Some(link) => link,
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        if self.is_ours(&in_the_way)? {
            return Ok(in_the_way);
        }
        link::delete(&mut self.host, &in_the_way)?;
        self.make()
    }

    fn make(&mut self) -> Result<Link, Failure> {
        let batch = wiring::pair(&self.device, &self.id.ifname, &self.namespaces.pod());
        let answers = self.host.send(batch)?;
        let link = Link::among(&answers)
            .ok_or_else(|| Failure::new(code::KERNEL, format!("{} vanished as it was made", self.device)))?;
        self.made = Some(link.clone());
        Ok(link)
    }

    /// Was it made for this attachment, is it here to stay, and is its other end in this pod?
    fn is_ours(&mut self, link: &Link) -> Result<bool, Failure> {
        if link.alias != self.label || link.group != 0 {
            return Ok(false);
        }
        let pod = link::find(&mut self.pod, &self.id.ifname)?;
        Ok(pod.is_some_and(|pod| pod.peer == Some(link.index) && link.peer == Some(pod.index)))
    }

    /// Sets both ends up and returns the pod's.
    fn wire(&mut self, link: &Link, reply: &AddReply) -> Result<Link, Failure> {
        let families = families(&reply.addresses)?;
        let asked = self.settings.assign;
        let unprepared = Families {
            ipv4: families.ipv4 && !asked.ipv4,
            ipv6: families.ipv6 && !asked.ipv6,
        };
        if unprepared.ipv4 || unprepared.ipv6 {
            sysctl::host_side(&self.device, unprepared)?;
        }
        let mtu = self.mtu(reply);
        let host_side = HostSide {
            device: &self.device,
            index: link.index,
            label: &self.label,
            mtu,
            addresses: &reply.addresses,
            protocol: reply.route_protocol,
        };
        self.host.send(host_side.batch())?;
        let (ifname, forward) = (&self.id.ifname, self.settings.allow_ip_forwarding);
        self.namespaces
            .in_pod(|| sysctl::pod_side(ifname, families, forward))??;
        let vanished = || Failure::new(code::KERNEL, format!("the pod's {ifname} vanished"));
        let pod_side = PodSide {
            ifname,
            index: link.peer.ok_or_else(vanished)?,
            mtu,
            addresses: &reply.addresses,
        };
        let answers = self.pod.send(pod_side.batch())?;
        Link::among(&answers).ok_or_else(vanished)
    }

    fn mtu(&self, reply: &AddReply) -> u32 {
        self.settings.mtu.unwrap_or(reply.mtu)
    }

    /// Takes back what this call made, and returns why it failed, with what could not be taken back.
    fn undo(&mut self, environment: &Environment, configuration: &Configuration, failed: Failed) -> Failure {
        let Some(link) = self.made.take() else {
            return self.undo_nothing(environment, configuration, failed);
        };
        let mut failure = failed.failure;
        if let Err(error) = link::delete(&mut self.host, &link) {
            failure = failure.because(format!("and the link stays behind: {error}"));
        }
        if failed.agent_may_hold {
            failure = self.retract(environment, configuration, failure);
        }
        failure
    }

    /// No link was made. Either an earlier ADD's stands, and is left alone, or none could be made.
    fn undo_nothing(
        &mut self,
        environment: &Environment,
        configuration: &Configuration,
        failed: Failed,
    ) -> Failure {
        let earlier = link::find(&mut self.host, &self.device)
            .ok()
            .flatten()
            .is_some_and(|link| link.alias == self.label);
        if earlier || !failed.agent_may_hold {
            return failed.failure;
        }
        self.retract(environment, configuration, failed.failure)
    }

    /// Tells the agent DEL, now or later.
    fn retract(&self, environment: &Environment, configuration: &Configuration, failure: Failure) -> Failure {
        let request = DelRequest {
            id: self.id.clone(),
            network: configuration.network().unwrap_or_default().to_owned(),
        };
        match del::tell_or_queue(environment, configuration, request) {
            Ok(_) => failure,
            Err(error) => failure.because(format!("and the addresses could not be given back: {error}")),
        }
    }
}

/// Families of the addresses; an agent that gives none, or one no pod can have, is confused.
fn families(addresses: &[IpAddr]) -> Result<Families, Failure> {
    let bad = |address: &&IpAddr| address.is_unspecified() || address.is_loopback() || address.is_multicast();
    if let Some(address) = addresses.iter().find(bad) {
        let message = format!("the routelet agent gave the pod {address}, which no pod can have");
        return Err(Failure::new(code::INTERNAL, message));
    }
    if addresses.is_empty() {
        return Err(Failure::new(
            code::INTERNAL,
            "the routelet agent gave the pod no address",
        ));
    }
    Ok(Families {
        ipv4: addresses.iter().any(IpAddr::is_ipv4),
        ipv6: addresses.iter().any(IpAddr::is_ipv6),
    })
}
