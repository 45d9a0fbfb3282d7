use vestibule_domain::{Account, EmailAddress, Password, PasswordSubject, PhoneNumber, Profile, Violations};
use vestibule_port_security::HashError;
use vestibule_port_storage::{NewPassword, Unavailable};
use zeroize::Zeroizing;

use crate::Application;

/// Whose new password it is.
pub(crate) struct Subject {
    phone: PhoneNumber,
    email: Option<EmailAddress>,
    profile: Option<Profile>,
}

impl Subject {
    /// Somebody of whom no more is known.
    pub(crate) fn of_phone(phone: &PhoneNumber) -> Self {
        Self { phone: phone.clone(), email: None, profile: None }
    }

    /// The owner of an account.
    pub(crate) fn of(account: &Account) -> Self {
        Self {
            phone: account.phone().clone(),
            email: account.email().address().cloned(),
            profile: Some(account.profile().clone()),
        }
    }
}

impl Application {
    /// Checks a new password away from the threads that serve requests: the strength estimate takes milliseconds. The inner result
    /// is the policy's.
    pub(crate) async fn check_password(
        &self,
        text: Zeroizing<String>,
        subject: Subject,
    ) -> Result<Result<Password, Violations>, Unavailable> {
        let ended = |error: &dyn std::fmt::Display| Unavailable(format!("the password check ended: {error}"));
        let _turn = self.password_checks.acquire().await.map_err(|error| ended(&error))?;
        let policy = self.settings.passwords.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let Subject { phone, email, profile } = &subject;
            policy.check(&text, &PasswordSubject { phone, email: email.as_ref(), profile: profile.as_ref() })
        });
        checked.await.map_err(|error| ended(&error))
    }

    /// Whether the password is one of the last that may not come again.
    pub(crate) async fn is_recent(
        &self,
        password: &Password,
        passwords: &[NewPassword],
    ) -> Result<bool, HashError> {
        for old in passwords.iter().take(self.settings.passwords.history()) {
            if self.hasher.verify(password.clone(), Some(old.hash.clone())).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The passwords that are remembered no more once another is added. One stays in any case: there is always one that signs in.
    pub(crate) fn forgotten<'a>(
        &self,
        passwords: &'a [NewPassword],
    ) -> impl Iterator<Item = (vestibule_domain::UserId, time::UtcDateTime)> + use<'a> {
        let kept = self.settings.passwords.history().saturating_sub(1);
        passwords.iter().skip(kept).map(|old| (old.user, old.set_at))
    }
}
