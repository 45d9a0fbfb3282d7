use std::time::Duration;

use time::UtcDateTime;

use super::{Attempt, Concealed, Confirmed, Outgoing, Pending, Registration, Rules, code_message};
use crate::verification::{Ledger, MessageRefusal, wait};
use crate::{AttemptId, Content, OneTimeCodes, Origin, PasswordHash, PhoneNumber};

/// How often the owner of a used number is told that somebody signed up with it, at most.
pub(super) const TELL_OWNER_EVERY: Duration = Duration::from_hours(24);

/// Whether an account holds or ever held the number, and whether a stranger may learn so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberUse {
    /// Nobody ever had an account with it.
    Unused,
    /// Somebody has or had, and a sign-up is told.
    Used,
    /// Somebody has or had, and a sign-up must look like any other.
    UsedAndConcealed,
}

/// A sign-up that is fit to be recorded: the phone is valid, the password obeys the policy and is hashed.
#[derive(Debug, Clone)]
pub struct SignUp {
    /// A fresh, unguessable identifier.
    pub attempt: AttemptId,
    /// The number.
    pub phone: PhoneNumber,
    /// Of the password that was given.
    pub password: PasswordHash,
    /// Where it comes from.
    pub origin: Origin,
}

/// A recorded sign-up, to be saved with its message.
#[derive(Debug)]
#[must_use = "a sign-up counts once it is saved, together with its message"]
pub struct SignedUp {
    /// The state to save.
    pub registration: Registration,
    /// The message to queue with it, which has expired already for a concealed number whose owner has been told lately.
    pub message: Outgoing,
    /// When the code dies.
    pub expires_at: UtcDateTime,
}

/// Why a sign-up is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignUpRefusal {
    /// An account holds the number or once held it.
    #[error("the number has been used before")]
    AlreadyRegistered,
    /// The last message to this origin is too recent.
    #[error("the last message is too recent")]
    CoolDown {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Too many sign-ups, messages or living codes for this number.
    #[error("too many sign-ups")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
}

impl Registration {
    /// Whether a sign-up from `origin` would be recorded now: everything that [`Registration::sign_up`] checks,
    /// for a caller who wants to know before hashing a password. `current` is what is known of the number.
    ///
    /// # Errors
    /// As [`Registration::sign_up`].
    pub fn admit_sign_up(
        current: Option<&Self>,
        number: NumberUse,
        origin: &Origin,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<(), SignUpRefusal> {
        if number == NumberUse::Used {
            return Err(SignUpRefusal::AlreadyRegistered);
        }
        current.map_or(Ok(()), |registration| admit(registration.ledger(), origin, rules, now).map(|_| ()))
    }

    /// Records a sign-up as a new attempt, beside the attempts that there are.
    ///
    /// # Errors
    /// [`SignUpRefusal`]; nothing needs to be saved then.
    pub fn sign_up(
        current: Option<Self>,
        number: NumberUse,
        sign_up: SignUp,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<SignedUp, SignUpRefusal> {
        let conceal = match number {
            NumberUse::Unused => false,
            NumberUse::Used => return Err(SignUpRefusal::AlreadyRegistered),
            NumberUse::UsedAndConcealed => true,
        };
        let (mut ledger, opened, owner_told_at) = match current {
            None => (Ledger::new(sign_up.phone.clone()), None, None),
            Some(Self::Pending(Pending { ledger })) => (ledger, None, None),
            Some(Self::Confirmed(Confirmed { ledger, opened })) => (ledger, Some(opened), None),
            Some(Self::Concealed(Concealed { ledger, opened, owner_told_at })) => {
                (ledger, opened, owner_told_at)
            }
        };
        ledger.close_old(now);
        ledger.attempts_full_at = admit(&ledger, &sign_up.origin, rules, now)?;
        let attempt = Attempt::begin(sign_up.attempt, sign_up.password, sign_up.origin, rules, now);
        let attempt = ledger.distinct(attempt, codes, now);
        let (expires_at, code_message) = (attempt.expires_at, code_message(&attempt));
        ledger.attempts.push(attempt);
        if !conceal {
            let registration = Self::Pending(Pending { ledger });
            return Ok(SignedUp { registration, message: code_message, expires_at });
        }
        let tell = owner_told_at.is_none_or(|told| wait(now, told + TELL_OWNER_EVERY).is_zero());
        let owner_told_at = if tell { Some(now) } else { owner_told_at };
        let notice = Outgoing { content: Content::AlreadyRegistered, expires_at: now + TELL_OWNER_EVERY };
        let registration = Self::Concealed(Concealed { ledger, opened, owner_told_at });
        let message = if tell { notice } else { notice.unsent() };
        Ok(SignedUp { registration, message, expires_at })
    }
}

/// Checks the limits that the number itself has; the sign-up budget after one more sign-up.
fn admit(
    ledger: &Ledger,
    origin: &Origin,
    rules: &Rules,
    now: UtcDateTime,
) -> Result<Option<UtcDateTime>, SignUpRefusal> {
    let too_many = |retry_after| SignUpRefusal::TooMany { retry_after };
    let full_at = ledger.charge_attempt(origin, rules, now).map_err(too_many)?;
    ledger.admit_message(origin, rules.max_messages, rules, now).map_err(|refusal| match refusal {
        MessageRefusal::CoolDown(retry_after) => SignUpRefusal::CoolDown { retry_after },
        MessageRefusal::TooMany(retry_after) => SignUpRefusal::TooMany { retry_after },
    })?;
    ledger.admit_live(origin, rules, now).map_err(too_many)?;
    Ok(full_at)
}
