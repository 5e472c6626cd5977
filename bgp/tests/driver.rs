//! The speaker with real sockets: two of ours on loopback, each at an address and a port of its own.

#![allow(clippy::unwrap_used)] // A test may.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgp::wire::LargeCommunity;
use bgp::{
    Asn, BestRoute, LocalRoute, PeerConfig, RouteFeed, RouterId, SessionState, Shutdown, Speaker,
    SpeakerConfig, StartError,
};
use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn originate(prefixes: &[&str]) -> BTreeMap<IpNet, LocalRoute> {
    prefixes
        .iter()
        .map(|text| (prefix(text), LocalRoute::default()))
        .collect()
}

/// An address of the loopback network that no other test uses.
fn own_address() -> Ipv4Addr {
    use std::sync::atomic::{AtomicU8, Ordering};
    static LAST: AtomicU8 = AtomicU8::new(1);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    Ipv4Addr::new(127, high | 1, low, LAST.fetch_add(1, Ordering::Relaxed))
}

fn config(own: Ipv4Addr, local_as: u32) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(local_as), RouterId(own));
    config.listen = vec![SocketAddr::new(own.into(), 0)];
    config
}

fn peer(own: Ipv4Addr, remote: SocketAddr, remote_as: u32) -> (IpAddr, PeerConfig) {
    let mut peer = PeerConfig::new(format!("peer-{}", remote.ip()), Asn(remote_as));
    peer.source = Some(own.into());
    peer.port = remote.port();
    (remote.ip(), peer)
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(seen) = check().await else { return };
        assert!(
            Instant::now() < deadline,
            "{what}: not within {PATIENCE:?}; seen:\n{seen}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_state(speaker: &Speaker, wanted: SessionState) {
    eventually(&format!("session {wanted}"), async || {
        let status = speaker.status().await;
        if status.peers[0].state == wanted {
            Ok(())
        } else {
            Err(format!("{status:#?}"))
        }
    })
    .await;
}

async fn listening(speaker: &Speaker) -> SocketAddr {
    let mut address = None;
    eventually("listener", async || {
        let status = speaker.status().await;
        address = status
            .listeners
            .first()
            .map(|l| l.address)
            .filter(|address| address.port() != 0);
        address.map(|_| ()).ok_or_else(|| format!("{status:#?}"))
    })
    .await;
    address.unwrap()
}

/// Takes changes until `wanted`; returns the routes then.
async fn follow(
    feed: &mut RouteFeed,
    wanted: impl Fn(&BTreeMap<IpNet, BestRoute>) -> bool,
) -> BTreeMap<IpNet, BestRoute> {
    let mut routes = BTreeMap::new();
    while !wanted(&routes) {
        let next = tokio::time::timeout(PATIENCE, feed.next()).await;
        let changes = next
            .unwrap_or_else(|_| panic!("no change within {PATIENCE:?}; have {routes:#?}"))
            .unwrap();
        for (prefix, best) in changes.changed {
            match best {
                Some(best) => routes.insert(prefix, best),
                None => routes.remove(&prefix),
            };
        }
    }
    routes
}

struct Couple {
    a: Speaker,
    b: Speaker,
    a_feed: RouteFeed,
    b_feed: RouteFeed,
    b_config: SpeakerConfig,
}

/// Two speakers that have found each other. The first waits, the second connects: their ports are not 179.
async fn couple() -> Couple {
    let (a_own, b_own) = (own_address(), own_address());
    let (a, a_feed) = Speaker::start(config(a_own, 64512), originate(&["10.1.0.0/26"]))
        .await
        .unwrap();
    let a_listens = listening(&a).await;
    let mut a_config = config(a_own, 64512);
    let (address, mut waits) = peer(a_own, SocketAddr::new(b_own.into(), 0), 64513);
    waits.passive = true;
    a_config.peers.insert(address, waits);
    a.configure(a_config).await.unwrap();

    let mut b_config = config(b_own, 64513);
    b_config.peers.extend([peer(b_own, a_listens, 64512)]);
    let (b, b_feed) = Speaker::start(b_config.clone(), originate(&["10.2.0.0/26"]))
        .await
        .unwrap();
    until_state(&a, SessionState::Established).await;
    until_state(&b, SessionState::Established).await;
    Couple {
        a,
        b,
        a_feed,
        b_feed,
        b_config,
    }
}

#[tokio::test]
async fn routes_travel_and_go() {
    let mut both = couple().await;
    let routes = follow(&mut both.a_feed, |routes| {
        routes.contains_key(&prefix("10.2.0.0/26"))
    })
    .await;
    assert_eq!(routes[&prefix("10.2.0.0/26")].as_path, "64513");
    follow(&mut both.b_feed, |routes| {
        routes.contains_key(&prefix("10.1.0.0/26"))
    })
    .await;
    both.b.set_routes(originate(&["10.3.0.0/26"])).await;
    let next = follow(&mut both.a_feed, |routes| {
        routes.contains_key(&prefix("10.3.0.0/26"))
    })
    .await;
    assert!(!next.contains_key(&prefix("10.2.0.0/26")));
    eventually("convergence", async || {
        let status = both.a.status().await;
        if status.converged {
            Ok(())
        } else {
            Err(format!("{status:#?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn large_tables_travel() {
    let mut both = couple().await;
    let routes: BTreeMap<IpNet, LocalRoute> = (0..20_000_u32)
        .map(|n| {
            (
                IpNet::new(Ipv4Addr::from_bits(0x0B00_0000 | (n << 8)).into(), 24).unwrap(),
                LocalRoute::default(),
            )
        })
        .collect();
    both.b.set_routes(routes).await;
    follow(&mut both.a_feed, |routes| routes.len() >= 20_000).await;
}

#[tokio::test]
async fn an_administrative_shutdown_says_why_and_ends_the_feed() {
    let mut both = couple().await;
    both.b
        .shutdown(Shutdown::Administrative("node drained".to_owned()))
        .await;
    eventually("the reason", async || {
        let status = both.a.status().await;
        match &status.peers[0].last_error {
            Some(error) if error.contains("node drained") && status.peers[0].stale.is_none() => Ok(()),
            _ => Err(format!("{status:#?}")),
        }
    })
    .await;
    while let Some(changes) = tokio::time::timeout(PATIENCE, both.b_feed.next()).await.unwrap() {
        assert!(
            changes.changed.values().all(Option::is_some),
            "shutting down takes nothing away: {changes:?}"
        );
    }
    assert!(both.b.status().await.peers.is_empty());
}

#[tokio::test]
async fn a_restart_is_silent_and_the_peer_keeps_the_routes() {
    let both = couple().await;
    both.b.shutdown(Shutdown::Restart).await;
    eventually("stale routes", async || {
        let status = both.a.status().await;
        match &status.peers[0].stale {
            Some(stale) if stale.prefixes == 1 => Ok(()),
            _ => Err(format!("{status:#?}")),
        }
    })
    .await;
    let again = SpeakerConfig {
        restarting: true,
        ..both.b_config.clone()
    };
    let (b, _feed) = Speaker::start(again, originate(&["10.2.0.0/26"])).await.unwrap();
    until_state(&b, SessionState::Established).await;
    eventually("no stale routes", async || {
        let peer = &both.a.status().await.peers[0];
        if peer.stale.is_none() && peer.counters.prefixes_in == 1 {
            Ok(())
        } else {
            Err(format!("{peer:#?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn dropping_the_last_handle_is_a_restart() {
    let both = couple().await;
    drop(both.b);
    eventually("stale routes", async || {
        let status = both.a.status().await;
        if status.peers[0].stale.is_some() {
            Ok(())
        } else {
            Err(format!("{status:#?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_at_start_with_what_helps() {
    let own = own_address();
    let taken = TcpListener::bind((own, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = config(own, 64512);
    config.listen = vec![address];
    let error = Speaker::start(config, BTreeMap::new())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(&address.to_string()) && text.contains("stop the BGP daemon"),
        "{text}"
    );
}

#[tokio::test]
async fn a_listener_that_fails_later_is_tried_again_and_sessions_stay() {
    let both = couple().await;
    let own = own_address();
    let taken = TcpListener::bind((own, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut more = both.b_config.clone();
    more.listen.push(address);
    both.b.configure(more).await.unwrap();
    eventually("the error is shown", async || {
        let status = both.b.status().await;
        let failing = status
            .listeners
            .iter()
            .find(|listener| listener.address == address);
        if failing.is_some_and(|l| l.error.is_some()) {
            Ok(())
        } else {
            Err(format!("{status:#?}"))
        }
    })
    .await;
    drop(taken);
    eventually("the listener is there", async || {
        let status = both.b.status().await;
        if status.listeners.iter().all(|listener| listener.error.is_none()) {
            Ok(())
        } else {
            Err(format!("{status:#?}"))
        }
    })
    .await;
    assert_eq!(both.b.status().await.peers[0].counters.flaps, 0);
}

#[tokio::test]
async fn strangers_are_closed_and_counted() {
    let both = couple().await;
    let mut stranger = TcpStream::connect(listening(&both.a).await).await.unwrap();
    let mut end = [0; 1];
    let read = tokio::time::timeout(PATIENCE, stranger.read(&mut end))
        .await
        .unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(both.a.status().await.refused_connections, 1);
    until_state(&both.a, SessionState::Established).await;
}

/// A peer that reads its OPEN and then nothing, while the table churns; everybody else hears at once.
#[tokio::test]
async fn a_peer_that_stops_reading_delays_nobody() {
    let (own, reader_own, stuck_own) = (own_address(), own_address(), own_address());
    let mut hub = config(own, 64512);
    for address in [reader_own, stuck_own] {
        let (address, mut waits) = peer(own, SocketAddr::new(address.into(), 0), 64513);
        waits.passive = true;
        hub.peers.insert(address, waits);
    }
    let (hub, _hub_feed) = Speaker::start(hub, BTreeMap::new()).await.unwrap();
    let hub_address = listening(&hub).await;

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(SocketAddr::new(stuck_own.into(), 0)).unwrap();
    let stuck = socket.connect(hub_address).await.unwrap();
    stuck.writable().await.unwrap();
    let mut hello = bytes::BytesMut::new();
    let negotiated = bgp::wire::Negotiated::plain(bgp::wire::SessionType::Ebgp);
    let open = bgp::wire::Open {
        asn: Asn(64513),
        hold_time: bgp::types::HoldTime::DEFAULT,
        router_id: RouterId(stuck_own),
        capabilities: vec![],
    };
    bgp::wire::Message::Open(open)
        .encode(&negotiated, &mut hello)
        .unwrap();
    bgp::wire::Message::Keepalive
        .encode(&negotiated, &mut hello)
        .unwrap();
    assert_eq!(stuck.try_write(&hello).unwrap(), hello.len());

    let mut reader = config(reader_own, 64513);
    reader.peers.extend([peer(reader_own, hub_address, 64512)]);
    let (reader, mut feed) = Speaker::start(reader, BTreeMap::new()).await.unwrap();
    until_state(&reader, SessionState::Established).await;
    eventually("both sessions", async || {
        let status = hub.status().await;
        let up = status
            .peers
            .iter()
            .all(|peer| peer.state == SessionState::Established);
        if up { Ok(()) } else { Err(format!("{status:#?}")) }
    })
    .await;
    let labels: Vec<LargeCommunity> = (0..200)
        .map(|local2| LargeCommunity {
            global: 64512,
            local1: 1,
            local2,
        })
        .collect();
    let count = 2000;
    for round in 0..5 {
        let routes: BTreeMap<IpNet, LocalRoute> = (0..count)
            .map(|n| {
                // Attributes of their own, and many, so that nothing can be packed.
                let med = Some(n * 10 + round);
                let route = LocalRoute {
                    med,
                    large_communities: labels.clone(),
                    ..LocalRoute::default()
                };
                (
                    IpNet::new(Ipv4Addr::from_bits(0x0B00_0000 | (n << 8)).into(), 24).unwrap(),
                    route,
                )
            })
            .collect();
        hub.set_routes(routes).await;
        let wanted = Some((count - 1) * 10 + round);
        follow(&mut feed, |routes| routes.values().any(|best| best.med == wanted)).await;
    }
    let status = hub.status().await;
    let updates_out = |address: Ipv4Addr| {
        let peer = status
            .peers
            .iter()
            .find(|peer| peer.address == IpAddr::V4(address))
            .unwrap();
        peer.counters.updates_out
    };
    // 24 MB went to the one; the other was given what its socket would take, and no more is kept for it.
    assert!(updates_out(reader_own) >= u64::from(5 * count), "{status:#?}");
    assert!(updates_out(stuck_own) < u64::from(3 * count), "{status:#?}");
    drop(stuck);
}
