//! What the use cases need to send a text message: a way out with the outcomes it may report, and a way back for what
//! becomes of a message afterwards.
//!
//! An adapter speaks one gateway's protocol and sorts that gateway's answers into the four ways a
//! send can fail. What to do about a failure (wait, try the next provider, give up) is decided by the
//! outbox dispatcher, never here.

mod delivery;

use std::time::Duration;

use async_trait::async_trait;
use vestibule_domain::spending::Money;
use vestibule_domain::{MessageId, PhoneNumber};

pub use delivery::{
    CallbackError, CallbackRequest, Delivery, DeliveryCallbacks, DeliveryReport, DeliveryReports, Reported,
};
#[cfg(feature = "mocks")]
pub use delivery::{MockDeliveryCallbacks, MockDeliveryReports};

/// One text message, ready to send.
#[derive(Clone)]
pub struct Sms {
    /// Its own id, the same when it is sent again, so that a gateway or a receiver that knows of repeats can drop a copy.
    pub id: MessageId,
    /// Who receives it.
    pub to: PhoneNumber,
    /// The whole text. It carries a code, so it must not reach a log.
    pub text: String,
}

impl std::fmt::Debug for Sms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sms")
            .field("id", &self.id)
            .field("to", &self.to)
            .field("text", &"[redacted]")
            .finish()
    }
}

/// What a gateway gave back for an accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsReceipt {
    /// The gateway's own id of the message, for its console and its delivery reports.
    pub reference: String,
    /// What it says that the message costs, in the operator's currency; `None` where it does not say it, or nothing that makes sense.
    pub price: Option<Money>,
}

/// Why a gateway did not take a message.
///
/// `reason` is for the operator: it names the gateway's code and must hold neither the text nor the number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmsError {
    /// The message can never be sent: no such number, not reachable by SMS, recipient opted out.
    #[error("refused for good: {reason}")]
    Permanent {
        /// The gateway's code and its meaning.
        reason: String,
    },
    /// It was certainly not sent, and a later try (or another provider) may succeed: a refused connection, a 5xx
    /// answer, an account that is out of money, an answer that makes no sense.
    #[error("failed for now: {reason}")]
    Temporary {
        /// What happened.
        reason: String,
    },
    /// The gateway asks for fewer requests.
    #[error("throttled: {reason}")]
    Throttled {
        /// How long the gateway wants us to wait, where it said so.
        retry_after: Option<Duration>,
        /// The gateway's code and its meaning.
        reason: String,
    },
    /// The request was sent and no answer came: the message may or may not be on its way.
    #[error("in doubt: {reason}")]
    Ambiguous {
        /// What happened.
        reason: String,
    },
}

/// A way to send text messages.
///
/// An implementation
/// - MUST answer within its own time-out, at most 10 s, and MUST be safe to call many times at once;
/// - MUST answer `Ok` only when the gateway accepted the message;
/// - MUST answer [`SmsError::Ambiguous`] when the request may have reached the gateway but its answer did not arrive;
/// - MUST NOT retry by itself, and MUST NOT log the text or the whole number.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait SmsSender: Send + Sync {
    /// The provider's name in the configuration (`twilio`, `inbox`, …), for logs and records.
    fn name(&self) -> &'static str;

    /// Hands one message to the gateway.
    async fn send(&self, sms: &Sms) -> Result<SmsReceipt, SmsError>;
}
