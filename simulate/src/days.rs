//! Whom the guard against pumping turns away by its default rule, when nothing is wrong and when something is: two weeks of a country's
//! sign-ups on a clock of their own, judged by the guard as the service asks it.
//!
//! Not here: the service. That the same rule holds over real instances is what `pumping` plays.

mod country;

use std::time::Duration;

use vestibule_domain::pumping::{PumpingGuard, Replay, Replayed, TracedCode, Traffic};
use vestibule_domain::spending::Money;

use crate::random::Random;
use crate::report::Report;
use crate::rule::default_rule;
use country::{Country, DAY, DAYS, SIGN_UPS, code, home, moment, range, sent};

/// What may be turned away in the ordinary countries, in hundredths of those who would have typed the code.
const BEARABLE_PERCENT: f64 = 0.1;

/// The second one is attacked, too.
const COUNTRIES: [Country; 8] = [
    Country {
        name: "half of the codes are typed",
        typing: 0.5,
        ranges: 5000,
        advertised: 20,
        is_ordinary: true,
    },
    Country { name: "three in four", typing: 0.75, ranges: 5000, advertised: 20, is_ordinary: true },
    Country { name: "nine in ten", typing: 0.9, ranges: 5000, advertised: 20, is_ordinary: true },
    Country { name: "half, a small country", typing: 0.5, ranges: 300, advertised: 20, is_ordinary: true },
    Country { name: "three in four, small", typing: 0.75, ranges: 300, advertised: 20, is_ordinary: true },
    Country {
        name: "three in four, 60 a second",
        typing: 0.75,
        ranges: 5000,
        advertised: 60,
        is_ordinary: false,
    },
    Country { name: "three in ten", typing: 0.3, ranges: 5000, advertised: 20, is_ordinary: false },
    Country {
        name: "one in five: below the norm",
        typing: 0.2,
        ranges: 5000,
        advertised: 20,
        is_ordinary: false,
    },
];

/// An attack that lasts the second week: none of its codes is ever typed, each is asked for from another home.
#[derive(Debug, Clone, Copy)]
struct Attack {
    name: &'static str,
    /// The first of the ranges that it goes to, and how many they are. Customers have those below 5000.
    ranges: (u32, u32),
    /// From one code to the next, on average.
    between: Duration,
}

const ATTACKS: [Attack; 3] = [
    Attack { name: "one range, each second", ranges: (9000, 1), between: Duration::from_secs(1) },
    Attack { name: "all over, each second", ranges: (0, 5000), between: Duration::from_secs(1) },
    Attack { name: "all over, each 10 seconds", ranges: (0, 5000), between: Duration::from_secs(10) },
];

const ATTACKED: [Duration; 2] = [DAY.saturating_mul(7), DAY.saturating_mul(14)];

/// What each code of an attack costs. Those of customers are counted as if they cost nothing, so that what was spent is the attack's.
const PRICE: Money = Money::from_micros(60_000);

/// Plays all countries, and then the attacks.
pub(crate) fn play(report: &mut Report) -> anyhow::Result<()> {
    report.say(format_args!(
        "\n{DAYS} days of a country with {SIGN_UPS} sign-ups, on a clock of their own, by the default rule. Three evenings bring an advertisement: \
         20 sign-ups a second for five minutes. Nobody attacks.\n{:30}{:>10}{:>10}{:>10}{:>14}",
        "", "codes", "typed", "refused", "turned away"
    ))?;
    for (seed, country) in (0..).zip(COUNTRIES) {
        let outcome = quiet(&default_rule(), &country, seed)?;
        let Replayed { sent, held_back, turned_away, .. } = outcome;
        let (typed, percent) = (typed(&outcome), turned_away_percent(&outcome));
        report.say(format_args!(
            "{:30}{:>10}{typed:>10}{held_back:>10}{turned_away:>14}  {percent:.3} %",
            country.name,
            sent + held_back,
        ))?;
        report.promise(
            !country.is_ordinary || percent <= BEARABLE_PERCENT,
            format!("{}: {percent:.3} % of the customers were turned away on quiet days", country.name),
        );
    }

    let [_, country, ..] = COUNTRIES;
    report.say(format_args!(
        "\nThe second week of the second of them ({}), if somebody attacks it and types no code\n{:30}{:>10}{:>14}{:>20}{:>12}",
        country.name, "", "typed", "turned away", "sent for the attack", "which cost"
    ))?;
    for (seed, attack) in (100..).zip(ATTACKS) {
        let outcome = attacked(&default_rule(), &country, &attack, seed)?;
        let (turned_away, percent) = (outcome.turned_away, turned_away_percent(&outcome));
        report.say(format_args!(
            "{:30}{:>10}{turned_away:>14}{:>20}{:>12}  {percent:.3} %",
            attack.name,
            typed(&outcome),
            outcome.cost.micros() / PRICE.micros(),
            outcome.cost.to_string(),
        ))?;
    }
    Ok(())
}

/// What the rule does with the country's codes.
fn quiet(rule: &PumpingGuard, country: &Country, seed: u64) -> anyhow::Result<Replayed> {
    let mut replay = Replay::new(rule);
    for code in country.codes(&mut Random::new(seed))? {
        replay.sent(&code);
    }
    Ok(replay.outcome())
}

/// What it does while the attack lasts, after it has seen the quiet days before.
fn attacked(rule: &PumpingGuard, country: &Country, attack: &Attack, seed: u64) -> anyhow::Result<Replayed> {
    let mut random = Random::new(seed);
    let mut codes = country.codes(&mut random)?;
    codes.extend(attack.codes(&mut random)?);
    codes.sort_by_key(|code| code.sent.at);
    let [begin, _] = ATTACKED.map(moment);
    let (before, during) = codes.split_at(codes.partition_point(|code| code.sent.at < begin));
    let mut replay = Replay::new(rule);
    let mut outcome_of = |codes: &[TracedCode]| {
        for code in codes {
            replay.sent(code);
        }
        replay.outcome()
    };
    let (before, after) = (outcome_of(before), outcome_of(during));
    Ok(Replayed {
        sent: after.sent - before.sent,
        confirmed: after.confirmed - before.confirmed,
        cost: after.cost.less(before.cost),
        held_back: after.held_back - before.held_back,
        turned_away: after.turned_away - before.turned_away,
        spared: after.spared.less(before.spared),
        let_through: after.let_through - before.let_through,
    })
}

impl Attack {
    fn codes(&self, random: &mut Random) -> anyhow::Result<Vec<TracedCode>> {
        let [begin, end] = ATTACKED;
        let ((first, ranges), country) = (self.ranges, Some(code()?));
        let (mut codes, mut at) = (Vec::new(), begin);
        while at < end {
            let traffic =
                Traffic { range: range(first + random.below(ranges))?, block: home(random), country };
            codes.push(TracedCode { sent: sent(traffic, PRICE, at), confirmed_at: None, provider: None });
            at += random.exponential(self.between);
        }
        Ok(codes)
    }
}

/// Codes of customers, who would have typed them.
fn typed(outcome: &Replayed) -> u64 {
    outcome.confirmed + outcome.turned_away
}

/// How many of them were turned away, in hundredths.
fn turned_away_percent(outcome: &Replayed) -> f64 {
    let number = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    100.0 * number(outcome.turned_away) / number(typed(outcome).max(1))
}

#[cfg(test)]
mod tests {
    use vestibule_domain::pumping::Mode;

    use super::*;

    #[test]
    fn a_rule_that_is_too_strict_is_found() {
        let strict = PumpingGuard { unconfirmed_per_range: 1, ..default_rule() };
        let outcome = quiet(&strict, &COUNTRIES[4], 1).unwrap();
        assert!(turned_away_percent(&outcome) > BEARABLE_PERCENT, "{outcome:?}");
    }

    #[test]
    fn only_codes_of_the_attack_cost_something() {
        let off = PumpingGuard { mode: Mode::Off, ..default_rule() };
        assert_eq!(quiet(&off, &COUNTRIES[1], 1).unwrap().cost, Money::ZERO);
    }
}
