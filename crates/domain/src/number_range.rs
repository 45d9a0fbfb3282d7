use std::fmt;

use crate::PhoneNumber;

/// How many digits at the end of a number are its own.
const OWN_DIGITS: usize = 4;

/// Ten thousand neighbouring phone numbers: an E.164 number without its last four digits. Carriers are given numbers in such blocks, or in
/// somewhat smaller and larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NumberRange(u64);

impl NumberRange {
    /// The range that the number lies in.
    #[must_use]
    pub fn of(number: &PhoneNumber) -> Self {
        let digits = number.digits().bytes().filter(u8::is_ascii_digit).map(|digit| u64::from(digit - b'0'));
        let shared = number.digits().len().saturating_sub(OWN_DIGITS);
        // Fifteen digits at most, as in E.164.
        Self(digits.take(shared).fold(0, |range: u64, digit| range.saturating_mul(10).saturating_add(digit)))
    }

    /// The range whose common digits these are, the country code first.
    #[must_use]
    pub fn parse(digits: &str) -> Option<Self> {
        let is_one = (3..=11).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_one && !digits.starts_with('0')).map(Self)
    }
}

/// The digits that its numbers have in common, the country code first.
impl fmt::Display for NumberRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_range() {
        let range = |number| NumberRange::of(&PhoneNumber::restore(number).unwrap()).to_string();
        assert_eq!([range("+447871234567"), range("+447871239999")], ["44787123", "44787123"]);
        assert_eq!([range("+9991234"), range("+123456789012345")], ["999", "12345678901"]);
    }

    #[test]
    fn a_range_is_found_again_by_its_digits() {
        for digits in ["999", "44787123", "12345678901"] {
            assert_eq!(NumberRange::parse(digits).map(|range| range.to_string()).as_deref(), Some(digits));
        }
        for digits in ["", "99", "044", "+44", "44 7", "123456789012", "٤٤٧"] {
            assert_eq!(NumberRange::parse(digits), None, "{digits}");
        }
    }
}
