//! What only shows inside: the seal, permissions, a watch without inotify; and that no text makes reading panic.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{layout::Key, manifest::Manifest, notify::Notifier, objects::Objects, watch::follow};
use crate::{
    DeleteOptions, KindInfo, RawEvent, Resource, kinds,
    types::{IpPool, IpPoolSpec, Secret},
};

static POOL: KindInfo = IpPool::KIND;
static SECRET: KindInfo = Secret::KIND;

fn parse(bytes: &[u8]) -> Result<Manifest, Box<crate::Invalid>> {
    let key = Key::new(&IpPool::KIND, "", "a").expect("a name");
    Manifest::parse(&IpPool::KIND, &key, Path::new("/x/ippools/a.yaml"), bytes)
}

fn composed() -> String {
    let pool = IpPool::new("a", IpPoolSpec::new("10.0.0.0/16".parse().expect("a network")));
    let raw = serde_json::to_value(pool).expect("JSON");
    Manifest::compose(&IpPool::KIND, raw, 17).expect("a manifest").1
}

#[test]
fn what_is_composed_is_read_back_and_ends_in_its_seal() {
    let text = composed();
    let read = parse(text.as_bytes()).expect("a manifest");
    assert!(read.sealed);
    assert_eq!((read.version(), read.revision), ("17", 17));
    let last = text.lines().last().expect("a line");
    assert!(last.starts_with("# routelet: revision 17, sha256 "), "{last}");
}

#[test]
fn any_change_of_a_sealed_text_changes_the_version() {
    let text = composed();
    for (at, _) in text.char_indices() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(changed) = parse(&bytes) {
            assert_ne!(changed.version(), "17", "{}", String::from_utf8_lossy(&bytes));
        }
    }
    let appended = parse(format!("{text}\n").as_bytes()).expect("a manifest");
    assert!(appended.version().starts_with("17-"), "{}", appended.version());
}

#[test]
fn a_copied_seal_does_not_fit_another_text() {
    let seal = composed().lines().last().map(str::to_string).expect("a line");
    let other = "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.1.0.0/16}\n";
    assert!(
        !parse(format!("{other}{seal}\n").as_bytes())
            .expect("a manifest")
            .sealed
    );
}

#[tokio::test]
async fn a_watch_without_inotify_looks_by_the_clock() {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = Arc::new(Objects::new(dir.path().to_path_buf()));
    let (events, mut receiver) = tokio::sync::mpsc::channel(4);
    tokio::spawn(follow(Arc::clone(&objects), Notifier::deaf(), &POOL, events));
    let mut next = async || {
        let event = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await;
        event
            .expect("an event in time")
            .expect("no end")
            .expect("no trouble")
    };
    assert_eq!(next().await, RawEvent::Restarted(Vec::new()));
    let new = IpPool::new("a", IpPoolSpec::new("10.0.0.0/16".parse().expect("a network")));
    let made = objects
        .create(&POOL, serde_json::to_value(new).expect("JSON"))
        .expect("created");
    assert_eq!(next().await, RawEvent::Applied(made.object.clone()));
    objects
        .delete(&POOL, "a", &DeleteOptions::default())
        .expect("deleted");
    assert_eq!(next().await, RawEvent::Deleted(made.object.clone()));
}

#[test]
fn secrets_are_for_their_owner_and_permissions_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = Objects::new(dir.path().to_path_buf());
    let mode = |file: &str| {
        let metadata = std::fs::metadata(dir.path().join(file)).expect("there");
        metadata.permissions().mode() & 0o777
    };
    let secret = serde_json::to_value(Secret::new("ns", "s")).expect("JSON");
    objects.create(&SECRET, secret).expect("created");
    assert_eq!(mode("secrets/ns/s.yaml"), 0o600);
    let new = IpPool::new("a", IpPoolSpec::new("10.0.0.0/16".parse().expect("a network")));
    let made = objects
        .create(&POOL, serde_json::to_value(new).expect("JSON"))
        .expect("created");
    assert_eq!(mode("ippools/a.yaml"), 0o644);
    let file = dir.path().join("ippools/a.yaml");
    std::fs::set_permissions(file, Permissions::from_mode(0o640)).expect("changed");
    let mut changed = made.object.clone();
    changed["spec"]["disabled"] = true.into();
    objects.update(&POOL, changed).expect("updated");
    assert_eq!(mode("ippools/a.yaml"), 0o640);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_shuffle_of_lines_panics(lines in prop::collection::vec(prop::sample::select(vec![
        "apiVersion: crd.projectcalico.org/v1", "kind: IPPool", "metadata:", "  name: a", "spec:", "  cidr: 10.0.0.0/8",
        "  blockSize: 26", "- x", "  - {", "}", "---", "&a", "*a", "? ", "!!binary x", "  <<: *a", "'", "\"", "# routelet: revision 1, sha256 ",
        "  labels: {a: 1, b: [c]}", "  uid: 1", "\t", ": ", "%YAML 1.1", "|", ">",
    ]), 0..20)) {
        let text = lines.join("\n");
        let _ = parse(text.as_bytes());
        for kind in kinds() {
            let _ = (kind.parse_yaml)(&text);
        }
        let _ = super::lines::line_of(&text, "spec.cidr[0].x");
    }

    #[test]
    fn every_string_survives(value in any::<String>()) {
        let mut pool = IpPool::new("a", IpPoolSpec::new("10.0.0.0/16".parse().expect("a network")));
        pool.metadata.annotations.insert("key".to_string(), value.clone());
        let raw = serde_json::to_value(&pool).expect("JSON");
        let (_, text) = Manifest::compose(&IpPool::KIND, raw, 1).expect("a manifest");
        let read = parse(text.as_bytes()).expect("a manifest");
        prop_assert_eq!(&read.object["metadata"]["annotations"]["key"], &value);
    }
}

#[test]
fn a_pools_range_and_block_size_are_for_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = Objects::new(dir.path().to_path_buf());
    let pool = IpPool::new("a", IpPoolSpec::new("10.0.0.0/16".parse().expect("a network")));
    let stored = objects.create(&POOL, serde_json::to_value(pool).expect("JSON"));
    let stored = stored.expect("created").object.clone();
    let changed = |field: &str, value: serde_json::Value| {
        let mut object = stored.clone();
        object["spec"][field] = value;
        objects
            .update(&POOL, object)
            .map(|manifest| manifest.object.clone())
    };
    for (field, value) in [("cidr", "10.0.0.0/17".into()), ("blockSize", 27.into())] {
        let error = changed(field, value).expect_err(field).to_string();
        assert!(error.contains(&format!("spec.{field}: immutable")), "{error}");
        assert!(error.contains("make a new pool"), "{error}");
    }
    // Said or not, it is the same size.
    let same = changed("blockSize", 26.into()).expect("no change in meaning");
    assert_eq!(same["spec"]["blockSize"], 26);
}

#[test]
fn an_update_that_says_nothing_new_beyond_the_type_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = Objects::new(dir.path().to_path_buf());
    let pool = IpPool::new("a", IpPoolSpec::new("10.0.0.0/16".parse().expect("a network")));
    let mut raw = serde_json::to_value(pool).expect("JSON");
    raw["spec"]["later"] = "x".into();
    let stored = objects.create(&POOL, raw).expect("created");
    let mut same = stored.object.clone();
    same["spec"]["later"] = "x".into();
    let updated = objects.update(&POOL, same.clone()).expect("updated");
    assert_eq!(updated.version(), stored.version());
    same["spec"]["later"] = "y".into();
    let updated = objects.update(&POOL, same).expect("updated");
    assert_ne!(updated.version(), stored.version());
    assert_eq!(updated.raw["spec"]["later"], "y");
}
