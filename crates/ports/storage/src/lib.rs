//! What the use cases need from storage: reads by intent, and one write.
//!
//! A use case reads what it needs, lets the domain decide, and hands everything that changed to
//! [`Storage::commit`] as one [`Changes`] value. There is no transaction object, so none can be held open over a
//! network call; and nothing is checked before it is written that the write does not check itself. Messages that follow from a commit
//! are part of it, and leave by the [`Outbox`]. Beside all that, [`Answers`] remembers what requests were answered that may be repeated.
//! A whole installation moves to another database by the [`archive`].
//!
//! Not here: SQL, rows, retries, or a rule about what may change.

mod answers;
pub mod archive;
pub mod encoding;
mod outbox;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::audit::Fact;
use vestibule_domain::limits::{Charge, Limit, Step, Tally};
use vestibule_domain::password_reset::PasswordReset;
use vestibule_domain::pumping::{self, HeldCodes, Objection, SentCode, TracedCode};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::Registration;
use vestibule_domain::sign_in::SignInGuard;
use vestibule_domain::spending::{Correction, Purse, Spend, Spent};
use vestibule_domain::{
    Account, AttemptId, DeliveryState, EmailAddress, EmailVerificationId, Generation, HeldToken, Message,
    PasswordHash, PhoneNumber, RefreshTokenHash, Session, SessionId, UserId,
};

pub use vestibule_domain::NumberDigest;

pub use answers::{Answers, BeginError, Beginning, Execution, PayloadDigest, RequestDigest};
pub use outbox::{Backlog, Claimed, DeadLetter, Outbox, Report, Reported, Room, Settlement};

/// How often a stored aggregate was written. Only the version that was loaded can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub i64);

/// An aggregate as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The aggregate.
    pub value: T,
    /// The version to name when it is saved.
    pub version: Version,
}

/// An aggregate to save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Save<T> {
    /// The aggregate.
    pub value: T,
    /// The version that it replaces; `None` if there must be none yet.
    pub replaces: Option<Version>,
}

impl<T> Save<T> {
    /// Saves something that there is not yet.
    pub const fn new(value: T) -> Self {
        Self { value, replaces: None }
    }

    /// Saves the successor of what was loaded as `version`.
    pub const fn over(version: Version, value: T) -> Self {
        Self { value, replaces: Some(version) }
    }
}

/// What is left of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// When each of the parts is full again that it is kept in, if it was ever charged; each has its share of the burst. A whole budget is one part.
    pub parts: Vec<Option<UtcDateTime>>,
}

impl Level {
    /// Of a budget that is not kept in parts.
    #[must_use]
    pub fn whole(full_at: UtcDateTime) -> Self {
        Self { parts: vec![Some(full_at)] }
    }

    /// The share of the part that has most left, and when that is full again: at no time to come, if it was never charged. Where there are fewer units
    /// than parts, the first parts have them.
    #[must_use]
    pub fn fullest(&self, quota: Quota) -> (Quota, Option<UtcDateTime>) {
        let with_units = self.parts.iter().zip(0..quota.burst).map(|(full_at, _)| *full_at);
        let parts = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        (quota.part(parts), with_units.min().flatten())
    }
}

/// The limits that were ever charged, of those that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budgets(pub HashMap<Limit, Level>);

impl Budgets {
    /// Whether all the charges would be taken now.
    ///
    /// # Errors
    /// The wait for a unit of the first that would not.
    pub fn admit(&self, charges: &[Charge]) -> Result<(), Duration> {
        self.objection(charges).map_or(Ok(()), |(_, wait)| Err(wait))
    }

    /// The first limit whose charge would not be taken now, and the wait for a unit of it.
    #[must_use]
    pub fn objection(&self, charges: &[Charge]) -> Option<(Limit, Duration)> {
        charges.iter().find_map(|charge| {
            let (quota, full_at) = self.0.get(&charge.limit)?.fullest(charge.quota);
            Some((charge.limit, Charge { quota, ..*charge }.decide(full_at).err()?))
        })
    }

    /// Whether the guard against pumping would let a code pass that is charged so; `chance` as for [`pumping::judge`].
    ///
    /// # Errors
    /// The objection of the first budget that has one.
    pub fn judge(&self, charges: &[Charge], chance: impl Fn() -> u8) -> Result<(), Objection> {
        charges.iter().try_for_each(|charge| {
            let Some(level) = self.0.get(&charge.limit) else {
                return pumping::judge(charge, None, &chance);
            };
            let (quota, full_at) = level.fullest(charge.quota);
            pumping::judge(&Charge { quota, ..*charge }, full_at, &chance)
        })
    }
}

/// A password of an account; the newest is the one that signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPassword {
    /// Whose it is.
    pub user: UserId,
    /// Its hash.
    pub hash: PasswordHash,
    /// When it was set.
    pub set_at: UtcDateTime,
}

/// A refresh token that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefreshToken {
    /// Its hash.
    pub hash: RefreshTokenHash,
    /// The session that it continues.
    pub session: SessionId,
    /// Its generation in the session.
    pub generation: Generation,
    /// When it was handed out.
    pub issued_at: UtcDateTime,
    /// The first moment at which it is worth nothing.
    pub expires_at: UtcDateTime,
}

impl NewRefreshToken {
    /// The token as its session judges it.
    #[must_use]
    pub const fn held(&self) -> HeldToken {
        HeldToken { hash: self.hash, generation: self.generation, expires_at: self.expires_at }
    }
}

/// Which sessions end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSessions {
    /// This one of the user's, which must be there.
    One(UserId, SessionId),
    /// All of the user's that are there before the commit, but for one.
    AllBut(UserId, Option<SessionId>),
}

/// An account to erase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Whose it is.
    pub user: UserId,
    /// The version of the account that was loaded.
    pub replaces: Version,
    /// The version of the guard that was loaded, if there must be one: a password that was proved is the right one still.
    pub guard: Option<Version>,
    /// Its number.
    pub phone: PhoneNumber,
    /// The number as facts know it, and as it counts as used from now on, if it did not: the key that it was known by may have been lost since.
    pub number: NumberDigest,
}

/// Everything that one use case changed.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The registration of one phone.
    pub registration: Option<Save<Registration>>,
    /// An account.
    pub account: Option<Save<Account>>,
    /// A password of an account, the newest from now on; or another hash of one that is there, found by when it was set.
    pub password: Option<NewPassword>,
    /// Passwords of an account that are remembered no more: whose, and when they were set.
    pub forgotten_passwords: Vec<(UserId, UtcDateTime)>,
    /// A number that counts as used from now on.
    pub used_number: Option<NumberDigest>,
    /// A number that counts as used no more. Never the one that is used from now on.
    pub freed_number: Option<NumberDigest>,
    /// Who may try passwords for one phone.
    pub guard: Option<Save<SignInGuard>>,
    /// The password reset of one phone.
    pub reset: Option<Save<PasswordReset>>,
    /// Sessions that end, with their refresh tokens.
    pub end_sessions: Option<EndSessions>,
    /// A session that was opened or refreshed. Never one of those that end.
    pub session: Option<Save<Session>>,
    /// A refresh token that was handed out.
    pub refresh_token: Option<NewRefreshToken>,
    /// Limits to charge, each of them another; in every use case in the same order, so that none waits for the other.
    pub charges: Vec<Charge>,
    /// Budgets to correct whatever is left of them, none of them charged: after the charges, and in the same order in every use case.
    pub tallies: Vec<Tally>,
    /// What the first message costs, each sum under its ceiling and in a purse and window of its own; in every use case in the same order.
    /// What becomes of the message may give it back: see [`Settlement`].
    pub spends: Vec<Spend>,
    /// What was spent before and turned out to be another sum, in a purse and window of its own each. Windows that were forgotten are left so.
    pub corrections: Vec<Correction>,
    /// What is to be sent because of all this.
    pub messages: Vec<Message>,
    /// The one message, where it carries a sign-up's code that the guard against pumping keeps an eye on.
    pub sent_code: Option<SentCode>,
    /// An attempt whose codes have come back: they are marked so as of this moment.
    pub codes_back: Option<(AttemptId, UtcDateTime)>,
    /// What happened.
    pub facts: Vec<Fact>,
    /// An account that goes, with everything that is personal: its passwords and sessions, what is known of its phone, the
    /// [`waiting_messages`](Storage::waiting_messages) of its owner, dead letters included, and the addresses and devices in the facts
    /// of its own and its number's past; the facts of the same commit are kept as they are. Nothing else that is of the account may be changed
    /// with it, but that one session may be demanded by ending it; and no message may be sent.
    pub erase: Option<Erasure>,
}

/// What a partner's signature is known by: a hash of whose it is and of what no other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SignatureDigest(pub [u8; 32]);

/// What a key is known by that hashes used numbers: a keyed hash that tells nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMark(pub [u8; 32]);

impl KeyMark {
    /// No key's: kept while an installation is copied into here, so that nobody serves half of it.
    pub const OF_AN_UNFINISHED_COPY: Self = Self([0; 32]);
}

/// What tells under which key storage was used so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEvidence {
    /// The mark that is kept.
    pub mark: Option<KeyMark>,
    /// The number of an account, whichever: it counts as used under that key.
    pub phone: Option<PhoneNumber>,
}

/// What is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// The present moment.
    pub now: UtcDateTime,
    /// Records of messages and codes from before this are forgotten, dead letters and codes that were held back included, and what was spent
    /// in windows that began before.
    /// At least a day ago.
    pub messages_before: UtcDateTime,
    /// Facts from before this are forgotten.
    pub facts_before: UtcDateTime,
    /// Rows of each kind at once.
    pub batch: u32,
}

/// A part of a list that is too long to be read at once, the oldest first; of one moment, that with the lowest id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From this moment on.
    pub since: UtcDateTime,
    /// After the element of that moment and id, which need not be there.
    pub after: Option<(UtcDateTime, Uuid)>,
    /// No more than this.
    pub limit: u32,
}

/// What a sign-up needs to know.
#[derive(Debug, Clone)]
pub struct SignUpState {
    /// What is known of the phone.
    pub registration: Option<Loaded<Registration>>,
    /// Whether an account holds or ever held the number.
    pub number_used: bool,
    /// What is left to the client.
    pub budgets: Budgets,
}

/// An account with one of its living sessions.
#[derive(Debug, Clone)]
pub struct SignedInAccount {
    /// The account.
    pub account: Loaded<Account>,
    /// The session.
    pub session: Loaded<Session>,
}

/// A refresh token that was handed out and has not been forgotten, with its session and account.
#[derive(Debug, Clone)]
pub struct RefreshState {
    /// The token.
    pub token: NewRefreshToken,
    /// Whose it is.
    pub signed_in: SignedInAccount,
}

/// What is known of a phone when somebody wants to prove to be its owner.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The account, if there is one.
    pub account: Option<Loaded<Account>>,
    /// Its passwords, the newest first.
    pub passwords: Vec<NewPassword>,
    /// Who may try a password.
    pub guard: Option<Loaded<SignInGuard>>,
    /// The password reset.
    pub reset: Option<Loaded<PasswordReset>>,
    /// What is left to the client.
    pub budgets: Budgets,
}

/// Whose facts are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactsOf {
    /// An account's, those from before it was opened not included.
    User(UserId),
    /// A number's.
    Number(NumberDigest),
}

/// Storage cannot answer now: it is down, overloaded, or holds what nobody can read. The text is for
/// the log and never holds a stored value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage is unavailable: {0}")]
pub struct Unavailable(pub String);

/// Why a commit changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// An aggregate is no longer at the version that was loaded: load again and decide again.
    #[error("somebody else was faster")]
    Conflict,
    /// The number counts as used already.
    #[error("the number is taken")]
    PhoneTaken,
    /// Another account has confirmed the address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// The charged limit has no unit left, or more would be spent than may be.
    #[error("the limit is reached")]
    LimitReached {
        /// How long until it has one, or until the next window begins.
        retry_after: Duration,
    },
    /// Nothing is known to have been written; it may have been, if the answer was lost.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Where registrations and accounts are kept.
///
/// Every read MUST see all commits that were acknowledged before it began. Moments are kept to the millisecond.
/// `testkit::storage_contract` holds these clauses as tests; every implementation runs them.
#[async_trait]
pub trait Storage: Send + Sync {
    /// What a sign-up with the phone from the client needs to know, in one read.
    async fn sign_up_state(
        &self,
        phone: &PhoneNumber,
        digest: &NumberDigest,
        limits: &[Limit],
    ) -> Result<SignUpState, Unavailable>;

    /// What is known of the phone.
    async fn registration(&self, phone: &PhoneNumber) -> Result<Option<Loaded<Registration>>, Unavailable>;

    /// The account, provided that the session is one of its own and has not ended: MUST be `None` otherwise.
    async fn account_of_session(
        &self,
        user: UserId,
        session: SessionId,
    ) -> Result<Option<SignedInAccount>, Unavailable>;

    /// The refresh token with its session and account, whether or not it has expired or was spent; `None` once its session has ended.
    async fn refresh_state(&self, token: &RefreshTokenHash) -> Result<Option<RefreshState>, Unavailable>;

    /// What is known of the phone, in one read: MUST be as it was at one moment.
    async fn credentials(&self, phone: &PhoneNumber, limits: &[Limit]) -> Result<Credentials, Unavailable>;

    /// What is left of budgets.
    async fn budgets(&self, of: &[Limit]) -> Result<Budgets, Unavailable>;

    /// The account.
    async fn account(&self, user: UserId) -> Result<Option<Loaded<Account>>, Unavailable>;

    /// The living sessions of the account, the newest first.
    async fn sessions(&self, user: UserId) -> Result<Vec<Session>, Unavailable>;

    /// Up to `limit` facts, the newest first; of one moment, that with the higher id.
    async fn facts(&self, of: FactsOf, limit: usize) -> Result<Vec<Fact>, Unavailable>;

    /// Messages that wait for the owner of the account, the newest first: those to its phone, those that carry its own
    /// [`verification`](vestibule_domain::EmailState::verification), and those to its confirmed address, as it is written there.
    /// Leased ones are among them, dead letters are not.
    ///
    /// MUST NOT go by an address that is not confirmed: it may be somebody else's, or be given by several accounts.
    async fn waiting_messages(&self, account: &Account) -> Result<Vec<Message>, Unavailable>;

    /// The account whose present or confirmed address the link belongs to.
    async fn account_by_email_verification(
        &self,
        link: EmailVerificationId,
    ) -> Result<Option<Loaded<Account>>, Unavailable>;

    /// Whether an account other than `user` has confirmed the address, compared by [`EmailAddress::canonical`].
    async fn email_confirmed_by_other(
        &self,
        address: &EmailAddress,
        user: UserId,
    ) -> Result<bool, Unavailable>;

    /// Writes all of it in one durable transaction, or nothing.
    ///
    /// - MUST answer [`CommitError::Conflict`] when an aggregate is not at the version that [`Save::replaces`] names, or is there
    ///   when it names none. Of any number of commits over one version exactly one succeeds.
    /// - MUST answer [`CommitError::Conflict`] when an account or a session is named that is not there any more.
    /// - MUST answer [`CommitError::PhoneTaken`] when the used number is known already, or another account has the phone.
    /// - MUST answer [`CommitError::EmailTaken`] when the account's confirmed address is confirmed in another.
    /// - MUST answer [`CommitError::LimitReached`] when a charged budget is empty, with the wait for a unit of the first that is;
    ///   and when more would be spent in a window than its ceiling, with the rest of the first such window.
    /// - MUST decide the last three by constraint or inside the transaction, never by a check before it.
    /// - Messages are visible to [`Outbox::claim`] exactly when the commit is, and wake [`Outbox::queued`].
    /// - Dropping the future MUST leave either all or nothing behind, and no open transaction.
    async fn commit(&self, changes: Changes) -> Result<(), CommitError>;

    /// How far the newest message of the attempt has come; `None` if there is none, or none any more.
    async fn delivery(&self, attempt: AttemptId) -> Result<Option<DeliveryState>, Unavailable>;

    /// What was spent out of the purses in the windows that hold the moment, in no certain order; nothing of those that have spent nothing.
    async fn spent(&self, of: &[Purse], now: UtcDateTime) -> Result<Vec<Spent>, Unavailable>;

    /// Budgets of a step that are not full at the moment, the emptiest first, as measured by the time until they are full; no more than `limit`.
    async fn budgets_in_use(&self, step: Step, now: UtcDateTime, limit: u32) -> Result<Budgets, Unavailable>;

    /// Records what the guard against pumping has held back.
    async fn record_held_codes(&self, held: &[(Uuid, HeldCodes)]) -> Result<(), Unavailable>;

    /// Codes that were sent, by their messages' ids, with what became of them.
    async fn sent_codes(&self, page: Page) -> Result<Vec<TracedCode>, Unavailable>;

    /// Codes that were held back.
    async fn held_codes(&self, page: Page) -> Result<Vec<(Uuid, HeldCodes)>, Unavailable>;

    /// Accepts a signature that was not accepted before, and remembers it until `forget_at`; whether it did.
    ///
    /// Of any number of callers with one signature exactly one MUST be told true, until a sweep past `forget_at`. MUST be durable
    /// before it is told.
    async fn accept_signature(
        &self,
        signature: &SignatureDigest,
        forget_at: UtcDateTime,
    ) -> Result<bool, Unavailable>;

    /// What tells under which key it was used so far.
    async fn key_evidence(&self) -> Result<KeyEvidence, Unavailable>;

    /// Keeps the mark of a key unless one is kept already; returns the one that is kept.
    ///
    /// Of any number of callers all MUST be told the same one, and whoever asks later, too. MUST be durable before it is told.
    async fn keep_key_mark(&self, mark: &KeyMark) -> Result<KeyMark, Unavailable>;

    /// Forgets some of what no longer matters: registrations, guards, resets, answers and signatures past their `forget_at`, budgets that are full
    /// again, facts that are old enough, refresh tokens that have expired and the sessions that have none left, records of messages that are
    /// old enough and what was spent as long ago.
    /// Returns how many rows that were; 0 when there is nothing left to forget.
    ///
    /// MUST take no more than about `sweep.batch` rows of each kind at once, and hold no lock longer than that takes.
    async fn sweep(&self, sweep: Sweep) -> Result<usize, Unavailable>;

    /// Whether it can be used: reachable, and its tables as this version needs them.
    async fn ready(&self) -> Result<(), Unavailable>;
}
