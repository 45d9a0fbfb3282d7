use time::UtcDateTime;

use super::attempt::{Attempt, Ledger, MessageRefusal};
use crate::registration::{ResendRefusal, Rules};
use crate::{Claim, OneTimeCodes};

impl<P: Clone> Ledger<P> {
    /// Counts one more message with the code of the attempt that is meant, or with a new code if that has expired or is exhausted.
    ///
    /// Without a `registrationId` the newest attempt of the claim's origin is meant; where there is none, that of the device at its address; and where
    /// there is none either, the newest of all, since a client without a fingerprint may have changed networks, and the message goes to the number's
    /// owner anyway. Who may be a stranger leaves half of the messages, and more, to the attempt's own client; who may be a neighbour, the last.
    pub(crate) fn repeat(
        &mut self,
        claim: &Claim,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<&Attempt<P>, ResendRefusal> {
        self.close_old(now);
        let (chosen, most) = self.choose(claim, rules, now).ok_or(ResendRefusal::NotFound)?;
        let chosen = chosen.clone();
        self.admit_message(&chosen.origin, most, rules, now)?;
        let repeated =
            Attempt { messages: chosen.messages.saturating_add(1), last_message_at: now, ..chosen };
        let attempt = if repeated.is_live(now) && self.is_guessable(&repeated, rules, now) {
            repeated
        } else {
            self.renew(repeated, codes, rules, now)?
        };
        let slot =
            self.attempts.iter_mut().find(|slot| slot.id == attempt.id).ok_or(ResendRefusal::NotFound)?;
        *slot = attempt;
        Ok(slot)
    }

    /// The newest attempt that the claim proves to be its own.
    pub(crate) fn newest_claimed(&self, claim: &Claim, now: UtcDateTime) -> Option<&Attempt<P>> {
        newest(self.claimed(claim, now).into_iter())
    }

    /// The attempt that is meant, and how many messages it may have.
    fn choose(&self, claim: &Claim, rules: &Rules, now: UtcDateTime) -> Option<(&Attempt<P>, u32)> {
        let most = rules.max_messages;
        if let Some(own) = self.newest_claimed(claim, now) {
            return Some((own, most));
        }
        if claim.attempt.is_some() {
            return None;
        }
        match newest(self.nearby(claim, now).into_iter()) {
            Some(near) => Some((near, most.saturating_sub(1))),
            None => Some((newest(self.open(now))?, most / 2)),
        }
    }

    /// Whether the code is worth another message. One that was guessed at while there are no guesses left for the phone is not, where a new
    /// one has a first guess of its own.
    fn is_guessable(&self, attempt: &Attempt<P>, rules: &Rules, now: UtcDateTime) -> bool {
        let waits = attempt.guesses > 0 && rules.guesses.charge(self.guesses_full_at, now).is_err();
        attempt.guesses_left(rules) > 0 && !(waits && self.has_place(&attempt.origin, rules, now))
    }

    /// The attempt with a new code and new guesses.
    fn renew(
        &self,
        attempt: Attempt<P>,
        codes: &dyn OneTimeCodes,
        rules: &Rules,
        now: UtcDateTime,
    ) -> Result<Attempt<P>, ResendRefusal> {
        let too_many = |retry_after| ResendRefusal::TooMany { retry_after };
        if !attempt.is_live(now) {
            self.admit_live(&attempt.origin, rules, now).map_err(too_many)?;
        }
        // A code that nobody may guess at would only cost a message.
        if !self.has_place(&attempt.origin, rules, now) {
            rules.guesses.charge(self.guesses_full_at, now).map_err(too_many)?;
        }
        let generation =
            self.distinct_generation(attempt.id, attempt.generation.saturating_add(1), codes, now);
        let expires_at = attempt.closes_at().min(now + rules.code_ttl);
        Ok(Attempt { generation, expires_at, guesses: 0, ..attempt })
    }
}

impl From<MessageRefusal> for ResendRefusal {
    fn from(refusal: MessageRefusal) -> Self {
        match refusal {
            MessageRefusal::CoolDown(retry_after) => Self::CoolDown { retry_after },
            MessageRefusal::TooMany(retry_after) => Self::TooMany { retry_after },
        }
    }
}

fn newest<'a, P: 'a>(attempts: impl Iterator<Item = &'a Attempt<P>>) -> Option<&'a Attempt<P>> {
    attempts.max_by_key(|attempt| attempt.created_at)
}
