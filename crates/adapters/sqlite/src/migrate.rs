//! Brings the tables up to date, and tells how far they are.

use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel::sqlite::Sqlite as Backend;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::OpenError;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../../migrations/sqlite");

diesel::table! {
    /// Where diesel keeps what was applied.
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

diesel::table! {
    /// What there is in the file.
    sqlite_master (name) {
        name -> Text,
    }
}

/// How far the tables are from what this version needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    Current,
    Older,
    Newer,
}

/// Brings older tables up to date, all the way or not at all.
pub(crate) fn run_pending(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    // The lock is taken first: of two that come at once, the other finds everything done.
    let applied = connection.immediate_transaction(|connection| {
        if tables(connection)? != Tables::Older {
            return Ok(Vec::new());
        }
        let pending = connection.pending_migrations(MIGRATIONS).map_err(failed)?;
        let run = |migration: Box<dyn Migration<Backend>>| {
            connection.run_migration(&*migration).map_err(failed)?;
            Ok(migration.name().to_string())
        };
        pending.into_iter().map(run).collect::<Result<Vec<_>, OpenError>>()
    });
    applied?.iter().for_each(|migration| tracing::info!(migration, "the tables are changed"));
    Ok(())
}

/// How the tables are. Nothing is written.
pub(crate) fn tables(connection: &mut SqliteConnection) -> Result<Tables, OpenError> {
    let made =
        sqlite_master::table.find("__diesel_schema_migrations").count().get_result::<i64>(connection)?;
    let applied: Vec<String> = if made == 0 {
        Vec::new()
    } else {
        __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(connection)?
    };
    let known = MigrationSource::<Backend>::migrations(&MIGRATIONS).map_err(failed)?;
    let known: Vec<_> = known.iter().map(|migration| migration.name().version().to_string()).collect();
    Ok(if applied.iter().any(|version| !known.contains(version)) {
        Tables::Newer
    } else if known.iter().any(|version| !applied.contains(version)) {
        Tables::Older
    } else {
        Tables::Current
    })
}

fn failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Migration(error.to_string())
}
