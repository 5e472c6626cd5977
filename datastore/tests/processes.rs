//! Several processes on one directory, and processes that are killed while they write. The processes are this test
//! binary, told by an environment variable to be a worker.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use datastore::{
    DeleteOptions, Store,
    types::{IpPool, Node},
};
use support::{Directory, open, pool, revision};

const WORKER: &str = "ROUTELET_TEST_WORKER";
const ROOT: &str = "ROUTELET_TEST_ROOT";

fn spawn(worker: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().expect("our path"))
        .args(["--exact", "worker", "--nocapture", "--test-threads=1"])
        .env(WORKER, worker)
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawned")
}

/// What the spawned processes run; nothing without the variable.
#[tokio::test]
async fn worker() {
    let Ok(worker) = std::env::var(WORKER) else {
        return;
    };
    let store = open(Path::new(&std::env::var(ROOT).expect("a directory"))).await;
    match worker.as_str() {
        "increment" => {
            for _ in 0..INCREMENTS {
                increment(&store).await;
            }
        }
        "churn" => churn(&store).await,
        other => panic!("no such worker: {other}"),
    }
}

const INCREMENTS: u64 = 40;

fn count(node: &Node) -> u64 {
    node.metadata
        .annotations
        .get("count")
        .map_or(0, |count| count.parse().expect("a number"))
}

async fn increment(store: &Store) {
    loop {
        let mut node: Node = store.get("shared").await.expect("there");
        let next = count(&node) + 1;
        node.metadata
            .annotations
            .insert("count".to_string(), next.to_string());
        match store.update(&node).await {
            Ok(_) => return,
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }
}

#[tokio::test]
async fn no_increment_of_racing_processes_is_lost() {
    let dir = Directory::new().await;
    dir.store.create(&Node::new("shared")).await.expect("created");
    let workers: Vec<_> = (0..4).map(|_| spawn("increment", &dir.root)).collect();
    for _ in 0..INCREMENTS {
        increment(&dir.store).await;
    }
    for mut worker in workers {
        // Read to the end first: a full pipe would stop it.
        let said = BufReader::new(worker.stdout.take().expect("a pipe"))
            .lines()
            .map_while(Result::ok);
        let said: Vec<_> = said.collect();
        assert!(worker.wait().expect("it ends").success(), "{said:?}");
    }
    assert_eq!(
        count(&dir.store.get("shared").await.expect("there")),
        5 * INCREMENTS
    );
}

/// Creates, updates and deletes without end, and says what was done once the store said so.
async fn churn(store: &Store) {
    for round in 0.. {
        for name in ["a", "b", "c"] {
            match store.get::<IpPool>(name).await {
                Ok(pool) if round % 4 == 3 => {
                    let options = DeleteOptions {
                        uid: None,
                        resource_version: Some(pool.metadata.resource_version),
                    };
                    println!("deleting {name}");
                    store.delete::<IpPool>(name, options).await.expect("deleted");
                    println!("deleted {name}");
                }
                Ok(mut pool) => {
                    pool.spec.disabled = !pool.spec.disabled;
                    let stored = store.update(&pool).await.expect("updated");
                    println!("wrote {name} {}", revision(&stored));
                }
                Err(_) => {
                    let stored = store.create(&pool(name)).await.expect("created");
                    println!("wrote {name} {}", revision(&stored));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_the_old_or_the_new_version_and_never_an_old_number() {
    let dir = Directory::new().await;
    let mut highest = 0;
    for round in 0..25 {
        let mut child = spawn("churn", &dir.root);
        // It dies at another point of its work each time; what it had said by then is on disk.
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut written: BTreeMap<String, u64> = BTreeMap::new();
        let mut doubtful = None;
        for (at, line) in lines.map_while(Result::ok).enumerate() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["wrote", name, revision] => {
                    let revision = revision.parse().expect("a number");
                    assert!(revision > highest, "round {round}: {revision} after {highest}");
                    highest = revision;
                    written.insert(name.to_string(), revision);
                    doubtful = None;
                }
                ["deleting", name] => doubtful = Some(name.to_string()),
                ["deleted", name] => {
                    written.remove(name);
                    doubtful = None;
                }
                _ => {}
            }
            if at == 5 + round {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("it is dead");
        if let Some(name) = doubtful {
            written.remove(&name);
        }
        check_after_kill(&dir, &written, &mut highest).await;
    }
}

/// Everything parses, nothing that was acknowledged is lost, and the next version is above all before.
async fn check_after_kill(dir: &Directory, written: &BTreeMap<String, u64>, highest: &mut u64) {
    let store = dir.reopen().await;
    let pools: Vec<IpPool> = store.list().await.expect("listed");
    let manifests = fs::read_dir(dir.path("ippools"))
        .expect("listed")
        .filter(|entry| {
            entry
                .as_ref()
                .is_ok_and(|entry| entry.path().extension().is_some())
        })
        .filter(|entry| {
            entry
                .as_ref()
                .is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        });
    assert_eq!(manifests.count(), pools.len(), "a manifest does not parse");
    for pool in &pools {
        // Every version is whole, by its seal: an edited one would not be a number.
        *highest = (*highest).max(revision(pool));
    }
    for (name, least) in written {
        match pools.iter().find(|pool| pool.metadata.name == *name) {
            Some(pool) => assert!(revision(pool) >= *least, "{name} went back to {}", revision(pool)),
            None => panic!("{name} was written and is gone"),
        }
    }
    let probe = store.create(&pool("probe")).await.expect("created");
    assert!(revision(&probe) > *highest);
    *highest = revision(&probe);
    store
        .delete::<IpPool>("probe", DeleteOptions::default())
        .await
        .expect("deleted");
    *highest += 1;
    assert!(
        !dir.path("ippools/.routelet.tmp").exists(),
        "a leftover was not removed"
    );
}
