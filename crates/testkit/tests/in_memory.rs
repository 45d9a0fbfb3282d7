//! The fake keeps the storage port's contract.

#![expect(clippy::unused_async, reason = "the contract opens any storage")]

use std::sync::Arc;

use vestibule_testkit::{InMemoryArchive, InMemoryStorage, archive_target_contract, storage_contract};

async fn open() -> (Arc<InMemoryStorage>, ()) {
    (Arc::new(InMemoryStorage::default()), ())
}

storage_contract!(open);

async fn open_archive() -> (Arc<InMemoryArchive>, ()) {
    std::future::ready((Arc::default(), ())).await
}

archive_target_contract!(open_archive);
