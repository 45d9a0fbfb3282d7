//! Four instances of the service on one Postgres under the load of all five steps, while everything around them breaks; and an
//! audit of what is left. See `just chaos`.
//!
//! The driver keeps a ledger: each step of each person is acknowledged, refused, or in doubt, because no answer came. The auditor
//! compares it with the API, the database, the gateway's journal and the mailboxes:
//!
//! *acknowledged ⊆ state ⊆ acknowledged ∪ in doubt*
//!
//! A check that cannot fail proves nothing, so there is a control run, `just chaos-control`: its Postgres acknowledges commits
//! before they are on the disk and then loses its power, and the audit must find that some are lost.
//!
//! Not here: anything that a test of a second could show. Those are with the crates.

mod audit;
mod driver;
mod faults;
mod ledger;
mod post;
mod power;

use std::io::{Write as _, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use vestibule_testkit::fleet::Fleet;
use vestibule_testkit::postgres::{Durability, PostgresOptions, PostgresServer};
use vestibule_testkit::{ample_limits, cheap_hashing};

use audit::Audit;
use driver::Driver;
use faults::{DatabaseEnd, Fault, World};
use ledger::{Ledger, Story};
use post::{PUBLIC_URL, Post};

/// How many instances there are.
const INSTANCES: usize = 4;

/// The longest that all of it may take.
const BOUND: Duration = Duration::from_mins(5);

/// Kills the service and everything that it needs, under load, and audits what is left.
#[derive(Parser)]
#[command(name = "vestibule-chaos")]
struct Arguments {
    /// How long the load lasts; the faults are spread over it.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(20..=160))]
    seconds: u64,
    /// Requests at the same time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=500))]
    clients: u16,
    /// Plants a fault, commits that are acknowledged before they are on the disk and lost with the power, and succeeds only if
    /// the audit finds it.
    #[arg(long)]
    control: bool,
    /// Keeps the ledger and the instances' logs, as is done anyway when the audit finds something.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    let outcome = tokio::time::timeout(BOUND, run(&arguments)).await;
    match outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it took more than {BOUND:?}"))) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = tempfile::Builder::new().prefix("vestibule-chaos-").tempdir()?;
    let options = database_options(arguments);
    let database = tokio::task::spawn_blocking(move || PostgresServer::start(&options)).await??;
    let post = Arc::new(Post::open().await?);
    let fleet = Arc::new(Fleet::new(directory.path(), INSTANCES, settings(&database.url("postgres"), &post)));
    fleet.start_all().await?;
    let ledger = Arc::new(Ledger::create(&directory.path().join("steps.log"))?);
    let world = World {
        database: Arc::new(database),
        database_end: if arguments.control { DatabaseEnd::PowerCut } else { DatabaseEnd::Stop },
        fleet: Arc::clone(&fleet),
        post: Arc::clone(&post),
    };
    say(&format!(
        "{} instances, {} clients, {} s{}",
        fleet.len(),
        arguments.clients,
        arguments.seconds,
        if arguments.control { ", commits are acknowledged before they are on the disk" } else { "" }
    ))?;

    let begun = Instant::now();
    let collecting = tokio::spawn(Arc::clone(&post).collect_forever());
    let (stories, faults, held) = load(arguments, &world, &ledger).await?;
    let audit = Audit::run(&world, &stories, &faults).await?;
    collecting.abort();

    report(&stories, &faults, &audit, held, Duration::from_secs(arguments.seconds))?;
    say(&format!("audited after {:.0} s", begun.elapsed().as_secs_f64()))?;
    if arguments.keep || (!audit.is_clean() && !arguments.control) {
        ledger.flush()?;
        say(&format!("the steps and the instances' logs are in {}", directory.keep().display()))?;
    }
    Ok(verdict(arguments, &audit)?)
}

/// How the service is set up.
fn settings(database: &str, post: &Post) -> impl Iterator<Item = (String, String)> {
    let settings = [
        ("HTTP__PUBLIC_URL", PUBLIC_URL),
        // Every person has an address of their own.
        ("HTTP__TRUSTED_PROXIES", "127.0.0.0/8"),
        ("DATABASE__URL", database),
        ("DATABASE__POOL_SIZE", "8"),
        ("LIMITS__SIGNUP_PER_PHONE_PER_DAY", "1000"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
    // The load is on the storage, not on the hash.
    settings.chain(post.settings()).chain(cheap_hashing()).chain(ample_limits())
}

fn database_options(arguments: &Arguments) -> PostgresOptions {
    let mut settings = vec![("shared_buffers", "128MB".to_owned())];
    if arguments.control {
        // The log goes to the disk every ten seconds, however much it is, and nobody waits for it.
        let planted =
            [("synchronous_commit", "off"), ("wal_writer_delay", "10s"), ("wal_writer_flush_after", "1GB")];
        settings.extend(planted.map(|(name, value)| (name, value.to_owned())));
    }
    PostgresOptions { durability: Durability::Durable, settings, language: None }
}

/// Runs clients and faults side by side; the stories of all people, the faults that were done, and the steps that were
/// acknowledged while the load lasted.
async fn load(
    arguments: &Arguments,
    world: &World,
    ledger: &Arc<Ledger>,
) -> anyhow::Result<(Vec<Story>, Vec<Fault>, u64)> {
    let (fleet, post) = (Arc::clone(&world.fleet), Arc::clone(&world.post));
    let driver = Arc::new(Driver::new(arguments.clients.into(), fleet, post, Arc::clone(ledger))?);
    let over = Arc::new(AtomicBool::new(false));
    let registering = tokio::spawn(driver.register_people(Arc::clone(&over)));
    let span = Duration::from_secs(arguments.seconds);
    let end = Instant::now() + span;
    let faults = faults::break_everything(world, span).await?;
    tokio::time::sleep(end.saturating_duration_since(Instant::now())).await;
    let held = ledger.acknowledged();
    over.store(true, Ordering::Relaxed);
    say("the load ends; who has begun goes on to the end")?;
    Ok((registering.await??, faults, held))
}

fn report(
    stories: &[Story],
    faults: &[Fault],
    audit: &Audit,
    held: u64,
    span: Duration,
) -> anyhow::Result<()> {
    let completed = stories.iter().filter(|story| story.is_complete()).count();
    let rate = Duration::from_secs(held).as_secs_f64() / span.as_secs_f64();
    say(&format!(
        "load held     {rate:.1} steps/s; of {} people {completed} came to the end",
        stories.len()
    ))?;
    say(&format!("faults        {}", faults::summary(faults)))?;
    say(&format!("steps         {}", ledger::summary(stories)))?;
    say(&format!("messages      {}", audit.messages()))?;
    for (name, found) in audit.findings() {
        say(&format!("{name:<13} {}", found.len()))?;
        for sentence in found.iter().take(10) {
            say(&format!("              {sentence}"))?;
        }
    }
    Ok(())
}

fn verdict(arguments: &Arguments, audit: &Audit) -> std::io::Result<ExitCode> {
    let (sentence, code) = match (arguments.control, audit.is_clean(), audit.found_a_loss()) {
        (false, true, _) => ("nothing was lost", ExitCode::SUCCESS),
        (false, false, _) => ("the audit has found something", ExitCode::FAILURE),
        (true, _, true) => ("the audit has found the planted fault, as it must", ExitCode::SUCCESS),
        (true, _, false) => {
            ("the audit has NOT found the planted fault: it proves nothing", ExitCode::FAILURE)
        }
    };
    say(sentence)?;
    Ok(code)
}

/// A line for who watches.
fn say(sentence: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{sentence}")?;
    out.flush()
}
