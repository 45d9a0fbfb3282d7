//! What was spent, a row for each purse and window, and what of it is reserved for messages that wait.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Binary};
use time::UtcDateTime;
use vestibule_domain::MessageId;
use vestibule_domain::spending::{Correction, Money, Purse, Spend, Spent, Unsent, Window};
use vestibule_metrics::objected;
use vestibule_port_storage::{CommitError, Settlement};

use crate::Failure;
use crate::commit::Refused;
use crate::rows::{bytes, millis};
use crate::schema::{reservations, spending};

/// What was spent out of the purses in the windows that are going on.
pub(crate) fn load(
    connection: &mut SqliteConnection,
    of: &[Purse],
    now: UtcDateTime,
) -> Result<Vec<Spent>, Failure> {
    let purses: Vec<_> = of.iter().map(Purse::to_string).collect();
    let mut spent = Vec::new();
    for window in Window::ALL {
        let rows: Vec<(String, i64)> = spending::table
            .filter(spending::purse.eq_any(&purses))
            .filter(spending::span.eq(window.as_str()))
            .filter(spending::start.eq(millis(window.start(now))))
            .select((spending::purse, spending::amount))
            .load(connection)?;
        spent.extend(rows.into_iter().filter_map(|(purse, amount)| {
            let purse = Purse::parse(&purse)?;
            Some(Spent { purse, window, amount: money(amount) })
        }));
    }
    Ok(spent)
}

/// Nobody else writes between the read and the write: there is one writer.
pub(crate) fn add_up(connection: &mut SqliteConnection, spend: &Spend) -> Result<(), Refused> {
    let key = (spend.purse.to_string(), spend.window.as_str(), millis(spend.start));
    let spent: Option<i64> =
        spending::table.find(key.clone()).select(spending::amount).first(connection).optional()?;
    let sum = spend.decide(spent.map_or(Money::ZERO, money)).map_err(|retry_after| {
        objected("spending", spend.purse.kind());
        Refused(CommitError::LimitReached { retry_after })
    })?;
    let (purse, span, start) = key;
    diesel::replace_into(spending::table)
        .values((
            spending::purse.eq(purse),
            spending::span.eq(span),
            spending::start.eq(start),
            spending::amount.eq(micros(sum)),
        ))
        .execute(connection)?;
    Ok(())
}

pub(crate) fn correct(connection: &mut SqliteConnection, correction: &Correction) -> Result<(), Refused> {
    let Correction { purse, window, start, .. } = correction;
    let sum = spending::table.find((purse.to_string(), window.as_str(), millis(*start)));
    let spent: Option<i64> = sum.clone().select(spending::amount).first(connection).optional()?;
    if let Some(spent) = spent {
        let right = correction.apply(money(spent));
        diesel::update(sum).set(spending::amount.eq(micros(right))).execute(connection)?;
    }
    Ok(())
}

/// Notes what was spent for the message, unless it is never to be sent, to be corrected when it is known what it cost.
pub(crate) fn reserve(
    connection: &mut SqliteConnection,
    message: MessageId,
    spends: &[Spend],
) -> Result<(), Refused> {
    for spend in spends.iter().filter(|spend| spend.unsent == Unsent::Returned) {
        let row = (
            reservations::message.eq(bytes(message.uuid())),
            reservations::purse.eq(spend.purse.to_string()),
            reservations::span.eq(spend.window.as_str()),
            reservations::start.eq(millis(spend.start)),
            reservations::amount.eq(micros(spend.amount)),
            reservations::tries.eq(0),
        );
        diesel::insert_into(reservations::table).values(row).execute(connection)?;
    }
    Ok(())
}

/// Puts what a leased message cost in the place of what was reserved for it: less only if every try before is known to have failed.
const CORRECT: &str = "
    UPDATE spending SET amount = max(spending.amount - reserved.amount, 0) + ?3
    FROM (SELECT reservations.* FROM reservations JOIN messages ON messages.id = reservations.message
      WHERE messages.id = ?1 AND messages.tries = ?2 AND NOT messages.dead
        AND (reservations.amount < ?3 OR (reservations.amount > ?3 AND reservations.tries = ?2 - 1))) AS reserved
    WHERE spending.purse = reserved.purse AND spending.span = reserved.span AND spending.start = reserved.start";

/// Shows what it cost on the record of its code, by the same rule, unless that was never to be sent.
const PRICE: &str = "
    UPDATE sent_codes SET price = ?3 FROM messages
    WHERE messages.id = ?1 AND messages.tries = ?2 AND NOT messages.dead
      AND sent_codes.at = messages.queued_at AND sent_codes.message = messages.id
      AND (sent_codes.price < ?3 OR (sent_codes.price > ?3 AND sent_codes.tries = ?2 - 1))";

/// Notes that the leased try has failed as well.
const KNOWN_TO_HAVE_FAILED: &str = "
    UPDATE reservations SET tries = ?2 WHERE message = ?1 AND tries = ?2 - 1
      AND EXISTS (SELECT 1 FROM messages WHERE id = ?1 AND tries = ?2 AND NOT dead)";

/// What becomes of the money for a leased message that is settled so, before it is.
pub(crate) fn settle(
    connection: &mut SqliteConnection,
    message: MessageId,
    tries: u32,
    settlement: &Settlement,
) -> Result<(), Failure> {
    let (statements, cost): (&[&str], _) = match settlement {
        Settlement::Sent { cost: None, .. } | Settlement::InDoubt { .. } => (&[], None),
        Settlement::Sent { cost: Some(cost), .. } => (&[CORRECT, PRICE], Some(*cost)),
        Settlement::Expired { .. } | Settlement::Dead { .. } => (&[CORRECT], Some(Money::ZERO)),
        Settlement::Retry { .. } => (&[KNOWN_TO_HAVE_FAILED], None),
    };
    for statement in statements {
        let query = sql_query(*statement)
            .bind::<Binary, _>(bytes(message.uuid()))
            .bind::<BigInt, _>(i64::from(tries));
        match cost {
            Some(cost) => query.bind::<BigInt, _>(micros(cost)).execute(connection)?,
            None => query.execute(connection)?,
        };
    }
    Ok(())
}

fn money(micros: i64) -> Money {
    Money::from_micros(micros.unsigned_abs())
}

pub(crate) fn micros(amount: Money) -> i64 {
    i64::try_from(amount.micros()).unwrap_or(i64::MAX)
}
