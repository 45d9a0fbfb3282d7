//! The configuration: a file, then environment variables over it. A key that is unknown or a value that makes no
//! sense is an error that names the key.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::{Environment as Variables, File, FileFormat};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use time::Date;
use vestibule_domain::Country;

use self::forms::{day, list, listener, networks, without_lines, without_value, word};
use self::guard::Guard;
use self::limits::Limits;
pub(crate) use self::limits::Rate;
pub(crate) use self::partners::Partner;
use self::sms::Sms;
pub(crate) use self::sms::{ReceiptIds, SmsProvider};
use self::spending::Spending;
use crate::countries::CountryRules;

/// The shortest secret of a service that may introspect tokens, in bytes.
const MIN_SERVICE_SECRET: usize = 16;

/// What kind of place this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Environment {
    /// A developer's machine: keys and database make themselves, messages may go to the inbox.
    #[default]
    Development,
    /// Nothing is made up, and nothing that is for development runs.
    Production,
}

/// A setting that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A file or variable cannot be read as configuration.
    #[error("{0}")]
    Form(String),
    /// A value that is well-formed, but not sensible.
    #[error("{key}: {problem}")]
    Value { key: &'static str, problem: String },
}

impl ConfigError {
    pub(crate) fn of(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Value { key, problem: problem.into() }
    }
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

mod forms;
mod guard;
mod limits;
mod partners;
mod prices;
mod sms;
mod spending;

section! {
    /// Everything that can be set.
    Config {
        #[serde(deserialize_with = "word")]
        environment: Environment = Environment::Development,
        data_dir: PathBuf = PathBuf::from("data"),
        http: Http = Http::default(),
        admin: Admin = Admin::default(),
        database: Database = Database::default(),
        secrets: Secrets = Secrets::default(),
        sms: Sms = Sms::default(),
        email: Email = Email::default(),
        registration: Registration = Registration::default(),
        password: Password = Password::default(),
        tokens: Tokens = Tokens::default(),
        oauth: Oauth = Oauth::default(),
        partners: HashMap<String, Partner> = HashMap::new(),
        hashing: Hashing = Hashing::default(),
        limits: Limits = Limits::default(),
        spending: Spending = Spending::default(),
        guard: Guard = Guard::default(),
        retention: Retention = Retention::default(),
        test_numbers: HashMap<String, TestNumber> = HashMap::new(),
        #[serde(deserialize_with = "list")]
        production_test_numbers: Vec<String> = Vec::new(),
    }
}

section! {
    /// The public listener.
    Http {
        #[serde(deserialize_with = "listener")]
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)),
        public_url: Option<String> = None,
        #[serde(deserialize_with = "networks")]
        trusted_proxies: Option<Vec<IpNet>> = None,
        workers: Option<usize> = None,
        drain_seconds: u64 = 0,
        require_merchant: bool = false,
    }
}

section! {
    /// The operator's listener.
    Admin {
        #[serde(deserialize_with = "listener")]
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9090)),
    }
}

section! {
    /// Where everything is kept.
    Database {
        url: Option<SecretString> = None,
        pool_size: u32 = 16,
        migrate_on_start: bool = true,
    }
}

/// What a database's URL names.
#[derive(Debug, Clone)]
pub(crate) enum DatabaseKind {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the whole URL, which may carry a password.
    Postgres(SecretString),
}

impl DatabaseKind {
    const FORMS: &str = "must be `sqlite://` and a path, or `postgres://user:password@host:port/database`";

    pub(crate) fn parse(url: &SecretString) -> Option<Self> {
        let text = url.expose_secret();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Some(Self::Postgres(url.clone()));
        }
        text.strip_prefix("sqlite://").filter(|path| !path.is_empty()).map(|path| Self::Sqlite(path.into()))
    }
}

section! {
    /// The files with keys.
    Secrets {
        master_key_file: Option<PathBuf> = None,
        numbers_key_is_lost: bool = false,
        token_key_file: Option<PathBuf> = None,
    }
}

section! {
    /// The mail transport.
    Email {
        #[serde(deserialize_with = "word")]
        transport: EmailTransport = EmailTransport::Inbox,
        from: Option<String> = None,
        smtp: Option<Smtp> = None,
    }
}

/// A way to send mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EmailTransport {
    Inbox,
    Smtp,
}

/// Access to a mail server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smtp {
    pub(crate) url: SecretString,
    pub(crate) ca_file: Option<PathBuf>,
}

section! {
    /// The rules of registration.
    Registration {
        code_length: u8 = 6,
        code_ttl_seconds: u64 = 600,
        code_guesses: u32 = 5,
        resend_cooldown_seconds: u64 = 60,
        max_messages: u32 = 5,
        email_ttl_seconds: u64 = 86_400,
        conceal_accounts: bool = false,
        min_age_years: u8 = 18,
        #[serde(deserialize_with = "list")]
        allowed_ip_countries: Vec<String> = Vec::new(),
        #[serde(deserialize_with = "list")]
        allowed_phone_countries: Vec<String> = Vec::new(),
        #[serde(deserialize_with = "list")]
        blocked_ip_countries: Vec<String> = Vec::new(),
        #[serde(deserialize_with = "list")]
        blocked_phone_countries: Vec<String> = Vec::new(),
        ip_country_database: Option<PathBuf> = None,
        #[serde(deserialize_with = "word")]
        unknown_ip_country: UnknownIpCountry = UnknownIpCountry::Allow,
        android_app_hash: Option<String> = None,
    }
}

/// What becomes of client addresses of which no country is known, where there are rules for countries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownIpCountry {
    Allow,
    Refuse,
}

section! {
    /// The password policy.
    Password {
        min_strength: u8 = 2,
        history: usize = 5,
        breached_list: Option<PathBuf> = None,
    }
}

section! {
    /// Access and refresh tokens.
    Tokens {
        access_ttl_seconds: u64 = 900,
        refresh_ttl_seconds: u64 = 2_592_000,
        session_ttl_seconds: u64 = 31_536_000,
        issuer: Option<String> = None,
        audience: Option<String> = None,
    }
}

section! {
    /// The endpoints of OAuth 2.0.
    Oauth {
        services: HashMap<String, SecretString> = HashMap::new(),
    }
}

section! {
    /// Password hashing.
    Hashing {
        memory_kib: u32 = 19_456,
        iterations: u32 = 2,
        threads: Option<usize> = None,
        queue: usize = 256,
    }
}

section! {
    /// How long things are kept.
    Retention {
        messages_days: u16 = 30,
        audit_days: u16 = 365,
    }
}

/// A number with a code of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestNumber {
    pub(crate) code: SecretString,
    /// The last day, in UTC.
    #[serde(deserialize_with = "day")]
    pub(crate) until: Date,
}

impl Config {
    /// Reads `file`, or `vestibule.toml` if there is one, then the variables `VESTIBULE__SECTION__KEY`.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::read(file, None)
    }

    /// As [`load`](Self::load), with what another file says over it.
    pub(crate) fn load_under(file: Option<&Path>, over: &Path) -> Result<Self, ConfigError> {
        Self::read(file, Some(over))
    }

    fn read(file: Option<&Path>, over: Option<&Path>) -> Result<Self, ConfigError> {
        let source = match file {
            Some(path) => File::from(path).format(FileFormat::Toml).required(true),
            None => File::new("vestibule.toml", FileFormat::Toml).required(false),
        };
        let variables = Variables::with_prefix("VESTIBULE").prefix_separator("__").separator("__");
        let over: Vec<_> = over.into_iter().map(|over| File::from(over).format(FileFormat::Toml)).collect();
        let read = config::Config::builder().add_source(source).add_source(variables).add_source(over);
        let read = read.build().map_err(|error| {
            let error = without_lines(&error.to_string());
            ConfigError::Form(format!("the configuration cannot be read: {error}"))
        })?;
        let config: Self = serde_path_to_error::deserialize(read).map_err(|error| {
            let path = error.path().to_string();
            // The type of the value is told, the value is not: it may be a secret.
            let problem = without_value(&error.into_inner().to_string());
            ConfigError::Form(if path == "." { problem } else { format!("{path}: {problem}") })
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key, problem: &str| Err(ConfigError::of(key, problem));
        let registration = &self.registration;
        if !(4..=10).contains(&registration.code_length) {
            return refuse("registration.code_length", "must be 4 to 10 digits");
        }
        for (key, value, max) in [
            ("registration.code_ttl_seconds", registration.code_ttl_seconds, 86_400),
            ("registration.email_ttl_seconds", registration.email_ttl_seconds, 31_536_000),
            ("tokens.access_ttl_seconds", self.tokens.access_ttl_seconds, 86_400),
            ("tokens.refresh_ttl_seconds", self.tokens.refresh_ttl_seconds, 315_360_000),
            ("tokens.session_ttl_seconds", self.tokens.session_ttl_seconds, 315_360_000),
            ("limits.login_attempts", self.limits.login_attempts.into(), 1000),
            ("limits.login_lock_seconds", self.limits.login_lock_seconds, 86_400),
            ("retention.audit_days", self.retention.audit_days.into(), 3650),
            ("registration.code_guesses", registration.code_guesses.into(), 100),
            ("registration.max_messages", registration.max_messages.into(), 1000),
            ("database.pool_size", self.database.pool_size.into(), 1024),
            ("limits.signup_per_phone_per_day", self.limits.signup_per_phone_per_day.into(), 1_000_000),
            ("limits.guesses_per_phone_per_day", self.limits.guesses_per_phone_per_day.into(), 1_000_000),
            ("limits.blocks_per_phone_per_day", self.limits.blocks_per_phone_per_day.into(), 1000),
            ("limits.mails_per_account_per_day", self.limits.mails_per_account_per_day.into(), 1_000_000),
            ("hashing.threads", self.hashing.threads.unwrap_or(1) as u64, 1024),
            ("hashing.queue", self.hashing.queue as u64, 1_000_000),
            ("retention.messages_days", self.retention.messages_days.into(), 3650),
            ("hashing.iterations", self.hashing.iterations.into(), 16),
            ("http.workers", self.http.workers.unwrap_or(1) as u64, 1024),
        ] {
            if value == 0 || value > max {
                return refuse(key, &format!("must be 1 to {max}"));
            }
        }
        if !(8..=4_194_304).contains(&self.hashing.memory_kib) {
            return refuse("hashing.memory_kib", "must be 8 to 4194304");
        }
        if registration.resend_cooldown_seconds > 86_400 {
            return refuse("registration.resend_cooldown_seconds", "must be 0 to 86400");
        }
        if self.http.drain_seconds > 300 {
            return refuse("http.drain_seconds", "must be 0 to 300");
        }
        if registration.min_age_years >= 120 {
            return refuse("registration.min_age_years", "must be under 120");
        }
        if !(1..=24).contains(&self.password.history) {
            return refuse("password.history", "must be 1 to 24");
        }
        if self.spending.reserve_percent >= 100 {
            return refuse("spending.reserve_percent", "must be 0 to 99");
        }
        self.spending.budget(&self.sms)?;
        self.guard.rule(self.environment)?;
        if self.password.min_strength > 4 {
            return refuse("password.min_strength", "must be 0 to 4");
        }
        if registration.android_app_hash.as_ref().is_some_and(|hash| hash.len() != 11 || !hash.is_ascii()) {
            return refuse("registration.android_app_hash", "must be the 11 characters of the app's hash");
        }
        CountryRules::of(registration)?;
        if let Some((name, _)) =
            self.oauth.services.iter().find(|(_, secret)| secret.expose_secret().len() < MIN_SERVICE_SECRET)
        {
            let problem =
                format!("the secret of `{name}` must have at least {MIN_SERVICE_SECRET} characters");
            return Err(ConfigError::of("oauth.services", problem));
        }
        partners::check(&self.partners)?;
        if self.http.require_merchant && self.partners.is_empty() {
            return refuse(
                "http.require_merchant",
                "is of no use without `partners`: nobody would be let in",
            );
        }
        self.check_public_url()?;
        self.sms.check()?;
        self.check_email()?;
        self.check_place()
    }

    fn check_public_url(&self) -> Result<(), ConfigError> {
        let refuse = |problem: &str| Err(ConfigError::of("http.public_url", problem));
        let Some(url) = &self.http.public_url else {
            return if self.environment == Environment::Production {
                refuse("must be set in production: links in mails begin with it")
            } else {
                Ok(())
            };
        };
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/[]".contains(c);
        match host {
            Some(host) if !host.is_empty() && host.chars().all(plain) => Ok(()),
            _ => refuse("must be `https://host` or `http://host`, with a port or path where needed"),
        }
    }

    fn check_email(&self) -> Result<(), ConfigError> {
        let refuse = |key, problem: &str| Err(ConfigError::of(key, problem));
        if self.email.transport == EmailTransport::Smtp && self.email.smtp.is_none() {
            return refuse("email.smtp.url", "is needed, since `email.transport` is smtp");
        }
        if self.email.transport == EmailTransport::Smtp && self.email.from.is_none() {
            return refuse("email.from", "is needed, since `email.transport` is smtp: whose mails they are");
        }
        Ok(())
    }

    /// What is for development stays on the developer's machine, and production leaves nothing to chance.
    fn check_place(&self) -> Result<(), ConfigError> {
        let refuse = |key, problem: &str| Err(ConfigError::of(key, problem));
        if self.uses_inbox() && !self.http.listen.ip().is_loopback() {
            return refuse(
                "http.listen",
                "must be a loopback address while the inbox is in use: it shows every code",
            );
        }
        if self.environment == Environment::Development {
            return Ok(());
        }
        if self.sms.uses(SmsProvider::Inbox) {
            return refuse("sms.providers", "the inbox is for development only, in `sms.countries` too");
        }
        if self.email.transport == EmailTransport::Inbox {
            return refuse("email.transport", "the inbox is for development only");
        }
        if self.http.trusted_proxies.is_none() {
            return refuse(
                "http.trusted_proxies",
                "must be set in production: the proxies in front, or an empty list if clients connect directly. Behind a proxy that is \
                 not named all clients count as one",
            );
        }
        Ok(())
    }

    /// Whether messages are shown on the development page.
    pub(crate) fn uses_inbox(&self) -> bool {
        self.sms.uses(SmsProvider::Inbox) || self.email.transport == EmailTransport::Inbox
    }

    /// Whether anybody but a developer on this machine is concerned.
    pub(crate) fn reaches_others(&self) -> bool {
        let carry = |provider| provider != SmsProvider::Inbox && self.sms.uses(provider);
        SmsProvider::ALL.into_iter().any(carry)
            || self.email.transport == EmailTransport::Smtp
            || !self.http.listen.ip().is_loopback()
    }

    /// Where the service is reached from outside.
    pub(crate) fn public_url(&self) -> String {
        let url = self.http.public_url.clone().unwrap_or_else(|| format!("http://{}", self.http.listen));
        url.trim_end_matches('/').to_owned()
    }

    /// The `iss` of access tokens.
    pub(crate) fn issuer(&self) -> String {
        self.tokens.issuer.clone().unwrap_or_else(|| self.public_url())
    }

    /// Their `aud`.
    pub(crate) fn audience(&self) -> String {
        self.tokens.audience.clone().unwrap_or_else(|| self.issuer())
    }

    /// Where everything is kept.
    pub(crate) fn database(&self) -> Result<DatabaseKind, ConfigError> {
        let Some(url) = &self.database.url else {
            return Ok(DatabaseKind::Sqlite(self.data_dir.join("vestibule.db")));
        };
        DatabaseKind::parse(url).ok_or_else(|| ConfigError::of("database.url", DatabaseKind::FORMS))
    }

    pub(crate) fn master_key_file(&self) -> PathBuf {
        self.secrets.master_key_file.clone().unwrap_or_else(|| self.data_dir.join("master.key"))
    }

    pub(crate) fn token_key_file(&self) -> PathBuf {
        self.secrets.token_key_file.clone().unwrap_or_else(|| self.data_dir.join("token.keys"))
    }
}

/// Those of the variables that are written almost as a setting is, and are none: with one underscore after `VESTIBULE`. What an orchestrator
/// tells of a service by that name, and where tests find a database, is not meant for one.
pub(crate) fn misnamed(variables: impl Iterator<Item = OsString>) -> impl Iterator<Item = String> {
    variables.filter_map(|name| {
        let name = name.into_string().ok()?;
        let rest = name.strip_prefix("VESTIBULE_")?;
        let is_of_another = rest.starts_with('_')
            || rest.starts_with("TEST_")
            || format!("_{rest}").contains("_SERVICE_")
            || format!("_{rest}_").contains("_PORT_");
        (!is_of_another).then_some(name)
    })
}

/// What stands under the codes of countries.
fn by_country<'a, T>(
    key: &'static str,
    codes: &'a HashMap<String, T>,
) -> Result<HashMap<Country, &'a T>, ConfigError> {
    let mut found = HashMap::new();
    for (code, value) in codes {
        for country in countries(key, std::slice::from_ref(code))? {
            if found.insert(country, value).is_some() {
                let problem =
                    format!("{country} stands twice: a variable's name counts as `{code}` in lower case");
                return Err(ConfigError::of(key, problem));
            }
        }
    }
    Ok(found)
}

/// The countries of a list that was checked.
pub(crate) fn countries(key: &'static str, codes: &[String]) -> Result<Vec<Country>, ConfigError> {
    let parse = |code: &String| {
        Country::parse(code).map_err(|_| ConfigError::of(key, format!("`{code}` is no country code")))
    };
    codes.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
