//! A database file that is read and never written, not even by SQLite itself.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use diesel::Table as _;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use vestibule_domain::UserId;
use vestibule_domain::limits::Limit;
use vestibule_port_storage::archive::{Archive, ArchiveSource, Budget, Key, Record, Table};
use vestibule_port_storage::{KeyMark, NumberDigest, Unavailable};

use crate::migrate::{Tables, tables};
use crate::rows::{
    AccountRow, AttemptRow, DeliveryRecordRow, FactRow, GuardRow, MessageRow, PasswordRow, RefreshTokenRow,
    RegistrationRow, ResetRow, SessionRow, Unreadable, bytes, digest, millis, moment,
};
use crate::schema::{
    accounts, attempts, deliveries, facts, key_mark, limits, messages, password_resets, passwords,
    refresh_tokens, registrations, sessions, sign_in_guards, used_numbers,
};
use crate::{Failure, OpenError};

/// A database file as it was when it was opened: one snapshot for everything that is read.
pub struct SqliteArchive {
    snapshot: Arc<Mutex<SqliteConnection>>,
    /// Outside the snapshot, to see whether somebody else writes.
    watch: Arc<Mutex<SqliteConnection>>,
    data_version: i64,
}

#[derive(QueryableByName)]
struct DataVersion {
    #[diesel(sql_type = BigInt)]
    data_version: i64,
}

impl SqliteArchive {
    /// Opens a database file to read it. The file is not made, migrated or written to.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if !path.is_file() {
            return Err(OpenError::Missing);
        }
        let mut watch = connect(path)?;
        let data_version = data_version(&mut watch)?;
        let mut snapshot = connect(path)?;
        // The first read takes the snapshot, and the transaction keeps it.
        snapshot.batch_execute("BEGIN")?;
        match tables(&mut snapshot)? {
            Tables::Current => {}
            Tables::Older => return Err(OpenError::Outdated),
            Tables::Newer => return Err(OpenError::Newer),
        }
        let shared = |connection| Arc::new(Mutex::new(connection));
        Ok(Self { snapshot: shared(snapshot), watch: shared(watch), data_version })
    }
}

fn connect(path: &Path) -> Result<SqliteConnection, OpenError> {
    let path = path.to_str().ok_or(OpenError::Path)?;
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let mut connection = SqliteConnection::establish(&format!("file:{path}?mode=ro"))?;
    connection.batch_execute("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON")?;
    Ok(connection)
}

fn data_version(connection: &mut SqliteConnection) -> QueryResult<i64> {
    let DataVersion { data_version } = diesel::sql_query("PRAGMA data_version").get_result(connection)?;
    Ok(data_version)
}

/// Runs a read away from the threads of the runtime.
async fn on<T: Send + 'static>(
    connection: &Arc<Mutex<SqliteConnection>>,
    read: impl FnOnce(&mut SqliteConnection) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Unavailable> {
    let connection = Arc::clone(connection);
    let reading = tokio::task::spawn_blocking(move || {
        read(&mut connection.lock().unwrap_or_else(PoisonError::into_inner)).map_err(Unavailable::from)
    });
    reading.await.map_err(|error| Unavailable(format!("a read ended: {error}")))?
}

#[async_trait]
impl ArchiveSource for SqliteArchive {
    async fn has_changed(&self) -> Result<bool, Unavailable> {
        let now = on(&self.watch, |connection| Ok(data_version(connection)?)).await?;
        Ok(now != self.data_version)
    }
}

#[async_trait]
impl Archive for SqliteArchive {
    async fn export(
        &self,
        table: Table,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, Unavailable> {
        let (after, limit) = (after.cloned(), i64::try_from(limit).unwrap_or(i64::MAX));
        on(&self.snapshot, move |connection| page(connection, table, after.as_ref(), limit)).await
    }

    async fn count(&self, table: Table) -> Result<u64, Unavailable> {
        let count = on(&self.snapshot, move |connection| {
            Ok(match table {
                Table::KeyMark => key_mark::table.count().get_result::<i64>(connection),
                Table::Registrations => registrations::table.count().get_result(connection),
                Table::Accounts => accounts::table.count().get_result(connection),
                Table::Passwords => passwords::table.count().get_result(connection),
                Table::UsedNumbers => used_numbers::table.count().get_result(connection),
                Table::Sessions => sessions::table.count().get_result(connection),
                Table::RefreshTokens => refresh_tokens::table.count().get_result(connection),
                Table::Limits => limits::table.count().get_result(connection),
                Table::Messages => messages::table.count().get_result(connection),
                Table::Deliveries => deliveries::table.count().get_result(connection),
                Table::SignInGuards => sign_in_guards::table.count().get_result(connection),
                Table::PasswordResets => password_resets::table.count().get_result(connection),
                Table::Facts => facts::table.count().get_result(connection),
            }?)
        });
        Ok(count.await?.try_into().unwrap_or(0))
    }
}

/// Loads a page of rows, from the first after the key on.
macro_rules! rows {
    ($connection:ident, $limit:ident, $table:ident as $row:ty where $after:ident is $key:pat => $filter:expr) => {{
        let query =
            $table::table.select(<$row>::as_select()).order($table::table.primary_key()).limit($limit);
        let query = query.into_boxed();
        let query = match $after {
            Some($key) => query.filter($filter),
            _ => query,
        };
        query.load::<$row>($connection)?
    }};
}

fn page(
    connection: &mut SqliteConnection,
    table: Table,
    after: Option<&Key>,
    limit: i64,
) -> Result<Vec<Record>, Failure> {
    match table {
        Table::KeyMark => {
            let kept: Vec<Vec<u8>> = match after {
                None => key_mark::table.select(key_mark::mark).limit(limit).load(connection)?,
                Some(_) => Vec::new(),
            };
            kept.into_iter().map(|mark| Ok(Record::KeyMark(KeyMark(digest(mark)?)))).collect()
        }
        Table::Registrations => registrations_page(connection, after, limit),
        Table::Accounts => {
            let rows = rows!(
                connection, limit, accounts as AccountRow
                where after is Key::Account(user) => accounts::user_id.gt(bytes(user.uuid()))
            );
            rows.into_iter().map(|row| Ok(Record::Account(Box::new(row.load()?)))).collect()
        }
        Table::Passwords => {
            let rows = rows!(
                connection, limit, passwords as PasswordRow
                where after is Key::Password(user, set_at) => after_password(*user, millis(*set_at))
            );
            rows.into_iter().map(|row| Ok(Record::Password(row.load()?))).collect()
        }
        Table::UsedNumbers => {
            let mut query = used_numbers::table
                .select(used_numbers::digest)
                .order(used_numbers::digest)
                .limit(limit)
                .into_boxed();
            if let Some(Key::UsedNumber(NumberDigest(after))) = after {
                query = query.filter(used_numbers::digest.gt(after.to_vec()));
            }
            let rows: Vec<Vec<u8>> = query.load(connection)?;
            rows.into_iter().map(|row| Ok(Record::UsedNumber(NumberDigest(digest(row)?)))).collect()
        }
        Table::Sessions => {
            let rows = rows!(
                connection, limit, sessions as SessionRow
                where after is Key::Session(id) => sessions::id.gt(bytes(id.uuid()))
            );
            rows.into_iter().map(|row| Ok(Record::Session(Box::new(row.load()?)))).collect()
        }
        Table::RefreshTokens => {
            let rows = rows!(
                connection, limit, refresh_tokens as RefreshTokenRow
                where after is Key::RefreshToken(hash) => refresh_tokens::hash.gt(hash.digest().to_vec())
            );
            rows.into_iter().map(|row| Ok(Record::RefreshToken(row.load()?))).collect()
        }
        Table::Limits => {
            let mut query = limits::table.order(limits::key).limit(limit).into_boxed();
            if let Some(Key::Budget(after)) = after {
                query = query.filter(limits::key.gt(after.to_string()));
            }
            let rows: Vec<(String, i64)> = query.load(connection)?;
            rows.into_iter().map(|(key, full_at)| budget(&key, full_at)).collect()
        }
        Table::Messages => {
            let rows = rows!(
                connection, limit, messages as MessageRow
                where after is Key::Message(id) => messages::id.gt(bytes(id.uuid()))
            );
            rows.into_iter().map(|row| Ok(Record::Message(Box::new(row.queued()?)))).collect()
        }
        Table::Deliveries => {
            let rows = rows!(
                connection, limit, deliveries as DeliveryRecordRow
                where after is Key::Delivery(id) => deliveries::id.gt(bytes(id.uuid()))
            );
            rows.into_iter().map(|row| Ok(Record::Delivery(Box::new(row.load()?)))).collect()
        }
        Table::SignInGuards => {
            let rows = rows!(
                connection, limit, sign_in_guards as GuardRow
                where after is Key::Guard(phone) => sign_in_guards::phone.gt(phone.as_str().to_owned())
            );
            rows.into_iter().map(|row| Ok(Record::Guard(Box::new(row.load()?)))).collect()
        }
        Table::PasswordResets => {
            let rows = rows!(
                connection, limit, password_resets as ResetRow
                where after is Key::Reset(phone) => password_resets::phone.gt(phone.as_str().to_owned())
            );
            rows.into_iter().map(|row| Ok(Record::Reset(Box::new(row.load()?)))).collect()
        }
        Table::Facts => {
            let rows = rows!(
                connection, limit, facts as FactRow
                where after is Key::Fact(id) => facts::id.gt(bytes(id.uuid()))
            );
            rows.into_iter().map(|row| Ok(Record::Fact(Box::new(row.load()?)))).collect()
        }
    }
}

fn registrations_page(
    connection: &mut SqliteConnection,
    after: Option<&Key>,
    limit: i64,
) -> Result<Vec<Record>, Failure> {
    let rows = rows!(
        connection, limit, registrations as RegistrationRow
        where after is Key::Registration(phone) => registrations::phone.gt(phone.as_str().to_owned())
    );
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let own: Vec<AttemptRow> = attempts::table
            .filter(attempts::phone.eq(&row.phone))
            .order((attempts::created_at, attempts::id))
            .select(AttemptRow::as_select())
            .load(connection)?;
        records.push(Record::Registration(Box::new(row.load(own)?)));
    }
    Ok(records)
}

fn budget(key: &str, full_at: i64) -> Result<Record, Failure> {
    let limit = Limit::parse(key).ok_or(Unreadable("a limit"))?;
    Ok(Record::Budget(Budget { limit, full_at: moment(full_at)? }))
}

/// Later passwords of the user, and those of the users after.
#[diesel::dsl::auto_type(no_type_alias)]
fn after_password(user: UserId, set_at: i64) -> _ {
    let user: Vec<u8> = bytes(user.uuid());
    let same: Vec<u8> = user.clone();
    passwords::user_id.gt(user).or(passwords::user_id.eq(same).and(passwords::set_at.gt(set_at)))
}
