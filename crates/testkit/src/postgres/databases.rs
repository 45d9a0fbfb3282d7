use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc};
use tokio_postgres::{Client, NoTls};
use url::Url;

use super::{PostgresError, PostgresOptions, PostgresServer};

/// Names a running server to make the databases on, by the URL of one of its databases and of a user who may create more.
/// Without it a server is made for the process.
pub const EXTERNAL_SERVER: &str = "VESTIBULE_TEST_DATABASE_URL";

/// Begins the name of every database and session of ours.
const PREFIX: &str = "vestibule_test_";

/// How long a test waits at its end for its database to be dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// Databases whose process has no session any more: it was killed before it could drop them.
const LEFT_BEHIND: &str = r"
    SELECT datname FROM pg_database WHERE datname LIKE 'vestibule\_test\_%' AND NOT EXISTS (
      SELECT FROM pg_stat_activity WHERE application_name LIKE 'vestibule\_test\_%'
        AND left(datname::text, length(application_name)) = application_name)";

/// The databases of this process's tests, on one server.
///
/// One thread runs the statements, one after another: a template can be copied by one at a time only, and the session must
/// outlive the runtime of the test that happened to come first.
#[derive(Debug)]
pub struct TestDatabases {
    server_url: Url,
    /// Tells this process's databases from those of others.
    key: String,
    next: AtomicU32,
    template: OnceCell<String>,
    requests: mpsc::UnboundedSender<Request>,
    /// Held for its end: it is gone when this process is.
    _server: Option<PostgresServer>,
}

/// A database of a test's own. Dropped with it.
#[derive(Debug)]
pub struct TestDatabase {
    /// Where it is.
    pub url: String,
    name: String,
    databases: &'static TestDatabases,
}

struct Request {
    statements: Vec<String>,
    answer: Sender<Result<(), PostgresError>>,
}

impl TestDatabases {
    /// Makes a database, a copy of one that `migrate` has prepared. `migrate` runs once in a process, with the URL of an
    /// empty database; nobody can connect to that one afterwards.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub async fn create(migrate: impl AsyncFnOnce(&str)) -> Result<TestDatabase, PostgresError> {
        static SHARED: OnceCell<TestDatabases> = OnceCell::const_new();
        let databases = SHARED.get_or_try_init(Self::start).await?;
        let template = databases.template.get_or_try_init(|| databases.make_template(migrate)).await?;
        let name = format!("{}_{}", databases.key, databases.next.fetch_add(1, Ordering::Relaxed));
        databases.run([format!("CREATE DATABASE {name} TEMPLATE {template}")]).await?;
        Ok(TestDatabase { url: databases.url(&name), name, databases })
    }

    async fn start() -> Result<Self, PostgresError> {
        let (server, url) = if let Ok(url) = std::env::var(EXTERNAL_SERVER) {
            (None, url)
        } else {
            let server = tokio::task::spawn_blocking(|| PostgresServer::start(&PostgresOptions::default()));
            let server = server.await.map_err(std::io::Error::other)??;
            let url = server.url("postgres");
            (Some(server), url)
        };
        let server_url = Url::parse(&url)
            .map_err(|error| PostgresError::Refused(format!("{EXTERNAL_SERVER}: {error}")))?;
        let chance = RandomState::new().build_hasher().finish();
        let key = format!("{PREFIX}{}_{chance:016x}", std::process::id());
        let (requests, to_run) = mpsc::unbounded_channel();
        let (started, has_started) = channel();
        let session = key.clone();
        thread::spawn(move || administrate(&url, &session, &started, to_run));
        wait(has_started).await?;
        Ok(Self {
            server_url,
            key,
            next: AtomicU32::new(0),
            template: OnceCell::new(),
            requests,
            _server: server,
        })
    }

    async fn make_template(&self, migrate: impl AsyncFnOnce(&str)) -> Result<String, PostgresError> {
        let name = format!("{}_template", self.key);
        // There is one already if `migrate` has panicked.
        self.run([format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")])
            .await?;
        migrate(&self.url(&name)).await;
        self.run([
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
        ])
        .await?;
        Ok(name)
    }

    fn url(&self, database: &str) -> String {
        let mut url = self.server_url.clone();
        url.set_path(database);
        url.into()
    }

    async fn run<const N: usize>(&self, statements: [String; N]) -> Result<(), PostgresError> {
        wait(self.send(statements.into())).await
    }

    fn send(&self, statements: Vec<String>) -> Receiver<Result<(), PostgresError>> {
        let (answer, answered) = channel();
        // Without a thread the answer is missing too, which the receiver sees.
        let _ = self.requests.send(Request { statements, answer });
        answered
    }
}

impl TestDatabase {
    /// Every row of every table, as text, for whoever looks for what should not be there.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub async fn dump(&self) -> Result<String, PostgresError> {
        let (client, connection) =
            tokio_postgres::connect(&self.url, NoTls).await.map_err(|error| refused(&error))?;
        tokio::spawn(connection);
        let dump = "SELECT database_to_xml(true, true, '')::text";
        let row = client.query_one(dump, &[]).await.map_err(|error| refused(&error))?;
        Ok(row.get(0))
    }

    /// Runs a statement behind the back of whatever uses the database; how many rows it has changed.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub async fn tamper(&self, statement: &str) -> Result<u64, PostgresError> {
        let (client, connection) =
            tokio_postgres::connect(&self.url, NoTls).await.map_err(|error| refused(&error))?;
        tokio::spawn(connection);
        client.execute(statement, &[]).await.map_err(|error| refused(&error))
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // What cannot be dropped now goes with the server, or when the next process begins.
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = self.databases.send(vec![statement]).recv_timeout(PATIENCE);
    }
}

async fn wait(answered: Receiver<Result<(), PostgresError>>) -> Result<(), PostgresError> {
    let ended = || PostgresError::Refused("the session of the tests has ended".to_owned());
    let answer = tokio::task::spawn_blocking(move || answered.recv()).await;
    answer.map_err(std::io::Error::other)?.unwrap_or_else(|_| Err(ended()))
}

/// The thread's work: connects, removes what others have left, and runs what is asked for.
fn administrate(
    url: &str,
    session: &str,
    started: &Sender<Result<(), PostgresError>>,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let working = async {
        let client = match connect(url, session).await {
            Ok(client) => client,
            Err(error) => return started.send(Err(error)).unwrap_or_default(),
        };
        let _ = started.send(Ok(()));
        while let Some(request) = requests.recv().await {
            let _ = request.answer.send(run(&client, &request.statements).await);
        }
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(working),
        Err(error) => started.send(Err(error.into())).unwrap_or_default(),
    }
}

async fn connect(url: &str, session: &str) -> Result<Client, PostgresError> {
    let mut config: tokio_postgres::Config = url.parse().map_err(|error| refused(&error))?;
    let connected = config.application_name(session).connect(NoTls).await;
    let (client, connection) = connected.map_err(|error| refused(&error))?;
    tokio::spawn(connection);
    let left_behind = client.query(LEFT_BEHIND, &[]).await.map_err(|error| refused(&error))?;
    for row in left_behind {
        let name: String = row.get(0);
        // Another process may be about to drop it as well.
        let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }
    Ok(client)
}

async fn run(client: &Client, statements: &[String]) -> Result<(), PostgresError> {
    for statement in statements {
        client.batch_execute(statement).await.map_err(|error| refused(&error))?;
    }
    Ok(())
}

fn refused(error: &tokio_postgres::Error) -> PostgresError {
    let reason = error.as_db_error().map(ToString::to_string);
    PostgresError::Refused(reason.unwrap_or_else(|| error.to_string()))
}
