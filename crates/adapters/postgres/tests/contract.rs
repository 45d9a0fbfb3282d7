//! The adapter keeps the storage port's contract.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::sync::Arc;

use vestibule_postgres::{Migrate, Postgres};
use vestibule_testkit::postgres::{TestDatabase, TestDatabases};
use vestibule_testkit::{archive_contract, archive_target_contract, storage_contract};

async fn migrated() -> TestDatabase {
    let database =
        TestDatabases::create(async |url| drop(Postgres::open(url, 1, Migrate::Yes).await.unwrap()));
    database.await.unwrap()
}

async fn open() -> (Arc<Postgres>, TestDatabase) {
    let database = migrated().await;
    (Arc::new(Postgres::open(&database.url, 8, Migrate::No).await.unwrap()), database)
}

storage_contract!(open);

async fn read(storage: &Arc<Postgres>, _: &TestDatabase) -> Arc<Postgres> {
    std::future::ready(Arc::clone(storage)).await
}

archive_contract!(open, read);
archive_target_contract!(open);
