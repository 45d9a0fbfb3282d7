//! A power cut, as far as the database sees one: what the disk has not confirmed is gone.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio_postgres::NoTls;
use vestibule_testkit::postgres::PostgresServer;

/// Where the confirmed part of the log ends, in bytes from its begin, and how much comes after it.
const CONFIRMED: &str = "SELECT current_setting('data_directory'), (flushed - '0/0'::pg_lsn)::bigint,
    (pg_current_wal_insert_lsn() - flushed)::bigint FROM (SELECT pg_current_wal_flush_lsn() AS flushed) AS log";

/// So much must be lost that commits are in it which were acknowledged.
const ENOUGH: i64 = 64 * 1024;

/// How often it is looked whether there is enough to lose.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The log's files have this size, in bytes, in a cluster that was made without saying otherwise.
const SEGMENT: u64 = 16 * 1024 * 1024;

/// Where the log was cut.
pub(crate) struct Cut {
    log: PathBuf,
    segment: String,
    offset: u64,
}

/// Where the log would end if the power went now, once something would be lost by it: right after the log has gone to the disk nothing is.
pub(crate) async fn confirmed(database: &PostgresServer) -> anyhow::Result<Cut> {
    let (client, connection) = tokio_postgres::connect(&database.url("postgres"), NoTls).await?;
    tokio::spawn(connection);
    let (directory, confirmed): (String, i64) = loop {
        let row = client.query_one(CONFIRMED, &[]).await?;
        if row.get::<_, i64>(2) >= ENOUGH {
            break (row.get(0), row.get(1));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let (number, offset) = (u64::try_from(confirmed)? / SEGMENT, u64::try_from(confirmed)? % SEGMENT);
    // The first timeline: nobody was promoted. 256 segments share the middle part of their names.
    let segment = format!("00000001{:08X}{:08X}", number / 256, number % 256);
    Ok(Cut { log: Path::new(&directory).join("pg_wal"), segment, offset })
}

/// Takes away from the log of a stopped server what was not confirmed, although the system had it in its memory.
pub(crate) fn lose_the_rest(cut: &Cut) -> anyhow::Result<()> {
    let path = cut.log.join(&cut.segment);
    // There is none yet if the one before it is just full.
    if path.exists() {
        let mut segment =
            File::options().write(true).open(&path).with_context(|| path.display().to_string())?;
        segment.seek(SeekFrom::Start(cut.offset))?;
        segment.write_all(&vec![0; usize::try_from(SEGMENT - cut.offset)?])?;
    }
    for entry in fs::read_dir(&cut.log)? {
        let entry = entry?;
        let is_later = entry.file_name().to_str().is_some_and(|name| name > cut.segment.as_str());
        if is_later && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
