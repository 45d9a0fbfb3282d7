//! Forgets what no longer matters, a batch at a time.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use vestibule_port_storage::Sweep;

use crate::Failure;
use crate::rows::millis;
use crate::schema::{
    accepted_signatures, deliveries, facts, kept_answers, limits, messages, password_resets, refresh_tokens,
    registrations, sessions, sign_in_guards, spending,
};

/// Deletes up to a batch of the table's rows that the condition is true of; how many that were.
macro_rules! forget {
    ($connection:ident, $sweep:ident, $table:ident.$key:ident where $condition:expr) => {{
        let past =
            $table::table.filter($condition).limit($sweep.batch.into()).select($table::$key).into_boxed();
        diesel::delete($table::table.filter($table::$key.eq_any(past))).execute($connection)?
    }};
}

pub(crate) fn forget(connection: &mut SqliteConnection, sweep: &Sweep) -> Result<usize, Failure> {
    let (now, before) = (millis(sweep.now), millis(sweep.messages_before));
    Ok(end_sessions(connection, sweep)?
        + forget!(connection, sweep, registrations.phone where registrations::forget_at.le(now))
        + forget!(connection, sweep, sign_in_guards.phone where sign_in_guards::forget_at.le(now))
        + forget!(connection, sweep, password_resets.phone where password_resets::forget_at.le(now))
        + forget!(connection, sweep, accepted_signatures.digest where accepted_signatures::forget_at.le(now))
        + forget!(connection, sweep, kept_answers.request where kept_answers::forget_at.le(now))
        + forget!(connection, sweep, limits.key where limits::full_at.le(now))
        + forget!(connection, sweep, deliveries.id where deliveries::queued_at.lt(before))
        + forget!(connection, sweep, facts.id where facts::at.lt(millis(sweep.facts_before)))
        + forget!(
            connection,
            sweep,
            messages.id where messages::dead.eq(true).and(messages::queued_at.lt(before))
        )
        + forget!(connection, sweep, spending.start where spending::start.lt(before))
        + forget_codes(connection, SENT_CODES, before, sweep.batch)?
        + forget_codes(connection, HELD_CODES, before, sweep.batch)?)
}

const SENT_CODES: &str = "DELETE FROM sent_codes WHERE (at, message) IN (
    SELECT at, message FROM sent_codes WHERE at < ? LIMIT ?)";

const HELD_CODES: &str = "DELETE FROM held_codes WHERE (at, id) IN (
    SELECT at, id FROM held_codes WHERE at < ? LIMIT ?)";

/// By the whole key, of which the moment comes first: many are of the same.
fn forget_codes(
    connection: &mut SqliteConnection,
    statement: &str,
    before: i64,
    batch: u32,
) -> QueryResult<usize> {
    let forget = sql_query(statement).bind::<BigInt, _>(before).bind::<BigInt, _>(i64::from(batch));
    forget.execute(connection)
}

/// Deletes expired refresh tokens, and the sessions that have none left.
fn end_sessions(connection: &mut SqliteConnection, sweep: &Sweep) -> Result<usize, Failure> {
    let past = refresh_tokens::table
        .filter(refresh_tokens::expires_at.le(millis(sweep.now)))
        .limit(sweep.batch.into())
        .select(refresh_tokens::hash)
        .into_boxed();
    let expired: Vec<Vec<u8>> =
        diesel::delete(refresh_tokens::table.filter(refresh_tokens::hash.eq_any(past)))
            .returning(refresh_tokens::session_id)
            .load(connection)?;
    let left = refresh_tokens::table.filter(refresh_tokens::session_id.eq(sessions::id));
    let ended = sessions::table
        .filter(sessions::id.eq_any(&expired))
        .filter(diesel::dsl::not(diesel::dsl::exists(left)));
    Ok(expired.len() + diesel::delete(ended).execute(connection)?)
}
