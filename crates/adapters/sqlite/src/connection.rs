//! Connections: one thread that writes, and readers beside it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::result::Error;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use vestibule_metrics::DATABASE_FAILURES;
use vestibule_port_storage::Unavailable;

use crate::{Failure, OpenError};

/// Commits that share one transaction, and so one fsync, at most.
const MAX_BATCH: usize = 256;

/// How long a read may wait for a connection.
const READ_TIMEOUT: Duration = Duration::from_secs(4);

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
    failure("error", error.to_string())
}

/// The database cannot be used, which is counted by its cause.
pub(crate) fn failure(cause: &'static str, text: String) -> Unavailable {
    DATABASE_FAILURES.of([cause.into()]).increment(1);
    Unavailable(text)
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
        Err(Unavailable("the write was given up".to_owned()).into())
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
        // A defect in one piece of work must not take the thread from all later ones: those of its batch see their answers dropped.
        let problem = match catch_unwind(AssertUnwindSafe(|| write_batch(usable, first, queue))) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        tracing::error!(problem, "a transaction failed");
        // Its state is unknown; a fresh connection begins from what is on disk.
        connection = None;
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
    idle: Arc<Mutex<Vec<SqliteConnection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, size: usize) -> Self {
        Self { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(size.max(1))) }
    }

    /// Runs a read on a connection of its own, away from the threads that serve requests. The read goes on though the caller goes away, and keeps its
    /// permit: so there are no more connections than permits.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut SqliteConnection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let waited = timeout(READ_TIMEOUT, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = waited
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| failure("no_connection_free", "no connection was free in time".to_owned()))?;
        let (path, idle) = (self.path.clone(), Arc::clone(&self.idle));
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connections = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let rested = connections().pop();
            let mut connection = rested.map_or_else(|| connect_to_read(&path), Ok)?;
            // One snapshot for all statements of the read.
            let result = connection.transaction(read);
            if result.is_ok() {
                connections().push(connection);
            }
            result.map_err(Unavailable::from)
        });
        reading.await.map_err(|error| Unavailable(format!("a read ended: {error}")))?
    }
}

fn connect_to_read(path: &Path) -> Result<SqliteConnection, Unavailable> {
    let mut connection = connect(path).map_err(|error| failure("unreachable", error.to_string()))?;
    connection
        .batch_execute("PRAGMA query_only = ON; PRAGMA cache_size = -512")
        .map_err(|error| unavailable(&error))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore as Gate;

    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.db");
        (directory, path)
    }

    #[tokio::test]
    async fn a_panic_in_one_piece_of_work_is_the_trouble_of_those_alone_who_wait_with_it() {
        let (_directory, path) = file();
        let writer = Writer::start(path.clone(), Some(connect(&path).unwrap())).unwrap();
        let make = |table| {
            let make = format!("CREATE TABLE {table} (id INTEGER)");
            writer.run(move |connection| Ok::<_, Failure>(connection.batch_execute(&make)?))
        };
        assert!(make("before").await.is_ok());
        let panicked = writer.run::<(), Failure>(|_| panic!("a defect")).await;
        assert!(panicked.is_err());
        assert!(make("after").await.is_ok());
        assert!(make("before").await.is_err(), "what was committed has stayed");
    }

    #[tokio::test]
    async fn a_read_keeps_its_connection_to_itself_though_its_caller_goes_away() {
        let (_directory, path) = file();
        let readers = Arc::new(Readers::new(path, 1));
        let (begun, over) = (Arc::new(Gate::new(0)), Arc::new(Gate::new(0)));
        let caller = tokio::spawn({
            let (readers, begun, over) = (Arc::clone(&readers), Arc::clone(&begun), Arc::clone(&over));
            let read = move |_: &mut SqliteConnection| {
                begun.add_permits(1);
                while over.try_acquire().is_err() {
                    thread::yield_now();
                }
                Ok(())
            };
            async move { readers.run(read).await }
        });
        begun.acquire().await.unwrap().forget();
        caller.abort();
        assert!(caller.await.is_err());
        assert_eq!(readers.permits.available_permits(), 0);
        over.add_permits(1);
        readers.run(|_| Ok(())).await.unwrap();
        assert_eq!(readers.idle.lock().unwrap().len(), 1);
    }
}
