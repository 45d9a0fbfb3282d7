//! Writes [`Changes`] as one statement.

use diesel::data_types::PgInterval;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Interval, Text, Timestamptz, Uuid};
use diesel::upsert::excluded;
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use time::OffsetDateTime;
use vestibule_domain::UserId;
use vestibule_domain::registration::Registration;
use vestibule_port_storage::{
    Changes, Charge, CommitError, EndSessions, Erasure, NumberDigest, Save, Version,
};

use crate::connection::{discard_on, is_rivalry, unavailable};
use crate::rows::{
    AccountRow, AttemptRow, FactRow, GuardRow, MessageRow, PasswordRow, RefreshTokenRow, RegistrationRow,
    ResetRow, SessionRow, moment, stamp,
};
use crate::schema::{
    accounts, attempts, facts, limits, messages, password_resets, passwords, refresh_tokens, registrations,
    sessions, sign_in_guards, used_numbers,
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

/// Adds the row, or puts it in the place of the one of the version that it replaces.
macro_rules! save {
    ($statement:ident, $replaces:expr, $table:ident.$key:ident of $row:expr) => {{
        let row = $row;
        match $replaces {
            None => $statement.add(diesel::insert_into($table::table).values(row)),
            Some(Version(version)) => {
                let present = $table::table
                    .filter($table::$key.eq(Clone::clone(&row.$key)))
                    .filter($table::version.eq(version));
                $statement.demand(VERSION, diesel::update(present).set(row).returning($table::version));
            }
        }
    }};
}

fn together(changes: Changes) -> Together {
    let mut statement = Together::default();
    if let Some(erasure) = &changes.erase {
        erase(&mut statement, erasure);
    }
    if let Some(end) = changes.end_sessions {
        end_sessions(&mut statement, end);
    }
    if let Some(save) = changes.registration {
        save_registration(&mut statement, save);
    }
    if let Some(charge) = &changes.charge {
        statement.demand(BUDGET, TakeUnit::new(charge));
    }
    if let Some(digest) = changes.used_number {
        statement
            .add(diesel::insert_into(used_numbers::table).values(used_numbers::digest.eq(digest.0.to_vec())));
    }
    if let Some(Save { value, replaces }) = changes.account {
        save!(statement, replaces, accounts.user_id of AccountRow::of(value, next(replaces)));
    }
    if let Some(password) = &changes.password {
        // One that was set at the same moment is the same, hashed anew.
        let set = diesel::insert_into(passwords::table)
            .values(PasswordRow::of(password))
            .on_conflict((passwords::user_id, passwords::set_at))
            .do_update()
            .set(passwords::hash.eq(excluded(passwords::hash)));
        statement.add(set);
    }
    for (user, set_at) in changes.forgotten_passwords {
        let forgotten = passwords::table
            .filter(passwords::user_id.eq(user.uuid()))
            .filter(passwords::set_at.eq(stamp(set_at)));
        statement.add(diesel::delete(forgotten));
    }
    if let Some(Save { value, replaces }) = changes.guard {
        save!(statement, replaces, sign_in_guards.phone of GuardRow::of(&value, next(replaces)));
    }
    if let Some(Save { value, replaces }) = changes.reset {
        save!(statement, replaces, password_resets.phone of ResetRow::of(value, next(replaces)));
    }
    if let Some(Save { value, replaces }) = changes.session {
        save!(statement, replaces, sessions.id of SessionRow::of(&value, next(replaces)));
    }
    if let Some(token) = &changes.refresh_token {
        statement.add(diesel::insert_into(refresh_tokens::table).values(RefreshTokenRow::of(token)));
    }
    for message in &changes.messages {
        statement.add(diesel::insert_into(messages::table).values(MessageRow::of(message)));
    }
    for fact in &changes.facts {
        statement.add(diesel::insert_into(facts::table).values(FactRow::of(fact)));
    }
    statement
}

/// Refresh tokens go with their sessions. A session that the same commit opens is not there yet for the statement.
fn end_sessions(statement: &mut Together, end: EndSessions) {
    let of = |user: UserId| sessions::table.filter(sessions::user_id.eq(user.uuid()));
    match end {
        EndSessions::One(user, session) => {
            let one = of(user).filter(sessions::id.eq(session.uuid()));
            statement.demand(VERSION, diesel::delete(one).returning(sessions::version));
        }
        EndSessions::AllBut(user, Some(session)) => {
            statement.add(diesel::delete(of(user).filter(sessions::id.ne(session.uuid()))));
        }
        EndSessions::AllBut(user, None) => statement.add(diesel::delete(of(user))),
    }
}

/// Passwords and sessions go with the account. Every part sees the account and its facts as they were before.
fn erase(statement: &mut Together, erasure: &Erasure) {
    let Erasure { user, replaces, phone, number: NumberDigest(digest) } = erasure;
    let account =
        accounts::table.filter(accounts::user_id.eq(user.uuid())).filter(accounts::version.eq(replaces.0));
    statement.demand(VERSION, diesel::delete(account).returning(accounts::version));
    let number = phone.as_str().to_owned();
    statement.add(diesel::delete(registrations::table.filter(registrations::phone.eq(number.clone()))));
    statement.add(diesel::delete(sign_in_guards::table.filter(sign_in_guards::phone.eq(number.clone()))));
    statement.add(diesel::delete(password_resets::table.filter(password_resets::phone.eq(number.clone()))));
    statement.add(DropMessages { user: user.uuid(), phone: number });
    let origins = (facts::fingerprint.eq(None::<Vec<u8>>), facts::address.eq(None::<String>));
    statement.add(diesel::update(facts::table.filter(facts::number.eq(digest.to_vec()))).set(origins));
}

/// Drops what waits for the owner of an account, and what was given up. An address that is not confirmed may be somebody else's.
struct DropMessages {
    user: uuid::Uuid,
    phone: String,
}

impl QueryFragment<Pg> for DropMessages {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("DELETE FROM messages WHERE phone = ");
        out.push_bind_param::<Text, _>(&self.phone)?;
        out.push_sql(" OR EXISTS (SELECT FROM accounts WHERE user_id = ");
        out.push_bind_param::<Uuid, _>(&self.user)?;
        out.push_sql(
            " AND (messages.link = accounts.email_link
                   OR accounts.email_confirmed AND messages.email = accounts.email))",
        );
        Ok(())
    }
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
        // Whose account or session it is has gone meanwhile.
        Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => CommitError::Conflict,
        error if is_rivalry(error) => CommitError::Conflict,
        error => CommitError::Unavailable(unavailable(error)),
    })
}

fn next(replaces: Option<Version>) -> Version {
    Version(replaces.map_or(1, |Version(version)| version + 1))
}
