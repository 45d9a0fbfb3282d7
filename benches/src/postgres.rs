//! The figures on Postgres with durable settings, each beside what `pgbench` makes of the same server.

use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use vestibule_postgres::{Migrate, Postgres};
use vestibule_testkit::postgres::{Durability, PostgresOptions, PostgresServer};

use crate::client::request;
use crate::figures::Figures;
use crate::load::{Load, Script, Then, as_fast_as_answered, by_timetable, disk_by_timetable, joined};
use crate::people::{People, refresh, sign_in};
use crate::pgbench::{Amount, CONNECTIONS, Pgbench};
use crate::service::Service;
use crate::{HASH_THREADS, hashing, refusals, sign_ups};

/// How long a rate is measured, and its limit each time.
const SPAN: Duration = Duration::from_secs(8);
const LIMIT_SECONDS: u32 = 5;

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(20);

/// Reads and updates in a second while it does, and from how many clients.
const CALM_RATE: u32 = 25;
const CALM_CLIENTS: u32 = 5;

/// Clients of the service, which shares its connections to the database among them.
const CLIENTS: u32 = 64;

/// Clients that sign up, or in.
const HASHING_CLIENTS: u32 = 16;

/// People with an account.
const ACCOUNTS: Range<u32> = 0..4096;

/// Confirmations in one measurement; a multiple of both kinds of clients.
const CONFIRMATIONS: u32 = 6400;

/// The first of those who confirm: in pgbench before, through the service, in pgbench after.
const CONFIRM_BEFORE: u32 = 100_000;
const CONFIRM: u32 = 120_000;
const CONFIRM_AFTER: u32 = 140_000;

/// Longer than the confirmations may take.
const TOO_LONG: Duration = Duration::from_mins(1);

/// What a read may take while others sign up, and an update more than the disk, in milliseconds.
const CALM: f64 = 10.0;

pub(crate) async fn measure(figures: &mut Figures<impl Write>) -> anyhow::Result<()> {
    let options = PostgresOptions { durability: Durability::Durable, ..PostgresOptions::default() };
    let server = PostgresServer::start(&options)?;
    let url = server.url("postgres");
    let directory = tempfile::tempdir()?;
    let people = People::of(directory.path()).await?;
    let service = Service::start(directory.path(), Some(&url), HASH_THREADS)?;
    let idle = service.resident()?;
    {
        // Nothing is measured yet, so nothing has to wait for the disk.
        let hasty = format!("{url}?options=-csynchronous_commit%3Doff");
        let storage = Postgres::open(&hasty, CONNECTIONS, Migrate::No).await?;
        people.register(&storage, ACCOUNTS.chain(refusals::known())).await?;
        for first in [CONFIRM_BEFORE, CONFIRM, CONFIRM_AFTER] {
            people.sign_up(&storage, first..first + CONFIRMATIONS).await?;
        }
    }
    let pgbench = Pgbench::new(url)?;
    pgbench.settle()?;

    figures.part("Postgres, over HTTP; in a second, against pgbench")?;
    let accounts = [("accounts", ACCOUNTS.end)];
    let limit = || pgbench.rate("read.sql", Amount::Seconds(LIMIT_SECONDS), &accounts);
    let tokens: Vec<_> = ACCOUNTS.map(|number| people.token(number)).collect();
    let reads = scripts(CLIENTS, &tokens, Then::Repeat, read_request);
    bracketed(figures, &service, "profile reads", Some(0.55), limit, |address| {
        as_fast_as_answered(address, reads, SPAN)
    })?;

    let limit = || pgbench.rate("update.sql", Amount::Seconds(LIMIT_SECONDS), &accounts);
    let updates = scripts(CLIENTS, &tokens, Then::Repeat, update_request);
    bracketed(figures, &service, "updates of a profile", Some(0.80), limit, |address| {
        as_fast_as_answered(address, updates, SPAN)
    })?;

    let numbers: Vec<_> = ACCOUNTS.collect();
    let refreshes = scripts(CLIENTS, &numbers, Then::Refresh, |numbers| each(numbers, refresh));
    bracketed(figures, &service, "refreshes", None, limit, |address| {
        as_fast_as_answered(address, refreshes, SPAN)
    })?;

    let confirmations: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let share = CONFIRMATIONS / CLIENTS;
            let first = CONFIRM + client * share;
            let requests = (first..first + share).map(|number| people.confirmation(number)).collect();
            Script { requests, then: Then::Stop }
        })
        .collect();
    let mut firsts = [CONFIRM_BEFORE, CONFIRM_AFTER].into_iter();
    let limit = || {
        let first = firsts.next().unwrap_or_default();
        let share = CONFIRMATIONS / CONNECTIONS;
        let variables = [("turn", 0), ("per_connection", share), ("first", first)];
        pgbench.rate("confirm.sql", Amount::TransactionsPerConnection(share), &variables)
    };
    bracketed(figures, &service, "confirmations", Some(0.60), limit, |address| {
        as_fast_as_answered(address, confirmations, TOO_LONG)
    })?;

    // What the confirmations have left is cleared away now, not while sign-ups are measured.
    pgbench.settle()?;
    figures.part("Postgres, sign-ups and sign-ins; in a second, against bare Argon2id")?;
    let limit = || hashing::bare(HASH_THREADS, SPAN / 2);
    bracketed(figures, &service, "sign-ups", Some(0.95), limit, |address| {
        as_fast_as_answered(address, sign_ups(HASHING_CLIENTS, 200_000), SPAN)
    })?;

    let sign_ins = scripts(HASHING_CLIENTS, &numbers, Then::Repeat, |numbers| each(numbers, sign_in));
    bracketed(figures, &service, "sign-ins", Some(0.96), limit, |address| {
        as_fast_as_answered(address, sign_ins, SPAN)
    })?;

    pgbench.settle()?;
    figures.part("Postgres, sign-ins with a wrong password, by one client")?;
    refusals::measure(figures, service.address)?;

    figures.part("Postgres, while 16 clients sign up")?;
    flood(figures, service.address, &tokens)?;
    figures.plain("resident when idle, MiB", idle)?;
    figures.at_most("resident at most, MiB", service.most_resident()?, 56.0)?;
    service.stop()
}

/// Reads and updates at an even pace, while as many sign up as can.
fn flood(figures: &mut Figures<impl Write>, address: SocketAddr, tokens: &[String]) -> anyhow::Result<()> {
    let flood = sign_ups(HASHING_CLIENTS, 400_000);
    let reads = scripts(CALM_CLIENTS, tokens, Then::Repeat, read_request);
    let updates = scripts(CALM_CLIENTS, tokens, Then::Repeat, update_request);
    let (signed_up, read, updated, disk) = thread::scope(|scope| {
        let signed_up = scope.spawn(|| as_fast_as_answered(address, flood, FLOOD));
        let read = scope.spawn(|| by_timetable(address, &reads, CALM_RATE, FLOOD));
        let updated = scope.spawn(|| by_timetable(address, &updates, CALM_RATE, FLOOD));
        let disk = scope.spawn(|| disk_by_timetable(CALM_RATE, FLOOD));
        anyhow::Ok((joined(signed_up)?, joined(read)?, joined(updated)?, joined(disk)?))
    })?;
    figures.plain("sign-ups in a second", signed_up.rate)?;
    figures.latencies("  sign-ups", &signed_up.latencies)?;
    figures.latencies("  25 reads in a second", &read)?;
    figures.latencies("  25 updates in a second", &updated)?;
    figures.latencies("  25 writes of the disk in a second", &disk)?;
    figures.at_most("reads, p99 in ms", read.percentile(99), CALM)?;
    figures.at_most("updates, p99 in ms", updated.percentile(99), disk.percentile(99) + CALM)?;
    Ok(())
}

/// Measures the limit, the load, and the limit again.
fn bracketed(
    figures: &mut Figures<impl Write>,
    service: &Service,
    name: &str,
    goal: Option<f64>,
    mut limit: impl FnMut() -> anyhow::Result<f64>,
    load: impl FnOnce(SocketAddr) -> anyhow::Result<Load>,
) -> anyhow::Result<()> {
    let before = limit()?;
    let begun = service.spent();
    let load = load(service.address)?;
    let spent = service.spent() - begun;
    let after = limit()?;
    figures.share(name, load.rate, [before, after], goal)?;
    figures.latencies(&format!("  {name}"), &load.latencies)?;
    figures.cost(spent, load.latencies.requests())?;
    Ok(())
}

/// Shares the people out among clients, so that no two change the same account.
fn scripts<T>(
    clients: u32,
    people: &[T],
    then: Then,
    requests: impl Fn(&[T]) -> Vec<Vec<u8>>,
) -> Vec<Script> {
    let share = people.len() / clients as usize;
    people
        .chunks(share)
        .take(clients as usize)
        .map(|people| Script { requests: requests(people), then })
        .collect()
}

fn each(numbers: &[u32], request: impl Fn(u32) -> Vec<u8>) -> Vec<Vec<u8>> {
    numbers.iter().copied().map(request).collect()
}

fn read_request(tokens: &[String]) -> Vec<Vec<u8>> {
    tokens.iter().map(|token| request("GET", "/v2/customer/profile", Some(token), "")).collect()
}

/// Each account gets one name and then, in the second half, another: an update that changes nothing would write nothing.
fn update_request(tokens: &[String]) -> Vec<Vec<u8>> {
    let update = |token: &String, name: &str| {
        let body = format!(r#"{{"firstName":"{name}"}}"#);
        request("PATCH", "/v2/customer/profile", Some(token), &body)
    };
    let halves = ["Ada", "Grace"].into_iter();
    halves.flat_map(|name| tokens.iter().map(move |token| update(token, name))).collect()
}
