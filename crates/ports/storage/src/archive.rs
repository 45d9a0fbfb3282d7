//! A whole installation, record by record, so that it can be moved from one database to another.

use async_trait::async_trait;
use time::UtcDateTime;
use vestibule_domain::audit::Fact;
use vestibule_domain::limits::Limit;
use vestibule_domain::password_reset::PasswordReset;
use vestibule_domain::registration::Registration;
use vestibule_domain::sign_in::SignInGuard;
use vestibule_domain::{
    Account, AttemptId, DeliveryState, FactId, Message, MessageId, PhoneNumber, RefreshTokenHash, Session,
    SessionId, UserId,
};

use crate::{KeyMark, Loaded, NewPassword, NewRefreshToken, NumberDigest, Unavailable};

/// The kinds of records that an installation is moved with. What matters for minutes or a day stays behind: kept answers, accepted signatures, what was
/// spent in the present hour and day, and the records of codes that were sent and held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The mark of the key that used numbers are hashed with, if it is kept already.
    KeyMark,
    /// What is known of phones, with their attempts.
    Registrations,
    /// Accounts.
    Accounts,
    /// Passwords, the earlier ones included.
    Passwords,
    /// Numbers that count as used.
    UsedNumbers,
    /// Sessions.
    Sessions,
    /// Refresh tokens that were handed out.
    RefreshTokens,
    /// Budgets that are not full.
    Limits,
    /// The outbox, dead letters included.
    Messages,
    /// What became of messages that have left the outbox.
    Deliveries,
    /// Who may try passwords.
    SignInGuards,
    /// Password resets.
    PasswordResets,
    /// The audit trail.
    Facts,
}

impl Table {
    /// All of them. A record refers only to records of tables before its own.
    pub const ALL: [Self; 13] = [
        Self::KeyMark,
        Self::Registrations,
        Self::Accounts,
        Self::Passwords,
        Self::UsedNumbers,
        Self::Sessions,
        Self::RefreshTokens,
        Self::Limits,
        Self::Messages,
        Self::Deliveries,
        Self::SignInGuards,
        Self::PasswordResets,
        Self::Facts,
    ];

    /// Its name in the databases.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyMark => "key_mark",
            Self::Registrations => "registrations",
            Self::Accounts => "accounts",
            Self::Passwords => "passwords",
            Self::UsedNumbers => "used_numbers",
            Self::Sessions => "sessions",
            Self::RefreshTokens => "refresh_tokens",
            Self::Limits => "limits",
            Self::Messages => "messages",
            Self::Deliveries => "deliveries",
            Self::SignInGuards => "sign_in_guards",
            Self::PasswordResets => "password_resets",
            Self::Facts => "facts",
        }
    }
}

/// One record, with everything that is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Of [`Table::KeyMark`].
    KeyMark(KeyMark),
    /// Of [`Table::Registrations`].
    Registration(Box<Loaded<Registration>>),
    /// Of [`Table::Accounts`].
    Account(Box<Loaded<Account>>),
    /// Of [`Table::Passwords`].
    Password(NewPassword),
    /// Of [`Table::UsedNumbers`].
    UsedNumber(NumberDigest),
    /// Of [`Table::Sessions`].
    Session(Box<Loaded<Session>>),
    /// Of [`Table::RefreshTokens`].
    RefreshToken(NewRefreshToken),
    /// Of [`Table::Limits`].
    Budget(Budget),
    /// Of [`Table::Messages`].
    Message(Box<QueuedMessage>),
    /// Of [`Table::Deliveries`].
    Delivery(Box<Delivery>),
    /// Of [`Table::SignInGuards`].
    Guard(Box<Loaded<SignInGuard>>),
    /// Of [`Table::PasswordResets`].
    Reset(Box<Loaded<PasswordReset>>),
    /// Of [`Table::Facts`].
    Fact(Box<Fact>),
}

/// A budget that was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub limit: Limit,
    /// When it is full again.
    pub full_at: UtcDateTime,
}

/// A message in the outbox, with how it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMessage {
    /// The message.
    pub message: Message,
    /// When it is to be tried next, or when its lease ends.
    pub due_at: UtcDateTime,
    /// How often it was claimed.
    pub tries: u32,
    /// Whether it was given up.
    pub dead: bool,
    /// Why the last try failed.
    pub reason: Option<String>,
    /// The provider whose answer to the last try was lost.
    pub in_doubt_with: Option<String>,
}

/// What is kept of a message that has left the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message's id.
    pub id: MessageId,
    /// What it said, as the outbox called it.
    pub kind: String,
    /// The attempt whose code it carried.
    pub attempt: Option<AttemptId>,
    /// Who received it, masked.
    pub recipient: String,
    /// Who carried it.
    pub provider: Option<String>,
    /// The provider's own id of it.
    pub reference: Option<String>,
    /// How far it has come.
    pub state: DeliveryState,
    /// Why it failed.
    pub reason: Option<String>,
    /// How often it was tried.
    pub tries: u32,
    /// When it was decided on.
    pub queued_at: UtcDateTime,
    /// When its state last changed.
    pub changed_at: UtcDateTime,
}

/// What a record is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// Of the one mark.
    KeyMark,
    /// Of a registration.
    Registration(PhoneNumber),
    /// Of an account.
    Account(UserId),
    /// Of a password: whose, and when it was set.
    Password(UserId, UtcDateTime),
    /// Of a used number.
    UsedNumber(NumberDigest),
    /// Of a session.
    Session(SessionId),
    /// Of a refresh token.
    RefreshToken(RefreshTokenHash),
    /// Of a budget.
    Budget(Limit),
    /// Of a queued message.
    Message(MessageId),
    /// Of a delivery.
    Delivery(MessageId),
    /// Of a guard.
    Guard(PhoneNumber),
    /// Of a password reset.
    Reset(PhoneNumber),
    /// Of a fact.
    Fact(FactId),
}

impl Record {
    /// What it is found by.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::KeyMark(_) => Key::KeyMark,
            Self::Registration(registration) => Key::Registration(registration.value.phone().clone()),
            Self::Account(account) => Key::Account(account.value.user()),
            Self::Password(password) => Key::Password(password.user, password.set_at),
            Self::UsedNumber(digest) => Key::UsedNumber(*digest),
            Self::Session(session) => Key::Session(session.value.id()),
            Self::RefreshToken(token) => Key::RefreshToken(token.hash),
            Self::Budget(budget) => Key::Budget(budget.limit),
            Self::Message(queued) => Key::Message(queued.message.id),
            Self::Delivery(delivery) => Key::Delivery(delivery.id),
            Self::Guard(guard) => Key::Guard(guard.value.phone.clone()),
            Self::Reset(reset) => Key::Reset(reset.value.phone().clone()),
            Self::Fact(fact) => Key::Fact(fact.id),
        }
    }
}

/// Reads a whole installation.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Up to `limit` records of the table, from the first after `after` on.
    ///
    /// - MUST return every record of the table to whoever asks on with the last key until a page is empty.
    /// - MUST keep the same order as every other implementation: of identifiers and digests by their bytes, of phones and limits by
    ///   those of their text.
    /// - MUST answer [`Unavailable`] rather than leave a record out that it cannot read.
    async fn export(
        &self,
        table: Table,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, Unavailable>;

    /// How many records the table has.
    async fn count(&self, table: Table) -> Result<u64, Unavailable>;
}

/// An installation that is read only.
#[async_trait]
pub trait ArchiveSource: Archive {
    /// Whether somebody has written since it was opened. [`Archive`] answers as if nobody had.
    async fn has_changed(&self) -> Result<bool, Unavailable>;
}

/// Why a page was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A record is there already, or one that it cannot be beside.
    #[error("a record is there already")]
    Conflict,
    /// Nothing is known to have been written; it may have been, if the answer was lost.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An installation that records can be put into.
#[async_trait]
pub trait ArchiveTarget: Archive {
    /// Writes all of the records in one durable transaction, or nothing.
    ///
    /// - MUST keep every record so that [`Archive::export`] returns it as it was given.
    /// - MUST answer [`ImportError::Conflict`] when a record of the same key is there, whatever it holds.
    async fn import(&self, records: Vec<Record>) -> Result<(), ImportError>;

    /// Puts the mark, or none, in the place of [`KeyMark::OF_AN_UNFINISHED_COPY`], durably.
    ///
    /// - MUST answer [`ImportError::Conflict`] and change nothing when another mark is kept, or none; of several callers exactly one
    ///   MUST succeed.
    async fn finish(&self, mark: Option<KeyMark>) -> Result<(), ImportError>;

    /// The name of a table that is not empty although only who serves from here writes to it: it is of none of [`Table::ALL`].
    async fn trace_of_service(&self) -> Result<Option<&'static str>, Unavailable>;
}
