//! What was spent, a row for each purse and window.
//!
//! All commits that spend meet in the rows of [`Purse::All`](vestibule_domain::spending::Purse::All), if it has a ceiling. They are demanded
//! after all that a commit may wait for without them.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, BigInt, Text, Timestamptz};
use diesel::{ExpressionMethods as _, Insertable, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use time::{OffsetDateTime, UtcDateTime};
use uuid::Uuid;
use vestibule_domain::MessageId;
use vestibule_domain::spending::{Correction, Money, Purse, Spend, Spent, Unsent, Window};
use vestibule_metrics::objected;
use vestibule_port_storage::CommitError;

use crate::connection::unavailable;
use crate::rows::stamp;
use crate::schema::{reservations, spending};

/// What was spent out of the purses in the windows that are going on.
pub(crate) async fn load(
    connection: &AsyncPgConnection,
    of: &[Purse],
    now: UtcDateTime,
) -> QueryResult<Vec<Spent>> {
    let purses: Vec<_> = of.iter().map(Purse::to_string).collect();
    let starts = Window::ALL.map(|window| stamp(window.start(now)));
    let rows: Vec<(String, String, OffsetDateTime, i64)> = spending::table
        .filter(spending::purse.eq_any(purses))
        .filter(spending::start.eq_any(starts))
        .load(&mut &*connection)
        .await?;
    // An hour that began with the day has the day's start.
    let spent = |(purse, span, start, amount): (String, String, OffsetDateTime, i64)| {
        let window = Window::parse(&span).filter(|window| start == stamp(window.start(now)))?;
        let amount = Money::from_micros(amount.unsigned_abs());
        Some(Spent { purse: Purse::parse(&purse)?, window, amount })
    };
    Ok(rows.into_iter().filter_map(spent).collect())
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
    let refused = spends.iter().find_map(|spend| Some((spend, spend.decide(spent(spend)).err()?)));
    // Whatever was in the way has gone meanwhile.
    refused.map_or(CommitError::Conflict, |(spend, retry_after)| {
        objected("spending", spend.purse.kind());
        CommitError::LimitReached { retry_after }
    })
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
    taken: i64,
    ceiling: i64,
}

impl AddUp {
    pub(crate) fn new(spend: &Spend) -> Self {
        Self {
            purse: spend.purse.to_string(),
            span: spend.window.as_str(),
            start: stamp(spend.start),
            amount: micros(spend.amount),
            taken: micros(spend.taken()),
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
        out.push_bind_param::<BigInt, _>(&self.taken)?;
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

/// Puts what was paid in the place of what was counted, in the order in which commits spend.
pub(crate) struct PutRight {
    purses: Vec<String>,
    spans: Vec<&'static str>,
    starts: Vec<OffsetDateTime>,
    counted: Vec<i64>,
    paid: Vec<i64>,
}

impl PutRight {
    pub(crate) fn new(corrections: &[Correction]) -> Self {
        Self {
            purses: corrections.iter().map(|correction| correction.purse.to_string()).collect(),
            spans: corrections.iter().map(|correction| correction.window.as_str()).collect(),
            starts: corrections.iter().map(|correction| stamp(correction.start)).collect(),
            counted: corrections.iter().map(|correction| micros(correction.counted)).collect(),
            paid: corrections.iter().map(|correction| micros(correction.paid)).collect(),
        }
    }
}

impl QueryFragment<Pg> for PutRight {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "UPDATE spending SET amount = greatest(spending.amount - wrong.counted, 0) + wrong.paid FROM (
               SELECT there.purse, there.span, there.start, counted, paid FROM unnest(",
        );
        out.push_bind_param::<Array<Text>, _>(&self.purses)?;
        out.push_sql("::text[], ");
        out.push_bind_param::<Array<Text>, _>(&self.spans)?;
        out.push_sql("::text[], ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.starts)?;
        out.push_sql("::timestamptz[], ");
        out.push_bind_param::<Array<BigInt>, _>(&self.counted)?;
        out.push_sql("::bigint[], ");
        out.push_bind_param::<Array<BigInt>, _>(&self.paid)?;
        out.push_sql(
            "::bigint[]) AS correction (purse, span, start, counted, paid)
               JOIN spending AS there USING (purse, span, start)
               ORDER BY there.purse = 'all', there.span = 'day' FOR UPDATE OF there) AS wrong
             WHERE spending.purse = wrong.purse AND spending.span = wrong.span AND spending.start = wrong.start",
        );
        Ok(())
    }
}

/// What was spent for a message that is to be sent, to be corrected when it is known what it cost.
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
        spends.iter().filter(|spend| spend.unsent == Unsent::Returned).map(move |spend| Self {
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
