mod answers;
mod commit;
mod outbox;
mod sweep;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use tokio::sync::Notify;
use uuid::Uuid;
use vestibule_domain::audit::Fact;
use vestibule_domain::limits::{Limit, Step};
use vestibule_domain::password_reset::PasswordReset;
use vestibule_domain::pumping::{HeldCodes, SentCode, TracedCode};
use vestibule_domain::registration::Registration;
use vestibule_domain::sign_in::SignInGuard;
use vestibule_domain::spending::{Money, Purse, Spent, Window};
use vestibule_domain::{
    Account, AttemptId, DeliveryState, EmailAddress, EmailVerificationId, Message, MessageId, PhoneNumber,
    Recipient, RefreshTokenHash, Session, SessionId, UserId,
};
use vestibule_port_storage::{
    Budgets, Changes, CommitError, Credentials, FactsOf, KeyEvidence, KeyMark, Level, Loaded, NewPassword,
    NewRefreshToken, NumberDigest, Page, RefreshState, RequestDigest, SignUpState, SignatureDigest,
    SignedInAccount, Storage, Sweep, Unavailable,
};

use self::answers::Kept;
use self::outbox::{Left, Queued};

/// The storage port in memory. It passes the same contract as the databases, and can be taken down.
#[derive(Default)]
pub struct InMemoryStorage {
    state: Mutex<State>,
    queued: Notify,
}

#[derive(Clone, Default)]
struct State {
    down: bool,
    takes_no_writes: bool,
    commits_take: Duration,
    settlements_to_refuse: u32,
    settlements_never_taken: Option<MessageId>,
    refused_settlements: u32,
    registrations: HashMap<PhoneNumber, Loaded<Registration>>,
    accounts: HashMap<UserId, Loaded<Account>>,
    passwords: Vec<NewPassword>,
    used_numbers: HashSet<NumberDigest>,
    key_mark: Option<KeyMark>,
    sessions: HashMap<SessionId, Loaded<Session>>,
    refresh_tokens: HashMap<RefreshTokenHash, NewRefreshToken>,
    limits: HashMap<Limit, UtcDateTime>,
    spending: HashMap<(Purse, Window, UtcDateTime), Money>,
    messages: Vec<Queued>,
    /// With when they came back.
    sent_codes: Vec<(SentCode, Option<UtcDateTime>)>,
    held_codes: Vec<(Uuid, HeldCodes)>,
    deliveries: Vec<Left>,
    guards: HashMap<PhoneNumber, Loaded<SignInGuard>>,
    resets: HashMap<PhoneNumber, Loaded<PasswordReset>>,
    facts: Vec<Fact>,
    signatures: HashMap<SignatureDigest, UtcDateTime>,
    answers: HashMap<RequestDigest, Kept>,
}

impl InMemoryStorage {
    /// From now on nothing answers, as when a database is down.
    pub fn take_down(&self) {
        self.lock().down = true;
    }

    /// From now on it can be read and not written, as when a disk is full.
    pub fn take_no_writes(&self) {
        self.lock().takes_no_writes = true;
    }

    /// It answers again, with everything that it held.
    pub fn bring_up(&self) {
        let mut state = self.lock();
        (state.down, state.takes_no_writes) = (false, false);
    }

    /// From now on commits take so long.
    pub fn slow_commits_down(&self, to: Duration) {
        self.lock().commits_take = to;
    }

    /// The next settlements are not answered, as when a database goes away while a message is on its way.
    pub fn refuse_settlements(&self, count: u32) {
        self.lock().settlements_to_refuse = count;
    }

    /// No settlement of this message is ever taken, as where its record breaks a rule.
    pub fn never_settle(&self, message: MessageId) {
        self.lock().settlements_never_taken = Some(message);
    }

    /// How many settlements were refused.
    pub fn refused_settlements(&self) -> u32 {
        self.lock().refused_settlements
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> Result<MutexGuard<'_, State>, Unavailable> {
        let state = self.lock();
        if state.down { Err(Unavailable("taken down by a test".to_owned())) } else { Ok(state) }
    }

    fn writable(&self) -> Result<MutexGuard<'_, State>, Unavailable> {
        let state = self.up()?;
        if state.takes_no_writes {
            Err(Unavailable("made read-only by a test".to_owned()))
        } else {
            Ok(state)
        }
    }
}

#[async_trait]
impl Storage for InMemoryStorage {
    async fn sign_up_state(
        &self,
        phone: &PhoneNumber,
        digest: &NumberDigest,
        limits: &[Limit],
    ) -> Result<SignUpState, Unavailable> {
        let state = self.up()?;
        Ok(SignUpState {
            registration: state.registrations.get(phone).cloned(),
            number_used: state.used_numbers.contains(digest),
            budgets: state.budgets(limits),
        })
    }

    async fn registration(&self, phone: &PhoneNumber) -> Result<Option<Loaded<Registration>>, Unavailable> {
        Ok(self.up()?.registrations.get(phone).cloned())
    }

    async fn account_of_session(
        &self,
        user: UserId,
        session: SessionId,
    ) -> Result<Option<SignedInAccount>, Unavailable> {
        let signed_in = self.up()?.signed_in(session);
        Ok(signed_in.filter(|signed_in| signed_in.account.value.user() == user))
    }

    async fn refresh_state(&self, token: &RefreshTokenHash) -> Result<Option<RefreshState>, Unavailable> {
        let state = self.up()?;
        let token = state.refresh_tokens.get(token).cloned();
        Ok(token.and_then(|token| {
            let signed_in = state.signed_in(token.session)?;
            Some(RefreshState { token, signed_in })
        }))
    }

    async fn credentials(&self, phone: &PhoneNumber, limits: &[Limit]) -> Result<Credentials, Unavailable> {
        let state = self.up()?;
        let account = state.accounts.values().find(|account| account.value.phone() == phone).cloned();
        let user = account.as_ref().map(|account| account.value.user());
        let mut passwords: Vec<_> =
            state.passwords.iter().filter(|password| Some(password.user) == user).cloned().collect();
        passwords.sort_by_key(|password| Reverse(password.set_at));
        Ok(Credentials {
            account,
            passwords,
            guard: state.guards.get(phone).cloned(),
            reset: state.resets.get(phone).cloned(),
            budgets: state.budgets(limits),
        })
    }

    async fn budgets(&self, of: &[Limit]) -> Result<Budgets, Unavailable> {
        Ok(self.up()?.budgets(of))
    }

    async fn account(&self, user: UserId) -> Result<Option<Loaded<Account>>, Unavailable> {
        Ok(self.up()?.accounts.get(&user).cloned())
    }

    async fn sessions(&self, user: UserId) -> Result<Vec<Session>, Unavailable> {
        let state = self.up()?;
        let sessions = state.sessions.values().map(|session| &session.value);
        let mut sessions: Vec<_> = sessions.filter(|session| session.user() == user).cloned().collect();
        sessions.sort_by_key(|session| Reverse((session.record().created_at, session.id())));
        Ok(sessions)
    }

    async fn facts(&self, of: FactsOf, limit: usize) -> Result<Vec<Fact>, Unavailable> {
        let state = self.up()?;
        let is_meant = |fact: &&Fact| match of {
            FactsOf::User(user) => fact.user == Some(user),
            FactsOf::Number(number) => fact.number == number,
        };
        let mut facts: Vec<_> = state.facts.iter().filter(is_meant).cloned().collect();
        facts.sort_by_key(|fact| Reverse((fact.at, fact.id)));
        facts.truncate(limit);
        Ok(facts)
    }

    async fn waiting_messages(&self, account: &Account) -> Result<Vec<Message>, Unavailable> {
        let state = self.up()?;
        let waiting = state.messages.iter().filter(|queued| queued.dead.is_none());
        let mut waiting: Vec<_> = waiting
            .map(|queued| &queued.message)
            .filter(|message| is_for(message, account))
            .cloned()
            .collect();
        waiting.sort_by_key(|message| Reverse((message.queued_at, message.id)));
        Ok(waiting)
    }

    async fn account_by_email_verification(
        &self,
        link: EmailVerificationId,
    ) -> Result<Option<Loaded<Account>>, Unavailable> {
        let state = self.up()?;
        let mut accounts = state.accounts.values();
        Ok(accounts.find(|account| account.value.email().verification() == Some(link)).cloned())
    }

    async fn email_confirmed_by_other(
        &self,
        address: &EmailAddress,
        user: UserId,
    ) -> Result<bool, Unavailable> {
        Ok(self.up()?.has_confirmed(address, user))
    }

    async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        let lasting = self.lock().commits_take;
        if !lasting.is_zero() {
            tokio::time::sleep(lasting).await;
        }
        let mut state = self.writable()?;
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
        let queued = state.messages.iter().filter(|queued| queued.message.content.attempt() == Some(attempt));
        let queued = queued.map(|queued| {
            let state = if queued.dead.is_some() { DeliveryState::Failed } else { DeliveryState::Queued };
            (queued.message.queued_at, state)
        });
        let left = state.deliveries.iter().filter(|left| left.attempt == Some(attempt));
        let newest = left.map(|left| (left.queued_at, left.state)).chain(queued).max_by_key(|(at, _)| *at);
        Ok(newest.map(|(_, state)| state))
    }

    async fn spent(&self, of: &[Purse], now: UtcDateTime) -> Result<Vec<Spent>, Unavailable> {
        let state = self.up()?;
        let is_asked =
            |purse: &Purse, window: Window, start| of.contains(purse) && start == window.start(now);
        let going_on =
            state.spending.iter().filter(|((purse, window, start), _)| is_asked(purse, *window, *start));
        let spent = going_on.map(|((purse, window, _), &amount)| Spent {
            purse: purse.clone(),
            window: *window,
            amount,
        });
        Ok(spent.collect())
    }

    async fn budgets_in_use(&self, step: Step, now: UtcDateTime, limit: u32) -> Result<Budgets, Unavailable> {
        let state = self.up()?;
        let in_use = state.limits.iter().filter(|(of, full_at)| of.step == step && **full_at > now);
        let mut in_use: Vec<_> = in_use.map(|(of, full_at)| (*full_at, *of)).collect();
        in_use.sort_by_key(|(full_at, _)| Reverse(*full_at));
        in_use.truncate(limit as usize);
        Ok(Budgets(in_use.into_iter().map(|(full_at, of)| (of, Level::whole(full_at))).collect()))
    }

    async fn record_held_codes(&self, held: &[(Uuid, HeldCodes)]) -> Result<(), Unavailable> {
        self.writable()?.held_codes.extend(held);
        Ok(())
    }

    async fn sent_codes(&self, page: Page) -> Result<Vec<TracedCode>, Unavailable> {
        let state = self.up()?;
        let codes = of_page(page, &state.sent_codes, |(sent, _)| (sent.at, sent.message.uuid()));
        let provider = |sent: &SentCode| {
            let left = state.deliveries.iter().find(|left| left.id == sent.message)?;
            left.provider.map(str::to_owned)
        };
        let traced = codes.into_iter().map(|(sent, confirmed_at)| TracedCode {
            provider: provider(&sent),
            sent,
            confirmed_at,
        });
        Ok(traced.collect())
    }

    async fn held_codes(&self, page: Page) -> Result<Vec<(Uuid, HeldCodes)>, Unavailable> {
        Ok(of_page(page, &self.up()?.held_codes, |(id, held)| (held.at, *id)))
    }

    async fn accept_signature(
        &self,
        signature: &SignatureDigest,
        forget_at: UtcDateTime,
    ) -> Result<bool, Unavailable> {
        let mut state = self.writable()?;
        let is_new = !state.signatures.contains_key(signature);
        state.signatures.entry(*signature).or_insert(forget_at);
        Ok(is_new)
    }

    async fn key_evidence(&self) -> Result<KeyEvidence, Unavailable> {
        let state = self.up()?;
        let phone = state.accounts.values().next().map(|account| account.value.phone().clone());
        Ok(KeyEvidence { mark: state.key_mark, phone })
    }

    async fn keep_key_mark(&self, mark: &KeyMark) -> Result<KeyMark, Unavailable> {
        Ok(*self.writable()?.key_mark.get_or_insert(*mark))
    }

    async fn sweep(&self, sweep: Sweep) -> Result<usize, Unavailable> {
        Ok(self.writable()?.sweep(sweep))
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.writable().map(|_| ())
    }
}

impl State {
    /// The session with its account, if it has not ended.
    fn signed_in(&self, session: SessionId) -> Option<SignedInAccount> {
        let session = self.sessions.get(&session)?.clone();
        let account = self.accounts.get(&session.value.user())?.clone();
        Some(SignedInAccount { account, session })
    }

    fn budgets(&self, of: &[Limit]) -> Budgets {
        let level = |limit: &Limit| Some((*limit, Level::whole(*self.limits.get(limit)?)));
        Budgets(of.iter().filter_map(level).collect())
    }

    fn has_confirmed(&self, address: &EmailAddress, except: UserId) -> bool {
        self.accounts.values().any(|account| {
            account.value.user() != except && account.value.email().confirmed() == Some(address)
        })
    }
}

/// The elements of the page.
fn of_page<T: Clone>(page: Page, all: &[T], place: impl Fn(&T) -> (UtcDateTime, Uuid)) -> Vec<T> {
    let is_in = |element: &&T| {
        let (at, id) = place(element);
        at >= page.since && page.after.is_none_or(|after| (at, id) > after)
    };
    let mut elements: Vec<_> = all.iter().filter(is_in).cloned().collect();
    elements.sort_by_key(|element| place(element));
    elements.truncate(page.limit as usize);
    elements
}

/// Whether it is for the owner of the account. An address is hers once she has confirmed it; before, the mail that she asked for is.
fn is_for(message: &Message, account: &Account) -> bool {
    let (email, link) = (account.email(), message.content.verification());
    match &message.recipient {
        Recipient::Phone(to) => to == account.phone(),
        Recipient::Email(to) => {
            let is_own = link.is_some() && link == email.verification();
            is_own || email.confirmed().is_some_and(|address| address.as_str() == to.as_str())
        }
    }
}
