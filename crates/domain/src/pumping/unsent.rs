//! Codes that were never sent, since no provider worked for as long as they lived.

use time::UtcDateTime;

use super::{CODES_PER_NUMBER, Part, PumpingGuard, SentCode, tally};
use crate::limits::{Tally, Unit};

impl PumpingGuard {
    /// What changes when it turns out that a code was never sent: what it took is returned, and no more.
    #[must_use]
    pub fn unsent(&self, code: &SentCode, now: UtcDateTime) -> Vec<Tally> {
        let sent_before = match code.range_unit {
            Unit::Taken => 0,
            Unit::Kept => CODES_PER_NUMBER,
        };
        let charges = self.charges(&code.traffic, code.part, sent_before, now).into_iter();
        charges.filter(|charge| charge.unit == Unit::Taken).map(|charge| tally(charge, 0, 100)).collect()
    }
}

impl Part {
    const ALL: [Self; 3] = [Self::Shared, Self::Reserve, Self::Neither];

    /// The name in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Reserve => "reserve",
            Self::Neither => "neither",
        }
    }

    /// The part of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use time::macros::utc_datetime;
    use uuid::Uuid;

    use super::super::{Mode, Traffic, unit_of_range};
    use super::*;
    use crate::limits::Limit;
    use crate::{AttemptId, ClientAddress, MessageId, PhoneNumber};

    const NOW: UtcDateTime = utc_datetime!(2026-11-30 12:00);

    fn guard(mode: Mode) -> PumpingGuard {
        PumpingGuard { mode, ..PumpingGuard::default() }
    }

    fn code(part: Part, range_unit: Unit) -> SentCode {
        let number = PhoneNumber::restore("+447871231234").unwrap();
        SentCode {
            message: MessageId::new(Uuid::nil()),
            attempt: AttemptId::new(Uuid::nil()),
            traffic: Traffic::new(&number, ClientAddress::of([203, 0, 113, 7].into())),
            price: None,
            part,
            range_unit,
            at: NOW,
        }
    }

    #[test]
    fn parts_have_names() {
        for part in Part::ALL {
            assert_eq!(Part::parse(part.as_str()), Some(part));
        }
        assert_eq!(Part::parse("both"), None);
    }

    /// What a code took, and that it leaves budgets as they were once that is returned.
    fn taken_and_returned(mode: Mode, part: Part, sent_before: u32) -> usize {
        let guard = guard(mode);
        let code = code(part, unit_of_range(sent_before));
        // Others have used as much as all share.
        let mut full_at: HashMap<Limit, _> = guard
            .charges(&code.traffic, Part::Reserve, 0, NOW)
            .iter()
            .map(|of| {
                (of.limit, NOW + of.quota.unit() * guard.unconfirmed(of.limit.scope).min(of.quota.burst - 1))
            })
            .collect();
        let before = full_at.clone();
        let taken = guard.sent(&code.traffic, part, sent_before, NOW);
        let returned = guard.unsent(&code, NOW);
        for tally in taken.iter().chain(&returned) {
            full_at.entry(tally.limit).and_modify(|at| *at = tally.apply(Some(*at)));
        }
        assert_eq!(full_at, before, "{mode:?} {part:?} {sent_before}");
        assert_eq!(taken.len(), returned.len());
        returned.len()
    }

    #[test]
    fn a_code_that_was_never_sent_leaves_budgets_as_if_it_had_not_been_asked_for() {
        for mode in [Mode::Observe, Mode::Enforce] {
            let returned = |part| [0, CODES_PER_NUMBER].map(|before| taken_and_returned(mode, part, before));
            assert_eq!(returned(Part::Shared), [3, 2]);
            assert_eq!(returned(Part::Reserve), [4, 3]);
            assert_eq!(returned(Part::Neither), [0, 0]);
        }
        assert_eq!(taken_and_returned(Mode::Off, Part::Shared, 0), 0);
    }
}
