use std::time::Duration;

use time::UtcDateTime;

use super::attempt::{Attempt, Ledger, MessageRefusal};
use super::{Outgoing, Pending, Registration, Rules};
use crate::{AttemptId, Claim, OneTimeCodes};

/// A wish for another message.
#[derive(Debug, Clone, Copy)]
pub struct Resend {
    /// Whose attempt is meant.
    pub claim: Claim,
}

/// A recorded resend, to be saved with its message.
#[derive(Debug)]
#[must_use = "a resend counts once it is saved, together with its message"]
pub struct Resent {
    /// The state to save.
    pub registration: Registration,
    /// The message to queue with it; none for a concealed number.
    pub message: Option<Outgoing>,
}

/// Why nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResendRefusal {
    /// Nobody is signing up with this number.
    #[error("no registration is pending")]
    NotFound,
    /// The last message is too recent.
    #[error("the last message is too recent")]
    CoolDown {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Too many messages for this registration, too many living codes, or the day's guesses are used up.
    #[error("too many messages")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
}

impl Registration {
    /// Repeats the code of the claimed attempt, or makes a new one if that has expired or is exhausted.
    ///
    /// Without a `registrationId` the newest attempt of the claim's origin is meant; where there is none, the newest of all, since a
    /// client without a fingerprint may have changed networks, and the message goes to the number's owner anyway.
    ///
    /// # Errors
    /// [`ResendRefusal`]; nothing needs to be saved then.
    pub fn resend(
        mut self,
        resend: &Resend,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<Resent, ResendRefusal> {
        let (ledger, concealed) = match &mut self {
            Self::Confirmed(_) => return Err(ResendRefusal::NotFound),
            Self::Pending(pending) => (&mut pending.ledger, false),
            Self::Concealed(concealed) => (&mut concealed.ledger, true),
        };
        ledger.close_old(now);
        let chosen = choose(ledger, &resend.claim, now).ok_or(ResendRefusal::NotFound)?.clone();
        ledger.admit_message(&chosen.origin, rules, now).map_err(|refusal| match refusal {
            MessageRefusal::CoolDown(retry_after) => ResendRefusal::CoolDown { retry_after },
            MessageRefusal::TooMany(retry_after) => ResendRefusal::TooMany { retry_after },
        })?;
        let repeated =
            Attempt { messages: chosen.messages.saturating_add(1), last_message_at: now, ..chosen };
        let attempt = if repeated.is_live(now) && repeated.guesses_left(rules) > 0 {
            repeated
        } else {
            renew(repeated, ledger, codes, rules, now)?
        };
        let message = attempt.message();
        replace(ledger, attempt);
        Ok(Resent { registration: self, message: (!concealed).then_some(message) })
    }

    /// The attempt that a resend means, provided that the claim proves it to be the caller's own: who knows no more than a number must not
    /// learn of somebody else's messages. A concealed number has no messages.
    #[must_use]
    pub fn claimed_attempt(&self, claim: &Claim, now: UtcDateTime) -> Option<AttemptId> {
        match self {
            Self::Pending(Pending { ledger }) => claimed(ledger, claim, now).map(|attempt| attempt.id),
            Self::Confirmed(_) | Self::Concealed(_) => None,
        }
    }
}

fn choose<'a>(ledger: &'a Ledger, claim: &Claim, now: UtcDateTime) -> Option<&'a Attempt> {
    match claim.attempt {
        Some(_) => claimed(ledger, claim, now),
        None => claimed(ledger, claim, now).or_else(|| newest(ledger.open(now))),
    }
}

fn claimed<'a>(ledger: &'a Ledger, claim: &Claim, now: UtcDateTime) -> Option<&'a Attempt> {
    newest(ledger.open(now).filter(|attempt| attempt.is_claimed_by(claim)))
}

fn newest<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Option<&'a Attempt> {
    attempts.max_by_key(|attempt| attempt.created_at)
}

/// The attempt with a new code and new guesses.
fn renew(
    attempt: Attempt,
    ledger: &Ledger,
    codes: &dyn OneTimeCodes,
    rules: &Rules,
    now: UtcDateTime,
) -> Result<Attempt, ResendRefusal> {
    let too_many = |retry_after| ResendRefusal::TooMany { retry_after };
    if !attempt.is_live(now) {
        ledger.admit_live(now).map_err(too_many)?;
    }
    // A code that nobody may guess at would only cost a message.
    rules.guesses.charge(ledger.guesses_full_at, now).map_err(too_many)?;
    let generation = ledger.distinct_generation(attempt.id, attempt.generation.saturating_add(1), codes, now);
    Ok(Attempt { generation, expires_at: now + rules.code_ttl, guesses: 0, ..attempt })
}

fn replace(ledger: &mut Ledger, attempt: Attempt) {
    let id: AttemptId = attempt.id;
    if let Some(slot) = ledger.attempts.iter_mut().find(|slot| slot.id == id) {
        *slot = attempt;
    }
}
