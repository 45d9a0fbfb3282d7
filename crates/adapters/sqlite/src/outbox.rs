use std::time::Duration;

use async_trait::async_trait;
use diesel::dsl::min;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable};
use time::UtcDateTime;
use vestibule_domain::pumping::SentCode;
use vestibule_domain::{Channel, DeliveryState, MessageId};
use vestibule_port_storage::{
    Backlog, Claimed, DeadLetter, Outbox, Report, Reported, Room, Settlement, Unavailable,
};

use crate::rows::{DeliveryRow, MessageRow, bytes, millis, moment};
use crate::schema::{deliveries, messages};
use crate::{Failure, Sqlite, pumping, spending};

const CHANNELS: [Channel; 2] = [Channel::Sms, Channel::Mail];

/// What there is of a channel's messages: from its own indexes, which are only used where the query names the same constants, and no further than is
/// counted.
macro_rules! backlog {
    ($recipient:literal) => {
        concat!(
            "SELECT
      (SELECT count(*) FROM (
        SELECT 1 FROM messages WHERE dead = 0 AND ",
            $recipient,
            " IS NOT NULL ORDER BY due_at LIMIT ?1)) AS waiting,
      (SELECT min(due_at) FROM messages WHERE dead = 0 AND ",
            $recipient,
            " IS NOT NULL) AS next_due,
      (SELECT count(*) FROM (
        SELECT 1 FROM messages WHERE dead = 1 AND ",
            $recipient,
            " IS NOT NULL ORDER BY queued_at LIMIT ?1)) AS dead"
        )
    };
}

#[derive(QueryableByName)]
struct BacklogRow {
    #[diesel(sql_type = BigInt)]
    waiting: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    next_due: Option<i64>,
    #[diesel(sql_type = BigInt)]
    dead: i64,
}

#[async_trait]
impl Outbox for Sqlite {
    async fn claim(
        &self,
        room: Room,
        lease: Duration,
        now: UtcDateTime,
    ) -> Result<Vec<Claimed>, Unavailable> {
        let claimed = self.write(move |connection| claim(connection, room, now + lease, now)).await?;
        Ok(claimed)
    }

    async fn settle(
        &self,
        id: MessageId,
        tries: u32,
        settlement: Settlement,
    ) -> Result<Option<SentCode>, Unavailable> {
        Ok(self.write(move |connection| settle(connection, id, tries, settlement)).await?)
    }

    async fn record_delivery(&self, report: &Report) -> Result<bool, Unavailable> {
        let report = report.clone();
        Ok(self.write(move |connection| record(connection, &report)).await?)
    }

    async fn next_due(&self, room: Room) -> Result<Option<UtcDateTime>, Unavailable> {
        self.read(move |connection| {
            let mut due: Option<i64> = None;
            for channel in CHANNELS.into_iter().filter(|channel| room.of(*channel) > 0) {
                let next: Option<i64> = waiting(channel).select(min(messages::due_at)).first(connection)?;
                due = due.into_iter().chain(next).min();
            }
            Ok(due.map(moment).transpose()?)
        })
        .await
    }

    async fn backlog(&self, channel: Channel) -> Result<Backlog, Unavailable> {
        self.read(move |connection| {
            let backlog = match channel {
                Channel::Sms => backlog!("phone"),
                Channel::Mail => backlog!("email"),
            };
            let backlog = sql_query(backlog).bind::<BigInt, _>(i64::from(Backlog::COUNTED));
            let row: BacklogRow = backlog.get_result(connection)?;
            let count = |count| u32::try_from(count).unwrap_or(Backlog::COUNTED);
            let next_due = row.next_due.map(moment).transpose()?;
            Ok(Backlog { waiting: count(row.waiting), next_due, dead: count(row.dead) })
        })
        .await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Unavailable> {
        self.read(move |connection| {
            let rows: Vec<MessageRow> = messages::table
                .filter(messages::dead.eq(true))
                .order(messages::queued_at.desc())
                .limit(i64::try_from(limit).unwrap_or(i64::MAX))
                .select(MessageRow::as_select())
                .load(connection)?;
            rows.into_iter()
                .map(|row| {
                    Ok(DeadLetter {
                        message: row.load()?,
                        tries: row.tries()?,
                        reason: row.reason.unwrap_or_default(),
                    })
                })
                .collect()
        })
        .await
    }

    async fn queued(&self) {
        self.queued.notified().await;
    }
}

fn settle(
    connection: &mut SqliteConnection,
    id: MessageId,
    tries: u32,
    settlement: Settlement,
) -> Result<Option<SentCode>, Failure> {
    let leased = messages::table
        .filter(messages::id.eq(bytes(id.uuid())))
        .filter(messages::tries.eq(i64::from(tries)))
        .filter(messages::dead.eq(false));
    spending::settle(connection, id, tries, &settlement)?;
    let unsent = pumping::settle(connection, id, tries, &settlement)?;
    match settlement {
        Settlement::Sent { provider, reference, cost: _, at } => {
            let row = diesel::delete(leased).get_result::<MessageRow>(connection).optional()?;
            keep(connection, row.map(|row| row.left(DeliveryState::Sent, Some(provider), reference, at)))?;
        }
        Settlement::Expired { at } => {
            let row = diesel::delete(leased).get_result::<MessageRow>(connection).optional()?;
            keep(connection, row.map(|row| row.left(DeliveryState::Expired, None, None, at)))?;
        }
        Settlement::Retry { at, reason } => {
            let set = (messages::due_at.eq(millis(at)), messages::reason.eq(reason));
            diesel::update(leased).set(set).execute(connection)?;
        }
        Settlement::InDoubt { provider, until, reason } => {
            let set = (
                messages::due_at.eq(millis(until)),
                messages::reason.eq(reason),
                messages::in_doubt_with.eq(provider),
            );
            diesel::update(leased).set(set).execute(connection)?;
        }
        Settlement::Dead { reason } => {
            let set = (messages::dead.eq(true), messages::reason.eq(reason));
            diesel::update(leased).set(set).execute(connection)?;
        }
    }
    Ok(unsent)
}

fn keep(connection: &mut SqliteConnection, delivery: Option<DeliveryRow>) -> Result<(), Failure> {
    if let Some(delivery) = delivery {
        diesel::insert_into(deliveries::table).values(delivery).execute(connection)?;
    }
    Ok(())
}

fn record(connection: &mut SqliteConnection, report: &Report) -> Result<bool, Failure> {
    let found = match &report.message {
        Reported::Message(id) => deliveries::table
            .filter(deliveries::id.eq(bytes(id.uuid())))
            .select((deliveries::id, deliveries::state, deliveries::provider))
            .first(connection)
            .optional()?,
        Reported::Reference(reference) => deliveries::table
            .filter(deliveries::provider.eq(report.provider))
            .filter(deliveries::reference.eq(reference))
            // A provider whose count begins again means the newest.
            .order(deliveries::queued_at.desc())
            .select((deliveries::id, deliveries::state, deliveries::provider))
            .first(connection)
            .optional()?,
    };
    let found: Option<(Vec<u8>, String, Option<String>)> = found;
    if let Some((id, state, provider)) = found {
        let is_senders =
            report.state == DeliveryState::Delivered || provider.as_deref() == Some(report.provider);
        if is_senders && DeliveryState::parse(&state).is_some_and(|state| state.may_become(report.state)) {
            diesel::update(deliveries::table.filter(deliveries::id.eq(id)))
                .set((
                    deliveries::state.eq(report.state.as_str()),
                    deliveries::reason.eq(report.reason.as_deref()),
                    deliveries::changed_at.eq(millis(report.at)),
                ))
                .execute(connection)?;
        }
        return Ok(true);
    }
    match &report.message {
        Reported::Message(id) => record_queued(connection, *id, report),
        Reported::Reference(_) => Ok(false),
    }
}

/// The provider was faster than its own answer, or its answer was lost.
fn record_queued(connection: &mut SqliteConnection, id: MessageId, report: &Report) -> Result<bool, Failure> {
    let queued =
        || messages::table.filter(messages::id.eq(bytes(id.uuid()))).filter(messages::dead.eq(false));
    if report.state != DeliveryState::Failed {
        let arrived = matches!(report.state, DeliveryState::Sent | DeliveryState::Delivered);
        let left = messages::table.filter(messages::id.eq(bytes(id.uuid())));
        let row = diesel::delete(left.filter(messages::dead.eq_any([false, arrived])))
            .get_result::<MessageRow>(connection)
            .optional()?;
        keep(connection, row.map(|row| row.left(report.state, Some(report.provider), None, report.at)))?;
        return Ok(true);
    }
    let in_doubt = queued().filter(messages::in_doubt_with.eq(report.provider));
    let set = (messages::due_at.eq(millis(report.at)), messages::reason.eq(report.reason.as_deref()));
    let retried = diesel::update(in_doubt).set(set).execute(connection)?;
    if retried > 0 {
        return Ok(true);
    }
    let waiting: bool = diesel::select(diesel::dsl::exists(queued())).get_result(connection)?;
    Ok(!waiting)
}

fn claim(
    connection: &mut SqliteConnection,
    room: Room,
    leased_until: UtcDateTime,
    now: UtcDateTime,
) -> Result<Vec<Claimed>, Failure> {
    let mut due: Vec<MessageRow> = Vec::new();
    for channel in CHANNELS.into_iter().filter(|channel| room.of(*channel) > 0) {
        let rows = waiting(channel)
            .filter(messages::due_at.le(millis(now)))
            .order((messages::due_at, messages::id))
            .limit(i64::try_from(room.of(channel)).unwrap_or(i64::MAX))
            .select(MessageRow::as_select());
        due.extend(rows.load(connection)?);
    }
    due.sort_by(|one, other| (one.due_at, &one.id).cmp(&(other.due_at, &other.id)));
    let ids: Vec<&[u8]> = due.iter().map(|row| row.id.as_slice()).collect();
    diesel::update(messages::table.filter(messages::id.eq_any(ids)))
        .set((
            messages::due_at.eq(millis(leased_until)),
            messages::tries.eq(messages::tries + 1),
            messages::in_doubt_with.eq(None::<String>),
        ))
        .execute(connection)?;
    let mut claimed = Vec::with_capacity(due.len());
    for row in &due {
        if let (Ok(message), Ok(tries)) = (row.load(), row.tries()) {
            let doubted = row.in_doubt_with.clone();
            claimed.push(Claimed { message, tries: tries.saturating_add(1), doubted });
        } else {
            // A newer version knows what it says, perhaps: its instances take it when the lease has ended. It must not hold up the others.
            tracing::warn!("a message cannot be read by this version");
            let unreadable = messages::table.filter(messages::id.eq(&row.id));
            diesel::update(unreadable.filter(messages::expires_at.le(millis(now))))
                .set((messages::dead.eq(true), messages::reason.eq("cannot be read")))
                .execute(connection)?;
        }
    }
    Ok(claimed)
}

/// What is in the queue of a channel, which has an index of its own.
fn waiting<'a>(channel: Channel) -> messages::BoxedQuery<'a, diesel::sqlite::Sqlite> {
    let waiting = messages::table.filter(messages::dead.eq(false));
    match channel {
        Channel::Sms => waiting.filter(messages::phone.is_not_null()).into_boxed(),
        Channel::Mail => waiting.filter(messages::email.is_not_null()).into_boxed(),
    }
}
