use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcDateTime};
use uuid::Uuid;

use crate::refusal::Refusal;

/// What a good token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// The account (`sub`).
    pub user_id: Uuid,
    /// The session that the token belongs to (`sid`).
    pub session_id: Uuid,
    /// The token itself (`jti`).
    pub token_id: Uuid,
    /// When it was issued (`iat`).
    pub issued_at: UtcDateTime,
    /// When it expires (`exp`). With a leeway, this may be past.
    pub expires_at: UtcDateTime,
    /// How far the customer was known when the token was issued (`kyc`).
    pub kyc: KycLevel,
    /// What the bearer may do, words separated by spaces (`scope`, RFC 6749, section 3.3).
    pub scope: String,
}

impl Claims {
    /// The words of the scope.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Refuses, unless the scope has this word.
    ///
    /// # Errors
    /// [`Refusal::InsufficientScope`].
    pub fn require_scope(&self, scope: &str) -> Result<(), Refusal> {
        self.scopes().any(|own| own == scope).then_some(()).ok_or(Refusal::InsufficientScope)
    }

    /// Refuses, unless the customer is known at least so far.
    ///
    /// # Errors
    /// [`Refusal::InsufficientKyc`].
    pub fn require_kyc(&self, level: KycLevel) -> Result<(), Refusal> {
        (self.kyc >= level).then_some(()).ok_or(Refusal::InsufficientKyc)
    }
}

/// How far a customer is known. Levels are ordered; those that a later service grants stand above the ones of today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KycLevel(Option<u8>);

impl KycLevel {
    /// Nothing but a phone number: `NONE`.
    pub const NONE: Self = Self(None);
    /// Phone, e-mail address and personal details: `KYC_0`.
    pub const KYC_0: Self = Self(Some(0));

    /// Reads `NONE` or `KYC_` and a number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "NONE" {
            return Some(Self::NONE);
        }
        let number = text.strip_prefix("KYC_")?.parse().ok()?;
        // Only as it would be written: no sign, no zeros before.
        let level = Self(Some(number));
        (level.to_string() == text).then_some(level)
    }
}

impl fmt::Display for KycLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("NONE"),
            Some(number) => write!(f, "KYC_{number}"),
        }
    }
}

/// The payload of a token, as it is on the wire.
#[derive(Deserialize)]
pub(crate) struct WireClaims<'a> {
    #[serde(borrow)]
    pub(crate) iss: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) aud: Cow<'a, str>,
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
}

impl<'a> WireClaims<'a> {
    /// Reads a payload whose signature is verified; `None` if a claim is missing, doubled or of another type.
    pub(crate) fn parse(payload: &'a str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }

    /// The claims, and the moment from which they hold.
    pub(crate) fn read(self) -> Option<(Claims, UtcDateTime)> {
        let issued_at = moment(&self.iat)?;
        let valid_from = issued_at.max(moment(&self.nbf)?);
        let claims = Claims {
            user_id: self.sub,
            session_id: self.sid,
            token_id: self.jti,
            issued_at,
            expires_at: moment(&self.exp)?,
            kyc: KycLevel::parse(&self.kyc)?,
            scope: self.scope.into_owned(),
        };
        Some((claims, valid_from))
    }
}

fn moment(text: &str) -> Option<UtcDateTime> {
    // `UtcDateTime::parse` panics where the offset leads out of the calendar.
    OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_utc()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn levels_are_ordered() {
        let levels = ["NONE", "KYC_0", "KYC_1", "KYC_10"].map(|text| KycLevel::parse(text).unwrap());
        assert!(levels.is_sorted());
        assert_eq!(levels[..2], [KycLevel::NONE, KycLevel::KYC_0]);
        assert_eq!(levels.map(|level| level.to_string()), ["NONE", "KYC_0", "KYC_1", "KYC_10"]);
    }

    #[rstest]
    fn what_is_no_level(
        #[values("", "none", "KYC_", "KYC_-1", "KYC_+1", "KYC_00", "KYC_256", "kyc_0", "KYC_0 ")] text: &str,
    ) {
        assert_eq!(KycLevel::parse(text), None);
    }
}
