//! The receipts that found no message, by the SMSC's id.
//!
//! A receipt may overtake the record of its message, or come while storage is away, so the SMSC is asked to say it
//! again. One whose message is not ours will never find it, and some SMSCs send nothing else before it is taken: after a
//! while it is taken and dropped.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long after its first refusal a receipt is still asked for again.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many ids are remembered. The oldest is forgotten for another one, and begins anew.
const MAX_REMEMBERED: usize = 1024;

/// What is remembered of them.
#[derive(Default)]
pub(crate) struct Unplaced {
    /// In the order of their first refusals.
    receipts: VecDeque<Refused>,
}

struct Refused {
    id: String,
    first_at: Instant,
    is_given_up: bool,
}

/// What becomes of a receipt that found no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The SMSC shall say it again.
    AskAgain,
    /// It is dropped.
    GiveUp,
    /// It is dropped, and another of the same id was before.
    GivenUpBefore,
}

impl Unplaced {
    /// A receipt with this id found no message.
    pub(crate) fn refuse(&mut self, id: String, now: Instant) -> Verdict {
        let Some(refused) = self.receipts.iter_mut().find(|refused| refused.id == id) else {
            if self.receipts.len() >= MAX_REMEMBERED {
                self.receipts.pop_front();
            }
            self.receipts.push_back(Refused { id, first_at: now, is_given_up: false });
            return Verdict::AskAgain;
        };
        if now.saturating_duration_since(refused.first_at) < PATIENCE {
            return Verdict::AskAgain;
        }
        let was_given_up = std::mem::replace(&mut refused.is_given_up, true);
        if was_given_up { Verdict::GivenUpBefore } else { Verdict::GiveUp }
    }

    /// A receipt with this id found its message.
    pub(crate) fn place(&mut self, id: &str) {
        self.receipts.retain(|refused| refused.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refuse(unplaced: &mut Unplaced, id: &str, now: Instant) -> Verdict {
        unplaced.refuse(id.to_owned(), now)
    }

    #[test]
    fn a_receipt_is_asked_for_again_for_a_minute() {
        let (mut unplaced, start) = (Unplaced::default(), Instant::now());
        for seconds in [0, 1, 59] {
            assert_eq!(refuse(&mut unplaced, "7", start + seconds * SECOND), Verdict::AskAgain);
        }
        // Each id has a minute of its own.
        assert_eq!(refuse(&mut unplaced, "8", start + 30 * SECOND), Verdict::AskAgain);
        assert_eq!(refuse(&mut unplaced, "7", start + PATIENCE), Verdict::GiveUp);
        assert_eq!(refuse(&mut unplaced, "7", start + PATIENCE), Verdict::GivenUpBefore);
        assert_eq!(refuse(&mut unplaced, "8", start + PATIENCE), Verdict::AskAgain);
        assert_eq!(refuse(&mut unplaced, "8", start + 90 * SECOND), Verdict::GiveUp);
    }

    #[test]
    fn one_that_finds_its_message_is_forgotten() {
        let (mut unplaced, start) = (Unplaced::default(), Instant::now());
        refuse(&mut unplaced, "7", start);
        refuse(&mut unplaced, "8", start);
        unplaced.place("7");
        assert_eq!(refuse(&mut unplaced, "7", start + PATIENCE), Verdict::AskAgain);
        assert_eq!(refuse(&mut unplaced, "8", start + PATIENCE), Verdict::GiveUp);
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut unplaced, start) = (Unplaced::default(), Instant::now());
        for id in 0..=MAX_REMEMBERED {
            refuse(&mut unplaced, &id.to_string(), start);
        }
        assert_eq!(unplaced.receipts.len(), MAX_REMEMBERED);
        assert_eq!(refuse(&mut unplaced, "1", start + PATIENCE), Verdict::GiveUp);
        assert_eq!(refuse(&mut unplaced, "0", start + PATIENCE), Verdict::AskAgain);
        assert_eq!(unplaced.receipts.len(), MAX_REMEMBERED);
    }
}
