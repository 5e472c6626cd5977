use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use ::bgp::{Asn, PeerCounters, PeerStatus, RouterId, SessionState, SpeakerStatus};
use ::cni::protocol::{Failure, Reply, Success, code};
use ::datastore::types::{AffinityState, BlockAffinity, BlockAffinitySpec};

use super::*;

fn encode(fill: impl FnOnce(&mut Registry)) -> String {
    let mut registry = Registry::default();
    fill(&mut registry);
    let mut text = String::new();
    text::encode(&mut text, &registry).unwrap();
    check_format(&text);
    text
}

/// What a scraper relies on: every sample belongs to a family that was announced, each family is announced once, no
/// series comes twice, and the end is marked.
fn check_format(text: &str) {
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    let mut current = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap();
            assert!(families.insert(current), "{current} comes twice:\n{text}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(current), "{line} is not of {current}");
            assert!(series.insert(name), "{name} comes twice");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

fn peer(number: u32, state: SessionState, flaps: u64) -> PeerStatus {
    PeerStatus {
        address: Ipv4Addr::from(0xc000_0200 + number).into(),
        name: format!("peer-{number}"),
        remote_as: Asn(64512),
        state,
        state_seconds: 0,
        last_error: None,
        session: None,
        stale: None,
        counters: PeerCounters {
            prefixes_in: 3,
            prefixes_out: 5,
            flaps,
            ..PeerCounters::default()
        },
    }
}

fn speaker(peers: Vec<PeerStatus>) -> SpeakerStatus {
    SpeakerStatus {
        local_as: Asn(64512),
        router_id: RouterId::from(1),
        converged: true,
        peers,
        listeners: Vec::new(),
        refused_connections: 7,
        destinations: 9,
    }
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
}

#[test]
fn sessions_are_counted_by_state_and_told_apart_by_peer() {
    let status = speaker(vec![
        peer(1, SessionState::Established, 2),
        peer(2, SessionState::Established, 0),
        peer(3, SessionState::Active, 0),
    ]);
    let text = encode(|registry| bgp::register(registry, &status));
    for line in [
        "bgp_sessions{state=\"Established\"} 2",
        "bgp_sessions{state=\"Active\"} 1",
        "bgp_sessions{state=\"Idle\"} 0",
        "bgp_peer_state{peer=\"192.0.2.1\"} 6",
        "bgp_peer_state{peer=\"192.0.2.3\"} 3",
        "bgp_prefixes_received{peer=\"192.0.2.1\"} 3",
        "bgp_prefixes_sent{peer=\"192.0.2.1\"} 5",
        "bgp_session_flaps_total{peer=\"192.0.2.1\"} 2",
        "bgp_refused_connections_total 7",
        "bgp_converged 1",
    ] {
        has(&text, line);
    }
}

#[test]
fn peers_beyond_the_limit_are_added_up() {
    let peers = (1..=1000).map(|number| peer(number, SessionState::Established, 1));
    let text = encode(|registry| bgp::register(registry, &speaker(peers.collect())));
    let series = |name: &str| {
        text.lines()
            .filter(|line| line.starts_with(&format!("{name}{{")))
            .count()
    };
    assert_eq!(series("bgp_prefixes_received"), 257);
    assert_eq!(series("bgp_peer_state"), 256, "states cannot be added up");
    has(&text, "bgp_prefixes_received{peer=\"others\"} 2232");
    has(&text, "bgp_session_flaps_total{peer=\"others\"} 744");
    has(&text, "bgp_sessions{state=\"Established\"} 1000");
}

#[test]
fn requests_are_counted_by_verb_and_result() {
    let metrics = CniMetrics::default();
    metrics.answered("ADD", &Reply::Ok(Success::Done), Duration::from_millis(3));
    let failure = Reply::Error(Failure::new(code::EXHAUSTED, "none left"));
    metrics.clone().answered("ADD", &failure, Duration::from_secs(3));
    // A code that no release knows makes no series of its own.
    metrics.answered("DEL", &Reply::Error(Failure::new(4711, "")), Duration::ZERO);
    let text = encode(|registry| metrics.register(registry));
    for line in [
        "cni_requests_total{verb=\"ADD\",result=\"ok\"} 1",
        "cni_requests_total{verb=\"ADD\",result=\"exhausted\"} 1",
        "cni_requests_total{verb=\"DEL\",result=\"other\"} 1",
        "cni_request_duration_seconds_count{verb=\"ADD\"} 2",
        "cni_request_duration_seconds_bucket{le=\"0.0025\",verb=\"ADD\"} 0",
        "cni_request_duration_seconds_bucket{le=\"0.005\",verb=\"ADD\"} 1",
        "cni_request_duration_seconds_bucket{le=\"+Inf\",verb=\"ADD\"} 2",
    ] {
        has(&text, line);
    }
}

#[test]
fn only_this_nodes_blocks_count() {
    let affinity = |name: &str, node: &str, state| {
        let spec = BlockAffinitySpec {
            state,
            node: node.to_string(),
            affinity_type: None,
            cidr: "10.0.0.0/26".parse().unwrap(),
            deleted: String::new(),
        };
        let affinity = BlockAffinity::new(name, spec);
        (name.to_string(), affinity)
    };
    let affinities = [
        affinity("1", "a", AffinityState::Confirmed),
        affinity("2", "a", AffinityState::Confirmed),
        affinity("3", "a", AffinityState::Pending),
        affinity("4", "b", AffinityState::Confirmed),
    ]
    .into();
    let text = encode(|registry| ipam::register_blocks(registry, "a", &affinities));
    has(&text, "ipam_blocks{state=\"confirmed\"} 2");
    has(&text, "ipam_blocks{state=\"pending\"} 1");
    has(&text, "ipam_blocks{state=\"pendingDeletion\"} 0");
}

#[test]
fn results_of_the_allocator_and_of_watches_are_counted() {
    let metrics = Metrics::default();
    metrics.ipam.assigned(&Ok(()));
    let lost = ::ipam::Error::Conflict {
        object: "IPAMBlock 10-0-0-0-26".to_string(),
        attempts: 100,
    };
    metrics.ipam.released::<()>(&Err(lost));
    metrics.watch.failed("Node");
    metrics.watch.restarted("Node");
    metrics.watch.restarted("Node");
    let text = encode(|registry| {
        metrics.ipam.register(registry);
        metrics.watch.register(registry);
    });
    has(&text, "ipam_requests_total{operation=\"assign\",result=\"ok\"} 1");
    has(
        &text,
        "ipam_requests_total{operation=\"release\",result=\"conflict\"} 1",
    );
    has(&text, "datastore_watch_errors_total{kind=\"Node\"} 1");
    has(&text, "datastore_watch_restarts_total{kind=\"Node\"} 2");
}

#[test]
fn the_process_and_the_kernel_are_described() {
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
    let status = crate::kernel::KernelStatus {
        desired: 12,
        installed: 11,
        pending: 1,
        repairs: 4,
        ..Default::default()
    };
    let text = encode(|registry| {
        process::register(registry, started);
        process::register_build(registry);
        kernel::register(registry, &status);
    });
    has(&text, "process_start_time_seconds 1.5");
    assert!(
        text.contains(concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"")),
        "{text}"
    );
    has(&text, "kernel_routes_desired 12");
    has(&text, "kernel_routes_installed 11");
    has(&text, "kernel_route_repairs_total 4");
}
