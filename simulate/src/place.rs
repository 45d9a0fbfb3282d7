//! Where it is played: instances of the service over a database of their own, and a provider that counts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use time::UtcDateTime;
use vestibule_domain::spending::{Purse, Spent};
use vestibule_port_storage::Storage as _;
use vestibule_port_storage::archive::{Archive as _, Table};
use vestibule_postgres::Postgres;
use vestibule_sqlite::{Sqlite, SqliteArchive};
use vestibule_testkit::fleet::Fleet;
use vestibule_testkit::postgres::{Durability, PostgresOptions, PostgresServer};
use vestibule_testkit::{FakeGateway, ample_limits, cheap_hashing};

use crate::client::Client;

/// How long messages may take to be sent.
const SENDING_PATIENCE: Duration = Duration::from_mins(2);

/// How often it is looked whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the service keeps everything in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// Whether limits of addresses, blocks and everyone are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// As the service has them by default.
    Default,
    /// Only those that are set.
    Ample,
}

/// All of it. Dropped, the processes are killed and their files removed.
pub(crate) struct Place {
    pub(crate) gateway: FakeGateway,
    pub(crate) client: Arc<Client>,
    books: Books,
    /// Before the files.
    pub(crate) fleet: Arc<Fleet>,
    _directory: TempDir,
}

/// Where it is written what was spent, and what is to be sent.
enum Books {
    Sqlite { path: PathBuf, storage: Sqlite },
    Postgres { storage: Box<Postgres>, _server: PostgresServer },
}

impl Place {
    /// Starts all of it.
    pub(crate) async fn start(
        database: Database,
        instances: usize,
        limits: Limits,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-simulate-").tempdir()?;
        let gateway = FakeGateway::start().await?;
        let server = match database {
            Database::Sqlite => None,
            Database::Postgres => {
                let options = PostgresOptions { durability: Durability::Durable, ..Default::default() };
                Some(tokio::task::spawn_blocking(move || PostgresServer::start(&options)).await??)
            }
        };
        let url = server.as_ref().map(|server| ("DATABASE__URL".to_owned(), server.url("postgres")));
        let common = [
            // Everybody has an address of their own.
            ("HTTP__TRUSTED_PROXIES", "127.0.0.0/8"),
            ("DATABASE__POOL_SIZE", "8"),
            // A crowd waits; it is not sent away.
            ("HASHING__QUEUE", "100000"),
        ];
        let written = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let ample = ample_limits().filter(|_| limits == Limits::Ample);
        let all = common.iter().map(written).chain(url).chain(gateway.settings());
        let all = all.chain(cheap_hashing()).chain(ample).chain(settings.iter().map(written));
        let fleet = Arc::new(Fleet::new(directory.path(), instances, all));
        fleet.start_all().await?;
        let books = match server {
            None => Books::sqlite(directory.path().join("data/vestibule.db"))?,
            Some(server) => Books::postgres(server).await?,
        };
        let client = Client::new(Arc::clone(&fleet))?;
        Ok(Self { gateway, client: Arc::new(client), books, fleet, _directory: directory })
    }

    /// Waits until nothing is left to be sent; how many messages the provider was given.
    pub(crate) async fn messages(&self) -> anyhow::Result<usize> {
        let end = Instant::now() + SENDING_PATIENCE;
        loop {
            let waiting = self.books.waiting().await?;
            if waiting == 0 {
                return Ok(self.gateway.accepted());
            }
            anyhow::ensure!(Instant::now() < end, "{waiting} messages still wait, or were given up");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What was spent out of the purses in the hour and the day that hold the moment.
    pub(crate) async fn spent(&self, of: &[Purse], now: UtcDateTime) -> anyhow::Result<Vec<Spent>> {
        Ok(match &self.books {
            Books::Sqlite { storage, .. } => storage.spent(of, now).await?,
            Books::Postgres { storage, .. } => storage.spent(of, now).await?,
        })
    }
}

impl Books {
    fn sqlite(path: PathBuf) -> anyhow::Result<Self> {
        let storage = Sqlite::open(&path, 1, vestibule_sqlite::Migrate::No)?;
        Ok(Self::Sqlite { path, storage })
    }

    async fn postgres(server: PostgresServer) -> anyhow::Result<Self> {
        let storage = Postgres::open(&server.url("postgres"), 2, vestibule_postgres::Migrate::No).await?;
        Ok(Self::Postgres { storage: Box::new(storage), _server: server })
    }

    /// Messages in the outbox, those included that were given up.
    async fn waiting(&self) -> anyhow::Result<u64> {
        Ok(match self {
            Self::Sqlite { path, .. } => SqliteArchive::open(path)?.count(Table::Messages).await?,
            Self::Postgres { storage, .. } => storage.count(Table::Messages).await?,
        })
    }
}
