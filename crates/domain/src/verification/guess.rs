use std::time::Duration;

use time::UtcDateTime;

use super::attempt::{Attempt, Ledger, MessageRefusal};
use crate::registration::{ConfirmRefusal, Rules};
use crate::{AttemptId, Claim, OneTimeCode, OneTimeCodes};

/// What comparing a code led to. Neither guess counts until the ledger is saved.
pub(crate) enum Guess<P> {
    /// It was not compared.
    Refused(ConfirmRefusal),
    /// It fits no attempt that it reaches.
    Wrong(Ledger<P>, ConfirmRefusal),
    /// It fits.
    Right(Ledger<P>, Attempt<P>),
}

/// Codes of attempts that were never told any: computed, so that the time is the same, and matching nothing.
pub(crate) struct NoCodes<'a>(pub(crate) &'a dyn OneTimeCodes);

impl OneTimeCodes for NoCodes<'_> {
    fn code(&self, attempt: AttemptId, generation: crate::Generation) -> OneTimeCode {
        self.0.code(attempt, generation)
    }

    fn matches(&self, attempt: AttemptId, generation: crate::Generation, candidate: &OneTimeCode) -> bool {
        std::hint::black_box(self.0.matches(attempt, generation, candidate));
        false
    }
}

/// Compares a code with those of the attempts that the claim reaches. Each attempt that is compared bears the guess.
///
/// The claim reaches the attempt that its `registrationId` names; without one, the attempts of its own origin if it
/// made any; else all living attempts, provided that they come from one origin.
pub(crate) fn guess<P: Clone>(
    mut ledger: Ledger<P>,
    code: Option<&OneTimeCode>,
    claim: &Claim,
    codes: &dyn OneTimeCodes,
    rules: &Rules,
    now: UtcDateTime,
) -> Guess<P> {
    let reached = match reach(&ledger, claim, now) {
        Ok(reached) => reached,
        Err(Unreached::Nothing) => return Guess::Refused(ConfirmRefusal::NotFound),
        Err(Unreached::Expired) => return Guess::Refused(ConfirmRefusal::Expired),
        Err(Unreached::Foreign) => {
            let attempts_left = left(ledger.live(now), &ledger, rules, now);
            return Guess::Refused(ConfirmRefusal::WrongCode { attempts_left });
        }
    };
    let mut matched = None;
    let mut compared = Vec::with_capacity(reached.len());
    for attempt in ledger.attempts.iter_mut().filter(|attempt| reached.contains(&attempt.id)) {
        let Some(full_at) = (attempt.guesses_left(rules) > 0)
            .then(|| rules.guesses.charge(ledger.guesses_full_at, now).ok())
            .flatten()
        else {
            continue;
        };
        ledger.guesses_full_at = Some(full_at);
        attempt.guesses = attempt.guesses.saturating_add(1);
        compared.push(attempt.id);
        let fits = code.is_some_and(|code| codes.matches(attempt.id, attempt.generation, code));
        if fits {
            matched = Some(attempt.clone());
        }
    }
    if let Some(attempt) = matched {
        return Guess::Right(ledger, attempt);
    }
    if compared.is_empty() {
        let retry_after = exhausted_for(&ledger, &reached, rules, now);
        return Guess::Refused(ConfirmRefusal::Exhausted { retry_after });
    }
    let of_compared = ledger.attempts.iter().filter(|attempt| compared.contains(&attempt.id));
    let attempts_left = left(of_compared, &ledger, rules, now);
    Guess::Wrong(ledger, ConfirmRefusal::WrongCode { attempts_left })
}

/// Whether no code that the claim reaches was guessed at yet; so too where it reaches none, since nothing is compared then.
pub(crate) fn is_first_guess<P>(ledger: &Ledger<P>, claim: &Claim, now: UtcDateTime) -> bool {
    let reached = reach(ledger, claim, now).unwrap_or_default();
    ledger.attempts.iter().all(|attempt| attempt.guesses == 0 || !reached.contains(&attempt.id))
}

enum Unreached {
    /// There is no attempt to reach.
    Nothing,
    /// The attempts it could reach have no living code.
    Expired,
    /// The attempts are others'.
    Foreign,
}

/// The living attempts whose codes the claim may be compared with.
fn reach<P>(ledger: &Ledger<P>, claim: &Claim, now: UtcDateTime) -> Result<Vec<AttemptId>, Unreached> {
    if ledger.open(now).next().is_none() {
        return Err(Unreached::Nothing);
    }
    let own = || ledger.open(now).filter(|attempt| attempt.is_claimed_by(claim));
    // Whoever signed up from here is held to what was signed up from here, even when only a stranger's code still
    // lives: else a stranger who signs up last could have his code confirmed.
    if own().next().is_some() {
        return living(own(), now);
    }
    if claim.attempt.is_some() {
        return Err(Unreached::Foreign);
    }
    let one_origin =
        ledger.live(now).all(|one| ledger.live(now).all(|other| one.origin.is_same(&other.origin)));
    if one_origin { living(ledger.live(now), now) } else { Err(Unreached::Foreign) }
}

fn living<'a, P: 'a>(
    attempts: impl Iterator<Item = &'a Attempt<P>>,
    now: UtcDateTime,
) -> Result<Vec<AttemptId>, Unreached> {
    let living: Vec<_> = attempts.filter(|attempt| attempt.is_live(now)).map(|attempt| attempt.id).collect();
    if living.is_empty() { Err(Unreached::Expired) } else { Ok(living) }
}

/// Guesses left on the best of the attempts, as far as the phone's budget allows.
fn left<'a, P: 'a>(
    attempts: impl Iterator<Item = &'a Attempt<P>>,
    ledger: &Ledger<P>,
    rules: &Rules,
    now: UtcDateTime,
) -> u32 {
    let on_codes = attempts.map(|attempt| attempt.guesses_left(rules)).max().unwrap_or(0);
    on_codes.min(rules.guesses.left(ledger.guesses_full_at, now))
}

/// How long until a resend can make a new code that may be guessed at.
fn exhausted_for<P>(ledger: &Ledger<P>, reached: &[AttemptId], rules: &Rules, now: UtcDateTime) -> Duration {
    let messages = ledger
        .attempts
        .iter()
        .filter(|attempt| reached.contains(&attempt.id))
        .filter_map(|attempt| ledger.admit_message(&attempt.origin, rules, now).err())
        .map(|refusal| match refusal {
            MessageRefusal::CoolDown(wait) | MessageRefusal::TooMany(wait) => wait,
        })
        .max()
        .unwrap_or(Duration::ZERO);
    let budget = rules.guesses.charge(ledger.guesses_full_at, now).err().unwrap_or(Duration::ZERO);
    messages.max(budget)
}
