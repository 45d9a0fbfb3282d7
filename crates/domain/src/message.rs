//! What is to be said to whom. A message names the fact it tells of; the words, the code and the link are made when it
//! is sent, so that nothing secret waits in a queue or a backup.

use time::UtcDateTime;

use crate::{AttemptId, EmailAddress, EmailVerificationId, Generation, MessageId, PhoneNumber};

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

/// Who receives a message, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// By SMS.
    Phone(PhoneNumber),
    /// By e-mail.
    Email(EmailAddress),
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
    /// In which language.
    pub locale: Locale,
    /// When it was decided on.
    pub queued_at: UtcDateTime,
    /// After this moment it is worth nothing and must not be sent any more.
    pub expires_at: UtcDateTime,
}
