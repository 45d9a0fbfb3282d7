//! What the use cases need for security: time, randomness, password hashing, access tokens, and the country
//! of a client's address.
//!
//! Keyed derivation of codes and links is not here: it is plain computation with one implementation and
//! lives in the application crate.

mod clock;
mod country;
mod entropy;
mod passwords;
mod tokens;

pub use clock::Clock;
pub use country::ClientCountries;
pub use entropy::Entropy;
pub use passwords::{HashError, PasswordHasher};
pub use tokens::{AccessClaims, AccessToken, AccessTokens, PublicKey, TokenError};

/// Doubles of the ports, made by mockall.
#[cfg(feature = "mocks")]
pub mod mocks {
    pub use crate::clock::MockClock;
    pub use crate::country::MockClientCountries;
    pub use crate::entropy::MockEntropy;
    pub use crate::passwords::MockPasswordHasher;
    pub use crate::tokens::MockAccessTokens;
}
