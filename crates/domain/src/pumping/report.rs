use std::collections::BTreeMap;

use super::{HeldCodes, TracedCode};
use crate::Country;
use crate::spending::Money;

/// What went out and came back, by country and provider.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    rows: BTreeMap<(Option<Country>, Option<String>), Row>,
}

/// What went to one country by one provider. What was held back went by none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Row {
    /// Codes that were sent.
    pub sent: u64,
    /// Those of them that came back.
    pub confirmed: u64,
    /// What the sent ones cost.
    pub cost: Money,
    /// Requests for codes that were held back, of which one client may have made many.
    pub held_back: u64,
    /// Requests that would have been held back if the guard had not only observed. Their codes are among those that were sent, too.
    pub objected_to: u64,
    /// What those that were held back would have cost, had each got a code.
    pub spared: Money,
}

impl Report {
    /// Counts a code. One that was never to be sent is not counted.
    pub fn sent(&mut self, code: &TracedCode) {
        let Some(price) = code.sent.price else { return };
        let row = self.rows.entry((code.sent.traffic.country, code.provider.clone())).or_default();
        row.sent += 1;
        row.confirmed += u64::from(code.confirmed_at.is_some());
        row.cost = row.cost.plus(price);
    }

    /// Counts what was held back.
    pub fn held(&mut self, held: &HeldCodes) {
        let row = self.rows.entry((held.traffic.country, None)).or_default();
        if held.enforced {
            row.held_back += u64::from(held.count);
            row.spared = row.spared.plus(held.price.times(held.count));
        } else {
            row.objected_to += u64::from(held.count);
        }
    }

    /// By country and provider; no country first, and no provider first: of what was held back, and of what has not left or left too
    /// long ago.
    pub fn rows(&self) -> impl Iterator<Item = (Option<Country>, Option<&str>, &Row)> {
        self.rows.iter().map(|((country, provider), row)| (*country, provider.as_deref(), row))
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Row {
        self.rows.values().fold(Row::default(), |total, row| Row {
            sent: total.sent + row.sent,
            confirmed: total.confirmed + row.confirmed,
            cost: total.cost.plus(row.cost),
            held_back: total.held_back + row.held_back,
            objected_to: total.objected_to + row.objected_to,
            spared: total.spared.plus(row.spared),
        })
    }
}
