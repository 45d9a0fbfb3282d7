use std::collections::HashMap;
use std::hash::Hash;

use vestibule_domain::audit::Fact;
use vestibule_domain::limits::Charge;
use vestibule_domain::spending::{Correction, Spend};
use vestibule_domain::{Account, SessionId, UserId};
use vestibule_port_storage::{
    Changes, CommitError, EndSessions, Erasure, Loaded, NewPassword, Save, Version,
};

use super::outbox::Queued;
use super::{State, is_for};

impl State {
    /// Whatever ends goes first, so that what is opened in the same commit is not taken for it.
    pub(super) fn apply(&mut self, changes: Changes) -> Result<(), CommitError> {
        if let Some(end) = changes.end_sessions {
            self.end_sessions(end)?;
        }
        if let Some(erasure) = changes.erase {
            self.erase(&erasure)?;
        }
        if let Some(save) = changes.registration {
            put(&mut self.registrations, save.value.phone().clone(), save)?;
        }
        if let Some(digest) = changes.used_number
            && !self.used_numbers.insert(digest)
        {
            return Err(CommitError::PhoneTaken);
        }
        if let Some(digest) = changes.freed_number {
            self.used_numbers.remove(&digest);
        }
        if let Some(save) = changes.account {
            self.put_account(save)?;
        }
        if let Some(password) = changes.password {
            self.put_password(password)?;
        }
        self.passwords
            .retain(|password| !changes.forgotten_passwords.contains(&(password.user, password.set_at)));
        if let Some(save) = changes.guard {
            put(&mut self.guards, save.value.phone.clone(), save)?;
        }
        if let Some(save) = changes.reset {
            put(&mut self.resets, save.value.phone().clone(), save)?;
        }
        if let Some(save) = changes.session {
            demand(self.accounts.contains_key(&save.value.user()))?;
            put(&mut self.sessions, save.value.id(), save)?;
        }
        if let Some(token) = changes.refresh_token {
            demand(self.sessions.contains_key(&token.session))?;
            self.refresh_tokens.insert(token.hash, token);
        }
        for charge in &changes.charges {
            self.charge(charge)?;
        }
        for tally in &changes.tallies {
            let full_at = tally.apply(self.limits.get(&tally.limit).copied());
            self.limits.insert(tally.limit, full_at);
        }
        for spend in &changes.spends {
            self.add_up(spend)?;
        }
        for correction in &changes.corrections {
            self.correct(correction);
        }
        self.sent_codes.extend(changes.sent_code.map(|sent| (sent, None)));
        if let Some((attempt, at)) = changes.codes_back {
            let codes = self.sent_codes.iter_mut().filter(|(sent, _)| sent.attempt == attempt);
            codes.for_each(|(_, confirmed_at)| *confirmed_at = Some(at));
        }
        let spends = &changes.spends;
        self.messages.extend(changes.messages.into_iter().map(|message| Queued::new(message, spends)));
        self.facts.extend(changes.facts);
        Ok(())
    }

    fn put_account(&mut self, save: Save<Account>) -> Result<(), CommitError> {
        let user = save.value.user();
        let mut others = self.accounts.values().filter(|other| other.value.user() != user);
        if others.any(|other| other.value.phone() == save.value.phone()) {
            return Err(CommitError::PhoneTaken);
        }
        if save.value.email().confirmed().is_some_and(|address| self.has_confirmed(address, user)) {
            return Err(CommitError::EmailTaken);
        }
        put(&mut self.accounts, user, save)
    }

    fn put_password(&mut self, password: NewPassword) -> Result<(), CommitError> {
        demand(self.accounts.contains_key(&password.user))?;
        self.passwords.retain(|other| (other.user, other.set_at) != (password.user, password.set_at));
        self.passwords.push(password);
        Ok(())
    }

    pub(super) fn charge(&mut self, charge: &Charge) -> Result<(), CommitError> {
        let full_at = self.limits.get(&charge.limit).copied();
        let full_at =
            charge.decide(full_at).map_err(|retry_after| CommitError::LimitReached { retry_after })?;
        self.limits.insert(charge.limit, full_at);
        Ok(())
    }

    fn add_up(&mut self, spend: &Spend) -> Result<(), CommitError> {
        let window = (spend.purse.clone(), spend.window, spend.start);
        let spent = self.spending.entry(window).or_default();
        *spent = spend.decide(*spent).map_err(|retry_after| CommitError::LimitReached { retry_after })?;
        Ok(())
    }

    pub(super) fn correct(&mut self, correction: &Correction) {
        let window = (correction.purse.clone(), correction.window, correction.start);
        if let Some(spent) = self.spending.get_mut(&window) {
            *spent = correction.apply(*spent);
        }
    }

    fn end_sessions(&mut self, end: EndSessions) -> Result<(), CommitError> {
        if let EndSessions::One(user, session) = end {
            demand(self.sessions.get(&session).is_some_and(|there| there.value.user() == user))?;
        }
        let ends = |user: UserId, session: SessionId| match end {
            EndSessions::One(of, one) => user == of && session == one,
            EndSessions::AllBut(of, but) => user == of && Some(session) != but,
        };
        self.sessions.retain(|id, session| !ends(session.value.user(), *id));
        let sessions = &self.sessions;
        self.refresh_tokens.retain(|_, token| sessions.contains_key(&token.session));
        Ok(())
    }

    fn erase(&mut self, erasure: &Erasure) -> Result<(), CommitError> {
        let Erasure { user, replaces, guard, phone, number } = erasure;
        demand(guard.is_none() || self.guards.get(phone).map(|loaded| loaded.version) == *guard)?;
        let account = self.accounts.remove(user).ok_or(CommitError::Conflict)?;
        demand(account.version == *replaces)?;
        self.passwords.retain(|password| password.user != *user);
        self.end_sessions(EndSessions::AllBut(*user, None))?;
        self.registrations.remove(phone);
        self.guards.remove(phone);
        self.resets.remove(phone);
        self.messages.retain(|queued| !is_for(&queued.message, &account.value));
        self.used_numbers.insert(*number);
        let past = |fact: &&mut Fact| fact.number == *number || fact.user == Some(*user);
        for fact in self.facts.iter_mut().filter(past) {
            fact.device = None;
            fact.address = None;
        }
        Ok(())
    }
}

fn put<K: Hash + Eq, T>(map: &mut HashMap<K, Loaded<T>>, key: K, save: Save<T>) -> Result<(), CommitError> {
    demand(map.get(&key).map(|loaded| loaded.version) == save.replaces)?;
    let version = Version(save.replaces.map_or(1, |Version(version)| version + 1));
    map.insert(key, Loaded { value: save.value, version });
    Ok(())
}

/// What a commit takes for granted is a conflict where it is not so.
const fn demand(holds: bool) -> Result<(), CommitError> {
    if holds { Ok(()) } else { Err(CommitError::Conflict) }
}
