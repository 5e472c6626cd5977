//! Two processes, every way in which one can be interrupted by the other: the first runs up to some call, the
//! second up to some call of its own, then the first to its end and the second to its end. The objects must be
//! sound at every switch; and with nobody dead, nothing may be left half done.

#![allow(clippy::unwrap_used)]

mod support;

use ipam::{
    Allocator,
    allocator::AffinityRelease,
    testing::{Client, Fault, crash_at},
};
use support::{World, assign, request};
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy)]
enum Act {
    Assign(&'static str),
    Release(&'static str),
    ReleaseThenAssign(&'static str),
    Resume,
    GiveUp { of: &'static str, require_empty: bool },
}

impl Act {
    async fn run(self, node: Allocator) {
        match self {
            Act::Assign(handle) => {
                let outcome = node.assign(request(handle, 1, 0)).await;
                assert!(
                    matches!(outcome, Ok(_) | Err(ipam::Error::Exhausted(_))),
                    "{outcome:?}"
                );
            }
            Act::Release(handle) => {
                node.release_handle(handle).await.unwrap();
            }
            Act::ReleaseThenAssign(handle) => {
                node.release_handle(handle).await.unwrap();
                node.assign(request(handle, 1, 0)).await.unwrap();
            }
            Act::Resume => node.resume().await.unwrap(),
            Act::GiveUp { of, require_empty } => {
                let release = AffinityRelease {
                    node: of.to_string(),
                    cidr: "10.0.0.0/30".parse().unwrap(),
                    require_empty,
                    sequence_number: None,
                };
                node.release_affinity(&release).await.unwrap();
            }
        }
    }
}

/// What there is before the two start.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// A pool of one block, which nobody has.
    Free,
    /// Node a has the block and does not use it, for longer than a minute.
    Unused,
    /// Node a has the block, and "old" one address of it.
    Used,
    /// As left by a process of node a that died with the block made and the affinity pending.
    Pending,
}

async fn start(start: Start) -> World {
    let world = World::with_blocks("10.0.0.0/30", 30).await;
    match start {
        Start::Free => {}
        Start::Unused => {
            world
                .node("a")
                .claim_block("10.0.0.0/30".parse().unwrap())
                .await
                .unwrap();
            world.clock.advance_seconds(61);
        }
        Start::Used => {
            assign(&world.node("a"), "old", 1).await;
        }
        Start::Pending => {
            let (dying, client) = world.faulty("a", crash_at(1, Fault::DieAfter));
            tokio::select! {
                _ = dying.claim_block("10.0.0.0/30".parse().unwrap()) => {}
                () = client.died() => {}
            }
        }
    }
    world
}

/// A process that is held before one of its calls.
struct Held {
    client: Client,
    task: JoinHandle<()>,
}

impl Held {
    /// Starts; when this returns, it is held or done.
    async fn start(world: &World, node: &str, act: Act, hold_at: u64) -> Self {
        let (allocator, client) = world.faulty(node, crash_at(hold_at, Fault::Hold));
        let mut task = tokio::spawn(act.run(allocator));
        tokio::select! {
            () = client.held() => {}
            done = &mut task => {
                done.unwrap();
                task = tokio::spawn(async {});
            }
        }
        Held { client, task }
    }

    /// Lets it go on to its end; the calls it made.
    async fn finish(self) -> u64 {
        self.client.go();
        self.task.await.unwrap();
        self.client.calls()
    }
}

/// One run; true where both were interrupted.
async fn interleave(
    from: Start,
    first: (&str, Act),
    second: (&str, Act),
    at: (u64, u64),
    strict: bool,
) -> (bool, bool) {
    let context = format!(
        "{from:?}: {first:?} held before call {}, {second:?} before call {}",
        at.0, at.1
    );
    let world = start(from).await;
    let a = Held::start(&world, first.0, first.1, at.0).await;
    world
        .assert_sound(true, &format!("{context}: at the first switch"))
        .await;
    let b = Held::start(&world, second.0, second.1, at.1).await;
    world
        .assert_sound(true, &format!("{context}: at the second switch"))
        .await;
    let first_calls = a.finish().await;
    world
        .assert_sound(true, &format!("{context}: at the third switch"))
        .await;
    let second_calls = b.finish().await;
    world
        .assert_sound(!strict, &format!("{context}: at the end"))
        .await;
    (first_calls > at.0, second_calls > at.1)
}

async fn explore(from: Start, first: (&str, Act), second: (&str, Act), strict: bool) {
    let mut runs = 0;
    for i in 0.. {
        let mut interrupted = false;
        for j in 0.. {
            let (first_held, second_held) = interleave(from, first, second, (i, j), strict).await;
            interrupted |= first_held;
            runs += 1;
            if !second_held {
                break;
            }
        }
        if !interrupted {
            break;
        }
    }
    assert!(runs > 20, "{first:?} and {second:?}: only {runs} runs");
}

const GIVE_UP_EMPTY: Act = Act::GiveUp {
    of: "a",
    require_empty: true,
};
const GIVE_UP_ANY: Act = Act::GiveUp {
    of: "a",
    require_empty: false,
};

#[tokio::test(start_paused = true)]
async fn two_nodes_claim_the_same_block() {
    explore(
        Start::Free,
        ("a", Act::Assign("x")),
        ("b", Act::Assign("y")),
        true,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_processes_of_a_node_claim_the_same_block() {
    explore(
        Start::Free,
        ("a", Act::Assign("x")),
        ("a", Act::Assign("y")),
        true,
    )
    .await;
    explore(Start::Pending, ("a", Act::Resume), ("a", Act::Assign("y")), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_against_a_release_of_the_block() {
    explore(Start::Unused, ("b", GIVE_UP_EMPTY), ("a", Act::Resume), true).await;
    explore(Start::Unused, ("b", GIVE_UP_EMPTY), ("a", Act::Assign("x")), true).await;
    explore(Start::Pending, ("b", GIVE_UP_EMPTY), ("a", Act::Resume), true).await;
    explore(Start::Used, ("b", GIVE_UP_ANY), ("a", Act::Resume), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_uses_its_block_while_another_reclaims_it() {
    explore(
        Start::Unused,
        ("b", Act::Assign("y")),
        ("a", Act::Assign("x")),
        true,
    )
    .await;
    explore(Start::Unused, ("b", Act::Assign("y")), ("a", Act::Resume), true).await;
    explore(
        Start::Unused,
        ("b", Act::Assign("y")),
        ("c", Act::Assign("z")),
        true,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn addresses_are_released_while_the_block_is_given_up() {
    explore(Start::Used, ("a", Act::Release("old")), ("a", GIVE_UP_ANY), true).await;
    explore(
        Start::Used,
        ("a", Act::Release("old")),
        ("b", Act::Assign("y")),
        true,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_handle_in_two_processes() {
    // Counts may end too high where both write them, never too low.
    explore(
        Start::Used,
        ("a", Act::Assign("old")),
        ("a", Act::Release("old")),
        false,
    )
    .await;
    explore(
        Start::Used,
        ("a", Act::Assign("x")),
        ("a", Act::Release("x")),
        false,
    )
    .await;
    explore(
        Start::Used,
        ("a", Act::Assign("x")),
        ("a", Act::ReleaseThenAssign("x")),
        false,
    )
    .await;
    explore(
        Start::Used,
        ("a", Act::Release("old")),
        ("a", Act::Release("old")),
        true,
    )
    .await;
}
