//! Codes that were never sent, since no provider worked for as long as they lived.

use time::UtcDateTime;

use super::{CODES_PER_NUMBER, Part, PumpingGuard, SentCode};
use crate::limits::{Tally, Unit};

impl PumpingGuard {
    /// What changes when it turns out that a code was never sent: what it took of the budgets of its range, block and country is returned. So it is where a guard
    /// that only observes had an objection, and took nothing.
    #[must_use]
    pub fn unsent(&self, code: &SentCode, now: UtcDateTime) -> Vec<Tally> {
        let sent_before = match code.range_unit {
            Unit::Taken => 0,
            Unit::Kept => CODES_PER_NUMBER,
        };
        let charges = self.charges(&code.traffic, Part::Shared, sent_before, now).into_iter();
        charges.filter(|charge| charge.unit == Unit::Taken).map(|charge| self.tally(charge, 0, 100)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use time::macros::utc_datetime;
    use uuid::Uuid;

    use super::super::{Mode, Traffic};
    use super::*;
    use crate::limits::Limit;
    use crate::{AttemptId, ClientAddress, MessageId, PhoneNumber};

    const NOW: UtcDateTime = utc_datetime!(2026-11-30 12:00);

    fn guard(mode: Mode) -> PumpingGuard {
        PumpingGuard { mode, ..PumpingGuard::default() }
    }

    fn code(range_unit: Unit) -> SentCode {
        let number = PhoneNumber::restore("+447871231234").unwrap();
        SentCode {
            message: MessageId::new(Uuid::nil()),
            attempt: AttemptId::new(Uuid::nil()),
            traffic: Traffic::new(&number, ClientAddress::of([203, 0, 113, 7].into())),
            price: None,
            range_unit,
            at: NOW,
        }
    }

    #[test]
    fn a_code_that_was_never_sent_leaves_budgets_as_if_it_had_not_been_asked_for() {
        for (sent_before, range_unit, budgets) in [(0, Unit::Taken, 3), (CODES_PER_NUMBER, Unit::Kept, 2)] {
            for mode in [Mode::Observe, Mode::Enforce] {
                let guard = guard(mode);
                let code = code(range_unit);
                // Others have used some of it.
                let mut full_at: HashMap<Limit, _> = guard
                    .charges(&code.traffic, Part::Shared, 0, NOW)
                    .iter()
                    .map(|of| (of.limit, NOW + of.quota.unit() * 4))
                    .collect();
                let before = full_at.clone();
                let mut apply = |tallies: Vec<Tally>| {
                    assert_eq!(tallies.len(), budgets);
                    for tally in tallies {
                        full_at.entry(tally.limit).and_modify(|at| *at = tally.apply(Some(*at)));
                    }
                    full_at.clone()
                };
                assert_ne!(apply(guard.sent(&code.traffic, Part::Shared, sent_before, NOW)), before);
                assert_eq!(apply(guard.unsent(&code, NOW)), before, "{mode:?} {range_unit:?}");
            }
        }
        assert_eq!(guard(Mode::Off).unsent(&code(Unit::Taken), NOW), []);
    }
}
