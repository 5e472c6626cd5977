//! What a disk does to a store: leftovers, a lost counter, no space.

mod support;

use std::{fs, path::Path, process::Command};

use datastore::{DeleteOptions, Error, types::IpPool};
use support::{Directory, open, pool, revision};

#[tokio::test]
async fn leftovers_are_ignored_and_removed_by_the_first_write() {
    let dir = Directory::new().await;
    dir.store.create(&pool("a")).await.expect("created");
    for file in [
        "ippools/.routelet.tmp",
        "nodes/.routelet.tmp",
        "pods/red/.routelet.tmp",
    ] {
        dir.write(file, "apiVersion: crd.proj");
    }
    let store = dir.reopen().await;
    assert_eq!(store.list::<IpPool>().await.expect("listed").len(), 1);
    store.create(&pool("b")).await.expect("created");
    for file in [
        "ippools/.routelet.tmp",
        "nodes/.routelet.tmp",
        "pods/red/.routelet.tmp",
    ] {
        assert!(!dir.path(file).exists(), "{file}");
    }
}

#[tokio::test]
async fn a_counter_that_is_lost_garbage_or_behind_is_mended() {
    let dir = Directory::new().await;
    let mut last = 0;
    for counter in [
        None,
        Some(""),
        Some("garbage"),
        Some("00000000000000000001\n"),
        Some("99999999999999999999\n"),
    ] {
        for _ in 0..3 {
            let made = dir.store.create(&pool("a")).await.expect("created");
            assert!(
                revision(&made) > last,
                "{} after {last}, counter {counter:?}",
                revision(&made)
            );
            last = revision(&made);
            dir.store
                .delete::<IpPool>("a", DeleteOptions::default())
                .await
                .expect("deleted");
        }
        let kept = dir.store.create(&pool("kept")).await.expect("created");
        last = revision(&kept);
        match counter {
            None => fs::remove_file(dir.path(".revision")).expect("removed"),
            Some(text) => dir.write(".revision", text),
        }
        // A new process looks before its first write; the old one where it sees the trouble.
        let store = dir.reopen().await;
        let probe = store.create(&pool("probe")).await.expect("created");
        assert!(
            revision(&probe) > last,
            "{} after {last}, counter {counter:?}",
            revision(&probe)
        );
        last = revision(&probe);
        store
            .delete::<IpPool>("probe", DeleteOptions::default())
            .await
            .expect("deleted");
        store
            .delete::<IpPool>("kept", DeleteOptions::default())
            .await
            .expect("deleted");
        last += 2;
    }
}

/// A file system of a few pages, gone with the value.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        fs::create_dir_all(at).expect("made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(at)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_changes_nothing_and_says_so() {
    let keep = tempfile::tempdir().expect("a directory");
    let root = keep.path().join("small");
    let Some(_disk) = SmallDisk::mount(&root) else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let store = open(&root).await;
    let mut made = store.create(&pool("a")).await.expect("created");
    let filler: Vec<u8> = vec![0; 1 << 20];
    let _ = fs::write(root.join("filler"), filler);
    made.metadata
        .annotations
        .insert("much".to_string(), "x".repeat(64 << 10));
    let error = store.update(&made).await.expect_err("there is no room");
    assert!(matches!(&error, Error::Unavailable { .. }), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("ippools/a.yaml") && said.contains("No space left on device"),
        "{said}"
    );
    assert!(!root.join("ippools/.routelet.tmp").exists());
    let there: IpPool = open(&root).await.get("a").await.expect("the old version");
    assert_eq!(there.metadata.annotations, Default::default());
    fs::remove_file(root.join("filler")).expect("room again");
    made.metadata
        .annotations
        .insert("much".to_string(), "x".to_string());
    store.update(&made).await.expect("there is room");
}
