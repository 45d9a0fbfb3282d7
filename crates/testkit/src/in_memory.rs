use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use tokio::sync::Notify;
use vestibule_domain::registration::Registration;
use vestibule_domain::{
    Account, EmailAddress, EmailState, EmailVerificationId, Message, MessageId, PhoneNumber,
    RefreshTokenHash, Session, SessionId, UserId,
};
use vestibule_port_storage::{
    Changes, Claimed, CommitError, DeadLetter, Limit, Loaded, NewPassword, NewRefreshToken, NumberDigest,
    Outbox, Save, Settlement, SignUpState, Storage, Unavailable, Version,
};

/// The storage port in memory. It passes the same contract as the databases, and can be taken down.
#[derive(Default)]
pub struct InMemoryStorage {
    state: Mutex<State>,
    queued: Notify,
}

#[derive(Clone, Default)]
struct State {
    down: bool,
    registrations: HashMap<PhoneNumber, Loaded<Registration>>,
    accounts: HashMap<UserId, Loaded<Account>>,
    passwords: Vec<NewPassword>,
    used_numbers: HashSet<NumberDigest>,
    sessions: HashMap<SessionId, Session>,
    refresh_tokens: HashMap<RefreshTokenHash, NewRefreshToken>,
    limits: HashMap<Limit, UtcDateTime>,
    messages: Vec<Queued>,
}

#[derive(Clone)]
struct Queued {
    message: Message,
    due_at: UtcDateTime,
    tries: u32,
    dead: Option<String>,
}

impl InMemoryStorage {
    /// From now on nothing answers, as when a database is down.
    pub fn take_down(&self) {
        self.lock().down = true;
    }

    /// It answers again, with everything that it held.
    pub fn bring_up(&self) {
        self.lock().down = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> Result<MutexGuard<'_, State>, Unavailable> {
        let state = self.lock();
        if state.down { Err(Unavailable("taken down by a test".to_owned())) } else { Ok(state) }
    }
}

#[async_trait]
impl Storage for InMemoryStorage {
    async fn sign_up_state(
        &self,
        phone: &PhoneNumber,
        digest: &NumberDigest,
        client: &Limit,
    ) -> Result<SignUpState, Unavailable> {
        let state = self.up()?;
        Ok(SignUpState {
            registration: state.registrations.get(phone).cloned(),
            number_used: state.used_numbers.contains(digest),
            client_full_at: state.limits.get(client).copied(),
        })
    }

    async fn registration(&self, phone: &PhoneNumber) -> Result<Option<Loaded<Registration>>, Unavailable> {
        Ok(self.up()?.registrations.get(phone).cloned())
    }

    async fn account_of_session(
        &self,
        user: UserId,
        session: SessionId,
    ) -> Result<Option<Loaded<Account>>, Unavailable> {
        let state = self.up()?;
        let lives = state.sessions.get(&session).is_some_and(|session| session.user == user);
        Ok(state.accounts.get(&user).filter(|_| lives).cloned())
    }

    async fn account_by_email_verification(
        &self,
        link: EmailVerificationId,
    ) -> Result<Option<Loaded<Account>>, Unavailable> {
        let state = self.up()?;
        let found = state.accounts.values().find(|account| match account.value.email() {
            EmailState::None => false,
            EmailState::Unconfirmed { verification, .. } | EmailState::Confirmed { verification, .. } => {
                *verification == link
            }
        });
        Ok(found.cloned())
    }

    async fn email_confirmed_by_other(
        &self,
        address: &EmailAddress,
        user: UserId,
    ) -> Result<bool, Unavailable> {
        Ok(self.up()?.has_confirmed(address, user))
    }

    async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        let mut state = self.up()?;
        let queues = !changes.messages.is_empty();
        let mut next = state.clone();
        next.apply(changes)?;
        *state = next;
        if queues {
            self.queued.notify_one();
        }
        Ok(())
    }

    async fn sweep(&self, now: UtcDateTime) -> Result<usize, Unavailable> {
        let mut state = self.up()?;
        let before = state.registrations.len() + state.limits.len() + state.refresh_tokens.len();
        state.registrations.retain(|_, registration| registration.value.forget_at() > now);
        state.limits.retain(|_, full_at| *full_at > now);
        state.refresh_tokens.retain(|_, token| token.expires_at > now);
        Ok(before - state.registrations.len() - state.limits.len() - state.refresh_tokens.len())
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.up().map(|_| ())
    }
}

impl State {
    fn apply(&mut self, changes: Changes) -> Result<(), CommitError> {
        if let Some(save) = changes.registration {
            let phone = save.value.phone().clone();
            put(&mut self.registrations, phone, save)?;
        }
        if let Some(digest) = changes.used_number
            && !self.used_numbers.insert(digest)
        {
            return Err(CommitError::PhoneTaken);
        }
        if let Some(save) = changes.account {
            let user = save.value.user();
            if self
                .accounts
                .values()
                .any(|other| other.value.user() != user && other.value.phone() == save.value.phone())
            {
                return Err(CommitError::PhoneTaken);
            }
            if save.value.email().confirmed().is_some_and(|address| self.has_confirmed(address, user)) {
                return Err(CommitError::EmailTaken);
            }
            put(&mut self.accounts, user, save)?;
        }
        self.passwords.extend(changes.password);
        self.sessions.extend(changes.session.map(|session| (session.id, session)));
        self.refresh_tokens.extend(changes.refresh_token.map(|token| (token.hash, token)));
        if let Some(charge) = changes.charge {
            let full_at = self.limits.get(&charge.limit).copied();
            let charged = charge.quota.charge(full_at, charge.now);
            let full_at = charged.map_err(|retry_after| CommitError::LimitReached { retry_after })?;
            self.limits.insert(charge.limit, full_at);
        }
        self.messages.extend(changes.messages.into_iter().map(|message| Queued {
            due_at: message.queued_at,
            message,
            tries: 0,
            dead: None,
        }));
        Ok(())
    }

    fn has_confirmed(&self, address: &EmailAddress, except: UserId) -> bool {
        self.accounts.values().any(|account| {
            account.value.user() != except && account.value.email().confirmed() == Some(address)
        })
    }
}

fn put<K: std::hash::Hash + Eq, T>(
    map: &mut HashMap<K, Loaded<T>>,
    key: K,
    save: Save<T>,
) -> Result<(), CommitError> {
    if map.get(&key).map(|loaded| loaded.version) != save.replaces {
        return Err(CommitError::Conflict);
    }
    let version = Version(save.replaces.map_or(1, |Version(version)| version + 1));
    map.insert(key, Loaded { value: save.value, version });
    Ok(())
}

#[async_trait]
impl Outbox for InMemoryStorage {
    async fn claim(
        &self,
        limit: usize,
        lease: Duration,
        now: UtcDateTime,
    ) -> Result<Vec<Claimed>, Unavailable> {
        let mut state = self.up()?;
        let mut due: Vec<_> = state
            .messages
            .iter_mut()
            .filter(|queued| queued.dead.is_none() && queued.due_at <= now)
            .collect();
        due.sort_by_key(|queued| queued.due_at);
        let claimed = due.into_iter().take(limit).map(|queued| {
            queued.due_at = now + lease;
            queued.tries += 1;
            Claimed { message: queued.message.clone(), tries: queued.tries }
        });
        Ok(claimed.collect())
    }

    async fn settle(&self, id: MessageId, tries: u32, settlement: Settlement) -> Result<(), Unavailable> {
        let mut state = self.up()?;
        let leased =
            |queued: &Queued| queued.message.id == id && queued.tries == tries && queued.dead.is_none();
        match settlement {
            Settlement::Done => state.messages.retain(|queued| !leased(queued)),
            Settlement::Retry { at, .. } => {
                state
                    .messages
                    .iter_mut()
                    .filter(|queued| leased(queued))
                    .for_each(|queued| queued.due_at = at);
            }
            Settlement::Dead { reason } => {
                let dead = state.messages.iter_mut().filter(|queued| leased(queued));
                dead.for_each(|queued| queued.dead = Some(reason.clone()));
            }
        }
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<UtcDateTime>, Unavailable> {
        let state = self.up()?;
        Ok(state.messages.iter().filter(|queued| queued.dead.is_none()).map(|queued| queued.due_at).min())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Unavailable> {
        let state = self.up()?;
        let mut dead: Vec<_> = state
            .messages
            .iter()
            .filter_map(|queued| {
                let reason = queued.dead.clone()?;
                Some(DeadLetter { message: queued.message.clone(), tries: queued.tries, reason })
            })
            .collect();
        dead.sort_by_key(|letter| std::cmp::Reverse(letter.message.queued_at));
        dead.truncate(limit);
        Ok(dead)
    }

    async fn queued(&self) {
        self.queued.notified().await;
    }
}
