//! Forgets what no longer matters, a batch at a time. Rows that somebody else is at are left for the next time.

use diesel::sql_query;
use diesel::sql_types::{BigInt, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use vestibule_port_storage::Sweep;

use crate::Failure;
use crate::rows::stamp;
use crate::statement::Prepared;

/// Refresh tokens, with the sessions that have none left. In a statement's own view what it deletes is still there; what another one
/// deletes is there too, so that two at once could leave a session behind: one sweeps, and the other has nothing to do.
const TOKENS: &str = "
    WITH alone AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(1448302405) AS yes),
    expired AS (
      DELETE FROM refresh_tokens WHERE (SELECT yes FROM alone) AND hash IN (
        SELECT hash FROM refresh_tokens WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
      RETURNING session_id, hash),
    ended AS (
      DELETE FROM sessions WHERE id IN (SELECT session_id FROM expired) AND NOT EXISTS (
        SELECT FROM refresh_tokens WHERE session_id = sessions.id AND hash NOT IN (SELECT hash FROM expired))
      RETURNING id)
    SELECT (SELECT count(*) FROM expired) + (SELECT count(*) FROM ended) AS rows";

const REGISTRATIONS: &str = "
    WITH gone AS (DELETE FROM registrations WHERE phone IN (
      SELECT phone FROM registrations WHERE forget_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING phone)
    SELECT count(*) AS rows FROM gone";

const GUARDS: &str = "
    WITH gone AS (DELETE FROM sign_in_guards WHERE phone IN (
      SELECT phone FROM sign_in_guards WHERE forget_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING phone)
    SELECT count(*) AS rows FROM gone";

const RESETS: &str = "
    WITH gone AS (DELETE FROM password_resets WHERE phone IN (
      SELECT phone FROM password_resets WHERE forget_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING phone)
    SELECT count(*) AS rows FROM gone";

const SIGNATURES: &str = "
    WITH gone AS (DELETE FROM accepted_signatures WHERE digest IN (
      SELECT digest FROM accepted_signatures WHERE forget_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING digest)
    SELECT count(*) AS rows FROM gone";

const ANSWERS: &str = "
    WITH gone AS (DELETE FROM kept_answers WHERE request IN (
      SELECT request FROM kept_answers WHERE forget_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING request)
    SELECT count(*) AS rows FROM gone";

/// By the hour, which is what the index has.
const LIMITS: &str = "
    WITH gone AS (DELETE FROM limits WHERE key IN (
      SELECT key FROM limits
      WHERE full_hour <= floor(extract(epoch FROM $1 - timestamptz 'epoch') / 3600)::bigint AND full_at <= $1
      LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING key)
    SELECT count(*) AS rows FROM gone";

const DELIVERIES: &str = "
    WITH gone AS (DELETE FROM deliveries WHERE id IN (
      SELECT id FROM deliveries WHERE queued_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id)
    SELECT count(*) AS rows FROM gone";

const DEAD_LETTERS: &str = "
    WITH gone AS (DELETE FROM messages WHERE id IN (
      SELECT id FROM messages WHERE dead AND queued_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id)
    SELECT count(*) AS rows FROM gone";

const SPENDING: &str = "
    WITH gone AS (DELETE FROM spending WHERE (purse, span, start) IN (
      SELECT purse, span, start FROM spending WHERE start < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING purse)
    SELECT count(*) AS rows FROM gone";

const SENT_CODES: &str = "
    WITH gone AS (DELETE FROM sent_codes WHERE (at, message) IN (
      SELECT at, message FROM sent_codes WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING message)
    SELECT count(*) AS rows FROM gone";

const HELD_CODES: &str = "
    WITH gone AS (DELETE FROM held_codes WHERE (at, id) IN (
      SELECT at, id FROM held_codes WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id)
    SELECT count(*) AS rows FROM gone";

const FACTS: &str = "
    WITH gone AS (DELETE FROM facts WHERE id IN (
      SELECT id FROM facts WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id)
    SELECT count(*) AS rows FROM gone";

#[derive(diesel::QueryableByName)]
struct Rows {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

pub(crate) async fn forget(connection: &AsyncPgConnection, sweep: &Sweep) -> Result<usize, Failure> {
    let (now, before) = (stamp(sweep.now), stamp(sweep.messages_before));
    let mut forgotten = 0;
    for (statement, moment) in [
        (TOKENS, now),
        (REGISTRATIONS, now),
        (GUARDS, now),
        (RESETS, now),
        (SIGNATURES, now),
        (ANSWERS, now),
        (LIMITS, now),
        (DELIVERIES, before),
        (DEAD_LETTERS, before),
        (SPENDING, before),
        (SENT_CODES, before),
        (HELD_CODES, before),
        (FACTS, stamp(sweep.facts_before)),
    ] {
        let statement =
            sql_query(statement).bind::<Timestamptz, _>(moment).bind::<BigInt, _>(i64::from(sweep.batch));
        let Rows { rows } = Prepared(statement).get_result(&mut &*connection).await?;
        forgotten += usize::try_from(rows).unwrap_or(0);
    }
    Ok(forgotten)
}
