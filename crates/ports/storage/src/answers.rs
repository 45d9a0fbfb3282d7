use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::limits::Charge;

use crate::{CommitError, Unavailable};

/// What a request is found by that may be repeated: a keyed hash of its key, what it asks for, and who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestDigest(pub [u8; 32]);

/// A keyed hash of what such a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadDigest(pub [u8; 32]);

/// A request that one caller carries out, until its lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// Its own name: no other execution has it.
    pub id: Uuid,
    /// Which request.
    pub request: RequestDigest,
    /// What it carries.
    pub payload: PayloadDigest,
    /// The present moment.
    pub now: UtcDateTime,
    /// When its caller counts as dead.
    pub leased_until: UtcDateTime,
    /// The first moment at which the request counts as new again.
    pub forget_at: UtcDateTime,
}

/// Whether a request is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// By this caller, now.
    Begun,
    /// Somebody else does.
    Running,
    /// It was.
    Answered {
        /// Which execution has answered it.
        by: Uuid,
        /// The answer, as it was kept.
        sealed: Vec<u8>,
    },
    /// The request was made before, and carried something else.
    OtherPayload,
}

/// Why it is not known whether a request is to be carried out, and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// It is new, and a limit that it is charged to has no unit left.
    #[error("the limit is reached")]
    LimitReached {
        /// How long until it has one.
        retry_after: Duration,
    },
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Of charges, that is: they are refused as those of commits are.
impl From<CommitError> for BeginError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::LimitReached { retry_after } => Self::LimitReached { retry_after },
            CommitError::Unavailable(unavailable) => Self::Unavailable(unavailable),
            error @ (CommitError::Conflict | CommitError::PhoneTaken | CommitError::EmailTaken) => {
                Self::Unavailable(Unavailable(format!("a charge was refused: {error}")))
            }
        }
    }
}

/// The first answers to requests that may be repeated. What is kept is opaque here, and nothing that was answered can be read from it.
#[async_trait]
pub trait Answers: Send + Sync {
    /// Begins to carry a request out, unless that was done or is being done. What begins is charged, since it leaves a row; what is
    /// repeated is not.
    ///
    /// - Of any number of callers with one request exactly one MUST begin.
    /// - A request past its `forget_at` MUST count as new, whatever it carries; one whose lease has ended without an answer (its caller
    ///   has died) MUST be begun again, if it carries the same.
    /// - MUST answer [`Beginning::OtherPayload`] before anything else that a known request could be answered with.
    /// - MUST charge all of `charges` in the same transaction in which a request begins, and otherwise none. MUST answer
    ///   [`BeginError::LimitReached`], and begin nothing, when one of them is empty, with the wait for a unit of the first that is.
    async fn begin(&self, execution: &Execution, charges: &[Charge]) -> Result<Beginning, BeginError>;

    /// Keeps the answer of an execution. MUST do nothing when the request has since been begun by another, or is answered.
    async fn keep_answer(&self, execution: &Execution, sealed: Vec<u8>) -> Result<(), Unavailable>;

    /// Forgets a request, with its answer if it has one, so that it counts as new. MUST do nothing when the named execution is not its last.
    async fn forget_request(&self, request: &RequestDigest, execution: Uuid) -> Result<(), Unavailable>;
}
