//! From where people may sign up: the rules, and the file that knows where addresses are.

use std::sync::Arc;

use anyhow::Context as _;
use vestibule_domain::{CountryRule, OfNoCountry};
use vestibule_maxmind::{Look, MmdbCountries, NoCountries};
use vestibule_port_security::ClientCountries;

use crate::config::{Config, ConfigError, Registration, UnknownIpCountry, countries};
use crate::follow::follow;

/// The rules for the countries of client addresses and of numbers.
pub(crate) struct CountryRules {
    pub(crate) addresses: CountryRule,
    pub(crate) numbers: CountryRule,
}

impl CountryRules {
    pub(crate) fn of(registration: &Registration) -> Result<Self, ConfigError> {
        let (allowed, blocked) = (&registration.allowed_ip_countries, &registration.blocked_ip_countries);
        if registration.ip_country_database.is_none() && !(allowed.is_empty() && blocked.is_empty()) {
            return Err(ConfigError::of(
                "registration.ip_country_database",
                "is needed for `registration.allowed_ip_countries` and `registration.blocked_ip_countries`",
            ));
        }
        let unknown = match registration.unknown_ip_country {
            UnknownIpCountry::Allow => OfNoCountry::Admitted,
            UnknownIpCountry::Refuse if registration.ip_country_database.is_none() => {
                return Err(ConfigError::of(
                    "registration.unknown_ip_country",
                    "`refuse` needs `registration.ip_country_database`: without it all are unknown",
                ));
            }
            UnknownIpCountry::Refuse => OfNoCountry::Refused,
        };
        let of_no_country = match registration.allowed_phone_countries.as_slice() {
            [] => OfNoCountry::Admitted,
            _ => OfNoCountry::Refused,
        };
        Ok(Self {
            addresses: rule(
                ("registration.allowed_ip_countries", allowed),
                ("registration.blocked_ip_countries", blocked),
                unknown,
            )?,
            numbers: rule(
                ("registration.allowed_phone_countries", &registration.allowed_phone_countries),
                ("registration.blocked_phone_countries", &registration.blocked_phone_countries),
                of_no_country,
            )?,
        })
    }
}

type List<'a> = (&'static str, &'a [String]);

fn rule(allowed: List<'_>, blocked: List<'_>, of_none: OfNoCountry) -> Result<CountryRule, ConfigError> {
    let (key, other) = (allowed.0, blocked.0);
    let [allowed, blocked] = [countries(key, allowed.1)?, countries(other, blocked.1)?];
    CountryRule::new(allowed, blocked, of_none)
        .map_err(|both| ConfigError::of(key, format!("{both}, see `{other}`")))
}

/// The file, if there is one, and what lets a running instance take it over when it has changed.
pub(crate) fn open(config: &Config) -> anyhow::Result<(Arc<dyn ClientCountries>, FollowCountries)> {
    let Some(path) = &config.registration.ip_country_database else {
        return Ok((Arc::new(NoCountries), FollowCountries(None)));
    };
    let countries = Arc::new(MmdbCountries::open(path).context("registration.ip_country_database")?);
    Ok((Arc::clone(&countries) as _, FollowCountries(Some(countries))))
}

/// Which countries may come, in two sentences.
pub(crate) fn describe(config: &Config) -> Result<[String; 2], ConfigError> {
    let CountryRules { addresses, numbers } = CountryRules::of(&config.registration)?;
    let addresses = match config.registration.ip_country_database {
        Some(_) => format!("countries of client addresses: {addresses}"),
        None => "countries of client addresses: the rule is off, since `registration.ip_country_database` is not set"
            .to_owned(),
    };
    Ok([format!("countries of numbers: {numbers}"), addresses])
}

/// Lets a running instance take over a file of countries that has changed.
pub(crate) struct FollowCountries(Option<Arc<MmdbCountries>>);

impl FollowCountries {
    /// Does not end while there is a file.
    pub(crate) async fn run(self) {
        if let Some(countries) = self.0 {
            follow("the address database", move || look(&countries)).await;
        }
    }
}

fn look(countries: &MmdbCountries) {
    match countries.look() {
        Ok(Look::AsBefore) => {}
        Ok(Look::NewEdition) => tracing::info!("the address database has changed"),
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(error, "the changed address database is of no use; the one from before stays");
        }
    }
}
