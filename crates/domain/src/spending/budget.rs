use std::collections::HashMap;

use time::UtcDateTime;

use super::{Money, Purse, Spend, Unsent, Window};
use crate::{Content, Country, PhoneNumber};

/// The most that may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ceiling {
    /// In an hour; `None`: as much as may be.
    pub hour: Option<Money>,
    /// In a day.
    pub day: Option<Money>,
}

impl Ceiling {
    /// In a window of the kind.
    #[must_use]
    pub const fn of(&self, window: Window) -> Option<Money> {
        match window {
            Window::Hour => self.hour,
            Window::Day => self.day,
        }
    }

    /// The most that a day can cost; `None`: there is no end to it.
    #[must_use]
    pub fn worst_day(&self) -> Option<Money> {
        self.day.into_iter().chain(self.hour.map(|hour| hour.times(24))).min()
    }
}

/// What a message costs, by country.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// Where nothing more is known.
    pub otherwise: Money,
    /// By country.
    pub countries: HashMap<Country, Money>,
}

impl Prices {
    /// What a message to the number costs.
    #[must_use]
    pub fn of(&self, to: &PhoneNumber) -> Money {
        self.in_country(to.country())
    }

    /// What a message costs at most whose carrier is not known yet: one with the `usual` prices, or with those that are named for its country.
    #[must_use]
    pub fn dearest(usual: &[&Self], by_country: &HashMap<Country, Vec<&Self>>) -> Self {
        let of_country = |country: Country| {
            let tables = by_country.get(&country).map_or(usual, Vec::as_slice);
            tables.iter().map(|table| table.in_country(Some(country))).max().unwrap_or_default()
        };
        let tables = usual.iter().chain(by_country.values().flatten());
        let named = tables.flat_map(|table| table.countries.keys()).chain(by_country.keys());
        Self {
            otherwise: usual.iter().map(|table| table.otherwise).max().unwrap_or_default(),
            countries: named.map(|country| (*country, of_country(*country))).collect(),
        }
    }

    fn in_country(&self, country: Option<Country>) -> Money {
        country.and_then(|country| self.countries.get(&country)).copied().unwrap_or(self.otherwise)
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Anybody who has typed a number.
    Newcomer,
    /// Whoever says to have the number's account, from a device that it does not know: its owner with a new one, or somebody who knows the number.
    Claimant,
    /// Who has an account, and so has proved to hold the number; and asks from a device that it knows, if anybody asks.
    Customer,
}

impl Audience {
    /// Of a message that says this.
    #[must_use]
    pub const fn of(content: &Content) -> Self {
        match content {
            // The owner of a concealed number is told of what a newcomer did.
            Content::SignUpCode { .. } | Content::AlreadyRegistered => Self::Newcomer,
            Content::EmailConfirmation { .. }
            | Content::ResetCode { .. }
            | Content::PasswordChanged
            | Content::SessionStolen => Self::Customer,
        }
    }
}

/// What a provider charges, and the most that it may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProviderBudget {
    /// What it charges.
    pub prices: Prices,
    /// The most that it may charge.
    pub ceiling: Ceiling,
}

/// What messages may cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Budget {
    /// What they cost at most, whichever provider carries them.
    pub prices: Prices,
    /// Of each provider in use, by its name.
    pub providers: HashMap<String, ProviderBudget>,
    /// Of all messages.
    pub all: Ceiling,
    /// Of each country that has none of its own.
    pub each_country: Ceiling,
    /// Of some countries.
    pub countries: HashMap<Country, Ceiling>,
    /// How much of each ceiling is kept for customers; below 100.
    pub reserve_percent: u8,
}

impl Budget {
    /// What a message to the number must find: in the purse of its country, then in that of all, where every commit meets.
    #[must_use]
    pub fn spends(
        &self,
        to: &PhoneNumber,
        audience: Audience,
        unsent: Unsent,
        now: UtcDateTime,
    ) -> Vec<Spend> {
        let amount = self.prices.of(to);
        let purses = to.country().map(Purse::Country).into_iter().chain([Purse::All]);
        purses.flat_map(|purse| self.in_windows(purse, amount, audience, unsent, now)).collect()
    }

    /// What a message to the number must find in the purse of the provider that it is handed to; nothing to find, where that has no ceiling.
    #[must_use]
    pub fn provider_spends(
        &self,
        provider: &str,
        to: &PhoneNumber,
        audience: Audience,
        now: UtcDateTime,
    ) -> Vec<Spend> {
        let Some(ProviderBudget { prices, .. }) = self.providers.get(provider) else { return Vec::new() };
        let purse = Purse::Provider(provider.to_owned());
        self.in_windows(purse, prices.of(to), audience, Unsent::Returned, now).collect()
    }

    fn in_windows(
        &self,
        purse: Purse,
        amount: Money,
        audience: Audience,
        unsent: Unsent,
        now: UtcDateTime,
    ) -> impl Iterator<Item = Spend> {
        let (ceiling, share) = (self.ceiling(&purse), self.share(audience));
        Window::ALL.into_iter().filter_map(move |window| {
            let ceiling = ceiling.of(window)?.percent(share);
            let (purse, start, rest) = (purse.clone(), window.start(now), window.rest(now));
            Some(Spend { purse, window, start, amount, unsent, ceiling, rest })
        })
    }

    /// The whole of a purse's ceiling.
    #[must_use]
    pub fn ceiling(&self, purse: &Purse) -> Ceiling {
        match purse {
            Purse::All => self.all,
            Purse::Country(country) => *self.countries.get(country).unwrap_or(&self.each_country),
            Purse::Provider(name) => {
                self.providers.get(name).map_or_else(Ceiling::default, |provider| provider.ceiling)
            }
        }
    }

    /// All that have a ceiling.
    #[must_use]
    pub fn purses(&self) -> Vec<Purse> {
        let countries = Country::all().map(Purse::Country);
        let providers = self.providers.keys().cloned().map(Purse::Provider);
        let purses = [Purse::All].into_iter().chain(providers).chain(countries);
        purses.filter(|purse| self.ceiling(purse) != Ceiling::default()).collect()
    }

    /// How much of each ceiling is there for the audience, in hundredths.
    #[must_use]
    pub const fn share(&self, audience: Audience) -> u8 {
        match audience {
            Audience::Newcomer => 100_u8.saturating_sub(self.reserve_percent),
            Audience::Claimant => 100_u8.saturating_sub(self.reserve_percent / 2),
            Audience::Customer => 100,
        }
    }

    /// The most that a day can cost; `None`: there is no end to it.
    #[must_use]
    pub fn worst_day(&self) -> Option<Money> {
        let of_providers = self.providers.values().map(|provider| provider.ceiling.worst_day());
        let of_providers = of_providers.reduce(|sum, one| Some(sum?.plus(one?))).flatten();
        self.all.worst_day().into_iter().chain(of_providers).min()
    }

    /// The most messages that can be paid for in a day, at the lowest of the prices; `None`: there is no end to them.
    #[must_use]
    pub fn most_messages(&self) -> Option<u64> {
        let tables = self.providers.values().map(|provider| &provider.prices).chain([&self.prices]);
        let prices = tables.flat_map(|table| table.countries.values().chain([&table.otherwise]));
        let cheapest = prices.map(|price| price.micros()).min()?;
        self.worst_day()?.micros().checked_div(cheapest)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::utc_datetime;

    use super::*;

    const NOW: UtcDateTime = utc_datetime!(2026-11-29 23:59:59.5);

    fn money(text: &str) -> Money {
        Money::parse(text).unwrap()
    }

    fn country(code: &str) -> Country {
        Country::parse(code).unwrap()
    }

    #[test]
    fn a_country_has_its_price() {
        let prices =
            Prices { otherwise: money("0.2"), countries: HashMap::from([(country("GB"), money("0.04"))]) };
        let price = |number| prices.of(&PhoneNumber::parse(number).unwrap());
        assert_eq!([price("+447871234567"), price("+4915112345678")], [money("0.04"), money("0.2")]);
    }

    #[test]
    fn the_worst_day_is_the_narrower_of_its_ceilings() {
        let worst = |hour: Option<&str>, day: Option<&str>| {
            let all = Ceiling { hour: hour.map(money), day: day.map(money) };
            Budget { all, ..Budget::default() }.worst_day()
        };
        assert_eq!(worst(None, None), None);
        assert_eq!(worst(Some("10"), None), Some(money("240")));
        assert_eq!(worst(Some("10"), Some("100")), Some(money("100")));
        assert_eq!(worst(Some("1"), Some("100")), Some(money("24")));
    }

    #[test]
    fn the_worst_day_is_what_all_providers_may_charge_where_that_is_less() {
        let provider = |day: Option<&str>| ProviderBudget {
            ceiling: Ceiling { hour: None, day: day.map(money) },
            ..ProviderBudget::default()
        };
        let worst = |all: Option<&str>, b: Option<&str>| {
            let providers =
                HashMap::from([("a".to_owned(), provider(Some("10"))), ("b".to_owned(), provider(b))]);
            let all = Ceiling { hour: None, day: all.map(money) };
            Budget { providers, all, ..Budget::default() }.worst_day()
        };
        assert_eq!(worst(None, Some("5")), Some(money("15")));
        assert_eq!(worst(Some("12"), Some("5")), Some(money("12")));
        assert_eq!(worst(None, None), None, "one of them may charge what it will");
    }

    #[test]
    fn the_dearest_who_may_carry_a_message_counts() {
        let table = |otherwise, germany: Option<&str>| Prices {
            otherwise: money(otherwise),
            countries: germany.map(|price| (country("DE"), money(price))).into_iter().collect(),
        };
        let (a, b, c) = (table("0.2", Some("0.1")), table("0.3", None), table("0.9", None));
        let only = |code, table| HashMap::from([(country(code), vec![table])]);
        let to = |number| PhoneNumber::parse(number).unwrap();
        let price = |prices: &Prices| {
            ["+4915112345678", "+447871234567"].map(|number| prices.of(&to(number)).to_string())
        };
        assert_eq!(price(&Prices::dearest(&[&a], &HashMap::new())), ["0.10", "0.20"]);
        assert_eq!(price(&Prices::dearest(&[&a, &b], &HashMap::new())), ["0.30", "0.30"]);
        assert_eq!(price(&Prices::dearest(&[&a, &b], &only("DE", &a))), ["0.10", "0.30"]);
        assert_eq!(price(&Prices::dearest(&[&a], &only("GB", &c))), ["0.10", "0.90"]);
    }

    #[test]
    fn a_provider_is_charged_its_own_price_under_its_own_ceiling() {
        let provider = ProviderBudget {
            prices: Prices { otherwise: money("0.2"), countries: HashMap::new() },
            ceiling: Ceiling { hour: None, day: Some(money("10")) },
        };
        let budget = Budget {
            providers: HashMap::from([
                ("a".to_owned(), provider),
                ("b".to_owned(), ProviderBudget::default()),
            ]),
            reserve_percent: 20,
            ..Budget::default()
        };
        let to = PhoneNumber::parse("+447871234567").unwrap();
        let spends = |name, audience| budget.provider_spends(name, &to, audience, NOW);
        let charged = spends("a", Audience::Newcomer);
        assert_eq!(charged.len(), 1);
        assert_eq!(
            (charged[0].purse.to_string(), charged[0].amount),
            ("provider:a".to_owned(), money("0.2"))
        );
        assert_eq!(charged[0].ceiling, money("8"));
        assert_eq!(spends("a", Audience::Customer)[0].ceiling, money("10"));
        assert_eq!(spends("b", Audience::Customer), []);
        assert_eq!(spends("c", Audience::Customer), []);
        assert!(budget.spends(&to, Audience::Newcomer, Unsent::Returned, NOW).is_empty());
    }

    #[test]
    fn the_purses_are_those_with_a_ceiling() {
        let some = Ceiling { hour: None, day: Some(money("1")) };
        let purses = |budget: Budget| {
            let mut purses: Vec<_> = budget.purses().iter().map(Purse::to_string).collect();
            purses.sort();
            purses
        };
        assert_eq!(purses(Budget::default()), [""; 0]);
        let countries = HashMap::from([(country("GB"), some), (country("DE"), Ceiling::default())]);
        let provider = |ceiling| ProviderBudget { ceiling, ..ProviderBudget::default() };
        let providers =
            HashMap::from([("a".to_owned(), provider(some)), ("b".to_owned(), ProviderBudget::default())]);
        let budget = Budget { providers, all: some, countries, ..Budget::default() };
        assert_eq!(purses(budget), ["all", "country:GB", "provider:a"]);
        let everywhere = purses(Budget { each_country: some, ..Budget::default() });
        assert!(everywhere.len() > 200 && everywhere.contains(&"country:NZ".to_owned()));
    }

    #[test]
    fn the_most_messages_are_those_at_the_lowest_price() {
        let most = |day: Option<&str>, otherwise: &str| {
            let prices = Prices {
                otherwise: money(otherwise),
                countries: HashMap::from([(country("US"), money("0.02"))]),
            };
            let all = Ceiling { hour: None, day: day.map(money) };
            Budget { prices, all, ..Budget::default() }
        };
        assert_eq!(most(Some("10"), "0.35").most_messages(), Some(500));
        assert_eq!(most(Some("10"), "0.01").most_messages(), Some(1000));
        assert_eq!(most(Some("10"), "0").most_messages(), None, "what costs nothing has no end");
        assert_eq!(most(None, "0.35").most_messages(), None);
        let cheap = Prices { otherwise: money("0.005"), countries: HashMap::new() };
        let cheap = ProviderBudget { prices: cheap, ..ProviderBudget::default() };
        let providers = HashMap::from([("a".to_owned(), cheap)]);
        let budget = Budget { providers, ..most(Some("10"), "0.35") };
        assert_eq!(budget.most_messages(), Some(2000), "one that was cheaper than what was reserved");
    }

    #[test]
    fn newcomers_leave_the_reserve_to_customers() {
        let to = PhoneNumber::parse("+447871234567").unwrap();
        let budget = Budget {
            all: Ceiling { hour: Some(money("10")), day: Some(money("100")) },
            countries: HashMap::from([(country("GB"), Ceiling { hour: None, day: Some(money("50")) })]),
            reserve_percent: 20,
            ..Budget::default()
        };
        let ceilings = |audience| {
            let spends = budget.spends(&to, audience, Unsent::Returned, NOW);
            spends
                .iter()
                .map(|spend| format!("{} {} {}", spend.purse, spend.window.as_str(), spend.ceiling))
                .collect::<Vec<_>>()
        };
        assert_eq!(ceilings(Audience::Newcomer), ["country:GB day 40.00", "all hour 8.00", "all day 80.00"]);
        assert_eq!(ceilings(Audience::Claimant), ["country:GB day 45.00", "all hour 9.00", "all day 90.00"]);
        assert_eq!(
            ceilings(Audience::Customer),
            ["country:GB day 50.00", "all hour 10.00", "all day 100.00"]
        );
    }
}
