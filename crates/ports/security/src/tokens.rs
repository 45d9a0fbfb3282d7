use std::fmt;

use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::{Generation, KycLevel, SessionId, UserId};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What an access token says, in the claims' registered meaning. Issuer and audience are the adapter's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessClaims {
    /// `sub`: whose token it is.
    pub user: UserId,
    /// `sid`: the session it belongs to; it is worth nothing once that has ended.
    pub session: SessionId,
    /// `gen`: which of the session's token pairs it belongs to.
    pub generation: Generation,
    /// `jti`: the token's own id.
    pub id: Uuid,
    /// `iat` and `nbf`, to the second.
    pub issued_at: UtcDateTime,
    /// `exp`, to the second: the first moment at which the token is refused.
    pub expires_at: UtcDateTime,
    /// `kyc`: the level at the time of issuing.
    pub kyc: KycLevel,
}

/// A signed access token.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct AccessToken(String);

impl AccessToken {
    /// Wraps a token as it goes over the wire.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself, for the one answer that hands it out.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken([redacted])")
    }
}

/// A published verification key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// The PASERK identifier, `k4.pid.…`, as the tokens' footer names it.
    pub id: String,
    /// The PASERK public key, `k4.public.…`.
    pub key: String,
    /// Whether new tokens are signed with it now.
    pub active: bool,
}

/// Why a token is not accepted. The caller answers all of them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this kind, or too long to be one.
    #[error("the token is malformed")]
    Malformed,
    /// Signed by a key that is not (or no longer) ours.
    #[error("the token names an unknown key")]
    UnknownKey,
    /// The signature does not fit the content.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Past its `exp`.
    #[error("the token has expired")]
    Expired,
    /// Before its `nbf` or `iat`.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// For another issuer or audience, or without a claim that we need.
    #[error("the token's claims are not for this service")]
    WrongClaims,
}

/// Issues and checks access tokens.
///
/// An implementation MUST verify the signature before it believes anything but the key id, and MUST refuse a token
/// whose issuer or audience is not its own, at any time outside `nbf ≤ now < exp`.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait AccessTokens: Send + Sync {
    /// Signs the claims with the key that is active when they are issued.
    fn issue(&self, claims: &AccessClaims) -> AccessToken;

    /// The claims of a genuine token.
    fn verify(&self, token: &str, now: UtcDateTime) -> Result<AccessClaims, TokenError>;

    /// All keys that verify now, among them the one that signs and the one that will.
    fn public_keys(&self, now: UtcDateTime) -> Vec<PublicKey>;
}
