//! What messages may cost.
//!
//! A ceiling is a promise: in its hour or its day of the calendar (UTC), as bills are counted, no more is spent than it says. So the
//! price of a message is added to what was spent in the commit that queues it, and storage never lets the sum grow over the ceiling. It is
//! given back only where nobody can have been billed, and corrected where the provider has told another price: the sum may say too much,
//! and too little only where a message is sent again because a provider's answer was lost.
//!
//! A part of each ceiling is kept for people who have an account: an attacker who makes strangers' phones ring uses up what is
//! there for newcomers, and customers still get in.
//!
//! Who will carry a message is not known when it is queued. So the dearest price of those who may is reserved in the purses of the country and of
//! all; a provider's own purse is charged just before the message is handed to it, with its own price.
//!
//! Not here: who carries a message, and the bill. What a provider is known to have charged comes from its answer.

mod budget;
mod money;

use std::fmt;
use std::time::Duration;

use time::{Time, UtcDateTime};

use crate::Country;

pub use budget::{Audience, Budget, Ceiling, Prices, ProviderBudget};
pub use money::{Money, MoneyError};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Purse {
    /// All messages.
    All,
    /// Messages to the numbers of a country.
    Country(Country),
    /// Messages that were handed to the provider of that name.
    Provider(String),
}

/// The key that a purse stands under in storage.
impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Country(country) => write!(f, "country:{}", country.as_str()),
            Self::Provider(name) => write!(f, "provider:{name}"),
        }
    }
}

impl Purse {
    /// The name of its kind, in storage and for the operator.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Country(_) => "country",
            Self::Provider(_) => "provider",
        }
    }

    /// The purse that stands under the key.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        match key.split_once(':') {
            None if key == "all" => Some(Self::All),
            Some(("country", code)) => Country::parse(code).ok().map(Self::Country),
            Some(("provider", name)) if !name.is_empty() => Some(Self::Provider(name.to_owned())),
            _ => None,
        }
    }
}

/// What was spent in the window that is going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// Out of which purse.
    pub purse: Purse,
    /// In which kind of window.
    pub window: Window,
    /// How much.
    pub amount: Money,
}

/// What becomes of a sum whose message is never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// It is given back.
    Returned,
    /// It stays spent until its window ends: the message was never to be sent, and must look like one that was.
    Kept,
    /// It was never taken: the message was never to be sent, and must only find as much room.
    NotTaken,
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
    /// What becomes of it if its message is never sent.
    pub unsent: Unsent,
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
        Ok(spent.plus(self.taken()))
    }

    /// How much of it is spent.
    #[must_use]
    pub const fn taken(&self) -> Money {
        match self.unsent {
            Unsent::Returned | Unsent::Kept => self.amount,
            Unsent::NotTaken => Money::ZERO,
        }
    }

    /// What corrects it, once it is known what was to be paid.
    #[must_use]
    pub fn correction(&self, paid: Money) -> Correction {
        let (purse, window, start) = (self.purse.clone(), self.window, self.start);
        Correction { purse, window, start, counted: self.amount, paid }
    }
}

/// A sum that was added to what was spent and turned out to be another. What was paid counts, whatever the ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Whose.
    pub purse: Purse,
    /// In which kind of window.
    pub window: Window,
    /// The window that it was added in.
    pub start: UtcDateTime,
    /// How much was added.
    pub counted: Money,
    /// How much it should have been; nothing where nobody was paid.
    pub paid: Money,
}

impl Correction {
    /// What is spent after this, if so much was before.
    #[must_use]
    pub const fn apply(&self, spent: Money) -> Money {
        spent.less(self.counted).plus(self.paid)
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
    fn a_purse_is_found_again_by_its_key() {
        for purse in [Purse::All, Purse::Country(country("GB")), Purse::Provider("a:b".to_owned())] {
            assert_eq!(Purse::parse(&purse.to_string()), Some(purse));
        }
        for key in ["", "all:", "country", "country:", "country:XX", "provider", "provider:", "partner:a"] {
            assert_eq!(Purse::parse(key), None, "{key}");
        }
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
    fn the_ceiling_itself_may_be_reached() {
        let spend = Spend {
            purse: Purse::All,
            window: Window::Hour,
            start: Window::Hour.start(NOW),
            amount: money("0.4"),
            unsent: Unsent::Returned,
            ceiling: money("1"),
            rest: Window::Hour.rest(NOW),
        };
        assert_eq!(spend.decide(money("0.6")), Ok(money("1")));
        assert_eq!(spend.decide(money("0.600001")), Err(spend.rest));
        let not_taken = Spend { unsent: Unsent::NotTaken, ..spend };
        assert_eq!(not_taken.decide(money("0.6")), Ok(money("0.6")));
        assert_eq!(not_taken.decide(money("0.600001")), Err(not_taken.rest));
    }

    #[test]
    fn what_was_paid_takes_the_place_of_what_was_counted() {
        let spend = Spend {
            purse: Purse::All,
            window: Window::Day,
            start: Window::Day.start(NOW),
            amount: money("0.4"),
            unsent: Unsent::Returned,
            ceiling: money("1"),
            rest: Window::Day.rest(NOW),
        };
        let spent = |paid: &str| spend.correction(money(paid)).apply(money("0.9"));
        assert_eq!([spent("0.1"), spent("0"), spent("1")], ["0.6", "0.5", "1.5"].map(money));
    }
}
