//! Writes [`Changes`] as one statement, or several of them in one transaction.

use std::mem;
use std::time::Duration;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Text, Uuid};
use diesel::upsert::excluded;
use diesel::{BoolExpressionMethods as _, ExpressionMethods as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::future::try_join_all;
use futures_util::{FutureExt as _, TryFutureExt as _};
use tokio::task::unconstrained;
use tokio::time::timeout;
use vestibule_domain::UserId;
use vestibule_domain::limits::Charge;
use vestibule_domain::registration::Registration;
use vestibule_domain::spending::Money;
use vestibule_metrics::objected;
use vestibule_port_storage::{
    Changes, CommitError, EndSessions, Erasure, NumberDigest, Save, Unavailable, Version,
};

use crate::budgets::{self, Asked};
use crate::connection::{discard, discard_on, is_rivalry, unavailable};
use crate::pumping::SentCodeRow;
use crate::rows::{
    AccountRow, AttemptRow, FactRow, GuardRow, MessageRow, PasswordRow, RefreshTokenRow, RegistrationRow,
    ResetRow, SessionRow, stamp,
};
use crate::schema::{
    accounts, attempts, facts, messages, password_resets, passwords, refresh_tokens, registrations,
    reservations, sent_codes, sessions, sign_in_guards, used_numbers,
};
use crate::spending::{self, AddUp, PutRight, ReservationRow};
use crate::statement::{BUDGET, CEILING, Prepared, Together, VERSION};

/// How often a commit is written again from another part of a budget.
const MAX_ROUNDS: usize = 16;

/// Begins a transaction for several commits, which may not wait long for what is in the way of one of them; nor may others, for a transaction
/// whose end is lost on the way.
const BEGIN_GROUP: &str =
    "BEGIN; SET LOCAL lock_timeout = '100ms'; SET LOCAL idle_in_transaction_session_timeout = '1s'";

/// How long several commits may take to be written, but for the end of it: then each is tried by itself.
const GROUP_PATIENCE: Duration = Duration::from_millis(500);

/// Writes all of it, or nothing.
pub(crate) async fn apply(
    connection: &mut AsyncPgConnection,
    changes: Changes,
    turn: usize,
) -> Result<(), CommitError> {
    if let Some(Charge { quota, limit, .. }) = changes.charges.iter().find(|charge| charge.quota.burst == 0) {
        objected(limit.step.as_str(), limit.scope.kind());
        return Err(CommitError::LimitReached { retry_after: quota.period });
    }
    if changes.spends.iter().any(|spend| spend.decide(Money::ZERO).is_err()) {
        return Err(spending::refusal(connection, &changes.spends).await);
    }
    let (charges, spends) = (changes.charges.clone(), changes.spends.clone());
    let in_parts = charges.iter().any(|charge| budgets::parts(&charge.limit) > 1);
    let (mut changes, mut asked) = (Some(changes), Asked::in_turn(turn));
    for _ in 0..MAX_ROUNDS {
        let these = if in_parts { changes.clone() } else { changes.take() };
        let Some(these) = these else { break };
        let statement = together(these, &asked);
        if statement.is_empty() {
            return Ok(());
        }
        let Err(error) = statement.execute(connection).await else {
            return Ok(());
        };
        discard_on(&error, connection);
        match refusal(&error) {
            Refusal::Budget => asked = budgets::with_units(connection, &charges, turn).await?,
            Refusal::Ceiling => return Err(spending::refusal(connection, &spends).await),
            Refusal::Commit(refused) => return Err(refused),
        }
    }
    // A unit has come back meanwhile.
    Err(CommitError::Conflict)
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

/// Whether it may be written in one transaction with others, and so keep its rows locked until they are written too: it must be short, and
/// want no rows that many commits want. Tallies, which do, are set apart there.
pub(crate) fn may_be_grouped(changes: &Changes) -> bool {
    changes.charges.is_empty()
        && changes.spends.is_empty()
        && changes.corrections.is_empty()
        && changes.erase.is_none()
}

/// Why several commits at once have failed.
pub(crate) enum GroupError {
    /// Nothing is written, because of the one of this number.
    Refused(usize),
    /// Nothing is written.
    Failed,
    /// Nothing is known to have been written; it may have been.
    Unavailable(Unavailable),
}

impl From<Unavailable> for GroupError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

/// Writes several in one transaction, which waits for the disk once; or nothing of them.
pub(crate) async fn apply_group(
    connection: &mut AsyncPgConnection,
    group: Vec<Changes>,
    turn: usize,
) -> Result<(), GroupError> {
    let Ok(written) = timeout(GROUP_PATIENCE, write_group(connection, group, turn)).await else {
        discard(connection);
        return Err(GroupError::Failed);
    };
    if let Err((number, error)) = written {
        discard_on(&error, connection);
        if connection.batch_execute("ROLLBACK").await.is_err() {
            discard(connection);
        }
        return Err(number.map_or(GroupError::Failed, GroupError::Refused));
    }
    // From here on it may be written, whatever is heard of it.
    let committed = connection.batch_execute("COMMIT").await;
    committed.map_err(|error| {
        discard(connection);
        GroupError::Unavailable(unavailable(&error))
    })
}

/// Begins a transaction and writes them all, without waiting for one after another. An error comes with the number of the one that the server has
/// refused, if it is that.
async fn write_group(
    connection: &mut AsyncPgConnection,
    group: Vec<Changes>,
    turn: usize,
) -> Result<(), (Option<usize>, Error)> {
    connection.batch_execute(BEGIN_GROUP).await.map_err(|error| (None, error))?;
    let connection = &*connection;
    let (mut statements, mut tallies) = (Vec::with_capacity(group.len()), Vec::new());
    for (number, mut changes) in group.into_iter().enumerate() {
        let asked = Asked::in_turn(turn.wrapping_add(number));
        tallies.append(&mut budgets::in_order(&[], &mem::take(&mut changes.tallies), &asked));
        statements.push(together(changes, &asked));
    }
    // Last, and in the order that every commit keeps.
    budgets::sort(&mut tallies);
    let statements = statements.into_iter().enumerate().map(|(number, statement)| {
        let written = statement.execute(&mut &*connection);
        written.map_err(move |error| (is_refusal(&error).then_some(number), error)).boxed()
    });
    let tallies = tallies.into_iter().map(|tally| {
        let corrected = Prepared(tally).execute(&mut &*connection);
        corrected.map_err(|error| (None, error)).boxed()
    });
    // To give way in between would send some of them out of order.
    unconstrained(try_join_all(statements.chain(tallies))).await.map(drop)
}

/// Whether the server has said no, or that somebody is in the way.
fn is_refusal(error: &Error) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};

    match error {
        Error::DatabaseError(kind, _) => !matches!(kind, ClosedConnection | UnableToSendCommand),
        _ => false,
    }
}

fn together(changes: Changes, asked: &Asked) -> Together {
    let mut statement = Together::default();
    if let Some(erasure) = &changes.erase {
        erase(&mut statement, erasure);
        if changes.freed_number.is_none() {
            let NumberDigest(digest) = erasure.number;
            let used =
                diesel::insert_into(used_numbers::table).values(used_numbers::digest.eq(digest.to_vec()));
            statement.add(used.on_conflict_do_nothing());
        }
    }
    if let Some(end) = changes.end_sessions {
        end_sessions(&mut statement, end);
    }
    if let Some(save) = changes.registration {
        save_registration(&mut statement, save);
    }
    for budget in budgets::in_order(&changes.charges, &changes.tallies, asked) {
        // What corrects one is demanded for its turn: it is never refused.
        statement.demand(BUDGET, budget);
    }
    if let Some(digest) = changes.used_number {
        statement
            .add(diesel::insert_into(used_numbers::table).values(used_numbers::digest.eq(digest.0.to_vec())));
    }
    if let Some(NumberDigest(digest)) = changes.freed_number {
        statement.add(diesel::delete(used_numbers::table.find(digest.to_vec())));
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
    for spend in &changes.spends {
        statement.demand(CEILING, AddUp::new(spend));
    }
    if !changes.corrections.is_empty() {
        statement.add(PutRight::new(&changes.corrections));
    }
    for message in &changes.messages {
        statement.add(diesel::insert_into(messages::table).values(MessageRow::of(message)));
    }
    if let [message, ..] = changes.messages.as_slice() {
        for row in ReservationRow::of(message.id, &changes.spends) {
            statement.add(diesel::insert_into(reservations::table).values(row));
        }
    }
    if let Some(sent) = &changes.sent_code {
        statement.add(diesel::insert_into(sent_codes::table).values(SentCodeRow::of(sent)));
    }
    if let Some((attempt, at)) = changes.codes_back {
        let codes = sent_codes::table.filter(sent_codes::attempt.eq(attempt.uuid()));
        statement.add(diesel::update(codes).set(sent_codes::confirmed_at.eq(stamp(at))));
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
    let Erasure { user, replaces, guard, phone, number: NumberDigest(digest) } = erasure;
    let account =
        accounts::table.filter(accounts::user_id.eq(user.uuid())).filter(accounts::version.eq(replaces.0));
    statement.demand(VERSION, diesel::delete(account).returning(accounts::version));
    let number = phone.as_str().to_owned();
    statement.add(diesel::delete(registrations::table.filter(registrations::phone.eq(number.clone()))));
    let guards = sign_in_guards::table.filter(sign_in_guards::phone.eq(number.clone()));
    match guard {
        Some(Version(version)) => {
            let loaded = guards.filter(sign_in_guards::version.eq(*version));
            statement.demand(VERSION, diesel::delete(loaded).returning(sign_in_guards::version));
        }
        None => statement.add(diesel::delete(guards)),
    }
    statement.add(diesel::delete(password_resets::table.filter(password_resets::phone.eq(number.clone()))));
    statement.add(DropMessages { user: user.uuid(), phone: number });
    let origins = (facts::fingerprint.eq(None::<Vec<u8>>), facts::address.eq(None::<String>));
    let past = facts::number.eq(digest.to_vec()).or(facts::user_id.eq(user.uuid()));
    statement.add(diesel::update(facts::table.filter(past)).set(origins));
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

enum Refusal {
    Budget,
    Ceiling,
    Commit(CommitError),
}

/// The constraint decides who was first.
fn refusal(error: &Error) -> Refusal {
    Refusal::Commit(match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, violated) => {
            match violated.constraint_name() {
                Some(BUDGET) => return Refusal::Budget,
                Some(CEILING) => return Refusal::Ceiling,
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
