//! A request that names itself by an `Idempotency-Key` is carried out once; whoever repeats it gets the first answer.
//!
//! Storage knows the request by a keyed hash, and holds the answer encrypted. What an answer looks like is a matter of the wire: here it
//! is bytes.

use std::time::Duration;

use vestibule_domain::limits::{Step, Unit};
use vestibule_domain::{Fingerprint, MerchantId, Origin, SessionId, UserId};
use vestibule_port_storage::{BeginError, Beginning, Execution, Unavailable};
use zeroize::Zeroizing;

use crate::Application;

/// How long an answer is repeated.
const KEPT_FOR: Duration = Duration::from_hours(24);

/// When who carries a request out counts as dead. No answer takes longer than five seconds, and a use case that was given up at that
/// has been for long.
const LEASE: Duration = Duration::from_secs(30);

/// How often a request is begun whose kept answer cannot be read.
const MAX_BEGINNINGS: usize = 2;

/// What a client names a request by, so that it can be repeated.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A key has 1 to 255 visible ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_key.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Who knows the key may ask for the answer: it is not shown.
impl std::fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdempotencyKey([redacted])")
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A customer in a session, whichever of its tokens shows it. Two sessions don't meet: to sign out means another thing in each.
    Customer(UserId, SessionId),
    /// Anybody, by the device that the request names.
    Anybody(Option<Fingerprint>),
}

/// A request that may be repeated.
pub struct KeyedRequest<'a> {
    /// Its name.
    pub key: &'a IdempotencyKey,
    /// What it asks for: the method and the path.
    pub target: [&'a str; 2],
    /// Who asks.
    pub asker: Asker,
    /// The partner whose app asks: what one was answered is not repeated to another.
    pub merchant: Option<MerchantId>,
    /// Where it comes from, which bears what its answer takes of storage.
    pub origin: Origin,
    /// All that it carries.
    pub payload: &'a [&'a [u8]],
}

/// What is to be done with a request.
pub enum Turn {
    /// It is to be carried out, and then ended by [`Application::keep_answer`] or [`Application::forget_request`].
    First(Execution),
    /// This was its answer.
    Repeat(Zeroizing<Vec<u8>>),
}

/// Why a request is neither carried out nor answered as before.
#[derive(Debug, thiserror::Error)]
pub enum AnswerOnceError {
    /// It is being carried out.
    #[error("the request is being carried out")]
    Running,
    /// The key belongs to a request that carried something else.
    #[error("the key was used for another request")]
    OtherPayload,
    /// Too many answers are kept already that were given to where it comes from, or altogether.
    #[error("too many requests with a key")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<BeginError> for AnswerOnceError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::LimitReached { retry_after } => Self::TooMany { retry_after },
            BeginError::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}

impl Application {
    /// Who asks with this access token, if it is genuine. Whether its session lives is not asked: a customer who has signed out may ask
    /// again for the answer to that.
    #[must_use]
    pub fn token_asker(&self, access_token: &str) -> Option<Asker> {
        let claims = self.tokens.verify(access_token, self.clock.now()).ok()?;
        Some(Asker::Customer(claims.user, claims.session))
    }

    /// Begins a request, or finds what it was answered.
    ///
    /// # Errors
    /// [`AnswerOnceError`]
    pub async fn begin_request(&self, request: &KeyedRequest<'_>) -> Result<Turn, AnswerOnceError> {
        let now = self.clock.now();
        let known_by = self.derivation.request_digest(request);
        let execution = Execution {
            id: self.entropy.unguessable_id(),
            request: known_by,
            payload: self.derivation.payload_digest(&known_by, request.payload),
            now,
            leased_until: now + LEASE,
            forget_at: now + KEPT_FOR,
        };
        let charges = self.settings.quotas.charges(Step::KeyedRequest, &request.origin, Unit::Taken, now);
        for _ in 0..MAX_BEGINNINGS {
            match self.answers.begin(&execution, &charges).await? {
                Beginning::Begun => return Ok(Turn::First(execution)),
                Beginning::Running => return Err(AnswerOnceError::Running),
                Beginning::OtherPayload => return Err(AnswerOnceError::OtherPayload),
                Beginning::Answered { by, sealed } => {
                    if let Some(answer) = self.derivation.open_answer(&execution, &sealed) {
                        return Ok(Turn::Repeat(answer));
                    }
                    // Sealed with a master key that is gone: every step is safe to repeat, and better than no answer.
                    tracing::warn!("a kept answer cannot be opened; its request is carried out again");
                    self.answers.forget_request(&known_by, by).await?;
                }
            }
        }
        Err(AnswerOnceError::Running)
    }

    /// Keeps the answer of a request that was carried out.
    ///
    /// # Errors
    /// [`Unavailable`]; the request is carried out again when it is repeated after its lease.
    pub async fn keep_answer(&self, execution: &Execution, answer: &[u8]) -> Result<(), Unavailable> {
        let sealed = self.derivation.seal_answer(execution, &*self.entropy, answer);
        let sealed = sealed.ok_or_else(|| Unavailable("an answer cannot be sealed".to_owned()))?;
        self.answers.keep_answer(execution, sealed).await
    }

    /// Forgets a request whose answer decides nothing, so that it is carried out when it is repeated.
    ///
    /// # Errors
    /// [`Unavailable`]; it waits for the end of its lease then.
    pub async fn forget_request(&self, execution: &Execution) -> Result<(), Unavailable> {
        self.answers.forget_request(&execution.request, execution.id).await
    }
}
