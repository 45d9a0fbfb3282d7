use vestibule_domain::{InvalidField, ProfilePatch};
use vestibule_port_storage::Unavailable;

use crate::authenticate::{AccountChange, CommitRefusal};
use crate::{Application, Customer};

/// Why the profile was not changed.
#[derive(Debug, thiserror::Error)]
pub enum PatchProfileError {
    /// A value cannot be taken; nothing was changed.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The session ended meanwhile.
    #[error("not authenticated")]
    Unauthorized,
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Changes personal details, all or nothing, and grants KYC_0 when they complete it.
    ///
    /// # Errors
    /// [`PatchProfileError`]
    pub async fn patch_profile(
        &self,
        customer: Customer,
        patch: &ProfilePatch,
    ) -> Result<(), PatchProfileError> {
        self.change_account(customer, |account| {
            let today = self.clock.now().date();
            let patched = account.clone().patch_profile(patch, today, self.settings.min_age_years)?;
            Ok((patched != account).then_some(AccountChange {
                account: patched,
                charges: Vec::new(),
                message: None,
            }))
        })
        .await
    }
}

impl From<CommitRefusal> for PatchProfileError {
    fn from(refusal: CommitRefusal) -> Self {
        match refusal {
            CommitRefusal::SessionEnded => Self::Unauthorized,
            CommitRefusal::EmailTaken | CommitRefusal::TooMany { .. } => Self::Unavailable(Unavailable(
                "a profile change was refused for a reason that it does not have".to_owned(),
            )),
        }
    }
}
