//! One speaker against a peer that is played byte by byte: what it answers, and that nothing a peer sends hurts it.

#![allow(clippy::unwrap_used)] // A test may.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgp::types::HoldTime;
use bgp::wire::{
    AsPath, Attributes, Capability, CeaseSubcode, ErrorCode, Frame, FsmSubcode, GracefulRestart,
    HeaderSubcode, Message, Negotiated, NextHop, Notification, Open, OpenSubcode, Origin, RefreshSubtype,
    RouteRefresh, SessionType, Update,
};
use bgp::{
    Asn, ConnId, Family, LocalRoute, Output, PeerConfig, PeerStatus, RouterId, SessionState, SpeakerConfig,
    SpeakerCore,
};
use bytes::BytesMut;
use ipnet::IpNet;
use proptest::prelude::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SECOND: Duration = Duration::from_secs(1);

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A speaker whose one peer is the test.
struct Script {
    core: SpeakerCore,
    now: Instant,
    conn: ConnId,
    /// What the speaker has sent on each connection and nobody has looked at.
    received: BTreeMap<ConnId, BytesMut>,
    closed: BTreeSet<ConnId>,
    /// Whether what the speaker sends is ever written.
    writes: bool,
}

impl Script {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut PeerConfig)) -> Self {
        let mut config = config();
        change(config.peers.get_mut(&PEER).unwrap());
        Self::start(config)
    }

    /// A speaker that waits for the peer, which has just connected.
    fn start(config: SpeakerConfig) -> Self {
        let now = Instant::now();
        let ours = BTreeMap::from([(prefix("10.1.0.0/26"), LocalRoute::default())]);
        let mut core = SpeakerCore::new(config, ours, 1, now).unwrap();
        let conn = core
            .handle_incoming(SocketAddr::new(PEER, 40000), SocketAddr::new(OURS, 179), now)
            .unwrap();
        Self {
            core,
            now,
            conn,
            received: BTreeMap::new(),
            closed: BTreeSet::new(),
            writes: true,
        }
    }

    /// A second connection of the same peer takes the place of the first in this script.
    fn reconnect(&mut self) -> bool {
        let ends = (SocketAddr::new(PEER, 40001), SocketAddr::new(OURS, 179));
        let conn = self.core.handle_incoming(ends.0, ends.1, self.now);
        self.collect();
        self.conn = conn.unwrap_or(self.conn);
        conn.is_some()
    }

    fn send_bytes(&mut self, bytes: &[u8]) {
        self.core.handle_received(self.conn, bytes, self.now);
    }

    fn send(&mut self, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode(&full(), &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            self.received
                .entry(transmit.conn)
                .or_default()
                .extend_from_slice(&transmit.bytes);
            if self.writes {
                self.core.handle_written(transmit.conn, self.now);
            }
        }
        while let Some(output) = self.core.poll_output() {
            if let Output::Close { conn, last } = output {
                self.received.entry(conn).or_default().extend_from_slice(&last);
                self.closed.insert(conn);
            }
        }
    }

    fn is_closed(&mut self) -> bool {
        self.collect();
        self.closed.contains(&self.conn)
    }

    /// Every message the speaker has sent since the last call.
    fn messages(&mut self) -> Vec<Message> {
        self.collect();
        let received = self.received.entry(self.conn).or_default();
        let mut messages = Vec::new();
        while let Some(frame) = Frame::take(received, 4096).unwrap() {
            messages.push(Message::decode(&frame, &full()).unwrap());
        }
        messages
    }

    /// The NOTIFICATION that ended the connection.
    fn refusal(&mut self) -> Notification {
        let messages = self.messages();
        assert!(self.is_closed(), "still open: {messages:?}");
        match messages.last() {
            Some(Message::Notification(notification)) => notification.clone(),
            _ => panic!("no NOTIFICATION: {messages:?}"),
        }
    }

    fn status(&self) -> PeerStatus {
        self.core.status(self.now).peers.remove(0)
    }

    fn establish(&mut self) {
        self.send(&Message::Open(open()));
        self.send(&Message::Keepalive);
        assert_eq!(self.status().state, SessionState::Established);
        self.messages();
    }
}

/// A speaker with one peer, which connects.
fn config() -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(64512), RouterId(Ipv4Addr::new(10, 0, 0, 1)));
    let peer = PeerConfig {
        passive: true,
        ..PeerConfig::new("script", Asn(64513))
    };
    config.peers.insert(PEER, peer);
    config
}

/// What the sessions here come to.
fn full() -> Negotiated {
    Negotiated {
        four_octet_as: true,
        families: [Family::IPV4_UNICAST, Family::IPV6_UNICAST].into(),
        ..Negotiated::plain(SessionType::Ebgp)
    }
}

fn open() -> Open {
    Open {
        asn: Asn(64513),
        hold_time: HoldTime::DEFAULT,
        router_id: RouterId(Ipv4Addr::new(10, 0, 0, 2)),
        capabilities: vec![
            Capability::Multiprotocol(Family::IPV4_UNICAST),
            Capability::Multiprotocol(Family::IPV6_UNICAST),
            Capability::RouteRefresh,
            Capability::GracefulRestart(GracefulRestart::default()),
            Capability::FourOctetAs(Asn(64513)),
        ],
    }
}

fn announce(text: &str) -> Message {
    let attributes = Attributes {
        origin: Origin::Igp,
        as_path: AsPath::from_sequence([Asn(64513)]),
        ..Attributes::default()
    };
    let nlri = vec![prefix(text).into()];
    Message::Update(Update::announce(
        Family::IPV4_UNICAST,
        NextHop::from(PEER),
        attributes,
        nlri,
    ))
}

#[test]
fn the_open_says_who_we_are() {
    let mut script = Script::new();
    let messages = script.messages();
    let [Message::Open(open)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    assert_eq!((open.asn, open.hold_time.seconds()), (Asn(64512), 90));
    let restart = open.graceful_restart().unwrap();
    assert_eq!(
        (restart.restarting, restart.restart_time, restart.families.len()),
        (false, 120, 2)
    );
    assert!(restart.families.iter().all(|family| family.forwarding_preserved));
    assert!(open.has(&Capability::RouteRefresh) && open.has(&Capability::FourOctetAs(Asn(64512))));
}

#[test]
fn errors_are_answered_with_their_code() {
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        (
            "marker",
            vec![0; 19],
            ErrorCode::MessageHeader(HeaderSubcode::ConnectionNotSynchronized),
        ),
        (
            "length",
            header(5, 1),
            ErrorCode::MessageHeader(HeaderSubcode::BadMessageLength),
        ),
        (
            "type",
            header(19, 9),
            ErrorCode::MessageHeader(HeaderSubcode::BadMessageType),
        ),
        (
            "early KEEPALIVE",
            header(19, 4),
            ErrorCode::FiniteStateMachine(FsmSubcode::UnexpectedInOpenSent),
        ),
    ];
    for (name, bytes, expected) in cases {
        let mut script = Script::new();
        script.send_bytes(&bytes);
        assert_eq!(script.refusal().error, expected, "{name}");
    }
}

fn header(length: u16, kind: u8) -> Vec<u8> {
    let mut bytes = vec![0xFF; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes
}

#[test]
fn opens_that_do_not_fit_are_refused_with_their_code() {
    let hold_time_of_two = {
        let mut bytes = BytesMut::new();
        Message::Open(open()).encode(&full(), &mut bytes).unwrap();
        bytes[22..24].copy_from_slice(&2_u16.to_be_bytes());
        bytes.to_vec()
    };
    let mut script = Script::new();
    script.send_bytes(&hold_time_of_two);
    assert_eq!(
        script.refusal().error,
        ErrorCode::OpenMessage(OpenSubcode::UnacceptableHoldTime)
    );

    let other_as = Open {
        asn: Asn(64999),
        capabilities: vec![],
        ..open()
    };
    let no_id = Open {
        router_id: RouterId::from(0),
        ..open()
    };
    let no_family = Open {
        capabilities: vec![
            Capability::Multiprotocol(Family { afi: 25, safi: 70 }),
            Capability::FourOctetAs(Asn(64513)),
        ],
        ..open()
    };
    let cases = [
        (other_as, OpenSubcode::BadPeerAs),
        (no_id, OpenSubcode::BadBgpIdentifier),
        (no_family, OpenSubcode::UnsupportedCapability),
    ];
    for (open, subcode) in cases {
        let mut script = Script::new();
        script.send(&Message::Open(open));
        assert_eq!(script.refusal().error, ErrorCode::OpenMessage(subcode));
        // Held back for a while: it would only do the same again.
        assert!(!script.reconnect());
        script.wait(31 * SECOND);
        assert!(script.reconnect());
    }
}

#[test]
fn messages_out_of_turn_are_refused_with_the_state() {
    let cases = [
        (vec![announce("10.9.0.0/24")], FsmSubcode::UnexpectedInOpenSent),
        (
            vec![Message::Open(open()), announce("10.9.0.0/24")],
            FsmSubcode::UnexpectedInOpenConfirm,
        ),
        (
            vec![Message::Open(open()), Message::Open(open())],
            FsmSubcode::UnexpectedInOpenConfirm,
        ),
        (
            vec![Message::Open(open()), Message::Keepalive, Message::Open(open())],
            FsmSubcode::UnexpectedInEstablished,
        ),
    ];
    for (messages, subcode) in cases {
        let mut script = Script::new();
        messages.iter().for_each(|message| script.send(message));
        assert_eq!(script.refusal().error, ErrorCode::FiniteStateMachine(subcode));
    }
}

#[test]
fn a_peer_that_connects_and_says_nothing_is_dropped() {
    let mut script = Script::new();
    script.wait(61 * SECOND);
    assert_eq!(script.refusal().error, ErrorCode::HoldTimerExpired);
}

#[test]
fn the_smaller_hold_time_counts_and_zero_means_none() {
    let mut script = Script::new();
    script.send(&Message::Open(Open {
        hold_time: HoldTime::new(9).unwrap(),
        ..open()
    }));
    script.send(&Message::Keepalive);
    assert_eq!(script.status().session.unwrap().hold_time, 9);
    script.wait(8 * SECOND);
    assert!(!script.is_closed());
    script.wait(2 * SECOND);
    assert_eq!(script.refusal().error, ErrorCode::HoldTimerExpired);

    let mut script = Script::new();
    script.send(&Message::Open(Open {
        hold_time: HoldTime::DISABLED,
        ..open()
    }));
    script.send(&Message::Keepalive);
    script.messages();
    script.wait(3600 * SECOND);
    assert_eq!(script.messages(), [], "neither keepalives nor an end");
    assert_eq!(script.status().state, SessionState::Established);
}

#[test]
fn a_malformed_attribute_withdraws_the_route_and_is_counted_and_the_session_stays() {
    let mut script = Script::new();
    script.establish();
    script.send(&announce("10.9.0.0/24"));
    assert_eq!(script.status().counters.prefixes_in, 1);
    let mut bytes = BytesMut::new();
    announce("10.9.0.0/24").encode(&full(), &mut bytes).unwrap();
    // ORIGIN is the first attribute: flags, type, length, value.
    assert_eq!(bytes[23..27], [0x40, 1, 1, 0]);
    bytes[26] = 77;
    script.send_bytes(&bytes);
    let status = script.status();
    assert_eq!(status.state, SessionState::Established);
    assert_eq!(
        (status.counters.prefixes_in, status.counters.treated_as_withdrawn),
        (0, 1)
    );
}

#[test]
fn a_route_refresh_is_answered_with_everything() {
    let mut script = Script::new();
    script.establish();
    script.wait(SECOND);
    script.messages();
    let subtype = RefreshSubtype::Request;
    script.send(&Message::RouteRefresh(RouteRefresh {
        family: Family::IPV4_UNICAST,
        subtype,
    }));
    let messages = script.messages();
    let [Message::Update(update)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    assert_eq!(update.reach[0].nlri, [prefix("10.1.0.0/26").into()]);
}

#[test]
fn end_of_rib_follows_the_routes() {
    let mut script = Script::new();
    script.send(&Message::Open(open()));
    script.send(&Message::Keepalive);
    let updates: Vec<Update> = script
        .messages()
        .into_iter()
        .filter_map(|message| match message {
            Message::Update(update) => Some(update),
            _ => None,
        })
        .collect();
    assert_eq!(updates.len(), 3, "{updates:?}");
    assert_eq!(updates[0].reach[0].nlri, [prefix("10.1.0.0/26").into()]);
    let ends: Vec<_> = updates.iter().map(|update| update.end_of_rib).collect();
    assert_eq!(
        ends,
        [None, Some(Family::IPV4_UNICAST), Some(Family::IPV6_UNICAST)]
    );
}

#[test]
fn a_restarting_speaker_says_so_until_its_peers_have_told_it_everything() {
    let mut script = Script::start(SpeakerConfig {
        restarting: true,
        ..config()
    });
    let restarting = |messages: &[Message]| match messages {
        [Message::Open(open), ..] => open.graceful_restart().unwrap().restarting,
        other => panic!("{other:?}"),
    };
    assert!(restarting(&script.messages()));
    script.send(&Message::Open(open()));
    script.send(&Message::Keepalive);
    let ends = |messages: Vec<Message>| {
        let end = |message: &Message| matches!(message, Message::Update(u) if u.end_of_rib.is_some());
        messages.iter().filter(|message| end(message)).count()
    };
    assert_eq!(
        ends(script.messages()),
        0,
        "the peer would drop what we have not learned again yet"
    );
    script.send(&Message::Update(Update::end_of_rib(Family::IPV4_UNICAST)));
    assert_eq!(ends(script.messages()), 0);
    script.send(&Message::Update(Update::end_of_rib(Family::IPV6_UNICAST)));
    assert_eq!(ends(script.messages()), 2);
    assert!(script.core.is_converged());

    script.core.handle_closed(script.conn, "reset", script.now);
    let ends_of_connection = (SocketAddr::new(PEER, 40001), SocketAddr::new(OURS, 179));
    script.conn = script
        .core
        .handle_incoming(ends_of_connection.0, ends_of_connection.1, script.now)
        .unwrap();
    assert!(!restarting(&script.messages()));
}

#[test]
fn a_peer_that_takes_no_byte_for_eight_minutes_is_given_up_however_much_it_says() {
    let mut script = Script::new();
    script.establish();
    script.writes = false;
    script.wait(31 * SECOND);
    for _ in 0..15 {
        script.send(&Message::Keepalive);
        assert!(!script.is_closed());
        script.wait(30 * SECOND);
    }
    script.send(&Message::Keepalive);
    script.wait(60 * SECOND);
    assert_eq!(script.refusal().error, ErrorCode::SendHoldTimerExpired);
}

#[test]
fn a_second_connection_does_not_take_a_session_that_is_not_graceful() {
    let mut script = Script::with(|peer| peer.graceful_restart = false);
    script.establish();
    script.wait(20 * SECOND);
    let first = script.conn;
    assert!(script.reconnect());
    script.send(&Message::Open(open()));
    assert_eq!(
        script.refusal().error,
        ErrorCode::Cease(CeaseSubcode::ConnectionCollisionResolution)
    );
    script.conn = first;
    assert_eq!(script.status().state, SessionState::Established);
    assert_eq!(
        script.messages(),
        [Message::Keepalive],
        "which finds out whether the old one is dead"
    );
}

#[test]
fn only_the_newest_unfinished_connection_of_a_peer_is_kept() {
    let mut script = Script::new();
    for _ in 0..10 {
        let before = script.conn;
        assert!(script.reconnect());
        script.core.handle_received(before, &[0; 19], script.now);
        script.collect();
        assert!(!script.is_closed(), "bytes of the old one are nobody's");
    }
    script.establish();
}

#[test]
fn strangers_are_turned_away_and_counted() {
    let mut script = Script::new();
    let stranger = SocketAddr::from(([10, 9, 9, 9], 40000));
    for _ in 0..3 {
        assert_eq!(
            script
                .core
                .handle_incoming(stranger, SocketAddr::new(OURS, 179), script.now),
            None
        );
    }
    assert_eq!(script.core.status(script.now).refused_connections, 3);
}

#[test]
fn a_peer_written_as_ipv6_is_the_same_peer() {
    let mut script = Script::new();
    let IpAddr::V4(v4) = PEER else { unreachable!() };
    let mapped = SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), 40000);
    assert!(
        script
            .core
            .handle_incoming(mapped, SocketAddr::new(OURS, 179), script.now)
            .is_some()
    );
}

/// What a peer may do to us.
#[derive(Debug, Clone)]
enum Step {
    Message(Message),
    Bytes(Vec<u8>),
    /// A well-formed message with some octets changed.
    Broken(Message, Vec<(usize, u8)>),
    Wait(u64),
    Disconnect,
    Reconnect,
}

fn any_message() -> impl Strategy<Value = Message> {
    let subtype = RefreshSubtype::Request;
    prop_oneof![
        Just(Message::Open(open())),
        Just(Message::Keepalive),
        (0..4_u8).prop_map(|n| announce(&format!("10.9.{n}.0/24"))),
        (0..4_u8).prop_map(|n| {
            let nlri = vec![prefix(&format!("10.9.{n}.0/24")).into()];
            Message::Update(Update::withdraw(Family::IPV4_UNICAST, nlri))
        }),
        Just(Message::Update(Update::end_of_rib(Family::IPV6_UNICAST))),
        Just(Message::RouteRefresh(RouteRefresh {
            family: Family::IPV4_UNICAST,
            subtype
        })),
        Just(Message::Notification(Notification::cease(
            CeaseSubcode::AdministrativeReset
        ))),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_message().prop_map(Step::Message),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Step::Bytes),
        2 => (any_message(), prop::collection::vec((19..80_usize, any::<u8>()), 1..4))
            .prop_map(|(message, changes)| Step::Broken(message, changes)),
        1 => (0..200_u64).prop_map(Step::Wait),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Reconnect),
    ]
}

proptest! {
    /// Whatever comes, in whatever order: no panic, the tables agree with each other, and a good peer is still
    /// welcome afterwards.
    #[test]
    fn nothing_a_peer_does_breaks_the_speaker(establish in any::<bool>(), steps in prop::collection::vec(any_step(), 0..40)) {
        let mut script = Script::new();
        if establish {
            script.establish();
        }
        for step in steps {
            match step {
                Step::Message(message) => script.send(&message),
                Step::Bytes(bytes) => script.send_bytes(&bytes),
                Step::Broken(message, changes) => {
                    let mut bytes = BytesMut::new();
                    message.encode(&full(), &mut bytes).unwrap();
                    for (at, value) in changes {
                        if let Some(octet) = bytes.get_mut(at) {
                            *octet = value;
                        }
                    }
                    script.send_bytes(&bytes);
                }
                Step::Wait(seconds) => script.wait(Duration::from_secs(seconds)),
                Step::Disconnect => script.core.handle_closed(script.conn, "reset", script.now),
                Step::Reconnect => {
                    script.reconnect();
                }
            }
            script.collect();
            script.received.clear();
            let counters = script.status().counters;
            prop_assert!(counters.prefixes_usable <= counters.prefixes_in);
        }
        script.core.handle_closed(script.conn, "reset", script.now);
        script.wait(700 * SECOND);
        prop_assert_eq!(script.status().counters.prefixes_in, 0);
        prop_assert_eq!(script.core.status(script.now).destinations, 1);
        prop_assert!(script.reconnect());
        script.establish();
    }
}
