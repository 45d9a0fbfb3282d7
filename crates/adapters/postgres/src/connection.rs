//! Connections: how one is made, and the pools of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::result::{ConnectionError, DatabaseErrorInformation, DatabaseErrorKind, Error};
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolableConnection as _, RecyclingMethod,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection as _, TransactionManager as _};
use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{Client, Config, NoTls};
use vestibule_metrics::{
    DATABASE_CONNECTIONS, DATABASE_CONNECTIONS_MAX, DATABASE_FAILURES, DATABASE_WAITING, GaugeHandle,
};
use vestibule_port_storage::Unavailable;

use crate::address::{Address, Security, describe};

/// How long a caller waits for an answer, whatever happens to server and network: a client waits 5 s at most.
pub(crate) const PATIENCE: Duration = Duration::from_millis(4500);

/// How long work may wait for a connection.
const POOL_PATIENCE: Duration = Duration::from_secs(2);

/// How long a server that was reached may take to let us in.
const WELCOME: Duration = Duration::from_secs(1);

/// How long the server works at one statement, and how long that waits for a lock. A wait for the pool and one for a lock
/// are over before the caller's patience is.
const SESSION: &str = "SET statement_timeout = '4s'; SET lock_timeout = '2s';
    SET idle_in_transaction_session_timeout = '10s'";

/// Why there is no connection.
pub(crate) enum ConnectError {
    /// The server cannot be reached, or refuses.
    Server(tokio_postgres::Error),
    /// It was reached and said nothing more.
    Silent,
    /// It was reached and gives no session that can be used.
    Setup(String),
}

impl ConnectError {
    /// Whether a server was found that takes no writes, where there are several to choose from.
    pub(crate) fn takes_no_writes(&self) -> bool {
        // The driver has no name for this.
        matches!(self, Self::Server(error) if describe(error).contains("database does not allow writes"))
    }

    /// Whether the server itself has said so.
    fn was_said(&self) -> bool {
        self.takes_no_writes() || matches!(self, Self::Server(error) if error.as_db_error().is_some())
    }
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(error) => match error.as_db_error() {
                Some(told) => f.write_str(told.message()),
                None => f.write_str(&describe(error)),
            },
            Self::Silent => f.write_str("it does not answer"),
            Self::Setup(problem) => f.write_str(problem),
        }
    }
}

/// Makes a connection with the limits of a session that serves requests.
pub(crate) async fn connect(address: &Address) -> Result<AsyncPgConnection, ConnectError> {
    connect_and(address, async |server, security| connect_to(server, security, Some(SESSION)).await).await
}

/// Makes a connection whose statements may take as long as they need.
pub(crate) async fn connect_unlimited(address: &Address) -> Result<AsyncPgConnection, ConnectError> {
    connect_and(address, async |server, security| connect_to(server, security, None).await).await
}

/// Makes a connection for several to use at once, with the limits of a session that serves requests.
pub(crate) async fn connect_shared(address: &Address) -> Result<(AsyncPgConnection, Driver), ConnectError> {
    connect_and(address, async |server, security| {
        let (client, driver) = connect_client(server, security).await?;
        let adopted = AsyncPgConnection::try_from(client).await;
        let mut connection = adopted.map_err(|error| ConnectError::Setup(error.to_string()))?;
        connection.batch_execute(SESSION).await.map_err(|error| ConnectError::Setup(error.to_string()))?;
        Ok((connection, driver))
    })
    .await
}

/// Makes a connection of the driver's own, whose errors have their codes.
pub(crate) async fn connect_plainly(address: &Address) -> Result<(Client, Driver), ConnectError> {
    connect_and(address, connect_client).await
}

/// Tries one server after another, from the one that was reached last: one that is away costs time.
async fn connect_and<T>(
    address: &Address,
    connect_to: impl AsyncFn(&Config, &Security) -> Result<T, ConnectError>,
) -> Result<T, ConnectError> {
    let mut failure = ConnectError::Silent;
    let from = address.reached.load(Ordering::Relaxed);
    let servers = address.servers.iter().enumerate().cycle().skip(from).take(address.servers.len());
    for (number, server) in servers {
        let patience = server.get_connect_timeout().copied().unwrap_or_default() + WELCOME;
        let error = match timeout(patience, connect_to(server, &address.security)).await {
            Ok(Ok(connection)) => {
                address.reached.store(number, Ordering::Relaxed);
                return Ok(connection);
            }
            Ok(Err(error)) => error,
            Err(_) => ConnectError::Silent,
        };
        // What a server has said tells more than that another one is away.
        if !failure.was_said() {
            failure = error;
        }
    }
    Err(failure)
}

async fn connect_to(
    server: &Config,
    security: &Security,
    setup: Option<&str>,
) -> Result<AsyncPgConnection, ConnectError> {
    let adopted = match security {
        Security::Plain => {
            let (client, connection) = server.connect(NoTls).await.map_err(ConnectError::Server)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
        Security::Verified(tls) => {
            let (client, connection) = server.connect(tls.clone()).await.map_err(ConnectError::Server)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
    };
    let mut connection = adopted.map_err(|error| ConnectError::Setup(error.to_string()))?;
    if let Some(setup) = setup {
        connection.batch_execute(setup).await.map_err(|error| ConnectError::Setup(error.to_string()))?;
    }
    Ok(connection)
}

async fn connect_client(server: &Config, security: &Security) -> Result<(Client, Driver), ConnectError> {
    match security {
        Security::Plain => {
            let (client, connection) = server.connect(NoTls).await.map_err(ConnectError::Server)?;
            Ok((client, Driver::start(connection)))
        }
        Security::Verified(tls) => {
            let (client, connection) = server.connect(tls.clone()).await.map_err(ConnectError::Server)?;
            Ok((client, Driver::start(connection)))
        }
    }
}

/// What drives a connection, on the thread that made it. Dropped, it closes the connection, whatever that still owes.
pub(crate) struct Driver(JoinHandle<()>);

impl Driver {
    fn start(connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = describe(&error), "a connection has ended");
            }
        }))
    }

    /// Whether the connection has, or the thread.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connections that are taken for one piece of work and given back. A broken one is replaced.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: Pool<AsyncPgConnection>,
    size: u32,
    trouble: Trouble,
    measured: Arc<Measured>,
}

/// Why no connection can be made, if that is so: the pool tries again, and tells nobody.
#[derive(Debug, Clone, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn note(&self, last: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    fn told(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is told of a pool.
struct Measured {
    in_use: GaugeHandle,
    idle: GaugeHandle,
    waiting: GaugeHandle,
}

impl Connections {
    /// Up to `size` connections, each made when it is first needed. The name is what they are for.
    pub(crate) fn new(address: &Address, size: u32, name: &'static str) -> Self {
        let (address, trouble) = (address.clone(), Trouble::default());
        let (of_setup, mut config) = (trouble.clone(), ManagerConfig::default());
        config.custom_setup = Box::new(move |_| {
            let (address, trouble) = (address.clone(), of_setup.clone());
            async move {
                let connected = connect(&address).await;
                trouble.note(connected.as_ref().err().map(ToString::to_string));
                connected.map_err(|error| ConnectionError::BadConnection(error.to_string()))
            }
            .boxed()
        });
        // A look at the socket's state: a round trip for each use would cost more than it saves.
        config.recycling_method = RecyclingMethod::CustomFunction(Box::new(|connection| {
            let usable = if connection.is_broken() { Err(Error::BrokenTransactionManager) } else { Ok(()) };
            std::future::ready(usable).boxed()
        }));
        let manager = AsyncDieselConnectionManager::new_with_config(String::new(), config);
        let size = size.max(1);
        DATABASE_CONNECTIONS_MAX.of([name.into()]).set(size);
        let measured = Arc::new(Measured {
            in_use: DATABASE_CONNECTIONS.of([name.into(), "in_use".into()]),
            idle: DATABASE_CONNECTIONS.of([name.into(), "idle".into()]),
            waiting: DATABASE_WAITING.of([name.into()]),
        });
        let pool = Pool::builder().max_size(size).connection_timeout(POOL_PATIENCE).build_unchecked(manager);
        Self { pool, size, trouble, measured }
    }

    /// Whether all connections that there may be are lent.
    pub(crate) fn are_all_lent(&self) -> bool {
        let state = self.pool.state();
        state.connections >= self.size && state.idle_connections == 0
    }

    /// Tells how many connections there are.
    pub(crate) fn measure(&self) {
        let state = self.pool.state();
        self.measured.in_use.set(state.connections.saturating_sub(state.idle_connections));
        self.measured.idle.set(state.idle_connections);
    }

    /// Does work on a connection, and answers in time. A connection that did not is closed: nobody may wait behind the answer
    /// that it still owes.
    pub(crate) async fn lend<T, E: From<Unavailable>>(
        &self,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.lend_for(PATIENCE, work).await
    }

    /// As [`Self::lend`], for work that no client waits for.
    pub(crate) async fn lend_for<T, E: From<Unavailable>>(
        &self,
        patience: Duration,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let deadline = Instant::now() + patience;
        let connection = self.take().await?;
        let mut lent = Lent { connection, owes_answer: true };
        let Ok(answered) = timeout_at(deadline, work(&mut lent.connection)).await else {
            return Err(late().into());
        };
        lent.owes_answer = false;
        answered
    }

    async fn take(&self) -> Result<PooledConnection<'_, AsyncPgConnection>, Unavailable> {
        let _waiting = Waiting::begin(&self.measured.waiting);
        self.pool.get().await.map_err(|error| match error {
            bb8::RunError::TimedOut => match self.trouble.told() {
                Some(why) => unreachable(&format_args!("no connection can be made: {why}")),
                None => failure("no_connection_free", "no connection was free in time".to_owned()),
            },
            bb8::RunError::User(error) => unreachable(&error),
        })
    }
}

/// Somebody who waits for a connection, as long as he does.
struct Waiting<'a>(&'a GaugeHandle);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a GaugeHandle) -> Self {
        waiting.increment(1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// A connection while it is lent. It is closed instead of given back if it still owes an answer, be it that the time is over or
/// that the caller has gone.
struct Lent<'a> {
    connection: PooledConnection<'a, AsyncPgConnection>,
    owes_answer: bool,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if self.owes_answer {
            discard(&mut self.connection);
        }
    }
}

/// Keeps a connection from being used again when the error says that its server is no longer the one to ask.
pub(crate) fn discard_on(error: &Error, connection: &mut AsyncPgConnection) {
    if is_of_demoted(error) {
        discard(connection);
    }
}

/// Whether the server takes no writes. One that was demoted serves on; a fresh connection finds the new primary.
pub(crate) fn is_of_demoted(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _))
}

pub(crate) fn discard(connection: &mut AsyncPgConnection) {
    <AsyncPgConnection as AsyncConnection>::TransactionManager::transaction_manager_status_mut(connection)
        .set_in_error();
}

/// Whether somebody else was in the way, so that the same work may succeed when it is decided again.
pub(crate) fn is_rivalry(error: &Error) -> bool {
    match error {
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => true,
        Error::DatabaseError(DatabaseErrorKind::Unknown, told) => is_deadlock(told.as_ref()),
        _ => false,
    }
}

/// Diesel hides the code of this error, and the server's text depends on its language. But no other error has details of a line for each
/// of two sessions or more, with the name of a lock's mode (`ShareLock`), which is never translated.
fn is_deadlock(told: &dyn DatabaseErrorInformation) -> bool {
    let lines = told.details().unwrap_or_default().lines();
    lines.clone().count() > 1 && lines.into_iter().all(|line| line.contains("Lock"))
}

/// The text names a table or a constraint at most: details, which repeat values, are left out.
pub(crate) fn unavailable(error: &Error) -> Unavailable {
    failure("error", error.to_string())
}

/// The server did not answer in time.
pub(crate) fn late() -> Unavailable {
    failure("late", "the server did not answer in time".to_owned())
}

/// There is no connection.
pub(crate) fn unreachable(error: &impl std::fmt::Display) -> Unavailable {
    failure("unreachable", error.to_string())
}

/// The database cannot be used, which is counted by its cause.
fn failure(cause: &'static str, text: String) -> Unavailable {
    DATABASE_FAILURES.of([cause.into()]).increment(1);
    Unavailable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Details(&'static str);

    impl DatabaseErrorInformation for Details {
        fn message(&self) -> &'static str {
            "?"
        }
        fn details(&self) -> Option<&str> {
            Some(self.0)
        }
        fn hint(&self) -> Option<&str> {
            None
        }
        fn table_name(&self) -> Option<&str> {
            None
        }
        fn column_name(&self) -> Option<&str> {
            None
        }
        fn constraint_name(&self) -> Option<&str> {
            None
        }
        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    #[test]
    fn a_deadlock_is_known_in_every_language() {
        for (details, is_rivalry) in [
            (
                "Process 7 waits for ShareLock on transaction 1; blocked by process 8.\n\
                 Process 8 waits for ShareLock on transaction 2; blocked by process 7.",
                true,
            ),
            (
                "Prozess 7 wartet auf AccessExclusiveLock-Sperre auf Relation 1; blockiert von Prozess 8.\n\
                 Prozess 8 wartet auf RowExclusiveLock-Sperre auf Relation 2; blockiert von Prozess 7.",
                true,
            ),
            ("Index row references tuple (0,1) in relation \"Lock\".", false),
            ("", false),
        ] {
            let told = Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(Details(details)));
            assert_eq!(super::is_rivalry(&told), is_rivalry, "{details}");
        }
    }
}
