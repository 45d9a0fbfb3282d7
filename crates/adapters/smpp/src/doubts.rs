//! The end of doubts: what an answer says that came when its message was in doubt already.
//!
//! The application is told by the message's own id, since it has no other. The receipts of such a message name the
//! SMSC's, so that is remembered here; but only when the acceptance was told. A receipt that says "failed" before would
//! make the message due again, and the acceptance would be told of another copy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vestibule_domain::MessageId;
use vestibule_port_sms::{Delivery, DeliveryReport, DeliveryReports, Reported};

use crate::PROVIDER;
use crate::submissions::{Late, News};

/// The pause before something is told once more: the message may be in doubt with us before it is so in storage.
const PAUSE: Duration = Duration::from_secs(1);
/// How many ids are remembered; the oldest makes room.
const MAX_ACCEPTED: usize = 4096;

/// Outlives the links of a session.
pub(crate) struct Doubts {
    reports: Arc<dyn DeliveryReports>,
    /// How long one report may take.
    limit: Duration,
    /// Those being told, and what is to be remembered of them then.
    telling: JoinSet<Option<Accepted>>,
    /// The oldest first.
    accepted: VecDeque<Accepted>,
}

struct Accepted {
    /// The SMSC's.
    id: String,
    message: MessageId,
}

impl Doubts {
    pub(crate) fn new(reports: Arc<dyn DeliveryReports>, limit: Duration) -> Self {
        Self { reports, limit, telling: JoinSet::new(), accepted: VecDeque::new() }
    }

    /// Begins to tell it.
    pub(crate) fn end(&mut self, Late { message, news }: Late) {
        let (delivery, accepted) = match news {
            News::Accepted { id } => {
                tracing::info!(%message, id, "the SMSC accepted a message after the time-out");
                (Delivery::Sent, id.map(|id| Accepted { id, message }))
            }
            News::Refused { reason } => (Delivery::Failed { reason }, None),
        };
        let report = DeliveryReport { provider: PROVIDER, message: Reported::Message(message), delivery };
        let (reports, limit) = (Arc::clone(&self.reports), self.limit);
        self.telling.spawn(async move {
            if !timeout(limit, reports.record(report.clone())).await.unwrap_or(false) {
                sleep(PAUSE).await;
                // Who knows by now that it is not in doubt does not need to be told.
                let _ = timeout(limit, reports.record(report)).await;
            }
            accepted
        });
    }

    /// Waits until the next one is told; whether there was one. May be dropped half-way without a loss.
    pub(crate) async fn told(&mut self) -> bool {
        let Some(told) = self.telling.join_next().await else { return false };
        if let Ok(Some(accepted)) = told {
            if self.accepted.len() >= MAX_ACCEPTED {
                self.accepted.pop_front();
            }
            self.accepted.push_back(accepted);
        }
        true
    }

    /// Which message the SMSC's id is the id of, if it was in doubt.
    pub(crate) fn message(&self, id: &str) -> Option<MessageId> {
        self.accepted.iter().rev().find(|accepted| accepted.id == id).map(|accepted| accepted.message)
    }

    /// The id is another message's now, for instance of an SMSC that counts from the beginning again.
    pub(crate) fn forget(&mut self, id: &str) {
        self.accepted.retain(|accepted| accepted.id != id);
    }
}
