//! Connections: one thread that writes, and readers beside it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::result::Error;
use tokio::sync::{Semaphore, oneshot};
use vestibule_port_storage::Unavailable;

use crate::OpenError;

/// Commits that share one transaction, and so one fsync, at most.
const MAX_BATCH: usize = 256;

pub(crate) fn connect(path: &Path) -> Result<SqliteConnection, OpenError> {
    let path = path.to_str().ok_or(OpenError::Path)?;
    let mut connection = SqliteConnection::establish(path)?;
    // FULL: a commit that was acknowledged survives the loss of power, not only of the process.
    connection.batch_execute(
        "PRAGMA busy_timeout = 5000;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;",
    )?;
    Ok(connection)
}

pub(crate) fn unavailable(error: &Error) -> Unavailable {
    Unavailable(error.to_string())
}

/// Work for the writer: it runs in a savepoint, and returns what to do once its fate is known.
type Work = Box<dyn FnOnce(&mut SqliteConnection) -> Fate + Send>;
type Fate = Box<dyn FnOnce(Result<(), &Unavailable>) + Send>;

/// The one thread that writes. Work that waits while it commits goes into the next transaction together.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// On this connection, or on one that it makes when there is work.
    pub(crate) fn start(path: PathBuf, connection: Option<SqliteConnection>) -> Result<Self, OpenError> {
        let (queue, work) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || write(&path, connection, &work))
            .map_err(|_| OpenError::Thread)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `work` in a transaction and answers when that is durable. What an error returns from is rolled back. The
    /// work is done to its end even when the caller stops waiting.
    pub(crate) async fn run<T, E>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Unavailable> + From<Error> + Send + 'static,
    {
        self.run_then(work, || {}).await
    }

    /// As [`Self::run`], and calls `then` when what was done is durable.
    pub(crate) async fn run_then<T, E>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, E> + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Unavailable> + From<Error> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let result = connection.transaction(work);
            Box::new(move |committed| {
                let result = match committed {
                    Ok(()) => result,
                    Err(unavailable) => result.and(Err(unavailable.clone().into())),
                };
                if result.is_ok() {
                    then();
                }
                // The caller may have gone; the work is done all the same.
                let _ = answer.send(result);
            })
        });
        let queued = self.queue.as_ref().is_some_and(|queue| queue.send(work).is_ok());
        if queued && let Ok(result) = answered.await {
            return result;
        }
        Err(Unavailable("the writer has stopped".to_owned()).into())
    }
}

impl Drop for Writer {
    /// Lets the writer finish what was queued.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(path: &Path, mut connection: Option<SqliteConnection>, queue: &mpsc::Receiver<Work>) {
    while let Ok(first) = queue.recv() {
        if connection.is_none() {
            connection = connect(path).inspect_err(|error| tracing::error!(%error, "cannot reopen")).ok();
        }
        let Some(usable) = connection.as_mut() else {
            // The work is dropped, which its caller hears of.
            continue;
        };
        if let Err(error) = write_batch(usable, first, queue) {
            tracing::error!(%error, "a transaction failed");
            // Its state is unknown; a fresh connection begins from what is on disk.
            connection = None;
        }
    }
}

fn write_batch(
    connection: &mut SqliteConnection,
    first: Work,
    queue: &mpsc::Receiver<Work>,
) -> QueryResult<()> {
    AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")?;
    let fates: Vec<Fate> = std::iter::once(first)
        .chain(std::iter::from_fn(|| queue.try_recv().ok()))
        .take(MAX_BATCH)
        .map(|work| work(connection))
        .collect();
    let committed = AnsiTransactionManager::commit_transaction(connection);
    let failure = committed.as_ref().err().map(unavailable);
    for fate in fates {
        fate(failure.as_ref().map_or(Ok(()), Err));
    }
    committed
}

/// Connections that read, each used by one read at a time.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<SqliteConnection>>,
    permits: Semaphore,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, size: usize) -> Self {
        Self { path, idle: Mutex::new(Vec::new()), permits: Semaphore::new(size.max(1)) }
    }

    pub(crate) fn take(&self) -> Result<SqliteConnection, Unavailable> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let mut connection = connect(&self.path).map_err(|error| Unavailable(error.to_string()))?;
        connection
            .batch_execute("PRAGMA query_only = ON; PRAGMA cache_size = -512")
            .map_err(|error| unavailable(&error))?;
        Ok(connection)
    }

    pub(crate) fn give_back(&self, connection: SqliteConnection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    pub(crate) const fn permits(&self) -> &Semaphore {
        &self.permits
    }
}
