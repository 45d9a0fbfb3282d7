//! The adapter keeps the storage port's contract.

#![expect(
    clippy::unwrap_used,
    clippy::unused_async,
    reason = "the contract opens any storage; a failure fails the test"
)]

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::{
    Account, ClientAddress, Content, Locale, Message, MessageId, Origin, PhoneNumber, Recipient, Session,
    SessionId, UserId,
};
use vestibule_port_storage::archive::{Archive as _, ArchiveSource as _, Table};
use vestibule_port_storage::{Changes, NumberDigest, Outbox as _, Room, Save, Settlement, Storage as _};
use vestibule_sqlite::{Migrate, OpenError, Sqlite, SqliteArchive};
use vestibule_testkit::{archive_contract, storage_contract};

async fn open() -> (Arc<Sqlite>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let storage = Sqlite::open(&directory.path().join("test.db"), 4, Migrate::Yes).unwrap();
    (Arc::new(storage), directory)
}

storage_contract!(open);

async fn read(_: &Sqlite, directory: &TempDir) -> Arc<SqliteArchive> {
    Arc::new(SqliteArchive::open(&directory.path().join("test.db")).unwrap())
}

archive_contract!(open, read);

#[tokio::test]
async fn an_archive_is_a_snapshot_and_notices_who_writes() {
    let (storage, directory) = open().await;
    let archive = read(&storage, &directory).await;
    assert!(!archive.has_changed().await.unwrap());
    let used = Changes { used_number: Some(NumberDigest([1; 32])), ..Changes::default() };
    storage.commit(used).await.unwrap();
    assert_eq!(archive.count(Table::UsedNumbers).await.unwrap(), 0);
    assert!(archive.has_changed().await.unwrap());
}

#[tokio::test]
async fn an_archive_is_of_tables_that_this_version_knows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("50% of?#.db");
    assert!(matches!(SqliteArchive::open(&path).err(), Some(OpenError::Missing)));
    assert!(!path.exists());
    drop(Sqlite::open(&path, 1, Migrate::Yes).unwrap());
    drop(SqliteArchive::open(&path).unwrap());
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let mut change = |statement: &str| connection.batch_execute(statement).unwrap();
    change("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')");
    assert!(matches!(SqliteArchive::open(&path).err(), Some(OpenError::Newer)));
    change("DELETE FROM __diesel_schema_migrations");
    assert!(matches!(SqliteArchive::open(&path).err(), Some(OpenError::Outdated)));
}

#[tokio::test]
async fn what_the_first_versions_have_written_is_read() {
    let (storage, directory) = open().await;
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
    let mut other = SqliteConnection::establish(directory.path().join("test.db").to_str().unwrap()).unwrap();
    let changed = other
        .batch_execute("UPDATE accounts SET opened_address = NULL; UPDATE sessions SET last_used_at = NULL");
    changed.unwrap();
    let signed_in = storage.account_of_session(user, session).await.unwrap().unwrap();
    assert_eq!(signed_in.session.value, opened);
    assert_eq!(signed_in.account.value.opened_from(), None);
}

#[tokio::test]
async fn a_message_that_nobody_can_read_holds_up_no_other() {
    let (storage, directory) = open().await;
    let now = UtcDateTime::UNIX_EPOCH;
    let message = |number: u128| Message {
        id: MessageId::new(Uuid::from_u128(number)),
        recipient: Recipient::Phone(PhoneNumber::parse("+447871234567").unwrap()),
        content: Content::AlreadyRegistered,
        voice: Locale::new("en").into(),
        queued_at: now,
        expires_at: now + Duration::from_mins(1),
    };
    storage.commit(Changes { messages: vec![message(1), message(2)], ..Changes::default() }).await.unwrap();
    let mut other = SqliteConnection::establish(directory.path().join("test.db").to_str().unwrap()).unwrap();
    let changed = other.batch_execute(
        "UPDATE messages SET kind = 'of_a_later_version' WHERE id = (SELECT min(id) FROM messages)",
    );
    changed.unwrap();
    let claimed = storage.claim(Room::for_each(9), Duration::from_secs(9), now).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.message.id).collect::<Vec<_>>(), [message(2).id]);
    assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), Some(now + Duration::from_secs(9)));
    // It waits for an instance that knows what it says, until it is worth nothing.
    let later = now + Duration::from_mins(1);
    assert_eq!(storage.claim(Room::for_each(9), Duration::from_secs(9), later).await.unwrap().len(), 1);
    storage.settle(message(2).id, 2, Settlement::Expired { at: later }).await.unwrap();
    assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), None);
}

#[tokio::test]
async fn the_files_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (storage, directory) = open().await;
    storage.ready().await.unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
    }
}
