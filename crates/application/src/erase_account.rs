use std::time::Duration;

use vestibule_domain::audit::Event;
use vestibule_domain::{Origin, Password};
use vestibule_port_storage::{Changes, CommitError, Erasure, Unavailable};
use zeroize::Zeroizing;

use crate::facts::Scene;
use crate::prove_password::{Presented, ProofError};
use crate::{Application, Customer, MAX_ROUNDS, contended, undecided};

/// A customer wants to be forgotten.
pub struct EraseAccount {
    /// The present password, as it was written.
    pub password: Zeroizing<String>,
    /// Where the request comes from.
    pub origin: Origin,
}

/// Why the account is still there.
#[derive(Debug, thiserror::Error)]
pub enum EraseAccountError {
    /// The password is wrong.
    #[error("the password is wrong")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("too many wrong passwords")]
    Locked {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Too many passwords are waiting to be hashed.
    #[error("too many passwords are waiting to be hashed")]
    Busy {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Something that it needs does not work.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Removes everything personal at once. The number stays used, known by its keyed hash only.
    ///
    /// # Errors
    /// [`EraseAccountError`]
    pub async fn erase_account(
        &self,
        customer: &Customer,
        erase: EraseAccount,
    ) -> Result<(), EraseAccountError> {
        let EraseAccount { password, origin } = erase;
        let phone = customer.account().phone();
        let presented = Presented { phone, password: Password::prepare(&password).ok(), origin: &origin };
        self.prove_password(presented, |_, _| (Changes::default(), ())).await?;
        for _ in 0..MAX_ROUNDS {
            let Some(account) = self.storage.account(customer.account().user()).await? else {
                return Ok(());
            };
            let user = account.value.user();
            let changes = Changes {
                facts: vec![self.fact(Event::Erased, &Scene::of(&account.value))],
                erase: Some(Erasure {
                    user,
                    replaces: account.version,
                    phone: phone.clone(),
                    number: self.derivation.number_digest(phone),
                }),
                ..Changes::default()
            };
            match self.storage.commit(changes).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }
}

impl From<ProofError> for EraseAccountError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Wrong => Self::WrongPassword,
            ProofError::Locked { retry_after } => Self::Locked { retry_after },
            ProofError::Busy { retry_after } => Self::Busy { retry_after },
            ProofError::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}
