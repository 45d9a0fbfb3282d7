use std::time::Duration;

use time::UtcDateTime;

use super::{Attempt, Concealed, Confirmed, Opened, Pending, Registration, Rules};
use crate::verification::{Guess, Ledger, NoCodes, guess, is_first_guess, wait};
use crate::{
    Account, AccountKind, AttemptId, Claim, ClientAddress, OneTimeCode, OneTimeCodes, Origin, PasswordHash,
    Session, SessionId, UserId,
};

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
    /// Whether others may learn that one was opened.
    pub others: Others,
    /// Whose account it is, should one be opened.
    pub kind: AccountKind,
}

/// What those learn who have attempts of their own for the number when its account is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Their attempts have ended.
    Told,
    /// Nothing: their attempts go on, as if the code had been wrong.
    Untold,
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
        /// The attempt whose code it was.
        attempt: ConfirmedAttempt,
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

/// What is told of an attempt whose code came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmedAttempt {
    /// Which one.
    pub id: AttemptId,
    /// Where it was made from.
    pub address: ClientAddress,
    /// Messages that it took, over all codes.
    pub messages: u32,
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
    /// Whether the claim's next guess is the first at each code that it reaches, which limits of guesses leave alone: a person who
    /// has just got a code is not kept waiting by strangers who guess at others.
    #[must_use]
    pub fn is_first_guess(&self, claim: &Claim, now: UtcDateTime) -> bool {
        match self {
            Self::Pending(Pending { ledger }) | Self::Concealed(Concealed { ledger, .. }) => {
                is_first_guess(ledger, claim, now)
            }
            // Its code is guessed at no more; wrong repeats are counted on their own.
            Self::Confirmed(_) => true,
        }
    }

    /// Compares a code with those of the attempts that the claim reaches, and opens the account if one fits.
    pub fn confirm(
        self,
        confirm: &Confirm,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Confirmation {
        match self {
            Self::Pending(Pending { ledger }) => {
                match guess(ledger, confirm.code.as_ref(), &confirm.claim, codes, rules, now) {
                    Guess::Refused(refusal) => Confirmation::Refused { spent: None, refusal },
                    Guess::Wrong(ledger, refusal) => {
                        Confirmation::Refused { spent: Some(Self::Pending(Pending { ledger })), refusal }
                    }
                    Guess::Right(ledger, attempt) => open(ledger, attempt, confirm, now),
                }
            }
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
                let counted = match opened.map(|opened| repeat(opened, confirm, codes, rules, now)) {
                    Some(Ok(repeated)) => return repeated,
                    Some(Err(counted)) => counted,
                    None => None,
                };
                let unspent = counted.map(|_| ledger.clone());
                let (spent, refusal) =
                    match guess(ledger, confirm.code.as_ref(), &confirm.claim, &NoCodes(codes), rules, now) {
                        Guess::Refused(refusal) => (unspent, refusal),
                        Guess::Wrong(ledger, refusal) => (Some(ledger), refusal),
                        // `NoCodes` matches nothing; were it otherwise, no account may come of it.
                        Guess::Right(ledger, _) => (Some(ledger), ConfirmRefusal::NotFound),
                    };
                let opened = counted.or(opened);
                let spent = spent.map(|ledger| Self::Concealed(Concealed { ledger, opened, owner_told_at }));
                Confirmation::Refused { spent, refusal }
            }
        }
    }
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
    let origin = confirm.claim.origin;
    let account = Account::open(confirm.user, ledger.phone.clone(), origin, now).of_kind(confirm.kind);
    let session = Session::open(confirm.session, confirm.user, origin, now);
    // The other attempts end here: their passwords belong to nobody. So do the budgets, which would tell of the account.
    let fresh = Ledger::new(ledger.phone.clone());
    let is_foreign = |other: &Attempt| now < other.closes_at() && !other.origin.is_same(&attempt.origin);
    let is_shared = ledger.attempts.iter().any(is_foreign);
    let registration = if confirm.others == Others::Untold && is_shared {
        Registration::Concealed(Concealed { ledger, opened: Some(opened), owner_told_at: None })
    } else {
        Registration::Confirmed(Confirmed { ledger: fresh, opened })
    };
    let Attempt { id, origin: Origin { address, .. }, messages, password, .. } = attempt;
    let attempt = ConfirmedAttempt { id, address, messages };
    Confirmation::Opened { registration, account: Box::new(account), password, session, attempt }
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
