use std::time::Duration;

use time::UtcDateTime;

use super::attempt::{Attempt, Ledger, MessageRefusal};
use super::{Concealed, Confirmed, Opened, Pending, Registration, Rules, wait};
use crate::{Account, AttemptId, Claim, OneTimeCode, OneTimeCodes, PasswordHash, Session, SessionId, UserId};

/// How long a repeat of a confirmation is answered with tokens: the client lost the answer, or autofill submitted twice.
pub const REPEAT_WINDOW: Duration = Duration::from_mins(2);

/// A code that somebody typed.
#[derive(Debug)]
pub struct Confirm {
    /// What was typed; `None` if it cannot be a code at all, which is a wrong code like any other.
    pub code: Option<OneTimeCode>,
    /// Whose attempt it is for.
    pub claim: Claim,
    /// The account's identifier, should one be opened.
    pub user: UserId,
    /// The session's identifier, should one be opened.
    pub session: SessionId,
}

/// What a confirmation led to.
#[derive(Debug)]
#[must_use = "neither the account nor the guess counts until it is saved"]
pub enum Confirmation {
    /// The code was right: save the registration, the account with its password and the session in one commit.
    Opened {
        /// The state to save.
        registration: Registration,
        /// The new account.
        account: Box<Account>,
        /// The hash of its password.
        password: PasswordHash,
        /// The first session of the account.
        session: Session,
    },
    /// The same confirmation again: issue tokens for this account and session.
    Repeated {
        /// The account.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// No.
    Refused {
        /// The state to save before answering, if a guess was spent.
        spent: Option<Registration>,
        /// Why.
        refusal: ConfirmRefusal,
    },
}

/// Why a confirmation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmRefusal {
    /// Nobody is signing up with this number.
    #[error("no registration is pending")]
    NotFound,
    /// The code is not that of an attempt that the claim reaches.
    #[error("the code is wrong")]
    WrongCode {
        /// Guesses that are left on the code.
        attempts_left: u32,
    },
    /// The code's life is over.
    #[error("the code has expired")]
    Expired,
    /// No guesses are left on the code, or none for the phone today.
    #[error("no guesses are left")]
    Exhausted {
        /// When a new code can be asked for.
        retry_after: Duration,
    },
}

impl Registration {
    /// Compares a code with those of the attempts that the claim reaches, and opens the account if one fits.
    ///
    /// The claim reaches the attempt that its `registrationId` names; without one, the attempts of its own origin if it
    /// made any; else all living attempts, provided that they come from one origin. Each attempt that is compared bears the guess.
    pub fn confirm(
        self,
        confirm: &Confirm,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Confirmation {
        match self {
            Self::Pending(Pending { ledger }) => match guess(ledger, confirm, codes, rules, now) {
                Guess::Refused(refusal) => Confirmation::Refused { spent: None, refusal },
                Guess::Wrong(ledger, refusal) => {
                    Confirmation::Refused { spent: Some(Self::Pending(Pending { ledger })), refusal }
                }
                Guess::Right(ledger, attempt) => open(ledger, attempt, confirm, now),
            },
            Self::Confirmed(Confirmed { ledger, opened }) => match repeat(opened, confirm, codes, rules, now)
            {
                Ok(repeated) => repeated,
                Err(None) => Confirmation::Refused { spent: None, refusal: ConfirmRefusal::NotFound },
                Err(Some(opened)) => Confirmation::Refused {
                    spent: Some(Self::Confirmed(Confirmed { ledger, opened })),
                    refusal: ConfirmRefusal::NotFound,
                },
            },
            Self::Concealed(Concealed { ledger, opened, owner_told_at }) => {
                let opened = match opened.map(|opened| repeat(opened, confirm, codes, rules, now)) {
                    Some(Ok(repeated)) => return repeated,
                    Some(Err(Some(counted))) => Some(counted),
                    Some(Err(None)) | None => opened,
                };
                let (spent, refusal) = match guess(ledger, confirm, &NoCodes(codes), rules, now) {
                    Guess::Refused(refusal) => (None, refusal),
                    Guess::Wrong(ledger, refusal) => (Some(ledger), refusal),
                    // `NoCodes` matches nothing; were it otherwise, no account may come of it.
                    Guess::Right(ledger, _) => (Some(ledger), ConfirmRefusal::NotFound),
                };
                let spent = spent.map(|ledger| Self::Concealed(Concealed { ledger, opened, owner_told_at }));
                Confirmation::Refused { spent, refusal }
            }
        }
    }
}

enum Guess {
    Refused(ConfirmRefusal),
    Wrong(Ledger, ConfirmRefusal),
    Right(Ledger, Attempt),
}

/// Codes of attempts that were never told any: computed, so that the time is the same, and matching nothing.
struct NoCodes<'a>(&'a dyn OneTimeCodes);

impl OneTimeCodes for NoCodes<'_> {
    fn code(&self, attempt: AttemptId, generation: crate::Generation) -> OneTimeCode {
        self.0.code(attempt, generation)
    }

    fn matches(&self, attempt: AttemptId, generation: crate::Generation, candidate: &OneTimeCode) -> bool {
        std::hint::black_box(self.0.matches(attempt, generation, candidate));
        false
    }
}

fn guess(
    mut ledger: Ledger,
    confirm: &Confirm,
    codes: &dyn OneTimeCodes,
    rules: &Rules,
    now: UtcDateTime,
) -> Guess {
    let reached = match reach(&ledger, &confirm.claim, now) {
        Ok(reached) => reached,
        Err(Unreached::Nothing) => return Guess::Refused(ConfirmRefusal::NotFound),
        Err(Unreached::Expired) => return Guess::Refused(ConfirmRefusal::Expired),
        Err(Unreached::Foreign) => {
            let attempts_left = left(ledger.live(now), &ledger, rules, now);
            return Guess::Refused(ConfirmRefusal::WrongCode { attempts_left });
        }
    };
    let mut matched = None;
    let mut compared = Vec::with_capacity(reached.len());
    for attempt in ledger.attempts.iter_mut().filter(|attempt| reached.contains(&attempt.id)) {
        let Some(full_at) = (attempt.guesses_left(rules) > 0)
            .then(|| rules.guesses.charge(ledger.guesses_full_at, now).ok())
            .flatten()
        else {
            continue;
        };
        ledger.guesses_full_at = Some(full_at);
        attempt.guesses = attempt.guesses.saturating_add(1);
        compared.push(attempt.id);
        let fits =
            confirm.code.as_ref().is_some_and(|code| codes.matches(attempt.id, attempt.generation, code));
        if fits {
            matched = Some(attempt.clone());
        }
    }
    if let Some(attempt) = matched {
        return Guess::Right(ledger, attempt);
    }
    if compared.is_empty() {
        let retry_after = exhausted_for(&ledger, &reached, rules, now);
        return Guess::Refused(ConfirmRefusal::Exhausted { retry_after });
    }
    let of_compared = ledger.attempts.iter().filter(|attempt| compared.contains(&attempt.id));
    let attempts_left = left(of_compared, &ledger, rules, now);
    Guess::Wrong(ledger, ConfirmRefusal::WrongCode { attempts_left })
}

enum Unreached {
    /// There is no attempt to reach.
    Nothing,
    /// The attempts it could reach have no living code.
    Expired,
    /// The attempts are others'.
    Foreign,
}

/// The living attempts whose codes the claim may be compared with.
fn reach(ledger: &Ledger, claim: &Claim, now: UtcDateTime) -> Result<Vec<AttemptId>, Unreached> {
    if ledger.open(now).next().is_none() {
        return Err(Unreached::Nothing);
    }
    let own = || ledger.open(now).filter(|attempt| attempt.is_claimed_by(claim));
    // Whoever signed up from here is held to what was signed up from here, even when only a stranger's code still
    // lives: else a stranger who signs up last could have his code confirmed.
    if own().next().is_some() {
        return living(own(), now);
    }
    if claim.attempt.is_some() {
        return Err(Unreached::Foreign);
    }
    let one_origin =
        ledger.live(now).all(|one| ledger.live(now).all(|other| one.origin.is_same(&other.origin)));
    if one_origin { living(ledger.live(now), now) } else { Err(Unreached::Foreign) }
}

fn living<'a>(
    attempts: impl Iterator<Item = &'a Attempt>,
    now: UtcDateTime,
) -> Result<Vec<AttemptId>, Unreached> {
    let living: Vec<_> = attempts.filter(|attempt| attempt.is_live(now)).map(|attempt| attempt.id).collect();
    if living.is_empty() { Err(Unreached::Expired) } else { Ok(living) }
}

/// Guesses left on the best of the attempts, as far as the phone's budget allows.
fn left<'a>(
    attempts: impl Iterator<Item = &'a Attempt>,
    ledger: &Ledger,
    rules: &Rules,
    now: UtcDateTime,
) -> u32 {
    let on_codes = attempts.map(|attempt| attempt.guesses_left(rules)).max().unwrap_or(0);
    on_codes.min(rules.guesses.left(ledger.guesses_full_at, now))
}

/// How long until a resend can make a new code that may be guessed at.
fn exhausted_for(ledger: &Ledger, reached: &[AttemptId], rules: &Rules, now: UtcDateTime) -> Duration {
    let messages = ledger
        .attempts
        .iter()
        .filter(|attempt| reached.contains(&attempt.id))
        .filter_map(|attempt| ledger.admit_message(&attempt.origin, rules, now).err())
        .map(|refusal| match refusal {
            MessageRefusal::CoolDown(wait) | MessageRefusal::TooMany(wait) => wait,
        })
        .max()
        .unwrap_or(Duration::ZERO);
    let budget = rules.guesses.charge(ledger.guesses_full_at, now).err().unwrap_or(Duration::ZERO);
    messages.max(budget)
}

fn open(ledger: Ledger, attempt: Attempt, confirm: &Confirm, now: UtcDateTime) -> Confirmation {
    let opened = Opened {
        attempt: attempt.id,
        generation: attempt.generation,
        origin: confirm.claim.origin,
        user: confirm.user,
        session: confirm.session,
        at: now,
        wrong_repeats: 0,
    };
    let account = Account::open(confirm.user, ledger.phone.clone(), now);
    let session =
        Session { id: confirm.session, user: confirm.user, origin: confirm.claim.origin, created_at: now };
    // The other attempts end here: their passwords belong to nobody.
    let ledger = Ledger { attempts: Vec::new(), ..ledger };
    Confirmation::Opened {
        registration: Registration::Confirmed(Confirmed { ledger, opened }),
        account: Box::new(account),
        password: attempt.password,
        session,
    }
}

/// The tokens' owner if this repeats the confirmation; else what to count, if something must be.
fn repeat(
    opened: Opened,
    confirm: &Confirm,
    codes: &dyn OneTimeCodes,
    rules: &Rules,
    now: UtcDateTime,
) -> Result<Confirmation, Option<Opened>> {
    let same_origin = match confirm.claim.attempt {
        Some(id) => id == opened.attempt,
        None => opened.origin.is_same(&confirm.claim.origin),
    };
    let in_time = !wait(now, opened.at + REPEAT_WINDOW).is_zero();
    let Some(code) = confirm.code.as_ref().filter(|_| same_origin && in_time) else {
        return Err(None);
    };
    if opened.wrong_repeats >= rules.code_guesses {
        return Err(None);
    }
    if codes.matches(opened.attempt, opened.generation, code) {
        return Ok(Confirmation::Repeated { user: opened.user, session: opened.session });
    }
    Err(Some(Opened { wrong_repeats: opened.wrong_repeats + 1, ..opened }))
}
