//! What happened to an account, for its owner and for who investigates. A fact is saved with what it tells of.

use time::UtcDateTime;

use crate::{ClientAddress, FactId, Fingerprint, NumberDigest, SessionId, UserId};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its own id, in the order of time.
    pub id: FactId,
    /// When.
    pub at: UtcDateTime,
    /// What.
    pub event: Event,
    /// The number that it is about.
    pub number: NumberDigest,
    /// The number with most of it hidden.
    pub phone: String,
    /// The account, if there is one.
    pub user: Option<UserId>,
    /// The session, if it is about one.
    pub session: Option<SessionId>,
    /// The device of the request, if it said which.
    pub device: Option<Fingerprint>,
    /// Where the request came from; erased with the account, and none where the operator acted.
    pub address: Option<ClientAddress>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody signed up with the number.
    SignedUp,
    /// The phone was confirmed and the account opened.
    PhoneConfirmed,
    /// The account that was opened is one of a test number.
    TestAccountOpened,
    /// The e-mail address was confirmed.
    EmailConfirmed,
    /// A session was opened with the password.
    SignedIn,
    /// The password was wrong, at a sign-in or where it is asked for again.
    PasswordRefused,
    /// A session was ended by its own device.
    SignedOut,
    /// A session was ended from another device.
    SessionRevoked,
    /// A spent refresh token came back after its successor was used: the session was ended.
    RefreshTokenReused,
    /// The password was changed by who knew it.
    PasswordChanged,
    /// A code for a new password was asked for.
    ResetRequested,
    /// The password was replaced by who holds the phone.
    PasswordReset,
    /// The operator blocked the account.
    Blocked,
    /// The operator unblocked the account.
    Unblocked,
    /// The account was erased.
    Erased,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 15] = [
        Self::SignedUp,
        Self::PhoneConfirmed,
        Self::TestAccountOpened,
        Self::EmailConfirmed,
        Self::SignedIn,
        Self::PasswordRefused,
        Self::SignedOut,
        Self::SessionRevoked,
        Self::RefreshTokenReused,
        Self::PasswordChanged,
        Self::ResetRequested,
        Self::PasswordReset,
        Self::Blocked,
        Self::Unblocked,
        Self::Erased,
    ];

    /// The name in storage and in print.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedUp => "signed_up",
            Self::PhoneConfirmed => "phone_confirmed",
            Self::TestAccountOpened => "test_account_opened",
            Self::EmailConfirmed => "email_confirmed",
            Self::SignedIn => "signed_in",
            Self::PasswordRefused => "password_refused",
            Self::SignedOut => "signed_out",
            Self::SessionRevoked => "session_revoked",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::PasswordChanged => "password_changed",
            Self::ResetRequested => "reset_requested",
            Self::PasswordReset => "password_reset",
            Self::Blocked => "blocked",
            Self::Unblocked => "unblocked",
            Self::Erased => "erased",
        }
    }

    /// The event of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_names() {
        for event in Event::ALL {
            assert_eq!(Event::parse(event.as_str()), Some(event));
        }
        assert_eq!(Event::parse("forgotten"), None);
    }
}
