//! Real processes on a real `file:` store: several nodes, and several processes of one node, claim, assign and
//! release at once, and some are killed with SIGKILL wherever they happen to be. Afterwards the stored objects must
//! be sound, and whatever a process was told it has, and had not begun to release, must still be its own.
//!
//! The workers are this test binary, started again with `ROUTELET_IPAM_WORKER` set. Each keeps a journal of what it
//! was told; its lines are written whole before the next call, so that a killed worker's journal counts too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, File},
    io::Write,
    net::IpAddr,
    os::unix::process::parent_id,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use datastore::{
    Store,
    types::{AllowedUse, IpPool, IpPoolSpec, IpamBlock},
};
use ipam::{
    Allocator, AssignRequest, Error,
    allocator::AffinityRelease,
    check::Problem,
    testing::{Rng, problems},
};

/// `directory:node:seed:operations` of a worker.
const WORKER: &str = "ROUTELET_IPAM_WORKER";
/// What a worker does that is not to be killed; one that is goes on until it is.
const OPERATIONS: u32 = 40;
/// More than the slowest machine needs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Not a test: the body of a worker, which passes at once where this is not one.
#[test]
fn worker() {
    let Ok(job) = env::var(WORKER) else { return };
    let mut parts = job.rsplitn(4, ':');
    let mut part = || parts.next().unwrap();
    let (operations, seed, node, dir) = (part(), part(), part(), part());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(work(
        Path::new(dir),
        node,
        seed.parse().unwrap(),
        operations.parse().unwrap(),
    ));
}

async fn work(dir: &Path, node: &str, seed: u64, operations: u32) {
    let parent = parent_id();
    let allocator = Allocator::new(open(dir).await, node.to_string());
    let mut journal = Journal::new(&journal_path(dir, node, seed));
    let mut rng = Rng::new(seed);
    let mut held: Vec<String> = Vec::new();
    allocator.resume().await.expect("resume");
    for i in 0..operations {
        if parent_id() != parent {
            return; // The test is gone.
        }
        match rng.below(10) {
            0..5 => {
                let handle = format!("{node}.{seed}.{i}");
                let (v4, v6) = (1 + rng.below(2) as u32, rng.below(2) as u32);
                match allocator.assign(request(&handle, v4, v6)).await {
                    Ok(assigned) => {
                        let addresses: Vec<String> =
                            assigned.addresses.iter().map(IpAddr::to_string).collect();
                        journal.write(&format!("hold {handle} {}", addresses.join(" ")));
                        held.push(handle);
                    }
                    Err(Error::Exhausted(_)) => {}
                    Err(error) => panic!("{node}: {error}"),
                }
            }
            5..9 if !held.is_empty() => {
                let handle = held.swap_remove(rng.below(held.len() as u64) as usize);
                journal.write(&format!("drop {handle}"));
                allocator.release_handle(&handle).await.expect("release");
            }
            _ => give_up_one(&allocator, dir, node, &mut rng).await,
        }
    }
    journal.write("done");
}

async fn give_up_one(allocator: &Allocator, dir: &Path, node: &str, rng: &mut Rng) {
    let blocks: Vec<IpamBlock> = open(dir).await.list().await.expect("list");
    let own = format!("host:{node}");
    let own: Vec<_> = blocks
        .iter()
        .filter(|b| b.spec.affinity.as_ref() == Some(&own))
        .collect();
    if own.is_empty() {
        return;
    }
    let release = AffinityRelease {
        node: node.to_string(),
        cidr: own[rng.below(own.len() as u64) as usize].spec.cidr,
        require_empty: true,
        sequence_number: None,
    };
    allocator
        .release_affinity(&release)
        .await
        .expect("release of an affinity");
}

fn request(handle: &str, ipv4: u32, ipv6: u32) -> AssignRequest {
    AssignRequest {
        handle: handle.to_string(),
        attributes: BTreeMap::new(),
        ipv4,
        ipv6,
        ipv4_pools: Vec::new(),
        ipv6_pools: Vec::new(),
        use_: AllowedUse::Workload,
    }
}

/// What a worker was told, line by line.
struct Journal(File);

impl Journal {
    fn new(path: &Path) -> Self {
        Journal(File::create(path).unwrap())
    }

    /// One system call: the line is there, or it is not.
    fn write(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

fn journal_path(dir: &Path, node: &str, seed: u64) -> PathBuf {
    dir.join("..").join(format!("{node}-{seed}.journal"))
}

/// Handles with their addresses that a journal says are held, and those that may be.
fn read_journal(path: &Path) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut held = BTreeMap::new();
    // A worker killed at its start has none.
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["hold", handle, ref addresses @ ..] => {
                let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
                held.insert(handle.to_string(), addresses);
            }
            ["drop", handle] => {
                held.remove(handle);
            }
            _ => {}
        }
    }
    held
}

async fn open(dir: &Path) -> Store {
    Store::open(&format!("file:{}", dir.display())).await.unwrap()
}

/// Killed when the test ends, however it ends.
struct Worker {
    child: Child,
    journal: PathBuf,
    kill_after: Option<Duration>,
}

impl Worker {
    fn start(dir: &Path, node: &str, seed: u64, kill_after: Option<Duration>) -> Self {
        let operations = kill_after.map_or(OPERATIONS, |_| u32::MAX);
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["worker", "--exact", "--nocapture"]);
        command.env(WORKER, format!("{}:{node}:{seed}:{operations}", dir.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Worker {
            child: command.spawn().unwrap(),
            journal: journal_path(dir, node, seed),
            kill_after,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills those whose time has come and waits for the rest; how many were killed in the middle.
fn supervise(workers: &mut [Worker]) -> usize {
    let start = Instant::now();
    let mut killed = 0;
    let mut running: Vec<&mut Worker> = workers.iter_mut().collect();
    while !running.is_empty() {
        assert!(
            start.elapsed() < DEADLINE,
            "{} workers still run after {DEADLINE:?}",
            running.len()
        );
        running.retain_mut(|worker| {
            if let Some(status) = worker.child.try_wait().unwrap() {
                assert!(status.success(), "{}: {status}", worker.journal.display());
                return false;
            }
            if worker.kill_after.is_some_and(|after| start.elapsed() >= after) {
                worker.child.kill().unwrap();
                worker.child.wait().unwrap();
                killed += 1;
                return false;
            }
            true
        });
        std::thread::sleep(Duration::from_millis(2));
    }
    killed
}

async fn pools(store: &Store) {
    for (name, cidr, block_size) in [("four", "10.0.0.0/26", 29), ("six", "fd00::/121", 125)] {
        let mut spec = IpPoolSpec::new(cidr.parse().unwrap());
        spec.block_size = Some(block_size);
        store.create(&IpPool::new(name, spec)).await.unwrap();
    }
}

async fn assert_sound(store: &Store, residue: bool, context: &str) {
    let found = problems(store).await.unwrap();
    let wrong = found.iter().filter(|p| !(residue && p.is_residue()));
    let wrong: Vec<String> = wrong.map(Problem::to_string).collect();
    assert!(wrong.is_empty(), "{context}: {wrong:#?}");
}

#[tokio::test]
async fn processes_share_a_store_and_die() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    let store = open(&dir).await;
    pools(&store).await;
    let mut rng = Rng::new(42);
    let nodes = ["n1", "n1", "n2", "n3"];
    let mut journals = Vec::new();
    let mut killed = 0;
    // Each generation finds what the killed ones of the last have left.
    for generation in 0..3u64 {
        let start = |(i, node): (usize, &&str)| {
            let die = i % 2 == 1;
            let kill_after = die.then(|| Duration::from_millis(20 + rng.below(400)));
            Worker::start(&dir, node, generation * 100 + i as u64, kill_after)
        };
        let mut workers: Vec<Worker> = nodes.iter().enumerate().map(start).collect();
        killed += supervise(&mut workers);
        journals.extend(workers.iter().map(|worker| worker.journal.clone()));
        let context = format!("generation {generation}");
        assert_sound(&store, true, &context).await;
        assert_held(&store, &journals, &context).await;
    }
    assert!(
        killed > 0,
        "no worker was killed in the middle: the test proves nothing"
    );
    release_all(&store, &journals).await;
}

/// Every address that a journal says is held is stored under its handle, and under no other.
async fn assert_held(store: &Store, journals: &[PathBuf], context: &str) {
    let reader = Allocator::new(store.clone(), "reader".to_string());
    let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
    for (handle, addresses) in journals.iter().flat_map(|path| read_journal(path)) {
        let stored: BTreeSet<IpAddr> = reader.addresses_of(&handle).await.unwrap().into_iter().collect();
        assert_eq!(stored, addresses, "{context}: {handle}");
        for address in addresses {
            let other = owners.insert(address, handle.clone());
            assert_eq!(other, None, "{context}: {address} is {handle}'s too");
        }
    }
    assert!(
        !owners.is_empty(),
        "{context}: nobody holds anything: the test proves nothing"
    );
}

/// A new process of each node puts right what the killed ones left; with every handle released, nothing is left.
async fn release_all(store: &Store, journals: &[PathBuf]) {
    for node in ["n1", "n2", "n3"] {
        Allocator::new(store.clone(), node.to_string())
            .resume()
            .await
            .unwrap();
    }
    assert_sound(store, true, "resumed").await;
    let any = Allocator::new(store.clone(), "n1".to_string());
    let handles: BTreeSet<String> = journals
        .iter()
        .flat_map(|path| read_journal(path).into_keys())
        .collect();
    let stored = store.list::<datastore::types::IpamHandle>().await.unwrap();
    let known = stored.into_iter().map(|handle| handle.spec.handle_id);
    for handle in handles.into_iter().chain(known) {
        any.release_handle(&handle).await.unwrap();
    }
    assert_sound(store, false, "all released").await;
    for block in store.list::<IpamBlock>().await.unwrap() {
        let used = block.spec.allocations.iter().flatten().count();
        assert_eq!(used, 0, "{} has lost addresses", block.spec.cidr);
    }
}

#[tokio::test]
async fn two_agents_never_own_the_same_block() {
    // One block for three nodes and strict rules: whoever claims it has it, the others have nothing.
    for round in 0..3u64 {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        let store = open(&dir).await;
        let mut spec = IpPoolSpec::new("10.0.0.0/29".parse().unwrap());
        spec.block_size = Some(29);
        store.create(&IpPool::new("one", spec)).await.unwrap();
        let config: datastore::types::IpamConfig = datastore::types::IpamConfig::new(
            "default",
            datastore::types::IpamConfigSpec {
                strict_affinity: true,
                ..Default::default()
            },
        );
        store.create(&config).await.unwrap();
        let nodes = ["a", "b", "c"];
        let start = |node: &&str| Worker::start(&dir, node, round, None);
        let mut workers: Vec<Worker> = nodes.iter().map(start).collect();
        supervise(&mut workers);
        assert_sound(&store, false, &format!("round {round}")).await;
        let holders = workers
            .iter()
            .filter(|worker| !read_journal(&worker.journal).is_empty());
        assert!(
            holders.count() <= 1,
            "round {round}: two nodes hold addresses of one block"
        );
    }
}
