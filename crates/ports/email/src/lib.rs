//! What the use cases need to send an e-mail: one trait and the outcomes it may report.
//!
//! An adapter carries a finished message to a mail server and tells permanent from temporary failures. It
//! neither writes the text nor decides when to try again.

use async_trait::async_trait;
use vestibule_domain::EmailAddress;

/// One e-mail, ready to send, with the same content as plain text and as HTML.
#[derive(Clone)]
pub struct Email {
    /// Who receives it.
    pub to: EmailAddress,
    /// The subject, unencoded.
    pub subject: String,
    /// The plain-text part. It carries a link with a token, so it must not reach a log.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// An id that stays the same when the message is sent again after a crash, so that a receiver can
    /// recognise a copy: the left side of the `Message-ID`.
    pub id: String,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Email").field("to", &self.to).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a mail server did not take a message.
///
/// `reason` is for the operator: it names the server's reply code and must not hold the address or the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// The message can never be delivered (a 5xx reply to this message: no such mailbox).
    #[error("refused for good: {reason}")]
    Permanent {
        /// The reply code and its meaning.
        reason: String,
    },
    /// A later try may succeed: no connection, a 4xx reply, a time-out, an answer that makes no sense. Sending
    /// again after a time-out may make a second copy with the same `Message-ID`.
    #[error("failed for now: {reason}")]
    Temporary {
        /// What happened.
        reason: String,
    },
}

/// A way to send e-mail.
///
/// An implementation
/// - MUST answer within its own time-out, at most 10 s, and MUST be safe to call many times at once;
/// - MUST answer `Ok` only when the server took responsibility for the message (the `250` after `DATA`);
/// - MUST NOT retry by itself, and MUST NOT log the text or the whole address.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait EmailSender: Send + Sync {
    /// The transport's name in the configuration (`smtp`, `inbox`), for logs and records.
    fn name(&self) -> &'static str;

    /// Hands one message to the mail server.
    async fn send(&self, email: &Email) -> Result<(), EmailError>;
}
