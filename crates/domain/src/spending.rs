//! What messages may cost.
//!
//! A ceiling is a promise: in its hour or its day of the calendar (UTC), as bills are counted, no more is spent than it says. So the
//! price of a message is added to what was spent in the commit that queues it, and storage never lets the sum grow over the ceiling. It is
//! given back only where nobody can have been billed: the sum may say too much, never too little.
//!
//! A part of each ceiling is kept for people who have an account: an attacker who makes strangers' phones ring uses up what is
//! there for newcomers, and customers still get in.
//!
//! Not here: what a message did cost. That is known to who sends the bill.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use time::{Time, UtcDateTime};

use crate::limits::Unit;
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

    /// The window of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == name)
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purse {
    /// All messages.
    All,
    /// Messages to the numbers of a country.
    Country(Country),
}

/// The key that a purse stands under in storage.
impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Country(country) => write!(f, "country:{}", country.as_str()),
        }
    }
}

impl Purse {
    /// The purse that stands under the key.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        match key.split_once(':') {
            None if key == "all" => Some(Self::All),
            Some(("country", code)) => Country::parse(code).ok().map(Self::Country),
            _ => None,
        }
    }
}

/// What was spent in the window that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Out of which purse.
    pub purse: Purse,
    /// In which kind of window.
    pub window: Window,
    /// How much.
    pub amount: Money,
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
    /// Whether it is spent, or must only be there to be.
    pub unit: Unit,
    /// The most that there may be with it.
    pub ceiling: Money,
    /// How long until the next window begins.
    pub rest: Duration,
}

impl Spend {
    /// What is spent after this, if so much was before.
    ///
    /// # Errors
    /// How long until the next window begins, where it would be more than the ceiling.
    pub fn decide(&self, spent: Money) -> Result<Money, Duration> {
        let with_it = spent.plus(self.amount);
        if with_it > self.ceiling {
            return Err(self.rest);
        }
        Ok(match self.unit {
            Unit::Taken => with_it,
            Unit::Kept => spent,
        })
    }
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

    /// The most messages that can be paid for in a day, at the lowest of the prices; `None`: there is no end to them.
    #[must_use]
    pub fn most_messages(&self) -> Option<u64> {
        let prices = self.prices.countries.values().chain([&self.prices.otherwise]);
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
    fn a_purse_is_found_again_by_its_key() {
        for purse in [Purse::All, Purse::Country(country("GB"))] {
            assert_eq!(Purse::parse(&purse.to_string()), Some(purse));
        }
        for key in ["", "all:", "country", "country:", "country:XX", "provider:a"] {
            assert_eq!(Purse::parse(key), None, "{key}");
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
    fn a_country_has_its_price() {
        let prices =
            Prices { otherwise: money("0.2"), countries: HashMap::from([(country("GB"), money("0.04"))]) };
        let price = |number| prices.of(&PhoneNumber::parse(number).unwrap());
        assert_eq!([price("+447871234567"), price("+4915112345678")], [money("0.04"), money("0.2")]);
    }

    #[test]
    fn the_ceiling_itself_may_be_reached() {
        let spend = Spend {
            purse: Purse::All,
            window: Window::Hour,
            start: Window::Hour.start(NOW),
            amount: money("0.4"),
            unit: Unit::Taken,
            ceiling: money("1"),
            rest: Window::Hour.rest(NOW),
        };
        assert_eq!(spend.decide(money("0.6")), Ok(money("1")));
        assert_eq!(spend.decide(money("0.600001")), Err(spend.rest));
        let kept = Spend { unit: Unit::Kept, ..spend };
        assert_eq!(kept.decide(money("0.6")), Ok(money("0.6")));
        assert_eq!(kept.decide(money("0.600001")), Err(spend.rest));
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
    fn the_most_messages_are_those_at_the_lowest_price() {
        let most = |day: Option<&str>, otherwise: &str| {
            let prices = Prices {
                otherwise: money(otherwise),
                countries: HashMap::from([(country("US"), money("0.02"))]),
            };
            let all = Ceiling { hour: None, day: day.map(money) };
            Budget { prices, all, ..Budget::default() }.most_messages()
        };
        assert_eq!(most(Some("10"), "0.35"), Some(500));
        assert_eq!(most(Some("10"), "0.01"), Some(1000));
        assert_eq!(most(Some("10"), "0"), None, "what costs nothing has no end");
        assert_eq!(most(None, "0.35"), None);
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
