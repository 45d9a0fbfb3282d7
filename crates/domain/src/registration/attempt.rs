use std::time::Duration;

use time::UtcDateTime;

use super::{Outgoing, Rules, wait};
use crate::{AttemptId, Claim, Content, Generation, OneTimeCodes, Origin, PasswordHash, PhoneNumber};

/// How many attempts of one phone may have a living code at once.
pub const MAX_LIVE_ATTEMPTS: usize = 3;

/// How long after its sign-up an attempt may still be continued with a new code.
pub const OPEN_FOR: Duration = Duration::from_hours(24);

/// One sign-up: the password that the account will have if the attempt's own code is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The `registrationId` of the wire.
    pub id: AttemptId,
    /// Of the password that was given at this sign-up.
    pub password: PasswordHash,
    /// Where the sign-up came from.
    pub origin: Origin,
    /// When it was made.
    pub created_at: UtcDateTime,
    /// The present code.
    pub generation: Generation,
    /// When the present code dies.
    pub expires_at: UtcDateTime,
    /// Guesses made at the present code.
    pub guesses: u32,
    /// Messages sent, over all codes.
    pub messages: u32,
    /// When the last of them was queued.
    pub last_message_at: UtcDateTime,
}

impl Attempt {
    pub(super) fn is_live(&self, now: UtcDateTime) -> bool {
        now < self.expires_at
    }

    pub(super) fn closes_at(&self) -> UtcDateTime {
        self.created_at + OPEN_FOR
    }

    pub(super) fn guesses_left(&self, rules: &Rules) -> u32 {
        rules.code_guesses.saturating_sub(self.guesses)
    }

    pub(super) fn is_claimed_by(&self, claim: &Claim) -> bool {
        match claim.attempt {
            Some(id) => id == self.id,
            None => self.origin.is_same(&claim.origin),
        }
    }

    /// The message that carries the present code.
    pub(super) fn message(&self) -> Outgoing {
        Outgoing {
            content: Content::SignUpCode { attempt: self.id, generation: self.generation },
            expires_at: self.expires_at,
        }
    }
}

/// The attempts of one phone, and the budgets that they share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) phone: PhoneNumber,
    pub(super) attempts: Vec<Attempt>,
    pub(super) sign_ups_full_at: Option<UtcDateTime>,
    pub(super) guesses_full_at: Option<UtcDateTime>,
}

/// Why no further message may be sent.
pub(super) enum MessageRefusal {
    CoolDown(Duration),
    TooMany(Duration),
}

impl Ledger {
    pub(super) fn new(phone: PhoneNumber) -> Self {
        Self { phone, attempts: Vec::new(), sign_ups_full_at: None, guesses_full_at: None }
    }

    /// Forgets the attempts that nobody can continue any more.
    pub(super) fn close_old(&mut self, now: UtcDateTime) {
        self.attempts.retain(|attempt| now < attempt.closes_at());
    }

    pub(super) fn open(&self, now: UtcDateTime) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(move |attempt| now < attempt.closes_at())
    }

    pub(super) fn live(&self, now: UtcDateTime) -> impl Iterator<Item = &Attempt> {
        self.open(now).filter(move |attempt| attempt.is_live(now))
    }

    /// Whether the origin may cause one more message. All its attempts count as one registration.
    pub(super) fn admit_message(
        &self,
        origin: &Origin,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<(), MessageRefusal> {
        let own = || self.open(now).filter(|attempt| attempt.origin.is_same(origin));
        if own().map(|attempt| attempt.messages).sum::<u32>() >= rules.max_messages {
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

    /// Whether one more code may come to life, or how long until one of the living has died.
    pub(super) fn admit_live(&self, now: UtcDateTime) -> Result<(), Duration> {
        if self.live(now).count() < MAX_LIVE_ATTEMPTS {
            return Ok(());
        }
        Err(wait(now, self.live(now).map(|attempt| attempt.expires_at).min().unwrap_or(now)))
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
        // At most two codes are taken, so that even three candidates are enough unless they collide among themselves.
        (from..from.saturating_add(16))
            .find(|&generation| !taken.contains(&codes.code(attempt, generation)))
            .unwrap_or(from)
    }
}
