/// Why a request or its token is refused. The names of [`Refusal::as_str`] are stable.
///
/// Checks are made in the order below and end at the first that fails; nothing of a token but the name of its key is
/// looked at before its signature is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request brings no bearer token. Only the extractor and the layer say this.
    #[error("the request has no bearer token")]
    NoToken,
    /// It is longer than [`MAX_TOKEN_LENGTH`](crate::MAX_TOKEN_LENGTH).
    #[error("the token is too long")]
    TooLong,
    /// Its header is not `v4.public.`: another version or purpose, or no PASETO at all.
    #[error("the token is not of the kind v4.public")]
    NotV4Public,
    /// It does not have the parts of such a token, or its footer names no key.
    #[error("the token is malformed")]
    Malformed,
    /// No keys are known, since the endpoint has not answered yet. The token may be good: this is our fault, not the
    /// client's.
    #[error("the keys are not known yet")]
    NoKeysYet,
    /// No key has the name that the token gives: it was retired, it is very new, or it never was.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// The key of that name has not signed this token.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// The payload is not the claims of an access token: one is missing, doubled or of another type.
    #[error("the token's claims make no sense")]
    BadClaims,
    /// Another service has issued it.
    #[error("the token is of another issuer")]
    WrongIssuer,
    /// It is meant for another service.
    #[error("the token is for another audience")]
    WrongAudience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It is good, and does not have a scope that is needed.
    #[error("the token's scope does not suffice")]
    InsufficientScope,
    /// It is good, and the customer is not known well enough.
    #[error("the customer's KYC level does not suffice")]
    InsufficientKyc,
}

impl Refusal {
    /// A stable name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::TooLong => "too_long",
            Self::NotV4Public => "not_v4_public",
            Self::Malformed => "malformed",
            Self::NoKeysYet => "no_keys_yet",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::BadClaims => "bad_claims",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::InsufficientScope => "insufficient_scope",
            Self::InsufficientKyc => "insufficient_kyc",
        }
    }
}
