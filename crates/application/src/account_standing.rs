use vestibule_domain::audit::{Event, Fact};
use vestibule_domain::sign_in::SignInGuard;
use vestibule_domain::{PhoneNumber, Standing, UserId};
use vestibule_port_storage::{Changes, CommitError, EndSessions, FactsOf, Save, Unavailable};

use crate::facts::Scene;
use crate::{Application, MAX_ROUNDS, contended, undecided};

/// Why an account stands as it stood.
#[derive(Debug, thiserror::Error)]
pub enum AccountStandingError {
    /// There is no such account.
    #[error("there is no such account")]
    NotFound,
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Blocks an account, which ends its sessions, or unblocks it.
    ///
    /// # Errors
    /// [`AccountStandingError`]
    pub async fn set_standing(&self, user: UserId, standing: Standing) -> Result<(), AccountStandingError> {
        for _ in 0..MAX_ROUNDS {
            let account = self.storage.account(user).await?.ok_or(AccountStandingError::NotFound)?;
            let phone = account.value.phone();
            let guard = match self.storage.credentials(phone, &[]).await?.guard {
                Some(guard) => Save::over(guard.version, guard.value),
                None => Save::new(SignInGuard::new(phone.clone())),
            };
            let (event, end_sessions) = match standing {
                Standing::Blocked => (Event::Blocked, Some(EndSessions::AllBut(user, None))),
                Standing::Good => (Event::Unblocked, None),
            };
            let changes = Changes {
                facts: vec![self.fact(event, &Scene::of(&account.value))],
                account: Some(Save::over(account.version, account.value.stand(standing))),
                // A sign-in at the same moment loses the race, and finds the account blocked.
                guard: Some(guard),
                end_sessions,
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

    /// The account with the number.
    ///
    /// # Errors
    /// [`AccountStandingError`]
    pub async fn user_of(&self, phone: &PhoneNumber) -> Result<UserId, AccountStandingError> {
        let account = self.storage.credentials(phone, &[]).await?.account;
        account.map(|account| account.value.user()).ok_or(AccountStandingError::NotFound)
    }

    /// What happened to a number, those facts included that have outlived its account; the newest first.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn facts_of_number(&self, phone: &PhoneNumber, limit: usize) -> Result<Vec<Fact>, Unavailable> {
        self.storage.facts(FactsOf::Number(self.derivation.number_digest(phone)), limit).await
    }

    /// What happened to an account; the newest first.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn facts_of_user(&self, user: UserId, limit: usize) -> Result<Vec<Fact>, Unavailable> {
        self.storage.facts(FactsOf::User(user), limit).await
    }
}
