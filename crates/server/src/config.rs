//! The configuration: a file, then environment variables over it. A key that is unknown or a value that makes no
//! sense is an error that names the key.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Environment as Variables, File, FileFormat};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{Error as _, IntoDeserializer as _};
use serde::{Deserialize, Deserializer};
use time::Date;
use time::macros::format_description;
use vestibule_domain::limits::{Quotas, StepQuotas};
use vestibule_domain::pumping::{CountryNorm, Mode, PumpingGuard};
use vestibule_domain::quota::Quota;
use vestibule_domain::spending::{Money, MoneyError};
use vestibule_domain::{Country, MerchantId};

use crate::countries::CountryRules;

mod prices;
mod spending;

/// The shortest secret of a service that may introspect tokens, in bytes.
const MIN_SERVICE_SECRET: usize = 16;

/// The shortest secret that a partner signs with, in bytes: as long as what the signature is made with (RFC 2104, section 3).
const MIN_PARTNER_SECRET: usize = 32;

/// The smallest budget of a country: storage may keep it in parts, of which each must be large enough for what is on its way.
const MIN_OF_COUNTRY: u32 = 200;

/// The longest name that messages of a partner speak in, in characters.
const MAX_BRAND: usize = 32;

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
    /// SMS providers.
    Sms {
        #[serde(deserialize_with = "list")]
        providers: Vec<SmsProvider> = vec![SmsProvider::Inbox],
        countries: HashMap<String, SmsProviders> = HashMap::new(),
        twilio: Option<Twilio> = None,
        webhook: Option<Webhook> = None,
        smpp: Option<Smpp> = None,
    }
}

/// Providers in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SmsProviders(#[serde(deserialize_with = "list")] pub(crate) Vec<SmsProvider>);

/// A way to send SMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SmsProvider {
    Inbox,
    Twilio,
    Webhook,
    Smpp,
}

impl SmsProvider {
    const ALL: [Self; 4] = [Self::Inbox, Self::Twilio, Self::Webhook, Self::Smpp];

    /// Its name, which its adapter has too.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Twilio => "twilio",
            Self::Webhook => "webhook",
            Self::Smpp => "smpp",
        }
    }
}

/// Access to Twilio.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Twilio {
    #[serde(default = "twilio_url")]
    pub(crate) base_url: String,
    pub(crate) account_sid: String,
    pub(crate) auth_token: SecretString,
    pub(crate) from: String,
    /// Whether Twilio can reach `http.public_url`, to tell what becomes of messages.
    #[serde(default)]
    pub(crate) callbacks: bool,
}

fn twilio_url() -> String {
    vestibule_twilio::DEFAULT_BASE_URL.to_owned()
}

/// Access to a receiver of webhooks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    /// Several while a secret is changed: all of them sign, any of them is believed.
    #[serde(deserialize_with = "list")]
    pub(crate) secrets: Vec<SecretString>,
}

/// Access to an SMSC.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smpp {
    pub(crate) url: SecretString,
    pub(crate) from: String,
    pub(crate) from_ton: Option<u8>,
    pub(crate) from_npi: Option<u8>,
    #[serde(default)]
    pub(crate) system_type: String,
    pub(crate) window: Option<usize>,
    pub(crate) per_second: Option<NonZeroU32>,
    pub(crate) enquire_link_seconds: Option<u64>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) ca_file: Option<PathBuf>,
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

/// Somebody whose app people register in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Partner {
    pub(crate) name: String,
    pub(crate) brand: Option<String>,
    #[serde(default, deserialize_with = "list")]
    pub(crate) phone_countries: Vec<String>,
    /// Several while a secret is changed: what is signed with any of them is believed.
    #[serde(default, deserialize_with = "optional_list")]
    pub(crate) secrets: Option<Vec<SecretString>>,
    pub(crate) signup_per_hour: Option<Rate>,
}

impl Partner {
    /// The name that its messages speak in.
    pub(crate) fn brand(&self) -> &str {
        self.brand.as_deref().unwrap_or(&self.name)
    }

    fn check(&self) -> Result<(), String> {
        // Of the characters that cost an SMS no more than a letter, those that names are written with, and none that ends a code's line.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " !&'()+,-./ÄÖÑÜÅÆØÉäöñüåæøéèìòùà".contains(c);
        let brand = self.brand();
        if brand.trim() != brand
            || !(1..=MAX_BRAND).contains(&brand.chars().count())
            || !brand.chars().all(is_plain)
        {
            return Err(format!(
                "its `brand` (else its `name`) must be 1 to {MAX_BRAND} letters, digits and signs that an SMS can carry"
            ));
        }
        // A variable that was left empty by mistake must not mean that nothing need be signed.
        if self.secrets.as_ref().is_some_and(Vec::is_empty) {
            return Err("its `secrets` must not be empty: leave them out if it does not sign".to_owned());
        }
        if self.secrets.iter().flatten().any(|secret| secret.expose_secret().len() < MIN_PARTNER_SECRET) {
            return Err(format!("each of its `secrets` must have at least {MIN_PARTNER_SECRET} characters"));
        }
        Ok(())
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
    /// Rates.
    Limits {
        login_attempts: u32 = 10,
        login_lock_seconds: u64 = 900,
        signup_per_phone_per_day: u32 = 10,
        guesses_per_phone_per_day: u32 = 30,
        blocks_per_phone_per_day: u32 = 20,
        mails_per_account_per_day: u32 = 10,
        signup_per_device_per_hour: Rate = Rate(10),
        signup_per_ip_per_hour: Rate = Rate(30),
        signup_per_block_per_hour: Rate = Rate(300),
        signup_per_hour: Rate = Rate(20_000),
        resends_per_device_per_hour: Rate = Rate(20),
        resends_per_ip_per_hour: Rate = Rate(60),
        resends_per_block_per_hour: Rate = Rate(600),
        resends_per_hour: Rate = Rate(20_000),
        wrong_codes_per_device_per_hour: Rate = Rate(30),
        wrong_codes_per_ip_per_hour: Rate = Rate(60),
        wrong_codes_per_block_per_hour: Rate = Rate(600),
        wrong_codes_per_hour: Rate = Rate(1000),
        wrong_passwords_per_device_per_hour: Rate = Rate(50),
        wrong_passwords_per_ip_per_hour: Rate = Rate(100),
        wrong_passwords_per_block_per_hour: Rate = Rate(1000),
        wrong_passwords_per_hour: Rate = Rate(50_000),
        resets_per_device_per_hour: Rate = Rate(10),
        resets_per_ip_per_hour: Rate = Rate(30),
        resets_per_block_per_hour: Rate = Rate(300),
        resets_per_hour: Rate = Rate(20_000),
        mails_per_device_per_hour: Rate = Rate(20),
        mails_per_ip_per_hour: Rate = Rate(60),
        mails_per_block_per_hour: Rate = Rate(600),
        mails_per_hour: Rate = Rate(20_000),
        keyed_requests_per_device_per_hour: Rate = Rate(300),
        keyed_requests_per_ip_per_hour: Rate = Rate(1_200),
        keyed_requests_per_block_per_hour: Rate = Rate(12_000),
        keyed_requests_per_hour: Rate = Rate(100_000),
    }
}

impl Limits {
    /// The budgets that are not a phone's or an account's own.
    pub(crate) fn quotas(&self) -> Quotas {
        let step = |device: Rate, address: Rate, block: Rate, everyone: Rate| StepQuotas {
            device: device.quota(),
            address: address.quota(),
            block: block.quota(),
            everyone: everyone.quota(),
        };
        Quotas {
            sign_up: step(
                self.signup_per_device_per_hour,
                self.signup_per_ip_per_hour,
                self.signup_per_block_per_hour,
                self.signup_per_hour,
            ),
            resend: step(
                self.resends_per_device_per_hour,
                self.resends_per_ip_per_hour,
                self.resends_per_block_per_hour,
                self.resends_per_hour,
            ),
            code_guess: step(
                self.wrong_codes_per_device_per_hour,
                self.wrong_codes_per_ip_per_hour,
                self.wrong_codes_per_block_per_hour,
                self.wrong_codes_per_hour,
            ),
            password_guess: step(
                self.wrong_passwords_per_device_per_hour,
                self.wrong_passwords_per_ip_per_hour,
                self.wrong_passwords_per_block_per_hour,
                self.wrong_passwords_per_hour,
            ),
            reset: step(
                self.resets_per_device_per_hour,
                self.resets_per_ip_per_hour,
                self.resets_per_block_per_hour,
                self.resets_per_hour,
            ),
            mail: step(
                self.mails_per_device_per_hour,
                self.mails_per_ip_per_hour,
                self.mails_per_block_per_hour,
                self.mails_per_hour,
            ),
            keyed_request: step(
                self.keyed_requests_per_device_per_hour,
                self.keyed_requests_per_ip_per_hour,
                self.keyed_requests_per_block_per_hour,
                self.keyed_requests_per_hour,
            ),
        }
    }
}

/// So many in an hour; at most so many that a unit is some milliseconds, as moments are kept to the millisecond.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
pub(crate) struct Rate(u32);

impl TryFrom<u32> for Rate {
    type Error = &'static str;

    fn try_from(rate: u32) -> Result<Self, Self::Error> {
        if (1..=1_000_000).contains(&rate) { Ok(Self(rate)) } else { Err("must be 1 to 1000000") }
    }
}

impl Rate {
    pub(crate) const fn quota(self) -> Quota {
        Quota { burst: self.0, period: Duration::from_hours(1) }
    }
}

section! {
    /// What messages may cost.
    Spending {
        currency: String = "USD".to_owned(),
        per_hour: Option<Amount> = None,
        per_day: Option<Amount> = None,
        per_country_per_hour: Option<Amount> = None,
        per_country_per_day: Option<Amount> = None,
        countries: HashMap<String, CountrySpending> = HashMap::new(),
        reserve_percent: u8 = 20,
        default_price: Amount = Amount(prices::ELSEWHERE),
        prices: HashMap<String, Amount> = HashMap::new(),
        providers: HashMap<String, ProviderSpending> = HashMap::new(),
    }
}

section! {
    /// What one provider charges, and may.
    ProviderSpending {
        default_price: Option<Amount> = None,
        prices: HashMap<String, Amount> = HashMap::new(),
        per_hour: Option<Amount> = None,
        per_day: Option<Amount> = None,
    }
}

section! {
    /// What messages to one country may cost.
    CountrySpending {
        per_hour: Option<Amount> = None,
        per_day: Option<Amount> = None,
    }
}

section! {
    /// Sign-ups are held back where too few codes come back.
    Guard {
        mode: Option<GuardMode> = None,
        min_confirmed_percent: u8 = CountryNorm::default().confirmed_percent,
        unconfirmed_per_range: u32 = PumpingGuard::default().unconfirmed_per_range,
        unconfirmed_per_block: u32 = PumpingGuard::default().unconfirmed_per_block,
        unconfirmed_per_country: u32 = CountryNorm::default().unconfirmed,
        forget_hours: u32 = hours(PumpingGuard::default().forget_after),
        countries: HashMap<String, CountryGuard> = HashMap::new(),
    }
}

/// Whole ones.
fn hours(span: Duration) -> u32 {
    u32::try_from(span.as_secs() / 3600).unwrap_or(u32::MAX)
}

/// What becomes of what the guard against pumping finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GuardMode {
    Off,
    Observe,
    Enforce,
}

section! {
    /// What is normal in one country.
    CountryGuard {
        min_confirmed_percent: Option<u8> = None,
        unconfirmed: Option<u32> = None,
    }
}

impl Guard {
    /// The rule. Where no mode is set, sign-ups are refused in production only.
    pub(crate) fn rule(&self, environment: Environment) -> Result<PumpingGuard, ConfigError> {
        let refuse = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
        for (key, units, least) in [
            ("guard.unconfirmed_per_range", self.unconfirmed_per_range, 1),
            ("guard.unconfirmed_per_block", self.unconfirmed_per_block, 1),
            ("guard.unconfirmed_per_country", self.unconfirmed_per_country, MIN_OF_COUNTRY),
        ] {
            if !(least..=1_000_000).contains(&units) {
                return refuse(key, &format!("must be {least} to 1000000"));
            }
        }
        if !(1..=720).contains(&self.forget_hours) {
            return refuse("guard.forget_hours", "must be 1 to 720");
        }
        if !(1..=100).contains(&self.min_confirmed_percent) {
            return refuse("guard.min_confirmed_percent", "must be 1 to 100");
        }
        let by_default = match environment {
            Environment::Development => GuardMode::Observe,
            Environment::Production => GuardMode::Enforce,
        };
        let mode = match self.mode.unwrap_or(by_default) {
            GuardMode::Off => Mode::Off,
            GuardMode::Observe => Mode::Observe,
            GuardMode::Enforce => Mode::Enforce,
        };
        let norm = CountryNorm {
            confirmed_percent: self.min_confirmed_percent,
            unconfirmed: self.unconfirmed_per_country,
        };
        let countries = by_country("guard.countries", &self.countries)?;
        let norms = countries.into_iter().map(|(country, own)| {
            let CountryGuard { min_confirmed_percent, unconfirmed } = own;
            let confirmed_percent = min_confirmed_percent.unwrap_or(norm.confirmed_percent);
            let unconfirmed = unconfirmed.unwrap_or(norm.unconfirmed);
            if !(1..=100).contains(&confirmed_percent) || !(MIN_OF_COUNTRY..=1_000_000).contains(&unconfirmed) {
                let problem = format!(
                    "`{}`: `min_confirmed_percent` must be 1 to 100, `unconfirmed` {MIN_OF_COUNTRY} to 1000000",
                    country.as_str()
                );
                return Err(ConfigError::Value { key: "guard.countries", problem });
            }
            Ok((country, CountryNorm { confirmed_percent, unconfirmed }))
        });
        Ok(PumpingGuard {
            mode,
            norm,
            countries: norms.collect::<Result<_, _>>()?,
            unconfirmed_per_range: self.unconfirmed_per_range,
            unconfirmed_per_block: self.unconfirmed_per_block,
            forget_after: Duration::from_hours(self.forget_hours.into()),
        })
    }
}

/// Money, as a number or a text: a variable's value is a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount(Money);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(u64),
            Decimal(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer).map_err(|_| D::Error::custom(MoneyError))? {
            Written::Whole(number) => number.to_string(),
            Written::Decimal(number) => number.to_string(),
            Written::Text(text) => text,
        };
        Money::parse(&text).map(Self).map_err(D::Error::custom)
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
        let refuse = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
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
            return Err(ConfigError::Value { key: "oauth.services", problem });
        }
        self.check_partners()?;
        self.check_public_url()?;
        self.check_providers()?;
        self.check_place()
    }

    fn check_partners(&self) -> Result<(), ConfigError> {
        const KEY: &str = "partners";
        for (id, partner) in &self.partners {
            let refuse = |problem| ConfigError::Value { key: KEY, problem: format!("`{id}`: {problem}") };
            if MerchantId::parse(id).is_none() {
                return Err(refuse(
                    "a partner's id is 1 to 64 of `A-Z`, `a-z`, `0-9`, `_` and `-`".to_owned(),
                ));
            }
            partner.check().map_err(refuse)?;
            countries("partners: `phone_countries`", &partner.phone_countries)?;
        }
        if self.http.require_merchant && self.partners.is_empty() {
            let problem = "is of no use without `partners`: nobody would be let in".to_owned();
            return Err(ConfigError::Value { key: "http.require_merchant", problem });
        }
        Ok(())
    }

    fn check_public_url(&self) -> Result<(), ConfigError> {
        let refuse =
            |problem: &str| Err(ConfigError::Value { key: "http.public_url", problem: problem.to_owned() });
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

    fn check_providers(&self) -> Result<(), ConfigError> {
        let refuse = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
        once_each("sms.providers", "", &self.sms.providers)?;
        let orders = self.sms.country_orders()?;
        for (country, providers) in &orders {
            once_each("sms.countries", &format!("{country}: "), providers)?;
        }
        for (provider, key, is_there) in [
            (SmsProvider::Twilio, "sms.twilio", self.sms.twilio.is_some()),
            (SmsProvider::Webhook, "sms.webhook", self.sms.webhook.is_some()),
            (SmsProvider::Smpp, "sms.smpp", self.sms.smpp.is_some()),
        ] {
            if self.sms.uses(provider) && !is_there {
                return refuse(key, "is needed, since `sms.providers` or `sms.countries` names it");
            }
        }
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
        let refuse = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
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
        DatabaseKind::parse(url).ok_or_else(|| ConfigError::Value {
            key: "database.url",
            problem: DatabaseKind::FORMS.to_owned(),
        })
    }

    pub(crate) fn master_key_file(&self) -> PathBuf {
        self.secrets.master_key_file.clone().unwrap_or_else(|| self.data_dir.join("master.key"))
    }

    pub(crate) fn token_key_file(&self) -> PathBuf {
        self.secrets.token_key_file.clone().unwrap_or_else(|| self.data_dir.join("token.keys"))
    }
}

impl Sms {
    /// Whether any list names the provider.
    pub(crate) fn uses(&self, provider: SmsProvider) -> bool {
        self.providers.contains(&provider) || self.countries.values().any(|list| list.0.contains(&provider))
    }

    /// The countries with an order of their own.
    pub(crate) fn country_orders(&self) -> Result<HashMap<Country, &[SmsProvider]>, ConfigError> {
        let orders = by_country("sms.countries", &self.countries)?;
        Ok(orders.into_iter().map(|(country, SmsProviders(order))| (country, order.as_slice())).collect())
    }
}

fn once_each(key: &'static str, whose: &str, providers: &[SmsProvider]) -> Result<(), ConfigError> {
    let refuse = |problem: &str| Err(ConfigError::Value { key, problem: format!("{whose}{problem}") });
    if providers.is_empty() {
        return refuse("must name at least one provider");
    }
    let twice = |(at, provider)| providers.iter().take(at).any(|earlier| earlier == provider);
    if providers.iter().enumerate().any(twice) { refuse("names a provider twice") } else { Ok(()) }
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
                return Err(ConfigError::Value { key, problem });
            }
        }
    }
    Ok(found)
}

/// The countries of a list that was checked.
pub(crate) fn countries(key: &'static str, codes: &[String]) -> Result<Vec<Country>, ConfigError> {
    let parse = |code: &String| {
        Country::parse(code)
            .map_err(|_| ConfigError::Value { key, problem: format!("`{code}` is no country code") })
    };
    codes.iter().map(parse).collect()
}

/// Serde's message without the value that it repeats in some of its sentences.
fn without_value(message: &str) -> String {
    let Some(rest) =
        message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))
    else {
        return message.to_owned();
    };
    match rest.split_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => "not a valid value".to_owned(),
    }
}

/// The parser's message without the lines of the file that it repeats: a secret may stand in them.
fn without_lines(message: &str) -> String {
    let is_repeated = |line: &&str| {
        let mut before = line.splitn(2, '|');
        let number = before.next().unwrap_or_default().trim();
        before.next().is_some() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let told = message.lines().filter(|line| !is_repeated(line)).map(str::trim);
    told.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
}

/// A list, or in a variable its items with commas between them.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    optional_list(deserializer).map(Option::unwrap_or_default)
}

fn optional_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Items {
        Text(String),
        List(Vec<String>),
    }
    let items = match Items::deserialize(deserializer)? {
        Items::List(items) => items,
        Items::Text(text) => text.split(',').map(str::to_owned).collect(),
    };
    items
        .iter()
        .map(|item| item.trim())
        .filter(|item| !item.is_empty())
        .map(|item| T::deserialize(item.into_deserializer()))
        .collect::<Result<Vec<T>, D::Error>>()
        .map(Some)
}

/// One word of a few; the refusal names them.
fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

fn listener<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom("must be an address and a port, as `127.0.0.1:8080`"))
}

/// Networks; an address is one of its own.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<IpNet>>, D::Error> {
    let network = |text: String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| D::Error::custom("must be networks or addresses, as `10.0.0.0/8`"))
    };
    let texts = optional_list(deserializer)?;
    texts.map(|texts| texts.into_iter().map(network).collect()).transpose()
}

fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let format = format_description!("[year]-[month]-[day]");
    let text = String::deserialize(deserializer)?;
    Date::parse(text.trim(), format).map_err(|_| D::Error::custom("must be a day, as `2027-01-31`"))
}

#[cfg(test)]
mod tests;
