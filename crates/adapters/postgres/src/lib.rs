//! The storage port on PostgreSQL 13 and later: for production, and for any number of instances on one database.
//!
//! A commit is one statement, and so one round trip and one transaction: see `statement.rs`. What comes at once is done together: see
//! `gather.rs`. Reads have connections of their own, so that a flood of commits does not delay them. The outbox is claimed with
//! `FOR UPDATE SKIP LOCKED`; instances tell each other of messages by `NOTIFY`, and where a pooler swallows that they find out by looking.
//!
//! Not here: what may change and why, which is the domain's; the tables, which are in `migrations/postgres`; state that another
//! instance would need.

mod address;
mod answers;
mod archive;
mod budgets;
mod commit;
mod commits;
mod connection;
mod gather;
mod listen;
mod lookups;
mod migrate;
mod outbox;
mod pumping;
mod rows;
mod schema;
mod shared;
mod spending;
mod statement;
mod sweep;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, JoinOnDsl as _, OptionalExtension as _,
    QueryDsl as _, SelectableHelper as _,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use futures_util::future::try_join;
use time::{OffsetDateTime, UtcDateTime};
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
    Budgets, Changes, CommitError, Credentials, FactsOf, KeyEvidence, KeyMark, Loaded, NumberDigest, Page,
    RefreshState, SignUpState, SignatureDigest, SignedInAccount, Storage, Sweep, Unavailable,
};

use address::Address;
use commits::Commits;
use connection::{ConnectError, Connections, discard, is_of_demoted, unavailable};
use listen::Neighbours;
use lookups::{Key as _, Lookups};
use migrate::Tables;
use rows::{
    AccountRow, FactRow, GuardRow, MessageRow, PasswordRow, ResetRow, SessionRow, Unreadable, digest, phone,
    stamp,
};
use schema::{
    accepted_signatures, accounts, asked, deliveries, facts, key_mark, messages, password_resets, passwords,
    sessions, sign_in_guards, used_numbers,
};
use shared::Shared;
use statement::{Asked, Fixed};

/// The storage port on PostgreSQL.
pub struct Postgres {
    writes: Connections,
    reads: Connections,
    short_reads: Arc<Shared>,
    registrations: Lookups<PhoneNumber>,
    signed_in: Lookups<(UserId, SessionId)>,
    refresh_tokens: Lookups<RefreshTokenHash>,
    commits: Commits,
    neighbours: Arc<Neighbours>,
}

/// Why a database cannot be used. Each says what to do about it, and none repeats a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL makes no sense.
    #[error("it must be `postgres://user:password@host:port/database`: {0}")]
    Url(String),
    /// There are no authorities to verify the server's certificate with.
    #[error("no certificate authority can be read from {0}: name a PEM file with `sslrootcert`")]
    Roots(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The server cannot be reached.
    #[error("the server cannot be reached: {0}; is it running, and are host and port right?")]
    Unreachable(String),
    /// The server is there and begins no session, for a reason of its own.
    #[error("the server answers, and begins no session: {0}; are user, password and database right?")]
    NoSession(String),
    /// The server's certificate is not one to trust.
    #[error(
        "the server's certificate is refused ({0}): name its authority's PEM file with `sslrootcert`, and the host by a name that \
         the certificate holds"
    )]
    Certificate(String),
    /// The server does not speak TLS.
    #[error(
        "the server does not speak TLS: enable it there, or write `sslmode=disable` if the network is safe"
    )]
    NoTls,
    /// User or password are wrong, or the user may not connect.
    #[error(
        "the server refuses the user: check user and password, that `pg_hba.conf` lets it in, and that it may connect to the database ({0})"
    )]
    Refused(String),
    /// The server has as many connections as it takes.
    #[error("the server has no connection left: lower `database.pool_size`, or raise its limit ({0})")]
    Full(String),
    /// There is no such database.
    #[error("there is no such database: create it first ({0})")]
    NoDatabase(String),
    /// The server is too old.
    #[error("the server is PostgreSQL {0}: version 13 or later is needed")]
    Server(String),
    /// The database can't hold every text.
    #[error("the database has the encoding {0}: create it with `ENCODING 'UTF8' TEMPLATE template0`")]
    Encoding(String),
    /// The server is a standby, or was told to take no writes.
    #[error(
        "the server takes no writes: it is a standby, or its settings or the user's say so (`default_transaction_read_only`); \
         name the primary"
    )]
    ReadOnly,
    /// Its tables cannot be brought up to date.
    #[error("the tables cannot be brought up to date: {0}")]
    Migration(String),
    /// The user may not make or change tables.
    #[error(
        "the tables cannot be made or changed: the user must own the database and its tables, or be allowed to create in its schema ({0})"
    )]
    Forbidden(String),
    /// Its tables are older than this version needs.
    #[error("the tables are not up to date: run `vestibule migrate`")]
    Outdated,
    /// Its tables were migrated by a newer version.
    #[error(
        "the tables are of a newer version: start that version, or restore the backup from before the upgrade"
    )]
    Newer,
}

/// What to do with tables that are older than this version needs, or not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// Bring them up to date. Several instances may do so at once: one does, the others wait.
    Yes,
    /// Make them where there are none, and refuse older ones: somebody else may use those.
    IfNone,
    /// Refuse to open.
    No,
    /// Leave them as they are, and open all the same: for who is content to look at everything else.
    Leave,
}

impl Postgres {
    /// Connects, checks the server, and does with the tables as it is told. Up to `pool_size` commits and a quarter as many long reads run
    /// at once, each on a connection of its own; short reads share as many again; one more connection listens.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn open(url: &str, pool_size: u32, migrate: Migrate) -> Result<Self, OpenError> {
        let address = Address::parse(url)?;
        migrate::prepare(&address, migrate).await?;
        let (writes, neighbours) =
            (Connections::new(&address, pool_size, "writes"), Neighbours::meet(address.clone()));
        let short_reads = Arc::new(Shared::new(&address, pool_size.div_ceil(4)));
        Ok(Self {
            reads: Connections::new(&address, pool_size.div_ceil(4), "reads"),
            registrations: Lookups::new(&short_reads),
            signed_in: Lookups::new(&short_reads),
            refresh_tokens: Lookups::new(&short_reads),
            commits: Commits::new(&writes, &neighbours, short_reads.size()),
            short_reads,
            writes,
            neighbours,
        })
    }

    /// Tells how many connections there are, of those that are taken for one piece of work.
    pub fn measure(&self) {
        self.writes.measure();
        self.reads.measure();
    }

    async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&AsyncPgConnection) -> Result<T, Failure>,
    ) -> Result<T, Unavailable> {
        on(&self.reads, read).await
    }

    /// A read that is over soon: see [`Shared`].
    async fn read_shortly<T>(
        &self,
        read: impl AsyncFnOnce(&AsyncPgConnection) -> Result<T, Failure>,
    ) -> Result<T, Unavailable> {
        self.short_reads.read(read).await.map_err(Unavailable::from)
    }

    async fn write<T>(
        &self,
        write: impl AsyncFnOnce(&AsyncPgConnection) -> Result<T, Failure>,
    ) -> Result<T, Unavailable> {
        on(&self.writes, write).await
    }
}

/// Does work on a connection of the pool.
async fn on<T>(
    connections: &Connections,
    work: impl AsyncFnOnce(&AsyncPgConnection) -> Result<T, Failure>,
) -> Result<T, Unavailable> {
    connections
        .lend(async |connection| {
            work(connection).await.map_err(|failure| {
                if failure.is_of_demoted() {
                    discard(connection);
                }
                Unavailable::from(failure)
            })
        })
        .await
}

/// Why work failed.
enum Failure {
    Database(diesel::result::Error),
    Unreadable(Unreadable),
    /// The server was asked whether it takes writes, and does not.
    ReadOnly,
    Unavailable(Unavailable),
}

impl Failure {
    /// Whether a fresh connection may find a server that takes writes.
    fn is_of_demoted(&self) -> bool {
        matches!(self, Self::ReadOnly) || matches!(self, Self::Database(error) if is_of_demoted(error))
    }
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => unavailable(&error),
            Failure::Unreadable(unreadable) => unreadable.into(),
            Failure::ReadOnly => Self(OpenError::ReadOnly.to_string()),
            Failure::Unavailable(unavailable) => unavailable,
        }
    }
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl From<ConnectError> for OpenError {
    fn from(error: ConnectError) -> Self {
        use tokio_postgres::error::SqlState;

        if error.takes_no_writes() {
            return Self::ReadOnly;
        }
        let said = error.to_string();
        let server = match error {
            ConnectError::Server(server) => server,
            ConnectError::Silent => return Self::Unreachable(said),
            ConnectError::Setup(_) => return Self::NoSession(said),
        };
        if let Some(problem) = certificate_problem(&server) {
            return Self::Certificate(problem);
        }
        match server.code() {
            Some(&SqlState::INVALID_CATALOG_NAME) => Self::NoDatabase(said),
            Some(
                &SqlState::INVALID_PASSWORD
                | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                | &SqlState::INSUFFICIENT_PRIVILEGE,
            ) => Self::Refused(said),
            Some(&SqlState::TOO_MANY_CONNECTIONS) => Self::Full(said),
            // Also what a pooler says of a wrong password, or of a database that it does not know.
            Some(_) => Self::NoSession(said),
            // The driver has no names for these.
            None if said.contains("server does not support TLS") => Self::NoTls,
            None if said.contains("password missing") => Self::Refused("it wants a password".to_owned()),
            None => Self::Unreachable(said),
        }
    }
}

/// What is wrong with the server's certificate, if that is what went wrong.
fn certificate_problem(error: &tokio_postgres::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // An I/O error hides the error that it was made of.
        let within = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        if let Some(refused) = within.and_then(|error| error.downcast_ref::<rustls::Error>()) {
            return Some(refused.to_string());
        }
        cause = error.source();
    }
    None
}

#[async_trait]
impl Storage for Postgres {
    async fn sign_up_state(
        &self,
        phone: &PhoneNumber,
        digest: &NumberDigest,
        limits: &[Limit],
    ) -> Result<SignUpState, Unavailable> {
        let used = used_numbers::table.find(digest.0.to_vec());
        self.read_shortly(async |connection| {
            // All leave at once and run in this order: a registration that is confirmed in between is seen as it was before,
            // with a number that is used already, and never the other way round.
            let registration = async { Ok(PhoneNumber::find(connection, &[phone]).await?) };
            let used = diesel::select(diesel::dsl::exists(used)).get_result(&mut &*connection);
            let rest =
                async { try_join(used, budgets::load(connection, limits)).await.map_err(Failure::from) };
            let (mut registration, (number_used, budgets)) = try_join(registration, rest).await?;
            let registration = registration.remove(phone).transpose()?;
            Ok(SignUpState { registration, number_used, budgets })
        })
        .await
    }

    async fn registration(&self, phone: &PhoneNumber) -> Result<Option<Loaded<Registration>>, Unavailable> {
        self.registrations.get(phone.clone()).await
    }

    async fn account_of_session(
        &self,
        user: UserId,
        session: SessionId,
    ) -> Result<Option<SignedInAccount>, Unavailable> {
        self.signed_in.get((user, session)).await
    }

    async fn refresh_state(&self, token: &RefreshTokenHash) -> Result<Option<RefreshState>, Unavailable> {
        self.refresh_tokens.get(*token).await
    }

    async fn credentials(&self, phone: &PhoneNumber, limits: &[Limit]) -> Result<Credentials, Unavailable> {
        self.read_shortly(async |connection| {
            let budgets = async { Ok(budgets::load(connection, limits).await?) };
            let (credentials, budgets) = try_join(load_credentials(connection, phone), budgets).await?;
            Ok(Credentials { budgets, ..credentials })
        })
        .await
    }

    async fn budgets(&self, of: &[Limit]) -> Result<Budgets, Unavailable> {
        self.read_shortly(async |connection| Ok(budgets::load(connection, of).await?)).await
    }

    async fn account(&self, user: UserId) -> Result<Option<Loaded<Account>>, Unavailable> {
        self.read(async |connection| {
            let row: Option<AccountRow> = accounts::table
                .find(user.uuid())
                .select(AccountRow::as_select())
                .first(&mut &*connection)
                .await
                .optional()?;
            Ok(row.map(AccountRow::load).transpose()?)
        })
        .await
    }

    async fn sessions(&self, user: UserId) -> Result<Vec<Session>, Unavailable> {
        self.read(async |connection| {
            let rows: Vec<SessionRow> = sessions::table
                .filter(sessions::user_id.eq(user.uuid()))
                .order((sessions::created_at.desc(), sessions::id.desc()))
                .select(SessionRow::as_select())
                .load(&mut &*connection)
                .await?;
            rows.into_iter().map(|row| Ok(row.load()?.value)).collect()
        })
        .await
    }

    async fn facts(&self, of: FactsOf, limit: usize) -> Result<Vec<Fact>, Unavailable> {
        self.read(async |connection| {
            let newest = facts::table
                .order((facts::at.desc(), facts::id.desc()))
                .limit(i64::try_from(limit).unwrap_or(i64::MAX))
                .select(FactRow::as_select());
            let rows: Vec<FactRow> = match of {
                FactsOf::User(user) => {
                    newest.filter(facts::user_id.eq(user.uuid())).load(&mut &*connection).await?
                }
                FactsOf::Number(NumberDigest(digest)) => {
                    newest.filter(facts::number.eq(digest.to_vec())).load(&mut &*connection).await?
                }
            };
            rows.into_iter().map(|row| Ok(row.load()?)).collect()
        })
        .await
    }

    async fn waiting_messages(&self, account: &Account) -> Result<Vec<Message>, Unavailable> {
        let to_phone = messages::phone.eq(account.phone().as_str());
        let with_link = messages::link.eq(account.email().verification().map(EmailVerificationId::uuid));
        let to_confirmed = messages::email.eq(account.email().confirmed().map(EmailAddress::as_str));
        self.read(async |connection| {
            let rows: Vec<MessageRow> = messages::table
                .filter(messages::dead.eq(false))
                .filter(to_phone.or(with_link).or(to_confirmed))
                .order((messages::queued_at.desc(), messages::id.desc()))
                .select(MessageRow::as_select())
                .load(&mut &*connection)
                .await?;
            rows.iter().map(|row| Ok(row.message()?)).collect()
        })
        .await
    }

    async fn account_by_email_verification(
        &self,
        link: EmailVerificationId,
    ) -> Result<Option<Loaded<Account>>, Unavailable> {
        self.read(async |connection| {
            let row: Option<AccountRow> = accounts::table
                .filter(accounts::email_link.eq(link.uuid()))
                .select(AccountRow::as_select())
                .first(&mut &*connection)
                .await
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
        self.read(async |connection| {
            let others = accounts::table
                .filter(accounts::email_canonical.eq(address.canonical()))
                .filter(accounts::email_confirmed)
                .filter(accounts::user_id.ne(user.uuid()));
            Ok(diesel::select(diesel::dsl::exists(others)).get_result(&mut &*connection).await?)
        })
        .await
    }

    async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        self.commits.commit(changes).await
    }

    async fn delivery(&self, attempt: AttemptId) -> Result<Option<DeliveryState>, Unavailable> {
        let queued = messages::table
            .filter(messages::attempt.eq(attempt.uuid()))
            .order(messages::queued_at.desc())
            .select((messages::queued_at, messages::dead));
        let left = deliveries::table
            .filter(deliveries::attempt.eq(attempt.uuid()))
            .order(deliveries::queued_at.desc())
            .select((deliveries::queued_at, deliveries::state));
        self.read(async |connection| {
            // In this order a message that leaves in between is seen in the queue, never nowhere.
            let queued = async { queued.first(&mut &*connection).await.optional() };
            let left = async { left.first(&mut &*connection).await.optional() };
            let (queued, left): (Option<(OffsetDateTime, bool)>, Option<(OffsetDateTime, String)>) =
                try_join(queued, left).await?;
            Ok(match (queued, left) {
                (Some((queued_at, dead)), left) if left.as_ref().is_none_or(|(at, _)| *at < queued_at) => {
                    Some(if dead { DeliveryState::Failed } else { DeliveryState::Queued })
                }
                (_, Some((_, state))) => {
                    Some(DeliveryState::parse(&state).ok_or(Unreadable("a message's state"))?)
                }
                (_, None) => None,
            })
        })
        .await
    }

    async fn spent(&self, of: &[Purse], now: UtcDateTime) -> Result<Vec<Spent>, Unavailable> {
        self.read(async |connection| Ok(spending::load(connection, of, now).await?)).await
    }

    async fn budgets_in_use(&self, step: Step, now: UtcDateTime, limit: u32) -> Result<Budgets, Unavailable> {
        self.read(async |connection| Ok(budgets::in_use(connection, step, now, limit).await?)).await
    }

    async fn record_held_codes(&self, held: &[(Uuid, HeldCodes)]) -> Result<(), Unavailable> {
        self.write(async |connection| Ok(pumping::record(connection, held).await?)).await
    }

    async fn sent_codes(&self, page: Page) -> Result<Vec<TracedCode>, Unavailable> {
        self.read(async |connection| pumping::sent_codes(connection, page).await).await
    }

    async fn held_codes(&self, page: Page) -> Result<Vec<(Uuid, HeldCodes)>, Unavailable> {
        self.read(async |connection| pumping::held_codes(connection, page).await).await
    }

    async fn accept_signature(
        &self,
        signature: &SignatureDigest,
        forget_at: UtcDateTime,
    ) -> Result<bool, Unavailable> {
        let row = (
            accepted_signatures::digest.eq(signature.0.to_vec()),
            accepted_signatures::forget_at.eq(stamp(forget_at)),
        );
        let insert = diesel::insert_into(accepted_signatures::table).values(row).on_conflict_do_nothing();
        self.write(async |connection| Ok(insert.execute(&mut &*connection).await? == 1)).await
    }

    async fn key_evidence(&self) -> Result<KeyEvidence, Unavailable> {
        self.read(async |mut connection| {
            let connection = &mut connection;
            let mark =
                key_mark::table.select(key_mark::mark).first::<Vec<u8>>(connection).await.optional()?;
            // The newest: their ids are ordered by time.
            let newest = accounts::table.order(accounts::user_id.desc()).select(accounts::phone);
            let number = newest.first::<String>(connection).await.optional()?;
            Ok(KeyEvidence {
                mark: mark.map(digest).transpose()?.map(KeyMark),
                phone: number.as_deref().map(phone).transpose()?,
            })
        })
        .await
    }

    async fn keep_key_mark(&self, mark: &KeyMark) -> Result<KeyMark, Unavailable> {
        let row = (key_mark::one.eq(1), key_mark::mark.eq(mark.0.to_vec()));
        let insert = diesel::insert_into(key_mark::table).values(row).on_conflict_do_nothing();
        self.write(async |mut connection| {
            let connection = &mut connection;
            // Whoever was first has committed when this is over; only a statement after it sees the row.
            insert.execute(connection).await?;
            let kept = key_mark::table.select(key_mark::mark).first::<Vec<u8>>(connection).await?;
            Ok(KeyMark(digest(kept)?))
        })
        .await
    }

    async fn sweep(&self, sweep: Sweep) -> Result<usize, Unavailable> {
        self.write(async |connection| sweep::forget(connection, &sweep).await).await
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        let tables = async |connection: &AsyncPgConnection| {
            if !migrate::takes_writes(connection).await? {
                return Err(Failure::ReadOnly);
            }
            Ok(migrate::tables(connection).await?)
        };
        // Each kind of connection by itself: one may have broken where the others have not.
        self.read_shortly(tables).await?;
        self.read(tables).await?;
        // There is more to write than connections: that is no reason to send readers away too, here and from all other instances.
        if self.writes.are_all_lent() {
            return Ok(());
        }
        match self.write(tables).await {
            // During an upgrade the old version serves on while a newer one has migrated.
            Ok(Tables::Current | Tables::Newer) => Ok(()),
            Ok(Tables::Older | Tables::None) => Err(Unavailable(OpenError::Outdated.to_string())),
            Err(_) if self.writes.are_all_lent() => Ok(()),
            Err(unavailable) => Err(unavailable),
        }
    }
}

/// One statement, and so everything as it was at one moment. What there is one of is repeated beside each password.
async fn load_credentials(
    connection: &AsyncPgConnection,
    phone: &PhoneNumber,
) -> Result<Credentials, Failure> {
    static TEXT: OnceLock<String> = OnceLock::new();
    type Row = (Option<AccountRow>, Option<GuardRow>, Option<ResetRow>, Option<PasswordRow>);
    let query = asked::table
        .left_join(accounts::table.on(accounts::phone.eq(asked::phone)))
        .left_join(sign_in_guards::table.on(sign_in_guards::phone.eq(asked::phone)))
        .left_join(password_resets::table.on(password_resets::phone.eq(asked::phone)))
        .left_join(passwords::table.on(passwords::user_id.eq(accounts::user_id)))
        .order(passwords::set_at.desc())
        .select((
            Option::<AccountRow>::as_select(),
            Option::<GuardRow>::as_select(),
            Option::<ResetRow>::as_select(),
            Option::<PasswordRow>::as_select(),
        ));
    let query = Asked { phone: phone.as_str(), query };
    let rows: Vec<Row> = Fixed { text: &TEXT, query }.load(&mut &*connection).await?;
    let mut passwords = Vec::with_capacity(rows.len());
    let mut known = (None, None, None);
    for (account, guard, reset, password) in rows {
        passwords.extend(password.map(PasswordRow::load));
        known = (account, guard, reset);
    }
    let (account, guard, reset) = known;
    Ok(Credentials {
        account: account.map(AccountRow::load).transpose()?,
        passwords,
        guard: guard.map(GuardRow::load).transpose()?,
        reset: reset.map(ResetRow::load).transpose()?,
        budgets: Budgets::default(),
    })
}
