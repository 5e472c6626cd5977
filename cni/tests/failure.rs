//! ADD is all or nothing: whatever step fails, nothing is left, the agent is told, and the error is the first one.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests fail")]

mod lab;

use std::{fs, os::unix::net::UnixListener};

use cni::{
    pending::Queue,
    protocol::{AddReply, DelRequest, Failure, Reply, Success, Verb, code},
};
use lab::{Agent, Call, HOST_V4, Host, PROTOCOL, Pod, add_reply, eventually};

/// An agent that answers an ADD so and agrees to every DEL.
fn agent(host: &Host, reply: Option<Reply>) -> Agent {
    host.agent_that(move |request| match request.verb {
        Verb::Add(_) => reply.clone(),
        _ => Some(Reply::Ok(Success::Done)),
    })
}

fn reply(addresses: &[&str], mtu: u32) -> Option<Reply> {
    Some(Reply::Ok(Success::Add(AddReply {
        addresses: addresses.iter().map(|each| each.parse().unwrap()).collect(),
        mtu,
        route_protocol: PROTOCOL,
    })))
}

/// No device, no route, no interface.
fn assert_nothing_left(host: &Host, pod: &Pod) {
    assert_eq!(host.devices(), [""; 0]);
    assert_eq!(host.namespace.routes(), [""; 0]);
    assert_eq!(pod.namespace.links(), ["lo"]);
    assert_eq!(host.pending(), []);
}

#[test]
fn no_addresses_no_link() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let exhausted = Failure::new(code::EXHAUSTED, "no address is left").because("pool default is full");
    let agent = agent(&host, Some(Reply::Error(exhausted)));
    let error = Call::new("ADD", &host, &pod).fails(100, "no address is left");
    assert_eq!(error["details"], "pool default is full");
    assert_eq!(agent.removed(), [], "the agent that says no holds nothing");
    assert_nothing_left(&host, &pod);
}

#[test]
fn each_failing_step_is_undone() {
    let table: &[(&str, Option<Reply>, u32, &str)] = &[
        ("agent hangs up", None, 11, "did not answer: it hung up"),
        (
            "agent answers another question",
            Some(Reply::Ok(Success::Done)),
            102,
            "answered something else",
        ),
        (
            "agent gives nothing",
            reply(&[], 1400),
            102,
            "gave the pod no address",
        ),
        (
            "agent gives nonsense",
            reply(&["0.0.0.0"], 1400),
            102,
            "gave the pod 0.0.0.0",
        ),
        (
            "host side",
            reply(&["10.65.0.7"], 70_000),
            101,
            "up with MTU 70000",
        ),
        ("host side, IPv6", reply(&["fd65::7"], 1000), 101, "cannot"),
    ];
    let host = Host::new();
    for (step, reply, code, message) in table {
        let pod = Pod::new("nginx", "c1");
        let agent = agent(&host, reply.clone());
        Call::new("ADD", &host, &pod).fails(*code, message);
        assert_eq!(
            agent.removed(),
            [pod.id()],
            "{step}: the agent may hold addresses"
        );
        assert_nothing_left(&host, &pod);
    }
}

/// Somebody takes hold of the pod's end while the agent works: the host's side is set up, the pod's is not.
#[test]
fn failing_pod_side_is_undone() {
    let harm: &[(&str, &str, &str)] = &[
        ("10.65.0.7", "link set eth0 name eth9", "the pod's eth0 vanished"),
        (
            "fd65::7",
            "link set eth0 name eth9",
            "cannot set /proc/sys/net/ipv6/conf/eth0/disable_ipv6 to 0",
        ),
        ("10.65.0.7", "link del eth0", "No such device"),
    ];
    let host = Host::new();
    for (address, command, message) in harm {
        let pod = Pod::new("nginx", "c1");
        let (reply, inside) = (add_reply(&[address]), pod.namespace.alias());
        let agent = host.agent_that(move |request| match request.verb {
            Verb::Add(_) => {
                eventually("eth0", || inside.links(), |links| links.contains(&"eth0".into()));
                inside.ip(command);
                Some(reply.clone())
            }
            _ => Some(Reply::Ok(Success::Done)),
        });
        Call::new("ADD", &host, &pod).fails(101, message);
        assert_eq!(agent.removed(), [pod.id()]);
        assert_nothing_left(&host, &pod);
    }
}

#[test]
fn interface_that_is_there_already_is_left_alone() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    pod.namespace.ip("link add eth0 type veth peer name eth1");
    let agent = host.agent(&["10.65.0.7"]);
    Call::new("ADD", &host, &pod).fails(101, "eth0: File exists");
    assert_eq!(agent.removed(), [pod.id()]);
    assert_eq!(host.devices(), [""; 0]);
    assert_eq!(pod.namespace.links(), ["lo", "eth1", "eth0"]);
}

/// The agent goes away between its yes and the DEL that takes it back: the DEL waits on disk.
#[test]
fn undoing_without_agent_is_queued() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let _agent = host.agent_that(|request| match request.verb {
        Verb::Add(_) => add_reply(&["0.0.0.0"]).into(),
        _ => None,
    });
    Call::new("ADD", &host, &pod).fails(102, "gave the pod 0.0.0.0");
    let waiting = DelRequest {
        id: pod.id(),
        network: "pods".into(),
    };
    assert_eq!(host.pending(), [waiting]);
    assert_eq!(host.devices(), [""; 0]);
}

/// A repeat that fails is no reason to take a working pod's network away.
#[test]
fn failing_repeat_keeps_the_first() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let first = host.agent(&["10.65.0.7"]);
    let result = Call::new("ADD", &host, &pod).result();
    drop(first);

    for (reply, code) in [
        (
            Some(Reply::Error(Failure::new(code::EXHAUSTED, "no address is left"))),
            100,
        ),
        (None, 11),
        (reply(&["10.65.0.7"], 70_000), 101),
    ] {
        let agent = agent(&host, reply);
        Call::new("ADD", &host, &pod).fails(code, "");
        assert_eq!(agent.removed(), []);
        pod.namespace.ping(HOST_V4);
    }
    let _agent = host.agent(&["10.65.0.7"]);
    assert_eq!(Call::new("ADD", &host, &pod).result(), result);
}

#[test]
fn missing_agent_is_tried_again_later() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let socket = host.socket();
    let message = format!(
        "the routelet agent does not answer at {}: No such file",
        socket.display()
    );
    let error = Call::new("ADD", &host, &pod).fails(11, &message);
    assert!(
        error["msg"]
            .as_str()
            .unwrap()
            .ends_with("is the DaemonSet pod running?")
    );

    // A socket of an agent that was killed.
    drop(UnixListener::bind(&socket).unwrap());
    Call::new("ADD", &host, &pod).fails(11, "Connection refused");
    assert_nothing_left(&host, &pod);
}

/// An agent that is stopped: its backlog fills, and nobody accepts.
#[test]
fn agent_that_does_not_accept_is_tried_again_later() {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
    };
    use std::os::fd::AsRawFd;

    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let stream = |flags| socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    let listener = stream(SockFlag::SOCK_CLOEXEC);
    let address = UnixAddr::new(&host.socket()).unwrap();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = stream(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK);
        match connect(client.as_raw_fd(), &address) {
            Ok(()) => waiting.push(client),
            Err(error) => break assert_eq!(error, nix::errno::Errno::EAGAIN),
        }
    }
    Call::new("ADD", &host, &pod).fails(11, "timed out");
    assert_nothing_left(&host, &pod);
}

#[test]
fn bad_namespaces_are_refused_before_the_agent_is_asked() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let agent = host.agent(&["10.65.0.7"]);
    let file = host.socket().with_extension("txt");
    fs::write(&file, "").unwrap();
    for (path, message) in [
        (
            "/run/netns/no-such-pod",
            "CNI_NETNS /run/netns/no-such-pod: No such file",
        ),
        (file.to_str().unwrap(), "is not a network namespace"),
        (&host.namespace.path(), "is the host's own network namespace"),
        ("", "CNI_NETNS is not set"),
    ] {
        Call::new("ADD", &host, &pod)
            .set("CNI_NETNS", path)
            .fails(4, message);
    }
    assert_eq!(agent.heard(), []);
}

/// The file is a directory, which cannot be unlinked.
#[test]
fn waiting_del_that_cannot_be_taken_back_stops_the_add() {
    let (host, pod) = (Host::new(), Pod::new("nginx", "c1"));
    let agent = host.agent(&["10.65.0.7"]);
    let queue = Queue::new(&host.state());
    let file = queue.directory().join("c1@eth0.json");
    fs::create_dir_all(&file).unwrap();
    Call::new("ADD", &host, &pod).fails(5, "cannot take back a DEL");
    assert_eq!(agent.heard(), []);
    fs::remove_dir(&file).unwrap();
    Call::new("ADD", &host, &pod).result();
}
