use async_trait::async_trait;
use vestibule_domain::MessageId;

/// What became of a message that a gateway took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The network has it; the handset does not yet.
    Sent,
    /// The handset has it.
    Delivered,
    /// It will not arrive.
    Failed {
        /// The gateway's code and its meaning; holds neither the text nor the number.
        reason: String,
    },
    /// The network gave up waiting for the handset.
    Expired,
}

/// Which message a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// By our own id, where the gateway carries it back. It works for a message whose acceptance never reached us.
    Message(MessageId),
    /// By the reference in [`SmsReceipt`](crate::SmsReceipt).
    Reference(String),
}

/// What a gateway tells of a message after it took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The provider's name in the configuration, as [`SmsSender::name`](crate::SmsSender::name).
    pub provider: &'static str,
    /// Which message.
    pub message: Reported,
    /// What became of it.
    pub delivery: Delivery,
}

/// Where delivery reports go. The application implements it; adapters that hold a connection to their gateway call it.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait DeliveryReports: Send + Sync {
    /// Records a report. Reports may be repeated, come in any order, or be about a message that nobody knows.
    ///
    /// Returns whether it is recorded (or needs no recording): after `false` the gateway SHOULD be asked to say it again.
    async fn record(&self, report: DeliveryReport) -> bool;
}

/// A callback as it came over HTTP, nothing of it verified.
#[derive(Debug, Clone, Copy)]
pub struct CallbackRequest<'a> {
    /// Path and query as they came, from the first slash. A proxy may have changed the path, never the query.
    pub path_and_query: &'a str,
    /// Header names in lower case, with their values.
    pub headers: &'a [(String, String)],
    /// The body's bytes.
    pub body: &'a [u8],
}

impl CallbackRequest<'_> {
    /// The first value of a header, named in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Why a callback is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// The signature is missing or not the gateway's, or too old.
    #[error("the signature is not the gateway's")]
    Unsigned,
    /// It is signed, and makes no sense.
    #[error("the callback makes no sense")]
    Malformed,
}

/// A provider that reports by calling us over HTTP.
///
/// An implementation MUST verify the signature in constant time before it reads anything else.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait DeliveryCallbacks: Send + Sync {
    /// The provider's name in the configuration; the last part of the callback's path, `/callbacks/sms/{provider}`.
    fn name(&self) -> &'static str;

    /// What the callback reports; `None` if it is about nothing that matters here.
    #[cfg_attr(feature = "mocks", mockall::concretize)]
    fn read(&self, request: &CallbackRequest<'_>) -> Result<Option<DeliveryReport>, CallbackError>;
}
