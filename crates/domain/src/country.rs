use std::fmt;

/// A country by its ISO 3166-1 code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country(&'static str);

/// The text is no ISO 3166-1 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 3166-1 country code")]
pub struct UnknownCountry;

impl Country {
    /// Reads an alpha-2 or alpha-3 code in any case.
    ///
    /// # Errors
    /// [`UnknownCountry`] for a code that is not assigned.
    pub fn parse(code: &str) -> Result<Self, UnknownCountry> {
        let code = short_upper_case::<3>(code).ok_or(UnknownCountry)?;
        let country = match code.len() {
            2 => rust_iso3166::from_alpha2(&code),
            3 => rust_iso3166::from_alpha3(&code),
            _ => None,
        };
        country.map(|country| Self(country.alpha2)).ok_or(UnknownCountry)
    }

    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        rust_iso3166::ALL.iter().map(|country| Self(country.alpha2))
    }

    /// The alpha-2 code, in upper case.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        self.0
    }
}

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

/// The text is no ISO 4217 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code")]
pub struct UnknownCurrency;

impl Currency {
    /// Reads an alphabetic code in any case.
    ///
    /// # Errors
    /// [`UnknownCurrency`] for a code that is not assigned.
    pub fn parse(code: &str) -> Result<Self, UnknownCurrency> {
        let code = short_upper_case::<3>(code).ok_or(UnknownCurrency)?;
        iso_currency::Currency::from_code(&code).map(Self).ok_or(UnknownCurrency)
    }

    /// The alphabetic code, in upper case.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.0.code()
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn short_upper_case<const MAX: usize>(code: &str) -> Option<String> {
    let code = code.trim();
    (code.len() <= MAX && code.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .then(|| code.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("GB", Some("GB"))]
    #[case(" gbr ", Some("GB"))]
    #[case("deu", Some("DE"))]
    #[case("UK", None)]
    #[case("", None)]
    #[case("826", None)]
    #[case("ＧＢ", None)]
    #[case("GB\0", None)]
    fn countries(#[case] code: &str, #[case] expected: Option<&str>) {
        assert_eq!(Country::parse(code).ok().map(|country| country.as_str()), expected);
    }

    #[rstest]
    #[case("EUR", Some("EUR"))]
    #[case("gbp", Some("GBP"))]
    #[case("EURO", None)]
    #[case("ZZZ", None)]
    fn currencies(#[case] code: &str, #[case] expected: Option<&str>) {
        assert_eq!(Currency::parse(code).ok().map(|currency| currency.as_str()), expected);
    }
}
