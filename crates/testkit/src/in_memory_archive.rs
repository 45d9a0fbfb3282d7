use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use vestibule_port_storage::archive::{
    Archive, ArchiveSource, ArchiveTarget, ImportError, Key, Record, Table,
};
use vestibule_port_storage::{KeyMark, Unavailable};

/// An archive in memory. It passes the same contract as the databases, and can be changed and interrupted.
#[derive(Default)]
pub struct InMemoryArchive(Mutex<State>);

#[derive(Default)]
struct State {
    /// In the order of tables, and of keys within a table.
    records: Vec<Record>,
    writes_left: Option<usize>,
    served: bool,
    changed: bool,
}

impl State {
    fn take_write(&mut self) -> Result<(), Unavailable> {
        match &mut self.writes_left {
            Some(0) => return Err(Unavailable("taken down by a test".to_owned())),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }
}

impl InMemoryArchive {
    /// One that holds the records.
    #[must_use]
    pub fn of(records: Vec<Record>) -> Self {
        let archive = Self::default();
        archive.tamper(|kept| kept.extend(records));
        archive
    }

    /// Changes the records as somebody else would.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<Record>)) {
        let mut state = self.lock();
        change(&mut state.records);
        state.records.sort_by_key(place);
        state.changed = true;
    }

    /// Takes note of what is there as unchanged.
    pub fn settle(&self) {
        self.lock().changed = false;
    }

    /// Holds, from now on, what a service leaves behind that is not moved.
    pub fn serve(&self) {
        self.lock().served = true;
    }

    /// Takes so many more writes, then none: as if it had gone down.
    pub fn fail_after(&self, writes: usize) {
        self.lock().writes_left = Some(writes);
    }

    /// Takes writes again.
    pub fn recover(&self) {
        self.lock().writes_left = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Archive for InMemoryArchive {
    async fn export(
        &self,
        table: Table,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, Unavailable> {
        let after = after.map(bytes);
        let is_next = |record: &&Record| {
            let (of, key) = place(record);
            of == number(table) && after.as_ref().is_none_or(|after| key > *after)
        };
        Ok(self.lock().records.iter().filter(is_next).take(limit).cloned().collect())
    }

    async fn count(&self, table: Table) -> Result<u64, Unavailable> {
        Ok(self.lock().records.iter().filter(|record| place(record).0 == number(table)).count() as u64)
    }
}

#[async_trait]
impl ArchiveSource for InMemoryArchive {
    async fn has_changed(&self) -> Result<bool, Unavailable> {
        Ok(self.lock().changed)
    }
}

#[async_trait]
impl ArchiveTarget for InMemoryArchive {
    async fn import(&self, records: Vec<Record>) -> Result<(), ImportError> {
        let mut state = self.lock();
        state.take_write()?;
        let mut next = state.records.clone();
        for record in records {
            if next.iter().any(|other| other.key() == record.key()) {
                return Err(ImportError::Conflict);
            }
            next.push(record);
        }
        next.sort_by_key(place);
        state.records = next;
        Ok(())
    }

    async fn finish(&self, mark: Option<KeyMark>) -> Result<(), ImportError> {
        let mut state = self.lock();
        state.take_write()?;
        let unfinished = Record::KeyMark(KeyMark::OF_AN_UNFINISHED_COPY);
        let place =
            state.records.iter().position(|record| *record == unfinished).ok_or(ImportError::Conflict)?;
        state.records.splice(place..=place, mark.map(Record::KeyMark));
        Ok(())
    }

    async fn trace_of_service(&self) -> Result<Option<&'static str>, Unavailable> {
        Ok(self.lock().served.then_some("sent_codes"))
    }
}

/// Where a record stands.
fn place(record: &Record) -> (usize, Vec<u8>) {
    let table = match record {
        Record::KeyMark(_) => Table::KeyMark,
        Record::Registration(_) => Table::Registrations,
        Record::Account(_) => Table::Accounts,
        Record::Password(_) => Table::Passwords,
        Record::UsedNumber(_) => Table::UsedNumbers,
        Record::Session(_) => Table::Sessions,
        Record::RefreshToken(_) => Table::RefreshTokens,
        Record::Budget(_) => Table::Limits,
        Record::Message(_) => Table::Messages,
        Record::Delivery(_) => Table::Deliveries,
        Record::Guard(_) => Table::SignInGuards,
        Record::Reset(_) => Table::PasswordResets,
        Record::Fact(_) => Table::Facts,
    };
    (number(table), bytes(&record.key()))
}

fn number(table: Table) -> usize {
    Table::ALL.into_iter().position(|other| other == table).unwrap_or(usize::MAX)
}

fn bytes(key: &Key) -> Vec<u8> {
    match key {
        Key::KeyMark => Vec::new(),
        Key::Registration(phone) | Key::Guard(phone) | Key::Reset(phone) => phone.as_str().into(),
        Key::Account(user) => user.uuid().into(),
        Key::Password(user, set_at) => {
            // Moments after 1970 are in the order of their bytes.
            [user.uuid().as_bytes().as_slice(), &set_at.unix_timestamp_nanos().to_be_bytes()].concat()
        }
        Key::UsedNumber(digest) => digest.0.into(),
        Key::Session(session) => session.uuid().into(),
        Key::RefreshToken(hash) => hash.digest().as_slice().into(),
        Key::Budget(limit) => limit.to_string().into(),
        Key::Message(id) | Key::Delivery(id) => id.uuid().into(),
        Key::Fact(id) => id.uuid().into(),
    }
}
