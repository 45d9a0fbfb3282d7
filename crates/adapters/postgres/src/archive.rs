//! The whole installation, record by record: to be copied here, and to be compared.

use std::time::Duration;

use async_trait::async_trait;
use diesel::dsl::{exists, sql};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Bool, Text};
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, QueryDsl as _, SelectableHelper as _, Table as _,
};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _};
use time::OffsetDateTime;
use vestibule_port_storage::archive::{Archive, ArchiveTarget, Budget, ImportError, Key, Record, Table};
use vestibule_port_storage::{KeyMark, NumberDigest, Unavailable};

use crate::budgets;
use crate::connection::unavailable;
use crate::rows::{
    AccountRow, AttemptRow, DeliveryRow, FactRow, GuardRow, MessageRow, PasswordRow, RefreshTokenRow,
    RegistrationRow, ResetRow, SessionRow, Unreadable, digest, moment, stamp,
};
use crate::schema::{
    accepted_signatures, accounts, attempts, deliveries, facts, held_codes, kept_answers, key_mark, limits,
    messages, password_resets, passwords, refresh_tokens, registrations, reservations, sent_codes, sessions,
    sign_in_guards, spending, used_numbers,
};
use crate::{Failure, Postgres};

/// How long the records of one import may take.
const IMPORT_PATIENCE: Duration = Duration::from_mins(1);

/// Rows in a statement: the protocol numbers at most 65535 values.
const ROWS: usize = 1000;

#[async_trait]
impl Archive for Postgres {
    async fn export(
        &self,
        table: Table,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, Unavailable> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(async |connection| page(connection, table, after, limit).await).await
    }

    async fn count(&self, table: Table) -> Result<u64, Unavailable> {
        let count = self.read(async |mut connection| {
            let connection = &mut connection;
            Ok(match table {
                Table::KeyMark => key_mark::table.count().get_result::<i64>(connection).await,
                Table::Registrations => registrations::table.count().get_result(connection).await,
                Table::Accounts => accounts::table.count().get_result(connection).await,
                Table::Passwords => passwords::table.count().get_result(connection).await,
                Table::UsedNumbers => used_numbers::table.count().get_result(connection).await,
                Table::Sessions => sessions::table.count().get_result(connection).await,
                Table::RefreshTokens => refresh_tokens::table.count().get_result(connection).await,
                Table::Limits => {
                    limits::table
                        .filter(sql::<Bool>(budgets::WHOLE_OR_FIRST))
                        .count()
                        .get_result(connection)
                        .await
                }
                Table::Messages => messages::table.count().get_result(connection).await,
                Table::Deliveries => deliveries::table.count().get_result(connection).await,
                Table::SignInGuards => sign_in_guards::table.count().get_result(connection).await,
                Table::PasswordResets => password_resets::table.count().get_result(connection).await,
                Table::Facts => facts::table.count().get_result(connection).await,
            }?)
        });
        Ok(count.await?.try_into().unwrap_or(0))
    }
}

#[async_trait]
impl ArchiveTarget for Postgres {
    async fn import(&self, records: Vec<Record>) -> Result<(), ImportError> {
        let rows = Rows::of(records);
        let import = async |connection: &mut AsyncPgConnection| {
            let written = connection.transaction(async |connection| rows.write(connection).await).await;
            written.map_err(|error| match error {
                Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => ImportError::Conflict,
                other => unavailable(&other).into(),
            })
        };
        self.writes.lend_for(IMPORT_PATIENCE, import).await
    }

    async fn finish(&self, mark: Option<KeyMark>) -> Result<(), ImportError> {
        let unfinished = key_mark::table.filter(key_mark::mark.eq(KeyMark::OF_AN_UNFINISHED_COPY.0.to_vec()));
        let finish = async |connection: &mut AsyncPgConnection| {
            let finished = match mark {
                Some(KeyMark(mark)) => {
                    let update = diesel::update(unfinished).set(key_mark::mark.eq(mark.to_vec()));
                    update.execute(connection).await
                }
                None => diesel::delete(unfinished).execute(connection).await,
            };
            match finished.map_err(|error| unavailable(&error))? {
                0 => Err(ImportError::Conflict),
                _ => Ok(()),
            }
        };
        self.writes.lend_for(IMPORT_PATIENCE, finish).await
    }

    async fn trace_of_service(&self) -> Result<Option<&'static str>, Unavailable> {
        macro_rules! first_in_use {
            ($connection:ident: $($table:ident),*) => {
                $(
                    let is_used = diesel::select(exists($table::table.select($table::all_columns))).get_result(&mut &*$connection);
                    if is_used.await? {
                        return Ok(Some(stringify!($table)));
                    }
                )*
            };
        }
        self.read(async |connection| {
            first_in_use!(connection: kept_answers, accepted_signatures, spending, reservations, sent_codes, held_codes);
            Ok(None)
        })
        .await
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
        query.load::<$row>(&mut &*$connection).await?
    }};
}

async fn page(
    connection: &AsyncPgConnection,
    table: Table,
    after: Option<&Key>,
    limit: i64,
) -> Result<Vec<Record>, Failure> {
    match table {
        Table::KeyMark => {
            let kept: Vec<Vec<u8>> = match after {
                None => key_mark::table.select(key_mark::mark).limit(limit).load(&mut &*connection).await?,
                Some(_) => Vec::new(),
            };
            kept.into_iter().map(|mark| Ok(Record::KeyMark(KeyMark(digest(mark)?)))).collect()
        }
        Table::Registrations => registrations_page(connection, after, limit).await,
        Table::Accounts => {
            let rows = rows!(
                connection, limit, accounts as AccountRow
                where after is Key::Account(user) => accounts::user_id.gt(user.uuid())
            );
            rows.into_iter().map(|row| Ok(Record::Account(Box::new(row.load()?)))).collect()
        }
        Table::Passwords => {
            let rows = rows!(
                connection, limit, passwords as PasswordRow
                where after is Key::Password(user, set_at) => passwords::user_id
                    .gt(user.uuid())
                    .or(passwords::user_id.eq(user.uuid()).and(passwords::set_at.gt(stamp(*set_at))))
            );
            Ok(rows.into_iter().map(|row| Record::Password(row.load())).collect())
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
            let rows: Vec<Vec<u8>> = query.load(&mut &*connection).await?;
            rows.into_iter().map(|row| Ok(Record::UsedNumber(NumberDigest(digest(row)?)))).collect()
        }
        Table::Sessions => {
            let rows = rows!(
                connection, limit, sessions as SessionRow
                where after is Key::Session(id) => sessions::id.gt(id.uuid())
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
        Table::Limits => limits_page(connection, after, limit).await,
        Table::Messages => {
            let rows = rows!(
                connection, limit, messages as MessageRow
                where after is Key::Message(id) => messages::id.gt(id.uuid())
            );
            rows.into_iter().map(|row| Ok(Record::Message(Box::new(row.queued()?)))).collect()
        }
        Table::Deliveries => {
            let rows = rows!(
                connection, limit, deliveries as DeliveryRow
                where after is Key::Delivery(id) => deliveries::id.gt(id.uuid())
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
                where after is Key::Fact(id) => facts::id.gt(id.uuid())
            );
            rows.into_iter().map(|row| Ok(Record::Fact(Box::new(row.load()?)))).collect()
        }
    }
}

/// The numbers' own index serves: a plus sign and digits have one order in every collation.
async fn registrations_page(
    connection: &AsyncPgConnection,
    after: Option<&Key>,
    limit: i64,
) -> Result<Vec<Record>, Failure> {
    let rows = rows!(
        connection, limit, registrations as RegistrationRow
        where after is Key::Registration(phone) => registrations::phone.gt(phone.as_str().to_owned())
    );
    let phones: Vec<&str> = rows.iter().map(|row| row.phone.as_str()).collect();
    let mut attempt_rows: Vec<AttemptRow> = attempts::table
        .filter(attempts::phone.eq_any(phones))
        .select(AttemptRow::as_select())
        .load(&mut &*connection)
        .await?;
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let own = attempt_rows.extract_if(.., |attempt| attempt.phone == row.phone).collect();
        records.push(Record::Registration(Box::new(row.load(own)?)));
    }
    Ok(records)
}

/// In the order of bytes, whatever the database's collation. The first part of a budget stands for all.
async fn limits_page(
    connection: &AsyncPgConnection,
    after: Option<&Key>,
    limit: i64,
) -> Result<Vec<Record>, Failure> {
    let mut query = limits::table
        .filter(sql::<Bool>(budgets::WHOLE_OR_FIRST))
        .order(sql::<Text>("key COLLATE \"C\""))
        .limit(limit)
        .into_boxed();
    if let Some(Key::Budget(after)) = after {
        query = query.filter(sql::<Bool>("key COLLATE \"C\" > ").bind::<Text, _>(budgets::key(after, 0)));
    }
    let rows: Vec<(String, OffsetDateTime)> = query.load(&mut &*connection).await?;
    let budget = |(key, full_at): (String, _)| {
        let limit = budgets::parse(&key).ok_or(Unreadable("a limit"))?;
        Ok(Record::Budget(Budget { limit, full_at: moment(full_at) }))
    };
    rows.into_iter().map(budget).collect()
}

/// Records as rows, by table.
#[derive(Default)]
struct Rows {
    key_mark: Vec<Vec<u8>>,
    registrations: Vec<RegistrationRow>,
    attempts: Vec<AttemptRow>,
    accounts: Vec<AccountRow>,
    passwords: Vec<PasswordRow>,
    used_numbers: Vec<Vec<u8>>,
    sessions: Vec<SessionRow>,
    refresh_tokens: Vec<RefreshTokenRow>,
    limits: Vec<(String, OffsetDateTime)>,
    messages: Vec<MessageRow>,
    deliveries: Vec<DeliveryRow>,
    sign_in_guards: Vec<GuardRow>,
    password_resets: Vec<ResetRow>,
    facts: Vec<FactRow>,
}

impl Rows {
    fn of(records: Vec<Record>) -> Self {
        let mut rows = Self::default();
        for record in records {
            match record {
                Record::Registration(loaded) => {
                    let (row, attempts) = RegistrationRow::of(loaded.value, loaded.version);
                    rows.registrations.push(row);
                    rows.attempts.extend(attempts);
                }
                Record::Account(loaded) => {
                    rows.accounts.push(AccountRow::of(loaded.value, loaded.version));
                }
                Record::Password(password) => rows.passwords.push(PasswordRow::of(&password)),
                Record::KeyMark(KeyMark(mark)) => rows.key_mark.push(mark.to_vec()),
                Record::UsedNumber(NumberDigest(digest)) => rows.used_numbers.push(digest.to_vec()),
                Record::Session(loaded) => {
                    rows.sessions.push(SessionRow::of(&loaded.value, loaded.version));
                }
                Record::RefreshToken(token) => rows.refresh_tokens.push(RefreshTokenRow::of(&token)),
                // Each part has used as much of its share as the whole has of its own.
                Record::Budget(Budget { limit, full_at }) => rows.limits.extend(
                    (0..budgets::parts(&limit)).map(|part| (budgets::key(&limit, part), stamp(full_at))),
                ),
                Record::Message(queued) => rows.messages.push(MessageRow::of_queued(*queued)),
                Record::Delivery(delivery) => rows.deliveries.push(DeliveryRow::of(*delivery)),
                Record::Guard(loaded) => {
                    rows.sign_in_guards.push(GuardRow::of(&loaded.value, loaded.version));
                }
                Record::Reset(loaded) => {
                    rows.password_resets.push(ResetRow::of(loaded.value, loaded.version));
                }
                Record::Fact(fact) => rows.facts.push(FactRow::of(&fact)),
            }
        }
        rows
    }

    async fn write(self, connection: &mut AsyncPgConnection) -> Result<(), Error> {
        macro_rules! insert {
            ($($table:ident),*) => {
                $(
                    let mut rows = self.$table.into_iter();
                    loop {
                        let some: Vec<_> = rows.by_ref().take(ROWS).collect();
                        if some.is_empty() {
                            break;
                        }
                        diesel::insert_into($table::table).values(some).execute(connection).await?;
                    }
                )*
            };
        }
        insert!(registrations, attempts, accounts, passwords, sessions, refresh_tokens, messages, deliveries);
        insert!(sign_in_guards, password_resets, facts);
        // There may be one, and no other beside it.
        for mark in self.key_mark {
            let row = (key_mark::one.eq(1), key_mark::mark.eq(mark));
            diesel::insert_into(key_mark::table).values(row).execute(connection).await?;
        }
        for some in self.used_numbers.chunks(ROWS) {
            let values: Vec<_> = some.iter().map(|digest| used_numbers::digest.eq(digest)).collect();
            diesel::insert_into(used_numbers::table).values(values).execute(connection).await?;
        }
        for some in self.limits.chunks(ROWS) {
            let row = |(key, full_at): &(String, OffsetDateTime)| {
                (limits::key.eq(key.clone()), limits::full_at.eq(*full_at))
            };
            let values: Vec<_> = some.iter().map(row).collect();
            diesel::insert_into(limits::table).values(values).execute(connection).await?;
        }
        Ok(())
    }
}
