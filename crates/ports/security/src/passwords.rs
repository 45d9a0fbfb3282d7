use std::time::Duration;

use async_trait::async_trait;
use vestibule_domain::{Password, PasswordHash};

/// Why a password could not be hashed or checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full; nothing was computed. Trying again after `retry_after` is welcome.
    #[error("too many passwords are waiting to be hashed")]
    Busy {
        /// An estimate of when there is room again; at least one second.
        retry_after: Duration,
    },
    /// The hasher cannot work: it is shutting down, or a stored hash is not one of ours.
    #[error("password hashing failed: {0}")]
    Unavailable(String),
}

/// Makes and checks password hashes.
///
/// An implementation
/// - MUST bound the work it accepts and answer [`HashError::Busy`] beyond it, at once;
/// - MUST give work up unhashed when its caller has gone before it began;
/// - MUST compare in constant time, and MUST bound the parameters that it takes from a stored hash.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait PasswordHasher: Send + Sync {
    /// A new salted hash of the password as a PHC string.
    async fn hash(&self, password: Password) -> Result<PasswordHash, HashError>;

    /// Whether the password is the one that `hash` was made from. Without a hash it is not, which MUST take the time that a hash
    /// of [`hash`](Self::hash) takes, so that nobody can tell from the time whether there is one.
    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<bool, HashError>;

    /// Whether a new hash of the same password would be made with other parameters.
    fn is_outdated(&self, hash: &PasswordHash) -> bool;
}
