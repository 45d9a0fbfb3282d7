//! Commits that come at once are written in one transaction, and none of them suffers by it, nor whoever waits for what they queue.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use time::UtcDateTime;
use time::macros::utc_datetime;
use tokio::time::timeout;
use tokio_postgres::Client;
use uuid::Uuid;
use vestibule_domain::limits::{Limit, Scope, Step, Tally};
use vestibule_domain::quota::Quota;
use vestibule_domain::spending::{Money, Purse, Spend, Unsent, Window};
use vestibule_domain::{
    Account, AttemptId, ClientAddress, Content, Locale, Message, MessageId, Origin, PhoneNumber, Recipient,
    Session, SessionId, UserId,
};
use vestibule_port_storage::{Changes, CommitError, Outbox as _, Save, Storage as _};
use vestibule_postgres::{Migrate, Postgres};
use vestibule_testkit::postgres::{TestDatabase, TestDatabases};

const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);

/// Commits at once.
const MANY: u32 = 40;

/// Times that many groups are written at once.
const ROUNDS: u32 = 10;

async fn open() -> (TestDatabase, Postgres, Client) {
    let databases =
        TestDatabases::create(async |url| drop(Postgres::open(url, 1, Migrate::Yes).await.unwrap()));
    let database = databases.await.unwrap();
    let storage = Postgres::open(&database.url, 16, Migrate::No).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    (database, storage, client)
}

fn user(number: u32) -> UserId {
    UserId::new(Uuid::from_u128(u128::from(number) + 1))
}

fn origin() -> Origin {
    Origin { fingerprint: None, address: ClientAddress::of([192, 0, 2, 1].into()) }
}

/// An account with a phone of its own.
fn account(number: u32) -> Changes {
    account_of(user(number), number)
}

fn account_of(user: UserId, phone: u32) -> Changes {
    let phone = PhoneNumber::restore(&format!("+4478{phone:08}")).unwrap();
    Changes { account: Some(Save::new(Account::open(user, phone, origin(), NOW))), ..Changes::default() }
}

/// A session of an account.
fn session(number: u32, of: u32) -> Changes {
    let id = SessionId::new(user(number).uuid());
    Changes { session: Some(Save::new(Session::open(id, user(of), origin(), NOW))), ..Changes::default() }
}

/// A message to somebody.
fn message(number: u32) -> Changes {
    let id = Uuid::from_u128(u128::from(number));
    let message = Message {
        id: MessageId::new(id),
        recipient: Recipient::Phone(PhoneNumber::restore("+447871234567").unwrap()),
        content: Content::SignUpCode { attempt: AttemptId::new(id), generation: 0 },
        voice: Locale::new("en").into(),
        queued_at: NOW,
        expires_at: NOW + Duration::from_mins(10),
    };
    Changes { messages: vec![message], ..Changes::default() }
}

/// What a message costs, which no group spends.
fn price() -> Spend {
    Spend {
        purse: Purse::All,
        window: Window::Day,
        start: UtcDateTime::UNIX_EPOCH,
        amount: Money::from_micros(1),
        unsent: Unsent::Returned,
        ceiling: Money::from_micros(1000),
        rest: Duration::ZERO,
    }
}

async fn commit_all(
    storage: &Postgres,
    all: impl IntoIterator<Item = Changes>,
) -> Vec<Result<(), CommitError>> {
    join_all(all.into_iter().map(|changes| storage.commit(changes))).await
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(&format!("SELECT {query}"), &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn commits_at_once_share_a_transaction() {
    let (_database, storage, client) = open().await;
    assert_eq!(commit_all(&storage, (0..MANY).map(account)).await, vec![Ok(()); 40]);
    assert_eq!(number(&client, "count(*) FROM accounts").await, 40);
    assert_eq!(number(&client, "count(DISTINCT xmin::text) FROM accounts").await, 1);
}

#[tokio::test]
async fn a_commit_wakes_who_waits_for_messages_in_whatever_way_it_is_written() {
    let (_database, storage, client) = open().await;
    // It listens now, and may have missed something.
    timeout(Duration::from_secs(10), storage.queued()).await.unwrap();
    let paid = Changes { spends: vec![price()], ..message(MANY) };
    let together = (1..MANY).map(message).collect();
    for (way, changes) in
        [("alone", vec![message(0)]), ("in a group", together), ("never in a group", vec![paid])]
    {
        let early = timeout(Duration::from_millis(100), storage.queued()).await;
        early.expect_err("woken without cause");
        let (outcomes, woken) =
            tokio::join!(commit_all(&storage, changes), timeout(Duration::from_secs(2), storage.queued()));
        assert!(outcomes.iter().all(Result::is_ok), "{way}: {outcomes:?}");
        woken.unwrap_or_else(|_| panic!("{way}: nobody was woken"));
    }
    assert_eq!(number(&client, "count(*) FROM messages").await, 41);
    assert_eq!(number(&client, "count(DISTINCT xmin::text) FROM messages").await, 3);
}

#[tokio::test]
async fn one_that_is_refused_takes_no_other_with_it() {
    let (_database, storage, client) = open().await;
    storage.commit(account(0)).await.unwrap();
    // Another has the phone of the first, the last but one is there twice, and nobody has the account of the last.
    let all = [account_of(user(MANY), 0)].into_iter().chain((1..MANY).map(account));
    let outcomes = commit_all(&storage, all.chain([account(MANY - 1), session(0, MANY)])).await;
    let refused: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).collect();
    assert_eq!(
        refused,
        [&Err(CommitError::PhoneTaken), &Err(CommitError::Conflict), &Err(CommitError::Conflict)]
    );
    assert_eq!(outcomes.first(), Some(&Err(CommitError::PhoneTaken)));
    assert_eq!(outcomes.last(), Some(&Err(CommitError::Conflict)));
    assert_eq!(number(&client, "count(*) FROM accounts").await, 40);
    // The others stay together: beside the first, which was there before, and one of the two that are one.
    let transactions = number(&client, "count(DISTINCT xmin::text) FROM accounts").await;
    assert!(transactions <= 3, "{transactions} transactions");
    // The connection is as good as before.
    assert_eq!(commit_all(&storage, (0..2).map(|number| session(number, 0))).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn one_that_waits_for_a_lock_holds_no_other_up() {
    let (_database, storage, client) = open().await;
    commit_all(&storage, (0..MANY).map(account)).await;
    let lock = format!("BEGIN; SELECT FROM accounts WHERE user_id = '{}' FOR UPDATE", user(0).uuid());
    client.batch_execute(&lock).await.unwrap();
    let begun = Instant::now();
    let (locked, others) = tokio::join!(storage.commit(session(0, 0)), async {
        let others = commit_all(&storage, (1..MANY).map(|number| session(number, number))).await;
        (others, begun.elapsed())
    });
    let (outcomes, took) = others;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert!(matches!(locked, Err(CommitError::Unavailable(_))), "{locked:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    storage.commit(session(0, 0)).await.unwrap();
}

#[tokio::test]
async fn a_group_that_takes_too_long_is_written_apart() {
    let (_database, storage, client) = open().await;
    let slow = "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END';
                CREATE TRIGGER slow BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION dawdle()";
    client.batch_execute(slow).await.unwrap();
    assert_eq!(commit_all(&storage, (0..3).map(account)).await, vec![Ok(()); 3]);
    assert_eq!(number(&client, "count(DISTINCT xmin::text) FROM accounts").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_that_correct_the_same_budgets_never_wait_for_each_other() {
    let (_database, storage, client) = open().await;
    let storage = Arc::new(storage);
    let tally = |scope| Tally {
        limit: Limit { step: Step::Code, scope },
        quota: Quota { burst: 16_000, period: Duration::from_secs(16_000) },
        taken: 1,
        returned_percent: 0,
        now: NOW,
    };
    // Every other group wants the two budgets the other way round.
    let budget = |number| Scope::Address(ClientAddress::of([192, 0, 2, number].into()));
    let corrected = |group, number| Changes {
        tallies: vec![tally(budget(if (group + number) % 2 == 0 { 1 } else { 2 }))],
        ..account(group * MANY + number)
    };
    for round in 0..ROUNDS {
        let groups = (0..8).map(|group| {
            let storage = Arc::clone(&storage);
            let all: Vec<_> = (0..MANY).map(|number| corrected(round * 8 + group, number)).collect();
            tokio::spawn(async move { commit_all(&storage, all).await })
        });
        for outcomes in join_all(groups).await {
            assert_eq!(outcomes.unwrap(), vec![Ok(()); 40]);
        }
    }
    // A budget has a unit in a second.
    let taken = "sum(extract(epoch FROM full_at - '2026-11-24 12:00Z'))::bigint FROM limits";
    assert_eq!(number(&client, taken).await, i64::from(ROUNDS * 8 * MANY), "each is counted once");
    let transactions = number(&client, "count(DISTINCT xmin::text) FROM accounts").await;
    // Each group may have had a first who was alone. One that is written apart has 39 transactions more.
    assert!(transactions < i64::from(ROUNDS * 8 * 2 + MANY / 2), "groups were written apart: {transactions}");
}
