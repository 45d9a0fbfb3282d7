use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;

use crate::claims::{Claims, KycLevel, WireClaims};
use crate::keys::KeySet;
use crate::refusal::Refusal;
#[cfg(feature = "remote")]
use crate::remote::RemoteKeys;
use crate::signed::SignedToken;

/// The longest token that is looked at, in bytes. Vestibule's have some 700, plus the issuer's and the audience's names,
/// and it takes no longer ones itself.
pub const MAX_TOKEN_LENGTH: usize = 2048;

/// The most that clocks may differ. A longer leeway counts as this one.
pub const MAX_LEEWAY: Duration = Duration::from_mins(5);

/// The leeway, unless another is asked for.
const LEEWAY: Duration = Duration::from_secs(30);

/// Checks access tokens. Copies are cheap, and share the keys.
#[derive(Debug, Clone)]
pub struct Verifier {
    expected: Arc<Expected>,
    keys: KeySource,
}

/// What a [`Verifier`] will ask of tokens.
#[derive(Debug, Clone)]
#[must_use = "it builds a verifier and is none"]
pub struct VerifierBuilder(Expected);

#[derive(Debug, Clone)]
struct Expected {
    issuer: String,
    audience: String,
    leeway: Duration,
    scopes: Vec<String>,
    kyc: KycLevel,
}

/// Where a [`Verifier`] has its keys from: a [`KeySet`], or with the feature `remote` the service's endpoint.
#[derive(Debug, Clone)]
pub struct KeySource(Source);

#[derive(Debug, Clone)]
enum Source {
    Fixed(KeySet),
    #[cfg(feature = "remote")]
    Remote(RemoteKeys),
}

impl Verifier {
    /// Asks for tokens of this issuer for this audience, as `tokens.issuer` and `tokens.audience` of the service name
    /// them, with a leeway of 30 s.
    pub fn builder(issuer: impl Into<String>, audience: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder(Expected {
            issuer: issuer.into(),
            audience: audience.into(),
            leeway: LEEWAY,
            scopes: Vec::new(),
            kyc: KycLevel::NONE,
        })
    }

    /// What the token says, if it is good at that time. It waits for nothing and nobody.
    ///
    /// # Errors
    /// The first reason not to believe it.
    pub fn verify(&self, token: &str, now: UtcDateTime) -> Result<Claims, Refusal> {
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(Refusal::TooLong);
        }
        let token = SignedToken::parse(token)?;
        let id = token.key_id()?;
        let keys = self.keys.current().ok_or(Refusal::NoKeysYet)?;
        let Some(key) = keys.find(&id) else {
            self.keys.miss();
            return Err(Refusal::UnknownKey);
        };
        let payload = token.verify(key, b"")?;
        self.expected.check(&payload, now)
    }

    /// The same, at the time of the system's clock.
    ///
    /// # Errors
    /// The first reason not to believe it.
    pub fn verify_now(&self, token: &str) -> Result<Claims, Refusal> {
        #[expect(clippy::disallowed_methods, reason = "who wants another clock calls `verify`")]
        self.verify(token, UtcDateTime::now())
    }
}

impl VerifierBuilder {
    /// How far the issuer's clock and ours may be apart, [`MAX_LEEWAY`] at most. A token lives so much longer here.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.0.leeway = leeway.min(MAX_LEEWAY);
        self
    }

    /// Asks for a word in the scope. Asked for several, a token needs them all.
    pub fn require_scope(mut self, scope: impl Into<String>) -> Self {
        self.0.scopes.push(scope.into());
        self
    }

    /// Asks for a KYC level, or one above.
    pub fn require_kyc(mut self, level: KycLevel) -> Self {
        self.0.kyc = level;
        self
    }

    /// The verifier, with its keys.
    #[must_use]
    pub fn build(self, keys: impl Into<KeySource>) -> Verifier {
        Verifier { expected: Arc::new(self.0), keys: keys.into() }
    }
}

impl Expected {
    /// The claims of a payload that is signed.
    fn check(&self, payload: &str, now: UtcDateTime) -> Result<Claims, Refusal> {
        let wire = WireClaims::parse(payload).ok_or(Refusal::BadClaims)?;
        if wire.iss != self.issuer {
            return Err(Refusal::WrongIssuer);
        }
        if wire.aud != self.audience {
            return Err(Refusal::WrongAudience);
        }
        let (claims, valid_from) = wire.read().ok_or(Refusal::BadClaims)?;
        // At the ends of the calendar, the leeway is what is left of it.
        let leeway = time::Duration::try_from(self.leeway).unwrap_or(time::Duration::ZERO);
        if now >= claims.expires_at.saturating_add(leeway) {
            return Err(Refusal::Expired);
        }
        if now < valid_from.saturating_sub(leeway) {
            return Err(Refusal::NotYetValid);
        }
        for scope in &self.scopes {
            claims.require_scope(scope)?;
        }
        claims.require_kyc(self.kyc)?;
        Ok(claims)
    }
}

impl KeySource {
    /// The keys as they are known now.
    #[cfg_attr(
        not(feature = "remote"),
        expect(clippy::unnecessary_wraps, reason = "only those of an endpoint may be missing")
    )]
    fn current(&self) -> Option<KeySet> {
        match &self.0 {
            Source::Fixed(keys) => Some(keys.clone()),
            #[cfg(feature = "remote")]
            Source::Remote(keys) => keys.current(),
        }
    }

    /// Notes that a key was asked for that is not there.
    fn miss(&self) {
        match &self.0 {
            Source::Fixed(_) => {}
            #[cfg(feature = "remote")]
            Source::Remote(keys) => keys.miss(),
        }
    }
}

impl From<KeySet> for KeySource {
    fn from(keys: KeySet) -> Self {
        Self(Source::Fixed(keys))
    }
}

#[cfg(feature = "remote")]
impl From<RemoteKeys> for KeySource {
    fn from(keys: RemoteKeys) -> Self {
        Self(Source::Remote(keys))
    }
}
