//! Codes that were sent, and those that were held back. Not here: their budgets, which are limits as others.

use diesel::dsl::sql;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{
    ExpressionMethods as _, Insertable, JoinOnDsl as _, NullableExpressionMethods as _, QueryDsl as _,
    QueryResult, Queryable, QueryableByName, Selectable, SelectableHelper as _, sql_query,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use time::OffsetDateTime;
use uuid::Uuid;
use vestibule_domain::limits::{AddressBlock, Limit, Unit};
use vestibule_domain::pumping::{HeldCodes, Reason, SentCode, TracedCode, Traffic};
use vestibule_domain::spending::Money;
use vestibule_domain::{AttemptId, Country, MessageId, NumberRange};
use vestibule_port_storage::Page;

use crate::Failure;
use crate::rows::{Unreadable, count, moment, stamp};
use crate::schema::{deliveries, held_codes, sent_codes};
use crate::spending::micros;
use crate::statement::Prepared;

/// Any number of rows as one statement, whose text does not vary.
const RECORD: &str = "
    INSERT INTO held_codes (id, at, country, number_range, block, budget, reason, enforced, price, count)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
      $8::boolean[], $9::bigint[], $10::bigint[])";

#[derive(Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = sent_codes, treat_none_as_default_value = false)]
pub(crate) struct SentCodeRow {
    message: Uuid,
    attempt: Uuid,
    at: OffsetDateTime,
    country: Option<String>,
    number_range: String,
    block: String,
    price: Option<i64>,
    confirmed_at: Option<OffsetDateTime>,
    /// Whether it took a unit of its range's budget.
    took_of_range: bool,
    /// After how many tries it is certain that nobody has taken it.
    tries: i64,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = held_codes)]
struct HeldCodesRow {
    id: Uuid,
    at: OffsetDateTime,
    country: Option<String>,
    number_range: String,
    block: String,
    budget: String,
    reason: String,
    enforced: bool,
    price: i64,
    count: i64,
}

/// The elements of a page, in its order, which is that of the table's key.
macro_rules! page {
    ($query:expr, $page:ident, $table:ident.$id:ident) => {{
        let Page { since, after, limit } = $page;
        let query = $query
            .filter($table::at.ge(stamp(since)))
            .order(($table::at, $table::$id))
            .limit(limit.into())
            .into_boxed();
        match after {
            Some((at, id)) => {
                let place = concat!("(", stringify!($table), ".at, ", stringify!($id), ") > (");
                let after = sql::<Bool>(place).bind::<Timestamptz, _>(stamp(at));
                query.filter(after.sql(", ").bind::<SqlUuid, _>(id).sql(")"))
            }
            None => query,
        }
    }};
}

pub(crate) async fn sent_codes(
    connection: &AsyncPgConnection,
    page: Page,
) -> Result<Vec<TracedCode>, Failure> {
    let codes = sent_codes::table
        .left_join(deliveries::table.on(deliveries::id.eq(sent_codes::message)))
        .select((SentCodeRow::as_select(), deliveries::provider.nullable()));
    let rows: Vec<(SentCodeRow, Option<String>)> =
        page!(codes, page, sent_codes.message).load(&mut &*connection).await?;
    rows.into_iter().map(|(row, provider)| Ok(row.load(provider)?)).collect()
}

pub(crate) async fn held_codes(
    connection: &AsyncPgConnection,
    page: Page,
) -> Result<Vec<(Uuid, HeldCodes)>, Failure> {
    let held = held_codes::table.select(HeldCodesRow::as_select());
    let rows: Vec<HeldCodesRow> = page!(held, page, held_codes.id).load(&mut &*connection).await?;
    rows.into_iter().map(|row| Ok(row.load()?)).collect()
}

pub(crate) async fn record(connection: &AsyncPgConnection, held: &[(Uuid, HeldCodes)]) -> QueryResult<()> {
    if held.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&HeldCodes) -> String| held.iter().map(|(_, held)| of(held)).collect::<Vec<_>>();
    let country = |(_, held): &(Uuid, HeldCodes)| held.traffic.country.map(|country| country.to_string());
    let insert = sql_query(RECORD)
        .bind::<Array<SqlUuid>, _>(held.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(held.iter().map(|(_, held)| stamp(held.at)).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(held.iter().map(country).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column(|held| held.traffic.range.to_string()))
        .bind::<Array<Text>, _>(column(|held| held.traffic.block.ip().to_string()))
        .bind::<Array<Text>, _>(column(|held| held.limit.to_string()))
        .bind::<Array<Text>, _>(column(|held| held.reason.as_str().to_owned()))
        .bind::<Array<Bool>, _>(held.iter().map(|(_, held)| held.enforced).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(held.iter().map(|(_, held)| micros(held.price)).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(held.iter().map(|(_, held)| i64::from(held.count)).collect::<Vec<_>>());
    Prepared(insert).execute(&mut &*connection).await?;
    Ok(())
}

impl SentCodeRow {
    pub(crate) fn of(SentCode { message, attempt, traffic, price, range_unit, at }: &SentCode) -> Self {
        Self {
            message: message.uuid(),
            attempt: attempt.uuid(),
            at: stamp(*at),
            country: traffic.country.map(|country| country.to_string()),
            number_range: traffic.range.to_string(),
            block: traffic.block.ip().to_string(),
            price: price.map(micros),
            confirmed_at: None,
            took_of_range: *range_unit == Unit::Taken,
            tries: 0,
        }
    }

    fn load(self, provider: Option<String>) -> Result<TracedCode, Unreadable> {
        let confirmed_at = self.confirmed_at.map(moment);
        Ok(TracedCode { sent: self.sent()?, confirmed_at, provider })
    }

    pub(crate) fn sent(self) -> Result<SentCode, Unreadable> {
        Ok(SentCode {
            message: MessageId::new(self.message),
            attempt: AttemptId::new(self.attempt),
            traffic: traffic(self.country.as_deref(), &self.number_range, &self.block)?,
            price: self.price.map(money),
            range_unit: if self.took_of_range { Unit::Taken } else { Unit::Kept },
            at: moment(self.at),
        })
    }
}

impl HeldCodesRow {
    fn load(self) -> Result<(Uuid, HeldCodes), Unreadable> {
        let held = HeldCodes {
            traffic: traffic(self.country.as_deref(), &self.number_range, &self.block)?,
            limit: Limit::parse(&self.budget).ok_or(Unreadable("a limit"))?,
            reason: Reason::parse(&self.reason).ok_or(Unreadable("a reason"))?,
            enforced: self.enforced,
            price: money(self.price),
            count: count(self.count)?,
            at: moment(self.at),
        };
        Ok((self.id, held))
    }
}

fn traffic(country: Option<&str>, range: &str, block: &str) -> Result<Traffic, Unreadable> {
    let country = country.map(|code| Country::parse(code).map_err(|_| Unreadable("a country")));
    let block = block.parse().ok().and_then(AddressBlock::restore);
    Ok(Traffic {
        range: NumberRange::parse(range).ok_or(Unreadable("a range of numbers"))?,
        block: block.ok_or(Unreadable("a block of addresses"))?,
        country: country.transpose()?,
    })
}

const fn money(micros: i64) -> Money {
    Money::from_micros(micros.unsigned_abs())
}
