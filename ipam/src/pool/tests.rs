//! Tests of pool choice and of the order of blocks.

use std::collections::BTreeSet;

use datastore::types::{IpPoolSpec, IpReservation, IpReservationSpec};

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn pool(name: &str, cidr: &str, change: fn(&mut IpPool)) -> IpPool {
    let mut pool = IpPool::new(name, IpPoolSpec::new(net(cidr)));
    change(&mut pool);
    pool
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_string(), (*v).to_string());
    pairs.iter().map(owned).collect()
}

fn requester(node_labels: &BTreeMap<String, String>) -> Requester<'_> {
    Requester {
        family: Family::V4,
        use_: AllowedUse::Workload,
        node_labels,
        namespace_labels: None,
    }
}

fn names(choice: &Choice) -> Vec<&str> {
    choice.eligible.iter().map(|p| p.metadata.name.as_str()).collect()
}

fn reasons(choice: &Choice) -> Vec<String> {
    let reasons = choice.rejected.iter();
    reasons.map(|(name, why)| format!("{name}: {why}")).collect()
}

fn sample() -> Vec<IpPool> {
    vec![
        pool("bad", "10.7.0.0/16", |p| {
            p.spec.node_selector = "zone =".to_string()
        }),
        pool("deleting", "10.1.0.0/16", |p| {
            p.metadata.deletion_timestamp = Some("2026-11-20T10:00:00Z".to_string());
        }),
        pool("disabled", "10.2.0.0/16", |p| p.spec.disabled = true),
        pool("east", "10.3.0.0/16", |p| {
            p.spec.node_selector = "zone == 'east'".to_string()
        }),
        pool("manual", "10.4.0.0/16", |p| {
            p.spec.assignment_mode = AssignmentMode::Manual
        }),
        pool("plain", "10.5.0.0/16", |_| {}),
        pool("six", "fd00::/48", |_| {}),
        pool("team", "10.8.0.0/16", |p| {
            p.spec.namespace_selector = Some("team == 'a'".to_string());
        }),
        pool("tunnel", "10.6.0.0/16", |p| {
            p.spec.allowed_uses = vec![AllowedUse::Tunnel]
        }),
        pool("wide", "10.9.0.0/16", |p| p.spec.block_size = Some(8)),
    ]
}

#[test]
fn a_pool_passed_over_says_why() {
    let none = labels(&[]);
    let choice = choose(&sample(), &[], &requester(&none)).unwrap();
    assert_eq!(names(&choice), ["plain"]);
    let reasons = reasons(&choice);
    assert!(
        reasons[0].starts_with("bad: selector \"zone =\" does not parse: at character"),
        "{reasons:?}"
    );
    assert_eq!(
        reasons[1..],
        [
            "deleting: being deleted",
            "disabled: disabled",
            "east: nodeSelector \"zone == 'east'\" does not match the node",
            "manual: assignmentMode is Manual and the pool was not asked for",
            "team: namespaceSelector \"team == 'a'\" does not match the namespace",
            "tunnel: allowedUses lacks Workload",
            "wide: blockSize 8 does not fit the pool",
        ]
    );
}

#[test]
fn labels_open_pools() {
    let node = labels(&[("zone", "east")]);
    let namespace = labels(&[("team", "a")]);
    let mut requester = requester(&node);
    requester.namespace_labels = Some(&namespace);
    let choice = choose(&sample(), &[], &requester).unwrap();
    assert_eq!(names(&choice), ["east", "plain", "team"]);
}

#[test]
fn uses_and_families_are_kept_apart() {
    let none = labels(&[]);
    let tunnel = Requester {
        use_: AllowedUse::Tunnel,
        ..requester(&none)
    };
    assert_eq!(
        names(&choose(&sample(), &[], &tunnel).unwrap()),
        ["plain", "team", "tunnel"]
    );
    let balancer = Requester {
        use_: AllowedUse::LoadBalancer,
        ..requester(&none)
    };
    assert_eq!(names(&choose(&sample(), &[], &balancer).unwrap()), [""; 0]);
    let six = Requester {
        family: Family::V6,
        ..requester(&none)
    };
    assert_eq!(names(&choose(&sample(), &[], &six).unwrap()), ["six"]);
}

#[test]
fn requested_pools_win_over_selectors_but_not_over_disabled() {
    let none = labels(&[]);
    let wanted = ["east", "10.4.0.0/16", "east", "disabled", "team"].map(String::from);
    let choice = choose(&sample(), &wanted, &requester(&none)).unwrap();
    assert_eq!(names(&choice), ["east", "manual", "team"]);
    assert_eq!(reasons(&choice), ["disabled: disabled"]);
}

#[test]
fn a_pool_that_is_not_there_or_of_the_other_family_is_an_error() {
    let none = labels(&[]);
    let pools = [
        pool("plain", "10.5.0.0/16", |_| {}),
        pool("six", "fd00::/48", |_| {}),
    ];
    let error = |wanted: &str| {
        let choice = choose(&pools, &[wanted.to_string()], &requester(&none));
        choice.unwrap_err().to_string()
    };
    assert_eq!(
        error("nope"),
        "unknown pool \"nope\": expected the name or CIDR of one of: plain, six"
    );
    assert_eq!(
        error("fd00::/48"),
        "pool \"fd00::/48\" is IPv6 and cannot give an IPv4 address"
    );
    let none = choose(&[], &["x".to_string()], &requester(&none)).unwrap_err();
    assert!(none.to_string().ends_with("(there is none)"));
}

#[test]
fn every_block_comes_once_whatever_the_node() {
    let pool = pool("p", "10.0.0.0/22", |_| {});
    let reserved = Reservations::default();
    for node in ["a", "b", "c", "node-17"] {
        let all: Vec<IpNet> = blocks(&pool, node, &reserved).collect();
        assert_eq!(all.len(), 16);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 16);
        assert!(
            all.iter()
                .all(|b| pool.spec.cidr.contains(b) && b.prefix_len() == 26)
        );
        assert_eq!(all, blocks(&pool, node, &reserved).collect::<Vec<_>>());
    }
}

#[test]
fn nodes_start_in_different_places() {
    let pool = pool("p", "10.0.0.0/14", |_| {});
    let reserved = Reservations::default();
    let firsts: BTreeSet<IpNet> = (0..100)
        .filter_map(|i| blocks(&pool, &format!("node-{i}"), &reserved).next())
        .collect();
    // 100 of 4096 places: with even spread, about one pair meets.
    assert!(firsts.len() > 90, "{} different first blocks", firsts.len());
}

#[test]
fn reserved_blocks_are_stepped_over() {
    let v4 = pool("p", "10.0.0.0/24", |_| {});
    let reserve = |cidr: &str| {
        let reserved_cidrs = vec![net(cidr)];
        Reservations::new(&[IpReservation::new("r", IpReservationSpec { reserved_cidrs })])
    };
    for node in ["a", "b", "c", "d", "e", "f", "g"] {
        let half = reserve("10.0.0.128/25");
        let left: BTreeSet<IpNet> = blocks(&v4, node, &half).collect();
        assert_eq!(
            left,
            BTreeSet::from([net("10.0.0.0/26"), net("10.0.0.64/26")]),
            "node {node}"
        );
        assert_eq!(blocks(&v4, node, &reserve("10.0.0.0/26")).count(), 3);
        assert_eq!(blocks(&v4, node, &reserve("10.0.0.0/8")).next(), None);
    }
}

#[test]
fn an_enormous_pool_with_an_enormous_reservation_is_no_trouble() {
    let v6 = pool("p", "fd00::/16", |_| {});
    for node in ["a", "b", "c", "d", "e", "f", "g"] {
        let reserved_cidrs = vec![net("fd00::/17"), net("fd00:8000::/18")];
        let reserved = Reservations::new(&[IpReservation::new("r", IpReservationSpec { reserved_cidrs })]);
        let first = blocks(&v6, node, &reserved).next().unwrap();
        assert!(net("fd00:c000::/18").contains(&first), "{first}");
    }
    let all = pool("p", "::/0", |p| p.spec.block_size = Some(128));
    assert!(blocks(&all, "a", &Reservations::default()).next().is_some());
}
