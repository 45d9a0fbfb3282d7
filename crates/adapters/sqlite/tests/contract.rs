//! The adapter keeps the storage port's contract.

#![expect(
    clippy::unwrap_used,
    clippy::unused_async,
    reason = "the contract opens any storage; a failure fails the test"
)]

use std::sync::Arc;

use tempfile::TempDir;
use vestibule_sqlite::{Migrate, Sqlite};
use vestibule_testkit::storage_contract;

async fn open() -> (Arc<Sqlite>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let storage = Sqlite::open(&directory.path().join("test.db"), 4, Migrate::Yes).unwrap();
    (Arc::new(storage), directory)
}

storage_contract!(open);
