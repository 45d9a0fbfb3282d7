use std::collections::BTreeMap;

use time::{Date, UtcDateTime};

use crate::{OneTimeCode, PhoneError, PhoneNumber};

/// The numbers that the operator has set aside for the reviewers of app stores and for automatic tests.
///
/// Nothing is ever sent to one, so that it need not exist: those reserved for fiction are the best, as nobody can own them.
#[derive(Debug, Clone, Default)]
pub struct TestNumbers(BTreeMap<PhoneNumber, TestNumber>);

/// What is known of a test number.
#[derive(Debug, Clone)]
pub struct TestNumber {
    /// Its code, in the place of any that would be sent.
    pub code: OneTimeCode,
    /// The last day of it, in UTC. After it the number is like any other.
    pub last_day: Date,
}

impl TestNumber {
    /// Whether the code holds.
    #[must_use]
    pub fn is_in_force(&self, now: UtcDateTime) -> bool {
        now.date() <= self.last_day
    }
}

impl TestNumbers {
    /// Adds a number, in the place of what was known of it.
    ///
    /// # Errors
    /// [`PhoneError::Malformed`] if it is not written as [`PhoneNumber::as_str`] is, or of no country code: nobody could sign up with it.
    pub fn add(&mut self, e164: &str, test: TestNumber) -> Result<(), PhoneError> {
        let number = PhoneNumber::well_formed(e164)?;
        if number.as_str() != e164 {
            return Err(PhoneError::Malformed);
        }
        self.0.insert(number, test);
        Ok(())
    }

    /// Reads a number as [`PhoneNumber::parse`] does, or one of these while it is in force, whatever its numbering plan says.
    ///
    /// # Errors
    /// [`PhoneError`]
    pub fn parse(&self, text: &str, now: UtcDateTime) -> Result<PhoneNumber, PhoneError> {
        PhoneNumber::parse(text).or_else(|refusal| {
            let number = PhoneNumber::well_formed(text).map_err(|_| refusal)?;
            self.code(&number, now).is_some().then_some(number).ok_or(refusal)
        })
    }

    /// The code of the number, if it is one of these and in force.
    #[must_use]
    pub fn code(&self, number: &PhoneNumber, now: UtcDateTime) -> Option<&OneTimeCode> {
        self.0.get(number).filter(|test| test.is_in_force(now)).map(|test| &test.code)
    }

    /// All of them, also those whose last day has passed.
    pub fn iter(&self) -> impl Iterator<Item = (&PhoneNumber, &TestNumber)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use time::macros::{date, utc_datetime};

    use super::*;

    const NOW: UtcDateTime = utc_datetime!(2026-11-29 12:00);

    fn until(last_day: Date) -> TestNumber {
        TestNumber { code: OneTimeCode::parse("123456").unwrap(), last_day }
    }

    fn numbers(e164: &[&str]) -> TestNumbers {
        let mut numbers = TestNumbers::default();
        for number in e164 {
            numbers.add(number, until(date!(2027 - 01 - 31))).unwrap();
        }
        numbers
    }

    /// Those of the Ofcom and of the North American plan, which a film may show.
    #[rstest]
    #[case("+447700900123", "GB")]
    #[case("+442079460123", "GB")]
    #[case("+12025550123", "US")]
    #[case("+33199001234", "FR")]
    fn a_number_of_fiction_is_taken_where_it_is_named(#[case] e164: &str, #[case] country: &str) {
        let number = numbers(&[e164]).parse(e164, NOW).unwrap();
        assert_eq!((number.as_str(), number.country().unwrap().as_str()), (e164, country));
        let national = number.national_number();
        assert_eq!(number.masked().matches('*').count(), national.len() - 2);
    }

    #[rstest]
    #[case("+44 7700 900 123")]
    #[case("+44 (0) 7700-900123")]
    #[case("00447700900123")]
    #[case("447700900123")]
    fn it_is_written_as_people_write_numbers(#[case] text: &str) {
        assert_eq!(numbers(&["+447700900123"]).parse(text, NOW).unwrap().as_str(), "+447700900123");
    }

    #[rstest]
    #[case("+447700900124", PhoneError::NotValid)]
    #[case("+442079460000", PhoneError::NotSmsCapable)]
    #[case("+447700900123x", PhoneError::Malformed)]
    fn other_numbers_are_judged_as_ever(#[case] text: &str, #[case] refusal: PhoneError) {
        assert_eq!(numbers(&["+447700900123"]).parse(text, NOW).unwrap_err(), refusal);
        assert!(numbers(&[]).parse("+447700900123", NOW).is_err());
        assert!(numbers(&[]).parse("+447871234567", NOW).is_ok());
    }

    #[rstest]
    #[case(utc_datetime!(2027-01-31 23:59:59), true)]
    #[case(utc_datetime!(2027-02-01 0:00), false)]
    fn the_last_day_is_a_whole_one(#[case] now: UtcDateTime, #[case] in_force: bool) {
        let numbers = numbers(&["+447700900123", "+447871234567"]);
        assert_eq!(numbers.parse("+447700900123", now).is_ok(), in_force);
        let real = numbers.parse("+447871234567", now).unwrap();
        assert_eq!(numbers.code(&real, now).is_some(), in_force);
    }

    #[rstest]
    #[case("447700900123")]
    #[case("+44 7700 900123")]
    #[case("+4407700900123")]
    #[case("+999123456789")]
    #[case("+44123")]
    #[case("+44")]
    #[case("")]
    fn what_nobody_could_sign_up_with_is_no_test_number(#[case] text: &str) {
        let mut numbers = TestNumbers::default();
        assert!(numbers.add(text, until(date!(2027 - 01 - 31))).is_err());
    }

    #[test]
    fn a_code_is_not_shown() {
        assert!(!format!("{:?}", numbers(&["+447700900123"])).contains("123456"));
    }
}
