use std::fmt;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};
use unicode_general_category::{GeneralCategory, get_general_category};

use crate::Country;
use crate::code::ascii_digit;

/// A phone number that exists in its country's numbering plan and can receive SMS, in E.164 form.
///
/// `Debug` shows the [masked](Self::masked) form; there is no `Display`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(String);

/// Why a text is no such number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// Something other than digits and the usual separators, too many or too few digits, or no country code.
    #[error("not a phone number in international form")]
    Malformed,
    /// The numbering plan has no such number.
    #[error("there is no such phone number")]
    NotValid,
    /// Any type but mobile: a landline, a premium-rate, shared-cost, toll-free, pager, Internet telephony, personal or
    /// company number. Some Internet telephony numbers do receive SMS, but most do not, and anyone can have many.
    #[error("the number cannot receive SMS")]
    NotSmsCapable,
}

/// No text of a phone number is longer, separators included. Digits of other scripts take up to four bytes each.
const MAX_TEXT_CHARACTERS: usize = 40;

/// ITU-T E.164.
const MAX_COUNTRY_CODE_DIGITS: usize = 3;

impl PhoneNumber {
    /// Reads a number in international form: digits, with `+`, with `00` or bare, with spaces, dashes, dots and brackets
    /// between them. The decimal digits, spaces and dashes of every script are taken, and marks of direction around the whole.
    ///
    /// Validity and type are those of Google's libphonenumber. A type that cannot be told from mobile
    /// numbers (as in North America) is taken for mobile. Letters, extensions, `tel:` and more than 40 characters are refused.
    ///
    /// # Errors
    /// [`PhoneError`]
    pub fn parse(text: &str) -> Result<Self, PhoneError> {
        let digits = digits(text).ok_or(PhoneError::Malformed)?;
        // Most are written as they are. To look for what else could be meant takes several times as long.
        if as_written(&digits).as_ref().is_some_and(is_sms_capable) {
            return Ok(Self(format!("+{digits}")));
        }
        let number = as_meant(&digits)?;
        if !number.is_valid() {
            return Err(PhoneError::NotValid);
        }
        if is_sms_capable(&number) { Ok(Self::of(&number)) } else { Err(PhoneError::NotSmsCapable) }
    }

    /// Reads what is written as a number, whatever its numbering plan says of it: for numbers that nothing is ever sent to.
    ///
    /// # Errors
    /// [`PhoneError::Malformed`]
    pub(crate) fn well_formed(text: &str) -> Result<Self, PhoneError> {
        let digits = digits(text).ok_or(PhoneError::Malformed)?;
        // What could not be restored would be stored and never read again.
        as_meant(&digits).and_then(|number| Self::restore(&Self::of(&number).0))
    }

    fn of(number: &rlibphonenumber::PhoneNumber) -> Self {
        Self(number.format_as(PhoneNumberFormat::E164).into_owned())
    }

    /// A number that was parsed before. The numbering plans change, so it is not judged again.
    ///
    /// # Errors
    /// [`PhoneError::Malformed`] if it is not `+` and 7 to 15 digits (ITU-T E.164).
    pub fn restore(e164: &str) -> Result<Self, PhoneError> {
        let digits = e164.strip_prefix('+').ok_or(PhoneError::Malformed)?;
        let plausible = (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        plausible.then(|| Self(e164.to_owned())).ok_or(PhoneError::Malformed)
    }

    /// The E.164 form: `+447871234567`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The country whose numbering plan it belongs to; `None` for numbers of no country (satellite networks) and for
    /// regions that ISO 3166-1 has no code for. A number that no plan has belongs to the main country of its code.
    #[must_use]
    pub fn country(&self) -> Option<Country> {
        let number = as_written(self.digits())?;
        let main = || PHONE_NUMBER_UTIL.get_region_for_country_code(number.country_code);
        Country::parse(&number.get_region_code().or_else(main)?.to_string()).ok()
    }

    /// The digits after the country code.
    #[must_use]
    pub fn national_number(&self) -> String {
        let digits = self.digits();
        split(digits).map_or(digits, |(_, national)| national).to_owned()
    }

    /// All digits, the country code first.
    #[must_use]
    pub fn digits(&self) -> &str {
        self.0.trim_start_matches('+')
    }

    /// For logs: the country code and the last two digits.
    #[must_use]
    pub fn masked(&self) -> String {
        let digits = self.digits();
        let country_code = digits.len().saturating_sub(self.national_number().len());
        let shown = |position: usize| position < country_code || position + 2 >= digits.len();
        let masked = digits.chars().enumerate().map(|(at, digit)| if shown(at) { digit } else { '*' });
        std::iter::once('+').chain(masked).collect()
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// Loads the numbering plans and the strength estimator's word lists, some 50 ms in all, so that no request has to.
pub fn warm_up() {
    let _ = PhoneNumber::parse("+447871234567");
    let _ = crate::StrengthEstimator::score(&crate::Zxcvbn, "warm-up", &[]);
}

fn is_sms_capable(number: &rlibphonenumber::PhoneNumber) -> bool {
    matches!(number.get_type(), PhoneNumberType::Mobile | PhoneNumberType::FixedLineOrMobile)
}

/// The number of these digits, none of which is taken for a prefix that is dialled inside its country only.
fn as_written(digits: &str) -> Option<rlibphonenumber::PhoneNumber> {
    let (country_code, national) = split(digits)?;
    let zeros = national.bytes().take_while(|digit| *digit == b'0').count();
    // The last digit is never a leading one.
    let zeros = i32::try_from(zeros.min(national.len().saturating_sub(1))).ok()?;
    Some(rlibphonenumber::PhoneNumber {
        country_code,
        national_number: national.parse().ok()?,
        italian_leading_zero: (zeros > 0).then_some(true),
        number_of_leading_zeros: (zeros > 1).then_some(zeros),
        ..rlibphonenumber::PhoneNumber::default()
    })
}

/// The country code that the digits begin with, and the digits after it.
fn split(digits: &str) -> Option<(i32, &str)> {
    // No code begins with a zero, which would be lost in reading it.
    if digits.starts_with('0') {
        return None;
    }
    (1..=MAX_COUNTRY_CODE_DIGITS).find_map(|length| {
        let (code, national) = digits.split_at_checked(length)?;
        let code = code.parse().ok()?;
        PHONE_NUMBER_UTIL.get_region_for_country_code(code).map(|_| (code, national))
    })
}

/// The number of these digits, without a prefix that is dialled inside its country only.
fn as_meant(digits: &str) -> Result<rlibphonenumber::PhoneNumber, PhoneError> {
    PHONE_NUMBER_UTIL.parse(format!("+{digits}"), None).map_err(|_| PhoneError::Malformed)
}

/// The digits of a text in international form, the country code first.
fn digits(text: &str) -> Option<String> {
    if text.chars().nth(MAX_TEXT_CHARACTERS).is_some() {
        return None;
    }
    let text = text.trim_matches(|c| is_of_direction(c) || is_separator(c));
    let (rest, has_plus) = match text.strip_prefix(['+', '＋']) {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let digits: Option<String> = rest.chars().filter(|c| !is_separator(*c)).map(ascii_digit).collect();
    let digits = digits.filter(|digits| !digits.is_empty())?;
    match digits.strip_prefix("00") {
        Some(international) if !has_plus => Some(international.to_owned()),
        _ => Some(digits),
    }
}

/// What people write between the digits: spaces and dashes of every script, dots and brackets. Line breaks and other controls are none of them.
pub(crate) fn is_separator(c: char) -> bool {
    match c {
        ' ' | '-' | '(' | ')' | '[' | ']' | '.' | '\u{2212}' | '（' | '）' | '［' | '］' => true,
        _ if c.is_ascii() => false,
        _ => {
            matches!(
                get_general_category(c),
                GeneralCategory::SpaceSeparator | GeneralCategory::DashPunctuation
            )
        }
    }
}

/// A mark of direction: address books put a number between two.
const fn is_of_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A keyed hash of a phone number. It outlives the account, so that a number that was used stays used, and says nothing to who
/// lacks the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NumberDigest(pub [u8; 32]);

impl fmt::Debug for NumberDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NumberDigest(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("+447871234567")]
    #[case("+44 7871 234567")]
    #[case("+44 (0) 7871-234-567")]
    #[case("0044 7871 234567")]
    #[case("447871234567")]
    #[case(" +44.7871.234567 ")]
    #[case("＋４４７８７１２３４５６７")]
    #[case("+٤٤٧٨٧١٢٣٤٥٦٧")]
    #[case("(+44) 7871 234567")]
    #[case("[44] 7871\u{2013}234567")]
    #[case("٠٠٤٤٧٨٧١٢٣٤٥٦٧")]
    #[case("\u{202a}+44 7871 234567\u{202c}")]
    #[case("\u{200e}+447871234567")]
    #[case(" \u{202a}+447871234567\u{202c} ")]
    #[case("＋44－7871\u{3000}234567")]
    #[case("+44\u{2212}（7871）\u{2009}234567")]
    fn usual_ways_to_write_one_number(#[case] text: &str) {
        assert_eq!(PhoneNumber::parse(text).unwrap().as_str(), "+447871234567");
    }

    #[rstest]
    #[case("", PhoneError::Malformed)]
    #[case("+", PhoneError::Malformed)]
    #[case("tel:+447871234567", PhoneError::Malformed)]
    #[case("+447871234567 ext 5", PhoneError::Malformed)]
    #[case("+447871234567;ext=5", PhoneError::Malformed)]
    #[case("+1-800-FLOWERS", PhoneError::Malformed)]
    #[case("++447871234567", PhoneError::Malformed)]
    #[case("+44787123\u{0}4567", PhoneError::Malformed)]
    #[case("+44787123\u{202e}4567", PhoneError::Malformed)]
    #[case("+447871234567\n", PhoneError::Malformed)]
    #[case("+4478712½34567", PhoneError::Malformed)]
    #[case("+00447871234567", PhoneError::Malformed)]
    #[case("+44 7871 234567                          ", PhoneError::Malformed)]
    #[case("07871234567", PhoneError::Malformed)]
    #[case("+0447871234567", PhoneError::Malformed)]
    #[case("0447871234567", PhoneError::Malformed)]
    #[case("000447871234567", PhoneError::Malformed)]
    #[case("+012015550123", PhoneError::Malformed)]
    #[case("+0012015550123", PhoneError::Malformed)]
    #[case("08613812345678", PhoneError::Malformed)]
    #[case("+999123456789", PhoneError::Malformed)]
    #[case("+4478712345", PhoneError::NotValid)]
    #[case("+442079460000", PhoneError::NotSmsCapable)]
    #[case("+448001111111", PhoneError::NotSmsCapable)]
    #[case("+449098790000", PhoneError::NotSmsCapable)]
    #[case("+448431234567", PhoneError::NotSmsCapable)]
    #[case("+447640123456", PhoneError::NotSmsCapable)]
    #[case("+445612345678", PhoneError::NotSmsCapable)]
    #[case("+447012345678", PhoneError::NotSmsCapable)]
    #[case("+445512345678", PhoneError::NotSmsCapable)]
    #[case("+18002345678", PhoneError::NotSmsCapable)]
    #[case("+19002345678", PhoneError::NotSmsCapable)]
    #[case("+80012345678", PhoneError::NotSmsCapable)]
    #[case("112", PhoneError::NotValid)]
    fn refusals(#[case] text: &str, #[case] error: PhoneError) {
        assert_eq!(PhoneNumber::parse(text).unwrap_err(), error, "{text}");
    }

    #[test]
    fn north_american_numbers_are_taken_for_mobile() {
        let number = PhoneNumber::parse("+1 201 555 0123").unwrap();
        assert_eq!(number.country().unwrap().as_str(), "US");
        assert_eq!(number.national_number(), "2015550123");
    }

    #[rstest]
    #[case("+447871234567", "+44********67")]
    #[case("+12015550123", "+1********23")]
    #[case("+4915112345678", "+49*********78")]
    #[case("+380501234567", "+380*******67")]
    fn what_is_shown_is_masked(#[case] text: &str, #[case] masked: &str) {
        assert_eq!(format!("{:?}", PhoneNumber::parse(text).unwrap()), masked);
    }

    #[rstest]
    #[case("+447871234567", true)]
    #[case("+9991234", true)]
    #[case("+999123", false)]
    #[case("+1234567890123456", false)]
    #[case("447871234567", false)]
    #[case("+44 7871 234567", false)]
    #[case("+٤٤٧٨٧١٢٣٤٥٦٧", false)]
    #[case("", false)]
    fn what_was_stored_is_judged_by_its_shape_alone(#[case] stored: &str, #[case] restored: bool) {
        assert_eq!(PhoneNumber::restore(stored).is_ok(), restored);
    }

    #[test]
    fn forty_characters_are_enough_for_digits_of_any_script() {
        let digits: String =
            "447871234567".chars().map(|c| format!("{c} ").replace('7', "\u{1d7d5}")).collect();
        assert_eq!(PhoneNumber::parse(&digits).unwrap().as_str(), "+447871234567");
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in "(?s).{0,60}") {
            let _ = PhoneNumber::parse(&text);
            let _ = PhoneNumber::restore(&text);
        }

        #[test]
        fn what_is_written_as_it_is_is_what_is_meant(text in "0{0,2}(1201|22507|336|380|38050|390|44|447|491|52|54|55|8|919)[0-9]{5,10}") {
            if let Some(number) = as_written(&text).filter(is_sms_capable) {
                let meant = as_meant(&text).unwrap();
                prop_assert_eq!(PhoneNumber::of(&meant), PhoneNumber(format!("+{text}")));
                prop_assert_eq!(number, meant);
            }
        }

        #[test]
        fn a_number_stays_the_number_it_is(text in "(\\+|00)?(1201[2-9]|336|38050|447[4-9]|491512|55119|919)[0-9]{6,9}") {
            if let Ok(number) = PhoneNumber::parse(&text) {
                prop_assert_eq!(PhoneNumber::parse(number.as_str()).unwrap(), number.clone());
                let hidden = number.masked().chars().filter(|c| *c == '*').count();
                prop_assert_eq!(hidden, number.national_number().len() - 2);
                prop_assert_eq!(PhoneNumber::restore(number.as_str()).unwrap(), number);
            }
        }
    }
}
