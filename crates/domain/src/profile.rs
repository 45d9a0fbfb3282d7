use std::fmt;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};
use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::{Country, Currency, KYC0_FIELDS, KycLevel};

/// Personal details, every one checked and optional. `Debug` shows which are there, not what they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Profile(ProfileRecord);

/// A [`Profile`] with its content laid open.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProfileRecord {
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Date of birth.
    pub date_of_birth: Option<Date>,
    /// The currency that the customer mostly uses.
    pub primary_currency: Option<Currency>,
    /// Country of residence.
    pub residence_country: Option<Country>,
    /// Citizenship.
    pub citizenship_country: Option<Country>,
    /// State or province of residence.
    pub residence_state: Option<String>,
    /// City of residence.
    pub residence_city: Option<String>,
    /// Street and house of residence.
    pub residence_street: Option<String>,
    /// Postcode of residence.
    pub residence_zip_code: Option<String>,
}

/// The name of a personal detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProfileField {
    /// Given name.
    FirstName,
    /// Family name.
    LastName,
    /// Date of birth.
    DateOfBirth,
    /// The currency that the customer mostly uses.
    PrimaryCurrency,
    /// Country of residence.
    ResidenceCountry,
    /// Citizenship.
    CitizenshipCountry,
    /// State or province of residence.
    ResidenceState,
    /// City of residence.
    ResidenceCity,
    /// Street and house of residence.
    ResidenceStreet,
    /// Postcode of residence.
    ResidenceZipCode,
}

impl ProfileField {
    /// All of them, in the order of the wire.
    pub const ALL: [Self; 10] = [
        Self::FirstName,
        Self::LastName,
        Self::DateOfBirth,
        Self::PrimaryCurrency,
        Self::ResidenceCountry,
        Self::CitizenshipCountry,
        Self::ResidenceState,
        Self::ResidenceCity,
        Self::ResidenceStreet,
        Self::ResidenceZipCode,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstName => "firstName",
            Self::LastName => "lastName",
            Self::DateOfBirth => "dateOfBirth",
            Self::PrimaryCurrency => "primaryCurrency",
            Self::ResidenceCountry => "residenceCountry",
            Self::CitizenshipCountry => "citizenshipCountry",
            Self::ResidenceState => "residenceState",
            Self::ResidenceCity => "residenceCity",
            Self::ResidenceStreet => "residenceStreet",
            Self::ResidenceZipCode => "residenceZipCode",
        }
    }

    /// The field of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == name)
    }
}

/// Changes to make, as they were written. What is not named stays (RFC 7396).
#[derive(Clone, Default)]
pub struct ProfilePatch {
    changes: Vec<(ProfileField, Option<String>)>,
}

impl ProfilePatch {
    /// Sets a field to a value, or clears it.
    #[must_use]
    pub fn with(mut self, field: ProfileField, value: Option<String>) -> Self {
        self.changes.push((field, value));
        self
    }
}

/// A change that cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", .field.as_str())]
pub struct InvalidField {
    /// The field at fault.
    pub field: ProfileField,
    /// What is wrong with it.
    pub reason: FieldFault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// Empty, longer than the field may be, or with characters that no such text has.
    #[error("not a usable text")]
    Text,
    /// Not a date of the calendar, or more than 120 years ago.
    #[error("not a usable date")]
    Date,
    /// Born too recently.
    #[error("under age")]
    UnderAge,
    /// Not a code of the standard.
    #[error("not a known code")]
    Code,
    /// The level that was reached needs it.
    #[error("needed, so it can be changed but not cleared")]
    Needed,
}

/// Nobody is older.
const MAX_AGE_YEARS: i32 = 120;

impl Profile {
    /// The profile with the changes made, or the first change that cannot be. `min_age_years` is the age that a date
    /// of birth must have reached `today`; `kyc` is the level reached, whose fields can't be cleared any more.
    ///
    /// # Errors
    /// [`InvalidField`]; nothing is changed then.
    pub fn patched(
        &self,
        patch: &ProfilePatch,
        today: Date,
        min_age_years: u8,
        kyc: KycLevel,
    ) -> Result<Self, InvalidField> {
        let mut next = self.0.clone();
        for (field, value) in &patch.changes {
            let field = *field;
            let fault = |reason| InvalidField { field, reason };
            if value.is_none() && kyc >= KycLevel::Kyc0 && KYC0_FIELDS.contains(&field) {
                return Err(fault(FieldFault::Needed));
            }
            let value = value.as_deref();
            change(&mut next, field, value, today, min_age_years).map_err(fault)?;
        }
        Ok(Self(next))
    }

    /// Whether the field is set.
    #[must_use]
    pub fn has(&self, field: ProfileField) -> bool {
        self.value(field).is_some()
    }

    /// The value as the wire has it: a date as `YYYY-MM-DDT00:00:00`, a country as alpha-2.
    #[must_use]
    pub fn value(&self, field: ProfileField) -> Option<String> {
        let record = &self.0;
        match field {
            ProfileField::FirstName => record.first_name.clone(),
            ProfileField::LastName => record.last_name.clone(),
            ProfileField::DateOfBirth => record.date_of_birth.map(|date| format!("{date}T00:00:00")),
            ProfileField::PrimaryCurrency => record.primary_currency.map(|currency| currency.to_string()),
            ProfileField::ResidenceCountry => record.residence_country.map(|country| country.to_string()),
            ProfileField::CitizenshipCountry => record.citizenship_country.map(|country| country.to_string()),
            ProfileField::ResidenceState => record.residence_state.clone(),
            ProfileField::ResidenceCity => record.residence_city.clone(),
            ProfileField::ResidenceStreet => record.residence_street.clone(),
            ProfileField::ResidenceZipCode => record.residence_zip_code.clone(),
        }
    }

    /// What storage keeps.
    #[must_use]
    pub const fn record(&self) -> &ProfileRecord {
        &self.0
    }

    /// The profile that a record was made of. The record is believed.
    #[must_use]
    pub const fn restore(record: ProfileRecord) -> Self {
        Self(record)
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(ProfileField::ALL.iter().filter(|field| self.has(**field))).finish()
    }
}

impl fmt::Debug for ProfileRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Profile(self.clone()).fmt(f)
    }
}

impl fmt::Debug for ProfilePatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.changes.iter().map(|(field, _)| field)).finish()
    }
}

fn change(
    record: &mut ProfileRecord,
    field: ProfileField,
    value: Option<&str>,
    today: Date,
    min_age_years: u8,
) -> Result<(), FieldFault> {
    let text_of = |max: usize| value.map(|value| text(value, max)).transpose();
    let country = || value.map(|value| Country::parse(value).map_err(|_| FieldFault::Code)).transpose();
    match field {
        ProfileField::FirstName => record.first_name = text_of(100)?,
        ProfileField::LastName => record.last_name = text_of(100)?,
        ProfileField::ResidenceState => record.residence_state = text_of(100)?,
        ProfileField::ResidenceCity => record.residence_city = text_of(100)?,
        ProfileField::ResidenceStreet => record.residence_street = text_of(100)?,
        ProfileField::ResidenceZipCode => record.residence_zip_code = text_of(16)?,
        ProfileField::ResidenceCountry => record.residence_country = country()?,
        ProfileField::CitizenshipCountry => record.citizenship_country = country()?,
        ProfileField::PrimaryCurrency => {
            record.primary_currency =
                value.map(|value| Currency::parse(value).map_err(|_| FieldFault::Code)).transpose()?;
        }
        ProfileField::DateOfBirth => {
            record.date_of_birth =
                value.map(|value| date_of_birth(value, today, min_age_years)).transpose()?;
        }
    }
    Ok(())
}

/// A text of 1 to `max` characters after trimming, in Unicode normalisation form C.
fn text(value: &str, max: usize) -> Result<String, FieldFault> {
    // Marks of direction come with what was copied.
    let value = value.trim_matches(|c: char| c.is_whitespace() || is_mark(c));
    // Normalisation at most triples a text; the bound keeps it cheap.
    if value.len() > max * 12 || value.chars().any(is_unfit) || value.chars().all(is_invisible) {
        return Err(FieldFault::Text);
    }
    let value: String = value.nfc().collect();
    if (1..=max).contains(&value.chars().count()) { Ok(value) } else { Err(FieldFault::Text) }
}

/// Whether no name or address has the character: controls, line breaks, unassigned and private characters, and those of
/// formatting, such as the bidirectional overrides, that make a text read differently from what it is. Only the
/// joiners and marks are fit, because some scripts need them.
fn is_unfit(c: char) -> bool {
    use GeneralCategory as Category;
    match get_general_category(c) {
        Category::Format => !(is_joiner(c) || is_mark(c)),
        Category::Control
        | Category::Unassigned
        | Category::PrivateUse
        | Category::Surrogate
        | Category::LineSeparator
        | Category::ParagraphSeparator => true,
        _ => false,
    }
}

/// Whether nothing can be seen of the character when it stands alone; the fillers among them count as letters or signs.
fn is_invisible(c: char) -> bool {
    const FILLERS: [char; 5] = ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}'];
    c.is_whitespace() || is_joiner(c) || is_mark(c) || is_combining_mark(c) || FILLERS.contains(&c)
}

/// The zero-width joiner and non-joiner.
const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// The marks of direction, which override nothing, and the Mongolian vowel separator.
const fn is_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{180e}')
}

fn date_of_birth(value: &str, today: Date, min_age_years: u8) -> Result<Date, FieldFault> {
    let date = parse_date(value.trim()).ok_or(FieldFault::Date)?;
    if date > today || date < years_before(today, MAX_AGE_YEARS) {
        return Err(FieldFault::Date);
    }
    if date > years_before(today, i32::from(min_age_years)) {
        return Err(FieldFault::UnderAge);
    }
    Ok(date)
}

/// A date, or the date of a date-time as it was written, whatever its offset.
fn parse_date(value: &str) -> Option<Date> {
    if !value.is_ascii() || value.len() > 40 {
        return None;
    }
    let date = format_description!("[year repr:full sign:automatic]-[month]-[day]");
    let date_time =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second][optional [.[subsecond]]]");
    let starts_with_year = value.bytes().take(4).all(|byte| byte.is_ascii_digit());
    if !starts_with_year {
        return None;
    }
    Date::parse(value, &date)
        .ok()
        .or_else(|| PrimitiveDateTime::parse(value, &date_time).ok().map(PrimitiveDateTime::date))
        .or_else(|| OffsetDateTime::parse(value, &Rfc3339).ok().map(OffsetDateTime::date))
}

/// The last birthday of those who are that many years old on `day`. Who was born on a 29th of February comes of age on
/// the 1st of March; on a 29th of February itself, the last to have done so were born on a 28th or before.
fn years_before(day: Date, years: i32) -> Date {
    let year = day.year() - years;
    day.replace_year(year)
        .or_else(|_| Date::from_calendar_date(year, time::Month::February, 28))
        .unwrap_or(Date::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use time::macros::date;

    use super::*;

    const TODAY: Date = date!(2026 - 11 - 24);

    fn patched(field: ProfileField, value: &str) -> Result<Profile, FieldFault> {
        let patch = ProfilePatch::default().with(field, Some(value.to_owned()));
        Profile::default().patched(&patch, TODAY, 18, KycLevel::None).map_err(|invalid| invalid.reason)
    }

    #[rstest]
    #[case("1990-05-17")]
    #[case("1990-05-17T00:00:00")]
    #[case("1990-05-17T23:30:00Z")]
    #[case("1990-05-17T23:30:00.123-11:00")]
    fn dates_are_taken_as_they_are_written(#[case] value: &str) {
        let profile = patched(ProfileField::DateOfBirth, value).unwrap();
        assert_eq!(profile.value(ProfileField::DateOfBirth).unwrap(), "1990-05-17T00:00:00");
    }

    #[rstest]
    #[case("-1990-05-17", FieldFault::Date)]
    #[case("+1990-05-17", FieldFault::Date)]
    #[case("19900-05-17", FieldFault::Date)]
    #[case("1990-02-29", FieldFault::Date)]
    #[case("17.05.1990", FieldFault::Date)]
    #[case("", FieldFault::Date)]
    #[case("٢٠٠٠-٠١-٠١", FieldFault::Date)]
    #[case("2026-11-25", FieldFault::Date)]
    #[case("1906-11-23", FieldFault::Date)]
    #[case("2008-11-25", FieldFault::UnderAge)]
    fn dates_refused(#[case] value: &str, #[case] fault: FieldFault) {
        assert_eq!(patched(ProfileField::DateOfBirth, value).unwrap_err(), fault);
    }

    #[rstest]
    #[case("2008-11-24")]
    #[case("1906-11-24")]
    fn the_ends_of_the_range_are_in_it(#[case] value: &str) {
        assert!(patched(ProfileField::DateOfBirth, value).is_ok());
    }

    #[rstest]
    #[case("2008-02-29", date!(2026 - 02 - 28), false)]
    #[case("2008-02-29", date!(2026 - 03 - 01), true)]
    #[case("2006-02-28", date!(2024 - 02 - 29), true)]
    #[case("2006-03-01", date!(2024 - 02 - 29), false)]
    #[case("2006-03-01", date!(2024 - 03 - 01), true)]
    fn leap_days_come_of_age_in_march(#[case] born: &str, #[case] today: Date, #[case] of_age: bool) {
        let patch = ProfilePatch::default().with(ProfileField::DateOfBirth, Some(born.to_owned()));
        assert_eq!(Profile::default().patched(&patch, today, 18, KycLevel::None).is_ok(), of_age);
    }

    #[rstest]
    #[case(ProfileField::FirstName, "  Zoë ", Some("Zoë"))]
    #[case(ProfileField::LastName, "O\u{2019}Neil-Śmith", Some("O\u{2019}Neil-Śmith"))]
    #[case(ProfileField::ResidenceCity, "東京", Some("東京"))]
    #[case(ProfileField::FirstName, "می\u{200c}خواهم", Some("می\u{200c}خواهم"))]
    #[case(ProfileField::FirstName, "\u{200f}שלום\u{200f} ", Some("שלום"))]
    #[case(ProfileField::ResidenceStreet, "רחוב\u{200e} 5", Some("רחוב\u{200e} 5"))]
    #[case(ProfileField::FirstName, "\u{200f}\u{200e}", None)]
    #[case(ProfileField::FirstName, "\u{180e}", None)]
    #[case(ProfileField::FirstName, "   ", None)]
    #[case(ProfileField::FirstName, "a\u{202e}b", None)]
    #[case(ProfileField::FirstName, "a\nb", None)]
    #[case(ProfileField::FirstName, "a\u{2067}b", None)]
    #[case(ProfileField::FirstName, "a\u{feff}b", None)]
    #[case(ProfileField::FirstName, "\u{200b}", None)]
    #[case(ProfileField::FirstName, "\u{200d}\u{200d}", None)]
    #[case(ProfileField::FirstName, "\u{3164}", None)]
    #[case(ProfileField::FirstName, "Zoe\u{308}", Some("Zoë"))]
    #[case(ProfileField::ResidenceState, "-", Some("-"))]
    #[case(ProfileField::ResidenceCountry, "gbr", Some("GB"))]
    #[case(ProfileField::CitizenshipCountry, "XX", None)]
    #[case(ProfileField::PrimaryCurrency, "eur", Some("EUR"))]
    #[case(ProfileField::PrimaryCurrency, "€", None)]
    #[case(ProfileField::FirstName, "a\0b", None)]
    #[case(ProfileField::FirstName, "\u{e000}", None)]
    #[case(ProfileField::FirstName, "\u{378}", None)]
    #[case(ProfileField::ResidenceZipCode, "12345678901234567", None)]
    #[case(ProfileField::ResidenceZipCode, "SW1A 1AA", Some("SW1A 1AA"))]
    fn texts(#[case] field: ProfileField, #[case] value: &str, #[case] kept: Option<&str>) {
        assert_eq!(patched(field, value).ok().and_then(|profile| profile.value(field)).as_deref(), kept);
    }

    #[test]
    fn the_length_counts_characters() {
        assert!(patched(ProfileField::FirstName, &"ß".repeat(100)).is_ok());
        assert!(patched(ProfileField::FirstName, &"ß".repeat(101)).is_err());
        assert!(patched(ProfileField::FirstName, &"x".repeat(100_000)).is_err());
    }

    #[test]
    fn a_patch_is_all_or_nothing_and_null_clears() {
        let named = patched(ProfileField::FirstName, "Anna").unwrap();
        let bad = ProfilePatch::default()
            .with(ProfileField::FirstName, Some("Bea".into()))
            .with(ProfileField::PrimaryCurrency, Some("EURO".into()));
        let invalid = named.patched(&bad, TODAY, 18, KycLevel::None).unwrap_err();
        assert_eq!(invalid, InvalidField { field: ProfileField::PrimaryCurrency, reason: FieldFault::Code });
        let clear = ProfilePatch::default().with(ProfileField::FirstName, None);
        assert!(!named.patched(&clear, TODAY, 18, KycLevel::None).unwrap().has(ProfileField::FirstName));
        assert_eq!(
            named.patched(&clear, TODAY, 18, KycLevel::Kyc0).unwrap_err(),
            InvalidField { field: ProfileField::FirstName, reason: FieldFault::Needed }
        );
    }

    #[test]
    fn what_is_shown_may_be_sent_back_and_what_is_stored_comes_back() {
        let patch = ProfileField::ALL.into_iter().fold(ProfilePatch::default(), |patch, field| {
            let value = match field {
                ProfileField::DateOfBirth => "1990-05-17",
                ProfileField::PrimaryCurrency => "EUR",
                ProfileField::ResidenceCountry | ProfileField::CitizenshipCountry => "DEU",
                _ => "Köln 50667",
            };
            patch.with(field, Some(value.to_owned()))
        });
        let profile = Profile::default().patched(&patch, TODAY, 18, KycLevel::None).unwrap();
        let shown = ProfileField::ALL
            .into_iter()
            .fold(ProfilePatch::default(), |patch, field| patch.with(field, profile.value(field)));
        assert_eq!(profile.patched(&shown, TODAY, 18, KycLevel::Kyc0).unwrap(), profile);
        assert_eq!(Profile::restore(profile.record().clone()), profile);
        assert!(
            ProfileField::ALL.into_iter().all(|field| ProfileField::parse(field.as_str()) == Some(field))
        );
    }

    fn any_change() -> impl Strategy<Value = (ProfileField, Option<String>)> {
        let value =
            prop_oneof!["(?s).{0,20}", "[A-Z]{2,3}", "[12][0-9]{3}-[01][0-9]-[0-3][0-9]", "[a-z]{90,110}"];
        (proptest::sample::select(&ProfileField::ALL[..]), proptest::option::of(value))
    }

    proptest! {
        #[test]
        fn a_patch_is_all_or_nothing(changes in proptest::collection::vec(any_change(), 0..8), reached in any::<bool>()) {
            let kyc = if reached { KycLevel::Kyc0 } else { KycLevel::None };
            let before = patched(ProfileField::FirstName, "Anna").unwrap();
            let patch = |changes: &[(ProfileField, Option<String>)]| {
                changes.iter().cloned().fold(ProfilePatch::default(), |patch, (field, value)| patch.with(field, value))
            };
            let one_by_one = changes.iter().try_fold(before.clone(), |profile, change| {
                profile.patched(&patch(std::slice::from_ref(change)), TODAY, 18, kyc)
            });
            prop_assert_eq!(before.patched(&patch(&changes), TODAY, 18, kyc), one_by_one);
        }
    }

    #[test]
    fn what_is_shown_says_nothing() {
        let profile = patched(ProfileField::FirstName, "Anna").unwrap();
        assert_eq!(format!("{profile:?}"), "{FirstName}");
    }
}
