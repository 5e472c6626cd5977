//! Sessions with passwords (RFC 2385), between speakers of ours on loopback: a hub that waits and speakers that
//! connect to it, each at an address of its own. BIRD has its say in `bird.rs`.

#![allow(clippy::unwrap_used)] // A test may.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgp::{Asn, Password, PeerConfig, PeerStatus, RouteFeed, RouterId, SessionState, Speaker, SpeakerConfig};

/// How long anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(40);

/// An address of the loopback network that no other test uses.
fn own_address() -> Ipv4Addr {
    use std::sync::atomic::{AtomicU8, Ordering};
    static LAST: AtomicU8 = AtomicU8::new(1);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    Ipv4Addr::new(127, high | 1, low, LAST.fetch_add(1, Ordering::Relaxed))
}

fn password(text: &str) -> Option<Password> {
    (!text.is_empty()).then(|| Password::new(text).unwrap())
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(seen) = check().await else { return };
        assert!(
            Instant::now() < deadline,
            "{what}: not within {PATIENCE:?}; seen:\n{seen}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A running speaker and its configuration.
struct Node {
    speaker: Speaker,
    config: SpeakerConfig,
    _feed: RouteFeed,
}

impl Node {
    async fn start(config: SpeakerConfig) -> Node {
        let (speaker, _feed) = Speaker::start(config.clone(), BTreeMap::new()).await.unwrap();
        Node {
            speaker,
            config,
            _feed,
        }
    }

    fn address(&self) -> Ipv4Addr {
        self.config.router_id.0
    }

    async fn set_password(&mut self, peer: Ipv4Addr, text: &str) {
        self.config.peers.get_mut(&peer.into()).unwrap().password = password(text);
        self.speaker.configure(self.config.clone()).await.unwrap();
    }

    async fn peer(&self, peer: Ipv4Addr) -> PeerStatus {
        let status = self.speaker.status().await;
        status.peers.into_iter().find(|p| p.address == peer).unwrap()
    }

    /// Where it listens, once it does.
    async fn listens(&self) -> SocketAddr {
        let mut address = None;
        eventually("listener", async || {
            let status = self.speaker.status().await;
            let listener = status.listeners.first().map(|listener| listener.address);
            address = listener.filter(|address| address.port() != 0);
            address.map(|_| ()).ok_or_else(|| format!("{status:#?}"))
        })
        .await;
        address.unwrap()
    }
}

/// A hub, and for each pair of passwords (the hub's, its own; none where empty) a speaker that connects to it.
async fn star(passwords: &[(&str, &str)]) -> (Node, Vec<Node>) {
    let own = own_address();
    let mut config = SpeakerConfig::new(Asn(64512), RouterId(own));
    config.listen = vec![SocketAddr::new(own.into(), 0)];
    let addresses: Vec<Ipv4Addr> = passwords.iter().map(|_| own_address()).collect();
    for (address, (hubs, _)) in addresses.iter().zip(passwords) {
        let mut peer = PeerConfig::new(format!("from-{address}"), Asn(64513));
        peer.passive = true;
        peer.password = password(hubs);
        config.peers.insert((*address).into(), peer);
    }
    let hub = Node::start(config).await;
    let port = hub.listens().await.port();
    let mut others = Vec::new();
    for (address, (_, own_password)) in addresses.iter().zip(passwords) {
        let mut config = SpeakerConfig::new(Asn(64513), RouterId(*address));
        let mut peer = PeerConfig::new("hub", Asn(64512));
        peer.source = Some((*address).into());
        peer.port = port;
        peer.password = password(own_password);
        config.peers.insert(own.into(), peer);
        others.push(Node::start(config).await);
    }
    (hub, others)
}

/// Waits until both ends say that the session is up.
async fn until_up(hub: &Node, other: &Node) {
    eventually("session", async || {
        let ends = [hub.peer(other.address()).await, other.peer(hub.address()).await];
        let up = ends.iter().all(|end| end.state == SessionState::Established);
        up.then_some(()).ok_or_else(|| format!("{ends:#?}"))
    })
    .await;
}

#[tokio::test]
async fn a_session_needs_the_same_password_at_both_ends() {
    let pairs = [
        ("right", "right"),
        ("right", "wrong"),
        ("right", ""),
        ("", "right"),
    ];
    let (hub, mut others) = star(&pairs).await;
    until_up(&hub, &others[0]).await;
    for (other, (_, own)) in others.iter().zip(&pairs).skip(1) {
        let hint = if own.is_empty() {
            "or expects a password"
        } else {
            "or expects another password, or none"
        };
        eventually("no answer", async || {
            let peer = other.peer(hub.address()).await;
            let said = peer
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains("no answer") && error.contains(hint));
            said.then_some(()).ok_or_else(|| format!("{peer:#?}"))
        })
        .await;
        for end in [hub.peer(other.address()).await, other.peer(hub.address()).await] {
            assert!(end.session.is_none(), "{end:#?}");
            assert_eq!((end.counters.messages_in, end.counters.flaps), (0, 0), "{end:#?}");
        }
    }
    for (other, (hubs, _)) in others.iter_mut().zip(&pairs) {
        other.set_password(hub.address(), hubs).await;
        until_up(&hub, other).await;
    }
    assert_eq!(hub.peer(others[0].address()).await.counters.flaps, 0);
}

#[tokio::test]
async fn a_new_password_resets_that_session_alone() {
    let (mut hub, mut others) = star(&[("first", "first"), ("second", "second"), ("", "")]).await;
    for other in &others {
        until_up(&hub, other).await;
    }
    let listens = hub.listens().await;
    // Another one; longer than any; none; one again.
    let longest = "x".repeat(Password::MAX);
    for (resets, text) in (1..).zip(["third", &longest, "", "fourth"]) {
        hub.set_password(others[0].address(), text).await;
        let address = hub.address();
        others[0].set_password(address, text).await;
        until_up(&hub, &others[0]).await;
        assert_eq!(
            hub.peer(others[0].address()).await.counters.flaps,
            resets,
            "{text}"
        );
    }
    for other in &others[1..] {
        until_up(&hub, other).await;
        assert_eq!(hub.peer(other.address()).await.counters.flaps, 0);
        assert_eq!(other.peer(hub.address()).await.counters.flaps, 0);
    }
    assert_eq!(hub.listens().await, listens, "the listener is the one it was");
}

/// The hub's listener is not there yet when the password is set.
#[tokio::test]
async fn a_listener_that_comes_later_knows_the_passwords() {
    let (mut hub, mut others) = star(&[("first", "first")]).await;
    until_up(&hub, &others[0]).await;
    let taken = tokio::net::TcpListener::bind((hub.address(), 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    hub.config.listen = vec![address];
    hub.set_password(others[0].address(), "second").await;
    drop(taken);
    let hubs = hub.address();
    others[0].config.peers.get_mut(&hubs.into()).unwrap().port = address.port();
    others[0].set_password(hubs, "second").await;
    until_up(&hub, &others[0]).await;
}
