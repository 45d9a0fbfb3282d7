//! The numbers that are set aside for the reviewers of app stores and for automatic tests.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use time::UtcDateTime;
use vestibule_domain::{OneTimeCode, TestNumber, TestNumbers};

use crate::config::{Config, ConfigError, Environment};

/// A later end is a slip of the pen.
const LONGEST: Duration = Duration::from_hours(24 * 400);

/// The numbers as the use cases need them.
pub(crate) fn test_numbers(config: &Config, now: UtcDateTime) -> Result<TestNumbers, ConfigError> {
    let mut numbers = TestNumbers::default();
    for (number, test) in &config.test_numbers {
        let refuse = |problem: &str| Err(ConfigError::of("test_numbers", format!("`{number}` {problem}")));
        let length = usize::from(config.registration.code_length);
        let code = OneTimeCode::parse(test.code.expose_secret());
        let Some(code) = code.filter(|code| code.expose().len() == length) else {
            return refuse(&format!("needs a code of {length} digits, as `registration.code_length` says"));
        };
        if test.until > (now + LONGEST).date() {
            return refuse("must end within 400 days");
        }
        if config.environment == Environment::Production && !config.production_test_numbers.contains(number) {
            return refuse("is for production only if `production_test_numbers` names it, too");
        }
        if numbers.add(number, TestNumber { code, last_day: test.until }).is_err() {
            return refuse("must be `+`, country code and number, without anything between the digits");
        }
    }
    match config.production_test_numbers.iter().find(|number| !config.test_numbers.contains_key(*number)) {
        None => Ok(numbers),
        Some(number) => {
            Err(ConfigError::of("production_test_numbers", format!("`{number}` is none of `test_numbers`")))
        }
    }
}

/// A sentence for each number, without its code.
pub(crate) fn describe(numbers: &TestNumbers, now: UtcDateTime) -> impl Iterator<Item = String> {
    numbers.iter().map(move |(number, test)| {
        let (number, last_day) = (number.as_str(), test.last_day);
        if test.is_in_force(now) {
            format!("test number {number}: until {last_day}")
        } else {
            format!("test number {number}: ended on {last_day}, and is like any other")
        }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use time::macros::utc_datetime;

    use super::*;

    const NOW: UtcDateTime = utc_datetime!(2026-11-29 12:00);
    const NUMBER: &str = "[test_numbers.\"+447700900123\"]\n";

    fn read(text: &str) -> Result<TestNumbers, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.toml");
        std::fs::write(&path, text).unwrap();
        let config = Config::load(Some(&path)).map_err(|error| error.to_string())?;
        test_numbers(&config, NOW).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case::text("code = '012345'\nuntil = '2027-01-31'")]
    #[case::date("code = '012345'\nuntil = 2027-01-31")]
    #[case::at_the_limit("code = '012345'\nuntil = '2028-01-03'")]
    #[case::it_has_ended("code = '012345'\nuntil = '2020-02-29'")]
    fn a_number_a_code_and_a_day(#[case] described: &str) {
        let numbers = read(&format!("{NUMBER}{described}")).unwrap();
        let (number, test) = numbers.iter().next().unwrap();
        assert_eq!((number.as_str(), test.code.expose()), ("+447700900123", "012345"));
    }

    #[rstest]
    #[case("", "test_numbers.+447700900123.code")]
    #[case("code = '012345'", "test_numbers.+447700900123.until")]
    #[case("code = '01234'\nuntil = '2027-01-31'", "test_numbers: `+447700900123` needs a code of 6 digits")]
    #[case("code = '01234a'\nuntil = '2027-01-31'", "test_numbers: `+447700900123` needs a code of 6 digits")]
    #[case("code = '012345'\nuntil = '2028-01-04'", "test_numbers: `+447700900123` must end within 400 days")]
    #[case("code = '012345'\nuntil = '2027-02-29'", "until")]
    #[case("code = '012345'\nuntil = 'soon'", "until")]
    #[case("code = '012345'\nuntil = '2027-01-31'\nname = 'x'", "name")]
    fn what_makes_no_sense_is_named(#[case] described: &str, #[case] problem: &str) {
        let error = read(&format!("{NUMBER}{described}")).unwrap_err();
        assert!(error.contains(problem) && error.contains("test_numbers"), "{error}");
        assert!(!error.contains("01234"), "the code is told: {error}");
    }

    #[rstest]
    #[case("447700900123")]
    #[case("+44 7700 900123")]
    #[case("+999123456789")]
    #[case("reviewer")]
    fn a_number_is_written_in_full(#[case] number: &str) {
        let text = format!("[test_numbers.\"{number}\"]\ncode = '012345'\nuntil = '2027-01-31'");
        let error = read(&text).unwrap_err();
        assert!(error.contains(&format!("test_numbers: `{number}` must be")), "{error}");
    }

    #[test]
    fn a_code_is_as_long_as_any_other() {
        let text = format!("registration.code_length = 4\n{NUMBER}code = '0123'\nuntil = '2027-01-31'");
        assert_eq!(read(&text).unwrap().iter().count(), 1);
    }

    #[test]
    fn in_production_each_number_is_named_twice() {
        let production = "environment = 'production'\nhttp.public_url = 'https://id.example.com'\nhttp.trusted_proxies = []\n\
            sms.providers = 'twilio'\nsms.twilio = { account_sid = 'AC1', auth_token = 'x', from = '+15005550006' }\n\
            email.transport = 'smtp'\nemail.from = 'a@example.com'\nemail.smtp.url = 'smtps://mail.example.com'\n";
        let number = format!("{NUMBER}code = '012345'\nuntil = '2027-01-31'");
        let error = read(&format!("{production}{number}")).unwrap_err();
        assert!(error.contains("`+447700900123` is for production only if"), "{error}");
        let others = "production_test_numbers = ['+447700900124']\n";
        assert!(read(&format!("{production}{others}{number}")).is_err());
        let named = "production_test_numbers = ['+447700900123']\n";
        assert_eq!(read(&format!("{production}{named}{number}")).unwrap().iter().count(), 1);
        let error = read(named).unwrap_err();
        assert!(error.starts_with("production_test_numbers: `+447700900123` is none"), "{error}");
    }

    #[test]
    fn they_are_told_with_their_ends_and_without_their_codes() {
        let numbers = read(&format!("{NUMBER}code = '012345'\nuntil = '2026-11-29'")).unwrap();
        let told = |now| describe(&numbers, now).next().unwrap();
        assert_eq!(told(NOW), "test number +447700900123: until 2026-11-29");
        let later = NOW + Duration::from_hours(24);
        assert_eq!(told(later), "test number +447700900123: ended on 2026-11-29, and is like any other");
    }
}
