//! Connections: how one is made, and the pools of them.

use std::time::Duration;

use diesel::result::{ConnectionError, DatabaseErrorKind, Error};
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolableConnection as _, RecyclingMethod,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection as _, TransactionManager as _};
use futures_util::FutureExt as _;
use tokio_postgres::NoTls;
use vestibule_port_storage::Unavailable;

use crate::address::{Address, Security, describe};

/// How long work may wait for a connection.
const POOL_PATIENCE: Duration = Duration::from_secs(3);

/// How long the server works at one statement, and how long that waits for a lock: a client waits 5 s at most.
const SESSION: &str = "SET statement_timeout = '4s'; SET lock_timeout = '3s';
    SET idle_in_transaction_session_timeout = '10s'";

/// Why there is no connection.
pub(crate) enum ConnectError {
    /// The server cannot be reached, or refuses.
    Server(tokio_postgres::Error),
    /// It was reached and cannot be set up.
    Setup(String),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(error) => f.write_str(&describe(error)),
            Self::Setup(problem) => f.write_str(problem),
        }
    }
}

/// Makes a connection with the limits of a session that serves requests.
pub(crate) async fn connect(address: &Address) -> Result<AsyncPgConnection, ConnectError> {
    let mut connection = connect_unlimited(address).await?;
    connection.batch_execute(SESSION).await.map_err(|error| ConnectError::Setup(error.to_string()))?;
    Ok(connection)
}

/// Makes a connection whose statements may take as long as they need.
pub(crate) async fn connect_unlimited(address: &Address) -> Result<AsyncPgConnection, ConnectError> {
    let adopted = match &address.security {
        Security::Plain => {
            let (client, connection) = address.server.connect(NoTls).await.map_err(ConnectError::Server)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
        Security::Verified(tls) => {
            let connected = address.server.connect(tls.clone()).await;
            let (client, connection) = connected.map_err(ConnectError::Server)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await
        }
    };
    adopted.map_err(|error| ConnectError::Setup(error.to_string()))
}

/// Connections that are taken for one piece of work and given back. A broken one is replaced.
#[derive(Clone)]
pub(crate) struct Connections(Pool<AsyncPgConnection>);

impl Connections {
    /// Up to `size` connections, each made when it is first needed.
    pub(crate) fn new(address: &Address, size: u32) -> Self {
        let address = address.clone();
        let mut config = ManagerConfig::default();
        config.custom_setup = Box::new(move |_| {
            let address = address.clone();
            async move {
                let connected = connect(&address).await;
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
        Self(Pool::builder().max_size(size.max(1)).connection_timeout(POOL_PATIENCE).build_unchecked(manager))
    }

    pub(crate) async fn take(&self) -> Result<PooledConnection<'_, AsyncPgConnection>, Unavailable> {
        self.0.get().await.map_err(|error| match error {
            bb8::RunError::TimedOut => Unavailable("no connection was free in time".to_owned()),
            bb8::RunError::User(error) => Unavailable(error.to_string()),
        })
    }
}

/// Keeps a connection from being used again when the error says that its server is no longer the one to ask.
pub(crate) fn discard_on(error: &Error, connection: &mut AsyncPgConnection) {
    if let Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) = error {
        // A server that was demoted serves on; a fresh connection finds the new primary.
        <AsyncPgConnection as AsyncConnection>::TransactionManager::transaction_manager_status_mut(
            connection,
        )
        .set_in_error();
    }
}

/// Whether somebody else was in the way, so that the same work may succeed when it is decided again.
pub(crate) fn is_rivalry(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _))
        || matches!(error, Error::DatabaseError(DatabaseErrorKind::Unknown, told) if told.message() == "deadlock detected")
}

/// The text names a table or a constraint at most: details, which repeat values, are left out.
pub(crate) fn unavailable(error: &Error) -> Unavailable {
    Unavailable(error.to_string())
}
