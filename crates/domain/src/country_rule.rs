use std::collections::BTreeSet;
use std::fmt;

use crate::Country;

/// Which countries may sign up: all of them, all but some, or only some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountryRule {
    allowed: BTreeSet<Country>,
    blocked: BTreeSet<Country>,
    of_none: OfNoCountry,
}

/// What becomes of whom no country is known of, whichever lists there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfNoCountry {
    /// They pass.
    Admitted,
    /// They are refused.
    Refused,
}

/// A country is allowed and blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is allowed and blocked")]
pub struct AllowedAndBlocked(pub Country);

impl CountryRule {
    /// Only the allowed ones if there are any, and never a blocked one.
    ///
    /// # Errors
    /// [`AllowedAndBlocked`]: what was meant cannot be told.
    pub fn new(
        allowed: impl IntoIterator<Item = Country>,
        blocked: impl IntoIterator<Item = Country>,
        of_none: OfNoCountry,
    ) -> Result<Self, AllowedAndBlocked> {
        let (allowed, blocked) = (BTreeSet::from_iter(allowed), BTreeSet::from_iter(blocked));
        if let Some(both) = allowed.intersection(&blocked).next() {
            return Err(AllowedAndBlocked(*both));
        }
        Ok(Self { allowed, blocked, of_none })
    }

    /// Whether who belongs to the country, or to none that is known, may sign up.
    #[must_use]
    pub fn admits(&self, country: Option<Country>) -> bool {
        match country {
            Some(country) => {
                !self.blocked.contains(&country)
                    && (self.allowed.is_empty() || self.allowed.contains(&country))
            }
            None => self.of_none == OfNoCountry::Admitted,
        }
    }
}

impl fmt::Display for CountryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |countries: &BTreeSet<Country>| {
            countries.iter().map(Country::as_str).collect::<Vec<_>>().join(", ")
        };
        match (self.allowed.is_empty(), self.blocked.is_empty(), self.of_none) {
            (true, true, OfNoCountry::Admitted) => f.write_str("all"),
            (true, true, OfNoCountry::Refused) => f.write_str("all that are known"),
            (true, false, OfNoCountry::Admitted) => write!(f, "all but {}", list(&self.blocked)),
            (true, false, OfNoCountry::Refused) => {
                write!(f, "all that are known but {}", list(&self.blocked))
            }
            (false, _, OfNoCountry::Refused) => write!(f, "only {}", list(&self.allowed)),
            (false, _, OfNoCountry::Admitted) => write!(f, "only {}, or unknown", list(&self.allowed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn countries(codes: &str) -> Vec<Country> {
        codes.split_whitespace().map(|code| Country::parse(code).unwrap()).collect()
    }

    fn rule(allowed: &str, blocked: &str, of_none: OfNoCountry) -> CountryRule {
        CountryRule::new(countries(allowed), countries(blocked), of_none).unwrap()
    }

    #[rstest]
    #[case::no_lists("", "", "DE FR", "")]
    #[case::some_are_blocked("", "FR KP", "DE", "FR KP")]
    #[case::only_some_are_allowed("DE GB", "", "DE GB", "FR")]
    #[case::both("DE GB", "FR", "DE GB", "FR US")]
    fn a_country_passes_or_not(
        #[case] allowed: &str,
        #[case] blocked: &str,
        #[case] admitted: &str,
        #[case] refused: &str,
        #[values(OfNoCountry::Admitted, OfNoCountry::Refused)] of_none: OfNoCountry,
    ) {
        let rule = rule(allowed, blocked, of_none);
        let admits = |code: &str| rule.admits(Some(Country::parse(code).unwrap()));
        assert!(admitted.split_whitespace().all(admits), "{rule}");
        assert!(!refused.split_whitespace().any(admits), "{rule}");
    }

    #[rstest]
    #[case("", "")]
    #[case("", "FR")]
    #[case("DE", "")]
    #[case("DE", "FR")]
    fn of_no_country(#[case] allowed: &str, #[case] blocked: &str) {
        assert!(rule(allowed, blocked, OfNoCountry::Admitted).admits(None));
        assert!(!rule(allowed, blocked, OfNoCountry::Refused).admits(None));
    }

    #[test]
    fn a_country_in_both_lists_is_no_rule() {
        let both = CountryRule::new(countries("GB DE"), countries("FR DE"), OfNoCountry::Refused);
        assert_eq!(both.unwrap_err().to_string(), "DE is allowed and blocked");
    }

    #[rstest]
    #[case("", "", "all", "all that are known")]
    #[case("", "KP FR", "all but FR, KP", "all that are known but FR, KP")]
    #[case("GB DE", "FR", "only DE, GB, or unknown", "only DE, GB")]
    fn a_rule_is_told_in_words(
        #[case] allowed: &str,
        #[case] blocked: &str,
        #[case] admitted: &str,
        #[case] refused: &str,
    ) {
        assert_eq!(rule(allowed, blocked, OfNoCountry::Admitted).to_string(), admitted);
        assert_eq!(rule(allowed, blocked, OfNoCountry::Refused).to_string(), refused);
    }
}
