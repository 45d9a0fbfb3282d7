use std::fmt;
use std::sync::Arc;

use unicode_general_category::{GeneralCategory, get_general_category};
use zeroize::Zeroizing;

use super::profile_data::Folded;
use super::{Password, StrengthEstimator};
use crate::code::ascii_digit;
use crate::phone::is_separator;
use crate::{BreachedPasswords, EmailAddress, PhoneNumber, Profile, ProfileField};

/// A rule that a password breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Violation {
    /// Under [`PasswordPolicy::MIN_CHARACTERS`].
    TooShort,
    /// Over [`PasswordPolicy::MAX_CHARACTERS`].
    TooLong,
    /// Without a decimal digit of any script.
    NoDigit,
    /// Without a letter of any script.
    NoLetter,
    /// The phone number, with or without `+`, country code or leading 0.
    EqualsPhone,
    /// Contains something from the profile.
    ContainsProfileData,
    /// One of the last passwords, the current one included.
    RecentlyUsed,
    /// Too easily guessed, commonly used, or known from a breach.
    TooSimple,
    /// With characters that a password cannot have, such as control characters.
    NotAllowed,
}

impl Violation {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::NoDigit => "no_digit",
            Self::NoLetter => "no_letter",
            Self::EqualsPhone => "equals_phone",
            Self::ContainsProfileData => "contains_profile_data",
            Self::RecentlyUsed => "recently_used",
            Self::TooSimple => "too_simple",
            Self::NotAllowed => "not_allowed",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All rules that a password breaks, at least one, in the order of [`Violation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// The violation that only the keeper of the old hashes can find.
    #[must_use]
    pub fn recently_used() -> Self {
        Self(vec![Violation::RecentlyUsed])
    }

    /// These and one more, if it is not among them.
    #[must_use]
    pub fn with(mut self, violation: Violation) -> Self {
        if let Err(position) = self.0.binary_search(&violation) {
            self.0.insert(position, violation);
        }
        self
    }

    /// Whether it breaks a rule that holds whatever the settings are: then it never was a password of anybody.
    #[must_use]
    pub fn are_of_form(&self) -> bool {
        use Violation::{NoDigit, NoLetter, NotAllowed, TooLong, TooShort};
        self.0
            .iter()
            .any(|violation| matches!(violation, TooShort | TooLong | NoDigit | NoLetter | NotAllowed))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Violation> {
        self.0.iter().copied()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the password breaks the policy:")?;
        self.iter().try_for_each(|violation| write!(f, " {violation}"))
    }
}

impl std::error::Error for Violations {}

/// Whose password it is to be.
#[derive(Debug, Clone, Copy)]
pub struct PasswordSubject<'a> {
    /// The phone.
    pub phone: &'a PhoneNumber,
    /// The e-mail address, if there is one.
    pub email: Option<&'a EmailAddress>,
    /// The personal details, if there are any.
    pub profile: Option<&'a Profile>,
}

/// The rules for new passwords. That a password was not used recently is for the keeper of the hashes to check, over the last
/// [`history`](Self::history) of them.
#[derive(Clone)]
pub struct PasswordPolicy {
    min_strength: u8,
    history: usize,
    estimator: Arc<dyn StrengthEstimator>,
    breached: Option<Arc<dyn BreachedPasswords>>,
}

impl PasswordPolicy {
    /// The fewest characters (Unicode scalar values, after preparation).
    pub const MIN_CHARACTERS: usize = 8;
    /// The most characters.
    pub const MAX_CHARACTERS: usize = 128;

    /// A policy that asks for a score of at least `min_strength` (0 to 4), and for a password other than the last `history`.
    #[must_use]
    pub fn new(
        min_strength: u8,
        history: usize,
        estimator: Arc<dyn StrengthEstimator>,
        breached: Option<Arc<dyn BreachedPasswords>>,
    ) -> Self {
        Self { min_strength, history, estimator, breached }
    }

    /// How many of the last passwords, the current one included, may not be used again.
    #[must_use]
    pub const fn history(&self) -> usize {
        self.history
    }

    /// Checks a text against every rule that can be checked without the old hashes. Costs up to some 15 ms of computing.
    ///
    /// # Errors
    /// All rules that it breaks.
    pub fn check(&self, text: &str, subject: &PasswordSubject<'_>) -> Result<Password, Violations> {
        let password = Password::prepare(text);
        let judged = password.as_ref().map_or(text, Password::expose);
        let length = judged.chars().take(Self::MAX_CHARACTERS + 1).count();
        let mut violations = Vec::new();
        let mut judge = |broken: bool, violation| {
            if broken {
                violations.push(violation);
            }
        };
        judge(length < Self::MIN_CHARACTERS, Violation::TooShort);
        judge(length > Self::MAX_CHARACTERS, Violation::TooLong);
        judge(!judged.chars().any(|c| ascii_digit(c).is_some()), Violation::NoDigit);
        judge(!judged.chars().any(is_letter), Violation::NoLetter);
        // The other rules cost more, and nobody needs them of a text that is too long by far.
        if length <= Self::MAX_CHARACTERS {
            judge(equals_phone(judged, subject.phone), Violation::EqualsPhone);
            judge(contains_profile_data(judged, subject), Violation::ContainsProfileData);
            judge(self.is_too_simple(judged, subject), Violation::TooSimple);
            judge(password.is_err() && !text.is_empty(), Violation::NotAllowed);
        }
        match password {
            Ok(password) if violations.is_empty() => Ok(password),
            _ => Err(Violations(violations)),
        }
    }

    fn is_too_simple(&self, password: &str, subject: &PasswordSubject<'_>) -> bool {
        let profile = |field| subject.profile.and_then(|profile| profile.value(field));
        let names = [profile(ProfileField::FirstName), profile(ProfileField::LastName)];
        let national = subject.phone.national_number();
        let known: Vec<&str> = [
            Some(subject.phone.digits()),
            Some(national.as_str()),
            subject.email.map(EmailAddress::local_part),
        ]
        .into_iter()
        .chain(names.iter().map(Option::as_deref))
        .flatten()
        .collect();
        self.breached.as_ref().is_some_and(|breached| breached.contains(password))
            || self.estimator.score(password, &known) < self.min_strength
    }
}

impl fmt::Debug for PasswordPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordPolicy")
            .field("min_strength", &self.min_strength)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

fn is_letter(c: char) -> bool {
    use GeneralCategory as Category;
    matches!(
        get_general_category(c),
        Category::UppercaseLetter
            | Category::LowercaseLetter
            | Category::TitlecaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter
    )
}

fn equals_phone(password: &str, phone: &PhoneNumber) -> bool {
    let digits: Option<String> = password
        .chars()
        .filter(|c| !is_separator(*c) && !matches!(c, '+' | '\u{ff0b}' | '/' | '_' | ','))
        .map(ascii_digit)
        .collect();
    let Some(digits) = digits.filter(|digits| !digits.is_empty()).map(Zeroizing::new) else {
        return false;
    };
    let significant = digits.trim_start_matches('0');
    let national = phone.national_number();
    let country_code = phone.digits().strip_suffix(&national).unwrap_or_default();
    let national = national.trim_start_matches('0');
    let without_country = significant.strip_prefix(country_code).unwrap_or(significant);
    // The last form has both, as in `+44 (0) 7871`.
    significant == phone.digits()
        || significant == national
        || without_country.trim_start_matches('0') == national
}

fn contains_profile_data(password: &str, subject: &PasswordSubject<'_>) -> bool {
    const FIELDS: [ProfileField; 5] = [
        ProfileField::FirstName,
        ProfileField::LastName,
        ProfileField::ResidenceCity,
        ProfileField::ResidenceStreet,
        ProfileField::ResidenceZipCode,
    ];
    let folded = Folded::of(password);
    let has_email = subject.email.is_some_and(|email| folded.contains(email.local_part()));
    has_email
        || subject.profile.is_some_and(|profile| {
            profile.record().date_of_birth.is_some_and(|date| folded.contains_date(date))
                || FIELDS
                    .iter()
                    .filter_map(|field| profile.value(*field))
                    .any(|value| folded.contains(&value))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use time::macros::date;

    use super::*;
    use crate::{KycLevel, ProfilePatch, Zxcvbn};

    fn violations_of(text: &str, profile: Option<&Profile>) -> Vec<&'static str> {
        let phone = PhoneNumber::parse("+447871234567").unwrap();
        let email = EmailAddress::parse("wonderwoman@example.com").unwrap();
        let policy = PasswordPolicy::new(2, 5, Arc::new(Zxcvbn), None);
        let subject = PasswordSubject { phone: &phone, email: Some(&email), profile };
        match policy.check(text, &subject) {
            Ok(_) => vec![],
            Err(violations) => violations.iter().map(Violation::as_str).collect(),
        }
    }

    #[test]
    fn what_is_of_no_form_was_nobodys_password() {
        use Violation::{
            ContainsProfileData, EqualsPhone, NoDigit, RecentlyUsed, TooLong, TooShort, TooSimple,
        };
        for (violations, are_of_form) in [
            (&[TooShort, TooSimple][..], true),
            (&[TooLong], true),
            (&[NoDigit, EqualsPhone], true),
            (&[EqualsPhone, ContainsProfileData, RecentlyUsed, TooSimple], false),
        ] {
            assert_eq!(Violations(violations.to_vec()).are_of_form(), are_of_form, "{violations:?}");
        }
    }

    #[rstest]
    #[case("correct-horse-7", &[])]
    #[case("пароль-крепкий-7", &[])]
    #[case("नमस्तेप्यारीदुनिया७९", &[])]
    #[case("", &["too_short", "no_digit", "no_letter", "too_simple"])]
    #[case("abc", &["too_short", "no_digit", "too_simple"])]
    #[case("password", &["no_digit", "too_simple"])]
    #[case("1234Qwerty", &["too_simple"])]
    #[case("07871234567", &["no_letter", "equals_phone", "too_simple"])]
    #[case("+44 7871 234567", &["no_letter", "equals_phone"])]
    #[case("7871234567", &["no_letter", "equals_phone", "too_simple"])]
    #[case("00447871234567", &["no_letter", "equals_phone", "too_simple"])]
    #[case("+44 (0) 7871 234567", &["no_letter", "equals_phone"])]
    #[case("\u{ff0b}４４７８７１２３４５６７", &["no_letter", "equals_phone"])]
    #[case("٠٧٨٧١٢٣٤٥٦٧", &["no_letter", "equals_phone"])]
    #[case("7871_234567", &["no_letter", "equals_phone"])]
    #[case("correct-7871234567", &[])]
    #[case("xy-w0nderw0man-77", &["contains_profile_data"])]
    #[case("correct\u{7}", &["no_digit", "too_simple", "not_allowed"])]
    #[case("correct\u{7}horse-7", &["not_allowed"])]
    fn every_broken_rule_is_told(#[case] text: &str, #[case] expected: &[&str]) {
        let mut told = violations_of(text, None);
        if expected.contains(&"equals_phone") && !expected.contains(&"too_simple") {
            // Whether the estimator sees through separators and other scripts is its own affair.
            told.retain(|violation| *violation != "too_simple");
        }
        assert_eq!(told, expected);
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in "(?s).{0,150}") {
            let phone = PhoneNumber::parse("+447871234567").unwrap();
            let policy = PasswordPolicy::new(0, 5, Arc::new(Zxcvbn), None);
            let subject = PasswordSubject { phone: &phone, email: None, profile: None };
            match policy.check(&text, &subject) {
                Ok(password) => {
                    let again = Password::prepare(password.expose()).unwrap();
                    prop_assert_eq!(again.expose(), password.expose());
                    prop_assert!((8..=128).contains(&password.expose().chars().count()));
                }
                Err(violations) => prop_assert!(violations.iter().is_sorted() && violations.iter().count() > 0),
            }
        }
    }

    #[test]
    fn the_profile_is_searched() {
        let patch = ProfilePatch::default()
            .with(ProfileField::LastName, Some("Smith".into()))
            .with(ProfileField::DateOfBirth, Some("1990-05-07".into()));
        let profile = Profile::default().patched(&patch, date!(2026 - 11 - 24), 18, KycLevel::None).unwrap();
        assert_eq!(violations_of("gr33n-5m1th-forest", Some(&profile)), ["contains_profile_data"]);
        assert_eq!(violations_of("green-7.5.90-forest", Some(&profile)), ["contains_profile_data"]);
        assert_eq!(violations_of("green-١٩٩٠٠٥٠٧-forest", Some(&profile)), ["contains_profile_data"]);
        assert_eq!(violations_of("green-forest-88-lamp", Some(&profile)), [""; 0]);
    }

    #[test]
    fn the_ends_of_the_range_are_in_it_and_lengths_count_after_preparation() {
        let long = |n: usize| "ab7-".repeat(32).chars().chain("xxxx".chars()).take(n).collect::<String>();
        assert!(!violations_of(&long(128), None).contains(&"too_long"));
        assert!(violations_of(&long(129), None).contains(&"too_long"));
        assert!(violations_of(&long(7), None).contains(&"too_short"));
        assert!(!violations_of(&long(8), None).contains(&"too_short"));
        // Eight scalar values that preparation composes to seven.
        assert!(violations_of("a\u{308}bcdef7", None).contains(&"too_short"));
        assert_eq!(violations_of(&"a7".repeat(100_000), None), ["too_long"]);
    }

    #[test]
    fn the_estimator_is_not_asked_about_a_text_that_is_too_long() {
        struct Bounded;
        impl StrengthEstimator for Bounded {
            fn score(&self, password: &str, _: &[&str]) -> u8 {
                assert!(
                    password.chars().count() <= PasswordPolicy::MAX_CHARACTERS,
                    "asked about a long text"
                );
                0
            }
        }
        let phone = PhoneNumber::parse("+447871234567").unwrap();
        let policy = PasswordPolicy::new(2, 5, Arc::new(Bounded), None);
        let subject = PasswordSubject { phone: &phone, email: None, profile: None };
        let told = |text: &str| policy.check(text, &subject).unwrap_err().iter().collect::<Vec<_>>();
        assert_eq!(told(&"a7".repeat(64)), [Violation::TooSimple]);
        assert_eq!(told(&"a7".repeat(5_000)), [Violation::TooLong]);
        assert_eq!(told(&"a".repeat(129)), [Violation::TooLong, Violation::NoDigit]);
    }

    #[test]
    fn a_violation_found_elsewhere_joins_in_its_place_and_once() {
        let told = Violations(vec![Violation::TooShort, Violation::TooSimple])
            .with(Violation::RecentlyUsed)
            .with(Violation::RecentlyUsed);
        assert_eq!(told.to_string(), "the password breaks the policy: too_short recently_used too_simple");
    }

    #[test]
    fn breached_passwords_are_too_simple() {
        struct Breached;
        impl BreachedPasswords for Breached {
            fn contains(&self, password: &str) -> bool {
                password == "correct-horse-7"
            }
        }
        let phone = PhoneNumber::parse("+447871234567").unwrap();
        let policy = PasswordPolicy::new(2, 5, Arc::new(Zxcvbn), Some(Arc::new(Breached)));
        let subject = PasswordSubject { phone: &phone, email: None, profile: None };
        assert!(policy.check("correct-horse-8", &subject).is_ok());
        let violations = policy.check("correct-horse-7", &subject).unwrap_err();
        assert_eq!(violations.iter().collect::<Vec<_>>(), [Violation::TooSimple]);
    }
}
