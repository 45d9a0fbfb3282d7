//! How likely it is that somebody who cannot read messages gets a code right.
//!
//! Codes are independent and evenly spread, so that each comparison is right once in ten to the number of digits. What bounds the
//! comparisons are the limits: here they are added up for a day that finds every budget full, which is the worst there is.
//!
//! Not here: what a right guess is worth, and who else stands in the way (the owner, who is told; the operator, who is warned).

use std::fmt;
use std::time::Duration;

use crate::limits::Quotas;
use crate::registration::{MAX_LIVE_ATTEMPTS, Rules};

const DAY: Duration = Duration::from_hours(24);

/// What bounds the guesses at codes.
#[derive(Debug, Clone, Copy)]
pub struct GuessBounds<'a> {
    /// Digits of a code.
    pub code_digits: u8,
    /// Values that are accepted for each code: two while a key is rotated that codes are derived from. At least 1.
    pub values_per_code: u32,
    /// The limits of one number.
    pub rules: &'a Rules,
    /// The limits of everyone.
    pub quotas: &'a Quotas,
    /// Messages with codes that there is money for in a day, if that is limited.
    pub paid_messages: Option<u64>,
}

/// So many comparisons, each right once in `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Odds {
    /// Comparisons.
    pub guesses: u64,
    /// Values that a code can have.
    pub of: u64,
}

impl GuessBounds<'_> {
    /// That the code of one number is found within a day, by who has so many blocks of addresses.
    ///
    /// The number's budget bears every guess, whoever makes it. Beyond it only the first guess at a code is compared, of an
    /// origin that has one of the places: at most [`Rules::max_messages`] codes for each block.
    #[must_use]
    pub fn one_number(&self, blocks: u32) -> Odds {
        let places = u64::from(blocks.min(self.rules.places));
        let first = places * u64::from(self.rules.max_messages);
        self.odds(self.rules.guesses.most_within(DAY).saturating_add(first))
    }

    /// That at least one of all codes is found within a day, by any number of addresses over any number of numbers: the guesses that
    /// everyone's budget bears, and the first guess at each code, which it does not.
    #[must_use]
    pub fn all_numbers(&self) -> Odds {
        self.odds(self.budgeted().saturating_add(self.codes()))
    }

    /// The same without the first guess at each code: what everyone's budget of wrong codes alone allows.
    #[must_use]
    pub fn all_numbers_after_the_first(&self) -> Odds {
        self.odds(self.budgeted())
    }

    /// Codes that can be made in a day: each costs a sign-up, a resend or a request for a reset, and a message.
    #[must_use]
    pub fn codes(&self) -> u64 {
        let Quotas { sign_up, resend, reset, .. } = self.quotas;
        let steps = [sign_up, resend, reset].map(|step| step.everyone.most_within(DAY));
        let asked = steps.into_iter().fold(0, u64::saturating_add);
        asked.min(self.paid_messages.unwrap_or(u64::MAX))
    }

    /// A guess that names no registration is compared with all living codes of its client, and charged once.
    fn budgeted(&self) -> u64 {
        let codes = u64::try_from(MAX_LIVE_ATTEMPTS).unwrap_or(u64::MAX);
        self.quotas.code_guess.everyone.most_within(DAY).saturating_mul(codes)
    }

    fn odds(&self, guesses: u64) -> Odds {
        let values = 10_u64.saturating_pow(self.code_digits.into());
        Odds { guesses, of: values / u64::from(self.values_per_code.max(1)) }
    }
}

impl Odds {
    /// The probability that one or more of the guesses are right.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "of odds the first digits matter")]
    pub fn probability(&self) -> f64 {
        // `1 - (1 - 1/of)^guesses`, without losing what is small.
        -((self.guesses as f64) * (-1.0 / self.of as f64).ln_1p()).exp_m1()
    }
}

/// In plain words: `1 in 33,334`.
impl fmt::Display for Odds {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is 1 at least, and a cast saturates"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_in = 1.0 / self.probability();
        if !one_in.is_finite() {
            return f.write_str("none");
        }
        if one_in < 10.0 {
            return write!(f, "1 in {one_in:.1}");
        }
        write!(f, "1 in {}", grouped(one_in.round() as u64))
    }
}

/// The number with commas between the thousands.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::StepQuotas;
    use crate::quota::Quota;

    const RULES: Rules = Rules {
        code_ttl: Duration::from_mins(10),
        code_guesses: 5,
        resend_cooldown: Duration::from_mins(1),
        max_messages: 5,
        sign_ups: Quota { burst: 10, period: DAY },
        guesses: Quota { burst: 30, period: DAY },
        places: 20,
    };

    fn quotas(wrong_codes: u32, messages: u32) -> Quotas {
        let step = |everyone| {
            let everyone = Quota { burst: everyone, period: Duration::from_hours(1) };
            StepQuotas { device: everyone, address: everyone, block: everyone, everyone }
        };
        let sent = step(messages);
        Quotas {
            sign_up: sent,
            resend: sent,
            code_guess: step(wrong_codes),
            password_guess: sent,
            reset: sent,
            mail: sent,
            keyed_request: sent,
        }
    }

    fn bounds(quotas: &Quotas) -> GuessBounds<'_> {
        GuessBounds { code_digits: 6, values_per_code: 1, rules: &RULES, quotas, paid_messages: None }
    }

    #[test]
    fn one_numbers_guesses_are_its_budget_and_the_first_at_each_code_of_a_place() {
        let quotas = quotas(1000, 20_000);
        let guesses = |blocks| bounds(&quotas).one_number(blocks).guesses;
        // The budget, and what grows back of it within the day.
        assert_eq!([guesses(0), guesses(1), guesses(20), guesses(1000)], [60, 65, 160, 160]);
        assert_eq!(bounds(&quotas).one_number(20).to_string(), "1 in 6,250");
    }

    #[test]
    fn a_botnets_guesses_are_everyones_budget_and_the_first_at_each_code() {
        let quotas = quotas(1000, 20_000);
        let bounds = bounds(&quotas);
        assert_eq!(bounds.all_numbers_after_the_first().guesses, 3 * 25_000);
        assert_eq!(bounds.all_numbers_after_the_first().to_string(), "1 in 14");
        assert_eq!(bounds.codes(), 3 * 25 * 20_000);
        assert_eq!(bounds.all_numbers().guesses, 75_000 + 1_500_000);
        assert_eq!(bounds.all_numbers().to_string(), "1 in 1.3");
        let paid = GuessBounds { paid_messages: Some(10_000), ..bounds };
        assert_eq!(paid.all_numbers().guesses, 85_000, "no code without a message that is paid for");
        let rotating = GuessBounds { values_per_code: 2, ..paid };
        assert_eq!(rotating.all_numbers().of, 500_000);
        let longer = GuessBounds { code_digits: 8, ..paid };
        assert_eq!(longer.all_numbers().to_string(), "1 in 1,177");
    }

    #[test]
    fn so_many_guesses_are_made_and_no_more() {
        // The sum is right: a budget that is charged whenever it bears it, all day long, bears as many.
        let now = time::UtcDateTime::UNIX_EPOCH;
        let (mut full_at, mut taken) = (None, 0);
        for minute in 0..24 * 60_u64 {
            let at = now + Duration::from_mins(minute);
            while let Ok(next) = RULES.guesses.charge(full_at, at) {
                full_at = Some(next);
                taken += 1;
            }
        }
        assert!([taken, taken + 1].contains(&RULES.guesses.most_within(DAY)), "{taken}");
    }

    #[test]
    fn odds_are_read_by_people() {
        let odds = |guesses, of| Odds { guesses, of }.to_string();
        assert_eq!(odds(0, 1_000_000), "none");
        assert_eq!(odds(1, 1_000_000), "1 in 1,000,000");
        assert_eq!(odds(30, 1_000_000), "1 in 33,334");
        assert_eq!(odds(1, 10_000_000_000), "1 in 10,000,000,000");
        assert_eq!(odds(1_000_000, 10), "1 in 1.0");
    }
}
