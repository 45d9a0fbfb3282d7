//! Brings the tables up to date, by one instance at a time.

use std::slice;
use std::time::Duration;

use diesel::QueryDsl as _;
use diesel::result::Error;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::address::{Address, describe};
use crate::connection::{connect_plainly, connect_unlimited};
use crate::{Migrate, OpenError};

/// The names of the migrations in their order, each with its statements.
const MIGRATIONS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Where it is kept what was applied: as diesel does, so that its tools may be used.
const APPLIED: &str = "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (
    version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)";

/// The lock that whoever migrates holds; a number that nobody else uses.
const LOCK: i64 = 0x5645_5354_4942_554c;

/// How often a table that is in use is asked for, and how long the pauses are: five minutes in all.
const LOCK_TRIES: u32 = 60;
const LOCK_PAUSE: Duration = Duration::from_secs(3);

/// The oldest server that has all that the tables and statements use.
const OLDEST_SERVER: i32 = 130_000;

diesel::table! {
    /// Where diesel keeps what was applied.
    __diesel_schema_migrations (version) {
        version -> Text,
        run_on -> Timestamp,
    }
}

diesel::define_sql_function! {
    /// The table of this name, if there is one.
    fn to_regclass(name: diesel::sql_types::Text) -> diesel::sql_types::Nullable<diesel::sql_types::Oid>;
}

diesel::define_sql_function! {
    /// A setting of the server.
    fn current_setting(name: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// How far the tables are from what this version needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    Current,
    Older,
    /// There are none.
    None,
    Newer,
}

/// Migrates, or refuses tables that are not as this version needs them.
pub(crate) async fn prepare(address: &Address, migrate: Migrate) -> Result<(), OpenError> {
    let connection = connect_unlimited(address).await?;
    check_server(&connection).await?;
    if matches!(migrate, Migrate::Yes | Migrate::IfNone) {
        // The lock belongs to a transaction that stays open beside the migrations: a session's lock would not survive a pooler.
        // It may take long, whatever limits the server or a pooler has set.
        let mut guard = connect_unlimited(address).await?;
        let lock = format!(
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
             SET LOCAL idle_in_transaction_session_timeout = 0; SELECT pg_advisory_xact_lock({LOCK})"
        );
        guard.batch_execute(&lock).await.map_err(|error| OpenError::Migration(error.to_string()))?;
        match tables(&connection).await.map_err(failed)? {
            Tables::Older if migrate == Migrate::IfNone => {}
            Tables::Older | Tables::None => run_pending(address).await?,
            Tables::Current | Tables::Newer => {}
        }
    }
    match tables(&connection).await.map_err(failed)? {
        Tables::Older | Tables::None if migrate != Migrate::Leave => Err(OpenError::Outdated),
        Tables::Newer => Err(OpenError::Newer),
        Tables::Current | Tables::Older | Tables::None => Ok(()),
    }
}

/// Brings the tables up to date, by statements of the driver's own: diesel would hide the code of an error, which says what to do about it in
/// whatever language the server speaks.
async fn run_pending(address: &Address) -> Result<(), OpenError> {
    let (client, _driver) = connect_plainly(address).await?;
    client.batch_execute(APPLIED).await.map_err(|error| told(&error))?;
    let applied = client.query("SELECT version FROM __diesel_schema_migrations", &[]).await;
    let applied = applied.map_err(|error| told(&error))?;
    let applied: Vec<String> = applied.iter().map(|row| row.get("version")).collect();
    if applied.is_empty() {
        // All at once: who is interrupted leaves none behind, and not some that look like those of an older version.
        return run(&client, MIGRATIONS).await;
    }
    for migration in MIGRATIONS {
        if !applied.contains(&version(migration.0)) {
            run(&client, slice::from_ref(migration)).await?;
        }
    }
    Ok(())
}

/// Runs migrations as one transaction. One that waits for a table would make everybody wait behind it who wants to use that: so it waits
/// a little, and comes back later.
async fn run(client: &Client, migrations: &[(&str, &str)]) -> Result<(), OpenError> {
    let statements: String = migrations.iter().map(with_its_row).collect();
    let transaction = format!(
        "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '2s';
         {statements} COMMIT"
    );
    for tries_left in (0..LOCK_TRIES).rev() {
        let Err(error) = client.batch_execute(&transaction).await else {
            for (migration, _) in migrations {
                tracing::info!(migration, "the tables are changed");
            }
            break;
        };
        // If this fails, so does the next try.
        let _ = client.batch_execute("ROLLBACK").await;
        let in_the_way = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        if tries_left == 0 || !error.code().is_some_and(|code| in_the_way.contains(code)) {
            return Err(told(&error));
        }
        tracing::info!("somebody uses the tables, a backup perhaps: migrating later");
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// A migration's statements, and that it was applied.
fn with_its_row((name, statements): &(&str, &str)) -> String {
    format!(
        "{statements}
         INSERT INTO __diesel_schema_migrations (version) VALUES ('{}');",
        version(name)
    )
}

/// A migration's version, as diesel reads it from its name.
fn version(name: &str) -> String {
    name.split('_').next().unwrap_or_default().replace('-', "")
}

fn told(error: &tokio_postgres::Error) -> OpenError {
    match error.as_db_error() {
        Some(told) if *told.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            OpenError::Forbidden(told.message().to_owned())
        }
        Some(told) => failed(told.message()),
        None => failed(describe(error)),
    }
}

/// How the tables are, in one or two round trips that take no lock.
pub(crate) async fn tables(connection: &AsyncPgConnection) -> Result<Tables, Error> {
    let known: Vec<_> = MIGRATIONS.iter().map(|(name, _)| version(name)).collect();
    let made: Option<u32> =
        diesel::select(to_regclass("__diesel_schema_migrations")).get_result(&mut &*connection).await?;
    let applied: Vec<String> = match made {
        Some(_) => {
            let versions = __diesel_schema_migrations::table.select(__diesel_schema_migrations::version);
            versions.load(&mut &*connection).await?
        }
        None => Vec::new(),
    };
    Ok(if applied.iter().any(|version| !known.contains(version)) {
        Tables::Newer
    } else if applied.is_empty() {
        Tables::None
    } else if known.iter().any(|version| !applied.contains(version)) {
        Tables::Older
    } else {
        Tables::Current
    })
}

/// Whether the server takes writes: a standby does not, nor one that is told so by its settings.
pub(crate) async fn takes_writes(connection: &AsyncPgConnection) -> Result<bool, Error> {
    let read_only = diesel::select(current_setting("transaction_read_only"));
    let read_only: String = read_only.get_result(&mut &*connection).await?;
    Ok(read_only != "on")
}

async fn check_server(connection: &AsyncPgConnection) -> Result<(), OpenError> {
    let settings = (
        current_setting("server_version"),
        current_setting("server_version_num"),
        current_setting("synchronous_commit"),
        current_setting("fsync"),
        current_setting("server_encoding"),
    );
    let settings = diesel::select(settings).get_result(&mut &*connection).await;
    let (version, number, synchronous, fsync, encoding): (String, String, String, String, String) =
        settings.map_err(failed)?;
    if is_too_old(&number) {
        return Err(OpenError::Server(version));
    }
    if encoding != "UTF8" {
        return Err(OpenError::Encoding(encoding));
    }
    if !takes_writes(connection).await.map_err(failed)? {
        return Err(OpenError::ReadOnly);
    }
    if synchronous == "off" || fsync == "off" {
        tracing::warn!(
            synchronous_commit = synchronous,
            fsync,
            "the database server acknowledges what a crash can lose"
        );
    }
    Ok(())
}

/// By the server's own number for its version: 120022 is 12.22.
fn is_too_old(version_number: &str) -> bool {
    version_number.parse::<i32>().is_ok_and(|number| number < OLDEST_SERVER)
}

fn failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Migration(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_before_13_is_too_old() {
        for (number, too_old) in [("90624", true), ("120022", true), ("130000", false), ("180001", false)] {
            assert_eq!(is_too_old(number), too_old, "{number}");
        }
    }
}
