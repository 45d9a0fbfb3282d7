//! The service `vestibule`: reads its configuration, wires the adapters to the use cases and serves them.
//!
//! Not here: anything that another binary would have to repeat.

mod accounts;
mod commands;
mod config;
mod copy;
mod countries;
mod follow;
mod guard;
mod inbox_routes;
mod keys;
mod machine;
mod metrics;
mod odds;
mod serve;
mod sms;
mod telemetry;
mod test_numbers;
mod token_keys;
mod wiring;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// From a phone number to a verified account.
#[derive(Parser)]
#[command(name = "vestibule", version)]
struct Arguments {
    /// The configuration file; without it `vestibule.toml` is read, if there is one.
    #[arg(long, short, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default).
    Serve,
    /// Bring the database's tables up to date.
    Migrate,
    /// Check configuration, keys, database and providers, and serve nothing.
    Check,
    /// Make the key files of a new installation; show and change the keys that sign access tokens, which running instances notice by themselves.
    #[command(subcommand)]
    Keys(token_keys::Keys),
    /// Print what happened to an account or a number, the newest first.
    Audit(accounts::Audit),
    /// Block an account: its sessions end, and nobody can sign in.
    Block(accounts::Account),
    /// Let the owner of a blocked account in again.
    Unblock(accounts::Account),
    /// Show what the guard against pumping has done, and try other rules.
    #[command(subcommand)]
    Guard(guard::Guard),
    /// Copy a whole installation from SQLite to Postgres. Run again, it goes on where it was interrupted.
    Copy(copy::Copy),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match config::Config::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return commands::refuse(&error),
    };
    let logs = match telemetry::start(config.environment) {
        Ok(logs) => logs,
        Err(error) => return commands::end(Err(error.into())),
    };
    for variable in config::misnamed(std::env::vars_os().map(|(name, _)| name)) {
        tracing::warn!(
            variable,
            "is not read: settings are written `VESTIBULE__SECTION__KEY`, with two underscores"
        );
    }
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::serve(&config).await,
        Command::Migrate => commands::migrate(&config).await,
        Command::Check => commands::check(&config).await,
        Command::Keys(keys) => keys.run(&config),
        Command::Audit(audit) => audit.run(&config).await,
        Command::Block(account) => account.block(&config).await,
        Command::Unblock(account) => account.unblock(&config).await,
        Command::Guard(guard) => guard.run(&config, arguments.config.as_deref()).await,
        Command::Copy(copying) => copy::copy(&config, &copying).await,
    };
    // What was logged comes before the last word.
    drop(logs);
    commands::end(outcome)
}
