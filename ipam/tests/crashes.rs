//! A process may die at any call, and a reply may be lost at any call. Each scenario is run once for every call it
//! makes and every way to fail there; afterwards nothing may be wrong but residue, another node must be able to
//! work at once, and a new process on the node must put everything right.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;

use ipam::{
    Allocator,
    allocator::AffinityRelease,
    testing::{Fault, crash_at},
};
use support::{World, assign, request};

/// A run of a scenario in which every call succeeded; none makes as many calls as this.
const ENDLESS: u64 = 500;

#[derive(Debug, Clone, Copy)]
enum Scenario {
    FirstAssign,
    SecondAssign,
    DualStack,
    Release,
    ReleaseOneOfTwo,
    RollBack,
    Borrow,
    ReleaseBorrowed,
    Reclaim,
    GiveUp,
    GiveUpInUse,
    Resume,
}

const ALL: [Scenario; 12] = [
    Scenario::FirstAssign,
    Scenario::SecondAssign,
    Scenario::DualStack,
    Scenario::Release,
    Scenario::ReleaseOneOfTwo,
    Scenario::RollBack,
    Scenario::Borrow,
    Scenario::ReleaseBorrowed,
    Scenario::Reclaim,
    Scenario::GiveUp,
    Scenario::GiveUpInUse,
    Scenario::Resume,
];

/// Two /30 blocks and one IPv6 block; what else the scenario starts from.
async fn prepare(scenario: Scenario) -> World {
    let world = World::with_blocks("10.0.0.0/29", 30).await;
    world
        .pool("six", "fd00::/126", |p| p.block_size = Some(126))
        .await;
    let node = world.node("n1");
    assign(&world.node("other"), "others", 1).await;
    match scenario {
        Scenario::FirstAssign | Scenario::DualStack => {}
        Scenario::SecondAssign | Scenario::Release | Scenario::RollBack | Scenario::GiveUpInUse => {
            assign(&node, "old", 2).await;
        }
        Scenario::ReleaseOneOfTwo => {
            assign(&node, "old", 2).await;
            node.assign(request("old", 0, 1)).await.unwrap();
        }
        Scenario::Borrow => {
            assign(&node, "old", 4).await;
        }
        Scenario::ReleaseBorrowed => {
            assign(&node, "old", 6).await;
        }
        Scenario::Reclaim => {
            assign(&node, "old", 4).await;
            world.node("other").release_handle("others").await.unwrap();
            world.clock.advance_seconds(61);
        }
        Scenario::GiveUp => {
            assign(&node, "gone", 1).await;
            node.release_handle("gone").await.unwrap();
        }
        Scenario::Resume => {
            // As left by a process that died with the affinity pending and the block made.
            let (dying, client) = world.faulty("n1", crash_at(2, Fault::DieAfter));
            tokio::select! {
                _ = dying.claim_block("10.0.0.0/30".parse().unwrap()) => {}
                () = client.died() => {}
            }
        }
    }
    world
}

/// What the scenario does; the addresses it was told that it has.
async fn act(scenario: Scenario, node: &Allocator) -> Result<Vec<IpAddr>, ipam::Error> {
    match scenario {
        Scenario::FirstAssign | Scenario::SecondAssign | Scenario::Borrow | Scenario::Reclaim => {
            Ok(node.assign(request("new", 1, 0)).await?.addresses)
        }
        Scenario::DualStack => Ok(node.assign(request("new", 2, 2)).await?.addresses),
        Scenario::Release | Scenario::ReleaseOneOfTwo | Scenario::ReleaseBorrowed => {
            node.release_handle("old").await.map(|_| Vec::new())
        }
        Scenario::RollBack => {
            let failed = node.assign(request("new", 2, 9)).await.unwrap_err();
            match failed {
                ipam::Error::Exhausted(_) => Ok(Vec::new()),
                other => Err(other),
            }
        }
        Scenario::GiveUp | Scenario::GiveUpInUse => {
            let cidrs = ["10.0.0.0/30", "10.0.0.4/30"];
            for cidr in cidrs {
                let release = AffinityRelease {
                    node: "n1".to_string(),
                    cidr: cidr.parse().unwrap(),
                    require_empty: false,
                    sequence_number: None,
                };
                node.release_affinity(&release).await?;
            }
            Ok(Vec::new())
        }
        Scenario::Resume => node.resume().await.map(|()| Vec::new()),
    }
}

/// Runs the scenario with one fault; false where the fault's call was not reached.
async fn run(scenario: Scenario, number: u64, fault: Fault) -> bool {
    let context = format!("{scenario:?}, call {number}, {fault:?}");
    let world = prepare(scenario).await;
    let (node, client) = world.faulty("n1", crash_at(number, fault));
    let outcome = tokio::select! {
        outcome = act(scenario, &node) => Some(outcome),
        () = client.died() => None,
    };
    let reached = client.calls() > number;
    drop(node);
    world.assert_sound(true, &format!("{context}: at once")).await;
    if let Some(Ok(addresses)) = &outcome
        && !addresses.is_empty()
    {
        let mut addresses = addresses.clone();
        addresses.sort();
        let stored = world.node("n1").addresses_of("new").await.unwrap();
        assert_eq!(stored, addresses, "{context}: what was reported is stored");
    }
    if !reached {
        assert!(matches!(outcome, Some(Ok(_))), "{context}: {outcome:?}");
    }
    work_elsewhere(&world, &context).await;
    recover(&world, &context).await;
    reached
}

/// Another node is not hindered by what the dead process left.
async fn work_elsewhere(world: &World, context: &str) {
    let other = world.node("other");
    if let Ok(assigned) = other.assign(request("elsewhere", 1, 0)).await {
        assert_eq!(
            other.addresses_of("elsewhere").await.unwrap(),
            assigned.addresses,
            "{context}"
        );
    }
    other.release_handle("elsewhere").await.unwrap();
    world
        .assert_sound(true, &format!("{context}: work elsewhere"))
        .await;
}

/// A new process on the node: no residue but counts, and none at all once the handles are released.
async fn recover(world: &World, context: &str) {
    let node = world.node("n1");
    node.resume().await.unwrap();
    world.node("other").resume().await.unwrap();
    world.assert_sound(true, &format!("{context}: resumed")).await;
    for handle in ["new", "old", "others", "gone"] {
        node.release_handle(handle).await.unwrap();
        assert!(
            node.addresses_of(handle).await.unwrap().is_empty(),
            "{context}: {handle}"
        );
    }
    world
        .assert_sound(false, &format!("{context}: all released"))
        .await;
    let summary = world.summary().await;
    assert!(
        summary.iter().all(|block| block.ends_with(" 0")),
        "{context}: lost addresses: {summary:?}"
    );
    // Every address can be had again, the blocks' owners notwithstanding.
    world.clock.advance_seconds(61);
    assert_eq!(
        assign(&node, "all", 8).await.len(),
        8,
        "{context}: {:?}",
        world.summary().await
    );
    world
        .assert_sound(false, &format!("{context}: all assigned"))
        .await;
}

async fn run_all(fault: Fault) {
    for scenario in ALL {
        let mut number = 0;
        while run(scenario, number, fault).await {
            number += 1;
            assert!(number < ENDLESS, "{scenario:?} does not end");
        }
        assert!(
            number > 3,
            "{scenario:?} makes {number} calls: the fault was hardly tried"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn death_before_any_call() {
    run_all(Fault::DieBefore).await;
}

#[tokio::test(start_paused = true)]
async fn death_after_any_call() {
    run_all(Fault::DieAfter).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_any_call() {
    run_all(Fault::LostReply).await;
}

#[tokio::test(start_paused = true)]
async fn no_datastore_at_any_call() {
    run_all(Fault::Unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_at_any_call() {
    run_all(Fault::Conflict).await;
}

#[tokio::test(start_paused = true)]
async fn any_call_repeated_below_us() {
    run_all(Fault::Repeated).await;
}
