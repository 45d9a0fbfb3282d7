use std::time::Duration;

use async_trait::async_trait;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryableByName, SelectableHelper as _};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use time::{OffsetDateTime, UtcDateTime};
use vestibule_domain::pumping::SentCode;
use vestibule_domain::{Channel, DeliveryState, MessageId};
use vestibule_port_storage::{
    Backlog, Claimed, DeadLetter, Outbox, Report, Reported, Room, Settlement, Unavailable,
};

use crate::pumping::SentCodeRow;
use crate::rows::{MessageRow, moment, stamp};
use crate::schema::messages;
use crate::spending::micros;
use crate::statement::Prepared;
use crate::{Failure, Postgres};

/// Leases what is due, of each channel by an index of its own. Rows that another instance is leasing are passed over, not waited for. Columns are named,
/// since the statement stays prepared while a newer version adds some. Rows are found again by an array of their ids: for a join the whole table would be read
/// where much waits.
const CLAIM: &str = "
    WITH sms AS MATERIALIZED (
      SELECT id, in_doubt_with AS doubted FROM messages WHERE NOT dead AND phone IS NOT NULL AND due_at <= $1
      ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
    mail AS MATERIALIZED (
      SELECT id, in_doubt_with AS doubted FROM messages WHERE NOT dead AND email IS NOT NULL AND due_at <= $1
      ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED),
    due AS (SELECT * FROM sms UNION ALL SELECT * FROM mail)
    UPDATE messages SET due_at = $4, tries = tries + 1, in_doubt_with = NULL WHERE id = ANY (ARRAY(SELECT id FROM due))
    RETURNING messages.id, kind, phone, email, attempt, generation, link, locale, queued_at, expires_at, messages.due_at,
      tries, dead, reason, in_doubt_with, masked, merchant,
      (SELECT doubted FROM due WHERE due.id = messages.id) AS doubted";

/// When the first message is due of the channels that are wanted.
const NEXT_DUE: &str = "
    SELECT least(
      (SELECT min(due_at) FROM messages WHERE NOT dead AND phone IS NOT NULL AND $1),
      (SELECT min(due_at) FROM messages WHERE NOT dead AND email IS NOT NULL AND $2)) AS due_at";

/// What there is of a channel's messages: from its own indexes, and no further than is counted.
macro_rules! backlog {
    ($recipient:literal) => {
        concat!(
            "SELECT
      (SELECT count(*) FROM (
        SELECT FROM messages WHERE NOT dead AND ",
            $recipient,
            " IS NOT NULL ORDER BY due_at LIMIT $1) AS waiting) AS waiting,
      (SELECT min(due_at) FROM messages WHERE NOT dead AND ",
            $recipient,
            " IS NOT NULL) AS next_due,
      (SELECT count(*) FROM (
        SELECT FROM messages WHERE dead AND ",
            $recipient,
            " IS NOT NULL ORDER BY queued_at LIMIT $1) AS dead) AS dead"
        )
    };
}

/// Moves a leased message to the record as sent.
const LEAVE: &str = "
    WITH gone AS (DELETE FROM messages WHERE id = $1 AND tries = $2 AND NOT dead RETURNING *)
    INSERT INTO deliveries (id, kind, attempt, recipient, provider, reference, state, tries, queued_at, changed_at)
    SELECT id, kind, attempt, masked, $3, $4, 'sent', tries, queued_at, $5 FROM gone";

/// Moves a leased message to the record as sent, for another cost than was spent for it: less only if every try before is known to have failed. Its code's
/// record shows the cost too, unless that was never to be sent.
const LEAVE_AT_COST: &str = "
    WITH gone AS (DELETE FROM messages WHERE id = $1 AND tries = $2 AND NOT dead RETURNING *),
    wrong AS MATERIALIZED (
      SELECT spending.purse, spending.span, spending.start, reservations.amount FROM gone
      JOIN reservations ON reservations.message = gone.id
      JOIN spending USING (purse, span, start)
      WHERE reservations.amount < $6 OR (reservations.amount > $6 AND reservations.tries = $2 - 1)
      ORDER BY spending.purse = 'all', spending.span = 'day' FOR UPDATE OF spending),
    corrected AS (UPDATE spending SET amount = greatest(spending.amount - wrong.amount, 0) + $6 FROM wrong
      WHERE spending.purse = wrong.purse AND spending.span = wrong.span AND spending.start = wrong.start),
    priced AS (UPDATE sent_codes SET price = $6 FROM gone
      WHERE sent_codes.at = gone.queued_at AND sent_codes.message = gone.id AND sent_codes.price <> $6)
    INSERT INTO deliveries (id, kind, attempt, recipient, provider, reference, state, tries, queued_at, changed_at)
    SELECT id, kind, attempt, masked, $3, $4, 'sent', tries, queued_at, $5 FROM gone";

/// Gives a message up that `given_up` names. What it has spent is given back if every try before is known to have failed, in the order in which commits
/// spend; and then its code was never sent, unless it was never to be.
macro_rules! give_up {
    ($given_up:literal) => {
        concat!(
            "WITH ",
            $given_up,
            ",
    owed AS MATERIALIZED (
      SELECT spending.purse, spending.span, spending.start, reservations.amount FROM given_up
      JOIN reservations ON reservations.message = given_up.id AND reservations.tries = $2 - 1
      JOIN spending USING (purse, span, start)
      ORDER BY spending.purse = 'all', spending.span = 'day' FOR UPDATE OF spending),
    back AS (UPDATE spending SET amount = greatest(spending.amount - owed.amount, 0) FROM owed
      WHERE spending.purse = owed.purse AND spending.span = owed.span AND spending.start = owed.start)
    UPDATE sent_codes SET price = NULL FROM given_up
      WHERE sent_codes.at = given_up.queued_at AND sent_codes.message = given_up.id AND sent_codes.tries = $2 - 1
        AND sent_codes.price IS NOT NULL
    RETURNING sent_codes.message, sent_codes.attempt, sent_codes.at, sent_codes.country, sent_codes.number_range, sent_codes.block,
      sent_codes.price, sent_codes.confirmed_at, sent_codes.part, sent_codes.took_of_range, sent_codes.tries"
        )
    };
}

/// Moves a leased message to the record as one that has expired.
const EXPIRE: &str = give_up!(
    "given_up AS (DELETE FROM messages WHERE id = $1 AND tries = $2 AND NOT dead RETURNING *),
    kept AS (
      INSERT INTO deliveries (id, kind, attempt, recipient, state, tries, queued_at, changed_at)
      SELECT id, kind, attempt, masked, 'expired', tries, queued_at, $3 FROM given_up)"
);

/// Makes a leased message a dead letter.
const DIE: &str = give_up!(
    "given_up AS (UPDATE messages SET dead = true, reason = $3 WHERE id = $1 AND tries = $2 AND NOT dead RETURNING id, queued_at)"
);

/// Puts a message off, and notes that the try has failed.
const RETRY: &str = "
    WITH put_off AS (
      UPDATE messages SET due_at = $3, reason = $4 WHERE id = $1 AND tries = $2 AND NOT dead RETURNING id, queued_at),
    unpaid AS (UPDATE reservations SET tries = $2 FROM put_off
      WHERE reservations.message = put_off.id AND reservations.tries = $2 - 1)
    UPDATE sent_codes SET tries = $2 FROM put_off
      WHERE sent_codes.at = put_off.queued_at AND sent_codes.message = put_off.id AND sent_codes.tries = $2 - 1";

/// Puts a report on the record that is `found`, where it changes anything. `$6` are the states it may follow, `$8` tells that it counts only from the
/// provider that has sent the message.
macro_rules! record {
    ($found:literal, $yes:literal) => {
        concat!(
            "WITH ",
            $found,
            ",
    changed AS (
      UPDATE deliveries SET state = $4, reason = $5, changed_at = $7 FROM found
      WHERE deliveries.id = found.id AND state = ANY ($6) AND (provider = $2 OR NOT $8))
    SELECT ",
            $yes,
            " AS yes"
        )
    };
}

/// A report by the provider's reference; whether there is such a record. A provider whose count begins again means the newest.
const RECORD_BY_REFERENCE: &str = record!(
    "found AS (SELECT id FROM deliveries WHERE provider = $2 AND reference = $3 ORDER BY queued_at DESC LIMIT 1)",
    "EXISTS (SELECT FROM found)"
);

/// A report by the message's id. A message that waits leaves the queue, and so does a dead letter that has arrived after all. No answer if the message
/// is neither in the queue nor on the record.
const RECORD: &str = record!(
    "gone AS (DELETE FROM messages WHERE id = $1 AND (NOT dead OR $4 IN ('sent', 'delivered')) RETURNING *),
    kept AS (
      INSERT INTO deliveries (id, kind, attempt, recipient, provider, state, tries, queued_at, changed_at)
      SELECT id, kind, attempt, masked, $2, $4, tries, queued_at, $7 FROM gone),
    found AS (SELECT id FROM deliveries WHERE id = $1)",
    "CASE WHEN EXISTS (SELECT FROM gone) OR EXISTS (SELECT FROM found) THEN true END"
);

/// A failure by the message's id. A message that was in doubt becomes due at once; whether the report is of use no more. No answer if the message neither
/// waits in the queue nor is on the record.
const RECORD_FAILURE: &str = record!(
    "waiting AS (SELECT id, in_doubt_with = $2 AS in_doubt FROM messages WHERE id = $1 AND NOT dead FOR UPDATE),
    retried AS (
      UPDATE messages SET due_at = $7, reason = $5 FROM waiting
      WHERE messages.id = waiting.id AND waiting.in_doubt),
    found AS (SELECT id FROM deliveries WHERE id = $1)",
    "coalesce((SELECT coalesce(in_doubt, false) FROM waiting), (SELECT true FROM found))"
);

#[derive(QueryableByName)]
struct ClaimedRow {
    #[diesel(embed)]
    message: MessageRow,
    #[diesel(sql_type = Nullable<Text>)]
    doubted: Option<String>,
}

#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<OffsetDateTime>,
}

#[derive(QueryableByName)]
struct BacklogRow {
    #[diesel(sql_type = BigInt)]
    waiting: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    next_due: Option<OffsetDateTime>,
    #[diesel(sql_type = BigInt)]
    dead: i64,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Nullable<Bool>)]
    yes: Option<bool>,
}

#[async_trait]
impl Outbox for Postgres {
    async fn claim(
        &self,
        room: Room,
        lease: Duration,
        now: UtcDateTime,
    ) -> Result<Vec<Claimed>, Unavailable> {
        self.write(async |connection| claim(connection, room, now + lease, now).await).await
    }

    async fn settle(
        &self,
        id: MessageId,
        tries: u32,
        settlement: Settlement,
    ) -> Result<Option<SentCode>, Unavailable> {
        self.write(async |connection| settle(connection, id, tries, settlement).await).await
    }

    async fn record_delivery(&self, report: &Report) -> Result<bool, Unavailable> {
        self.write(async |connection| record(connection, report).await).await
    }

    async fn next_due(&self, room: Room) -> Result<Option<UtcDateTime>, Unavailable> {
        let next_due = sql_query(NEXT_DUE).bind::<Bool, _>(room.sms > 0).bind::<Bool, _>(room.mail > 0);
        self.read_shortly(async |connection| {
            let Due { due_at } = Prepared(next_due).get_result(&mut &*connection).await?;
            Ok(due_at.map(moment))
        })
        .await
    }

    async fn backlog(&self, channel: Channel) -> Result<Backlog, Unavailable> {
        let backlog = match channel {
            Channel::Sms => backlog!("phone"),
            Channel::Mail => backlog!("email"),
        };
        let backlog = sql_query(backlog).bind::<BigInt, _>(i64::from(Backlog::COUNTED));
        self.read(async |connection| {
            let row: BacklogRow = Prepared(backlog).get_result(&mut &*connection).await?;
            let count = |count| u32::try_from(count).unwrap_or(Backlog::COUNTED);
            let next_due = row.next_due.map(moment);
            Ok(Backlog { waiting: count(row.waiting), next_due, dead: count(row.dead) })
        })
        .await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Unavailable> {
        self.read(async |connection| {
            let rows: Vec<MessageRow> = messages::table
                .filter(messages::dead.eq(true))
                .order(messages::queued_at.desc())
                .limit(i64::try_from(limit).unwrap_or(i64::MAX))
                .select(MessageRow::as_select())
                .load(&mut &*connection)
                .await?;
            rows.into_iter()
                .map(|row| {
                    let (message, tries) = (row.message()?, row.tries()?);
                    Ok(DeadLetter { message, tries, reason: row.reason.unwrap_or_default() })
                })
                .collect()
        })
        .await
    }

    async fn queued(&self) {
        self.neighbours.wait().await;
    }
}

async fn claim(
    connection: &AsyncPgConnection,
    room: Room,
    leased_until: UtcDateTime,
    now: UtcDateTime,
) -> Result<Vec<Claimed>, Failure> {
    let limit = |room| i64::try_from(room).unwrap_or(i64::MAX);
    let claim = sql_query(CLAIM)
        .bind::<Timestamptz, _>(stamp(now))
        .bind::<BigInt, _>(limit(room.sms))
        .bind::<BigInt, _>(limit(room.mail))
        .bind::<Timestamptz, _>(stamp(leased_until));
    let mut rows: Vec<ClaimedRow> = Prepared(claim).load(&mut &*connection).await?;
    rows.sort_by_key(|row| (row.message.queued_at, row.message.id));
    let mut claimed = Vec::with_capacity(rows.len());
    for ClaimedRow { message: row, doubted } in rows {
        if let (Ok(message), Ok(tries)) = (row.message(), row.tries()) {
            claimed.push(Claimed { message, tries, doubted });
        } else {
            // A newer version knows what it says, perhaps: its instances take it when the lease has ended. It must not hold up the others.
            tracing::warn!(id = %row.id, "the message cannot be read by this version");
            diesel::update(messages::table.find(row.id).filter(messages::expires_at.le(stamp(now))))
                .set((messages::dead.eq(true), messages::reason.eq("cannot be read")))
                .execute(&mut &*connection)
                .await?;
        }
    }
    Ok(claimed)
}

async fn settle(
    connection: &AsyncPgConnection,
    id: MessageId,
    tries: u32,
    settlement: Settlement,
) -> Result<Option<SentCode>, Failure> {
    let leased = messages::table
        .filter(messages::id.eq(id.uuid()))
        .filter(messages::tries.eq(i64::from(tries)))
        .filter(messages::dead.eq(false));
    match settlement {
        Settlement::Sent { provider, reference, cost: Some(cost), at } => {
            let leave = sql_query(LEAVE_AT_COST)
                .bind::<diesel::sql_types::Uuid, _>(id.uuid())
                .bind::<BigInt, _>(i64::from(tries))
                .bind::<Text, _>(provider)
                .bind::<Nullable<Text>, _>(reference)
                .bind::<Timestamptz, _>(stamp(at))
                .bind::<BigInt, _>(micros(cost));
            Prepared(leave).execute(&mut &*connection).await?;
        }
        Settlement::Sent { provider, reference, cost: None, at } => {
            let leave = sql_query(LEAVE)
                .bind::<diesel::sql_types::Uuid, _>(id.uuid())
                .bind::<BigInt, _>(i64::from(tries))
                .bind::<Text, _>(provider)
                .bind::<Nullable<Text>, _>(reference)
                .bind::<Timestamptz, _>(stamp(at));
            Prepared(leave).execute(&mut &*connection).await?;
        }
        Settlement::Expired { at } => {
            let expire = sql_query(EXPIRE)
                .bind::<diesel::sql_types::Uuid, _>(id.uuid())
                .bind::<BigInt, _>(i64::from(tries))
                .bind::<Timestamptz, _>(stamp(at));
            return unsent(Prepared(expire).load(&mut &*connection).await?);
        }
        Settlement::Retry { at, reason } => {
            let retry = sql_query(RETRY)
                .bind::<diesel::sql_types::Uuid, _>(id.uuid())
                .bind::<BigInt, _>(i64::from(tries))
                .bind::<Timestamptz, _>(stamp(at))
                .bind::<Text, _>(reason);
            Prepared(retry).execute(&mut &*connection).await?;
        }
        Settlement::InDoubt { provider, until, reason } => {
            let set = (
                messages::due_at.eq(stamp(until)),
                messages::reason.eq(reason),
                messages::in_doubt_with.eq(provider),
            );
            Prepared(diesel::update(leased).set(set)).execute(&mut &*connection).await?;
        }
        Settlement::Dead { reason } => {
            let die = sql_query(DIE)
                .bind::<diesel::sql_types::Uuid, _>(id.uuid())
                .bind::<BigInt, _>(i64::from(tries))
                .bind::<Text, _>(reason);
            return unsent(Prepared(die).load(&mut &*connection).await?);
        }
    }
    Ok(None)
}

/// The code of a message that was given up, if there was one and nobody can have taken it.
fn unsent(codes: Vec<SentCodeRow>) -> Result<Option<SentCode>, Failure> {
    Ok(codes.into_iter().next().map(SentCodeRow::sent).transpose()?)
}

async fn record(connection: &AsyncPgConnection, report: &Report) -> Result<bool, Failure> {
    let (record, id, reference) = match &report.message {
        Reported::Message(id) if report.state == DeliveryState::Failed => (RECORD_FAILURE, Some(id), None),
        Reported::Message(id) => (RECORD, Some(id), None),
        Reported::Reference(reference) => (RECORD_BY_REFERENCE, None, Some(reference.as_str())),
    };
    let earlier = DeliveryState::ALL.into_iter().filter(|state| state.may_become(report.state));
    let earlier: Vec<_> = earlier.map(DeliveryState::as_str).collect();
    let answer = async || {
        let record = sql_query(record)
            .bind::<Nullable<diesel::sql_types::Uuid>, _>(id.copied().map(MessageId::uuid))
            .bind::<Text, _>(report.provider)
            .bind::<Nullable<Text>, _>(reference)
            .bind::<Text, _>(report.state.as_str())
            .bind::<Nullable<Text>, _>(report.reason.as_deref())
            .bind::<diesel::sql_types::Array<Text>, _>(&earlier)
            .bind::<Timestamptz, _>(stamp(report.at))
            .bind::<Bool, _>(report.state != DeliveryState::Delivered);
        Prepared(record).get_result(&mut &*connection).await
    };
    let Answer { mut yes } = answer().await?;
    if yes.is_none() {
        // It may have waited for a settlement, and still not have seen what that has put on the record: the next statement does.
        Answer { yes } = answer().await?;
    }
    Ok(yes.unwrap_or(true))
}
