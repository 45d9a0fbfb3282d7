//! Attacks and crowds, played against instances of the service as it is deployed: real processes, a real database, and a provider that
//! counts. See `just simulate`.
//!
//! Each simulation prints what came of it, and the program fails when it is not what is promised.
//!
//! Not here: whether a rule is right for one request, which the tests of the crates show; and what breaks when machines do, which is
//! `just chaos`.

mod botnet;
mod ceiling;
mod client;
mod days;
mod people;
mod place;
mod pumping;
mod random;
mod report;
mod rule;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use place::Database;
use report::Report;

/// Plays attacks and crowds against instances of the service, and prints the counts. Ends with 0 when every promise was kept, with 1
/// when one was not, with 2 when it could not be played.
#[derive(Parser)]
#[command(name = "vestibule-simulate")]
struct Arguments {
    /// What is played; all of it, unless it is named.
    #[command(subcommand)]
    what: Option<Simulation>,
}

#[derive(Subcommand, Clone, Copy)]
enum Simulation {
    /// A crowd signs up at once, where fewer messages may be sent: over one, two and four instances.
    Ceiling,
    /// A botnet guesses codes of many numbers from many addresses.
    Botnet,
    /// Somebody earns by messages to a range of numbers, among ordinary traffic.
    Pumping {
        /// Over Postgres instead of SQLite.
        #[arg(long)]
        postgres: bool,
    },
}

impl Simulation {
    const ALL: [Self; 3] = [Self::Ceiling, Self::Botnet, Self::Pumping { postgres: false }];
}

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    // Whatever ends this, what it has started is stopped on the way out.
    let outcome = tokio::select! {
        outcome = play(arguments) => outcome,
        error = told_to_end() => Err(error),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "vestibule-simulate: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn play(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut report = Report::new();
    for simulation in arguments.what.as_ref().map_or(&Simulation::ALL[..], std::slice::from_ref) {
        match simulation {
            Simulation::Ceiling => ceiling::play(&mut report).await?,
            Simulation::Botnet => botnet::play(&mut report).await?,
            Simulation::Pumping { postgres } => {
                days::play(&mut report)?;
                let database = if *postgres { Database::Postgres } else { Database::Sqlite };
                pumping::play(&mut report, database).await?;
            }
        }
    }
    report.end()
}

async fn told_to_end() -> anyhow::Error {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    anyhow::anyhow!("told to end")
}
