use std::time::Duration;

use vestibule_domain::limits::{Step, Unit};
use vestibule_domain::{EmailRefusal, EmailVerificationId, Origin, Recipient, Voice};
use vestibule_port_storage::Unavailable;

use crate::authenticate::{AccountChange, CommitRefusal};
use crate::{Application, Customer};

/// Why no mail is sent.
#[derive(Debug, thiserror::Error)]
pub enum ResendEmailError {
    /// The account has no address.
    #[error("there is no address to confirm")]
    NoAddress,
    /// The address is confirmed already.
    #[error("the address is already confirmed")]
    AlreadyConfirmed,
    /// The last mail is too recent.
    #[error("the last mail is too recent")]
    CoolDown {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The account has caused too many mails, or where it comes from has.
    #[error("too many mails")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The session ended meanwhile.
    #[error("not authenticated")]
    Unauthorized,
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Queues the mail with the confirmation link once more.
    ///
    /// # Errors
    /// [`ResendEmailError`]
    pub async fn resend_email(
        &self,
        customer: Customer,
        origin: &Origin,
        voice: &Voice,
    ) -> Result<(), ResendEmailError> {
        self.change_account(customer, |account| {
            let fresh = EmailVerificationId::new(self.entropy.unguessable_id());
            let address = account.email().address().cloned().ok_or(ResendEmailError::NoAddress)?;
            let now = self.clock.now();
            let step = account.resend_email(fresh, &self.settings.email, now)?;
            let message = Some(self.message(Recipient::Email(address), voice, step.mail));
            let charges = self.settings.quotas.charges(Step::Mail, origin, Unit::Taken, now);
            Ok(Some(AccountChange { account: step.account, charges, message }))
        })
        .await
    }
}

impl From<EmailRefusal> for ResendEmailError {
    fn from(refusal: EmailRefusal) -> Self {
        match refusal {
            EmailRefusal::NoAddress => Self::NoAddress,
            EmailRefusal::AlreadyConfirmed => Self::AlreadyConfirmed,
            EmailRefusal::CoolDown { retry_after } => Self::CoolDown { retry_after },
            EmailRefusal::TooMany { retry_after } => Self::TooMany { retry_after },
        }
    }
}

impl From<CommitRefusal> for ResendEmailError {
    fn from(refusal: CommitRefusal) -> Self {
        match refusal {
            CommitRefusal::SessionEnded => Self::Unauthorized,
            CommitRefusal::TooMany { retry_after } => Self::TooMany { retry_after },
            // An unconfirmed address is nobody's, so it can't be taken either.
            CommitRefusal::EmailTaken => Self::AlreadyConfirmed,
        }
    }
}
