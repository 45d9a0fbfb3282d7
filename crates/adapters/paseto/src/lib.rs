//! The access-token port on PASETO v4.public: Ed25519 signatures over JSON claims that anyone with the published keys
//! can check, without asking this service.
//!
//! The keys come from a file, see [`KeyRing`]; they can be changed while tokens are issued and checked. A footer names the key of its token by its PASERK identifier; that is all
//! that is read of a token before its signature is verified. Verified tokens are remembered by their hash, since a
//! client sends the same token many times and a signature costs more than the rest of a small request.
//!
//! Whether the session of a token still lives is not known here; the caller asks storage.

mod claims;
mod keys;
mod moment;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use pasetors::token::{Public, UntrustedToken};
use pasetors::version4::{PublicToken, V4};
use sha2::{Digest, Sha256};
use time::UtcDateTime;
use vestibule_port_security::{AccessClaims, AccessToken, AccessTokens, PublicKey, TokenError};

pub use crate::keys::{
    KeyChangeError, KeyDuty, KeyFileError, KeyFileWatch, KeyRing, KeyState, LineProblem, Rotated, Rotation,
    retire, rotate,
};

use crate::claims::{Footer, Verified, WireClaims};

/// The longest token that is looked at, in bytes. Ours have some 700, plus the issuer's and the audience's names.
const MAX_TOKEN_LENGTH: usize = 2048;

/// How many verified tokens are remembered: a few megabytes when full.
const REMEMBERED_TOKENS: u64 = 20_000;

/// Issues and checks access tokens.
#[derive(Debug)]
pub struct PasetoTokens {
    current: RwLock<Arc<Current>>,
    issuer: String,
    audience: String,
}

/// Keys, and the tokens that were verified with them. They go together: what is remembered of a token is not worth more
/// than the key that it rests on.
#[derive(Debug)]
struct Current {
    keys: KeyRing,
    verified: Cache<[u8; 32], Remembered>,
}

impl Current {
    fn new(keys: KeyRing) -> Arc<Self> {
        let verified =
            Cache::builder().max_capacity(REMEMBERED_TOKENS).expire_after(UntilTokenExpires).build();
        Arc::new(Self { keys, verified })
    }
}

impl PasetoTokens {
    /// Tokens of one issuer for one audience. Tokens of another of either are refused, whoever signed them.
    #[must_use]
    pub fn new(keys: KeyRing, issuer: String, audience: String) -> Self {
        Self { current: RwLock::new(Current::new(keys)), issuer, audience }
    }

    /// From now on, other keys. What is under way ends with those that it began with.
    pub fn replace_keys(&self, keys: KeyRing) {
        let new = Current::new(keys);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = new;
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks everything but the token's time.
    fn verify_content(
        &self,
        keys: &KeyRing,
        token: &str,
        now: UtcDateTime,
    ) -> Result<Remembered, TokenError> {
        let untrusted = UntrustedToken::<Public, V4>::try_from(token).map_err(|_| TokenError::Malformed)?;
        let footer = Footer::parse(untrusted.untrusted_footer()).ok_or(TokenError::Malformed)?;
        let (key, key_until) = keys.verification_key(&footer.kid, now).ok_or(TokenError::UnknownKey)?;
        // Without an expected footer, the token's own is covered by the signature all the same.
        let trusted =
            PublicToken::verify(key, &untrusted, None, None).map_err(|_| TokenError::BadSignature)?;
        WireClaims::parse(trusted.payload())
            .and_then(|claims| claims.verify(&self.issuer, &self.audience))
            .map(|verified| Remembered { verified, key_until, life: Duration::ZERO })
            .ok_or(TokenError::WrongClaims)
    }
}

impl AccessTokens for PasetoTokens {
    fn issue(&self, claims: &AccessClaims) -> AccessToken {
        let signed = WireClaims::new(claims, &self.issuer, &self.audience)
            .and_then(|claims| claims.to_json())
            .and_then(|payload| self.current().keys.sign(&payload, claims.issued_at));
        // The key was checked when it was read, so only a year that RFC 3339 cannot write leads here. Nobody accepts an
        // empty token.
        AccessToken::new(signed.unwrap_or_else(|| {
            tracing::error!("an access token could not be signed");
            String::new()
        }))
    }

    fn verify(&self, token: &str, now: UtcDateTime) -> Result<AccessClaims, TokenError> {
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(TokenError::Malformed);
        }
        let current = self.current();
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(remembered) = current.verified.get(&digest) {
            return remembered.at(now);
        }
        let verified = self.verify_content(&current.keys, token, now)?;
        let claims = verified.at(now)?;
        // Only a token that is valid now is worth remembering.
        let life = (claims.expires_at - now).try_into().unwrap_or(Duration::ZERO);
        current.verified.insert(digest, Remembered { life, ..verified });
        Ok(claims)
    }

    fn public_keys(&self, now: UtcDateTime) -> Vec<PublicKey> {
        self.current().keys.public_keys(now)
    }
}

/// A token whose content was verified; the times, its own and its key's, are checked again at each use.
#[derive(Debug, Clone)]
struct Remembered {
    verified: Verified,
    key_until: Option<UtcDateTime>,
    life: Duration,
}

impl Remembered {
    fn at(&self, now: UtcDateTime) -> Result<AccessClaims, TokenError> {
        if self.key_until.is_some_and(|until| until <= now) {
            return Err(TokenError::UnknownKey);
        }
        self.verified.at(now)
    }
}

/// Forgets a token when it has expired, by the clock that `now` came from at the time.
struct UntilTokenExpires;

impl Expiry<[u8; 32], Remembered> for UntilTokenExpires {
    fn expire_after_create(&self, _: &[u8; 32], value: &Remembered, _: Instant) -> Option<Duration> {
        Some(value.life)
    }
}

#[cfg(test)]
mod tests;
