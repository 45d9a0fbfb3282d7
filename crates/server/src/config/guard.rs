//! The guard against SMS pumping.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use vestibule_domain::pumping::{CountryNorm, Mode, PumpingGuard};

use super::forms::optional_word;
use super::{ConfigError, Environment, by_country};

/// The smallest budget of a country: storage may keep it in parts, of which each must be large enough for what is on its way.
const MIN_OF_COUNTRY: u32 = 200;

section! {
    /// Sign-ups are held back where too few codes come back.
    Guard {
        #[serde(deserialize_with = "optional_word")]
        mode: Option<GuardMode> = None,
        min_confirmed_percent: u8 = CountryNorm::default().confirmed_percent,
        unconfirmed_per_range: u32 = PumpingGuard::default().unconfirmed_per_range,
        unconfirmed_per_block: u32 = PumpingGuard::default().unconfirmed_per_block,
        unconfirmed_per_country: u32 = CountryNorm::default().unconfirmed,
        forget_hours: u32 = hours(PumpingGuard::default().forget_after),
        countries: HashMap<String, CountryGuard> = HashMap::new(),
    }
}

/// Whole ones.
fn hours(span: Duration) -> u32 {
    u32::try_from(span.as_secs() / 3600).unwrap_or(u32::MAX)
}

/// What becomes of what the guard against pumping finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GuardMode {
    Off,
    Observe,
    Enforce,
}

section! {
    /// What is normal in one country.
    CountryGuard {
        min_confirmed_percent: Option<u8> = None,
        unconfirmed: Option<u32> = None,
    }
}

impl Guard {
    /// The rule. Where no mode is set, sign-ups are refused in production only.
    pub(crate) fn rule(&self, environment: Environment) -> Result<PumpingGuard, ConfigError> {
        let refuse = |key, problem: &str| Err(ConfigError::of(key, problem));
        for (key, units, least) in [
            ("guard.unconfirmed_per_range", self.unconfirmed_per_range, 1),
            ("guard.unconfirmed_per_block", self.unconfirmed_per_block, 1),
            ("guard.unconfirmed_per_country", self.unconfirmed_per_country, MIN_OF_COUNTRY),
        ] {
            if !(least..=1_000_000).contains(&units) {
                return refuse(key, &format!("must be {least} to 1000000"));
            }
        }
        if !(1..=720).contains(&self.forget_hours) {
            return refuse("guard.forget_hours", "must be 1 to 720");
        }
        if !(1..=100).contains(&self.min_confirmed_percent) {
            return refuse("guard.min_confirmed_percent", "must be 1 to 100");
        }
        let by_default = match environment {
            Environment::Development => GuardMode::Observe,
            Environment::Production => GuardMode::Enforce,
        };
        let mode = match self.mode.unwrap_or(by_default) {
            GuardMode::Off => Mode::Off,
            GuardMode::Observe => Mode::Observe,
            GuardMode::Enforce => Mode::Enforce,
        };
        let norm = CountryNorm {
            confirmed_percent: self.min_confirmed_percent,
            unconfirmed: self.unconfirmed_per_country,
        };
        let countries = by_country("guard.countries", &self.countries)?;
        let norms = countries.into_iter().map(|(country, own)| {
            let CountryGuard { min_confirmed_percent, unconfirmed } = own;
            let confirmed_percent = min_confirmed_percent.unwrap_or(norm.confirmed_percent);
            let unconfirmed = unconfirmed.unwrap_or(norm.unconfirmed);
            if !(1..=100).contains(&confirmed_percent) || !(MIN_OF_COUNTRY..=1_000_000).contains(&unconfirmed) {
                let problem = format!(
                    "`{}`: `min_confirmed_percent` must be 1 to 100, `unconfirmed` {MIN_OF_COUNTRY} to 1000000",
                    country.as_str()
                );
                return Err(ConfigError::of("guard.countries", problem));
            }
            Ok((country, CountryNorm { confirmed_percent, unconfirmed }))
        });
        Ok(PumpingGuard {
            mode,
            norm,
            countries: norms.collect::<Result<_, _>>()?,
            unconfirmed_per_range: self.unconfirmed_per_range,
            unconfirmed_per_block: self.unconfirmed_per_block,
            forget_after: Duration::from_hours(self.forget_hours.into()),
        })
    }
}
