use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use tokio::sync::Notify;
use vestibule_domain::registration::Registration;
use vestibule_domain::{
    Account, AttemptId, Content, DeliveryState, EmailAddress, EmailState, EmailVerificationId, Message,
    MessageId, PhoneNumber, RefreshTokenHash, Session, SessionId, UserId,
};
use vestibule_port_storage::{
    Changes, Claimed, CommitError, DeadLetter, Limit, Loaded, NewPassword, NewRefreshToken, NumberDigest,
    Outbox, Report, Reported, Save, Settlement, SignUpState, Storage, Sweep, Unavailable, Version,
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
    settlements_to_refuse: u32,
    registrations: HashMap<PhoneNumber, Loaded<Registration>>,
    accounts: HashMap<UserId, Loaded<Account>>,
    passwords: Vec<NewPassword>,
    used_numbers: HashSet<NumberDigest>,
    sessions: HashMap<SessionId, Session>,
    refresh_tokens: HashMap<RefreshTokenHash, NewRefreshToken>,
    limits: HashMap<Limit, UtcDateTime>,
    messages: Vec<Queued>,
    deliveries: Vec<Left>,
}

#[derive(Clone)]
struct Queued {
    message: Message,
    due_at: UtcDateTime,
    tries: u32,
    dead: Option<String>,
    in_doubt_with: Option<&'static str>,
}

/// A message that has left the queue.
#[derive(Clone)]
struct Left {
    id: MessageId,
    attempt: Option<AttemptId>,
    provider: Option<&'static str>,
    reference: Option<String>,
    state: DeliveryState,
    queued_at: UtcDateTime,
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

    /// The next settlements are not answered, as when a database goes away while a message is on its way.
    pub fn refuse_settlements(&self, count: u32) {
        self.lock().settlements_to_refuse = count;
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

    async fn delivery(&self, attempt: AttemptId) -> Result<Option<DeliveryState>, Unavailable> {
        let state = self.up()?;
        let queued = state.messages.iter().filter(|queued| attempt_of(&queued.message) == Some(attempt));
        let queued = queued.map(|queued| {
            let state = if queued.dead.is_some() { DeliveryState::Failed } else { DeliveryState::Queued };
            (queued.message.queued_at, state)
        });
        let left = state.deliveries.iter().filter(|left| left.attempt == Some(attempt));
        let newest = left.map(|left| (left.queued_at, left.state)).chain(queued).max_by_key(|(at, _)| *at);
        Ok(newest.map(|(_, state)| state))
    }

    async fn sweep(&self, sweep: Sweep) -> Result<usize, Unavailable> {
        let mut state = self.up()?;
        let State { registrations, limits, refresh_tokens, sessions, messages, deliveries, .. } = &mut *state;
        let size = registrations.len()
            + limits.len()
            + refresh_tokens.len()
            + sessions.len()
            + messages.len()
            + deliveries.len();
        registrations.retain(|_, registration| registration.value.forget_at() > sweep.now);
        limits.retain(|_, full_at| *full_at > sweep.now);
        let mut ended = HashSet::new();
        refresh_tokens.retain(|_, token| {
            let lives = token.expires_at > sweep.now;
            if !lives {
                ended.insert(token.session);
            }
            lives
        });
        for token in refresh_tokens.values() {
            ended.remove(&token.session);
        }
        sessions.retain(|id, _| !ended.contains(id));
        messages.retain(|queued| queued.dead.is_none() || queued.message.queued_at >= sweep.messages_before);
        deliveries.retain(|left| left.queued_at >= sweep.messages_before);
        Ok(size
            - registrations.len()
            - limits.len()
            - refresh_tokens.len()
            - sessions.len()
            - messages.len()
            - deliveries.len())
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
            in_doubt_with: None,
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

fn attempt_of(message: &Message) -> Option<AttemptId> {
    match message.content {
        Content::SignUpCode { attempt, .. } => Some(attempt),
        Content::EmailConfirmation { .. } | Content::AlreadyRegistered => None,
    }
}

impl Queued {
    fn left(
        self,
        (state, provider, reference): (DeliveryState, Option<&'static str>, Option<String>),
    ) -> Left {
        let Message { id, queued_at, .. } = self.message;
        Left { id, attempt: attempt_of(&self.message), provider, reference, state, queued_at }
    }
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
            let doubted = queued.in_doubt_with.take().map(str::to_owned);
            Claimed { message: queued.message.clone(), tries: queued.tries, doubted }
        });
        Ok(claimed.collect())
    }

    async fn settle(&self, id: MessageId, tries: u32, settlement: Settlement) -> Result<(), Unavailable> {
        let mut state = self.up()?;
        if let Some(left) = state.settlements_to_refuse.checked_sub(1) {
            state.settlements_to_refuse = left;
            return Err(Unavailable("refused by a test".to_owned()));
        }
        let State { messages, deliveries, .. } = &mut *state;
        let leased =
            |queued: &Queued| queued.message.id == id && queued.tries == tries && queued.dead.is_none();
        let Some(at_index) = messages.iter().position(leased) else {
            return Ok(());
        };
        if let Settlement::Sent { .. } | Settlement::Expired { .. } = settlement {
            deliveries.push(messages.remove(at_index).left(match settlement {
                Settlement::Sent { provider, reference, .. } => {
                    (DeliveryState::Sent, Some(provider), reference)
                }
                _ => (DeliveryState::Expired, None, None),
            }));
        } else if let Some(queued) = messages.get_mut(at_index) {
            match settlement {
                Settlement::Retry { at, .. } => queued.due_at = at,
                Settlement::InDoubt { provider, until, .. } => {
                    queued.due_at = until;
                    queued.in_doubt_with = Some(provider);
                }
                Settlement::Dead { reason } => queued.dead = Some(reason),
                Settlement::Sent { .. } | Settlement::Expired { .. } => {}
            }
        }
        Ok(())
    }

    async fn record_delivery(&self, report: &Report) -> Result<bool, Unavailable> {
        let mut state = self.up()?;
        let State { messages, deliveries, .. } = &mut *state;
        let known = deliveries.iter_mut().find(|left| match &report.message {
            Reported::Message(id) => left.id == *id,
            Reported::Reference(reference) => {
                left.provider == Some(report.provider) && left.reference.as_ref() == Some(reference)
            }
        });
        if let Some(left) = known {
            let is_senders =
                report.state == DeliveryState::Delivered || left.provider == Some(report.provider);
            if is_senders && left.state.may_become(report.state) {
                left.state = report.state;
            }
            return Ok(true);
        }
        let Reported::Message(id) = report.message else {
            return Ok(false);
        };
        let arrived = matches!(report.state, DeliveryState::Sent | DeliveryState::Delivered);
        let queued = |queued: &Queued| queued.message.id == id && (queued.dead.is_none() || arrived);
        let Some(at_index) = messages.iter().position(queued) else {
            return Ok(true);
        };
        if report.state != DeliveryState::Failed {
            deliveries.push(messages.remove(at_index).left((report.state, Some(report.provider), None)));
            return Ok(true);
        }
        let in_doubt = messages.get_mut(at_index).filter(|it| it.in_doubt_with == Some(report.provider));
        Ok(in_doubt.is_some_and(|queued| {
            queued.due_at = report.at;
            true
        }))
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
