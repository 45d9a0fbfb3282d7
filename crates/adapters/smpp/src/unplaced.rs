//! The receipts that found no message, by the SMSC's id.
//!
//! A receipt may overtake the record of its message, or come while storage is away, so the SMSC is asked to say it
//! again. One whose message is not ours will never find it, and some SMSCs send nothing else before it is taken: after a
//! while it is taken and dropped.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long after its first refusal a receipt is still asked for again.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many ids are remembered. A receipt that finds no room is dropped: if others made room for it, then with more
/// ids going round than there is room for none would ever have had its while.
const MAX_REMEMBERED: usize = 8192;
/// After how long an id makes room: by then the SMSC has given up as well.
const FORGOTTEN: Duration = Duration::from_hours(1);

/// What is remembered of them.
#[derive(Default)]
pub(crate) struct Unplaced {
    receipts: HashMap<String, Refused>,
}

struct Refused {
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
    /// It is dropped at once, since too many are asked for again.
    NoRoom,
}

impl Unplaced {
    /// A receipt with this id found no message.
    pub(crate) fn refuse(&mut self, id: String, now: Instant) -> Verdict {
        let age = |refused: &Refused| now.saturating_duration_since(refused.first_at);
        if let Some(refused) = self.receipts.get_mut(&id) {
            if age(refused) < PATIENCE {
                return Verdict::AskAgain;
            }
            let was_given_up = std::mem::replace(&mut refused.is_given_up, true);
            return if was_given_up { Verdict::GivenUpBefore } else { Verdict::GiveUp };
        }
        if self.receipts.len() >= MAX_REMEMBERED {
            // One that was taken does not come again.
            self.receipts.retain(|_, refused| !refused.is_given_up && age(refused) < FORGOTTEN);
        }
        if self.receipts.len() >= MAX_REMEMBERED {
            return Verdict::NoRoom;
        }
        self.receipts.insert(id, Refused { first_at: now, is_given_up: false });
        Verdict::AskAgain
    }

    /// A receipt with this id found its message.
    pub(crate) fn place(&mut self, id: &str) {
        self.receipts.remove(id);
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

    /// As many as there is room for.
    fn full(start: Instant) -> Unplaced {
        let mut unplaced = Unplaced::default();
        for id in 0..MAX_REMEMBERED {
            assert_eq!(refuse(&mut unplaced, &id.to_string(), start), Verdict::AskAgain);
        }
        unplaced
    }

    #[test]
    fn each_is_given_up_at_last_however_many_go_round() {
        let start = Instant::now();
        let mut unplaced = full(start);
        for round in 0..2 {
            let now = start + round * SECOND;
            assert_eq!(refuse(&mut unplaced, "one more", now), Verdict::NoRoom);
            assert_eq!(refuse(&mut unplaced, "0", now), Verdict::AskAgain);
        }
        for id in 0..MAX_REMEMBERED {
            assert_eq!(refuse(&mut unplaced, &id.to_string(), start + PATIENCE), Verdict::GiveUp);
        }
        assert_eq!(refuse(&mut unplaced, "one more", start + PATIENCE), Verdict::AskAgain);
        assert_eq!(unplaced.receipts.len(), 1);
    }

    #[test]
    fn one_that_did_not_come_again_makes_room_at_last() {
        let start = Instant::now();
        let mut unplaced = full(start);
        assert_eq!(refuse(&mut unplaced, "one more", start + FORGOTTEN - SECOND), Verdict::NoRoom);
        assert_eq!(refuse(&mut unplaced, "one more", start + FORGOTTEN), Verdict::AskAgain);
    }
}
