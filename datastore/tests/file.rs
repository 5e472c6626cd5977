//! The `file:` backend keeps every rule of the interface.

mod conformance;

use datastore::Store;
use tempfile::TempDir;

async fn empty_directory() -> (Store, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&format!("file:{}", dir.path().display()))
        .await
        .expect("opened");
    (store, dir)
}

conformance_tests!(empty_directory);
