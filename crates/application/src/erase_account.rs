use std::time::Duration;

use vestibule_domain::audit::Event;
use vestibule_domain::{AccountKind, Origin, Password};
use vestibule_port_storage::{Changes, CommitError, EndSessions, Erasure, Unavailable};
use zeroize::Zeroizing;

use crate::facts::Scene;
use crate::prove_password::{Presented, ProofError, is_newest};
use crate::{Application, AuthenticateError, Customer, MAX_ROUNDS, contended, undecided};

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
    /// The session ended meanwhile.
    #[error("not authenticated")]
    Unauthorized,
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
    /// Removes everything personal at once. The number stays used, known by its keyed hash only; unless it
    /// is a test number, which its next reviewer signs up with again. An account that is gone already is as well as erased.
    ///
    /// # Errors
    /// [`EraseAccountError`]
    pub async fn erase_account(
        &self,
        customer: &Customer,
        erase: EraseAccount,
    ) -> Result<(), EraseAccountError> {
        let EraseAccount { password, origin } = erase;
        let (phone, user) = (customer.account().phone(), customer.account().user());
        let presented = Presented {
            phone,
            password: Password::prepare(&password).ok(),
            origin: &origin,
            customer: Some(customer),
            successor: None,
        };
        let proven = match self.prove_password(&presented, |proven| (Changes::default(), proven.set_at)).await
        {
            Err(ProofError::Gone) => return Ok(()),
            proven => proven?,
        };
        for _ in 0..MAX_ROUNDS {
            let is_signed_in = self.storage.account_of_session(user, customer.session).await?.is_some();
            let credentials = self.storage.credentials(phone, &[]).await?;
            let Some(account) = credentials.account.as_ref().filter(|account| customer.owns(Some(account)))
            else {
                return Ok(());
            };
            if !is_signed_in {
                return Err(EraseAccountError::Unauthorized);
            }
            // Who was faster has replaced the password that was proven.
            if !is_newest(proven, &credentials) {
                return Err(EraseAccountError::WrongPassword);
            }
            let changes = Changes {
                end_sessions: Some(EndSessions::One(user, customer.session)),
                freed_number: match account.value.kind() {
                    AccountKind::Customer => None,
                    AccountKind::Test => Some(self.derivation.number_digest(phone)),
                },
                facts: vec![self.fact(Event::Erased, &Scene::of(&account.value))],
                erase: Some(Erasure {
                    user,
                    replaces: account.version,
                    guard: credentials.guard.as_ref().map(|guard| guard.version),
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

    /// Whether the token is genuine and the account that it speaks of is no more: who has lost the answer to an erasure, and nobody else, may
    /// learn that it was made.
    ///
    /// # Errors
    /// [`AuthenticateError`]
    pub async fn is_erased(&self, access_token: &str) -> Result<bool, AuthenticateError> {
        let claims = self.tokens.verify(access_token, self.clock.now())?;
        Ok(self.storage.account(claims.user).await?.is_none())
    }
}

impl From<ProofError> for EraseAccountError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Wrong | ProofError::Replaced => Self::WrongPassword,
            ProofError::Gone => Self::Unauthorized,
            ProofError::Locked { retry_after } => Self::Locked { retry_after },
            ProofError::Busy { retry_after } => Self::Busy { retry_after },
            ProofError::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}
