//! The fake keeps the storage port's contract.

use std::sync::Arc;

use vestibule_testkit::{InMemoryStorage, storage_contract};

async fn open() -> (Arc<InMemoryStorage>, ()) {
    (Arc::new(InMemoryStorage::default()), ())
}

storage_contract!(open);
