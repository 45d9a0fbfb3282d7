use std::sync::Arc;

use vestibule_port_sms::{CallbackError, CallbackRequest, DeliveryCallbacks, DeliveryReports};

/// What SMS providers tell by calling us over HTTP.
pub struct Callbacks {
    /// Which providers call, and how they are read. A provider that is not among them is not found.
    ///
    /// A proxy in front may take a prefix off the path: they must not rely on it.
    pub providers: Vec<Arc<dyn DeliveryCallbacks>>,
    /// Where the reports go.
    pub reports: Arc<dyn DeliveryReports>,
}

/// Why a callback changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveCallbackError {
    /// There is no such provider, or it takes no callbacks.
    #[error("no such provider takes callbacks")]
    UnknownProvider,
    /// Its signature is missing, not the provider's, or too old.
    #[error("the signature is not the provider's")]
    Unsigned,
    /// It is signed, and makes no sense.
    #[error("the callback makes no sense")]
    Malformed,
    /// It is to be said again later.
    #[error("it could not be recorded")]
    NotRecorded,
}

impl Callbacks {
    /// Reads a callback of the provider, if it is the provider's own, and records what it reports.
    ///
    /// # Errors
    /// [`ReceiveCallbackError`]
    pub async fn receive(
        &self,
        provider: &str,
        request: &CallbackRequest<'_>,
    ) -> Result<(), ReceiveCallbackError> {
        let reader = self.providers.iter().find(|reader| reader.name() == provider);
        let reader = reader.ok_or(ReceiveCallbackError::UnknownProvider)?;
        let Some(report) = reader.read(request)? else {
            return Ok(());
        };
        if self.reports.record(report).await { Ok(()) } else { Err(ReceiveCallbackError::NotRecorded) }
    }
}

impl From<CallbackError> for ReceiveCallbackError {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::Unsigned => Self::Unsigned,
            CallbackError::Malformed => Self::Malformed,
        }
    }
}
