//! A new password for who has forgotten the old one, but holds the phone.
//!
//! A request sends a code; the code allows to set a password. Requests are kept, counted and refused in the same way for
//! numbers without an account, whose codes are never sent and match nothing.

use time::UtcDateTime;

use crate::registration::{ConfirmRefusal, Outgoing, ResendRefusal, Rules};
use crate::verification::{Attempt, Guess, Ledger, NoCodes, guess, is_first_guess};
use crate::{AttemptId, Claim, Content, OneTimeCode, OneTimeCodes, Origin, PhoneNumber};

/// The requests of one phone for a new password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordReset {
    ledger: Ledger<()>,
}

/// Whether there is an account whose password can be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// There is.
    Account,
    /// There is none, which must not be told.
    Nobody,
}

/// A wish for a new password.
#[derive(Debug, Clone)]
pub struct Request {
    /// A fresh identifier.
    pub attempt: AttemptId,
    /// The number.
    pub phone: PhoneNumber,
    /// Where it comes from.
    pub origin: Origin,
}

/// A recorded request, to be saved with its message.
#[derive(Debug)]
#[must_use = "a request counts once it is saved, together with its message"]
pub struct Requested {
    /// The state to save.
    pub reset: PasswordReset,
    /// The message to queue with it, which has expired already where there is no account.
    pub message: Outgoing,
}

/// What comparing a code led to.
#[derive(Debug)]
#[must_use = "no outcome may be told before it is saved"]
pub enum Checked {
    /// It is right. Save `kept` before telling so, or `spent` together with the new password.
    Right {
        /// The state that leaves the code as good as it was.
        kept: PasswordReset,
        /// The state without any request.
        spent: PasswordReset,
    },
    /// No.
    Refused {
        /// The state to save before answering, if a guess was spent.
        spent: Option<PasswordReset>,
        /// Why.
        refusal: ConfirmRefusal,
    },
}

impl PasswordReset {
    /// Records a request: the same code once more while it lives, from the same origin; else a new one.
    ///
    /// # Errors
    /// [`ResendRefusal`], never for want of a request; nothing needs to be saved then.
    pub fn request(
        current: Option<Self>,
        owner: Owner,
        request: Request,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<Requested, ResendRefusal> {
        let Request { attempt, phone, origin } = request;
        let mut ledger = current.map_or_else(|| Ledger::new(phone), |reset| reset.ledger);
        let claim = Claim { attempt: None, origin };
        ledger.close_old(now);
        let message = if ledger.newest_claimed(&claim, now).is_some() {
            message(ledger.repeat(&claim, codes, rules, now)?)
        } else {
            let too_many = |retry_after| ResendRefusal::TooMany { retry_after };
            let full_at = ledger.charge_attempt(&origin, rules, now).map_err(too_many)?;
            ledger.admit_live(&origin, rules, now).map_err(too_many)?;
            ledger.attempts_full_at = full_at;
            let attempt = ledger.distinct(Attempt::begin(attempt, (), origin, rules, now), codes, now);
            let message = message(&attempt);
            ledger.attempts.push(attempt);
            message
        };
        let message = match owner {
            Owner::Account => message,
            Owner::Nobody => message.unsent(),
        };
        Ok(Requested { reset: Self { ledger }, message })
    }

    /// Whether the next guess from the origin is the first at each code that it reaches, see [`Registration::is_first_guess`](crate::registration::Registration::is_first_guess).
    #[must_use]
    pub fn is_first_guess(&self, origin: &Origin, now: UtcDateTime) -> bool {
        is_first_guess(&self.ledger, &Claim { attempt: None, origin: *origin }, now)
    }

    /// Compares a code with those that were sent.
    pub fn check(
        self,
        owner: Owner,
        code: Option<&OneTimeCode>,
        origin: &Origin,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Checked {
        let claim = Claim { attempt: None, origin: *origin };
        let unsent = NoCodes(codes);
        let codes: &dyn OneTimeCodes = match owner {
            Owner::Account => codes,
            Owner::Nobody => &unsent,
        };
        let kept = self.clone();
        match guess(self.ledger, code, &claim, codes, rules, now) {
            Guess::Refused(refusal) => Checked::Refused { spent: None, refusal },
            Guess::Wrong(ledger, refusal) => Checked::Refused { spent: Some(Self { ledger }), refusal },
            Guess::Right(ledger, _) => {
                Checked::Right { kept, spent: Self { ledger: Ledger { attempts: Vec::new(), ..ledger } } }
            }
        }
    }

    /// The number.
    #[must_use]
    pub const fn phone(&self) -> &PhoneNumber {
        &self.ledger.phone
    }

    /// When nothing of it matters any more and storage may forget it.
    #[must_use]
    pub fn forget_at(&self) -> UtcDateTime {
        self.ledger.forget_at().max().unwrap_or(UtcDateTime::UNIX_EPOCH)
    }

    /// What storage keeps.
    #[must_use]
    pub fn record(self) -> ResetRecord {
        let Ledger { phone, attempts, attempts_full_at, guesses_full_at } = self.ledger;
        ResetRecord { phone, attempts, requests_full_at: attempts_full_at, guesses_full_at }
    }

    /// The reset that a record was made of. The record is believed.
    #[must_use]
    pub fn restore(record: ResetRecord) -> Self {
        let ResetRecord { phone, attempts, requests_full_at, guesses_full_at } = record;
        Self { ledger: Ledger { phone, attempts, attempts_full_at: requests_full_at, guesses_full_at } }
    }
}

/// A [`PasswordReset`] with its content laid open, for storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetRecord {
    /// The number.
    pub phone: PhoneNumber,
    /// Its requests, oldest first.
    pub attempts: Vec<Attempt<()>>,
    /// When its budget of requests is full again, see [`quota`](crate::quota).
    pub requests_full_at: Option<UtcDateTime>,
    /// When its budget of guesses is full again.
    pub guesses_full_at: Option<UtcDateTime>,
}

fn message(attempt: &Attempt<()>) -> Outgoing {
    let content = Content::ResetCode { attempt: attempt.id, generation: attempt.generation };
    Outgoing { content, expires_at: attempt.expires_at }
}
