use std::time::Duration;

use time::UtcDateTime;

use super::wait;
use crate::limits::AddressBlock;
use crate::registration::Rules;
use crate::{AttemptId, Claim, Generation, OneTimeCodes, Origin, PasswordHash, PhoneNumber};

/// How many attempts of one phone may have a living code at once: of each origin that has a place, and of all others together.
pub const MAX_LIVE_ATTEMPTS: usize = 3;

/// How long after its sign-up an attempt may still be continued with a new code.
pub const OPEN_FOR: Duration = Duration::from_hours(24);

/// One sign-up: the password that the account will have if the attempt's own code is confirmed. Or one request for a
/// reset, where `P` is nothing, since the password comes with the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt<P = PasswordHash> {
    /// The `registrationId` of the wire.
    pub id: AttemptId,
    /// Of the password that was given at this sign-up.
    pub password: P,
    /// Where it came from.
    pub origin: Origin,
    /// When it was made.
    pub created_at: UtcDateTime,
    /// The present code.
    pub generation: Generation,
    /// When the present code dies.
    pub expires_at: UtcDateTime,
    /// Guesses made at the present code by its own client, or the first by who may be. Those of strangers are counted for the phone only.
    pub guesses: u32,
    /// Messages sent, over all codes.
    pub messages: u32,
    /// When the last of them was queued.
    pub last_message_at: UtcDateTime,
}

impl<P> Attempt<P> {
    /// A fresh one, whose first message is sent now.
    pub(crate) fn begin(id: AttemptId, password: P, origin: Origin, rules: &Rules, now: UtcDateTime) -> Self {
        Self {
            id,
            password,
            origin,
            created_at: now,
            generation: 0,
            expires_at: now + rules.code_ttl,
            guesses: 0,
            messages: 1,
            last_message_at: now,
        }
    }

    pub(super) fn is_live(&self, now: UtcDateTime) -> bool {
        now < self.expires_at
    }

    pub(crate) fn closes_at(&self) -> UtcDateTime {
        self.created_at + OPEN_FOR
    }

    pub(super) fn guesses_left(&self, rules: &Rules) -> u32 {
        rules.code_guesses.saturating_sub(self.guesses)
    }
}

/// The attempts of one phone, and the budgets that they share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ledger<P = PasswordHash> {
    pub(crate) phone: PhoneNumber,
    pub(crate) attempts: Vec<Attempt<P>>,
    /// When the budget of attempts is full again.
    pub(crate) attempts_full_at: Option<UtcDateTime>,
    pub(crate) guesses_full_at: Option<UtcDateTime>,
}

/// Why no further message may be sent.
pub(crate) enum MessageRefusal {
    CoolDown(Duration),
    TooMany(Duration),
}

impl<P> Ledger<P> {
    pub(crate) fn new(phone: PhoneNumber) -> Self {
        Self { phone, attempts: Vec::new(), attempts_full_at: None, guesses_full_at: None }
    }

    /// Forgets the attempts that nobody can continue any more.
    pub(crate) fn close_old(&mut self, now: UtcDateTime) {
        self.attempts.retain(|attempt| now < attempt.closes_at());
    }

    pub(crate) fn open(&self, now: UtcDateTime) -> impl Iterator<Item = &Attempt<P>> {
        self.attempts.iter().filter(move |attempt| now < attempt.closes_at())
    }

    /// The open attempts that the claim proves to be its own: the one that it names; else those of its origin; else those of its address that
    /// named no device, if its own device is named since.
    pub(super) fn claimed(&self, claim: &Claim, now: UtcDateTime) -> Vec<&Attempt<P>> {
        let those = |is_own: &dyn Fn(&Attempt<P>) -> bool| -> Vec<_> {
            self.open(now).filter(|attempt| is_own(attempt)).collect()
        };
        if let Some(id) = claim.attempt {
            return those(&|attempt| attempt.id == id);
        }
        let own = those(&|attempt| attempt.origin.is_same(&claim.origin));
        if own.is_empty() { those(&|attempt| attempt.origin.may_have_become(&claim.origin)) } else { own }
    }

    /// Those at the claim's address that named a device, where the claim names none: whose they are does not show. Only of one device: a code is not
    /// compared with somebody else's.
    pub(super) fn nearby(&self, claim: &Claim, now: UtcDateTime) -> Vec<&Attempt<P>> {
        if claim.attempt.is_some() || claim.origin.fingerprint.is_some() {
            return Vec::new();
        }
        let near: Vec<_> =
            self.open(now).filter(|attempt| attempt.origin.address == claim.origin.address).collect();
        let is_one = near.iter().zip(near.iter().skip(1)).all(|(one, next)| one.origin.is_same(&next.origin));
        if is_one { near } else { Vec::new() }
    }

    pub(super) fn live(&self, now: UtcDateTime) -> impl Iterator<Item = &Attempt<P>> {
        self.open(now).filter(move |attempt| attempt.is_live(now))
    }

    /// Whether the origin has a share of its own at this number, which no stranger can use up.
    ///
    /// Budgets of a number are shared by all who come, and who comes last may find them empty. So the first origin of each block of
    /// addresses has a place beside them: messages, a few living codes, and the first guess at each code. There are
    /// [`Rules::places`] a day, which is what bounds the messages and the guesses that it adds up to. Devices are made up at no cost,
    /// and addresses of one block are one person's: neither makes a newcomer.
    pub(crate) fn has_place(&self, origin: &Origin, rules: &Rules, now: UtcDateTime) -> bool {
        let places = usize::try_from(rules.places).unwrap_or(usize::MAX);
        let mut taken = Vec::new();
        for attempt in self.open(now) {
            let block = AddressBlock::of(attempt.origin.address);
            if taken.contains(&block) {
                continue;
            }
            if taken.len() == places {
                return false;
            }
            if attempt.origin.is_same(origin) {
                return true;
            }
            taken.push(block);
        }
        taken.len() < places && !taken.contains(&AddressBlock::of(origin.address))
    }

    /// The budget of attempts after one more from the origin, or how long until there is room for it.
    pub(crate) fn charge_attempt(
        &self,
        origin: &Origin,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<Option<UtcDateTime>, Duration> {
        match rules.sign_ups.charge(self.attempts_full_at, now) {
            Ok(full_at) => Ok(Some(full_at)),
            Err(_) if self.has_place(origin, rules, now) => Ok(self.attempts_full_at),
            Err(wait) => Err(wait),
        }
    }

    /// Whether the origin may cause one more message, of `most`. All its attempts count as one registration.
    pub(crate) fn admit_message(
        &self,
        origin: &Origin,
        most: u32,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<(), MessageRefusal> {
        let own = || self.open(now).filter(|attempt| attempt.origin.is_same(origin));
        if own().map(|attempt| attempt.messages).sum::<u32>() >= most {
            let until = own().map(Attempt::closes_at).min().unwrap_or(now);
            return Err(MessageRefusal::TooMany(wait(now, until)));
        }
        match self.cool_down(origin, rules, now) {
            Duration::ZERO => Ok(()),
            rest => Err(MessageRefusal::CoolDown(rest)),
        }
    }

    /// How long until the origin may cause another message.
    fn cool_down(&self, origin: &Origin, rules: &Rules, now: UtcDateTime) -> Duration {
        let last =
            self.open(now).filter(|attempt| attempt.origin.is_same(origin)).map(|a| a.last_message_at).max();
        last.map_or(Duration::ZERO, |last| wait(now, last + rules.resend_cooldown))
    }

    /// Whether one more code of the origin's may come to life, or how long until one of those has died that it shares the room with.
    pub(crate) fn admit_live(
        &self,
        origin: &Origin,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<(), Duration> {
        let has_place = self.has_place(origin, rules, now);
        let shares_room = |attempt: &&Attempt<P>| {
            if has_place {
                attempt.origin.is_same(origin)
            } else {
                !self.has_place(&attempt.origin, rules, now)
            }
        };
        let dying = || self.live(now).filter(shares_room).map(|attempt| attempt.expires_at);
        if dying().count() < MAX_LIVE_ATTEMPTS {
            return Ok(());
        }
        Err(wait(now, dying().min().unwrap_or(now)))
    }

    /// The attempt with a code that none of these has.
    pub(crate) fn distinct(
        &self,
        attempt: Attempt<P>,
        codes: &dyn OneTimeCodes,
        now: UtcDateTime,
    ) -> Attempt<P> {
        let generation = self.distinct_generation(attempt.id, attempt.generation, codes, now);
        Attempt { generation, ..attempt }
    }

    /// When nothing of it matters any more: no attempt can be continued, and every budget is full again.
    pub(crate) fn forget_at(&self) -> impl Iterator<Item = UtcDateTime> {
        let attempts = self.attempts.iter().map(Attempt::closes_at);
        attempts.chain(self.attempts_full_at).chain(self.guesses_full_at)
    }

    /// The first generation from `from` on whose code no living attempt of this phone has, so that a code always
    /// tells which attempt it belongs to.
    pub(super) fn distinct_generation(
        &self,
        attempt: AttemptId,
        from: Generation,
        codes: &dyn OneTimeCodes,
        now: UtcDateTime,
    ) -> Generation {
        let taken: Vec<_> = self
            .live(now)
            .filter(|other| other.id != attempt)
            .map(|other| codes.code(other.id, other.generation))
            .collect();
        // Some dozens of codes are taken at most, so that so many candidates are enough unless they collide among themselves.
        (from..from.saturating_add(256))
            .find(|&generation| !taken.contains(&codes.code(attempt, generation)))
            .unwrap_or(from)
    }
}
