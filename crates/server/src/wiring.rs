//! Makes the adapters that the configuration names, and the use cases on top of them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use time::UtcDateTime;
use tokio::sync::{Notify, Semaphore};
use vestibule_application::{
    Application, Callbacks, Derivation, Dispatcher, HeldBack, Partner, RecogniseKeysError, RecordDelivery,
    Senders, Settings, ToldOfSpending, UnsentCodes, Wording,
};
use vestibule_argon2::Argon2Pool;
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::Rules;
use vestibule_domain::sign_in::GuardRules;
use vestibule_domain::{BreachedPasswords, EmailRules, MerchantId, PasswordPolicy, SessionLives, Zxcvbn};
use vestibule_inbox::Inbox;
use vestibule_paseto::{KeyFileWatch, KeyRing, PasetoTokens};
use vestibule_port_email::EmailSender;
use vestibule_port_security::{Clock, Entropy};
use vestibule_port_sms::DeliveryReports;
use vestibule_port_storage::{Answers, Outbox, Storage};
use vestibule_postgres::Postgres;
use vestibule_smpp::Smpp;
use vestibule_smtp::Smtp;
use vestibule_sqlite::Sqlite;

use crate::config::{Config, DatabaseKind, EmailTransport, Environment, Rate};
use crate::countries::{self, CountryRules, FollowCountries};
use crate::machine::{SystemClock, SystemEntropy};
use crate::metrics::Look;
use crate::sms::{Sms, Surroundings};
use crate::test_numbers::test_numbers;
use crate::token_keys::FollowKeys;
use crate::{keys, token_keys};

const DAY: Duration = Duration::from_hours(24);

/// The service, ready to be served.
pub(crate) struct Service {
    pub(crate) application: Arc<Application>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) follow_keys: FollowKeys,
    pub(crate) follow_countries: FollowCountries,
    pub(crate) wording: Arc<Wording>,
    /// Only where the configuration uses it.
    pub(crate) inbox: Option<Arc<Inbox>>,
    /// Only where an SMS provider reports by calling.
    pub(crate) callbacks: Option<Callbacks>,
    /// Only where the configuration uses it.
    pub(crate) smpp: Option<Arc<Smpp>>,
    /// Measures what is only measured when somebody asks.
    pub(crate) look: Look,
    /// Only for who looks: why the database cannot be used yet.
    pub(crate) behind: Option<anyhow::Error>,
}

/// What the database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To serve it: its tables are brought up to date, if the configuration says so.
    Serve,
    /// To use it beside those who serve it, who may be of the version before: its tables stay as they are.
    Use,
    /// To see whether it could be served: its tables stay as they are, and need not be there.
    Look,
}

/// The service for who serves.
pub(crate) async fn wire(config: &Config) -> anyhow::Result<Service> {
    wire_for(config, Purpose::Serve).await
}

/// The service for who only looks. Its database is not to be used while it is [behind](Service::behind).
pub(crate) async fn look(config: &Config) -> anyhow::Result<Service> {
    wire_for(config, Purpose::Look).await
}

/// The use cases for a command beside those who serve.
pub(crate) async fn use_cases(config: &Config) -> anyhow::Result<Application> {
    Ok(use_cases_for(config, Purpose::Use).await?.application)
}

/// The use cases on what they need, without anything that sends.
struct UseCases {
    application: Application,
    outbox: Arc<dyn Outbox>,
    look: Look,
    follow_keys: FollowKeys,
    follow_countries: FollowCountries,
    behind: Option<anyhow::Error>,
}

async fn use_cases_for(config: &Config, purpose: Purpose) -> anyhow::Result<UseCases> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    let derivation = Arc::new(derivation(config, &*entropy)?);
    let (tokens, watch) = tokens(config)?;
    let tokens = Arc::new(tokens);
    let follow_keys = FollowKeys { tokens: Arc::clone(&tokens), watch, clock: Arc::clone(&clock) };
    let (countries, follow_countries) = countries::open(config)?;
    let (Database { storage, outbox, answers, look }, behind) = open_for(config, purpose).await?;
    let application = Application {
        storage,
        answers,
        hasher: Arc::new(hasher(config)?),
        tokens,
        clock,
        entropy,
        countries,
        derivation,
        password_checks: Arc::new(Semaphore::new(cores())),
        settings: settings(config, now)?,
        held_back: HeldBack::default(),
        told_of_spending: ToldOfSpending::default(),
    };
    // Tables that are behind don't tell yet what they were used under.
    if behind.is_none() {
        let recognised = match purpose {
            _ if config.secrets.numbers_key_is_lost => application.recognise_whole().await,
            Purpose::Serve => application.bind_keys().await,
            Purpose::Use | Purpose::Look => application.recognise_keys().await,
        };
        recognised.map_err(|error| unrecognised(config, error))?;
    }
    Ok(UseCases { application, outbox, look, follow_keys, follow_countries, behind })
}

async fn wire_for(config: &Config, purpose: Purpose) -> anyhow::Result<Service> {
    let UseCases { application, outbox, look, follow_keys, follow_countries, behind } =
        use_cases_for(config, purpose).await?;
    let (clock, entropy) = (&application.clock, &application.entropy);
    let wording = Wording::new(&config.public_url(), config.registration.android_app_hash.clone());
    let wording = wording.context("http.public_url")?.with_brands(brands(config)).context("partners")?;
    let wording = Arc::new(wording);
    let wake = Arc::new(Notify::new());
    let reports: Arc<dyn DeliveryReports> = Arc::new(RecordDelivery {
        outbox: Arc::clone(&outbox),
        clock: Arc::clone(clock),
        wake: Arc::clone(&wake),
    });
    let inbox = || Arc::new(Inbox::new(Arc::clone(clock)).with_reports(Arc::clone(&reports)));
    let inbox = config.uses_inbox().then(inbox);
    let sms = Sms::new(Surroundings { config, inbox: inbox.as_ref(), reports, clock, entropy })?;
    let providers =
        sms.providers.paid(Arc::clone(&application.storage), application.settings.spending.clone());
    let (storage, guard) = (Arc::clone(&application.storage), application.settings.pumping.clone());
    let dispatcher = Dispatcher {
        outbox,
        unsent_codes: UnsentCodes { storage, guard },
        senders: Senders { sms: providers, email: email(config, inbox.as_ref())? },
        wording: Arc::clone(&wording),
        derivation: Arc::clone(&application.derivation),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        wake,
    };
    Ok(Service {
        application: Arc::new(application),
        dispatcher: Arc::new(dispatcher),
        follow_keys,
        follow_countries,
        wording,
        inbox,
        callbacks: sms.callbacks,
        smpp: sms.smpp,
        look,
        behind,
    })
}

/// The database, as the three ports that it keeps.
struct Database {
    storage: Arc<dyn Storage>,
    outbox: Arc<dyn Outbox>,
    answers: Arc<dyn Answers>,
    look: Look,
}

impl Database {
    fn of<T: Storage + Outbox + Answers + 'static>(database: T, look: fn(&T)) -> Self {
        let database = Arc::new(database);
        let looked_at = Arc::clone(&database);
        let look = Arc::new(move || look(&looked_at));
        Self {
            storage: Arc::clone(&database) as _,
            outbox: Arc::clone(&database) as _,
            answers: database,
            look,
        }
    }
}

/// Brings the database's tables up to date.
pub(crate) async fn migrate(config: &Config) -> anyhow::Result<()> {
    open_database(config, Older::Migrate).await.map(drop)
}

/// The database, and for who only looks why it cannot be used yet.
async fn open_for(config: &Config, purpose: Purpose) -> anyhow::Result<(Database, Option<anyhow::Error>)> {
    let older = match purpose {
        Purpose::Serve if config.database.migrate_on_start => Older::Migrate,
        Purpose::Serve | Purpose::Use | Purpose::Look => Older::Refuse,
    };
    match open_database(config, older).await {
        Err(behind) if purpose == Purpose::Look && is_behind(&behind) => {
            Ok((open_database(config, Older::Leave).await?, Some(behind)))
        }
        opened => Ok((opened?, None)),
    }
}

/// What is done with tables that are older than this version needs, or not there.
enum Older {
    Migrate,
    Refuse,
    Leave,
}

async fn open_database(config: &Config, older: Older) -> anyhow::Result<Database> {
    let pool_size = config.database.pool_size;
    match config.database()? {
        DatabaseKind::Sqlite(path) => {
            let migrate = match older {
                Older::Migrate => vestibule_sqlite::Migrate::Yes,
                Older::Refuse => vestibule_sqlite::Migrate::No,
                Older::Leave => vestibule_sqlite::Migrate::Leave,
            };
            let opened = Sqlite::open(&path, pool_size as usize, migrate);
            let opened = opened.with_context(|| format!("database.url: cannot open {}", path.display()))?;
            Ok(Database::of(opened, |_| {}))
        }
        DatabaseKind::Postgres(url) => {
            let migrate = match older {
                Older::Migrate => vestibule_postgres::Migrate::Yes,
                Older::Refuse => vestibule_postgres::Migrate::No,
                Older::Leave => vestibule_postgres::Migrate::Leave,
            };
            let opened = Postgres::open(url.expose_secret(), pool_size, migrate).await;
            Ok(Database::of(opened.context("database.url")?, Postgres::measure))
        }
    }
}

/// Whether all that is amiss is that nobody has migrated yet.
fn is_behind(error: &anyhow::Error) -> bool {
    use vestibule_postgres::OpenError as OnPostgres;
    use vestibule_sqlite::OpenError as OnSqlite;

    matches!(error.downcast_ref(), Some(OnSqlite::Outdated | OnSqlite::NotMade))
        || matches!(error.downcast_ref(), Some(OnPostgres::Outdated))
}

fn derivation(config: &Config, entropy: &dyn Entropy) -> anyhow::Result<Derivation> {
    let path = config.master_key_file();
    if config.environment == Environment::Development {
        keys::generate(&path, entropy).context("secrets.master_key_file")?;
    }
    let keys = keys::load(&path).context("secrets.master_key_file")?;
    Ok(Derivation::new(&keys, config.registration.code_length))
}

fn unrecognised(config: &Config, error: RecogniseKeysError) -> anyhow::Error {
    match error {
        RecogniseKeysError::Foreign => anyhow::anyhow!(
            "secrets.master_key_file: {} is not the key of this database: {error}. Put back the file that the database was used with, or \
             name another database in `database.url`",
            config.master_key_file().display()
        ),
        RecogniseKeysError::Unfinished => anyhow::Error::new(error).context("database.url"),
        RecogniseKeysError::Unavailable(unavailable) => anyhow::Error::new(unavailable).context("database"),
    }
}

fn tokens(config: &Config) -> anyhow::Result<(PasetoTokens, KeyFileWatch)> {
    let path = config.token_key_file();
    if config.environment == Environment::Development {
        KeyRing::make_file(&path).map_err(|error| token_keys::explain(config, error))?;
    }
    let (keys, watch) = KeyFileWatch::open(&path).map_err(|error| token_keys::explain(config, error))?;
    Ok((PasetoTokens::new(keys, config.issuer(), config.audience()), watch))
}

fn hasher(config: &Config) -> anyhow::Result<Argon2Pool> {
    let hashing = &config.hashing;
    let settings = vestibule_argon2::Settings {
        memory_kib: hashing.memory_kib,
        iterations: hashing.iterations,
        threads: hashing.threads.unwrap_or_else(cores),
        queue: hashing.queue,
    };
    Argon2Pool::new(settings).context("hashing")
}

/// As many as there are processors.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

fn email(config: &Config, inbox: Option<&Arc<Inbox>>) -> anyhow::Result<Arc<dyn EmailSender>> {
    Ok(match (config.email.transport, inbox, &config.email.smtp, &config.email.from) {
        (EmailTransport::Inbox, Some(inbox), _, _) => Arc::clone(inbox) as _,
        (EmailTransport::Smtp, _, Some(smtp), Some(from)) => {
            let settings = vestibule_smtp::Settings {
                url: smtp.url.clone(),
                from: from.clone(),
                timeout: vestibule_smtp::TIMEOUT,
                ca_file: smtp.ca_file.clone(),
            };
            // The adapter's sentence begins with the rest of the key.
            Arc::new(Smtp::new(&settings).map_err(|error| anyhow::anyhow!("email.{error}"))?)
        }
        (EmailTransport::Inbox, None, ..) | (EmailTransport::Smtp, ..) => {
            anyhow::bail!("email.transport: there is no such transport")
        }
    })
}

fn settings(config: &Config, now: UtcDateTime) -> anyhow::Result<Settings> {
    let (registration, limits, tokens) = (&config.registration, &config.limits, &config.tokens);
    let CountryRules { addresses, numbers } = CountryRules::of(registration)?;
    let resend_cooldown = Duration::from_secs(registration.resend_cooldown_seconds);
    let password = &config.password;
    Ok(Settings {
        registration: Rules {
            code_ttl: Duration::from_secs(registration.code_ttl_seconds),
            code_guesses: registration.code_guesses,
            resend_cooldown,
            max_messages: registration.max_messages,
            sign_ups: Quota { burst: limits.signup_per_phone_per_day, period: DAY },
            guesses: Quota { burst: limits.guesses_per_phone_per_day, period: DAY },
            places: limits.blocks_per_phone_per_day,
        },
        email: EmailRules {
            link_ttl: Duration::from_secs(registration.email_ttl_seconds),
            resend_cooldown,
            mails: Quota { burst: limits.mails_per_account_per_day, period: DAY },
        },
        guard: GuardRules {
            attempts: limits.login_attempts,
            lock: Duration::from_secs(limits.login_lock_seconds),
        },
        quotas: limits.quotas(),
        spending: config.spending.budget(&config.sms)?,
        pumping: config.guard.rule(config.environment)?,
        conceal_accounts: registration.conceal_accounts,
        min_age_years: registration.min_age_years,
        client_countries: addresses,
        phone_countries: numbers,
        test_numbers: test_numbers(config, now)?,
        partners: partners(config)?,
        passwords: PasswordPolicy::new(
            password.min_strength,
            password.history,
            Arc::new(Zxcvbn),
            breached(config)?,
        ),
        keep_messages: DAY * config.retention.messages_days.into(),
        access_ttl: Duration::from_secs(tokens.access_ttl_seconds),
        keep_facts: DAY * config.retention.audit_days.into(),
        sessions: SessionLives {
            idle: Duration::from_secs(tokens.refresh_ttl_seconds),
            absolute: Duration::from_secs(tokens.session_ttl_seconds),
        },
    })
}

fn partners(config: &Config) -> anyhow::Result<HashMap<MerchantId, Partner>> {
    let partner = |(id, partner): (&String, &crate::config::Partner)| {
        let merchant = MerchantId::parse(id).context("partners")?;
        let phone_countries =
            crate::config::countries("partners: `phone_countries`", &partner.phone_countries)?;
        let sign_ups = partner.signup_per_hour.map(Rate::quota);
        Ok((merchant, Partner { phone_countries: HashSet::from_iter(phone_countries), sign_ups }))
    };
    config.partners.iter().map(partner).collect()
}

fn brands(config: &Config) -> HashMap<MerchantId, String> {
    let brand = |(id, partner): (&String, &crate::config::Partner)| {
        Some((MerchantId::parse(id)?, partner.brand().to_owned()))
    };
    config.partners.iter().filter_map(brand).collect()
}

/// Breached passwords from a file, one in each line.
struct BreachedList(HashSet<String>);

impl BreachedPasswords for BreachedList {
    fn contains(&self, password: &str) -> bool {
        self.0.contains(password)
    }
}

fn breached(config: &Config) -> anyhow::Result<Option<Arc<dyn BreachedPasswords>>> {
    let Some(path) = &config.password.breached_list else {
        return Ok(None);
    };
    let text = fs::read_to_string(path)
        .with_context(|| format!("password.breached_list: cannot read {}", path.display()))?;
    Ok(Some(Arc::new(BreachedList(text.lines().map(|line| line.trim_end().to_owned()).collect()))))
}
