mod policy;
mod profile_data;
mod strength;

use std::fmt;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use policy::{PasswordPolicy, PasswordSubject, Violation, Violations};
pub use strength::{BreachedPasswords, StrengthEstimator, Zxcvbn};

/// A password in the form that is hashed: prepared by the OpaqueString profile of RFC 8265, so that what is typed on
/// different keyboards is the same password. Wiped from memory on drop; `Debug` shows nothing.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

/// The text cannot be a password: it has control or unassigned characters, or is absurdly long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the password cannot be prepared")]
pub struct PreparationError;

/// Preparation costs time that grows with the text; a longer one can't obey the policy anyway.
const MAX_BYTES: usize = 4096;

impl Password {
    /// Prepares a text. That it obeys a policy is another matter: see [`PasswordPolicy::check`].
    ///
    /// # Errors
    /// [`PreparationError`], also for an empty text.
    pub fn prepare(text: &str) -> Result<Self, PreparationError> {
        if text.len() > MAX_BYTES {
            return Err(PreparationError);
        }
        let prepared = OpaqueString::enforce(text).map_err(|_| PreparationError)?;
        Ok(Self(prepared.into_owned()))
    }

    /// The prepared text, for hashing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

/// The hash of a password as a PHC string: algorithm, parameters, salt and digest.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps a PHC string.
    #[must_use]
    pub const fn new(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}
