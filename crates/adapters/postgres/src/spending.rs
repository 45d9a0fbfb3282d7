//! What was spent, a row for each purse and window.
//!
//! All commits that spend meet in the rows of [`Purse::All`](vestibule_domain::spending::Purse::All), if it has a ceiling. They are demanded
//! after all that a commit may wait for without them.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{BigInt, Text, Timestamptz};
use diesel::{ExpressionMethods as _, Insertable, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use time::{OffsetDateTime, UtcDateTime};
use uuid::Uuid;
use vestibule_domain::MessageId;
use vestibule_domain::limits::Unit;
use vestibule_domain::spending::{Money, Purse, Spend, Spent, Window};
use vestibule_port_storage::CommitError;

use crate::connection::unavailable;
use crate::rows::stamp;
use crate::schema::{reservations, spending};

/// What was spent in the windows that are going on. Purses that a newer version knows are passed over.
pub(crate) async fn load(connection: &AsyncPgConnection, now: UtcDateTime) -> QueryResult<Vec<Spent>> {
    let mut spent = Vec::new();
    for window in Window::ALL {
        let rows: Vec<(String, i64)> = spending::table
            .filter(spending::span.eq(window.as_str()))
            .filter(spending::start.eq(stamp(window.start(now))))
            .select((spending::purse, spending::amount))
            .load(&mut &*connection)
            .await?;
        spent.extend(rows.into_iter().filter_map(|(purse, amount)| {
            let amount = Money::from_micros(amount.unsigned_abs());
            Some(Spent { purse: Purse::parse(&purse)?, window, amount })
        }));
    }
    Ok(spent)
}

/// After a commit has found too little: how long to wait for the first window that has less than is asked for.
pub(crate) async fn refusal(connection: &AsyncPgConnection, spends: &[Spend]) -> CommitError {
    let purses: Vec<_> = spends.iter().map(|spend| spend.purse.to_string()).collect();
    let starts: Vec<_> = spends.iter().map(|spend| stamp(spend.start)).collect();
    let rows: QueryResult<Vec<(String, String, OffsetDateTime, i64)>> = spending::table
        .filter(spending::purse.eq_any(purses))
        .filter(spending::start.eq_any(starts))
        .load(&mut &*connection)
        .await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return CommitError::Unavailable(unavailable(&error)),
    };
    let spent = |spend: &Spend| {
        let (purse, start) = (spend.purse.to_string(), stamp(spend.start));
        let row = rows
            .iter()
            .find(|(of, span, since, _)| *of == purse && span == spend.window.as_str() && *since == start);
        row.map_or(Money::ZERO, |(.., amount)| Money::from_micros(amount.unsigned_abs()))
    };
    let refused = spends.iter().find_map(|spend| spend.decide(spent(spend)).err());
    // Whatever was in the way has gone meanwhile.
    refused.map_or(CommitError::Conflict, |retry_after| CommitError::LimitReached { retry_after })
}

/// Adds to what was spent, as `domain::spending` decides, in one statement, so that no two see the same sum. Returns a row when
/// there was room. In an empty window there is: that is known before.
pub(crate) struct AddUp {
    purse: String,
    span: &'static str,
    start: OffsetDateTime,
    /// What must be there.
    amount: i64,
    /// How much of it is spent.
    spent: i64,
    ceiling: i64,
}

impl AddUp {
    pub(crate) fn new(spend: &Spend) -> Self {
        let amount = micros(spend.amount);
        let spent = match spend.unit {
            Unit::Taken => amount,
            Unit::Kept => 0,
        };
        Self {
            purse: spend.purse.to_string(),
            span: spend.window.as_str(),
            start: stamp(spend.start),
            amount,
            spent,
            ceiling: micros(spend.ceiling),
        }
    }
}

impl QueryFragment<Pg> for AddUp {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("INSERT INTO spending (purse, span, start, amount) VALUES (");
        out.push_bind_param::<Text, _>(&self.purse)?;
        out.push_sql(", ");
        out.push_bind_param::<Text, _>(self.span)?;
        out.push_sql(", ");
        out.push_bind_param::<Timestamptz, _>(&self.start)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.spent)?;
        out.push_sql(
            ") ON CONFLICT (purse, span, start) DO UPDATE SET amount = spending.amount + excluded.amount \
             WHERE spending.amount + ",
        );
        out.push_bind_param::<BigInt, _>(&self.amount)?;
        out.push_sql(" <= ");
        out.push_bind_param::<BigInt, _>(&self.ceiling)?;
        out.push_sql(" RETURNING purse");
        Ok(())
    }
}

/// What was spent for a message, to be given back if it never leaves.
#[derive(Insertable)]
#[diesel(table_name = reservations)]
pub(crate) struct ReservationRow {
    message: Uuid,
    purse: String,
    span: &'static str,
    start: OffsetDateTime,
    amount: i64,
    /// How many tries are known to have failed.
    tries: i64,
}

impl ReservationRow {
    pub(crate) fn of(message: MessageId, spends: &[Spend]) -> impl Iterator<Item = Self> {
        spends.iter().filter(|spend| spend.unit == Unit::Taken).map(move |spend| Self {
            message: message.uuid(),
            purse: spend.purse.to_string(),
            span: spend.window.as_str(),
            start: stamp(spend.start),
            amount: micros(spend.amount),
            tries: 0,
        })
    }
}

pub(crate) fn micros(amount: Money) -> i64 {
    i64::try_from(amount.micros()).unwrap_or(i64::MAX)
}
