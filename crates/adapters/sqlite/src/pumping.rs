//! Codes that were sent, and those that were held back. Not here: their budgets, which are limits as others.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Binary, Bool};
use uuid::Uuid;
use vestibule_domain::limits::{AddressBlock, Limit, Step, Unit};
use vestibule_domain::pumping::{HeldCodes, Part, Reason, SentCode, TracedCode, Traffic};
use vestibule_domain::spending::Money;
use vestibule_domain::{AttemptId, Country, MessageId, NumberRange};
use vestibule_port_storage::{Budgets, Level, Page, Settlement};

use crate::Failure;
use crate::rows::{Unreadable, bytes, count, millis, moment, optional_moment, uuid};
use crate::schema::{deliveries, held_codes, limits, sent_codes};
use crate::spending::micros;

#[derive(Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = sent_codes, treat_none_as_default_value = false)]
pub(crate) struct SentCodeRow {
    message: Vec<u8>,
    attempt: Vec<u8>,
    at: i64,
    country: Option<String>,
    number_range: String,
    block: String,
    price: Option<i64>,
    confirmed_at: Option<i64>,
    /// The name of the part of the budgets that bears it.
    part: String,
    /// Whether it took a unit of its range's budget.
    took_of_range: bool,
    /// After how many tries it is certain that nobody has taken it.
    tries: i64,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = held_codes, treat_none_as_default_value = false)]
pub(crate) struct HeldCodesRow {
    id: Vec<u8>,
    at: i64,
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
            .filter($table::at.ge(millis(since)))
            .order(($table::at, $table::$id))
            .limit(limit.into())
            .into_boxed();
        match after {
            Some((at, id)) => query.filter(
                sql::<Bool>(concat!(
                    "(",
                    stringify!($table),
                    ".at, ",
                    stringify!($table),
                    ".",
                    stringify!($id),
                    ") > ("
                ))
                .bind::<BigInt, _>(millis(at))
                .sql(", ")
                .bind::<Binary, _>(bytes(id))
                .sql(")"),
            ),
            None => query,
        }
    }};
}

pub(crate) fn sent_codes(connection: &mut SqliteConnection, page: Page) -> Result<Vec<TracedCode>, Failure> {
    let codes = sent_codes::table
        .left_join(deliveries::table.on(deliveries::id.eq(sent_codes::message)))
        .select((SentCodeRow::as_select(), deliveries::provider.nullable()));
    let rows: Vec<(SentCodeRow, Option<String>)> = page!(codes, page, sent_codes.message).load(connection)?;
    rows.into_iter().map(|(row, provider)| Ok(row.load(provider)?)).collect()
}

pub(crate) fn held_codes(
    connection: &mut SqliteConnection,
    page: Page,
) -> Result<Vec<(Uuid, HeldCodes)>, Failure> {
    let held = held_codes::table.select(HeldCodesRow::as_select());
    let rows: Vec<HeldCodesRow> = page!(held, page, held_codes.id).load(connection)?;
    rows.into_iter().map(|row| Ok(row.load()?)).collect()
}

/// Budgets of a step that are not full. Those that a newer version knows are passed over.
pub(crate) fn budgets_in_use(
    connection: &mut SqliteConnection,
    step: Step,
    now: i64,
    limit: u32,
) -> Result<Budgets, Failure> {
    // The step's keys, in the order of bytes: a semicolon is the next after a colon.
    let (first, end) = (format!("{}:", step.as_str()), format!("{};", step.as_str()));
    let rows: Vec<(String, i64)> = limits::table
        .filter(limits::key.ge(first).and(limits::key.lt(end)))
        .filter(limits::full_at.gt(now))
        .order(limits::full_at.desc())
        .limit(limit.into())
        .load(connection)?;
    let mut budgets = Budgets::default();
    for (key, full_at) in rows {
        if let Some(limit) = Limit::parse(&key) {
            budgets.0.insert(limit, Level::whole(moment(full_at)?));
        }
    }
    Ok(budgets)
}

/// Notes that the leased try with a code has failed as well.
const KNOWN_TO_HAVE_FAILED: &str = "
    UPDATE sent_codes SET tries = ?2 FROM messages
    WHERE messages.id = ?1 AND messages.tries = ?2 AND NOT messages.dead
      AND sent_codes.at = messages.queued_at AND sent_codes.message = messages.id AND sent_codes.tries = ?2 - 1";

/// Takes its price from the code of a leased message that is given up, if every try before is known to have failed.
const NEVER_SENT: &str = "
    UPDATE sent_codes SET price = NULL FROM messages
    WHERE messages.id = ?1 AND messages.tries = ?2 AND NOT messages.dead
      AND sent_codes.at = messages.queued_at AND sent_codes.message = messages.id AND sent_codes.tries = ?2 - 1
      AND sent_codes.price IS NOT NULL
    RETURNING sent_codes.message, sent_codes.attempt, sent_codes.at, sent_codes.country, sent_codes.number_range,
      sent_codes.block, sent_codes.price, sent_codes.confirmed_at, sent_codes.part,
      sent_codes.took_of_range, sent_codes.tries";

/// What becomes of the code of a leased message that is settled so, before it is; the code, if it was never sent.
pub(crate) fn settle(
    connection: &mut SqliteConnection,
    message: MessageId,
    tries: u32,
    settlement: &Settlement,
) -> Result<Option<SentCode>, Failure> {
    let statement = match settlement {
        Settlement::Sent { .. } | Settlement::InDoubt { .. } => return Ok(None),
        Settlement::Retry { .. } => KNOWN_TO_HAVE_FAILED,
        Settlement::Expired { .. } | Settlement::Dead { .. } => NEVER_SENT,
    };
    let (message, tries) = (bytes(message.uuid()), i64::from(tries));
    let query = sql_query(statement).bind::<Binary, _>(message).bind::<BigInt, _>(tries);
    let unsent: Option<SentCodeRow> = query.get_result(connection).optional()?;
    Ok(unsent.map(SentCodeRow::sent).transpose()?)
}

impl SentCodeRow {
    pub(crate) fn of(SentCode { message, attempt, traffic, price, part, range_unit, at }: &SentCode) -> Self {
        let (country, number_range, block) = columns(traffic);
        Self {
            message: bytes(message.uuid()),
            attempt: bytes(attempt.uuid()),
            at: millis(*at),
            country,
            number_range,
            block,
            price: price.map(micros),
            confirmed_at: None,
            part: part.as_str().to_owned(),
            took_of_range: *range_unit == Unit::Taken,
            tries: 0,
        }
    }

    fn load(self, provider: Option<String>) -> Result<TracedCode, Unreadable> {
        let confirmed_at = optional_moment(self.confirmed_at)?;
        Ok(TracedCode { sent: self.sent()?, confirmed_at, provider })
    }

    pub(crate) fn sent(self) -> Result<SentCode, Unreadable> {
        Ok(SentCode {
            message: MessageId::new(uuid(&self.message)?),
            attempt: AttemptId::new(uuid(&self.attempt)?),
            traffic: traffic(self.country.as_deref(), &self.number_range, &self.block)?,
            price: self.price.map(money),
            part: Part::parse(&self.part).ok_or(Unreadable("a part of budgets"))?,
            range_unit: if self.took_of_range { Unit::Taken } else { Unit::Kept },
            at: moment(self.at)?,
        })
    }
}

impl HeldCodesRow {
    pub(crate) fn of((id, held): &(Uuid, HeldCodes)) -> Self {
        let (country, number_range, block) = columns(&held.traffic);
        Self {
            id: bytes(*id),
            at: millis(held.at),
            country,
            number_range,
            block,
            budget: held.limit.to_string(),
            reason: held.reason.as_str().to_owned(),
            enforced: held.enforced,
            price: micros(held.price),
            count: held.count.into(),
        }
    }

    fn load(self) -> Result<(Uuid, HeldCodes), Unreadable> {
        let held = HeldCodes {
            traffic: traffic(self.country.as_deref(), &self.number_range, &self.block)?,
            limit: Limit::parse(&self.budget).ok_or(Unreadable("a limit"))?,
            reason: Reason::parse(&self.reason).ok_or(Unreadable("a reason"))?,
            enforced: self.enforced,
            price: money(self.price),
            count: count(self.count)?,
            at: moment(self.at)?,
        };
        Ok((uuid(&self.id)?, held))
    }
}

fn columns(Traffic { range, block, country }: &Traffic) -> (Option<String>, String, String) {
    (country.map(|country| country.to_string()), range.to_string(), block.ip().to_string())
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
