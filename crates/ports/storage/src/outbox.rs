use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use vestibule_domain::{Message, MessageId};

use crate::Unavailable;

/// A message that is this caller's to send until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The message.
    pub message: Message,
    /// How often it was claimed, this time included; together with the id it names the lease.
    pub tries: u32,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// A provider has taken it, or it is worth nothing any more: forget it.
    Done,
    /// Not yet; try again.
    Retry {
        /// No earlier than this.
        at: UtcDateTime,
        /// Why, for the operator; holds nothing personal.
        reason: String,
    },
    /// Never: keep it for the operator to see.
    Dead {
        /// Why, for the operator; holds nothing personal.
        reason: String,
    },
}

/// A message that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try failed.
    pub reason: String,
}

/// The queue of messages that commits have left.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Leases up to `limit` messages that are due, the longest due first.
    ///
    /// A message MUST NOT be leased to two callers at once; it is due again when its lease ends unsettled (the
    /// caller has died).
    async fn claim(
        &self,
        limit: usize,
        lease: Duration,
        now: UtcDateTime,
    ) -> Result<Vec<Claimed>, Unavailable>;

    /// Ends the lease that `tries` names. MUST do nothing when the message has since been claimed again or settled.
    async fn settle(&self, id: MessageId, tries: u32, settlement: Settlement) -> Result<(), Unavailable>;

    /// When the next message is due, leased ones included; `None` while there are none.
    async fn next_due(&self) -> Result<Option<UtcDateTime>, Unavailable>;

    /// Up to `limit` messages that were given up, the newest first.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Unavailable>;

    /// Returns as soon as a commit of this process has queued messages since the last return. May return without cause.
    async fn queued(&self);
}
