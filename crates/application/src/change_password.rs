use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::audit::Event;
use vestibule_domain::{Content, Origin, Password, Violations, Voice};
use vestibule_port_security::HashError;
use vestibule_port_storage::{Changes, CommitError, EndSessions, Save, Unavailable};
use zeroize::Zeroizing;

use crate::facts::Scene;
use crate::notices::Notices;
use crate::prove_password::{Presented, ProofError, is_newest};
use crate::{Application, Customer, MAX_ROUNDS, contended, undecided};

/// A customer wants another password.
pub struct ChangePassword {
    /// The present one, as it was written.
    pub current: Zeroizing<String>,
    /// The new one, as it was written.
    pub new: Zeroizing<String>,
    /// Where the request comes from.
    pub origin: Origin,
    /// How the notices speak.
    pub voice: Voice,
}

/// Why the password is what it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    /// The present password is wrong.
    #[error("the present password is wrong")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("too many wrong passwords")]
    Locked {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The new one breaks the policy.
    #[error(transparent)]
    Password(#[from] Violations),
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
    /// Replaces the password of who knows it. All other sessions end, and the owner is told. A repeat of the change changes nothing.
    ///
    /// # Errors
    /// [`ChangePasswordError`]
    pub async fn change_password(
        &self,
        customer: &Customer,
        change: ChangePassword,
    ) -> Result<(), ChangePasswordError> {
        let ChangePassword { current, new, origin, voice } = change;
        let (phone, user) = (customer.account().phone(), customer.account().user());
        let presented = Presented {
            phone,
            password: Password::prepare(&current).ok(),
            origin: &origin,
            customer: Some(customer),
            successor: Password::prepare(&new).ok(),
        };
        // On record before the new one is looked at: what the policy says of it must not tell that the present one was right.
        let Some(proven) = self.prove_present(&presented).await? else {
            return Ok(());
        };
        let mut hash = None;
        for _ in 0..MAX_ROUNDS {
            let credentials = self.storage.credentials(phone, &[]).await?;
            let signed_in = self.storage.account_of_session(user, customer.session).await?;
            let session = signed_in.ok_or(ChangePasswordError::Unauthorized)?.session;
            let (Some(account), Some(guard)) = (&credentials.account, &credentials.guard) else {
                return Err(ChangePasswordError::Unauthorized);
            };
            // Who was faster has replaced the password that was proven. If it was this change, twice at once, it is a repeat.
            if !is_newest(proven, &credentials) {
                return match self.prove_present(&presented).await? {
                    None => Ok(()),
                    Some(_) => Err(contended().into()),
                };
            }
            let hash = if let Some(hash) = &hash {
                hash
            } else {
                let new = new.clone();
                let accepted =
                    self.accept_password(new, customer.account(), &credentials.passwords).await??;
                hash.insert(self.hasher.hash(accepted).await?)
            };
            let now = self.clock.now();
            let scene =
                Scene { session: Some(customer.session), origin: Some(&origin), ..Scene::of(&account.value) };
            let Notices { messages, spends, charges } =
                self.notices(&account.value, &voice, Content::PasswordChanged);
            let changes = Changes {
                password: Some(Self::newest_password(user, hash.clone(), &credentials.passwords, now)),
                forgotten_passwords: self.forgotten(&credentials.passwords).collect(),
                guard: Some(Save::over(guard.version, guard.value.clone())),
                end_sessions: Some(EndSessions::AllBut(user, Some(customer.session))),
                session: Some(Save::over(session.version, session.value)),
                facts: vec![self.fact(Event::PasswordChanged, &scene)],
                charges,
                messages,
                spends,
                ..Changes::default()
            };
            match self.commit_with_notices(changes).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }

    /// When the password was set that is the present one; `None` if the change has been made before.
    async fn prove_present(&self, presented: &Presented<'_>) -> Result<Option<UtcDateTime>, ProofError> {
        match self.prove_password(presented, |proven| (Changes::default(), proven.set_at)).await {
            Ok(set_at) => Ok(Some(set_at)),
            Err(ProofError::Replaced) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<ProofError> for ChangePasswordError {
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

impl From<HashError> for ChangePasswordError {
    fn from(error: HashError) -> Self {
        ProofError::from(error).into()
    }
}
