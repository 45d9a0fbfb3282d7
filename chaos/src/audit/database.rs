//! What the database holds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};
use vestibule_testkit::postgres::PostgresServer;

/// How many details a profile has when it is patched.
pub(super) const DETAILS: i32 = 7;

const ACCOUNTS: &str = "
    SELECT phone, user_id::text, email, email_confirmed, residence_street, kyc_level,
      num_nonnulls(first_name, last_name, date_of_birth, residence_country, residence_city, residence_street, residence_zip_code),
      (SELECT count(*) FROM sessions WHERE sessions.user_id = accounts.user_id),
      (SELECT count(*) FROM passwords WHERE passwords.user_id = accounts.user_id)
    FROM accounts";

const COUNTS: &str = "
    SELECT (SELECT count(*) FROM used_numbers), (SELECT count(*) FROM messages WHERE dead),
      (SELECT count(*) FROM deliveries WHERE state = 'expired')";

/// All that matters.
#[derive(Default)]
pub(super) struct State {
    pub(super) registrations: HashMap<String, Registration>,
    /// By phone, which has one at most.
    pub(super) accounts: HashMap<String, Vec<Account>>,
    pub(super) used_numbers: i64,
    pub(super) dead_letters: i64,
    /// Messages that had come too late to be sent.
    pub(super) expired: i64,
}

pub(super) struct Registration {
    pub(super) opened_user: Option<String>,
}

pub(super) struct Account {
    pub(super) phone: String,
    pub(super) user: String,
    pub(super) email: Option<String>,
    pub(super) email_confirmed: bool,
    pub(super) street: Option<String>,
    pub(super) kyc: String,
    pub(super) details: i32,
    pub(super) sessions: i64,
    pub(super) passwords: i64,
}

impl State {
    pub(super) async fn read(database: &PostgresServer) -> anyhow::Result<Self> {
        let client = connect(database).await?;
        let rows = client.query("SELECT phone, opened_user::text FROM registrations", &[]).await?;
        let registrations =
            rows.iter().map(|row| (row.get(0), Registration { opened_user: row.get(1) })).collect();
        let rows = client.query(ACCOUNTS, &[]).await?;
        let mut accounts = HashMap::<_, Vec<_>>::new();
        for row in rows {
            let account = Account {
                phone: row.get(0),
                user: row.get(1),
                email: row.get(2),
                email_confirmed: row.get(3),
                street: row.get(4),
                kyc: row.get(5),
                details: row.get(6),
                sessions: row.get(7),
                passwords: row.get(8),
            };
            accounts.entry(account.phone.clone()).or_default().push(account);
        }
        let counts = client.query_one(COUNTS, &[]).await?;
        Ok(Self {
            registrations,
            accounts,
            used_numbers: counts.get(0),
            dead_letters: counts.get(1),
            expired: counts.get(2),
        })
    }

    pub(super) fn account(&self, phone: &str) -> Option<&Account> {
        self.accounts.get(phone)?.first()
    }
}

/// Waits until nothing is to be sent any more; how much still is, in the end.
pub(super) async fn wait_until_sent(database: &PostgresServer, patience: Duration) -> anyhow::Result<i64> {
    let client = connect(database).await?;
    let end = Instant::now() + patience;
    loop {
        let row = client.query_one("SELECT count(*) FROM messages WHERE NOT dead", &[]).await?;
        let waiting: i64 = row.get(0);
        if waiting == 0 || Instant::now() > end {
            return Ok(waiting);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn connect(database: &PostgresServer) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&database.url("postgres"), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
