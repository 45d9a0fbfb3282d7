use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use vestibule_domain::pumping::SentCode;
use vestibule_domain::spending::Money;
use vestibule_domain::{Channel, DeliveryState, Message, MessageId};

use crate::Unavailable;

/// How many messages there is room for, by what carries them: none waits for a place among messages that go another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Text messages.
    pub sms: usize,
    /// Mails.
    pub mail: usize,
}

impl Room {
    /// Room for as many of each.
    #[must_use]
    pub const fn for_each(count: usize) -> Self {
        Self { sms: count, mail: count }
    }

    /// Whether there is none at all.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.sms == 0 && self.mail == 0
    }

    /// How many messages of this channel there is room for.
    #[must_use]
    pub const fn of(self, channel: Channel) -> usize {
        match channel {
            Channel::Sms => self.sms,
            Channel::Mail => self.mail,
        }
    }
}

/// A message that is this caller's to send until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The message.
    pub message: Message,
    /// How often it was claimed, this time included; together with the id it names the lease.
    pub tries: u32,
    /// The provider that the try before left it in doubt with, if it did.
    pub doubted: Option<String>,
}

/// What came of a try.
///
/// Where a message ends in [`Expired`](Self::Expired) or [`Dead`](Self::Dead) and every try before has been settled with
/// [`Retry`](Self::Retry), so that nobody can have been billed, what its commit has spent is given back with the settlement, and its [`SentCode`] has no
/// price any more. Where it was [`Sent`](Self::Sent) for another cost than was spent, what was spent is corrected with the settlement, and so is the
/// price of its [`SentCode`]: to more in any case, whatever the ceilings; to less only if every try before was settled with
/// [`Retry`](Self::Retry), since another may have been billed too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// A provider has taken it: it leaves the queue, and what becomes of it is kept without its recipient.
    Sent {
        /// The provider's name in the configuration.
        provider: &'static str,
        /// The provider's own id of the message, which its delivery reports may name.
        reference: Option<String>,
        /// What it cost; `None`: as much as was spent when it was queued, or nobody knows.
        cost: Option<Money>,
        /// When.
        at: UtcDateTime,
    },
    /// It is worth nothing any more, and leaves the queue.
    Expired {
        /// When.
        at: UtcDateTime,
    },
    /// Not yet; try again.
    Retry {
        /// No earlier than this.
        at: UtcDateTime,
        /// Why, for the operator; holds nothing personal.
        reason: String,
    },
    /// Nobody knows whether the provider has taken it. Its delivery report may tell, or else it is tried again.
    InDoubt {
        /// The provider's name in the configuration.
        provider: &'static str,
        /// How long a report is waited for.
        until: UtcDateTime,
        /// Why, for the operator; holds nothing personal.
        reason: String,
    },
    /// Never: keep it for the operator to see.
    Dead {
        /// Why, for the operator; holds nothing personal.
        reason: String,
    },
}

/// Which message a provider reports of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// By our own id.
    Message(MessageId),
    /// By the reference that [`Settlement::Sent`] has recorded for the provider.
    Reference(String),
}

/// What a provider says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The provider's name in the configuration.
    pub provider: &'static str,
    /// Which message.
    pub message: Reported,
    /// What became of it; never [`DeliveryState::Queued`].
    pub state: DeliveryState,
    /// Why it failed, for the operator; holds nothing personal.
    pub reason: Option<String>,
    /// When it was reported.
    pub at: UtcDateTime,
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

/// What there is of the messages of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many wait, leased ones included.
    pub waiting: u32,
    /// When the next one is due, leased ones included.
    pub next_due: Option<UtcDateTime>,
    /// How many were given up.
    pub dead: u32,
}

impl Backlog {
    /// How many messages are counted at most: of more it is enough to know that there are so many.
    pub const COUNTED: u32 = 100_000;
}

/// The queue of messages that commits have left.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Leases as many messages that are due as there is room for, of each channel the longest due first.
    ///
    /// MUST NOT take longer for one channel because many messages of another are due.
    ///
    /// A message MUST NOT be leased to two callers at once; it is due again when its lease ends unsettled (the
    /// caller has died). A lease ends the doubt about the try before, which is told in [`Claimed::doubted`].
    async fn claim(&self, room: Room, lease: Duration, now: UtcDateTime)
    -> Result<Vec<Claimed>, Unavailable>;

    /// Ends the lease that `tries` names. MUST do nothing when the message has since been claimed again or settled.
    ///
    /// The code that has lost its price, as it stands now, for the guard against pumping to be given back what it took. MUST be answered at most once; it is
    /// lost with the answer.
    async fn settle(
        &self,
        id: MessageId,
        tries: u32,
        settlement: Settlement,
    ) -> Result<Option<SentCode>, Unavailable>;

    /// Records what a provider says of a message; whether that needs no saying again.
    ///
    /// - Of a message that was sent, MUST keep the state unless [`DeliveryState::may_become`] allows the change; and unless it was this
    ///   provider that sent it, where it says anything but that the message was delivered.
    /// - A queued message of which the provider says anything but failure has left after all: MUST end as if it had been settled so. So
    ///   MUST a dead letter that was sent or delivered.
    /// - A queued message that is in doubt with this provider, and failed, MUST be due at once.
    /// - MUST answer false, and change nothing, where a reference is unknown (the try may not be settled yet) or a queued message
    ///   that is not in doubt is said to have failed; and true for an unknown id (it was swept).
    async fn record_delivery(&self, report: &Report) -> Result<bool, Unavailable>;

    /// When the next message is due of the channels that there is room for, leased ones included; `None` while there are none.
    async fn next_due(&self, room: Room) -> Result<Option<UtcDateTime>, Unavailable>;

    /// What there is of the channel's messages, for the operator.
    ///
    /// MUST NOT take longer because there are many of another channel, and MUST count no further than [`Backlog::COUNTED`].
    async fn backlog(&self, channel: Channel) -> Result<Backlog, Unavailable>;

    /// Up to `limit` messages that were given up, the newest first.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Unavailable>;

    /// Returns as soon as a commit of this process has queued messages since the last return, and some time after one of
    /// another process has, where that can be noticed. May return without cause.
    async fn queued(&self);
}
