use std::time::Duration;

use time::UtcDateTime;

use super::{Outgoing, Pending, Registration, Rules, code_message};
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
    /// The message to queue with it, which has expired already for a concealed number.
    pub message: Outgoing,
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
        let attempt = ledger.repeat(&resend.claim, codes, rules, now)?;
        let message = code_message(attempt);
        Ok(Resent { registration: self, message: if concealed { message.unsent() } else { message } })
    }

    /// The attempt that a resend means, provided that the claim proves it to be the caller's own: who knows no more than a number must not
    /// learn of somebody else's messages. A concealed number has no messages.
    #[must_use]
    pub fn claimed_attempt(&self, claim: &Claim, now: UtcDateTime) -> Option<AttemptId> {
        match self {
            Self::Pending(Pending { ledger }) => ledger.newest_claimed(claim, now).map(|attempt| attempt.id),
            Self::Confirmed(_) | Self::Concealed(_) => None,
        }
    }
}
