use std::time::Duration;

use vestibule_domain::limits::{Step, Unit};
use vestibule_domain::{
    AddEmail, EmailAddress, EmailError, EmailRefusal, EmailVerificationId, Origin, Recipient, Voice,
};
use vestibule_port_storage::Unavailable;

use crate::authenticate::{AccountChange, CommitRefusal};
use crate::{Application, Customer};

/// Why the address was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddEmailError {
    /// It is no address.
    #[error(transparent)]
    Address(#[from] EmailError),
    /// Another account has confirmed it.
    #[error("the address belongs to another account")]
    Taken,
    /// The account's address is confirmed already.
    #[error("the address is already confirmed")]
    AlreadyConfirmed,
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
    /// Adds an address to the account, or replaces one that is not confirmed, and queues the mail with its link. That the address is
    /// another's is told at the price of a mail: whatever bears one must have a unit left, and loses it.
    ///
    /// # Errors
    /// [`AddEmailError`]
    pub async fn add_email(
        &self,
        customer: Customer,
        address: &str,
        origin: &Origin,
        voice: &Voice,
    ) -> Result<(), AddEmailError> {
        let address = EmailAddress::parse(address)?;
        let account = customer.account();
        let is_taken = account.email().confirmed().is_none()
            && self.storage.email_confirmed_by_other(&address, account.user()).await?;
        let rules = &self.settings.email;
        self.change_account::<AddEmailError>(customer, |account| {
            let now = self.clock.now();
            let charges = self.settings.quotas.charges(Step::Mail, origin, Unit::Taken, now);
            if is_taken {
                let account = account.refuse_email(rules, now)?;
                return Ok(Some(AccountChange { account, charges, message: None }));
            }
            let verification = EmailVerificationId::new(self.entropy.unguessable_id());
            let step = account.add_email(AddEmail { address: address.clone(), verification }, rules, now)?;
            Ok(step.map(|step| AccountChange {
                account: step.account,
                charges,
                message: Some(self.message(Recipient::Email(address.clone()), voice, step.mail)),
            }))
        })
        .await?;
        if is_taken { Err(AddEmailError::Taken) } else { Ok(()) }
    }
}

impl From<EmailRefusal> for AddEmailError {
    fn from(refusal: EmailRefusal) -> Self {
        match refusal {
            EmailRefusal::AlreadyConfirmed => Self::AlreadyConfirmed,
            EmailRefusal::CoolDown { retry_after } | EmailRefusal::TooMany { retry_after } => {
                Self::TooMany { retry_after }
            }
            EmailRefusal::NoAddress => Self::Address(EmailError),
        }
    }
}

impl From<CommitRefusal> for AddEmailError {
    fn from(refusal: CommitRefusal) -> Self {
        match refusal {
            CommitRefusal::SessionEnded => Self::Unauthorized,
            CommitRefusal::EmailTaken => Self::Taken,
            CommitRefusal::TooMany { retry_after } => Self::TooMany { retry_after },
        }
    }
}
