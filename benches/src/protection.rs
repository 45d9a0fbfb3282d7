//! What the guard against pumping and the limits add to a request: processor time of the service and the database, which others on
//! the machine hardly change.
//!
//! Two services, one that enforces the guard and one that has none, are asked the same in turns, each over a database of its own on one
//! server. Limits cannot be turned off; of them the statements of a sign-up are compared, which read and charge them or do not. Every client has a device
//! and an address of its own. Passwords cost next to nothing to hash here, or nothing else would be seen; what the hash would take is measured beside it.

use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use vestibule_port_storage::{Outbox as _, Room};
use vestibule_postgres::{Migrate, Postgres};
use vestibule_testkit::cheap_hashing;
use vestibule_testkit::postgres::{Durability, PostgresOptions, PostgresServer};

use crate::client::forwarded;
use crate::figures::Figures;
use crate::hashing;
use crate::load::{Script, Then, as_fast_as_answered};
use crate::people::{Limited, People, refresh, sign_up};
use crate::pgbench::CONNECTIONS;
use crate::service::Service;

/// Requests in a turn, by so many clients.
const REQUESTS: u32 = 2000;
const CLIENTS: u32 = 16;

/// Who is asked in which turn. What changes steadily meanwhile comes to the same for both.
const TURNS: [Side; 10] = {
    use Side::{With, Without};
    [With, Without, Without, With, With, Without, Without, With, With, Without]
};

/// The first turns, which count for nothing: connections are made and statements prepared.
const WARM_UP: usize = 2;

/// The first of those who refresh, who confirm, who sign up, and whose statements alone are measured.
const REFRESH: u32 = 0;
const CONFIRM: u32 = 100_000;
const SIGN_UP: u32 = 200_000;
const STATEMENTS: u32 = 300_000;

/// Longer than a turn may take.
const TOO_LONG: Duration = Duration::from_mins(1);

/// How long hashes are made to know what one costs.
const HASHING: Duration = Duration::from_secs(2);

/// How often it is looked whether all messages have left.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    With,
    Without,
}

/// Processor time of so many requests with something, and of as many without it.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) with: Duration,
    pub(crate) without: Duration,
    pub(crate) requests: u32,
}

impl Added {
    /// Seconds more for each request.
    pub(crate) fn for_each(&self) -> f64 {
        (self.with.as_secs_f64() - self.without.as_secs_f64()) / f64::from(self.requests)
    }
}

pub(crate) async fn measure(figures: &mut Figures<impl Write>) -> anyhow::Result<()> {
    // What the server clears away by itself it would clear away in somebody's turn.
    let settings = vec![("autovacuum", "off".to_owned())];
    let server = PostgresServer::start(&PostgresOptions {
        durability: Durability::Durable,
        settings,
        language: None,
    })?;
    figures.part("Postgres, what the guard and the limits add; the processors' time for each request")?;
    let (enforce, off) = (Guarded::start(&server, "enforce").await?, Guarded::start(&server, "off").await?);
    let of = |side| if side == Side::With { &enforce } else { &off };

    let guard =
        in_turns(SIGN_UP, async |side, numbers| of(side).spend(numbers, |_, number| sign_up(number)).await);
    let guard = guard.await?;
    figures.added("sign-ups, guard", &guard)?;
    let confirm =
        in_turns(CONFIRM, async |side, numbers| of(side).spend(numbers, People::confirmation).await);
    figures.added("confirmations, guard", &confirm.await?)?;
    let refreshes =
        in_turns(REFRESH, async |side, numbers| of(side).spend(numbers, |_, number| refresh(number)).await);
    figures.added("refreshes, guard", &refreshes.await?)?;
    let limits = in_turns(STATEMENTS, async |side, numbers| {
        let limited = if side == Side::With { Limited::Yes } else { Limited::No };
        off.spend_on_statements(numbers, limited).await
    });
    let limits = limits.await?;
    figures.added("sign-ups' statements, limits", &limits)?;

    let begun = off.service.spent();
    let rate = hashing::bare(1, HASHING)?;
    let hash = (off.service.spent() - begun).load.as_secs_f64() / (rate * HASHING.as_secs_f64());
    let whole = guard.with.as_secs_f64() / f64::from(guard.requests) + hash;
    figures.parts(
        "  of a sign-up with its hash",
        &[("guard", guard.for_each() / whole), ("limits", limits.for_each() / whole)],
    )?;
    enforce.service.stop()?;
    off.service.stop()
}

/// Asks for each turn what its requests have cost, of people who were not there before.
async fn in_turns(
    first: u32,
    ask: impl AsyncFn(Side, Range<u32>) -> anyhow::Result<Duration>,
) -> anyhow::Result<Added> {
    let mut added = Added::default();
    for (turn, side) in TURNS.into_iter().enumerate() {
        let first = first + u32::try_from(turn)? * REQUESTS;
        let spent = ask(side, first..first + REQUESTS).await?;
        match side {
            _ if turn < WARM_UP => {}
            Side::With => {
                added.with += spent;
                added.requests += REQUESTS;
            }
            Side::Without => added.without += spent,
        }
    }
    Ok(added)
}

/// A service whose guard is in a certain mode, and a database of that name.
struct Guarded {
    people: People,
    storage: Postgres,
    service: Service,
    /// With its keys and its log.
    _directory: tempfile::TempDir,
}

impl Guarded {
    async fn start(server: &PostgresServer, mode: &str) -> anyhow::Result<Self> {
        let client = server.client("postgres").await?;
        client.batch_execute(&format!("CREATE DATABASE {mode}")).await.context("no database can be made")?;
        let url = server.url(mode);
        let directory = tempfile::tempdir()?;
        let people = People::of(directory.path()).await?;
        let budgets = ["RANGE", "BLOCK", "COUNTRY"]
            .map(|of| (format!("GUARD__UNCONFIRMED_PER_{of}"), "1000000".to_owned()));
        let others = [("GUARD__MODE", mode), ("HTTP__TRUSTED_PROXIES", "127.0.0.0/8")];
        let settings = cheap_hashing()
            .chain(budgets)
            .chain(others.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let service = Service::start_with(directory.path(), Some(&url), settings)?;
        let storage = Postgres::open(&url, CONNECTIONS, Migrate::No).await?;
        let all = u32::try_from(TURNS.len())? * REQUESTS;
        people.register(&storage, REFRESH..REFRESH + all).await?;
        people.sign_up(&storage, CONFIRM..CONFIRM + all).await?;
        Ok(Self { people, storage, service, _directory: directory })
    }

    /// What service and database spend until all is answered and every message has left.
    async fn spend(
        &self,
        numbers: Range<u32>,
        request: impl Fn(&People, u32) -> Vec<u8>,
    ) -> anyhow::Result<Duration> {
        let numbers: Vec<_> = numbers.collect();
        let share = numbers.len() / CLIENTS as usize;
        let script = |numbers: &[u32]| {
            let requests = numbers.iter().map(|&number| forwarded(request(&self.people, number), number));
            Script { requests: requests.collect(), then: Then::Stop }
        };
        let scripts = numbers.chunks(share).map(script).collect();
        let begun = self.service.spent();
        let load = as_fast_as_answered(self.service.address, scripts, TOO_LONG)?;
        while self.storage.next_due(Room::for_each(1)).await?.is_some() {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        let spent = self.service.spent() - begun;
        let answered = load.latencies.requests() - load.latencies.refused;
        anyhow::ensure!(answered == numbers.len(), "of {} requests {answered} were answered", numbers.len());
        Ok(spent.service + spent.database)
    }

    /// What this process and the database spend on what sign-ups ask of storage.
    async fn spend_on_statements(&self, numbers: Range<u32>, limited: Limited) -> anyhow::Result<Duration> {
        let begun = self.service.spent();
        futures_util::stream::iter(numbers)
            .map(|number| self.people.sign_up_alone(&self.storage, number, limited))
            .buffer_unordered(CLIENTS as usize)
            .try_collect::<()>()
            .await?;
        let spent = self.service.spent() - begun;
        Ok(spent.load + spent.database)
    }
}
