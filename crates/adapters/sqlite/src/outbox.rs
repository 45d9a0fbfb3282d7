use std::time::Duration;

use async_trait::async_trait;
use diesel::dsl::min;
use diesel::prelude::*;
use time::UtcDateTime;
use vestibule_domain::MessageId;
use vestibule_port_storage::{Claimed, DeadLetter, Outbox, Settlement, Unavailable};

use crate::rows::{MessageRow, bytes, millis, moment};
use crate::schema::messages;
use crate::{Failure, Sqlite};

#[async_trait]
impl Outbox for Sqlite {
    async fn claim(
        &self,
        limit: usize,
        lease: Duration,
        now: UtcDateTime,
    ) -> Result<Vec<Claimed>, Unavailable> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let claimed = self.write(move |connection| claim(connection, limit, now + lease, now)).await?;
        Ok(claimed)
    }

    async fn settle(&self, id: MessageId, tries: u32, settlement: Settlement) -> Result<(), Unavailable> {
        self.write(move |connection| {
            let leased = messages::table
                .filter(messages::id.eq(bytes(id.uuid())))
                .filter(messages::tries.eq(i64::from(tries)))
                .filter(messages::dead.eq(false));
            match settlement {
                Settlement::Done => diesel::delete(leased).execute(connection)?,
                Settlement::Retry { at, reason } => diesel::update(leased)
                    .set((messages::due_at.eq(millis(at)), messages::reason.eq(reason)))
                    .execute(connection)?,
                Settlement::Dead { reason } => diesel::update(leased)
                    .set((messages::dead.eq(true), messages::reason.eq(reason)))
                    .execute(connection)?,
            };
            Ok(())
        })
        .await?;
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<UtcDateTime>, Unavailable> {
        self.read(|connection| {
            let due: Option<i64> = messages::table
                .filter(messages::dead.eq(false))
                .select(min(messages::due_at))
                .first(connection)?;
            Ok(due.map(moment).transpose()?)
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

fn claim(
    connection: &mut SqliteConnection,
    limit: i64,
    leased_until: UtcDateTime,
    now: UtcDateTime,
) -> Result<Vec<Claimed>, Failure> {
    let due: Vec<MessageRow> = messages::table
        .filter(messages::dead.eq(false))
        .filter(messages::due_at.le(millis(now)))
        .order((messages::due_at, messages::id))
        .limit(limit)
        .select(MessageRow::as_select())
        .load(connection)?;
    let ids: Vec<&[u8]> = due.iter().map(|row| row.id.as_slice()).collect();
    diesel::update(messages::table.filter(messages::id.eq_any(ids)))
        .set((messages::due_at.eq(millis(leased_until)), messages::tries.eq(messages::tries + 1)))
        .execute(connection)?;
    let mut claimed = Vec::with_capacity(due.len());
    for row in &due {
        if let (Ok(message), Ok(tries)) = (row.load(), row.tries()) {
            claimed.push(Claimed { message, tries: tries.saturating_add(1) });
        } else {
            // A row that nobody can read, of a newer version perhaps, must not hold up the others.
            tracing::error!("dead letter: the message cannot be read");
            diesel::update(messages::table.filter(messages::id.eq(&row.id)))
                .set((messages::dead.eq(true), messages::reason.eq("cannot be read")))
                .execute(connection)?;
        }
    }
    Ok(claimed)
}
