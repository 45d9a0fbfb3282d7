//! What becomes of calls when the server, the network or another session is in trouble.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use time::UtcDateTime;
use time::macros::utc_datetime;
use tokio_postgres::Client;
use uuid::Uuid;
use vestibule_domain::limits::{Limit, Scope, Step};
use vestibule_domain::{
    Account, AttemptId, ClientAddress, Content, DeliveryState, Locale, Message, MessageId, Origin,
    PhoneNumber, Recipient, UserId,
};
use vestibule_port_storage::{
    Changes, CommitError, NumberDigest, Outbox as _, Report, Reported, Room, Save, Storage as _,
};
use vestibule_postgres::{Migrate, OpenError, Postgres};
use vestibule_testkit::postgres::{Durability, PostgresOptions, PostgresServer};
use vestibule_testkit::{Fault, FaultProxy};

const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);

/// In which every call answers, and in which everything works again once the trouble is over.
const SOON: Duration = Duration::from_secs(5);

/// A server for the tests that leave it alone, and a database of its own on it, whose errors are German where the machine can do that.
async fn database() -> (&'static PostgresServer, String) {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = tokio::task::spawn_blocking(|| {
        let options = PostgresOptions { language: Some("de"), ..PostgresOptions::default() };
        SERVER.get_or_init(|| PostgresServer::start(&options).unwrap())
    });
    let server = server.await.unwrap();
    let name = format!("failures_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let client = server.client("postgres").await.unwrap();
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let _ = client.batch_execute(&format!("ALTER DATABASE {name} SET lc_messages = 'C.UTF-8'")).await;
    (server, name)
}

async fn open(url: &str, pool_size: u32) -> Arc<Postgres> {
    Arc::new(Postgres::open(url, pool_size, Migrate::Yes).await.unwrap())
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::restore(&format!("+4478{number:08}")).unwrap()
}

fn origin() -> Origin {
    Origin { fingerprint: None, address: ClientAddress::of([192, 0, 2, 1].into()) }
}

fn digest(number: u32) -> NumberDigest {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    NumberDigest(digest)
}

fn message(number: u32) -> Message {
    Message {
        id: MessageId::new(id(number)),
        recipient: Recipient::Phone(phone(number)),
        content: Content::SignUpCode { attempt: AttemptId::new(id(number)), generation: 1 },
        voice: Locale::new("en").into(),
        queued_at: NOW,
        expires_at: NOW + Duration::from_mins(10),
    }
}

/// A row in each of three tables.
fn changes(number: u32) -> Changes {
    Changes {
        account: Some(Save::new(Account::open(UserId::new(id(number)), phone(number), origin(), NOW))),
        used_number: Some(digest(number)),
        messages: vec![message(number)],
        ..Changes::default()
    }
}

/// Commits, in time.
async fn commit(storage: &Postgres, number: u32) -> Result<(), CommitError> {
    in_time(storage.commit(changes(number))).await
}

/// Reads, in time.
async fn read(storage: &Postgres) -> bool {
    in_time(storage.registration(&phone(0))).await.is_ok()
}

async fn is_there(storage: &Postgres, number: u32) -> bool {
    let client =
        Limit { step: Step::SignUp, scope: Scope::Address(ClientAddress::of([192, 0, 2, 1].into())) };
    storage.sign_up_state(&phone(number), &digest(number), &[client]).await.unwrap().number_used
}

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = call.await;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    answer
}

/// Waits for it, and tells how long that took.
async fn until(mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

fn assert_unavailable(outcome: &Result<(), CommitError>) {
    assert!(matches!(outcome, Err(CommitError::Unavailable(_))), "{outcome:?}");
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {query}"), &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_that_open_an_empty_database_one_migrates() {
    let (server, name) = database().await;
    let opening: Vec<_> = (0..10)
        .map(|_| {
            let url = server.url(&name);
            tokio::spawn(async move { open(&url, 1).await })
        })
        .collect();
    for (number, opened) in (0..).zip(opening) {
        commit(&opened.await.unwrap(), number).await.unwrap();
    }
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../migrations/postgres");
    let migrations = std::fs::read_dir(migrations).unwrap().count();
    let client = server.client(&name).await.unwrap();
    assert_eq!(count(&client, "__diesel_schema_migrations").await, i64::try_from(migrations).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_loses_nothing_and_is_found_again() {
    let options = PostgresOptions { durability: Durability::Durable, ..PostgresOptions::default() };
    let server = PostgresServer::start(&options).unwrap();
    let storage = open(&server.url("postgres"), 4).await;
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let committed = Arc::new(AtomicU32::new(0));
    let writing: Vec<_> = (0..4_u32)
        .map(|writer| {
            let (storage, stop) = (Arc::clone(&storage), Arc::clone(&stop));
            let (refused, committed) = (Arc::clone(&refused), Arc::clone(&committed));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in writer * 1_000_000.. {
                    match commit(&storage, number).await {
                        Ok(()) => {
                            committed.fetch_add(1, Ordering::Relaxed);
                            acknowledged.push(number);
                        }
                        unavailable => {
                            assert_unavailable(&unavailable);
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                acknowledged
            })
        })
        .collect();
    let reading = {
        let (storage, stop) = (Arc::clone(&storage), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                read(&storage).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let commits = async |more: u32| {
        let now = committed.load(Ordering::Relaxed);
        until(async || committed.load(Ordering::Relaxed) >= now + more).await
    };
    for _ in 0..2 {
        commits(50).await;
        let now = refused.load(Ordering::Relaxed);
        server.stop_immediately().unwrap();
        until(async || refused.load(Ordering::Relaxed) >= now + 4).await;
        server.start_again().unwrap();
        let back = commits(1).await;
        println!("a commit {back:?} after the server was back");
        assert!(back < SOON, "{back:?}");
        in_time(storage.registration(&phone(0))).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    reading.await.unwrap();
    let mut acknowledged = 0;
    for written in writing {
        for number in written.await.unwrap() {
            assert!(is_there(&storage, number).await, "{number} was acknowledged and is lost");
            acknowledged += 1;
        }
    }
    println!("{acknowledged} commits acknowledged, {} not", refused.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_for_a_lock_do_not_hold_up_reads() {
    let (server, name) = database().await;
    let storage = open(&server.url(&name), 2).await;
    let other = server.client(&name).await.unwrap();
    other.batch_execute("BEGIN; LOCK TABLE used_numbers IN EXCLUSIVE MODE").await.unwrap();
    let committing: Vec<_> = (0..6)
        .map(|number| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { commit(&storage, number).await })
        })
        .collect();
    let waiting = "pg_locks WHERE relation = 'used_numbers'::regclass AND NOT granted";
    until(async || count(&other, waiting).await == 2).await;
    let begun = Instant::now();
    assert!(read(&storage).await);
    assert!(begun.elapsed() < Duration::from_secs(1), "a read took {:?}", begun.elapsed());
    let asked = Instant::now();
    storage.ready().await.expect("it still serves who reads");
    assert!(asked.elapsed() < Duration::from_millis(500), "it took {:?}", asked.elapsed());
    for outcome in committing {
        assert_unavailable(&outcome.await.unwrap());
    }
    println!("the last commit was refused {:?} after the first one came", begun.elapsed());
    other.batch_execute("ROLLBACK").await.unwrap();
    let begun = Instant::now();
    commit(&storage, 7).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "a commit took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_were_ended_are_replaced() {
    let (server, name) = database().await;
    let storage = open(&server.url(&name), 4).await;
    let client = server.client("postgres").await.unwrap();
    for round in 0..5 {
        let (one, other) = tokio::join!(commit(&storage, round * 10), commit(&storage, round * 10 + 1));
        one.unwrap();
        other.unwrap();
        assert!(read(&storage).await);
        let sessions = format!("pg_stat_activity WHERE datname = '{name}'");
        client.batch_execute(&format!("SELECT pg_terminate_backend(pid) FROM {sessions}")).await.unwrap();
        until(async || count(&client, &format!("{sessions} AND application_name = 'vestibule'")).await <= 1)
            .await;
        // Whoever comes before this process has noticed is refused, and nobody else.
        let mut number = round * 10 + 2;
        let back = until(async || {
            number += 1;
            read(&storage).await && commit(&storage, number).await.is_ok()
        });
        let back = back.await;
        println!("back after {back:?}");
        assert!(back < Duration::from_secs(1), "{back:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_no_connection_can_be_made_is_told() {
    let (server, name) = database().await;
    let storage = open(&server.url(&name), 2).await;
    commit(&storage, 0).await.unwrap();
    let client = server.client("postgres").await.unwrap();
    client.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await.unwrap();
    let sessions = format!("pg_stat_activity WHERE datname = '{name}'");
    client.batch_execute(&format!("SELECT pg_terminate_backend(pid) FROM {sessions}")).await.unwrap();
    let number = AtomicU32::new(1);
    let is_told = async || {
        let refused = commit(&storage, number.fetch_add(1, Ordering::Relaxed)).await.unwrap_err();
        refused.to_string().contains("no connection can be made") && refused.to_string().contains(&name)
    };
    until(is_told).await;
    client.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    let back = until(async || commit(&storage, number.fetch_add(1, Ordering::Relaxed)).await.is_ok()).await;
    assert!(back < SOON, "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_left() {
    let server = PostgresServer::start(&PostgresOptions::default()).unwrap();
    let storage = open(&server.url("postgres"), 1).await;
    commit(&storage, 0).await.unwrap();
    let client = server.client("postgres").await.unwrap();
    let set = async |setting: &str| {
        client.batch_execute(setting).await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    set("ALTER SYSTEM SET default_transaction_read_only = on").await;
    let number = AtomicU32::new(1);
    let is_refused = async || {
        let outcome = commit(&storage, number.fetch_add(1, Ordering::Relaxed)).await;
        outcome.inspect_err(|error| assert!(matches!(error, CommitError::Unavailable(_)), "{error}")).is_err()
    };
    until(is_refused).await;
    assert!(is_refused().await);
    assert!(read(&storage).await);
    // Sessions that begin from now on may write, and those that there are may not: as if the name had passed to a new primary.
    client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    client.batch_execute("ALTER ROLE postgres SET default_transaction_read_only = off").await.unwrap();
    until(async || !is_refused().await).await;
    assert!(!is_refused().await);
    // And the whole server back, under the same sessions.
    client.batch_execute("ALTER ROLE postgres RESET default_transaction_read_only").await.unwrap();
    set("ALTER SYSTEM RESET default_transaction_read_only").await;
    let back = until(async || !is_refused().await).await;
    assert!(back < SOON, "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_not_ready() {
    let server = PostgresServer::start(&PostgresOptions::default()).unwrap();
    let storage = open(&server.url("postgres"), 1).await;
    let client = server.client("postgres").await.unwrap();
    in_time(storage.ready()).await.unwrap();
    let asked = "pg_stat_activity WHERE query LIKE '%\"__diesel_schema_migrations\".\"version\"%' AND pid <> pg_backend_pid()";
    assert_eq!(count(&client, asked).await, 3, "each kind of connection is asked");
    client.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until(async || in_time(storage.ready()).await.is_err()).await;
    let opened = Postgres::open(&server.url("postgres"), 1, Migrate::Yes).await;
    assert!(matches!(opened, Err(OpenError::ReadOnly)), "{:?}", opened.err());
    let both = format!("postgres://postgres@127.0.0.1:1,127.0.0.1:{}/postgres", server.port());
    let opened = Postgres::open(&both, 1, Migrate::Yes).await;
    assert!(matches!(opened, Err(OpenError::ReadOnly)), "{:?}", opened.err());
    // Only sessions that begin from now on may write: those that there are must be left, of each kind.
    client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    client.batch_execute("ALTER ROLE postgres SET default_transaction_read_only = off").await.unwrap();
    let back = until(async || in_time(storage.ready()).await.is_ok()).await;
    assert!(back < SOON, "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_chosen_to_end_a_deadlock_has_lost_a_race() {
    let (server, name) = database().await;
    let storage = open(&server.url(&name), 1).await;
    let other = server.client(&name).await.unwrap();
    other.batch_execute("SET deadlock_timeout = '1min'; BEGIN; LOCK TABLE messages").await.unwrap();
    let committing = tokio::spawn(async move { commit(&storage, 0).await });
    let waiting = "pg_locks WHERE relation = 'messages'::regclass AND NOT granted";
    until(async || count(&other, waiting).await == 1).await;
    other.batch_execute("LOCK TABLE accounts").await.unwrap();
    assert!(matches!(committing.await.unwrap(), Err(CommitError::Conflict)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_at_the_start_is_told_apart() {
    let (server, name) = database().await;
    let client = server.client(&name).await.unwrap();
    client
        .batch_execute("CREATE ROLE visitor LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        .await
        .unwrap();
    let url = format!("postgres://visitor@127.0.0.1:{}/{name}", server.port());
    let opening = async || Postgres::open(&url, 1, Migrate::Yes).await.err().unwrap();
    let refusal = opening().await;
    println!("{refusal}");
    assert!(matches!(refusal, OpenError::Forbidden(_)), "{refusal}");

    // The words are the operator's own.
    let refuse = "GRANT CREATE ON SCHEMA public TO visitor;
        CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = 'insufficient_privilege'; END $$;
        CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse()";
    client.batch_execute(refuse).await.unwrap();
    let refusal = opening().await;
    println!("{refusal}");
    assert!(matches!(refusal, OpenError::Forbidden(_)), "{refusal}");

    client.batch_execute(&format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")).await.unwrap();
    let refusal = opening().await;
    println!("{refusal}");
    assert!(matches!(refusal, OpenError::Refused(_)), "{refusal}");

    client.batch_execute(&format!("GRANT CONNECT ON DATABASE {name} TO visitor")).await.unwrap();
    let admin = server.client("postgres").await.unwrap();
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await.unwrap();
    let refusal = opening().await;
    println!("{refusal}");
    assert!(matches!(refusal, OpenError::NoSession(_)), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_all_at_once() {
    let (server, name) = database().await;
    let client = server.client(&name).await.unwrap();
    // Somebody else's table, of the name of one that is made late.
    client.batch_execute("CREATE TABLE key_mark ()").await.unwrap();
    let refusal = Postgres::open(&server.url(&name), 1, Migrate::Yes).await.map(drop).unwrap_err();
    assert!(matches!(refusal, OpenError::Migration(_)), "{refusal}");
    let made = "pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '%migrations'";
    assert_eq!(count(&client, made).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_waits_for_a_table_that_is_in_use() {
    let (server, name) = database().await;
    let url = server.url(&name);
    let client = server.client(&name).await.unwrap();
    let table = "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)";
    client.batch_execute(table).await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE __diesel_schema_migrations IN SHARE MODE").await.unwrap();
    let opening = tokio::spawn(async move { Postgres::open(&url, 1, Migrate::Yes).await.map(drop) });
    let waiting = "pg_locks WHERE relation = '__diesel_schema_migrations'::regclass AND NOT granted";
    until(async || count(&client, waiting).await == 1).await;
    until(async || count(&client, waiting).await == 0).await;
    assert_eq!(count(&client, "pg_tables WHERE schemaname = 'public'").await, 1);
    client.batch_execute("COMMIT").await.unwrap();
    opening.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_hear_of_each_others_messages_and_share_them() {
    let (server, name) = database().await;
    let one = open(&server.url(&name), 4).await;
    let other = open(&server.url(&name), 4).await;
    // Both listen when they have been woken for what they may have missed.
    tokio::time::timeout(SOON, async { tokio::join!(one.queued(), other.queued()) }).await.unwrap();
    let begun = Instant::now();
    commit(&one, 0).await.unwrap();
    tokio::time::timeout(Duration::from_secs(3), other.queued()).await.expect("nobody was told");
    println!("another instance heard of it {:?} later", begun.elapsed());

    for number in 1..40 {
        commit(&one, number).await.unwrap();
    }
    let lease = Duration::from_mins(1);
    let (mut claimed, mut rounds) = (Vec::new(), 0);
    while claimed.len() < 40 {
        let (some, more) = tokio::join!(
            one.claim(Room::for_each(7), lease, NOW),
            other.claim(Room::for_each(7), lease, NOW)
        );
        claimed.extend(some.unwrap().into_iter().chain(more.unwrap()).map(|claimed| claimed.message.id));
        rounds += 1;
        assert!(rounds <= 40, "only {} of 40 were claimed", claimed.len());
    }
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 40, "a message was leased to both");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_waits_for_a_settlement_is_put_on_its_record() {
    let (server, name) = database().await;
    let storage = open(&server.url(&name), 2).await;
    let other = server.client(&name).await.unwrap();
    for (number, (state, waits)) in (0..).zip([
        (DeliveryState::Delivered, "DELETE FROM messages"),
        (DeliveryState::Expired, "DELETE FROM messages"),
        (DeliveryState::Failed, "FROM messages WHERE id = $1 AND NOT dead FOR UPDATE"),
    ]) {
        commit(&storage, number).await.unwrap();
        storage.claim(Room::for_each(1), Duration::from_mins(1), NOW).await.unwrap();
        let settling = format!(
            "BEGIN; WITH gone AS (DELETE FROM messages WHERE id = '{}' RETURNING *)
             INSERT INTO deliveries (id, kind, recipient, provider, state, tries, queued_at, changed_at)
             SELECT id, kind, masked, 'a', 'sent', tries, queued_at, queued_at FROM gone",
            id(number)
        );
        other.batch_execute(&settling).await.unwrap();
        let message = Reported::Message(MessageId::new(id(number)));
        let report = Report { message, provider: "a", state, reason: None, at: NOW };
        let recording = {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { in_time(storage.record_delivery(&report)).await })
        };
        let waiting = format!("pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{waits}%'");
        until(async || count(&other, &waiting).await == 1).await;
        other.batch_execute("COMMIT").await.unwrap();
        assert!(recording.await.unwrap().unwrap());
        let recorded = format!("deliveries WHERE id = '{}' AND state = '{}'", id(number), state.as_str());
        assert_eq!(count(&other, &recorded).await, 1, "{state:?} is lost");
    }
}

/// A storage behind a proxy, with one connection for commits.
async fn behind_proxy() -> (Arc<Postgres>, FaultProxy, Client, String) {
    let (server, name) = database().await;
    let proxy = FaultProxy::start(([127, 0, 0, 1], server.port()).into()).await.unwrap();
    let url = format!("postgres://postgres@{}/{name}", proxy.address());
    let storage = open(&url, 1).await;
    commit(&storage, 0).await.unwrap();
    assert!(read(&storage).await);
    (storage, proxy, server.client(&name).await.unwrap(), url)
}

/// The server's numbers of the sessions that commits ran in, or what they left open.
const COMMITTING: &str =
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'WITH p0 %'
    AND pid <> pg_backend_pid()";
const OPEN_TRANSACTIONS: &str = "pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";

async fn pids(client: &Client) -> Vec<i32> {
    client.query(COMMITTING, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_whole_or_not_at_all() {
    let (storage, proxy, client, _) = behind_proxy().await;
    let before = pids(&client).await;
    assert_eq!(before.len(), 1);
    proxy.set(Fault::LoseAnswers);
    let begun = Instant::now();
    assert_unavailable(&commit(&storage, 1).await);
    println!("unavailable after {:?}", begun.elapsed());
    let whole = async || {
        let accounts = count(&client, &format!("accounts WHERE user_id = '{}'", id(1))).await;
        let messages = count(&client, &format!("messages WHERE id = '{}'", id(1))).await;
        assert_eq!(accounts, messages, "the commit is torn");
        accounts == 1
    };
    // The statement had arrived, so it is there.
    assert!(whole().await && is_there_by(&client, 1).await);
    proxy.set(Fault::None);
    until(async || pids(&client).await.iter().all(|pid| !before.contains(pid))).await;
    assert_eq!(count(&client, OPEN_TRANSACTIONS).await, 0);
    let begun = Instant::now();
    until(async || commit(&storage, 2).await.is_ok()).await;
    assert!(begun.elapsed() < SOON);
}

async fn is_there_by(client: &Client, number: u32) -> bool {
    let digests = client.query("SELECT digest FROM used_numbers", &[]).await.unwrap();
    digests.iter().any(|row| row.get::<_, Vec<u8>>(0) == digest(number).0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_makes_nobody_wait_longer() {
    let (storage, proxy, client, url) = behind_proxy().await;
    proxy.set(Fault::BlackHole);
    let opening = in_time(Postgres::open(&url, 1, Migrate::No));
    let (commits, reads, opened) = tokio::join!(
        async { (commit(&storage, 1).await, commit(&storage, 2).await) },
        async { (read(&storage).await, read(&storage).await) },
        opening,
    );
    assert_unavailable(&commits.0);
    assert_unavailable(&commits.1);
    assert_eq!(reads, (false, false));
    assert!(matches!(opened, Err(OpenError::Unreachable(_))));
    proxy.set(Fault::None);
    let begun = Instant::now();
    until(async || read(&storage).await && commit(&storage, 3).await.is_ok()).await;
    println!("back after {:?}", begun.elapsed());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    until(async || count(&client, OPEN_TRANSACTIONS).await == 0).await;
    for (table, key) in [("accounts", "user_id"), ("messages", "id")] {
        let whole = count(&client, &format!("{table} WHERE {key} = '{}'", id(1))).await == 1;
        assert_eq!(whole, is_there_by(&client, 1).await, "the commit is torn");
    }
}

/// Eight readers, each asking again and again with the patience of somebody whose token is read, until they are answered.
async fn impatient_readers_are_answered(storage: &Postgres) -> Duration {
    let patience = Duration::from_secs(1);
    let is_answered = async || matches!(tokio::time::timeout(patience, read(storage)).await, Ok(true));
    let answered = join_all((0..8).map(|_| until(is_answered))).await;
    answered.into_iter().max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn impatient_readers_find_the_second_host() {
    let (server, name) = database().await;
    let one = FaultProxy::start(([127, 0, 0, 1], server.port()).into()).await.unwrap();
    let url = format!("postgres://postgres@{},127.0.0.1:{}/{name}", one.address(), server.port());
    let storage = open(&url, 8).await;
    assert!(read(&storage).await);
    // It listens, and will pause before it looks for the second host.
    tokio::time::timeout(SOON, storage.queued()).await.unwrap();
    one.set(Fault::Reset);
    tokio::time::sleep(Duration::from_millis(200)).await;
    one.set(Fault::BlackHole);
    let longest = impatient_readers_are_answered(&storage).await;
    println!("answered after {longest:?}");
    // Which takes three seconds; what listens has found it after four.
    assert!(longest < Duration::from_secs(4), "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn impatient_readers_leave_connections_that_were_forgotten() {
    let (storage, proxy, _, _) = behind_proxy().await;
    proxy.set(Fault::Forgotten);
    let longest = impatient_readers_are_answered(&storage).await;
    println!("answered after {longest:?}");
    assert!(longest < SOON, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_costs_nobody_the_connection() {
    let (storage, proxy, client, _) = behind_proxy().await;
    let sessions = async || {
        let sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid";
        let sessions = client.query(sessions, &[]).await.unwrap();
        sessions.iter().map(|row| row.get(0)).collect::<Vec<i32>>()
    };
    let before = sessions().await;
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    for _ in 0..3 {
        let gone = tokio::time::timeout(Duration::from_millis(50), storage.registration(&phone(0))).await;
        assert!(gone.is_err());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(read(&storage).await);
    assert_eq!(sessions().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_works_and_a_reset_one_is_answered_at_once() {
    let (storage, proxy, client, _) = behind_proxy().await;
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    commit(&storage, 1).await.unwrap();
    proxy.set(Fault::Reset);
    assert_unavailable(&commit(&storage, 2).await);
    assert!(!read(&storage).await);
    proxy.set(Fault::None);
    let back = until(async || read(&storage).await && commit(&storage, 3).await.is_ok()).await;
    println!("back after {back:?}");
    assert!(back < SOON, "{back:?}");
    assert_eq!(count(&client, OPEN_TRANSACTIONS).await, 0);
}
