//! Reads of one thing by its key, for several callers at once: see [`Gather`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use diesel::{ExpressionMethods as _, JoinOnDsl as _, QueryDsl as _, QueryResult, SelectableHelper as _};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use tokio::time::timeout;
use vestibule_domain::registration::Registration;
use vestibule_domain::{PhoneNumber, RefreshTokenHash, SessionId, UserId};
use vestibule_port_storage::{Loaded, RefreshState, SignedInAccount, Unavailable};

use crate::connection::{PATIENCE, late};
use crate::gather::{Gather, Wanted};
use crate::rows::{AccountRow, AttemptRow, RefreshTokenRow, RegistrationRow, SessionRow, Unreadable};
use crate::schema::{accounts, attempts, refresh_tokens, registrations, sessions};
use crate::shared::Shared;
use crate::statement::Fixed;

/// How many are found by one statement.
const MOST: usize = 64;

/// As many keys as the server takes an array for whose length it does not know. It would plan anew for each array that is shorter.
const PLANNED_FOR: usize = 10;

/// What there is by the keys; a row that cannot be read is the trouble of those alone who ask for it.
type Found<K, V> = HashMap<K, Result<V, Unreadable>>;

/// What there is by one key, if anything.
type Answer<K> = Result<Option<<K as Key>::Value>, Unavailable>;

/// What a thing is found by.
pub(crate) trait Key: Eq + Hash + Send + Sync + Sized + 'static {
    type Value: Clone + Send + 'static;

    /// One statement, and so everything as it was at one moment.
    fn find<'a>(
        connection: &'a AsyncPgConnection,
        keys: &'a [&'a Self],
    ) -> impl Future<Output = QueryResult<Found<Self, Self::Value>>> + Send;
}

/// Things of a kind.
pub(crate) struct Lookups<K: Key>(Gather<K, Answer<K>>);

impl<K: Key> Lookups<K> {
    pub(crate) fn new(connections: &Arc<Shared>) -> Self {
        let (connections, size) = (Arc::clone(connections), connections.size());
        let answer = move |thread, wanted| answer(Arc::clone(&connections), thread, wanted);
        Self(Gather::new(size, MOST, answer))
    }

    /// What there is by the key, if anything.
    pub(crate) async fn get(&self, key: K) -> Answer<K> {
        let gone = || Err(Unavailable("the thread that reads has ended".to_owned()));
        match timeout(PATIENCE, self.0.ask(key)).await {
            Ok(answer) => answer.unwrap_or_else(gone),
            Err(_) => Err(late()),
        }
    }
}

/// On the connection of the thread that they asked on.
async fn answer<K: Key>(connections: Arc<Shared>, thread: usize, mut wanted: Vec<Wanted<K, Answer<K>>>) {
    let found = {
        let keys: Vec<_> = wanted.iter().map(|wanted| &wanted.what).collect();
        connections.read_for(thread, async |connection| Ok(K::find(connection, &keys).await?)).await
    };
    let mut found = found.map_err(Unavailable::from);
    while let Some(next) = wanted.pop() {
        let is_wanted_again = || wanted.iter().any(|other| other.what == next.what);
        let answer = match &mut found {
            Ok(found) if is_wanted_again() => Ok(found.get(&next.what).cloned()),
            Ok(found) => Ok(found.remove(&next.what)),
            Err(unavailable) => Err(unavailable.clone()),
        };
        let answer = answer.and_then(|found| found.transpose().map_err(Unavailable::from));
        // Who asked may have gone.
        let _ = next.reply.send(answer);
    }
}

/// The keys, the last as often as it takes to make enough for one plan.
fn repeated<T: Clone>(keys: impl Iterator<Item = T>) -> Vec<T> {
    let mut keys: Vec<_> = keys.collect();
    if let Some(last) = keys.last().cloned() {
        keys.resize(keys.len().max(PLANNED_FOR), last);
    }
    keys
}

impl Key for PhoneNumber {
    type Value = Loaded<Registration>;

    /// With its attempts.
    async fn find(connection: &AsyncPgConnection, keys: &[&Self]) -> QueryResult<Found<Self, Self::Value>> {
        static TEXT: OnceLock<String> = OnceLock::new();
        let phones = repeated(keys.iter().map(|phone| phone.as_str()));
        let query = registrations::table
            .left_join(attempts::table)
            .filter(registrations::phone.eq_any(phones))
            .select((RegistrationRow::as_select(), Option::<AttemptRow>::as_select()));
        let rows: Vec<(RegistrationRow, Option<AttemptRow>)> =
            Fixed { text: &TEXT, query }.load(&mut &*connection).await?;
        let mut found: HashMap<String, (RegistrationRow, Vec<AttemptRow>)> = HashMap::new();
        for (row, attempt) in rows {
            let (_, attempts) = found.entry(row.phone.clone()).or_insert_with(|| (row, Vec::new()));
            attempts.extend(attempt);
        }
        let load = |&phone: &&Self| {
            let (row, attempts) = found.remove(phone.as_str())?;
            Some((phone.clone(), row.load(attempts)))
        };
        Ok(keys.iter().filter_map(load).collect())
    }
}

impl Key for (UserId, SessionId) {
    type Value = SignedInAccount;

    async fn find(connection: &AsyncPgConnection, keys: &[&Self]) -> QueryResult<Found<Self, Self::Value>> {
        static TEXT: OnceLock<String> = OnceLock::new();
        let ids = repeated(keys.iter().map(|(_, session)| session.uuid()));
        let query = accounts::table
            .inner_join(sessions::table.on(sessions::user_id.eq(accounts::user_id)))
            .filter(sessions::id.eq_any(ids))
            .select((AccountRow::as_select(), SessionRow::as_select()));
        let rows: Vec<(AccountRow, SessionRow)> =
            Fixed { text: &TEXT, query }.load(&mut &*connection).await?;
        let load = |(account, session): (AccountRow, SessionRow)| {
            ((UserId::new(account.user_id), SessionId::new(session.id)), signed_in(account, session))
        };
        Ok(rows.into_iter().map(load).collect())
    }
}

impl Key for RefreshTokenHash {
    type Value = RefreshState;

    async fn find(connection: &AsyncPgConnection, keys: &[&Self]) -> QueryResult<Found<Self, Self::Value>> {
        static TEXT: OnceLock<String> = OnceLock::new();
        let hashes = repeated(keys.iter().map(|token| token.digest().to_vec()));
        let query = refresh_tokens::table
            .inner_join(sessions::table.on(sessions::id.eq(refresh_tokens::session_id)))
            .inner_join(accounts::table.on(accounts::user_id.eq(sessions::user_id)))
            .filter(refresh_tokens::hash.eq_any(hashes))
            .select((RefreshTokenRow::as_select(), AccountRow::as_select(), SessionRow::as_select()));
        let rows: Vec<(RefreshTokenRow, AccountRow, SessionRow)> =
            Fixed { text: &TEXT, query }.load(&mut &*connection).await?;
        let load = |(token, account, session): (RefreshTokenRow, AccountRow, SessionRow)| {
            let hash = token.hash.as_slice().try_into().ok()?;
            let load = || Ok(RefreshState { token: token.load()?, signed_in: signed_in(account, session)? });
            Some((Self::restore(hash), load()))
        };
        Ok(rows.into_iter().filter_map(load).collect())
    }
}

fn signed_in(account: AccountRow, session: SessionRow) -> Result<SignedInAccount, Unreadable> {
    Ok(SignedInAccount { account: account.load()?, session: session.load()? })
}
