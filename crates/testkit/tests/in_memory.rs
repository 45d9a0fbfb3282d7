//! The fake keeps the storage port's contract.

#![expect(clippy::unused_async, reason = "the contract opens any storage")]

use std::sync::Arc;

use vestibule_testkit::{InMemoryStorage, storage_contract};

async fn open() -> (Arc<InMemoryStorage>, ()) {
    (Arc::new(InMemoryStorage::default()), ())
}

storage_contract!(open);
