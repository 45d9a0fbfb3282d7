//! What is to be said to whom. A message names the fact it tells of; the words, the code and the link are made when it
//! is sent, so that nothing secret waits in a queue or a backup.

use time::UtcDateTime;

use crate::{AttemptId, EmailAddress, EmailVerificationId, Generation, MerchantId, MessageId, PhoneNumber};

/// A language for texts, as a lower-case BCP 47 tag (`en`, `de`): one that a wording exists for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Locale(String);

impl Locale {
    /// Wraps a tag.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        Self(tag.to_owned())
    }

    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How somebody is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// In which language.
    pub locale: Locale,
    /// In the name of which partner, if it is one's.
    pub merchant: Option<MerchantId>,
}

/// In our own name.
impl From<Locale> for Voice {
    fn from(locale: Locale) -> Self {
        Self { locale, merchant: None }
    }
}

/// Who receives a message, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// By SMS.
    Phone(PhoneNumber),
    /// By e-mail.
    Email(EmailAddress),
}

/// What carries a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The SMS providers.
    Sms,
    /// The mail transport.
    Mail,
}

impl Channel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sms, Self::Mail];

    /// Its name for the operator.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Mail => "mail",
        }
    }
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The code that confirms a sign-up.
    SignUpCode {
        /// The attempt it belongs to.
        attempt: AttemptId,
        /// Which of the attempt's codes.
        generation: Generation,
    },
    /// The link that confirms an e-mail address.
    EmailConfirmation {
        /// The link's identity.
        verification: EmailVerificationId,
    },
    /// Someone tried to register a number that has an account already.
    AlreadyRegistered,
    /// The code that allows to set a new password.
    ResetCode {
        /// The attempt it belongs to.
        attempt: AttemptId,
        /// Which of the attempt's codes.
        generation: Generation,
    },
    /// The password of the account was changed. By SMS, and by mail where an address is confirmed.
    PasswordChanged,
    /// Somebody used a refresh token that had been used before, so that a session was ended.
    SessionStolen,
}

impl Content {
    /// The name in storage and in logs: nothing of it is secret.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::SignUpCode { .. } => "sign_up_code",
            Self::EmailConfirmation { .. } => "email_confirmation",
            Self::AlreadyRegistered => "already_registered",
            Self::ResetCode { .. } => "reset_code",
            Self::PasswordChanged => "password_changed",
            Self::SessionStolen => "session_stolen",
        }
    }

    /// The attempt whose code it carries.
    #[must_use]
    pub const fn attempt(&self) -> Option<AttemptId> {
        match self {
            Self::SignUpCode { attempt, .. } | Self::ResetCode { attempt, .. } => Some(*attempt),
            Self::EmailConfirmation { .. }
            | Self::AlreadyRegistered
            | Self::PasswordChanged
            | Self::SessionStolen => None,
        }
    }

    /// The link that it carries.
    #[must_use]
    pub const fn verification(&self) -> Option<EmailVerificationId> {
        match self {
            Self::EmailConfirmation { verification } => Some(*verification),
            Self::SignUpCode { .. }
            | Self::AlreadyRegistered
            | Self::ResetCode { .. }
            | Self::PasswordChanged
            | Self::SessionStolen => None,
        }
    }
}

/// One message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its own id, the same at every try.
    pub id: MessageId,
    /// Who receives it.
    pub recipient: Recipient,
    /// What it says.
    pub content: Content,
    /// In which language, and in whose name.
    pub voice: Voice,
    /// When it was decided on.
    pub queued_at: UtcDateTime,
    /// After this moment it is worth nothing and must not be sent any more.
    pub expires_at: UtcDateTime,
}

/// How far a message has come. It only ever moves forward, as [`DeliveryState::may_become`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits to be sent, or to be sent again.
    Queued,
    /// A provider has taken it; the recipient does not have it yet, or nobody says so.
    Sent,
    /// The recipient has it.
    Delivered,
    /// It will not arrive.
    Failed,
    /// It was worth nothing any more before it arrived.
    Expired,
}

impl DeliveryState {
    /// Every state, in the order in which a message may come to them.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Sent, Self::Delivered, Self::Failed, Self::Expired];

    /// The state in lower case, as storage and the wire have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether a report may change the state. Reports are repeated and come in any order, so that the last word stands: a message that
    /// was delivered stays so whatever is said later, and nothing is queued or merely sent again.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => !matches!(next, Self::Queued),
            Self::Sent => !matches!(next, Self::Queued | Self::Sent),
            Self::Failed | Self::Expired => matches!(next, Self::Delivered),
            Self::Delivered => false,
        }
    }
}

impl Recipient {
    /// What carries a message to it.
    #[must_use]
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Phone(_) => Channel::Sms,
            Self::Email(_) => Channel::Mail,
        }
    }

    /// For records that outlive the message, and for logs: the phone or address with most of it hidden.
    #[must_use]
    pub fn masked(&self) -> String {
        match self {
            Self::Phone(phone) => phone.masked(),
            Self::Email(email) => email.masked(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeliveryState::{self, Delivered, Expired, Failed, Queued, Sent};

    #[test]
    fn states_have_names() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::parse(state.as_str()), Some(state));
        }
        assert_eq!(DeliveryState::parse("lost"), None);
    }

    #[test]
    fn the_order_of_reports_does_not_matter() {
        for reports in [[Sent, Delivered], [Delivered, Sent], [Failed, Delivered], [Delivered, Expired]] {
            let last = reports
                .into_iter()
                .fold(Queued, |state, next| if state.may_become(next) { next } else { state });
            assert_eq!(last, Delivered, "{reports:?}");
        }
        assert!(!Failed.may_become(Sent) && !Expired.may_become(Failed) && !Sent.may_become(Queued));
    }
}
