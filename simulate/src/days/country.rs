//! Two weeks of a country's sign-ups. The people are assumed, not measured: what is assumed stands in the constants and in [`Country`].

use std::f64::consts::TAU;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::Context as _;
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::limits::{AddressBlock, Unit};
use vestibule_domain::pumping::{SentCode, TracedCode, Traffic};
use vestibule_domain::spending::Money;
use vestibule_domain::{AttemptId, ClientAddress, Country as CountryCode, MessageId, NumberRange};

use crate::random::Random;

/// How long it is watched.
pub(super) const DAYS: u32 = 14;

/// Sign-ups in that time, the advertisements' not included.
pub(super) const SIGN_UPS: u32 = 100_000;

pub(super) const DAY: Duration = Duration::from_hours(24);

/// At eight in the evening nine times as many sign up as at eight in the morning: so much more and less than the mean.
const BUSIEST_AT: Duration = Duration::from_hours(20);
const SWING: f64 = 0.8;

/// Half of those who type the code do so within this, and `SIGMA` says how far the others are spread: one in a hundred takes over
/// three and a half minutes.
const TYPED_WITHIN: Duration = Duration::from_secs(20);
const SIGMA: f64 = 1.0;

/// A code's life.
const LIFE: Duration = Duration::from_mins(10);

/// One in so many has the code sent again, after the cool-down.
const RESENT: f64 = 0.1;
const COOL_DOWN: Duration = Duration::from_mins(1);

/// Half of the people are on the way, behind the few blocks of addresses that their carriers have, and half of them at home.
const ON_THE_WAY: f64 = 0.5;
const CARRIER_BLOCKS: u32 = 64;
const HOME_BLOCKS: u32 = 30_000;

/// A country's sign-ups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Country {
    pub(super) name: &'static str,
    /// The share of people who type the code.
    pub(super) typing: f64,
    /// Ranges of ten thousand numbers that the people have.
    pub(super) ranges: u32,
    /// Sign-ups in a second while an advertisement is on, for five minutes, on each of `ADVERTISED`.
    pub(super) advertised: u32,
    /// Whether the guard must leave it alone.
    pub(super) is_ordinary: bool,
}

/// The days with an advertisement in the evening, from the first one on.
const ADVERTISED: [u32; 3] = [3, 6, 10];
const ADVERTISED_AT: Duration = Duration::from_mins(20 * 60 + 15);
const ADVERTISED_FOR: Duration = Duration::from_mins(5);

impl Country {
    /// All that are asked for, in the order of time.
    pub(super) fn codes(&self, random: &mut Random) -> anyhow::Result<Vec<TracedCode>> {
        let country = code()?;
        let mut codes = Vec::new();
        for at in self.arrivals(random) {
            let traffic = self.traffic(country, random)?;
            let typed = random.chance(self.typing).then(|| random.log_normal(TYPED_WITHIN, SIGMA));
            let resent = random.chance(RESENT);
            let typed = typed.map(|after| if resent { COOL_DOWN + after } else { after });
            let confirmed_at = typed.filter(|after| *after < LIFE).map(|after| moment(at + after));
            let sent = |at| TracedCode { sent: sent(traffic, Money::ZERO, at), confirmed_at, provider: None };
            codes.extend([Some(at), resent.then_some(at + COOL_DOWN)].into_iter().flatten().map(sent));
        }
        codes.sort_by_key(|code| code.sent.at);
        Ok(codes)
    }

    /// When people come, since the first midnight.
    fn arrivals(&self, random: &mut Random) -> Vec<Duration> {
        let mut arrivals = Vec::new();
        // As many as at the busiest time come all the time, and those who are too many are left out.
        let between = (DAY * DAYS / SIGN_UPS).div_f64(1.0 + SWING);
        let mut at = random.exponential(between);
        while at < DAY * DAYS {
            if random.chance(busyness(at)) {
                arrivals.push(at);
            }
            at += random.exponential(between);
        }
        for day in ADVERTISED {
            let begin = DAY * (day - 1) + ADVERTISED_AT;
            let mut at = begin;
            while at < begin + ADVERTISED_FOR {
                arrivals.push(at);
                at += random.exponential(Duration::from_secs(1) / self.advertised);
            }
        }
        arrivals
    }

    fn traffic(&self, country: CountryCode, random: &mut Random) -> anyhow::Result<Traffic> {
        let range = range(few_of(self.ranges, random))?;
        Ok(Traffic { range, block: block(random), country: Some(country) })
    }
}

/// Which country it is does not matter.
pub(super) fn code() -> anyhow::Result<CountryCode> {
    Ok(CountryCode::parse("GB")?)
}

/// One of the ranges; another one for each of ten thousand.
pub(super) fn range(number: u32) -> anyhow::Result<NumberRange> {
    NumberRange::parse(&format!("4471{number:04}")).context("a range has eight digits")
}

/// How busy it is, against the busiest time.
fn busyness(at: Duration) -> f64 {
    let day = (at.as_secs_f64() - BUSIEST_AT.as_secs_f64()) / DAY.as_secs_f64();
    (1.0 + SWING * (TAU * day).cos()) / (1.0 + SWING)
}

/// One of so many things of which few have most of the people: the first of 300 one in fifty, the last hardly any.
fn few_of(things: u32, random: &mut Random) -> u32 {
    let bound = random.below(things);
    random.below(bound + 1)
}

/// Whence somebody comes.
fn block(random: &mut Random) -> AddressBlock {
    if random.chance(ON_THE_WAY) { block_in(100, few_of(CARRIER_BLOCKS, random)) } else { home(random) }
}

/// Somebody's home.
pub(super) fn home(random: &mut Random) -> AddressBlock {
    block_in(10, random.below(HOME_BLOCKS))
}

fn block_in(network: u8, block: u32) -> AddressBlock {
    let [_, _, high, low] = block.to_be_bytes();
    AddressBlock::of(ClientAddress::of(IpAddr::V4(Ipv4Addr::new(network, high, low, 1))))
}

pub(super) fn sent(traffic: Traffic, price: Money, at: Duration) -> SentCode {
    let (message, attempt) = (MessageId::new(Uuid::nil()), AttemptId::new(Uuid::nil()));
    SentCode { message, attempt, traffic, price: Some(price), range_unit: Unit::Taken, at: moment(at) }
}

pub(super) fn moment(since: Duration) -> UtcDateTime {
    UtcDateTime::UNIX_EPOCH + since
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Country = Country { name: "", typing: 0.75, ranges: 300, advertised: 20, is_ordinary: true };

    #[test]
    fn as_many_come_as_are_wanted_and_in_the_order_of_time() {
        let codes = QUIET.codes(&mut Random::new(1)).unwrap();
        // 100,000, three times 20 a second for five minutes, and one in ten of them twice.
        assert!((128_000..132_000).contains(&codes.len()), "{}", codes.len());
        assert!(codes.is_sorted_by_key(|code| code.sent.at));
        let typed = codes.iter().filter(|code| code.confirmed_at.is_some()).count();
        assert!((73..76).contains(&(100 * typed / codes.len())), "{typed}");
    }

    #[test]
    fn evenings_are_nine_times_as_busy_as_mornings() {
        let at = |hour| busyness(DAY * 3 + Duration::from_hours(hour));
        assert!((at(20) - 1.0).abs() < 1e-9 && (at(20) / at(8) - 9.0).abs() < 1e-9);
    }
}
