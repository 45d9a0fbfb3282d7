//! Writes [`Changes`] as one statement.

use diesel::data_types::PgInterval;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Interval, Text, Timestamptz};
use diesel::upsert::excluded;
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use time::OffsetDateTime;
use vestibule_domain::Account;
use vestibule_domain::registration::Registration;
use vestibule_port_storage::{Changes, Charge, CommitError, Save, Version};

use crate::connection::{discard_on, is_rivalry, unavailable};
use crate::rows::{
    AccountRow, AttemptRow, MessageRow, PasswordRow, RefreshTokenRow, RegistrationRow, SessionRow, moment,
    stamp,
};
use crate::schema::{
    accounts, attempts, limits, messages, passwords, refresh_tokens, registrations, sessions, used_numbers,
};
use crate::statement::{BUDGET, Together, VERSION};

/// Writes all of it, or nothing.
pub(crate) async fn apply(connection: &mut AsyncPgConnection, changes: Changes) -> Result<(), CommitError> {
    let charge = changes.charge;
    if let Some(Charge { quota, .. }) = charge
        && quota.burst == 0
    {
        return Err(CommitError::LimitReached { retry_after: quota.period });
    }
    let statement = together(changes);
    if statement.is_empty() {
        return Ok(());
    }
    let Err(error) = statement.execute(connection).await else {
        return Ok(());
    };
    discard_on(&error, connection);
    Err(match (refusal(&error), charge) {
        (Refusal::Budget, Some(charge)) => limit_reached(connection, charge).await,
        (Refusal::Budget, None) => CommitError::Conflict,
        (Refusal::Commit(refused), _) => refused,
    })
}

fn together(changes: Changes) -> Together {
    let Changes { registration, account, password, used_number, session, refresh_token, charge, messages } =
        changes;
    let mut statement = Together::default();
    if let Some(save) = registration {
        save_registration(&mut statement, save);
    }
    if let Some(charge) = charge {
        statement.demand(BUDGET, TakeUnit::new(&charge));
    }
    if let Some(digest) = used_number {
        statement
            .add(diesel::insert_into(used_numbers::table).values(used_numbers::digest.eq(digest.0.to_vec())));
    }
    if let Some(save) = account {
        save_account(&mut statement, save);
    }
    if let Some(password) = password {
        statement.add(diesel::insert_into(passwords::table).values(PasswordRow::of(&password)));
    }
    if let Some(session) = session {
        statement.add(diesel::insert_into(sessions::table).values(SessionRow::of(&session)));
    }
    if let Some(token) = refresh_token {
        statement.add(diesel::insert_into(refresh_tokens::table).values(RefreshTokenRow::of(&token)));
    }
    for message in &messages {
        statement.add(diesel::insert_into(messages::table).values(MessageRow::of(message)));
    }
    statement
}

fn save_registration(statement: &mut Together, save: Save<Registration>) {
    let (row, attempt_rows) = RegistrationRow::of(save.value, next(save.replaces));
    let Some(Version(version)) = save.replaces else {
        statement.add(diesel::insert_into(registrations::table).values(row));
        for attempt in attempt_rows {
            statement.add(diesel::insert_into(attempts::table).values(attempt));
        }
        return;
    };
    let present = registrations::table
        .filter(registrations::phone.eq(row.phone.clone()))
        .filter(registrations::version.eq(version));
    let kept: Vec<_> = attempt_rows.iter().map(|attempt| attempt.id).collect();
    let closed = attempts::table
        .filter(attempts::phone.eq(row.phone.clone()))
        .filter(diesel::dsl::not(attempts::id.eq_any(kept)));
    statement.demand(VERSION, diesel::update(present).set(row).returning(registrations::version));
    statement.add(diesel::delete(closed));
    for attempt in attempt_rows {
        statement.add(save_attempt(attempt));
    }
}

fn save_account(statement: &mut Together, save: Save<Account>) {
    let user = save.value.user().uuid();
    let row = AccountRow::of(save.value, next(save.replaces));
    let Some(Version(version)) = save.replaces else {
        statement.add(diesel::insert_into(accounts::table).values(row));
        return;
    };
    let present = accounts::table.filter(accounts::user_id.eq(user)).filter(accounts::version.eq(version));
    statement.demand(VERSION, diesel::update(present).set(row).returning(accounts::version));
}

/// Writes an attempt, unless it is there as it is.
fn save_attempt(attempt: AttemptRow) -> impl QueryFragment<Pg> + Send {
    let upsert =
        diesel::insert_into(attempts::table).values(attempt).on_conflict(attempts::id).do_update().set((
            attempts::generation.eq(excluded(attempts::generation)),
            attempts::expires_at.eq(excluded(attempts::expires_at)),
            attempts::guesses.eq(excluded(attempts::guesses)),
            attempts::messages.eq(excluded(attempts::messages)),
            attempts::last_message_at.eq(excluded(attempts::last_message_at)),
        ));
    IfChanged(upsert)
}

/// An upsert of an attempt that leaves one alone which is there as it is.
struct IfChanged<Q>(Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for IfChanged<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(
            " WHERE (attempts.generation, attempts.guesses, attempts.messages)
              IS DISTINCT FROM (excluded.generation, excluded.guesses, excluded.messages)",
        );
        Ok(())
    }
}

/// The generic cell rate algorithm of `domain::quota` as one statement, so that no two charges see the same budget. Returns a
/// row when there was a unit to take.
struct TakeUnit {
    key: String,
    now: OffsetDateTime,
    unit: PgInterval,
    /// When the budget is full again after its first charge.
    after_one: OffsetDateTime,
    /// When it is full again after its last.
    after_all: OffsetDateTime,
}

impl TakeUnit {
    fn new(Charge { limit, quota, now }: &Charge) -> Self {
        let micros = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let unit = micros(quota.unit());
        let after = |micros: i64| {
            let moment = stamp(*now).checked_add(time::Duration::microseconds(micros));
            moment.unwrap_or_else(|| time::UtcDateTime::MAX.to_offset(time::UtcOffset::UTC))
        };
        Self {
            key: limit.key(),
            now: stamp(*now),
            unit: PgInterval::from_microseconds(unit),
            after_one: after(unit),
            after_all: after(unit.saturating_mul(quota.burst.into())),
        }
    }
}

impl QueryFragment<Pg> for TakeUnit {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("INSERT INTO limits (key, full_at) VALUES (");
        out.push_bind_param::<Text, _>(&self.key)?;
        out.push_sql(", ");
        out.push_bind_param::<Timestamptz, _>(&self.after_one)?;
        out.push_sql(") ON CONFLICT (key) DO UPDATE SET full_at = ");
        self.next(out.reborrow())?;
        out.push_sql(" WHERE ");
        self.next(out.reborrow())?;
        out.push_sql(" <= ");
        out.push_bind_param::<Timestamptz, _>(&self.after_all)?;
        out.push_sql(" RETURNING key");
        Ok(())
    }
}

impl TakeUnit {
    fn next<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("greatest(limits.full_at, ");
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(") + ");
        out.push_bind_param::<Interval, _>(&self.unit)
    }
}

/// How long the client has to wait for a unit. If one has come back by now, the commit may be decided again.
async fn limit_reached(connection: &AsyncPgConnection, Charge { limit, quota, now }: Charge) -> CommitError {
    let full_at = limits::table.find(limit.key()).select(limits::full_at).first(&mut &*connection);
    let full_at: Option<OffsetDateTime> = match full_at.await.optional() {
        Ok(full_at) => full_at,
        Err(error) => return CommitError::Unavailable(unavailable(&error)),
    };
    match quota.charge(full_at.map(moment), now) {
        Ok(_) => CommitError::Conflict,
        Err(retry_after) => CommitError::LimitReached { retry_after },
    }
}

enum Refusal {
    Budget,
    Commit(CommitError),
}

/// The constraint decides who was first.
fn refusal(error: &Error) -> Refusal {
    Refusal::Commit(match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, violated) => {
            match violated.constraint_name() {
                Some(BUDGET) => return Refusal::Budget,
                Some("accounts_confirmed_email") => CommitError::EmailTaken,
                Some("accounts_phone" | "used_numbers_digest") => CommitError::PhoneTaken,
                _ => CommitError::Conflict,
            }
        }
        error if is_rivalry(error) => CommitError::Conflict,
        error => CommitError::Unavailable(unavailable(error)),
    })
}

fn next(replaces: Option<Version>) -> Version {
    Version(replaces.map_or(1, |Version(version)| version + 1))
}
