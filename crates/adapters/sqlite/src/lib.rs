//! The storage port on an embedded SQLite database: the default, with nothing to install.
//!
//! One thread writes; commits that wait for it share a transaction and so an fsync, each in a savepoint of its own.
//! Reads have connections beside it and see every commit that was acknowledged (write-ahead log). A commit
//! survives the loss of power (`synchronous = FULL`).
//!
//! Not here: what may change and why, which is the domain's; the tables, which are in `migrations/sqlite`.

mod answers;
mod archive;
mod commit;
mod connection;
mod migrate;
mod outbox;
mod pumping;
mod rows;
mod schema;
mod spending;
mod sweep;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use libsqlite3_sys as _;
use time::UtcDateTime;
use tokio::sync::Notify;
use uuid::Uuid;
use vestibule_domain::audit::Fact;
use vestibule_domain::limits::{Limit, Step};
use vestibule_domain::pumping::{HeldCodes, TracedCode};
use vestibule_domain::registration::Registration;
use vestibule_domain::spending::{Purse, Spent};
use vestibule_domain::{
    Account, AttemptId, DeliveryState, EmailAddress, EmailVerificationId, Message, PhoneNumber,
    RefreshTokenHash, Session, SessionId, UserId,
};
use vestibule_port_storage::{
    Budgets, Changes, CommitError, Credentials, FactsOf, KeyEvidence, KeyMark, Level, Loaded, NumberDigest,
    Page, RefreshState, SignUpState, SignatureDigest, SignedInAccount, Storage, Sweep, Unavailable,
};

pub use archive::SqliteArchive;

use connection::{Readers, Writer, connect, unavailable};
use migrate::{Tables, run_pending, tables};
use pumping::HeldCodesRow;
use rows::{
    AccountRow, AttemptRow, FactRow, GuardRow, MessageRow, PasswordRow, RefreshTokenRow, RegistrationRow,
    ResetRow, SessionRow, Unreadable, bytes, digest, millis, moment, phone,
};
use schema::{
    accepted_signatures, accounts, attempts, deliveries, facts, held_codes, key_mark, limits, messages,
    password_resets, passwords, refresh_tokens, registrations, sessions, sign_in_guards, used_numbers,
};

/// The storage port on SQLite.
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
    queued: Arc<Notify>,
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path is not UTF-8.
    #[error("the path of the database is not UTF-8")]
    Path,
    /// The file or the directory that it lies in cannot be made or reached.
    #[error("cannot make or reach the database: {0}")]
    Directory(#[from] std::io::Error),
    /// It cannot be opened.
    #[error("cannot open the database: {0}")]
    Connection(#[from] diesel::ConnectionError),
    /// It cannot be set up.
    #[error("cannot set up the database: {0}")]
    Setup(#[from] diesel::result::Error),
    /// Its tables cannot be brought up to date.
    #[error("cannot migrate the database: {0}")]
    Migration(String),
    /// Its tables are older than this version needs.
    #[error("the tables are not up to date: run `vestibule migrate`")]
    Outdated,
    /// Its tables were migrated by a newer version.
    #[error(
        "the tables are of a newer version: start that version, or restore the backup from before the upgrade"
    )]
    Newer,
    /// There is none to read.
    #[error("there is no such file")]
    Missing,
    /// There is none yet.
    #[error("there is no database yet: run `vestibule migrate`")]
    NotMade,
    /// No thread can be started.
    #[error("cannot start the writer's thread")]
    Thread,
}

/// What to do with tables that are older than this version needs, or not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// Bring them up to date, and make the file and its directory if there is none.
    Yes,
    /// Refuse to open.
    No,
    /// Leave them as they are, and open all the same: for who is content to look at everything else.
    Leave,
}

impl Sqlite {
    /// Opens the database file. Up to `readers` reads run at once.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(path: &Path, readers: usize, migrate: Migrate) -> Result<Self, OpenError> {
        if migrate == Migrate::Yes {
            make_directory(path)?;
            make_file(path)?;
        }
        let connection = match path.try_exists()?.then(|| connect(path)).transpose()? {
            Some(mut connection) => {
                if migrate == Migrate::Yes {
                    run_pending(&mut connection)?;
                }
                match tables(&mut connection)? {
                    Tables::Older if migrate != Migrate::Leave => return Err(OpenError::Outdated),
                    Tables::Newer => return Err(OpenError::Newer),
                    Tables::Current | Tables::Older => Some(connection),
                }
            }
            None if migrate == Migrate::Leave => None,
            None => return Err(OpenError::NotMade),
        };
        Ok(Self {
            writer: Writer::start(path.to_owned(), connection)?,
            readers: Readers::new(path.to_owned(), readers),
            queued: Arc::default(),
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut SqliteConnection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.readers.run(read).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.writer.run(work).await
    }
}

/// Why a statement failed.
enum Failure {
    Database(diesel::result::Error),
    Unavailable(Unavailable),
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unavailable(unreadable.into())
    }
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => unavailable(&error),
            Failure::Unavailable(unavailable) => unavailable,
        }
    }
}

#[async_trait]
impl Storage for Sqlite {
    async fn sign_up_state(
        &self,
        phone: &PhoneNumber,
        digest: &NumberDigest,
        limits: &[Limit],
    ) -> Result<SignUpState, Unavailable> {
        let (phone, digest, limits) = (phone.as_str().to_owned(), digest.0, limits.to_vec());
        self.read(move |connection| {
            let registration = load_registration(connection, &phone)?;
            let used = used_numbers::table.find(digest.as_slice());
            let number_used = diesel::select(diesel::dsl::exists(used)).get_result(connection)?;
            let budgets = load_budgets(connection, &limits)?;
            Ok(SignUpState { registration, number_used, budgets })
        })
        .await
    }

    async fn registration(&self, phone: &PhoneNumber) -> Result<Option<Loaded<Registration>>, Unavailable> {
        let phone = phone.as_str().to_owned();
        self.read(move |connection| load_registration(connection, &phone)).await
    }

    async fn account_of_session(
        &self,
        user: UserId,
        session: SessionId,
    ) -> Result<Option<SignedInAccount>, Unavailable> {
        self.read(move |connection| {
            let rows: Option<(AccountRow, SessionRow)> = accounts::table
                .inner_join(sessions::table.on(sessions::user_id.eq(accounts::user_id)))
                .filter(sessions::id.eq(bytes(session.uuid())))
                .filter(accounts::user_id.eq(bytes(user.uuid())))
                .select((AccountRow::as_select(), SessionRow::as_select()))
                .first(connection)
                .optional()?;
            Ok(rows.map(signed_in).transpose()?)
        })
        .await
    }

    async fn refresh_state(&self, token: &RefreshTokenHash) -> Result<Option<RefreshState>, Unavailable> {
        let token = *token;
        self.read(move |connection| {
            let rows: Option<(RefreshTokenRow, AccountRow, SessionRow)> = refresh_tokens::table
                .inner_join(sessions::table.on(sessions::id.eq(refresh_tokens::session_id)))
                .inner_join(accounts::table.on(accounts::user_id.eq(sessions::user_id)))
                .filter(refresh_tokens::hash.eq(token.digest().as_slice()))
                .select((RefreshTokenRow::as_select(), AccountRow::as_select(), SessionRow::as_select()))
                .first(connection)
                .optional()?;
            let Some((token, account, session)) = rows else {
                return Ok(None);
            };
            Ok(Some(RefreshState { token: token.load()?, signed_in: signed_in((account, session))? }))
        })
        .await
    }

    async fn credentials(&self, phone: &PhoneNumber, limits: &[Limit]) -> Result<Credentials, Unavailable> {
        let (phone, limits) = (phone.as_str().to_owned(), limits.to_vec());
        self.read(move |connection| load_credentials(connection, &phone, &limits)).await
    }

    async fn budgets(&self, of: &[Limit]) -> Result<Budgets, Unavailable> {
        let of = of.to_vec();
        self.read(move |connection| load_budgets(connection, &of)).await
    }

    async fn account(&self, user: UserId) -> Result<Option<Loaded<Account>>, Unavailable> {
        self.read(move |connection| {
            let row: Option<AccountRow> = accounts::table
                .find(bytes(user.uuid()))
                .select(AccountRow::as_select())
                .first(connection)
                .optional()?;
            Ok(row.map(AccountRow::load).transpose()?)
        })
        .await
    }

    async fn sessions(&self, user: UserId) -> Result<Vec<Session>, Unavailable> {
        self.read(move |connection| {
            let rows: Vec<SessionRow> = sessions::table
                .filter(sessions::user_id.eq(bytes(user.uuid())))
                .order((sessions::created_at.desc(), sessions::id.desc()))
                .select(SessionRow::as_select())
                .load(connection)?;
            rows.into_iter().map(|row| Ok(row.load()?.value)).collect()
        })
        .await
    }

    async fn facts(&self, of: FactsOf, limit: usize) -> Result<Vec<Fact>, Unavailable> {
        self.read(move |connection| {
            let newest = facts::table
                .order((facts::at.desc(), facts::id.desc()))
                .limit(i64::try_from(limit).unwrap_or(i64::MAX))
                .select(FactRow::as_select());
            let rows: Vec<FactRow> = match of {
                FactsOf::User(user) => {
                    newest.filter(facts::user_id.eq(bytes(user.uuid()))).load(connection)?
                }
                FactsOf::Number(NumberDigest(digest)) => {
                    newest.filter(facts::number.eq(digest.as_slice())).load(connection)?
                }
            };
            rows.into_iter().map(|row| Ok(row.load()?)).collect()
        })
        .await
    }

    async fn waiting_messages(&self, account: &Account) -> Result<Vec<Message>, Unavailable> {
        let email = account.email();
        let to_phone = messages::phone.eq(account.phone().as_str().to_owned());
        let with_link = messages::link.eq(email.verification().map(|link| bytes(link.uuid())));
        let to_confirmed = messages::email.eq(email.confirmed().map(|address| address.as_str().to_owned()));
        self.read(move |connection| {
            let rows: Vec<MessageRow> = messages::table
                .filter(messages::dead.eq(false))
                .filter(to_phone.or(with_link).or(to_confirmed))
                .order((messages::queued_at.desc(), messages::id.desc()))
                .select(MessageRow::as_select())
                .load(connection)?;
            rows.iter().map(|row| Ok(row.load()?)).collect()
        })
        .await
    }

    async fn account_by_email_verification(
        &self,
        link: EmailVerificationId,
    ) -> Result<Option<Loaded<Account>>, Unavailable> {
        self.read(move |connection| {
            let row: Option<AccountRow> = accounts::table
                .filter(accounts::email_link.eq(bytes(link.uuid())))
                .select(AccountRow::as_select())
                .first(connection)
                .optional()?;
            Ok(row.map(AccountRow::load).transpose()?)
        })
        .await
    }

    async fn email_confirmed_by_other(
        &self,
        address: &EmailAddress,
        user: UserId,
    ) -> Result<bool, Unavailable> {
        let canonical = address.canonical().to_owned();
        self.read(move |connection| {
            let others = accounts::table
                .filter(accounts::email_canonical.eq(canonical))
                .filter(accounts::email_confirmed.eq(true))
                .filter(accounts::user_id.ne(bytes(user.uuid())));
            Ok(diesel::select(diesel::dsl::exists(others)).get_result(connection)?)
        })
        .await
    }

    async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        let wake = (!changes.messages.is_empty()).then(|| Arc::clone(&self.queued));
        let work = move |connection: &mut SqliteConnection| commit::apply(connection, changes);
        // The writer wakes the dispatcher: the caller may have gone by then.
        let woken = move || wake.into_iter().for_each(|queued| queued.notify_one());
        self.writer.run_then(work, woken).await.map_err(|refused| refused.0)
    }

    async fn delivery(&self, attempt: AttemptId) -> Result<Option<DeliveryState>, Unavailable> {
        self.read(move |connection| newest_delivery(connection, &bytes(attempt.uuid()))).await
    }

    async fn spent(&self, of: &[Purse], now: UtcDateTime) -> Result<Vec<Spent>, Unavailable> {
        let of = of.to_vec();
        self.read(move |connection| spending::load(connection, &of, now)).await
    }

    async fn budgets_in_use(&self, step: Step, now: UtcDateTime, limit: u32) -> Result<Budgets, Unavailable> {
        self.read(move |connection| pumping::budgets_in_use(connection, step, millis(now), limit)).await
    }

    async fn record_held_codes(&self, held: &[(Uuid, HeldCodes)]) -> Result<(), Unavailable> {
        let rows: Vec<_> = held.iter().map(HeldCodesRow::of).collect();
        // One by one: they share a transaction, and a statement has not as many variables.
        let insert = move |connection: &mut SqliteConnection| {
            rows.iter().try_for_each(|row| {
                diesel::insert_into(held_codes::table).values(row).execute(connection).map(|_| ())
            })?;
            Ok(())
        };
        Ok(self.write(insert).await?)
    }

    async fn sent_codes(&self, page: Page) -> Result<Vec<TracedCode>, Unavailable> {
        self.read(move |connection| pumping::sent_codes(connection, page)).await
    }

    async fn held_codes(&self, page: Page) -> Result<Vec<(Uuid, HeldCodes)>, Unavailable> {
        self.read(move |connection| pumping::held_codes(connection, page)).await
    }

    async fn accept_signature(
        &self,
        signature: &SignatureDigest,
        forget_at: UtcDateTime,
    ) -> Result<bool, Unavailable> {
        let row = (
            accepted_signatures::digest.eq(signature.0.to_vec()),
            accepted_signatures::forget_at.eq(millis(forget_at)),
        );
        let insert = diesel::insert_into(accepted_signatures::table).values(row).on_conflict_do_nothing();
        Ok(self.write(move |connection| Ok(insert.execute(connection)? == 1)).await?)
    }

    async fn key_evidence(&self) -> Result<KeyEvidence, Unavailable> {
        self.read(|connection| {
            let mark: Option<Vec<u8>> =
                key_mark::table.select(key_mark::mark).first(connection).optional()?;
            let mark = mark.map(digest).transpose()?.map(KeyMark);
            // The newest: their ids are ordered by time.
            let newest = accounts::table.order(accounts::user_id.desc()).select(accounts::phone);
            let number: Option<String> = newest.first(connection).optional()?;
            Ok(KeyEvidence { mark, phone: number.as_deref().map(phone).transpose()? })
        })
        .await
    }

    async fn keep_key_mark(&self, mark: &KeyMark) -> Result<KeyMark, Unavailable> {
        let row = (key_mark::one.eq(1), key_mark::mark.eq(mark.0.to_vec()));
        let insert = diesel::insert_into(key_mark::table).values(row).on_conflict_do_nothing();
        let kept = self.write(move |connection| {
            insert.execute(connection)?;
            let kept: Vec<u8> = key_mark::table.select(key_mark::mark).first(connection)?;
            Ok(KeyMark(digest(kept)?))
        });
        Ok(kept.await?)
    }

    async fn sweep(&self, sweep: Sweep) -> Result<usize, Unavailable> {
        Ok(self.write(move |connection| sweep::forget(connection, &sweep)).await?)
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.read(|connection| Ok(connection.batch_execute("SELECT 1 FROM messages LIMIT 1")?)).await?;
        // The writer too, and the tables' version as it sees it. Nothing is written, so nothing is flushed.
        let tables = self.write(|connection| {
            tables(connection).map_err(|error| Failure::Unavailable(Unavailable(error.to_string())))
        });
        match tables.await? {
            // During an upgrade the old version serves on while a newer one has migrated.
            Tables::Current | Tables::Newer => Ok(()),
            Tables::Older => Err(Unavailable(OpenError::Outdated.to_string())),
        }
    }
}

fn load_registration(
    connection: &mut SqliteConnection,
    phone: &str,
) -> Result<Option<Loaded<Registration>>, Failure> {
    let row: Option<RegistrationRow> =
        registrations::table.find(phone).select(RegistrationRow::as_select()).first(connection).optional()?;
    let Some(row) = row else {
        return Ok(None);
    };
    let attempts: Vec<AttemptRow> = attempts::table
        .filter(attempts::phone.eq(phone))
        .order((attempts::created_at, attempts::id))
        .select(AttemptRow::as_select())
        .load(connection)?;
    Ok(Some(row.load(attempts)?))
}

fn signed_in((account, session): (AccountRow, SessionRow)) -> Result<SignedInAccount, Unreadable> {
    Ok(SignedInAccount { account: account.load()?, session: session.load()? })
}

fn load_credentials(
    connection: &mut SqliteConnection,
    phone: &str,
    limits: &[Limit],
) -> Result<Credentials, Failure> {
    let account: Option<AccountRow> = accounts::table
        .filter(accounts::phone.eq(phone))
        .select(AccountRow::as_select())
        .first(connection)
        .optional()?;
    // Asked for by the number, so that one without an account is as many statements.
    let passwords: Vec<PasswordRow> = passwords::table
        .inner_join(accounts::table.on(accounts::user_id.eq(passwords::user_id)))
        .filter(accounts::phone.eq(phone))
        .order(passwords::set_at.desc())
        .select(PasswordRow::as_select())
        .load(connection)?;
    let guard: Option<GuardRow> =
        sign_in_guards::table.find(phone).select(GuardRow::as_select()).first(connection).optional()?;
    let reset: Option<ResetRow> =
        password_resets::table.find(phone).select(ResetRow::as_select()).first(connection).optional()?;
    Ok(Credentials {
        account: account.map(AccountRow::load).transpose()?,
        passwords: passwords.into_iter().map(PasswordRow::load).collect::<Result<_, _>>()?,
        guard: guard.map(GuardRow::load).transpose()?,
        reset: reset.map(ResetRow::load).transpose()?,
        budgets: load_budgets(connection, limits)?,
    })
}

fn load_budgets(connection: &mut SqliteConnection, of: &[Limit]) -> Result<Budgets, Failure> {
    let mut budgets = Budgets::default();
    for limit in of {
        let budget = limits::table.find(limit.to_string()).select(limits::full_at);
        let full_at: Option<i64> = budget.first(connection).optional()?;
        if let Some(full_at) = full_at {
            budgets.0.insert(*limit, Level::whole(moment(full_at)?));
        }
    }
    Ok(budgets)
}

fn newest_delivery(
    connection: &mut SqliteConnection,
    attempt: &[u8],
) -> Result<Option<DeliveryState>, Failure> {
    let queued: Option<(i64, bool)> = messages::table
        .filter(messages::attempt.eq(attempt))
        .order(messages::queued_at.desc())
        .select((messages::queued_at, messages::dead))
        .first(connection)
        .optional()?;
    let left: Option<(i64, String)> = deliveries::table
        .filter(deliveries::attempt.eq(attempt))
        .order(deliveries::queued_at.desc())
        .select((deliveries::queued_at, deliveries::state))
        .first(connection)
        .optional()?;
    Ok(match (queued, left) {
        (Some((queued_at, dead)), left) if left.as_ref().is_none_or(|(left_at, _)| *left_at <= queued_at) => {
            Some(if dead { DeliveryState::Failed } else { DeliveryState::Queued })
        }
        (_, Some((_, state))) => Some(DeliveryState::parse(&state).ok_or(Unreadable("a message's state"))?),
        (_, None) => None,
    })
}

/// An empty file, which SQLite takes for an empty database. It gives its mode to the files that it puts beside.
fn make_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Only the service's own user needs to read what is in it.
fn make_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match path.parent() {
        Some(directory) if directory != PathBuf::new() => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
        }
        _ => Ok(()),
    }
}
