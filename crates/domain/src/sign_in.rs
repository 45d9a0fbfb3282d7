//! Who may try a password, and how often.
//!
//! Failures are counted for each number, whether or not it has an account, so that counting tells nothing. Devices that
//! have signed in before are counted apart from everybody else: a stranger can lock out strangers, never the owner.
//! A locked number is opened again by waiting, each time longer, or by a password reset.
//!
//! A guess counts when its outcome is told, not when it is computed: right or wrong, the outcome may be told once the guard
//! that follows from it is saved over the one that was loaded. So no number of parallel guesses gets more answers than the
//! rules allow.

use std::time::Duration;

use time::UtcDateTime;

use crate::{Origin, PhoneNumber};

/// The origins that are remembered of one number; the one that was not seen for longest makes room.
pub const MAX_KNOWN_ORIGINS: usize = 8;

/// How long an origin is remembered.
pub const REMEMBER_FOR: Duration = Duration::from_hours(400 * 24);

/// How long failures count, from the last of them or from the end of its lock.
pub const FAILURES_COUNT_FOR: Duration = Duration::from_hours(24);

/// The longest lock.
const MAX_LOCK: Duration = Duration::from_hours(24);

/// How many failures are borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardRules {
    /// Failures before the first lock; at least 1.
    pub attempts: u32,
    /// How long the first lock lasts; each failure after it doubles the next.
    pub lock: Duration,
}

/// What is known of the passwords that were tried for one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInGuard {
    /// The number.
    pub phone: PhoneNumber,
    /// Failures of everybody who is not known.
    pub strangers: Throttle,
    /// Where a good password came from before.
    pub origins: Vec<KnownOrigin>,
}

/// Where a good password came from before, with failures since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownOrigin {
    /// Where.
    pub origin: Origin,
    /// When it was last seen to be good.
    pub seen_at: UtcDateTime,
    /// Failures from there.
    pub throttle: Throttle,
}

/// Failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttle {
    /// How many.
    pub failures: u32,
    /// When the last was.
    pub failed_at: Option<UtcDateTime>,
    /// When the next may be.
    pub locked_until: Option<UtcDateTime>,
}

/// Somebody who tries a password.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Where the request comes from.
    pub origin: &'a Origin,
    /// Where the account was opened from, if there is one: it counts as known.
    pub founder: Option<&'a Origin>,
}

impl Caller<'_> {
    /// Whether the device says which it is, and the number has seen it to be good: as the one that the account was opened from, or as one of `known`. An
    /// address proves nothing here, others may share it.
    #[must_use]
    pub fn is_known_device(&self, known: &[KnownOrigin]) -> bool {
        let of_known = known.iter().map(|known| &known.origin);
        let mut fingerprints = of_known.chain(self.founder).filter_map(|origin| origin.fingerprint);
        self.origin.fingerprint.is_some_and(|device| fingerprints.any(|known| known == device))
    }
}

/// No password is tried for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong passwords")]
pub struct Locked {
    /// How long to wait.
    pub retry_after: Duration,
}

impl SignInGuard {
    /// Of a number that nobody tried yet.
    #[must_use]
    pub fn new(phone: PhoneNumber) -> Self {
        Self { phone, strangers: Throttle::default(), origins: Vec::new() }
    }

    /// Whether the caller has been good before.
    #[must_use]
    pub fn knows(&self, caller: &Caller<'_>) -> bool {
        self.position(caller.origin).is_some()
            || caller.founder.is_some_and(|founder| founder.is_same(caller.origin))
    }

    /// Whether the caller may try, for a caller who wants to know before computing.
    ///
    /// # Errors
    /// [`Locked`]
    pub fn admit(&self, caller: &Caller<'_>, now: UtcDateTime) -> Result<(), Locked> {
        match self.position(caller.origin).and_then(|position| self.origins.get(position)) {
            Some(known) => known.throttle.admit(now),
            None if self.knows(caller) => Ok(()),
            None => self.strangers.admit(now),
        }
    }

    /// After a wrong password.
    ///
    /// # Errors
    /// [`Locked`]: it must not be told that it was wrong, and nothing needs to be saved.
    pub fn failed(
        mut self,
        caller: &Caller<'_>,
        rules: &GuardRules,
        now: UtcDateTime,
    ) -> Result<Self, Locked> {
        self.admit(caller, now)?;
        if self.knows(caller) {
            self.origin(caller.origin, now).throttle.fail(rules, now);
        } else {
            self.strangers.fail(rules, now);
        }
        Ok(self)
    }

    /// After the right password: where it came from is known from now on.
    ///
    /// # Errors
    /// [`Locked`]: it must not be told that it was right, and nothing needs to be saved.
    pub fn succeeded(mut self, caller: &Caller<'_>, now: UtcDateTime) -> Result<Self, Locked> {
        self.admit(caller, now)?;
        if !self.knows(caller) {
            self.strangers = Throttle::default();
        }
        let known = self.origin(caller.origin, now);
        *known = KnownOrigin { origin: *caller.origin, seen_at: now, throttle: Throttle::default() };
        Ok(self)
    }

    /// After the owner has proved to hold the phone: everything that was counted is forgiven.
    #[must_use]
    pub fn proven(mut self, origin: &Origin, now: UtcDateTime) -> Self {
        self.strangers = Throttle::default();
        for known in &mut self.origins {
            known.throttle = Throttle::default();
        }
        *self.origin(origin, now) =
            KnownOrigin { origin: *origin, seen_at: now, throttle: Throttle::default() };
        self
    }

    /// When nothing of it matters any more and storage may forget it.
    #[must_use]
    pub fn forget_at(&self) -> UtcDateTime {
        let origins = self.origins.iter().map(|known| known.seen_at + REMEMBER_FOR);
        let throttles = self.origins.iter().map(|known| &known.throttle).chain([&self.strangers]);
        origins.chain(throttles.filter_map(Throttle::forget_at)).max().unwrap_or(UtcDateTime::UNIX_EPOCH)
    }

    fn position(&self, origin: &Origin) -> Option<usize> {
        self.origins.iter().position(|known| known.origin.is_same(origin))
    }

    /// The entry of an origin, made if there is none.
    fn origin(&mut self, origin: &Origin, now: UtcDateTime) -> &mut KnownOrigin {
        let position = self.position(origin).unwrap_or_else(|| {
            self.origins.sort_by_key(|known| std::cmp::Reverse(known.seen_at));
            self.origins.truncate(MAX_KNOWN_ORIGINS - 1);
            self.origins.push(KnownOrigin { origin: *origin, seen_at: now, throttle: Throttle::default() });
            self.origins.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position was found, or made, just now")]
        &mut self.origins[position]
    }
}

impl Throttle {
    fn admit(&self, now: UtcDateTime) -> Result<(), Locked> {
        match self.locked_until {
            Some(until) if now < until => Err(Locked { retry_after: (until - now).unsigned_abs() }),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, rules: &GuardRules, now: UtcDateTime) {
        if self.forget_at().is_none_or(|forget_at| forget_at <= now) {
            *self = Self::default();
        }
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        if let Some(locks_before) = self.failures.checked_sub(rules.attempts) {
            let lock = rules.lock.saturating_mul(2_u32.saturating_pow(locks_before));
            self.locked_until = Some(now + lock.min(MAX_LOCK));
        }
    }

    /// When its failures count no more.
    fn forget_at(&self) -> Option<UtcDateTime> {
        self.failed_at.map(|at| self.locked_until.unwrap_or(at).max(at) + FAILURES_COUNT_FOR)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::utc_datetime;

    use super::*;
    use crate::{ClientAddress, Fingerprint};

    const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);
    const RULES: GuardRules = GuardRules { attempts: 3, lock: Duration::from_mins(15) };

    fn origin(name: &str) -> Origin {
        Origin { fingerprint: Fingerprint::of(name), address: ClientAddress::of([192, 0, 2, 1].into()) }
    }

    fn guard() -> SignInGuard {
        SignInGuard::new(PhoneNumber::parse("+447871234567").unwrap())
    }

    fn fail(guard: SignInGuard, from: &str, at: UtcDateTime) -> Result<SignInGuard, Locked> {
        guard.failed(&Caller { origin: &origin(from), founder: Some(&origin("founder")) }, &RULES, at)
    }

    fn succeed(guard: SignInGuard, from: &str, at: UtcDateTime) -> Result<SignInGuard, Locked> {
        guard.succeeded(&Caller { origin: &origin(from), founder: Some(&origin("founder")) }, at)
    }

    fn locked(mut guard: SignInGuard, from: &str) -> SignInGuard {
        for _ in 0..RULES.attempts {
            guard = fail(guard, from, NOW).unwrap();
        }
        guard
    }

    #[test]
    fn so_many_failures_are_borne_and_the_next_attempt_is_refused() {
        let guard = locked(guard(), "stranger");
        let refused = Locked { retry_after: RULES.lock };
        assert_eq!(fail(guard.clone(), "stranger", NOW), Err(refused));
        assert_eq!(succeed(guard.clone(), "another", NOW), Err(refused), "nor is it told that it was right");
        succeed(guard, "stranger", NOW + RULES.lock).unwrap();
    }

    #[test]
    fn locks_grow_and_are_forgotten() {
        let mut guard = locked(guard(), "stranger");
        let mut at = NOW;
        for factor in [1, 2, 4, 8, 16, 32, 64, 96, 96] {
            let refused = fail(guard.clone(), "stranger", at).unwrap_err();
            assert_eq!(refused.retry_after, RULES.lock * factor);
            at += refused.retry_after;
            guard = fail(guard, "stranger", at).unwrap();
        }
        let forgotten = guard.forget_at();
        let fresh = fail(guard, "stranger", forgotten).unwrap();
        assert_eq!(fresh.strangers.failures, 1);
    }

    #[test]
    fn a_stranger_never_locks_out_a_device_that_was_good() {
        for known in ["mine", "founder"] {
            let guard = succeed(guard(), "mine", NOW).unwrap();
            let guard = locked(guard, "stranger");
            assert!(fail(guard.clone(), "stranger", NOW).is_err());
            let guard = fail(guard, known, NOW).unwrap();
            succeed(guard, known, NOW).unwrap();
        }
    }

    #[test]
    fn a_stranger_on_the_owners_network_is_a_stranger() {
        // The fixture's origins share one address; the empty name is no fingerprint.
        let guard = succeed(guard(), "mine", NOW).unwrap();
        let guard = locked(guard, "");
        assert!(fail(guard.clone(), "", NOW).is_err());
        succeed(guard, "mine", NOW).unwrap();
        // Nor do made-up devices each have a budget where the account was opened without one.
        let nameless = origin("");
        let mut guard = SignInGuard::new(PhoneNumber::parse("+447871234567").unwrap());
        for number in 0..RULES.attempts {
            let made_up = origin(&format!("made up {number}"));
            let caller = Caller { origin: &made_up, founder: Some(&nameless) };
            guard = guard.failed(&caller, &RULES, NOW).unwrap();
        }
        let another = origin("another");
        let caller = Caller { origin: &another, founder: Some(&nameless) };
        assert!(guard.clone().failed(&caller, &RULES, NOW).is_err());
        guard.succeeded(&Caller { origin: &nameless, founder: Some(&nameless) }, NOW).unwrap();
    }

    #[test]
    fn a_good_device_that_guesses_is_locked_by_itself() {
        let guard = locked(succeed(guard(), "mine", NOW).unwrap(), "mine");
        assert!(fail(guard.clone(), "mine", NOW).is_err());
        assert!(fail(guard.clone(), "stranger", NOW).is_ok());
        succeed(guard, "founder", NOW).unwrap();
    }

    #[test]
    fn a_proof_of_the_phone_opens_everything() {
        let guard = locked(locked(succeed(guard(), "mine", NOW).unwrap(), "mine"), "stranger");
        assert!(fail(guard.clone(), "mine", NOW).is_err() && fail(guard.clone(), "another", NOW).is_err());
        let guard = guard.proven(&origin("borrowed"), NOW);
        assert!(fail(guard.clone(), "mine", NOW).is_ok() && fail(guard, "another", NOW).is_ok());
    }

    #[test]
    fn the_origin_unseen_for_longest_makes_room() {
        let mut guard = guard();
        for number in 0..=MAX_KNOWN_ORIGINS {
            let at = NOW + Duration::from_secs(number as u64);
            guard = succeed(guard, &format!("device {number}"), at).unwrap();
        }
        assert_eq!(guard.origins.len(), MAX_KNOWN_ORIGINS);
        assert!(guard.origins.iter().all(|known| known.origin != origin("device 0")));
        assert!(guard.forget_at() > NOW + REMEMBER_FOR);
    }
}
