//! A new password for who has forgotten the old one, but holds the phone.
//!
//! A request sends a code; the code allows to set a password. Requests are kept, counted and refused in the same way for
//! numbers without an account, whose codes are never sent and match nothing.
//!
//! A reset that was made remembers what it was made with, so that its client may repeat it. A repeat proves no more than the reset did: it
//! needs the code, the origin and the very password.

use std::time::Duration;

use time::UtcDateTime;

use crate::registration::{ConfirmRefusal, Outgoing, ResendRefusal, Rules};
use crate::verification::{Attempt, Guess, Ledger, NoCodes, guess, is_first_guess};
use crate::{
    AttemptId, Claim, Content, Generation, OneTimeCode, OneTimeCodes, Origin, PhoneNumber, SessionId,
};

/// How long a repeat of a reset is answered with tokens: the client lost the answer, or asked twice at once.
pub const REPEAT_WINDOW: Duration = Duration::from_mins(10);

/// The requests of one phone for a new password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordReset {
    ledger: Ledger<()>,
    finished: Option<Finished>,
}

/// The last reset that was made; a repeat of it is answered with tokens for the same session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The request whose code it was.
    pub attempt: AttemptId,
    /// Which of its codes.
    pub generation: Generation,
    /// Where it came from.
    pub origin: Origin,
    /// The session that it opened.
    pub session: SessionId,
    /// When the password was set, by which that is found.
    pub set_at: UtcDateTime,
    /// Repeats with another password so far.
    pub wrong_repeats: u32,
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
    /// It is right. Save `kept` before telling so, or what spending the code leaves together with the new password.
    Right {
        /// The state that leaves the code as good as it was.
        kept: PasswordReset,
        /// The code, to be spent.
        code: RightCode,
    },
    /// No.
    Refused {
        /// The state to save before answering, if a guess was spent.
        spent: Option<PasswordReset>,
        /// Why.
        refusal: ConfirmRefusal,
    },
}

/// A code that was right.
#[derive(Debug)]
pub struct RightCode {
    ledger: Ledger<()>,
    attempt: AttemptId,
    generation: Generation,
    origin: Origin,
}

impl RightCode {
    /// The state without any request, after a password was set and the session opened.
    #[must_use]
    pub fn spend(self, session: SessionId, set_at: UtcDateTime) -> PasswordReset {
        let Self { ledger, attempt, generation, origin } = self;
        let finished = Finished { attempt, generation, origin, session, set_at, wrong_repeats: 0 };
        PasswordReset { ledger: Ledger { attempts: Vec::new(), ..ledger }, finished: Some(finished) }
    }
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
        let Self { mut ledger, finished } =
            current.unwrap_or_else(|| Self { ledger: Ledger::new(phone), finished: None });
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
        Ok(Requested { reset: Self { ledger, finished }, message })
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
        let Self { ledger, finished } = self;
        match guess(ledger, code, &claim, codes, rules, now) {
            Guess::Refused(refusal) => Checked::Refused { spent: None, refusal },
            Guess::Wrong(ledger, refusal) => {
                Checked::Refused { spent: Some(Self { ledger, finished }), refusal }
            }
            Guess::Right(ledger, Attempt { id, generation, .. }) => {
                Checked::Right { kept, code: RightCode { ledger, attempt: id, generation, origin: *origin } }
            }
        }
    }

    /// The reset that the code was spent on, if it comes from the same origin once more, in time, and repeats are left. Nothing may be told of it
    /// before the password is compared, too: a wrong one goes on record as [`repeated_wrongly`](Self::repeated_wrongly), and a right one is told over
    /// the version that was loaded.
    #[must_use]
    pub fn repeated(
        &self,
        owner: Owner,
        code: Option<&OneTimeCode>,
        origin: &Origin,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Option<Finished> {
        let may_be_repeated = |finished: &Finished| {
            owner == Owner::Account
                && finished.origin.is_same(origin)
                && now < finished.set_at + REPEAT_WINDOW
                && finished.wrong_repeats < rules.code_guesses
        };
        let finished = self.finished.filter(may_be_repeated)?;
        let fits = |code: &&OneTimeCode| codes.matches(finished.attempt, finished.generation, code);
        code.filter(fits).map(|_| finished)
    }

    /// After a repeat with another password.
    #[must_use]
    pub fn repeated_wrongly(mut self) -> Self {
        if let Some(finished) = &mut self.finished {
            finished.wrong_repeats = finished.wrong_repeats.saturating_add(1);
        }
        self
    }

    /// The number.
    #[must_use]
    pub const fn phone(&self) -> &PhoneNumber {
        &self.ledger.phone
    }

    /// When nothing of it matters any more and storage may forget it.
    #[must_use]
    pub fn forget_at(&self) -> UtcDateTime {
        let repeat = self.finished.map(|finished| finished.set_at + REPEAT_WINDOW);
        self.ledger.forget_at().chain(repeat).max().unwrap_or(UtcDateTime::UNIX_EPOCH)
    }

    /// What storage keeps.
    #[must_use]
    pub fn record(self) -> ResetRecord {
        let Self { ledger, finished } = self;
        let Ledger { phone, attempts, attempts_full_at, guesses_full_at } = ledger;
        ResetRecord { phone, attempts, requests_full_at: attempts_full_at, guesses_full_at, finished }
    }

    /// The reset that a record was made of. The record is believed.
    #[must_use]
    pub fn restore(record: ResetRecord) -> Self {
        let ResetRecord { phone, attempts, requests_full_at, guesses_full_at, finished } = record;
        let ledger = Ledger { phone, attempts, attempts_full_at: requests_full_at, guesses_full_at };
        Self { ledger, finished }
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
    /// The last reset that was made.
    pub finished: Option<Finished>,
}

fn message(attempt: &Attempt<()>) -> Outgoing {
    let content = Content::ResetCode { attempt: attempt.id, generation: attempt.generation };
    Outgoing { content, expires_at: attempt.expires_at }
}

#[cfg(test)]
mod tests {
    use time::macros::utc_datetime;
    use uuid::Uuid;

    use super::*;
    use crate::quota::Quota;
    use crate::{ClientAddress, Fingerprint};

    const NOW: UtcDateTime = utc_datetime!(2026-11-30 12:00);
    const DAY: Duration = Duration::from_hours(24);
    const RULES: Rules = Rules {
        code_ttl: Duration::from_mins(10),
        code_guesses: 2,
        resend_cooldown: Duration::from_mins(1),
        max_messages: 5,
        sign_ups: Quota { burst: 10, period: DAY },
        guesses: Quota { burst: 30, period: DAY },
        places: 20,
    };

    /// The code of an attempt is its number and its generation.
    struct Numbered;

    impl OneTimeCodes for Numbered {
        fn code(&self, attempt: AttemptId, generation: Generation) -> OneTimeCode {
            code(attempt.uuid().as_u128(), generation)
        }

        fn matches(&self, attempt: AttemptId, generation: Generation, candidate: &OneTimeCode) -> bool {
            self.code(attempt, generation).expose() == candidate.expose()
        }
    }

    fn code(attempt: u128, generation: Generation) -> OneTimeCode {
        OneTimeCode::parse(&format!("{attempt:03}{generation:03}")).unwrap()
    }

    fn origin(device: &str) -> Origin {
        Origin { fingerprint: Fingerprint::of(device), address: ClientAddress::of([192, 0, 2, 1].into()) }
    }

    fn requested(current: Option<PasswordReset>, attempt: u128, now: UtcDateTime) -> PasswordReset {
        let phone = PhoneNumber::restore("+447871234567").unwrap();
        let attempt = AttemptId::new(Uuid::from_u128(attempt));
        let request = Request { attempt, phone, origin: origin("phone") };
        PasswordReset::request(current, Owner::Account, request, &Numbered, &RULES, now).unwrap().reset
    }

    fn made() -> PasswordReset {
        let reset = requested(None, 7, NOW);
        let checked =
            reset.check(Owner::Account, Some(&code(7, 0)), &origin("phone"), &Numbered, &RULES, NOW);
        let Checked::Right { code, .. } = checked else { panic!("{checked:?}") };
        code.spend(SessionId::new(Uuid::from_u128(9)), NOW)
    }

    fn repeated(
        reset: &PasswordReset,
        owner: Owner,
        code: &OneTimeCode,
        device: &str,
        now: UtcDateTime,
    ) -> Option<SessionId> {
        let finished = reset.repeated(owner, Some(code), &origin(device), &Numbered, &RULES, now);
        finished.map(|finished| finished.session)
    }

    #[test]
    fn a_repeat_needs_the_code_the_origin_and_the_account_in_time() {
        let (reset, last) = (made(), NOW + REPEAT_WINDOW - Duration::from_millis(1));
        let session = SessionId::new(Uuid::from_u128(9));
        assert_eq!(repeated(&reset, Owner::Account, &code(7, 0), "phone", last), Some(session));
        for (owner, code, device, now) in [
            (Owner::Nobody, code(7, 0), "phone", NOW),
            (Owner::Account, code(7, 1), "phone", NOW),
            (Owner::Account, code(8, 0), "phone", NOW),
            (Owner::Account, code(7, 0), "tablet", NOW),
            (Owner::Account, code(7, 0), "", NOW),
            (Owner::Account, code(7, 0), "phone", NOW + REPEAT_WINDOW),
        ] {
            assert_eq!(repeated(&reset, owner, &code, device, now), None, "{owner:?} {device} {now}");
        }
        assert_eq!(reset.repeated(Owner::Account, None, &origin("phone"), &Numbered, &RULES, NOW), None);
    }

    #[test]
    fn a_repeat_with_another_password_bears_as_many_as_a_code_bears_guesses() {
        let once = made().repeated_wrongly();
        assert!(repeated(&once, Owner::Account, &code(7, 0), "phone", NOW).is_some());
        let twice = once.repeated_wrongly();
        assert_eq!(repeated(&twice, Owner::Account, &code(7, 0), "phone", NOW), None);
    }

    #[test]
    fn what_was_made_is_remembered_whatever_comes_after_it() {
        let later = NOW + Duration::from_mins(2);
        let again = requested(Some(made()), 8, later);
        assert!(repeated(&again, Owner::Account, &code(7, 0), "phone", later).is_some());
        let wrong =
            again.check(Owner::Account, Some(&code(1, 0)), &origin("phone"), &Numbered, &RULES, later);
        let Checked::Refused { spent: Some(spent), .. } = wrong else { panic!("{wrong:?}") };
        assert!(repeated(&spent, Owner::Account, &code(7, 0), "phone", later).is_some());
        let empty = ResetRecord { requests_full_at: None, guesses_full_at: None, ..made().record() };
        assert_eq!(PasswordReset::restore(empty).forget_at(), NOW + REPEAT_WINDOW);
    }
}
