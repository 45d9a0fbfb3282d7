//! What came of a run: what is printed of it, and what must hold.

use std::time::Duration;

use anyhow::Context as _;
use vestibule_domain::limits::Scope;
use vestibule_domain::spending::Money;
use vestibule_domain::{NumberRange, PhoneNumber};

use super::COOL_DOWN;
use super::crowd::{ATTACKS, CUSTOMERS, Purpose, RANGE};
use super::told::Told;
use crate::client::Answer;
use crate::people::british_in;
use crate::report::Report;
use crate::rule::default_rule;

/// What a message costs.
const PRICE: Money = Money::from_micros(60_000);

/// The number of the refusal for rate, by the contract.
const RATE_LIMIT: u64 = 167;

/// What became of somebody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    /// When it was sent, in the order of all, and since the begin.
    pub(super) turn: usize,
    pub(super) at: Duration,
    pub(super) why: Purpose,
    pub(super) signed_up: Answer,
    /// Whether the code was sent again; `None` where that was not asked for.
    pub(super) resent: Option<Answer>,
    /// Whether the account was opened; `None` where no code was typed.
    pub(super) confirmed: Option<Answer>,
}

/// A whole run.
pub(super) struct Run {
    pub(super) fates: Vec<Fate>,
    /// What the provider was given.
    pub(super) messages: usize,
    pub(super) told: Told,
    pub(super) not_served: u32,
}

impl Run {
    fn of_attack(&self) -> impl Iterator<Item = &Fate> + Clone {
        self.fates.iter().filter(|fate| fate.why == Purpose::Attack)
    }

    fn of_customers(&self, range: bool) -> impl Iterator<Item = &Fate> + Clone {
        self.fates
            .iter()
            .filter(move |fate| matches!(fate.why, Purpose::Customer { in_range, .. } if in_range == range))
    }

    pub(super) fn print_attack(&self, report: &mut Report) -> anyhow::Result<()> {
        let attack = self.of_attack();
        let codes: u32 = attack.clone().map(Fate::codes).sum();
        let refused: u32 = attack.clone().map(Fate::refused).sum();
        report.say(format_args!(
            "attack: {ATTACKS} sign-ups, {codes} codes for {}; {refused} refused by the guard, {} by the number's cool-down",
            PRICE.times(codes),
            ATTACKS - codes - refused,
        ))?;
        let first = attack.clone().next().context("nobody attacked")?;
        let place = |fate: &Fate| {
            let requests = count(attack.clone().filter(|other| other.turn <= fate.turn));
            format!("request {requests}, {:.1} s", fate.at.saturating_sub(first.at).as_secs_f64())
        };
        let refused = attack.clone().find(|fate| fate.refused() > 0).context("nothing was refused")?;
        let last = attack.clone().filter(|fate| fate.codes() > 0).last().context("nothing was sent")?;
        let nth = |share| attack.clone().filter(|fate| fate.codes() > 0).nth(codes as usize * share / 100);
        let most = nth(90).unwrap_or(last);
        report.say(format_args!(
            "after the first of them it was slowed at {}; nine in ten of its codes were sent by {}, the last one at {}",
            place(refused),
            place(most),
            place(last),
        ))
    }

    pub(super) fn print_customers(&self, report: &mut Report, when: &str) -> anyhow::Result<()> {
        for (range, name) in [(false, "elsewhere"), (true, "in the range")] {
            let customers = self.of_customers(range);
            report.say(format_args!(
                "{when}, customers {name}: {} came, {} were refused; {} typed their code, {} got in",
                count(customers.clone()),
                count(customers.clone().filter(|fate| fate.refused() > 0)),
                count(customers.clone().filter(|fate| fate.confirmed.is_some())),
                count(customers.filter(|fate| fate.is_open())),
            ))?;
        }
        let refused =
            count(self.of_customers(false).chain(self.of_customers(true)).filter(|fate| fate.refused() > 0));
        report.say(format_args!(
            "{when}, false positives: {refused} of {CUSTOMERS}, {:.2} %",
            100.0 * f64::from(refused) / f64::from(CUSTOMERS)
        ))?;
        let Told { sent, confirmed, cost, blocked, spared } = self.told;
        report.say(format_args!(
            "{when}, vestibule guard report: sent {sent}, confirmed {confirmed}, cost {cost}, blocked {blocked}, spared {spared}; the provider has {}",
            self.messages
        ))?;
        if self.not_served > 0 {
            report.say(format_args!("{when}, too busy {} times, and asked again", self.not_served))?;
        }
        Ok(())
    }

    /// What must hold with and without an attack.
    pub(super) fn judge(&self, report: &mut Report, when: &str) {
        let codes: u32 = self.fates.iter().map(Fate::codes).sum();
        let returned: u32 = self.fates.iter().filter(|fate| fate.is_open()).map(Fate::codes).sum();
        let refused: u32 = self.fates.iter().map(Fate::refused).sum();
        let seen = Told {
            sent: codes.into(),
            confirmed: returned.into(),
            cost: PRICE.times(codes),
            blocked: refused.into(),
            spared: PRICE.times(refused),
        };
        report.promise(
            self.told == seen,
            format!("{when}: the report tells {:?}, and seen was {seen:?}", self.told),
        );
        report.promise(
            self.messages == codes as usize,
            format!("{when}: the provider was given {} messages for {codes} codes", self.messages),
        );
        let turned_away = count(self.of_customers(false).filter(|fate| fate.refused() > 0));
        report.promise(
            turned_away == 0,
            format!("{when}: {turned_away} customers of other ranges were refused"),
        );
        let typed = self.of_customers(false).filter(|fate| fate.confirmed.is_some());
        report.promise(
            typed.clone().all(Fate::is_open),
            format!("{when}: of {} who typed their code not all got in", typed.count()),
        );
    }

    /// What must hold without an attack.
    pub(super) fn judge_quiet(&self, report: &mut Report) {
        let refused = count(self.fates.iter().filter(|fate| fate.refused() > 0));
        report.promise(refused == 0, format!("nobody attacked, and {refused} were refused"));
    }

    /// What must hold with one.
    pub(super) fn judge_attack(&self, report: &mut Report) {
        let own = self.of_customers(true);
        let codes: u32 = self.of_attack().chain(own.clone()).map(Fate::codes).sum();
        let returned: u32 = own.filter(|fate| fate.is_open()).map(Fate::codes).sum();
        let rule = default_rule();
        let each_returned = 100 / u32::from(rule.norm.confirmed_percent);
        // One more, since the budget fills a little.
        let most = unconfirmed_in_range() + each_returned * returned + 1;
        report.promise(
            codes <= most,
            format!("{codes} codes went to the attacked range, although it had a budget of {most}"),
        );
    }

    /// What must hold where an attack comes from so few blocks that they leave a third of the reserve: it bears about as many codes as the customers of the
    /// range ask for, so that no more than one in five may find it used up.
    pub(super) fn judge_range(&self, report: &mut Report) {
        let own = self.of_customers(true);
        let (came, refused) = (count(own.clone()), count(own.filter(|fate| fate.refused() > 0)));
        report.promise(
            refused * 5 <= came,
            format!("of {came} customers in the attacked range {refused} were refused"),
        );
    }
}

/// Codes to a range that may be on their way or lost, if enough blocks ask.
fn unconfirmed_in_range() -> u32 {
    let any =
        PhoneNumber::restore(&british_in(RANGE, 0)).map(|number| Scope::Range(NumberRange::of(&number)));
    any.map_or(0, |range| default_rule().unconfirmed(range) + default_rule().reserve(range))
}

impl Fate {
    /// What was answered whenever a code was asked for.
    fn asked(&self) -> impl Iterator<Item = Answer> + use<> {
        [Some(self.signed_up), self.resent].into_iter().flatten()
    }

    /// Codes that were sent.
    pub(super) fn codes(&self) -> u32 {
        self.asked().map(|answer| u32::from(answer.is_done())).sum()
    }

    /// Codes that the guard held back. What the number's own cool-down refuses ends sooner than what the guard does.
    pub(super) fn refused(&self) -> u32 {
        let cool_down = COOL_DOWN.as_secs();
        let is_held = |answer: &Answer| {
            answer.is_refused_by(RATE_LIMIT) && answer.retry_after().is_some_and(|wait| wait > cool_down)
        };
        self.asked().map(|answer| u32::from(is_held(&answer))).sum()
    }

    pub(super) fn is_open(&self) -> bool {
        self.confirmed == Some(Answer::Done)
    }
}

fn count<'a>(fates: impl Iterator<Item = &'a Fate>) -> u32 {
    u32::try_from(fates.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUSTOMER: Purpose =
        Purpose::Customer { in_range: false, types_after: Some(Duration::ZERO), resends: false };
    const HELD: Answer = Answer::Refused { id: RATE_LIMIT, retry_after: Some(1700) };

    /// As many codes of an attack, a customer of the range who is turned away, and one elsewhere who gets in.
    fn attacked(codes: u32) -> Run {
        let fate = |why, signed_up, confirmed| Fate {
            turn: 0,
            at: Duration::ZERO,
            why,
            signed_up,
            resent: None,
            confirmed,
        };
        let own = Purpose::Customer { in_range: true, types_after: None, resends: false };
        let mut fates = vec![fate(CUSTOMER, Answer::Done, Some(Answer::Done)), fate(own, HELD, None)];
        fates.extend((0..codes).map(|_| fate(Purpose::Attack, Answer::Done, None)));
        let sent = u64::from(codes) + 1;
        let cost = PRICE.times(codes + 1);
        let told = Told { sent, confirmed: 1, cost, blocked: 1, spared: PRICE };
        Run { fates, messages: codes as usize + 1, told, not_served: 0 }
    }

    fn complaints(run: &Run) -> usize {
        let mut report = Report::new();
        run.judge(&mut report, "then");
        run.judge_attack(&mut report);
        report.broken().len()
    }

    #[test]
    fn an_attack_within_the_budget_is_not_complained_of_and_one_beyond_it_is() {
        assert_eq!([complaints(&attacked(110)), complaints(&attacked(112))], [0, 1]);
    }

    #[test]
    fn a_message_that_nobody_knows_of_and_a_report_that_says_otherwise_are_found() {
        assert_eq!(complaints(&Run { messages: 52, ..attacked(50) }), 1);
        let run = attacked(50);
        assert_eq!(complaints(&Run { told: Told { blocked: 0, ..run.told }, ..run }), 1);
    }

    #[test]
    fn a_customer_elsewhere_who_is_turned_away_is_found() {
        let mut run = attacked(50);
        run.fates[0].resent = Some(HELD);
        run.told = Told { blocked: 2, spared: PRICE.times(2), ..run.told };
        assert_eq!(complaints(&run), 1);
    }

    #[test]
    fn a_cool_down_is_not_the_guard() {
        let mut fate = attacked(0).fates[1];
        assert_eq!(fate.refused(), 1);
        fate.signed_up = Answer::Refused { id: RATE_LIMIT, retry_after: Some(10) };
        assert_eq!(fate.refused(), 0);
    }
}
