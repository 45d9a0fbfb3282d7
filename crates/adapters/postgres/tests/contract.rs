//! The adapter keeps the storage port's contract.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::limits::{Limit, Scope, Step, Tally};
use vestibule_domain::quota::Quota;
use vestibule_domain::{
    Account, ClientAddress, Content, Country, Locale, Message, MessageId, Origin, PhoneNumber, Recipient,
    RefreshTokenHash, Session, SessionId, UserId,
};
use vestibule_port_storage::archive::{ArchiveTarget as _, Table};
use vestibule_port_storage::{Budgets, Changes, Outbox as _, Room, Save, Storage as _};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leaves_traces() {
    for (table, row) in [
        ("kept_answers", "sha256(''), sha256(''), id, now(), NULL, now()"),
        ("accepted_signatures", "sha256(''), now()"),
        ("spending", "'all', 'hour', now(), 1"),
        ("reservations", "id, 'all', 'hour', now(), 1, 0"),
        ("sent_codes", "id, id, now(), 'GB', '44787', '192.0.2.0', 1"),
        ("held_codes", "id, now(), 'GB', '44787', '192.0.2.0', 'code', 'slowed', true, 1, 1"),
    ] {
        let (storage, database) = open().await;
        storage.import(archive_contract::records()).await.unwrap();
        let insert = format!("INSERT INTO {table} SELECT {row} FROM messages ORDER BY id LIMIT 1");
        assert_eq!(database.tamper(&insert).await.unwrap(), 1);
        assert_eq!(storage.trace_of_service().await.unwrap(), Some(table));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_versions_have_written_is_read() {
    let (storage, database) = open().await;
    let phone = PhoneNumber::parse("+447871234567").unwrap();
    let (user, session) = (UserId::new(Uuid::nil()), SessionId::new(Uuid::nil()));
    let origin = Origin { fingerprint: None, address: ClientAddress::of([192, 0, 2, 1].into()) };
    let opened_at = UtcDateTime::UNIX_EPOCH + Duration::from_mins(1);
    let opened = Session::open(session, user, origin, opened_at);
    let changes = Changes {
        account: Some(Save::new(Account::open(user, phone, origin, opened_at))),
        session: Some(Save::new(opened.clone())),
        ..Changes::default()
    };
    storage.commit(changes).await.unwrap();
    // As the migration leaves them.
    database.tamper("UPDATE accounts SET opened_address = NULL").await.unwrap();
    database.tamper("UPDATE sessions SET last_used_at = NULL").await.unwrap();
    let signed_in = storage.account_of_session(user, session).await.unwrap().unwrap();
    assert_eq!(signed_in.session.value, opened);
    assert_eq!(signed_in.account.value.opened_from(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_a_newer_version_adds_disturb_nobody() {
    let (storage, database) = open().await;
    let message = |number: u128| Message {
        id: MessageId::new(Uuid::from_u128(number)),
        recipient: Recipient::Phone(PhoneNumber::parse("+447871234567").unwrap()),
        content: Content::AlreadyRegistered,
        voice: Locale::new("en").into(),
        queued_at: UtcDateTime::UNIX_EPOCH,
        expires_at: UtcDateTime::UNIX_EPOCH + Duration::from_mins(1),
    };
    let phone = PhoneNumber::parse("+447871234567").unwrap();
    let (user, session) = (UserId::new(Uuid::nil()), SessionId::new(Uuid::nil()));
    let client = Limit { step: Step::Reset, scope: Scope::Address(ClientAddress::of([192, 0, 2, 1].into())) };
    let token = RefreshTokenHash::restore([1; 32]);
    for round in 1..=2 {
        // Every connection of the pool has prepared its statements in the first round.
        for number in 0..32 {
            let messages = vec![message(round * 100 + number)];
            storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
            let lease = Duration::from_secs(9);
            let claimed = storage.claim(Room::for_each(9), lease, UtcDateTime::UNIX_EPOCH).await.unwrap();
            assert_eq!(claimed.len(), 1);
            assert!(storage.registration(&phone).await.unwrap().is_none());
            assert!(storage.account_of_session(user, session).await.unwrap().is_none());
            assert!(storage.credentials(&phone, &[client]).await.unwrap().account.is_none());
            assert!(storage.refresh_state(&token).await.unwrap().is_none());
        }
        for table in Table::ALL.map(Table::as_str).into_iter().chain(["attempts"]) {
            database.tamper(&format!("ALTER TABLE {table} ADD COLUMN later{round} text")).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_in_parts_is_in_use_when_all_of_its_parts_are() {
    let (storage, _database) = open().await;
    let now = UtcDateTime::UNIX_EPOCH;
    let limit = Limit { step: Step::Code, scope: Scope::Country(Country::parse("GB").unwrap()) };
    let quota = Quota { burst: 1600, period: Duration::from_hours(100) };
    let mut sent = 0;
    while storage.budgets_in_use(Step::Code, now, 9).await.unwrap() == Budgets::default() {
        let charged = storage
            .budgets(&[limit])
            .await
            .unwrap()
            .0
            .get(&limit)
            .map_or(0, |level| level.parts.iter().flatten().count());
        assert!(charged < 16, "{charged}");
        let tallies = vec![Tally { limit, quota, taken: 1, returned_percent: 0, now }];
        storage.commit(Changes { tallies, ..Changes::default() }).await.unwrap();
        sent += 1;
    }
    assert!((16..=48).contains(&sent), "{sent}");
    let fullest = (quota.part(16), Some(now + Duration::from_hours(1)));
    let in_use = storage.budgets_in_use(Step::Code, now, 9).await.unwrap();
    for budgets in [in_use, storage.budgets(&[limit]).await.unwrap()] {
        assert_eq!(budgets.0.len(), 1);
        assert_eq!(budgets.0[&limit].fullest(quota), fullest);
    }
}
