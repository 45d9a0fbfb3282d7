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

/// Prepares what the profile's tables do not know: they are of Unicode 6.3, and characters have come since, most of the emoji among them. What can be seen is
/// taken, and what holds emoji together; how an emoji is to be shown says nothing, and keyboards differ in saying it.
fn newer(text: &str) -> Result<String, PreparationError> {
    let mut prepared = Zeroizing::new(String::with_capacity(text.len()));
    for c in text.chars().filter(|c| *c != '\u{fe0f}') {
        match get_general_category(c) {
            GeneralCategory::SpaceSeparator => prepared.push(' '),
            GeneralCategory::Format if c == '\u{200d}' && prepared.ends_with(is_pictured) => prepared.push(c),
            GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
            | GeneralCategory::Surrogate
            | GeneralCategory::Unassigned => return Err(PreparationError),
            _ if is_unseen(c) => return Err(PreparationError),
            _ => prepared.push(c),
        }
    }
    if prepared.is_empty() { Err(PreparationError) } else { Ok(prepared.nfc().collect()) }
}

/// An emoji, or the colour of its skin.
fn is_pictured(c: char) -> bool {
    matches!(get_general_category(c), GeneralCategory::OtherSymbol | GeneralCategory::ModifierSymbol)
}

/// Of the letters and marks those that nobody sees (Unicode's `Default_Ignorable_Code_Point`).
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
    )
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
    #[case("👨\u{200d}👩❤\u{fe0f}", Some("👨\u{200d}👩❤"))]
    #[case("👩🏽\u{200d}🚀", Some("👩🏽\u{200d}🚀"))]
    #[case("❤\u{fe0f}", Some("❤"))]
    #[case("🙂1990\u{200d}05\u{200d}17", None)]
    #[case("🙂07871\u{3164}234567", None)]
    #[case("a7\u{fe00}\u{fe01}\u{e0100}", None)]
    #[case("\u{200d}🙂", None)]
    #[case("\u{fe0f}", None)]
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
