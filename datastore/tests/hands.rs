//! Manifests written and edited by hand, while others read, write and watch.

mod support;

use std::fs;

use datastore::{
    DeleteOptions, Error, Store, WatchEvent,
    types::{IpPool, IpPoolSpec},
};
use support::{Directory, POOL, next, silence};

#[tokio::test]
async fn a_new_manifest_is_an_object_with_an_identity() {
    let dir = Directory::new().await;
    dir.write("ippools/a.yaml", POOL);
    let pool: IpPool = dir.store.get("a").await.expect("there");
    assert_eq!(pool.spec.cidr.to_string(), "10.10.0.0/16");
    assert_eq!(pool.metadata.uid.len(), 36);
    // Every process computes the same.
    let other = dir.reopen().await;
    assert_eq!(other.get::<IpPool>("a").await.expect("there"), pool);
    assert_eq!(other.list::<IpPool>().await.expect("listed"), [pool]);
}

#[tokio::test]
async fn an_update_stores_the_identity_and_keeps_what_the_type_does_not_know() {
    let dir = Directory::new().await;
    let unknown = POOL.replace("metadata:", "metadata:\n  finalizers: [x/y]");
    dir.write(
        "ippools/a.yaml",
        &format!("{unknown}  future: {{deep: [1, 2]}}\n"),
    );
    let mut pool: IpPool = dir.store.get("a").await.expect("there");
    pool.spec.disabled = true;
    let stored = dir.store.update(&pool).await.expect("updated");
    assert_eq!(stored.metadata.uid, pool.metadata.uid);
    let text = dir.read("ippools/a.yaml");
    let raw: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
    assert_eq!(raw["spec"]["future"]["deep"], serde_json::json!([1, 2]), "{text}");
    assert_eq!(
        raw["metadata"]["finalizers"],
        serde_json::json!(["x/y"]),
        "{text}"
    );
    assert_eq!(raw["metadata"]["uid"], pool.metadata.uid.as_str(), "{text}");
    assert_eq!(raw["spec"]["disabled"], true, "{text}");
    // kubectl apply would take it for a precondition.
    assert_eq!(raw["metadata"].get("resourceVersion"), None, "{text}");
}

#[tokio::test]
async fn an_edit_between_read_and_update_is_not_lost() {
    let dir = Directory::new().await;
    let mut pool = dir.store.create(&support::pool("a")).await.expect("created");
    let text = dir.read("ippools/a.yaml");
    dir.write(
        "ippools/a.yaml",
        &text.replace("natOutgoing: false", "natOutgoing: true"),
    );
    pool.spec.disabled = true;
    let error = dir.store.update(&pool).await.expect_err("it was edited");
    assert!(error.is_conflict(), "{error:?}");
    let stale = DeleteOptions {
        uid: None,
        resource_version: Some(pool.metadata.resource_version.clone()),
    };
    assert!(
        dir.store
            .delete::<IpPool>("a", stale)
            .await
            .expect_err("it was edited")
            .is_conflict()
    );

    let mut edited: IpPool = dir.store.get("a").await.expect("there");
    assert!(edited.spec.nat_outgoing);
    assert_eq!(edited.metadata.uid, pool.metadata.uid);
    edited.spec.disabled = true;
    let stored = dir.store.update(&edited).await.expect("updated");
    assert!(stored.spec.nat_outgoing && stored.spec.disabled);
}

#[tokio::test]
async fn edits_are_told_to_watches() {
    let dir = Directory::new().await;
    let mut events = dir.store.watch::<IpPool>();
    assert_eq!(next(&mut events).await, WatchEvent::Restarted(Vec::new()));
    dir.write("ippools/a.yaml", POOL);
    assert!(matches!(next(&mut events).await, WatchEvent::Applied(pool) if pool.metadata.name == "a"));
    dir.write("ippools/a.yaml", &format!("{POOL}  disabled: true\n"));
    assert!(matches!(next(&mut events).await, WatchEvent::Applied(pool) if pool.spec.disabled));
    fs::remove_file(dir.path("ippools/a.yaml")).expect("removed");
    assert!(matches!(next(&mut events).await, WatchEvent::Deleted(pool) if pool.spec.disabled));
}

#[tokio::test]
async fn a_broken_manifest_is_reported_and_the_last_good_version_stays() {
    let dir = Directory::new().await;
    let mut events = dir.store.watch::<IpPool>();
    assert_eq!(next(&mut events).await, WatchEvent::Restarted(Vec::new()));
    dir.write("ippools/a.yaml", POOL);
    let WatchEvent::Applied(good) = next(&mut events).await else {
        panic!("expected Applied");
    };

    let broken = POOL.replace("10.10.0.0/16", "10.10.0.0/16\n  blockSize: 99");
    dir.write("ippools/a.yaml", &broken);
    let WatchEvent::Invalid(invalid) = next(&mut events).await else {
        panic!("expected Invalid");
    };
    assert_eq!(
        invalid.to_string(),
        format!(
            "{}:8: IPPool \"a\": spec.blockSize: 99 is out of range: expected 20 to 32 for IPv4",
            dir.path("ippools/a.yaml").display()
        )
    );
    assert_eq!(
        dir.store.get::<IpPool>("a").await.expect("the last good version"),
        good
    );
    assert_eq!(
        dir.store.list::<IpPool>().await.expect("listed"),
        std::slice::from_ref(&good)
    );
    let mut changed = good.clone();
    changed.spec.disabled = true;
    let error = dir
        .store
        .update(&changed)
        .await
        .expect_err("the edit would be lost");
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    assert_eq!(dir.read("ippools/a.yaml"), broken);

    // A process that never saw a good version.
    let other = dir.reopen().await;
    assert_eq!(other.list::<IpPool>().await.expect("listed"), []);
    let error = other.get::<IpPool>("a").await.expect_err("broken");
    assert_eq!(error.to_string(), invalid.to_string());
    let mut late = other.watch::<IpPool>();
    assert_eq!(next(&mut late).await, WatchEvent::Restarted(Vec::new()));
    assert_eq!(next(&mut late).await, WatchEvent::Invalid(invalid));

    // Mended, though to what was there before: whoever noted the trouble must learn that it is over.
    dir.write("ippools/a.yaml", POOL);
    assert_eq!(next(&mut events).await, WatchEvent::Applied(good.clone()));
    assert_eq!(next(&mut late).await, WatchEvent::Applied(good));
}

#[tokio::test]
async fn a_broken_manifest_can_be_deleted_but_not_conditionally() {
    let dir = Directory::new().await;
    dir.write("ippools/a.yaml", "spec: [");
    let options = DeleteOptions {
        uid: None,
        resource_version: Some("1".to_string()),
    };
    let error = dir
        .store
        .delete::<IpPool>("a", options)
        .await
        .expect_err("nothing to compare with");
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    assert!(
        dir.store
            .create(&support::pool("a"))
            .await
            .expect_err("a file is there")
            .is_already_exists()
    );
    dir.store
        .delete::<IpPool>("a", DeleteOptions::default())
        .await
        .expect("deleted");
    dir.store.create(&support::pool("a")).await.expect("created");
}

#[tokio::test]
async fn every_mistake_is_named_with_its_line_and_what_would_be_right() {
    let dir = Directory::new().await;
    let cases = [
        (
            POOL.replace("name: a", "name: b"),
            ":5: IPPool \"a\": metadata.name: b belongs in ippools/b.yaml, and this is ippools/a.yaml: rename the file or the object",
        ),
        (
            POOL.replace("kind: IPPool", "kind: IPool"),
            ":3: IPPool \"a\": kind: expected IPPool, found \"IPool\"",
        ),
        (
            POOL.replace("crd.projectcalico.org/v1", "projectcalico.org/v3"),
            ":2: IPPool \"a\": apiVersion: expected crd.projectcalico.org/v1, found \"projectcalico.org/v3\"",
        ),
        (
            POOL.replace("  cidr: 10.10.0.0/16\n", "  blockSize: 26\n"),
            ":7: IPPool \"a\": spec.cidr: missing, and it must be there",
        ),
        (
            POOL.replace("10.10.0.0/16", "10.10.0.0/33"),
            ":7: IPPool \"a\": spec.cidr: not a network: expected ADDRESS/LENGTH, as in 10.0.0.0/16",
        ),
        (
            POOL.replace("10.10.0.0/16", "10.10.0.1/16"),
            ":7: IPPool \"a\": spec.cidr: 10.10.0.1/16 has bits beyond its mask: expected 10.10.0.0/16",
        ),
        (
            format!("{POOL}  ipipMode: always\n"),
            ":8: IPPool \"a\": spec.ipipMode: unknown variant `always`, expected one of `Never`, `Always`, `CrossSubnet`",
        ),
        (
            format!("{POOL}  nodeSelector: rack = 'a'\n"),
            ":8: IPPool \"a\": spec.nodeSelector: at character 6: expected ==, !=, in, not in, contains, starts with or ends with, found \"= 'a'\"",
        ),
        (
            format!("{POOL}  uid: 1\n").replace("name: a", "name: a\n  uid: x"),
            ":6: IPPool \"a\": metadata.uid: \"x\" is no UUID: leave it out, one will be given",
        ),
        (
            POOL.replace("name: a", "name: a\n  namespace: default"),
            ":6: IPPool \"a\": metadata.namespace: IPPool is cluster-wide: leave the namespace out",
        ),
        (
            "nonsense".to_string(),
            ":1: IPPool \"a\": expected one manifest: apiVersion, kind, metadata, …",
        ),
        (
            String::new(),
            ":1: IPPool \"a\": expected one manifest: apiVersion, kind, metadata, …",
        ),
        (
            format!("{POOL}\tdisabled: true\n"),
            ":8: IPPool \"a\": found a tab character that violates indentation",
        ),
    ];
    for (text, expected) in cases {
        dir.write("ippools/a.yaml", &text);
        let error = dir
            .reopen()
            .await
            .get::<IpPool>("a")
            .await
            .expect_err(&text)
            .to_string();
        let after_path = error
            .strip_prefix(&dir.path("ippools/a.yaml").display().to_string())
            .unwrap_or(&error);
        assert!(
            after_path.starts_with(expected),
            "{text}\n  says: {after_path}\nwanted: {expected}"
        );
    }
    for (text, expected) in [
        (
            format!("{POOL}  cidr: 10.0.0.0/8\n"),
            "duplicate entry with key \"cidr\"",
        ),
        (format!("{POOL}---\n{POOL}"), "more than one document"),
    ] {
        dir.write("ippools/a.yaml", &text);
        let error = dir
            .reopen()
            .await
            .get::<IpPool>("a")
            .await
            .expect_err(&text)
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    fs::write(dir.path("ippools/a.yaml"), b"a: 1\nb: \xff\n").expect("written");
    let error = dir
        .store
        .get::<IpPool>("a")
        .await
        .expect_err("not text")
        .to_string();
    assert!(
        error.ends_with("a.yaml:2: IPPool \"a\": not UTF-8 text"),
        "{error}"
    );
}

#[tokio::test]
async fn a_manifest_of_another_ending_is_named() {
    let dir = Directory::new().await;
    dir.write("ippools/a.yml", POOL);
    let mut events = dir.store.watch::<IpPool>();
    assert_eq!(next(&mut events).await, WatchEvent::Restarted(Vec::new()));
    match next(&mut events).await {
        WatchEvent::Invalid(invalid) => {
            assert!(
                invalid
                    .to_string()
                    .ends_with("not read: manifests end in .yaml, so name it a.yaml"),
                "{invalid}"
            );
        }
        other => panic!("expected Invalid, got {other:?}"),
    }
}

#[tokio::test]
async fn editors_delete_nothing() {
    let dir = Directory::new().await;
    let mut events = dir.store.watch::<IpPool>();
    assert_eq!(next(&mut events).await, WatchEvent::Restarted(Vec::new()));
    dir.write("ippools/a.yaml", POOL);
    assert!(matches!(next(&mut events).await, WatchEvent::Applied(_)));
    let file = dir.path("ippools/a.yaml");
    let with = |size: u8| format!("{POOL}  blockSize: {size}\n");

    // In place, by truncating and writing in pieces.
    fs::write(&file, "").expect("truncated");
    fs::write(&file, &POOL[..40]).expect("half");
    fs::write(&file, with(27)).expect("written");
    // Through a temporary file.
    fs::write(dir.path("ippools/.a.yaml.swp"), with(28)).expect("written");
    fs::rename(dir.path("ippools/.a.yaml.swp"), &file).expect("renamed");
    // As vim does: the old file becomes the backup, and a new one takes its place.
    fs::rename(&file, dir.path("ippools/a.yaml~")).expect("renamed");
    fs::write(&file, with(29)).expect("written");
    fs::remove_file(dir.path("ippools/a.yaml~")).expect("removed");

    loop {
        match next(&mut events).await {
            WatchEvent::Applied(pool) if pool.spec.block_size == Some(29) => break,
            WatchEvent::Applied(_) => {}
            other => panic!("expected Applied, got {other:?}"),
        }
    }
    silence(&mut events).await;
}

#[tokio::test]
async fn edits_faster_than_the_clock_of_the_file_system_are_seen() {
    let dir = Directory::new().await;
    for at in 0..=250 {
        let size = 20 + at % 10;
        dir.write("ippools/a.yaml", &format!("{POOL}  blockSize: {size}\n"));
        let pool: IpPool = dir.store.get("a").await.expect("there");
        assert_eq!(pool.spec.block_size, Some(size), "edit {at}");
    }
}

#[tokio::test]
async fn a_manifest_moved_away_is_deleted() {
    let dir = Directory::new().await;
    dir.write("ippools/a.yaml", POOL);
    let mut events = dir.store.watch::<IpPool>();
    assert!(matches!(next(&mut events).await, WatchEvent::Restarted(pools) if pools.len() == 1));
    fs::rename(dir.path("ippools/a.yaml"), dir.path("a.yaml")).expect("moved");
    assert!(matches!(next(&mut events).await, WatchEvent::Deleted(pool) if pool.metadata.name == "a"));
    fs::rename(dir.path("a.yaml"), dir.path("ippools/a.yaml")).expect("moved back");
    assert!(matches!(next(&mut events).await, WatchEvent::Applied(pool) if pool.metadata.name == "a"));
}

#[tokio::test]
async fn a_folder_removed_and_made_anew_is_followed() {
    let dir = Directory::new().await;
    dir.store.create(&support::pool("a")).await.expect("created");
    let mut events = dir.store.watch::<IpPool>();
    assert!(matches!(next(&mut events).await, WatchEvent::Restarted(pools) if pools.len() == 1));
    fs::remove_dir_all(dir.path("ippools")).expect("removed");
    assert!(matches!(next(&mut events).await, WatchEvent::Deleted(_)));
    dir.store.create(&support::pool("b")).await.expect("created");
    assert!(matches!(next(&mut events).await, WatchEvent::Applied(pool) if pool.metadata.name == "b"));
    dir.write("ippools/a.yaml", POOL);
    assert!(matches!(next(&mut events).await, WatchEvent::Applied(pool) if pool.metadata.name == "a"));
}

#[tokio::test]
async fn a_directory_that_is_gone_is_trouble_and_not_a_deletion() {
    let dir = Directory::new().await;
    dir.store.create(&support::pool("a")).await.expect("created");
    let mut events = dir.store.watch::<IpPool>();
    assert!(matches!(next(&mut events).await, WatchEvent::Restarted(pools) if pools.len() == 1));
    let away = dir.root.with_extension("away");
    fs::rename(&dir.root, &away).expect("moved");
    let error = support::next_item(&mut events)
        .await
        .expect_err("the directory is gone");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(matches!(
        dir.store.list::<IpPool>().await,
        Err(Error::Unavailable { .. })
    ));
    assert!(matches!(
        dir.store.get::<IpPool>("a").await,
        Err(Error::Unavailable { .. })
    ));
    fs::rename(&away, &dir.root).expect("moved back");
    dir.store.create(&support::pool("b")).await.expect("created");
    assert!(matches!(next(&mut events).await, WatchEvent::Applied(pool) if pool.metadata.name == "b"));
}

#[tokio::test]
async fn restoring_a_backup_restores_its_version_and_no_version_is_given_twice() {
    let dir = Directory::new().await;
    let first = dir.store.create(&support::pool("a")).await.expect("created");
    let backup = dir.read("ippools/a.yaml");
    let mut second = first.clone();
    second.spec.disabled = true;
    let second = dir.store.update(&second).await.expect("updated");
    dir.write("ippools/a.yaml", &backup);
    assert_eq!(dir.store.get::<IpPool>("a").await.expect("there"), first);
    let mut third = first.clone();
    third.spec.nat_outgoing = true;
    let third = dir.store.update(&third).await.expect("updated");
    assert!(support::revision(&third) > support::revision(&second));
}

#[tokio::test]
async fn hands_may_not_leave_the_directory() {
    let dir = Directory::new().await;
    for name in ["..", "../ippools/a", "/etc/passwd", "a/../b"] {
        let error = dir.store.get::<IpPool>(name).await.expect_err(name);
        assert!(
            matches!(&error, Error::Invalid(invalid) if invalid.field == "metadata.name"),
            "{error:?}"
        );
        let new = IpPool::new(name, IpPoolSpec::new("10.0.0.0/16".parse().expect("a network")));
        assert!(
            matches!(dir.store.create(&new).await, Err(Error::Invalid(_))),
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let dir = Directory::new().await;
    dir.write("file", "");
    for (address, expected) in [
        (format!("file:{}/file", dir.root.display()), "Not a directory"),
        (
            format!("file:{}/file/below", dir.root.display()),
            "Not a directory",
        ),
        ("file:/proc/routelet".to_string(), "No such file or directory"),
        ("file:".to_string(), "expected file:DIRECTORY"),
        ("etcd:http://x".to_string(), "unknown datastore \"etcd:http://x\""),
        ("/var/lib".to_string(), "expected file:DIRECTORY"),
    ] {
        let error = Store::open(&address).await.expect_err(&address).to_string();
        assert!(
            error.to_lowercase().contains(&expected.to_lowercase()),
            "{address}: {error}"
        );
    }
}
