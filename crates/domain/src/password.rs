mod policy;
mod profile_data;
mod strength;

use std::fmt;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

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
        OpaqueString::enforce(text)
            .map_or_else(|_| newer(text), |prepared| Ok(prepared.into_owned()))
            .map(Self)
    }

    /// The prepared text, for hashing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Prepares by the same rules what the profile's tables do not know: they are of Unicode 6.3, and characters have come since, most of the emoji among them.
fn newer(text: &str) -> Result<String, PreparationError> {
    let prepared = |c| match get_general_category(c) {
        GeneralCategory::SpaceSeparator => Ok(' '),
        // The joiners hold emoji together.
        GeneralCategory::Format if matches!(c, '\u{200c}' | '\u{200d}') => Ok(c),
        GeneralCategory::Control
        | GeneralCategory::Format
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator
        | GeneralCategory::PrivateUse
        | GeneralCategory::Surrogate
        | GeneralCategory::Unassigned => Err(PreparationError),
        _ => Ok(c),
    };
    let prepared = Zeroizing::new(text.chars().map(prepared).collect::<Result<String, _>>()?);
    if prepared.is_empty() { Err(PreparationError) } else { Ok(prepared.nfc().collect()) }
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Correct Horse", Some("Correct Horse"))]
    #[case("a\u{308}b", Some("äb"))]
    #[case("a\u{a0}\u{3000}b", Some("a  b"))]
    #[case("\u{212b}", Some("\u{c5}"))]
    #[case("Ａ１", Some("Ａ１"))]
    #[case("π😀", Some("π😀"))]
    #[case("🙂🥰 ₿1", Some("🙂🥰 ₿1"))]
    #[case("👨\u{200d}👩❤\u{fe0f}", Some("👨\u{200d}👩❤\u{fe0f}"))]
    #[case("🙂\u{3000}a\u{308}", Some("🙂 ä"))]
    #[case("🙂\u{202e}a", None)]
    #[case("🙂\u{e000}", None)]
    #[case("🙂\n", None)]
    #[case("", None)]
    #[case("a\tb", None)]
    #[case("a\0b", None)]
    #[case("a\u{378}b", None)]
    fn preparation(#[case] text: &str, #[case] prepared: Option<&str>) {
        assert_eq!(Password::prepare(text).ok().as_ref().map(Password::expose), prepared);
    }

    #[test]
    fn a_text_that_is_far_too_long_is_not_prepared() {
        assert!(Password::prepare(&"a".repeat(MAX_BYTES)).is_ok());
        assert!(Password::prepare(&"a".repeat(MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn what_is_shown_says_nothing() {
        let shown =
            format!("{:?} {:?}", Password::prepare("tomato").unwrap(), PasswordHash::new("tomato".into()));
        assert_eq!(shown, "Password([redacted]) PasswordHash([redacted])");
    }
}
