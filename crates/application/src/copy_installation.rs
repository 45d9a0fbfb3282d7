//! Moves an installation from one database to another: the records of every [`Table`].
//!
//! Records go in the order of their keys, a page in each transaction, so what a run that was interrupted has left behind is the
//! beginning of every table. A later run looks that through, finds it equal to the source's, and goes on after it. Whatever else the target
//! holds is somebody's own, and stops the copy before anything is written. At the end both are read once more, side by side.
//!
//! Nobody serves half of an installation: before its first record the target gets [`KeyMark::OF_AN_UNFINISHED_COPY`], under which no database
//! is used. The source's own mark, or none where it has none, replaces that when everything was found equal.

use vestibule_port_storage::archive::{
    Archive, ArchiveSource, ArchiveTarget, ImportError, Key, Record, Table,
};
use vestibule_port_storage::{KeyMark, Unavailable};

/// What a copy is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyPhase {
    /// Looking through what the target holds already.
    Resuming,
    /// Writing.
    Copying,
    /// Comparing every record.
    Checking,
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress {
    /// What it is at.
    pub phase: CopyPhase,
    /// In which table.
    pub table: Table,
    /// Records of the table that are done.
    pub done: u64,
    /// Records of the table in the source.
    pub total: u64,
}

/// Why the target is not a copy of the source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyInstallationError {
    /// The target holds what is not of the source as it is now.
    #[error(
        "the target is not empty, and what it holds is no part of a copy of this source: record {} of `{}` is another; name an empty \
         database, or empty this one and copy again",
        .record, .table.as_str()
    )]
    Foreign {
        /// Where it was found.
        table: Table,
        /// Which record of the table, counted from 1 in the order of the keys.
        record: u64,
    },
    /// The target has a mark as if it were complete, or records without one, and is not complete.
    #[error(
        "the target is not empty, and no copy is under way there: record {} of `{}` is missing; a service has run on it, if only once, or the \
         source has changed since it was copied. Name an empty database, or empty this one and copy again",
        .record, .table.as_str()
    )]
    Served {
        /// Where something is missing.
        table: Table,
        /// Which record of the table, counted from 1 in the order of the keys.
        record: u64,
    },
    /// The target holds what only a service writes, and no copy.
    #[error(
        "a service runs on the target, or has run there: `{table}` is not empty; stop it, then name an empty database, or empty this one and \
         copy again"
    )]
    Used {
        /// What is not empty: its name in the database.
        table: &'static str,
    },
    /// Somebody has written to the source meanwhile.
    #[error("the source has changed while it was copied: stop the service, empty the target, and copy again")]
    Changed,
    /// Somebody has written to the target meanwhile.
    #[error("somebody else writes to the target, in `{}`: stop whatever uses it, empty it, and copy again", .table.as_str())]
    Rivalled {
        /// Where it was found.
        table: Table,
    },
    /// The check has found a difference.
    #[error("the copy is not equal to the source: record {} of `{}` differs; empty the target and copy again", .record, .table.as_str())]
    Different {
        /// Where it was found.
        table: Table,
        /// Which record of the table, counted from 1 in the order of the keys.
        record: u64,
    },
    /// The source does not answer.
    #[error("source: {0}")]
    Source(Unavailable),
    /// The target does not answer.
    #[error("target: {0}; copy again to go on")]
    Target(Unavailable),
}

/// Copies everything that the source holds to the target, `page` records in each transaction, and compares both; how many records of each
/// table there are.
///
/// A run after one that was interrupted goes on where that one ended. Nothing in the target is ever replaced.
///
/// # Errors
/// [`CopyInstallationError`]
pub async fn copy_installation(
    source: &dyn ArchiveSource,
    target: &dyn ArchiveTarget,
    page: usize,
    report: &mut (dyn FnMut(CopyProgress) + Send),
) -> Result<Vec<(Table, u64)>, CopyInstallationError> {
    refuse_used(target).await?;
    let ours = mark_of(source).await.map_err(CopyInstallationError::Source)?;
    let theirs = mark_of(target).await.map_err(CopyInstallationError::Target)?;
    let mut tables = Vec::with_capacity(Table::ALL.len());
    for table in Table::ALL.into_iter().filter(|table| *table != Table::KeyMark) {
        let total = source.count(table).await.map_err(CopyInstallationError::Source)?;
        let mut step = |phase, done| report(CopyProgress { phase, table, done, total });
        let held = held(source, target, table, page, &mut step).await?;
        tables.push((table, total, held));
    }
    let marks = u64::from(ours.is_some());
    let of_mark =
        |done| CopyProgress { phase: CopyPhase::Copying, table: Table::KeyMark, done, total: marks };
    let stage = Stage::of(ours, theirs, &tables)?;
    if stage == Stage::Empty {
        report(of_mark(0));
        let unfinished = Record::KeyMark(KeyMark::OF_AN_UNFINISHED_COPY);
        target.import(vec![unfinished]).await.map_err(|error| not_written(Table::KeyMark, error))?;
    }
    for (table, total, held) in &tables {
        let mut step = |phase, done| report(CopyProgress { phase, table: *table, done, total: *total });
        copy(source, target, *table, held, page, &mut step).await?;
    }
    for (table, total, _) in &tables {
        let mut step = |phase, done| report(CopyProgress { phase, table: *table, done, total: *total });
        check(source, target, *table, page, &mut step).await?;
    }
    if source.has_changed().await.map_err(CopyInstallationError::Source)? {
        return Err(CopyInstallationError::Changed);
    }
    refuse_used(target).await?;
    if stage != Stage::Complete {
        target.finish(ours).await.map_err(|error| not_written(Table::KeyMark, error))?;
        report(of_mark(marks));
    }
    let tables = tables.into_iter().map(|(table, total, _)| (table, total));
    Ok([(Table::KeyMark, marks)].into_iter().chain(tables).collect())
}

type Step<'a> = &'a mut (dyn FnMut(CopyPhase, u64) + Send);

/// The beginning of a table that the target holds already.
struct Held {
    records: u64,
    last: Option<Key>,
}

/// How far the target has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Empty,
    Unfinished,
    Complete,
}

impl Stage {
    fn of(
        ours: Option<KeyMark>,
        theirs: Option<KeyMark>,
        tables: &[(Table, u64, Held)],
    ) -> Result<Self, CopyInstallationError> {
        let served = |table, record| Err(CopyInstallationError::Served { table, record });
        match theirs {
            Some(KeyMark::OF_AN_UNFINISHED_COPY) => return Ok(Self::Unfinished),
            Some(_) if theirs != ours => {
                return Err(CopyInstallationError::Foreign { table: Table::KeyMark, record: 1 });
            }
            None if tables.iter().all(|(_, _, held)| held.records == 0) => return Ok(Self::Empty),
            None if ours.is_some() => return served(Table::KeyMark, 1),
            Some(_) | None => {}
        }
        match tables.iter().find(|(_, total, held)| held.records < *total) {
            Some((table, _, held)) => served(*table, held.records + 1),
            None => Ok(Self::Complete),
        }
    }
}

async fn refuse_used(target: &dyn ArchiveTarget) -> Result<(), CopyInstallationError> {
    match target.trace_of_service().await.map_err(CopyInstallationError::Target)? {
        Some(table) => Err(CopyInstallationError::Used { table }),
        None => Ok(()),
    }
}

async fn mark_of<A: Archive + ?Sized>(archive: &A) -> Result<Option<KeyMark>, Unavailable> {
    let kept = read(archive, Table::KeyMark, None, 1).await?.pop();
    Ok(kept.and_then(|record| if let Record::KeyMark(mark) = record { Some(mark) } else { None }))
}

async fn held(
    source: &dyn ArchiveSource,
    target: &dyn ArchiveTarget,
    table: Table,
    page: usize,
    step: Step<'_>,
) -> Result<Held, CopyInstallationError> {
    let mut held = Held { records: 0, last: None };
    loop {
        let theirs =
            read(target, table, held.last.as_ref(), page).await.map_err(CopyInstallationError::Target)?;
        if theirs.is_empty() {
            return Ok(held);
        }
        let ours = read(source, table, held.last.as_ref(), theirs.len()).await;
        let ours = ours.map_err(CopyInstallationError::Source)?;
        if let Some(record) = first_difference(&ours, &theirs) {
            return Err(CopyInstallationError::Foreign { table, record: held.records + record });
        }
        held.records += length(&theirs);
        held.last = theirs.last().map(Record::key);
        step(CopyPhase::Resuming, held.records);
    }
}

async fn copy(
    source: &dyn ArchiveSource,
    target: &dyn ArchiveTarget,
    table: Table,
    held: &Held,
    page: usize,
    step: Step<'_>,
) -> Result<(), CopyInstallationError> {
    let (mut done, mut last) = (held.records, held.last.clone());
    step(CopyPhase::Copying, done);
    loop {
        let records =
            read(source, table, last.as_ref(), page).await.map_err(CopyInstallationError::Source)?;
        if records.is_empty() {
            return Ok(());
        }
        done += length(&records);
        last = records.last().map(Record::key);
        target.import(records).await.map_err(|error| not_written(table, error))?;
        step(CopyPhase::Copying, done);
    }
}

fn not_written(table: Table, error: ImportError) -> CopyInstallationError {
    match error {
        ImportError::Conflict => CopyInstallationError::Rivalled { table },
        ImportError::Unavailable(unavailable) => CopyInstallationError::Target(unavailable),
    }
}

async fn check(
    source: &dyn ArchiveSource,
    target: &dyn ArchiveTarget,
    table: Table,
    page: usize,
    step: Step<'_>,
) -> Result<(), CopyInstallationError> {
    let (mut done, mut last) = (0, None);
    step(CopyPhase::Checking, done);
    loop {
        let ours = read(source, table, last.as_ref(), page).await.map_err(CopyInstallationError::Source)?;
        let theirs = read(target, table, last.as_ref(), page).await.map_err(CopyInstallationError::Target)?;
        if let Some(record) = first_difference(&ours, &theirs) {
            return Err(CopyInstallationError::Different { table, record: done + record });
        }
        if ours.is_empty() {
            return Ok(());
        }
        done += length(&ours);
        last = ours.last().map(Record::key);
        step(CopyPhase::Checking, done);
    }
}

async fn read<A: Archive + ?Sized>(
    archive: &A,
    table: Table,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Record>, Unavailable> {
    archive.export(table, after, limit.max(1)).await
}

/// Which record is the first that the two do not share, counted from 1.
fn first_difference(ours: &[Record], theirs: &[Record]) -> Option<u64> {
    let equal = ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
    (equal < ours.len().max(theirs.len())).then(|| equal as u64 + 1)
}

fn length(records: &[Record]) -> u64 {
    records.len() as u64
}
