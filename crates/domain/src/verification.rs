//! One-time codes in the hands of somebody: the requests that there are for one phone, each with its own code, messages and
//! guesses. A sign-up and a password reset are both made of this.

mod attempt;
mod guess;
mod repeat;

use std::time::Duration;

use time::UtcDateTime;

pub use attempt::{Attempt, MAX_LIVE_ATTEMPTS, OPEN_FOR};
pub(crate) use attempt::{Ledger, MessageRefusal};
pub(crate) use guess::{Guess, NoCodes, guess, is_first_guess};

/// How long from `now` until `then`; nothing when that is past.
pub(crate) fn wait(now: UtcDateTime, then: UtcDateTime) -> Duration {
    (then - now).try_into().unwrap_or(Duration::ZERO)
}
