//! Brings the tables up to date, by one instance at a time.

use std::time::Duration;

use diesel::QueryDsl as _;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::result::Error;
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::address::Address;
use crate::connection::connect_unlimited;
use crate::{Migrate, OpenError};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../../migrations/postgres");

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
    Newer,
}

/// Migrates, or refuses tables that are not as this version needs them.
pub(crate) async fn prepare(address: &Address, migrate: Migrate) -> Result<(), OpenError> {
    let mut connection = connect_unlimited(address).await?;
    check_server(&connection).await?;
    if migrate == Migrate::Yes {
        // The lock belongs to a transaction that stays open beside the migrations: a session's lock would not survive a pooler.
        // It may take long, whatever limits the server or a pooler has set.
        let mut guard = connect_unlimited(address).await?;
        let lock = format!(
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
             SET LOCAL idle_in_transaction_session_timeout = 0; SELECT pg_advisory_xact_lock({LOCK})"
        );
        guard.batch_execute(&lock).await.map_err(|error| OpenError::Migration(error.to_string()))?;
        if tables(&connection).await.map_err(failed)? == Tables::Older {
            connection = run_pending(connection).await?;
        }
    }
    match tables(&connection).await.map_err(failed)? {
        Tables::Current => Ok(()),
        Tables::Older => Err(OpenError::Outdated),
        Tables::Newer => Err(OpenError::Newer),
    }
}

/// Brings the tables up to date. A migration that waits for a table would make everybody wait behind it who wants to use that: so it waits
/// a little, and comes back later.
async fn run_pending(mut connection: AsyncPgConnection) -> Result<AsyncPgConnection, OpenError> {
    let limits = "SET statement_timeout = 0; SET lock_timeout = '2s'";
    connection.batch_execute(limits).await.map_err(failed)?;
    let mut harness = AsyncMigrationHarness::new(connection);
    for tries_left in (0..LOCK_TRIES).rev() {
        // The error has lost its code on the way here.
        let Err(problem) = harness.run_pending_migrations(MIGRATIONS).map_err(|error| error.to_string())
        else {
            break;
        };
        if problem.contains("permission denied") {
            return Err(OpenError::Forbidden(problem));
        }
        if tries_left == 0 || !problem.contains("lock timeout") {
            return Err(failed(problem));
        }
        tracing::info!("somebody uses the tables, a backup perhaps: migrating later");
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(harness.into_inner())
}

/// How the tables are, in one or two round trips that take no lock.
pub(crate) async fn tables(connection: &AsyncPgConnection) -> Result<Tables, Error> {
    let known = known().map_err(Error::QueryBuilderError)?;
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
    } else if known.iter().any(|version| !applied.contains(version)) {
        Tables::Older
    } else {
        Tables::Current
    })
}

/// The versions that this binary carries.
fn known() -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS)?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
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
