//! Ceilings and prices, as the operator has written them: the shipped prices with the general ones over them, and over these each provider's own.

use std::collections::HashMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use vestibule_domain::Country;
use vestibule_domain::spending::{Budget, Ceiling, Money, MoneyError, Prices, ProviderBudget};

use super::sms::{Sms, SmsProvider};
use super::{ConfigError, by_country, prices};

section! {
    /// What messages may cost.
    Spending {
        currency: String = "USD".to_owned(),
        per_hour: Option<Amount> = None,
        per_day: Option<Amount> = None,
        per_country_per_hour: Option<Amount> = None,
        per_country_per_day: Option<Amount> = None,
        countries: HashMap<String, CountrySpending> = HashMap::new(),
        reserve_percent: u8 = 20,
        default_price: Amount = Amount(prices::ELSEWHERE),
        prices: HashMap<String, Amount> = HashMap::new(),
        providers: HashMap<String, ProviderSpending> = HashMap::new(),
    }
}

section! {
    /// What one provider charges, and may.
    ProviderSpending {
        default_price: Option<Amount> = None,
        prices: HashMap<String, Amount> = HashMap::new(),
        per_hour: Option<Amount> = None,
        per_day: Option<Amount> = None,
    }
}

section! {
    /// What messages to one country may cost.
    CountrySpending {
        per_hour: Option<Amount> = None,
        per_day: Option<Amount> = None,
    }
}

/// Money, as a number or a text: a variable's value is a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount(Money);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(u64),
            Decimal(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer).map_err(|_| D::Error::custom(MoneyError))? {
            Written::Whole(number) => number.to_string(),
            Written::Decimal(number) => number.to_string(),
            Written::Text(text) => text,
        };
        Money::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

impl Spending {
    /// The ceilings, and the prices of the providers that are in use.
    pub(crate) fn budget(&self, sms: &Sms) -> Result<Budget, ConfigError> {
        let general = self.general_prices()?;
        self.check_names()?;
        let mut providers = HashMap::new();
        for provider in SmsProvider::ALL {
            let own = self.providers.get(provider.as_str());
            let budget = own.map_or_else(|| Ok(charging(general.clone())), |own| own.budget(&general))?;
            if sms.uses(provider) {
                providers.insert(provider.as_str().to_owned(), budget);
            }
        }
        let countries = by_country("spending.countries", &self.countries)?;
        let countries = countries.into_iter();
        Ok(Budget {
            prices: dearest(sms, &providers)?,
            providers,
            all: ceiling(self.per_hour, self.per_day),
            each_country: ceiling(self.per_country_per_hour, self.per_country_per_day),
            countries: countries
                .map(|(country, own)| (country, ceiling(own.per_hour, own.per_day)))
                .collect(),
            reserve_percent: self.reserve_percent,
        })
    }

    /// The providers that have a table and are not in use. Who takes one out of the order for a while need not take it out here.
    pub(crate) fn unused_providers(&self, sms: &Sms) -> impl Iterator<Item = &'static str> {
        let is_unused =
            |provider: &SmsProvider| self.providers.contains_key(provider.as_str()) && !sms.uses(*provider);
        SmsProvider::ALL.into_iter().filter(is_unused).map(SmsProvider::as_str)
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let known = SmsProvider::ALL.map(SmsProvider::as_str);
        match self.providers.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let problem = format!("`{name}` is no provider: they are {}", known.join(", "));
                Err(ConfigError::of("spending.providers", problem))
            }
        }
    }

    fn general_prices(&self) -> Result<Prices, ConfigError> {
        let mut countries = prices::by_country();
        countries.extend(table("spending.prices", &self.prices)?);
        Ok(Prices { otherwise: self.default_price.0, countries })
    }
}

impl ProviderSpending {
    /// A provider with a default price of its own has that wherever its table names no other: the general prices say nothing of it.
    fn budget(&self, general: &Prices) -> Result<ProviderBudget, ConfigError> {
        let mut prices = match self.default_price {
            Some(Amount(otherwise)) => Prices { otherwise, countries: HashMap::new() },
            None => general.clone(),
        };
        prices.countries.extend(table("spending.providers: `prices`", &self.prices)?);
        Ok(ProviderBudget { prices, ceiling: ceiling(self.per_hour, self.per_day) })
    }
}

fn charging(prices: Prices) -> ProviderBudget {
    ProviderBudget { prices, ceiling: Ceiling::default() }
}

/// What a message costs at most, by country: there, only those count that its order names.
fn dearest(sms: &Sms, providers: &HashMap<String, ProviderBudget>) -> Result<Prices, ConfigError> {
    let tables = |order: &[SmsProvider]| -> Vec<&Prices> {
        let budgets = order.iter().filter_map(|provider| providers.get(provider.as_str()));
        budgets.map(|budget| &budget.prices).collect()
    };
    let orders = sms.country_orders()?.into_iter().map(|(country, order)| (country, tables(order)));
    Ok(Prices::dearest(&tables(&sms.providers), &orders.collect()))
}

fn table(
    key: &'static str,
    prices: &HashMap<String, Amount>,
) -> Result<impl Iterator<Item = (Country, Money)>, ConfigError> {
    Ok(by_country(key, prices)?.into_iter().map(|(country, Amount(price))| (country, *price)))
}

fn ceiling(hour: Option<Amount>, day: Option<Amount>) -> Ceiling {
    Ceiling { hour: hour.map(|Amount(most)| most), day: day.map(|Amount(most)| most) }
}
