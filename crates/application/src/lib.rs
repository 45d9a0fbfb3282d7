//! The use cases of registration and of coming back, one file each, and the dispatcher that empties the outbox.
//!
//! A use case reads what it needs through the ports, lets the domain decide, and commits what changed as one
//! value. When somebody else was faster it reads and decides again. It is the only caller of ports.
//!
//! Not here: rules (`domain`), statuses and bodies (`http`), protocols and SQL (the adapters).

mod account_standing;
mod add_email;
mod answer_once;
mod authenticate;
mod beat;
mod change_password;
mod check_password;
mod confirm_email;
mod confirm_phone;
mod copy_installation;
mod derivation;
mod dispatcher;
mod erase_account;
mod export_account;
mod facts;
mod introspect;
mod measure;
mod notices;
mod partners;
mod patch_profile;
mod prove_password;
mod providers;
mod receive_callback;
mod recognise_keys;
mod record_delivery;
mod refresh_tokens;
mod report_pumping;
mod request_reset;
mod resend_code;
mod resend_email;
mod reset_password;
mod revoke_token;
mod sessions;
mod settings;
mod sign_in;
mod sign_up;
mod sweep;
mod tokens;
mod unsent_codes;
mod watch_limits;
mod watch_pumping;
mod watch_spending;
mod wording;

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use tokio::sync::Semaphore;
use vestibule_domain::limits::{Limit, Step, Unit};
use vestibule_domain::registration::Outgoing;
use vestibule_domain::spending::{Audience, Money, Spend, Unsent};
use vestibule_domain::{
    Account, AccountKind, Message, MessageId, Origin, PhoneError, PhoneNumber, Recipient, Voice,
};
use vestibule_metrics::objected;
use vestibule_port_security::{AccessTokens, ClientCountries, Clock, Entropy, PasswordHasher};
use vestibule_port_storage::{Answers, Storage};

pub use account_standing::AccountStandingError;
pub use add_email::AddEmailError;
pub use answer_once::{AnswerOnceError, Asker, IdempotencyKey, KeyedRequest, Turn};
pub use authenticate::{AuthenticateError, Customer};
pub use change_password::{ChangePassword, ChangePasswordError};
pub use confirm_email::{ConfirmEmailError, EmailLink};
pub use confirm_phone::{ConfirmPhone, ConfirmPhoneError};
pub use copy_installation::{CopyInstallationError, CopyPhase, CopyProgress, copy_installation};
pub use derivation::{Codes, Derivation, EMAIL_CONFIRMATION_EVENT, MasterKeys};
pub use dispatcher::{Dispatcher, Senders};
pub use erase_account::{EraseAccount, EraseAccountError};
pub use export_account::PersonalData;
pub use introspect::{Introspected, TokenKind};
pub use partners::Partner;
pub use patch_profile::PatchProfileError;
pub use providers::Providers;
pub use receive_callback::{Callbacks, ReceiveCallbackError};
pub use recognise_keys::RecogniseKeysError;
pub use record_delivery::RecordDelivery;
pub use refresh_tokens::RefreshError;
pub use report_pumping::LowBudget;
pub use request_reset::{RequestReset, RequestResetError};
pub use resend_code::{ResendCode, ResendCodeError, ResentCode};
pub use resend_email::ResendEmailError;
pub use reset_password::{CheckResetCode, CheckResetCodeError, ResetPassword, ResetPasswordError};
pub use sessions::{EndSessionError, SessionView};
pub use settings::Settings;
pub use sign_in::{SignIn, SignInError};
pub use sign_up::{SignUp, SignUpError, SignedUp};
pub use tokens::TokenPair;
pub use unsent_codes::UnsentCodes;
pub use vestibule_port_security::PublicKey;
pub use vestibule_port_sms::CallbackRequest;
pub use vestibule_port_storage::{Execution, SignatureDigest, Unavailable};
pub use watch_limits::ToldOfLimits;
pub use watch_pumping::HeldBack;
pub use watch_spending::ToldOfSpending;
pub use wording::{MailText, Wording, WordingError};

/// How often a use case decides again when somebody else was faster. Of any number of rivals one wins each round, and the
/// limits of a registration end the race long before.
const MAX_ROUNDS: usize = 64;

/// The use cases, with what they need from outside.
pub struct Application {
    /// Where registrations and accounts are kept.
    pub storage: Arc<dyn Storage>,
    /// Where the first answers to requests are kept that may be repeated.
    pub answers: Arc<dyn Answers>,
    /// Makes password hashes.
    pub hasher: Arc<dyn PasswordHasher>,
    /// Issues and checks access tokens.
    pub tokens: Arc<dyn AccessTokens>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Where clients are.
    pub countries: Arc<dyn ClientCountries>,
    /// Derives codes and links.
    pub derivation: Arc<Derivation>,
    /// How many passwords are checked at once, which takes milliseconds each; others wait, so that reads find a thread free.
    pub password_checks: Arc<Semaphore>,
    /// Limits and lives.
    pub settings: Settings,
    /// What the guard against pumping has held back and not yet recorded.
    pub held_back: HeldBack,
    /// What the operator was told of what is spent.
    pub told_of_spending: ToldOfSpending,
}

impl Application {
    /// The number that is meant: one that can receive SMS, or a test number.
    ///
    /// # Errors
    /// [`PhoneError`]
    pub fn phone_number(&self, text: &str) -> Result<PhoneNumber, PhoneError> {
        self.settings.test_numbers.parse(text, self.clock.now())
    }

    /// The codes of sign-ups with the number.
    fn sign_up_codes(&self, phone: &PhoneNumber, now: UtcDateTime) -> Codes<'_> {
        self.derivation.codes(self.settings.test_numbers.code(phone, now))
    }

    /// The codes that let the owner of an account set a password. A fixed one opens only what a fixed one has made: a customer's account
    /// is nobody else's, even if the number is named as a test number afterwards.
    fn reset_codes(&self, account: Option<&Account>, now: UtcDateTime) -> Codes<'_> {
        let test = account.filter(|account| account.kind() == AccountKind::Test);
        self.derivation.codes(test.and_then(|test| self.settings.test_numbers.code(test.phone(), now)))
    }

    /// A message on its way out.
    fn message(&self, recipient: Recipient, voice: &Voice, outgoing: Outgoing) -> Message {
        let queued_at = self.clock.now();
        let Outgoing { content, expires_at } = outgoing;
        let id = MessageId::new(self.entropy.ordered_id(queued_at));
        Message { id, recipient, content, voice: voice.clone(), queued_at, expires_at }
    }

    /// Whether the step may be taken, for who wants to know before anything is decided. The inner error is how long to wait.
    async fn admit_step(
        &self,
        step: Step,
        origin: &Origin,
        now: UtcDateTime,
    ) -> Result<Result<(), Duration>, Unavailable> {
        let charges = self.settings.quotas.charges(step, origin, Unit::Kept, now);
        let limits: Vec<_> = charges.iter().map(|charge| charge.limit).collect();
        Ok(measure::admit(&self.storage.budgets(&limits).await?, &charges))
    }

    /// What the message to the number costs; nothing where there is none, for a test number. One that is queued to be dropped must find as much
    /// room. Where accounts are concealed it costs as much until the window ends, so that nobody can tell it from others by what is left.
    fn spends(
        &self,
        message: Option<&Message>,
        to: &PhoneNumber,
        audience: Audience,
        now: UtcDateTime,
    ) -> Vec<Spend> {
        let Some(message) = message else { return Vec::new() };
        let is_sent = message.expires_at > message.queued_at;
        let unsent = match (is_sent, self.settings.conceal_accounts) {
            (true, _) => Unsent::Returned,
            (false, true) => Unsent::Kept,
            (false, false) => Unsent::NotTaken,
        };
        self.settings.spending.spends(to, audience, unsent, now)
    }

    /// Whether there is money for a message that spends this, for who wants to know before anything is decided. The inner error is how long to
    /// wait. What was read tells the operator, too, how much is left.
    async fn admit_spends(
        &self,
        spends: &[Spend],
        now: UtcDateTime,
    ) -> Result<Result<(), Duration>, Unavailable> {
        if spends.is_empty() {
            return Ok(Ok(()));
        }
        let purses: Vec<_> = spends.iter().map(|spend| spend.purse.clone()).collect();
        let spent = self.storage.spent(&purses, now).await?;
        let next = spends.iter().map(|spend| spend.amount).max().unwrap_or_default();
        self.tell_of_spending(&spent, next, now);
        Ok(spends.iter().try_for_each(|spend| {
            let mut of = spent.iter().filter(|of| (&of.purse, of.window) == (&spend.purse, spend.window));
            let decided = spend.decide(of.next().map_or(Money::ZERO, |of| of.amount));
            decided.map(drop).inspect_err(|_| objected("spending", spend.purse.kind()))
        }))
    }

    /// What bears a step from the origin.
    fn limits(&self, step: Step, origin: &Origin) -> Vec<Limit> {
        let charges = self.settings.quotas.charges(step, origin, Unit::Kept, self.clock.now());
        charges.iter().map(|charge| charge.limit).collect()
    }

    /// Whether requests can be served.
    ///
    /// # Errors
    /// [`Unavailable`] while storage is not usable.
    pub async fn ready(&self) -> Result<(), Unavailable> {
        self.storage.ready().await
    }

    /// The keys that access tokens can be checked with now.
    #[must_use]
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.tokens.public_keys(self.clock.now())
    }
}

/// The answer when rivals were faster in every round.
fn contended() -> Unavailable {
    Unavailable("too many writers for one aggregate".to_owned())
}

/// A commit refused for a reason that its changes cannot have: the two sides of the port disagree.
fn impossible(error: &vestibule_port_storage::CommitError) -> Unavailable {
    Unavailable(format!("a commit was refused for a reason that it does not have: {error}"))
}

/// A commit that failed for no reason that has an answer of its own.
fn undecided(error: &vestibule_port_storage::CommitError) -> Unavailable {
    use vestibule_port_storage::CommitError;
    match error {
        CommitError::Unavailable(unavailable) => unavailable.clone(),
        CommitError::Conflict
        | CommitError::PhoneTaken
        | CommitError::EmailTaken
        | CommitError::LimitReached { .. } => impossible(error),
    }
}
