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

/// Compares a code with those of the attempts that the claim reaches. Each attempt that is compared bears the guess, and so does the
/// phone's budget.
///
/// The claim reaches the attempt that its `registrationId` names; without one, the attempts of its own origin if it
/// made any; else, if it names no device, those of one device at its address; else all living attempts, provided that they come from one origin.
///
/// Who can't show that an attempt is his own may be its client on another network, or a stranger who guesses. His guess is the
/// phone's alone: else five of a stranger's would kill the owner's code. And where strangers have emptied that budget, the first
/// guess at each code of an origin with a place is compared all the same.
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
    let Reached { attempts: reached, by } = reached;
    let mut matched = None;
    let mut compared = Vec::with_capacity(reached.len());
    let may_be_first = |attempt: &Attempt<P>| {
        by != By::Anybody && attempt.guesses == 0 && ledger.has_place(&attempt.origin, rules, now)
    };
    let free: Vec<_> =
        ledger.live(now).filter(|attempt| may_be_first(attempt)).map(|attempt| attempt.id).collect();
    for attempt in ledger.attempts.iter_mut().filter(|attempt| reached.contains(&attempt.id)) {
        if attempt.guesses_left(rules) == 0 {
            continue;
        }
        match rules.guesses.charge(ledger.guesses_full_at, now) {
            Ok(full_at) => ledger.guesses_full_at = Some(full_at),
            Err(_) if free.contains(&attempt.id) => {}
            Err(_) => continue,
        }
        // A neighbour takes the first guess, which is free, and no other.
        if by == By::Client || (by == By::Neighbour && attempt.guesses == 0) {
            attempt.guesses = attempt.guesses.saturating_add(1);
        }
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
        let retry_after = exhausted_for(&ledger, &reached, by, rules, now);
        return Guess::Refused(ConfirmRefusal::Exhausted { retry_after });
    }
    let of_compared = ledger.attempts.iter().filter(|attempt| compared.contains(&attempt.id));
    let attempts_left = left(of_compared, &ledger, rules, now);
    Guess::Wrong(ledger, ConfirmRefusal::WrongCode { attempts_left })
}

/// Whether the claim is made by the codes' own client, and none of them was guessed at yet; so too where it reaches none, since nothing
/// is compared then.
pub(crate) fn is_first_guess<P>(ledger: &Ledger<P>, claim: &Claim, now: UtcDateTime) -> bool {
    let Ok(Reached { attempts, by }) = reach(ledger, claim, now) else { return true };
    let is_fresh = |attempt: &Attempt<P>| attempt.guesses == 0 || !attempts.contains(&attempt.id);
    by != By::Anybody && ledger.attempts.iter().all(is_fresh)
}

/// The living attempts that a claim reaches: one at least.
struct Reached {
    attempts: Vec<AttemptId>,
    by: By,
}

/// Who makes the claim, as far as it shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The client that made the attempts.
    Client,
    /// Somebody at its address, who may be that client: one that names its device in the first step only.
    Neighbour,
    /// Somebody, who may be that client.
    Anybody,
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
fn reach<P>(ledger: &Ledger<P>, claim: &Claim, now: UtcDateTime) -> Result<Reached, Unreached> {
    if ledger.open(now).next().is_none() {
        return Err(Unreached::Nothing);
    }
    let own = ledger.claimed(claim, now);
    // Whoever signed up from here is held to what was signed up from here, even when only a stranger's code still
    // lives: else a stranger who signs up last could have his code confirmed.
    if !own.is_empty() {
        return living(own.into_iter(), By::Client, now);
    }
    if claim.attempt.is_some() {
        return Err(Unreached::Foreign);
    }
    let nearby = ledger.nearby(claim, now);
    if !nearby.is_empty() {
        return living(nearby.into_iter(), By::Neighbour, now);
    }
    let one_origin =
        ledger.live(now).all(|one| ledger.live(now).all(|other| one.origin.is_same(&other.origin)));
    if one_origin { living(ledger.live(now), By::Anybody, now) } else { Err(Unreached::Foreign) }
}

fn living<'a, P: 'a>(
    attempts: impl Iterator<Item = &'a Attempt<P>>,
    by: By,
    now: UtcDateTime,
) -> Result<Reached, Unreached> {
    let living: Vec<_> = attempts.filter(|attempt| attempt.is_live(now)).map(|attempt| attempt.id).collect();
    if living.is_empty() { Err(Unreached::Expired) } else { Ok(Reached { attempts: living, by }) }
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
fn exhausted_for<P>(
    ledger: &Ledger<P>,
    reached: &[AttemptId],
    by: By,
    rules: &Rules,
    now: UtcDateTime,
) -> Duration {
    let reached = || ledger.attempts.iter().filter(|attempt| reached.contains(&attempt.id));
    let messages = reached()
        .filter_map(|attempt| ledger.admit_message(&attempt.origin, rules.max_messages, rules, now).err())
        .map(|refusal| match refusal {
            MessageRefusal::CoolDown(wait) | MessageRefusal::TooMany(wait) => wait,
        })
        .max()
        .unwrap_or(Duration::ZERO);
    if by != By::Anybody && reached().any(|attempt| ledger.has_place(&attempt.origin, rules, now)) {
        return messages;
    }
    let budget = rules.guesses.charge(ledger.guesses_full_at, now).err().unwrap_or(Duration::ZERO);
    messages.max(budget)
}
