//! The way from a sign-up to an account, for one phone number.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Pending: sign_up
//!     Pending --> Pending: sign_up, resend, wrong guess
//!     Pending --> Confirmed: confirm (opens the account)
//!     Pending --> Concealed: confirm (accounts concealed, others have attempts)
//!     Confirmed --> Confirmed: repeated confirm
//!     [*] --> Concealed: sign_up (used number, accounts concealed)
//!     Confirmed --> Concealed: sign_up (accounts concealed)
//!     Concealed --> Concealed: sign_up, resend, every guess
//! ```
//!
//! A code belongs to the attempt it was made for. Someone may sign up with a stranger's number and a password of
//! his own, and wait for the owner to type a code (*pre-hijacking*: Sudhodanan and Paverd, USENIX Security 2022). So every
//! sign-up is an [`Attempt`] with its own password hash, code and [`Origin`]; none replaces, expires or
//! uses up another; and where more than one origin is at work, a confirmation only reaches the attempts of its own.
//!
//! A transition consumes the state that was loaded and returns the state to save, together with what must be saved
//! with it. Saving is a compare-and-swap on the loaded version, so that guesses and limits can't be raced: whoever
//! loses loads again and decides again.

mod confirm;
mod resend;
mod sign_up;

use std::time::Duration;

use time::UtcDateTime;

pub use self::confirm::{Confirm, ConfirmRefusal, Confirmation, ConfirmedAttempt, Others, REPEAT_WINDOW};
pub use self::resend::{Resend, ResendRefusal, Resent};
pub use self::sign_up::{NumberUse, SignUp, SignUpRefusal, SignedUp};

pub use crate::verification::{Attempt, MAX_LIVE_ATTEMPTS, OPEN_FOR};

use self::sign_up::TELL_OWNER_EVERY;
use crate::quota::Quota;
use crate::verification::Ledger;
use crate::{AttemptId, Content, Generation, Origin, PhoneNumber, SessionId, UserId};

/// The limits of a registration, and of a password reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long a code lives, from its first message; a resend does not lengthen it.
    pub code_ttl: Duration,
    /// Guesses that one code bears.
    pub code_guesses: u32,
    /// The least time between two messages to one origin.
    pub resend_cooldown: Duration,
    /// Messages that one origin may cause while its attempts are open.
    pub max_messages: u32,
    /// Sign-ups of one phone, from anywhere.
    pub sign_ups: Quota,
    /// Guesses for one phone, over all attempts.
    pub guesses: Quota,
}

/// Everything that is known of one phone number that someone signed up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Somebody signed up; no code was confirmed yet.
    Pending(Pending),
    /// A code was confirmed and the account is open.
    Confirmed(Confirmed),
    /// The number was used before, which a sign-up must not tell. Attempts are kept, counted and refused
    /// as if they were pending, but none of them has a code that was ever sent.
    Concealed(Concealed),
}

/// See [`Registration::Pending`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    ledger: Ledger,
}

/// See [`Registration::Confirmed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    ledger: Ledger,
    opened: Opened,
}

/// See [`Registration::Concealed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concealed {
    ledger: Ledger,
    opened: Option<Opened>,
    owner_told_at: Option<UtcDateTime>,
}

/// The confirmation that opened the account; a repeat of it is answered with tokens for the same session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The attempt whose code was confirmed.
    pub attempt: AttemptId,
    /// Which of its codes.
    pub generation: Generation,
    /// Where the confirmation came from.
    pub origin: Origin,
    /// The account that it opened.
    pub user: UserId,
    /// The session that it opened.
    pub session: SessionId,
    /// When.
    pub at: UtcDateTime,
    /// Repeats with another code so far.
    pub wrong_repeats: u32,
}

/// A message that must be queued in the same commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// What it says.
    pub content: Content,
    /// After this moment it is worth nothing.
    pub expires_at: UtcDateTime,
}

impl Outgoing {
    /// The same, worth nothing from the start: queued in place of a message that nobody may get, so that whether there is one does not
    /// show in what a commit writes and how long that takes, and dropped before it is sent.
    pub(crate) fn unsent(self) -> Self {
        Self { expires_at: UtcDateTime::UNIX_EPOCH, ..self }
    }
}

impl Registration {
    /// The number that it is about.
    #[must_use]
    pub fn phone(&self) -> &PhoneNumber {
        &self.ledger().phone
    }

    fn ledger(&self) -> &Ledger {
        match self {
            Self::Pending(Pending { ledger })
            | Self::Confirmed(Confirmed { ledger, .. })
            | Self::Concealed(Concealed { ledger, .. }) => ledger,
        }
    }

    /// When nothing of it matters any more and storage may forget it: no attempt can be continued, the confirmation
    /// can't be repeated, and every budget is full again.
    #[must_use]
    pub fn forget_at(&self) -> UtcDateTime {
        let ledger = self.ledger();
        let (opened, told) = match self {
            Self::Pending(_) => (None, None),
            Self::Confirmed(Confirmed { opened, .. }) => (Some(opened), None),
            Self::Concealed(Concealed { opened, owner_told_at, .. }) => (opened.as_ref(), *owner_told_at),
        };
        ledger
            .forget_at()
            .chain(opened.map(|opened| opened.at + REPEAT_WINDOW))
            .chain(told.map(|told| told + TELL_OWNER_EVERY))
            .max()
            .unwrap_or(UtcDateTime::UNIX_EPOCH)
    }

    /// What storage keeps.
    #[must_use]
    pub fn record(self) -> RegistrationRecord {
        let (ledger, stage) = match self {
            Self::Pending(Pending { ledger }) => (ledger, Stage::Pending),
            Self::Confirmed(Confirmed { ledger, opened }) => (ledger, Stage::Confirmed(opened)),
            Self::Concealed(Concealed { ledger, opened, owner_told_at }) => {
                (ledger, Stage::Concealed { opened, owner_told_at })
            }
        };
        let Ledger { phone, attempts, attempts_full_at: sign_ups_full_at, guesses_full_at } = ledger;
        RegistrationRecord { phone, stage, attempts, sign_ups_full_at, guesses_full_at }
    }

    /// The registration that a record was made of. The record is believed.
    #[must_use]
    pub fn restore(record: RegistrationRecord) -> Self {
        let RegistrationRecord { phone, stage, attempts, sign_ups_full_at, guesses_full_at } = record;
        let ledger = Ledger { phone, attempts, attempts_full_at: sign_ups_full_at, guesses_full_at };
        match stage {
            Stage::Pending => Self::Pending(Pending { ledger }),
            Stage::Confirmed(opened) => Self::Confirmed(Confirmed { ledger, opened }),
            Stage::Concealed { opened, owner_told_at } => {
                Self::Concealed(Concealed { ledger, opened, owner_told_at })
            }
        }
    }
}

/// A [`Registration`] with its content laid open, for storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationRecord {
    /// The number.
    pub phone: PhoneNumber,
    /// How far it has come.
    pub stage: Stage,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// When its budget of sign-ups is full again, see [`quota`](crate::quota).
    pub sign_ups_full_at: Option<UtcDateTime>,
    /// When its budget of guesses is full again.
    pub guesses_full_at: Option<UtcDateTime>,
}

/// The stage of a [`RegistrationRecord`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// See [`Registration::Pending`].
    Pending,
    /// See [`Registration::Confirmed`].
    Confirmed(Opened),
    /// See [`Registration::Concealed`].
    Concealed {
        /// The confirmation before, if the account was opened here.
        opened: Option<Opened>,
        /// When the owner was last told of a sign-up with the number.
        owner_told_at: Option<UtcDateTime>,
    },
}

/// The message that carries the attempt's present code.
fn code_message(attempt: &Attempt) -> Outgoing {
    let content = Content::SignUpCode { attempt: attempt.id, generation: attempt.generation };
    Outgoing { content, expires_at: attempt.expires_at }
}

#[cfg(test)]
mod tests;
