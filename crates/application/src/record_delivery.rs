use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;
use vestibule_domain::DeliveryState;
use vestibule_port_security::Clock;
use vestibule_port_sms::{Delivery, DeliveryReport, DeliveryReports, Reported};
use vestibule_port_storage::{Outbox, Report, Reported as Stored};

/// Records what the providers say of messages after they took them.
pub struct RecordDelivery {
    /// Where messages are followed.
    pub outbox: Arc<dyn Outbox>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The dispatcher's: a message in doubt that has failed is due at once.
    pub wake: Arc<Notify>,
}

#[async_trait]
impl DeliveryReports for RecordDelivery {
    async fn record(&self, report: DeliveryReport) -> bool {
        let report = self.stored(report);
        let (provider, state) = (report.provider, report.state.as_str());
        // Which message: its id or the provider's own, neither of which tells the recipient.
        let (message, reason) = (&report.message, report.reason.as_deref());
        match self.outbox.record_delivery(&report).await {
            Ok(true) if report.state == DeliveryState::Failed => {
                tracing::warn!(provider, of = ?message, reason, "a message will not arrive, its provider says");
                self.wake.notify_one();
                true
            }
            Ok(true) => {
                tracing::info!(provider, of = ?message, state, "reported");
                true
            }
            Ok(false) => {
                tracing::debug!(provider, of = ?message, state, "a report that cannot be placed yet");
                false
            }
            Err(error) => {
                tracing::warn!(provider, of = ?message, state, %error, "a report could not be recorded");
                false
            }
        }
    }
}

impl RecordDelivery {
    fn stored(&self, report: DeliveryReport) -> Report {
        let (state, reason) = match report.delivery {
            Delivery::Sent => (DeliveryState::Sent, None),
            Delivery::Delivered => (DeliveryState::Delivered, None),
            Delivery::Failed { reason } => (DeliveryState::Failed, Some(reason)),
            Delivery::Expired => (DeliveryState::Expired, None),
        };
        let message = match report.message {
            Reported::Message(id) => Stored::Message(id),
            Reported::Reference(reference) => Stored::Reference(reference),
        };
        Report { provider: report.provider, message, state, reason, at: self.clock.now() }
    }
}
