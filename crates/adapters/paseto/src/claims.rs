use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::{KycLevel, SessionId, UserId};
use vestibule_port_security::{AccessClaims, TokenError};

use crate::moment;

/// What a token of ours lets its bearer do.
const SCOPE: &str = "read write";

/// The payload of a token: the registered claims of PASETO, and `sid`, `scope`, `kyc` and `gen`.
#[derive(Serialize, Deserialize)]
pub(crate) struct WireClaims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Cow<'a, str>,
    sub: Uuid,
    sid: Uuid,
    jti: Uuid,
    #[serde(borrow)]
    iat: Cow<'a, str>,
    #[serde(borrow)]
    nbf: Cow<'a, str>,
    #[serde(borrow)]
    exp: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    #[serde(borrow)]
    kyc: Cow<'a, str>,
    #[serde(default)]
    r#gen: u32,
}

impl<'a> WireClaims<'a> {
    /// The claims in the form in which they are signed; `None` for a year that RFC 3339 cannot write.
    pub(crate) fn new(claims: &AccessClaims, issuer: &'a str, audience: &'a str) -> Option<Self> {
        let issued_at = moment::format(claims.issued_at)?;
        Some(Self {
            iss: issuer.into(),
            aud: audience.into(),
            sub: claims.user.uuid(),
            sid: claims.session.uuid(),
            jti: claims.id,
            iat: issued_at.clone().into(),
            nbf: issued_at.into(),
            exp: moment::format(claims.expires_at)?.into(),
            scope: SCOPE.into(),
            kyc: claims.kyc.as_str().into(),
            r#gen: claims.generation,
        })
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// Reads a payload whose signature is verified; `None` if a claim is missing, doubled or of another type.
    pub(crate) fn parse(payload: &'a str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }

    /// Checks all that does not change with time.
    pub(crate) fn verify(&self, issuer: &str, audience: &str) -> Option<Verified> {
        if self.iss != issuer || self.aud != audience || self.scope != SCOPE {
            return None;
        }
        let issued_at = moment::parse(&self.iat)?;
        Some(Verified {
            valid_from: issued_at.max(moment::parse(&self.nbf)?),
            claims: AccessClaims {
                user: UserId::new(self.sub),
                session: SessionId::new(self.sid),
                generation: self.r#gen,
                id: self.jti,
                issued_at,
                expires_at: moment::parse(&self.exp)?,
                kyc: KycLevel::parse(&self.kyc)?,
            },
        })
    }
}

/// The claims of a genuine token for us, at whatever time.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    claims: AccessClaims,
    valid_from: UtcDateTime,
}

impl Verified {
    /// The claims, if they hold now.
    pub(crate) fn at(&self, now: UtcDateTime) -> Result<AccessClaims, TokenError> {
        if now >= self.claims.expires_at {
            return Err(TokenError::Expired);
        }
        if now < self.valid_from {
            return Err(TokenError::NotYetValid);
        }
        Ok(self.claims.clone())
    }
}

/// The footer of a token.
#[derive(Serialize, Deserialize)]
pub(crate) struct Footer<'a> {
    /// The PASERK identifier of the key that signed the token. Before verification it is a mere hint.
    #[serde(borrow)]
    pub(crate) kid: Cow<'a, str>,
}

impl<'a> Footer<'a> {
    /// Reads a footer that nobody has verified yet.
    pub(crate) fn parse(footer: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(footer).ok()
    }
}
