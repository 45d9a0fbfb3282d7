//! What messages may cost.
//!
//! A ceiling is a promise: in its hour or its day of the calendar (UTC), as bills are counted, no more is spent than it says. So the
//! price of a message is reserved before it may leave, at the dearest that it can come to, and settled to what it did come to. What is
//! reserved and what is spent are one sum, which storage never lets grow over the ceiling.
//!
//! A part of each ceiling is kept for people who have an account: an attacker who makes strangers' phones ring uses up what is
//! there for newcomers, and customers still get in.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use time::{Time, UtcDateTime};

use crate::{Country, PhoneNumber};

/// An amount in millionths of the currency that the operator counts in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(u64);

/// The text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an amount such as 12 or 0.0079, with at most six decimals")]
pub struct MoneyError;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many millionths.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// In millionths.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Reads a decimal number with at most six decimals, up to a billion.
    ///
    /// # Errors
    /// [`MoneyError`]
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || whole.len() > 9 || decimals.len() > 6 {
            return Err(MoneyError);
        }
        let whole: u64 = whole.parse().map_err(|_| MoneyError)?;
        let decimals: u64 = format!("{decimals:0<6}").parse().map_err(|_| MoneyError)?;
        Ok(Self(whole * 1_000_000 + decimals))
    }

    /// The sum; the largest amount there is, where that is less.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left of it; nothing, where the other is more.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So often.
    #[must_use]
    pub const fn times(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(factor as u64))
    }

    /// So many hundredths of it, rounded down.
    #[must_use]
    pub const fn percent(self, percent: u8) -> Self {
        Self(self.0 / 100 * percent as u64 + self.0 % 100 * percent as u64 / 100)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.0 % 1_000_000);
        let significant = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{}.{}", self.0 / 1_000_000, decimals.get(..significant).unwrap_or(&decimals))
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Money({self})")
    }
}

/// How long a ceiling holds: a whole hour or a whole day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
}

impl Window {
    /// Both, the shorter first.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// When the window that holds the moment began.
    #[must_use]
    pub fn start(self, now: UtcDateTime) -> UtcDateTime {
        match self {
            Self::Hour => now.replace_time(Time::from_hms(now.hour(), 0, 0).unwrap_or(Time::MIDNIGHT)),
            Self::Day => now.replace_time(Time::MIDNIGHT),
        }
    }

    /// How long until the next one begins; never nothing.
    #[must_use]
    pub fn rest(self, now: UtcDateTime) -> Duration {
        (self.start(now) + self.length() - now).unsigned_abs()
    }

    const fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }

    /// Its name in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// What a ceiling is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purse {
    /// All messages.
    All,
    /// Messages to the numbers of a country.
    Country(Country),
    /// Messages that one provider carries, by its name in the configuration.
    Provider(String),
}

/// The key that a purse stands under in storage.
impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Country(country) => write!(f, "country:{}", country.as_str()),
            Self::Provider(provider) => write!(f, "provider:{provider}"),
        }
    }
}

/// The most that may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ceiling {
    /// In an hour; `None`: as much as may be.
    pub hour: Option<Money>,
    /// In a day.
    pub day: Option<Money>,
}

impl Ceiling {
    const fn of(&self, window: Window) -> Option<Money> {
        match window {
            Window::Hour => self.hour,
            Window::Day => self.day,
        }
    }
}

/// What one part of a message costs, by provider and country.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// Where nothing more is known.
    pub otherwise: Money,
    /// By country.
    pub countries: HashMap<Country, Money>,
    /// By provider and country, before all others.
    pub providers: HashMap<String, HashMap<Country, Money>>,
}

impl Prices {
    /// What a part costs.
    #[must_use]
    pub fn of(&self, provider: &str, to: Option<Country>) -> Money {
        let Some(to) = to else { return self.otherwise };
        let own = self.providers.get(provider).and_then(|prices| prices.get(&to));
        own.or_else(|| self.countries.get(&to)).copied().unwrap_or(self.otherwise)
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

/// A sum to add to what was spent, and the sum that it may not exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spend {
    /// Whose.
    pub purse: Purse,
    /// In which kind of window.
    pub window: Window,
    /// The window that it belongs to.
    pub start: UtcDateTime,
    /// How much.
    pub amount: Money,
    /// The most that there may be with it.
    pub ceiling: Money,
    /// How long until the next window begins.
    pub rest: Duration,
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
    /// Of some providers, by their names in the configuration.
    pub providers: HashMap<String, Ceiling>,
    /// How much of each ceiling is kept for customers; below 100.
    pub reserve_percent: u8,
}

impl Budget {
    /// What a message of so many parts can come to, whichever of the providers carries it.
    #[must_use]
    pub fn dearest<'a>(
        &self,
        providers: impl Iterator<Item = &'a str>,
        to: &PhoneNumber,
        parts: u32,
    ) -> Money {
        let price = |provider| self.prices.of(provider, to.country());
        providers.map(price).max().unwrap_or_default().times(parts)
    }

    /// What must be there before the message may be queued: in the purse of its country, then in that of all.
    #[must_use]
    pub fn to_queue(
        &self,
        amount: Money,
        to: &PhoneNumber,
        audience: Audience,
        now: UtcDateTime,
    ) -> Vec<Spend> {
        let country = to.country().map(|country| {
            let ceiling = self.countries.get(&country).unwrap_or(&self.each_country);
            (Purse::Country(country), *ceiling)
        });
        let purses = country.into_iter().chain([(Purse::All, self.all)]);
        purses.flat_map(|(purse, ceiling)| self.spends(purse, ceiling, amount, audience, now)).collect()
    }

    /// What must be there before a provider is handed the message.
    #[must_use]
    pub fn to_hand_over(
        &self,
        amount: Money,
        provider: &str,
        audience: Audience,
        now: UtcDateTime,
    ) -> Vec<Spend> {
        let ceiling = self.providers.get(provider).copied().unwrap_or_default();
        self.spends(Purse::Provider(provider.to_owned()), ceiling, amount, audience, now).collect()
    }

    fn spends(
        &self,
        purse: Purse,
        ceiling: Ceiling,
        amount: Money,
        audience: Audience,
        now: UtcDateTime,
    ) -> impl Iterator<Item = Spend> + use<> {
        let share = match audience {
            Audience::Newcomer => 100_u8.saturating_sub(self.reserve_percent),
            Audience::Customer => 100,
        };
        Window::ALL.into_iter().filter_map(move |window| {
            let ceiling = ceiling.of(window)?.percent(share);
            let (start, rest) = (window.start(now), window.rest(now));
            Some(Spend { purse: purse.clone(), window, start, amount, ceiling, rest })
        })
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
    fn an_amount_is_read_as_it_is_written() {
        for (text, shown) in [("0", "0.00"), ("12", "12.00"), ("0.0079", "0.0079"), ("7.100000", "7.10")] {
            assert_eq!(money(text).to_string(), shown);
        }
        assert_eq!(money("999999999.999999").micros(), 999_999_999_999_999);
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "1234567890", "0.0000001", "١"] {
            assert_eq!(Money::parse(text), Err(MoneyError), "{text}");
        }
    }

    #[test]
    fn a_share_is_rounded_down_and_never_overflows() {
        assert_eq!(Money::from_micros(199).percent(80), Money::from_micros(159));
        assert_eq!(Money::from_micros(u64::MAX).percent(100), Money::from_micros(u64::MAX));
    }

    #[test]
    fn windows_are_those_of_the_calendar() {
        assert_eq!(Window::Hour.start(NOW), utc_datetime!(2026-11-29 23:00));
        assert_eq!(Window::Day.start(NOW), utc_datetime!(2026-11-29 0:00));
        for window in Window::ALL {
            assert_eq!(window.rest(NOW), Duration::from_millis(500));
            assert_eq!(window.rest(window.start(NOW)), window.length());
        }
    }

    #[test]
    fn the_dearest_of_the_providers_counts() {
        let prices = Prices {
            otherwise: money("0.2"),
            countries: HashMap::from([(country("GB"), money("0.04"))]),
            providers: HashMap::from([("smpp".to_owned(), HashMap::from([(country("GB"), money("0.05"))]))]),
        };
        let budget = Budget { prices, ..Budget::default() };
        let to = PhoneNumber::parse("+447871234567").unwrap();
        assert_eq!(budget.dearest(["twilio"].into_iter(), &to, 1), money("0.04"));
        assert_eq!(budget.dearest(["twilio", "smpp"].into_iter(), &to, 2), money("0.1"));
        let elsewhere = PhoneNumber::parse("+4915112345678").unwrap();
        assert_eq!(budget.dearest(["twilio", "smpp"].into_iter(), &elsewhere, 1), money("0.2"));
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
            let spends = budget.to_queue(money("0.04"), &to, audience, NOW);
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
        assert!(budget.to_hand_over(money("1"), "twilio", Audience::Customer, NOW).is_empty());
    }
}
