use std::collections::HashMap;

use time::UtcDateTime;

use super::{Money, Purse, Spend, Window};
use crate::limits::Unit;
use crate::{Country, PhoneNumber};

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
}

/// What a message costs at most, by country, whichever provider carries it.
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
        to.country().and_then(|country| self.countries.get(&country)).copied().unwrap_or(self.otherwise)
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Anybody who has typed a number.
    Newcomer,
    /// Who has an account, and so has proved to hold the number.
    Customer,
}

/// What messages may cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Budget {
    /// What they cost.
    pub prices: Prices,
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
    pub fn spends(&self, to: &PhoneNumber, audience: Audience, unit: Unit, now: UtcDateTime) -> Vec<Spend> {
        let amount = self.prices.of(to);
        let purses = to.country().map(Purse::Country).into_iter().chain([Purse::All]);
        let share = self.share(audience);
        let in_windows = |purse| {
            let ceiling = self.ceiling(purse);
            Window::ALL.into_iter().filter_map(move |window| {
                let ceiling = ceiling.of(window)?.percent(share);
                let (start, rest) = (window.start(now), window.rest(now));
                Some(Spend { purse, window, start, amount, unit, ceiling, rest })
            })
        };
        purses.flat_map(in_windows).collect()
    }

    /// The whole of a purse's ceiling.
    #[must_use]
    pub fn ceiling(&self, purse: Purse) -> Ceiling {
        match purse {
            Purse::All => self.all,
            Purse::Country(country) => *self.countries.get(&country).unwrap_or(&self.each_country),
        }
    }

    /// Whether anything is limited.
    #[must_use]
    pub fn has_ceilings(&self) -> bool {
        let mut ceilings = self.countries.values().chain([&self.all, &self.each_country]);
        ceilings.any(|ceiling| *ceiling != Ceiling::default())
    }

    const fn share(&self, audience: Audience) -> u8 {
        match audience {
            Audience::Newcomer => 100_u8.saturating_sub(self.reserve_percent),
            Audience::Customer => 100,
        }
    }

    /// The most that a day can cost; `None`: there is no end to it.
    #[must_use]
    pub fn worst_day(&self) -> Option<Money> {
        let hours = self.all.hour.map(|hour| hour.times(24));
        self.all.day.into_iter().chain(hours).min()
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
    fn newcomers_leave_the_reserve_to_customers() {
        let to = PhoneNumber::parse("+447871234567").unwrap();
        let budget = Budget {
            all: Ceiling { hour: Some(money("10")), day: Some(money("100")) },
            countries: HashMap::from([(country("GB"), Ceiling { hour: None, day: Some(money("50")) })]),
            reserve_percent: 20,
            ..Budget::default()
        };
        let ceilings = |audience| {
            let spends = budget.spends(&to, audience, Unit::Taken, NOW);
            spends
                .iter()
                .map(|spend| format!("{} {} {}", spend.purse, spend.window.as_str(), spend.ceiling))
                .collect::<Vec<_>>()
        };
        assert_eq!(ceilings(Audience::Newcomer), ["country:GB day 40.00", "all hour 8.00", "all day 80.00"]);
        assert_eq!(
            ceilings(Audience::Customer),
            ["country:GB day 50.00", "all hour 10.00", "all day 100.00"]
        );
    }
}
