//! Several processes on several nodes at once, on a datastore that fails in every way it can, with processes that
//! die and come back. Everything is checked after *every* write: whatever one process has half done, the objects
//! must be sound to all others. A failure names its seed, and that seed repeats it.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use ipam::{
    Allocator, Error,
    allocator::AffinityRelease,
    testing::{Client, Fault, Odds, Plan, Rng, random},
};
use support::{World, request};

/// Who has which address, as far as the processes were told.
type Ledger = Arc<Mutex<BTreeMap<IpAddr, String>>>;

/// A process, which may die and be started again.
struct Process {
    world: World,
    node: String,
    name: String,
    seed: u64,
    odds: Odds,
    rng: Rng,
    ledger: Ledger,
    /// Revision of the objects when they were last checked, by whichever process.
    checked: Arc<AtomicU64>,
    /// Handles with the addresses that this process was given.
    held: BTreeMap<String, Vec<IpAddr>>,
    /// Handles that may have addresses: of assignments and releases that failed or were cut off.
    uncertain: Vec<String>,
    lives: u64,
    /// Works on no handle but the one that all processes share.
    shared_only: bool,
}

impl Process {
    fn start(&mut self) -> (Allocator, Client) {
        self.lives += 1;
        let mut fate = random(self.seed ^ (self.lives << 32), self.odds);
        let (cluster, checked) = (self.world.cluster.clone(), self.checked.clone());
        let context = format!("seed {}, process {}", self.seed, self.name);
        let plan: Plan = Box::new(move |call| {
            let revision = cluster.revision();
            let unchanged = checked.swap(revision, Ordering::Relaxed) == revision;
            let problems = if unchanged { Vec::new() } else { cluster.problems() };
            let wrong: Vec<String> = problems
                .iter()
                .filter(|p| !p.is_residue())
                .map(|p| p.to_string())
                .collect();
            assert!(wrong.is_empty(), "{context}, before {call:?}: {wrong:#?}");
            match fate(call) {
                Fault::None => Fault::Pause(1),
                other => other,
            }
        });
        self.world.faulty(&self.node, plan)
    }

    async fn run(mut self, operations: u32) -> Self {
        let (mut allocator, mut client) = self.start();
        for _ in 0..operations {
            let died = tokio::select! {
                () = self.operate(&allocator) => false,
                () = client.died() => true,
            };
            if died {
                (allocator, client) = self.start();
            }
            tokio::task::yield_now().await;
        }
        self
    }

    async fn operate(&mut self, allocator: &Allocator) {
        let (first, last) = if self.shared_only { (70, 84) } else { (0, 100) };
        match first + self.rng.below(last - first) {
            0..40 => self.assign(allocator).await,
            40..70 => self.release(allocator).await,
            70..78 => {
                let _ = allocator.assign(request("shared", 1, 0)).await;
            }
            78..84 => {
                let _ = allocator.release_handle("shared").await;
            }
            84..90 => self.give_up(allocator).await,
            90..94 => self.world.clock.advance_seconds(61),
            _ => {
                let _ = allocator.resume().await;
            }
        }
    }

    async fn assign(&mut self, allocator: &Allocator) {
        let handle = format!("{}.{}", self.name, self.rng.next_u64());
        let (v4, v6) = (self.rng.below(4) as u32, self.rng.below(2) as u32);
        // Known before the call, which may be the last.
        self.uncertain.push(handle.clone());
        match allocator.assign(request(&handle, v4, v6)).await {
            Ok(assigned) => {
                self.uncertain.retain(|other| *other != handle);
                let mut ledger = self.ledger.lock().unwrap();
                for address in &assigned.addresses {
                    let before = ledger.insert(*address, handle.clone());
                    assert_eq!(
                        before, None,
                        "seed {}: {address} given to {handle} too",
                        self.seed
                    );
                }
                self.held.insert(handle, assigned.addresses);
            }
            Err(Error::Exhausted(_) | Error::Invalid(_) | Error::Conflict { .. } | Error::Datastore(_)) => {}
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    async fn release(&mut self, allocator: &Allocator) {
        let handles: Vec<String> = self.held.keys().chain(&self.uncertain).cloned().collect();
        if handles.is_empty() {
            return;
        }
        let handle = handles[self.rng.below(handles.len() as u64) as usize].clone();
        for address in self.held.remove(&handle).unwrap_or_default() {
            self.ledger.lock().unwrap().remove(&address);
        }
        if !self.uncertain.contains(&handle) {
            self.uncertain.push(handle.clone());
        }
        if allocator.release_handle(&handle).await.is_ok() {
            self.uncertain.retain(|other| *other != handle);
        }
    }

    async fn give_up(&mut self, allocator: &Allocator) {
        let blocks = self.world.blocks().await;
        if blocks.is_empty() {
            return;
        }
        let cidr = blocks[self.rng.below(blocks.len() as u64) as usize].spec.cidr;
        let release = AffinityRelease {
            node: self.node.clone(),
            cidr,
            require_empty: self.rng.per_mille(500),
            sequence_number: None,
        };
        let _ = allocator.release_affinity(&release).await;
    }
}

async fn simulate(seed: u64, odds: Odds, nodes: &[&str]) {
    let world = World::with_blocks("10.0.0.0/27", 30).await;
    world
        .pool("six", "fd00::/123", |p| p.block_size = Some(126))
        .await;
    let ledger = Ledger::default();
    let checked = Arc::new(AtomicU64::new(0));
    let process = |(i, node): (usize, &&str)| Process {
        world: world.clone(),
        node: (*node).to_string(),
        name: format!("{node}{i}"),
        seed,
        odds,
        rng: Rng::new(seed ^ ((i as u64) << 16)),
        ledger: ledger.clone(),
        checked: checked.clone(),
        held: BTreeMap::new(),
        uncertain: Vec::new(),
        lives: (i as u64) << 8,
        shared_only: nodes == ONE_HANDLE,
    };
    let running: Vec<_> = nodes
        .iter()
        .enumerate()
        .map(process)
        .map(|p| tokio::spawn(p.run(30)))
        .collect();
    let mut processes = Vec::new();
    for process in running {
        processes.push(process.await.unwrap());
    }
    finish(&world, processes, seed).await;
}

/// Nobody has lost anything; and when all is released, nothing is left.
async fn finish(world: &World, processes: Vec<Process>, seed: u64) {
    let context = format!("seed {seed}");
    world.assert_sound(true, &format!("{context}: at the end")).await;
    for process in &processes {
        let node = world.node(&process.node);
        node.resume().await.unwrap();
        for (handle, held) in &process.held {
            let mut held = held.clone();
            held.sort();
            assert_eq!(
                node.addresses_of(handle).await.unwrap(),
                held,
                "{context}: {handle}"
            );
        }
    }
    for process in &processes {
        let node = world.node(&process.node);
        for handle in process.held.keys().chain(&process.uncertain) {
            node.release_handle(handle).await.unwrap();
        }
        node.release_handle("shared").await.unwrap();
    }
    world
        .assert_sound(false, &format!("{context}: all released"))
        .await;
    let summary = world.summary().await;
    assert!(
        summary.iter().all(|block| block.ends_with(" 0")),
        "{context}: {summary:?}"
    );
}

async fn simulate_seeds(first: u64, count: u64, odds: Odds) {
    for seed in first..first + count {
        simulate(seed, odds, &NODES).await;
    }
}

/// Where the processes run.
const NODES: [&str; 4] = ["a", "a", "b", "c"];
/// The same, for processes that all work on one handle.
const ONE_HANDLE: [&str; 3] = ["a", "a", "a"];

const CALM: Odds = Odds {
    conflict: 0,
    unavailable: 0,
    lost_reply: 0,
    repeated: 0,
    pause: 300,
    die: 0,
};

/// How many seeds each test tries; `ROUTELET_SEEDS` for a long run.
fn seeds() -> u64 {
    std::env::var("ROUTELET_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(12)
}

#[tokio::test(start_paused = true)]
async fn only_pauses() {
    simulate_seeds(1000, seeds(), CALM).await;
}

#[tokio::test(start_paused = true)]
async fn conflicts_and_lost_replies() {
    let odds = Odds {
        conflict: 30,
        unavailable: 10,
        lost_reply: 20,
        repeated: 20,
        ..CALM
    };
    simulate_seeds(2000, seeds(), odds).await;
}

#[tokio::test(start_paused = true)]
async fn deaths() {
    simulate_seeds(3000, seeds(), Odds { die: 20, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn everything_at_once() {
    let odds = Odds {
        conflict: 20,
        unavailable: 10,
        lost_reply: 15,
        repeated: 10,
        pause: 400,
        die: 15,
    };
    simulate_seeds(4000, seeds(), odds).await;
}

#[tokio::test(start_paused = true)]
async fn one_handle_in_several_processes() {
    for seed in 5000..5000 + seeds() * 4 {
        simulate(seed, Odds { conflict: 20, ..CALM }, &ONE_HANDLE).await;
    }
}
