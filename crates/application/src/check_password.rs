use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::{
    Account, EmailAddress, Password, PasswordHash, PasswordSubject, PhoneNumber, Profile, UserId, Violation,
    Violations,
};
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
    fn of(account: &Account) -> Self {
        Self {
            phone: account.phone().clone(),
            email: account.email().address().cloned(),
            profile: Some(account.profile().clone()),
        }
    }
}

impl Application {
    /// Checks a new password away from the threads that serve requests: the strength estimate takes milliseconds. It keeps its turn until it
    /// is over, though the caller may have gone. The inner result is the policy's.
    pub(crate) async fn check_password(
        &self,
        text: Zeroizing<String>,
        subject: Subject,
    ) -> Result<Result<Password, Violations>, Unavailable> {
        let ended = |error: &dyn std::fmt::Display| Unavailable(format!("the password check ended: {error}"));
        let turn = Arc::clone(&self.password_checks).acquire_owned().await.map_err(|error| ended(&error))?;
        let policy = self.settings.passwords.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let Subject { phone, email, profile } = &subject;
            policy.check(&text, &PasswordSubject { phone, email: email.as_ref(), profile: profile.as_ref() })
        });
        checked.await.map_err(|error| ended(&error))
    }

    /// A new password of the account, whose last ones these are. The inner result tells all that it breaks at once, also that it is one of those.
    pub(crate) async fn accept_password(
        &self,
        text: Zeroizing<String>,
        account: &Account,
        last: &[NewPassword],
    ) -> Result<Result<Password, Violations>, HashError> {
        let prepared = Password::prepare(&text).ok();
        let checked = self.check_password(text, Subject::of(account)).await;
        let checked = checked.map_err(|Unavailable(reason)| HashError::Unavailable(reason))?;
        // A hash is not made for what cannot be one of them.
        let may_be_recent = !checked.as_ref().is_err_and(Violations::are_of_form);
        let is_recent = match prepared.filter(|_| may_be_recent) {
            Some(password) => self.is_recent(&password, last).await?,
            None => false,
        };
        Ok(match checked {
            Ok(_) if is_recent => Err(Violations::recently_used()),
            Err(violations) if is_recent => Err(violations.with(Violation::RecentlyUsed)),
            checked => checked,
        })
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

    /// The password as the newest of these, whatever the clocks of other instances say.
    pub(crate) fn newest_password(
        user: UserId,
        hash: PasswordHash,
        passwords: &[NewPassword],
        now: UtcDateTime,
    ) -> NewPassword {
        let before = passwords.first().map(|newest| newest.set_at + Duration::from_millis(1));
        NewPassword { user, hash, set_at: before.map_or(now, |before| before.max(now)) }
    }

    /// The passwords that are remembered no more once another is added. One stays in any case: there is always one that signs in.
    pub(crate) fn forgotten<'a>(
        &self,
        passwords: &'a [NewPassword],
    ) -> impl Iterator<Item = (UserId, UtcDateTime)> + use<'a> {
        let kept = self.settings.passwords.history().saturating_sub(1);
        passwords.iter().skip(kept).map(|old| (old.user, old.set_at))
    }
}
