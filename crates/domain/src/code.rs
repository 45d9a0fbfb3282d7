use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::AttemptId;

/// Which code of an attempt is meant: a new code after an expired or exhausted one is a new generation.
pub type Generation = u32;

/// A one-time code: ASCII digits, compared in constant time, never shown by `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct OneTimeCode(String);

impl OneTimeCode {
    /// Reads what a person typed: white space around it is dropped, the decimal digits of other scripts are
    /// folded to ASCII. `None` when anything else is in it, or when it is not 1 to 16 digits long.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > 64 {
            return None;
        }
        let digits: Option<String> = text.chars().map(ascii_digit).collect();
        digits.filter(|digits| (1..=16).contains(&digits.len())).map(Self)
    }

    /// The code of `width` digits that a derived number stands for: zeros in front, 16 digits at most.
    #[must_use]
    pub fn from_number(number: u128, width: usize) -> Self {
        let width = width.clamp(1, 16);
        let digits = format!("{number:0width$}");
        Self(digits.get(digits.len() - width..).unwrap_or_default().to_owned())
    }

    /// The digits, for the message that carries them.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for OneTimeCode {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for OneTimeCode {}

impl fmt::Debug for OneTimeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneTimeCode([redacted])")
    }
}

/// Derives codes instead of storing them: the same arguments always give the same code.
///
/// An implementation is a keyed hash, so that nobody without the key can tell a code from what is stored; or the fixed code of a
/// [test number](crate::TestNumbers), which is that of all its attempts.
pub trait OneTimeCodes {
    /// The code that is sent for this generation of the attempt.
    fn code(&self, attempt: AttemptId, generation: Generation) -> OneTimeCode;

    /// Whether `candidate` is that code, under the present key or one that is still accepted.
    fn matches(&self, attempt: AttemptId, generation: Generation, candidate: &OneTimeCode) -> bool;
}

/// The ASCII form of a decimal digit of any script (Unicode category `Nd`). Each script's ten digits stand
/// in a row that begins with its zero.
pub(crate) fn ascii_digit(c: char) -> Option<char> {
    use unicode_general_category::{GeneralCategory, get_general_category};
    if c.is_ascii_digit() {
        return Some(c);
    }
    if get_general_category(c) != GeneralCategory::DecimalNumber {
        return None;
    }
    // `Nd` ranges are aligned so that the zero is the first of a run of ten; walk down to it.
    let is_nd = |value: u32| {
        char::from_u32(value).is_some_and(|c| get_general_category(c) == GeneralCategory::DecimalNumber)
    };
    let value = u32::from(c);
    let before = (1..=64).take_while(|&back| value >= back && is_nd(value - back)).count();
    char::from_digit(u32::try_from(before % 10).unwrap_or(0), 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_other_scripts_are_folded() {
        for text in [" 120459 ", "١٢٠٤٥٩", "１２０４５９", "१२०४५९", "𝟏𝟐𝟎𝟒𝟓𝟗", "𝟣𝟤𝟢𝟦𝟧𝟫"]
        {
            assert_eq!(OneTimeCode::parse(text).unwrap().expose(), "120459", "{text}");
        }
    }

    #[test]
    fn anything_but_digits_is_no_code() {
        for text in
            ["", "  ", "12 34", "12a4", "-123456", "12345678901234567", "½23456", "①②③④⑤⑥", "1\u{202e}2"]
        {
            assert!(OneTimeCode::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert!(!format!("{:?}", OneTimeCode::parse("123456")).contains("123456"));
    }
}
