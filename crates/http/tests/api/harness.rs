//! The whole HTTP crate over the fakes, with verbs.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::test::{self, TestRequest};
use actix_web::web::Data;
use actix_web::{App, Error};
use serde_json::{Value, json};
use time::macros::date;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use vestibule_application::{
    Application, Callbacks, Derivation, EMAIL_CONFIRMATION_EVENT, HeldBack, MasterKeys, Partner, Settings,
    ToldOfSpending, Wording,
};
use vestibule_domain::limits::{Quotas, StepQuotas};
use vestibule_domain::pumping::{Mode, PumpingGuard};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::Rules;
use vestibule_domain::sign_in::GuardRules;
use vestibule_domain::spending::Budget;
use vestibule_domain::{
    Content, Country, CountryRule, DeliveryState, EmailRules, MerchantId, Message, MessageId, OfNoCountry,
    OneTimeCode, OneTimeCodes as _, PasswordPolicy, PhoneNumber, Recipient, SessionLives, TestNumber,
    TestNumbers, Zxcvbn,
};
use vestibule_http::{Http, Partners, Services, Underway};
use vestibule_port_security::mocks::MockPasswordHasher;
use vestibule_port_security::{Clock as _, HashError};
use vestibule_port_sms::{
    CallbackError, Delivery, DeliveryReport, MockDeliveryCallbacks, MockDeliveryReports, Reported,
};
use vestibule_port_storage::{Outbox as _, Report, Room, Settlement};
use vestibule_testkit::{CountingEntropy, FakeHasher, FakeTokens, InMemoryStorage, ManualClock, OneCountry};

pub(crate) const PHONE: &str = "+447871234567";
/// A test number that nobody can have.
pub(crate) const FICTION: &str = "+447700900123";
/// A test number that somebody may have.
pub(crate) const TEST_PHONE: &str = "+447400000123";
pub(crate) const TEST_CODE: &str = "123456";
pub(crate) const PASSWORD: &str = "correct-horse-7";
const DAY: Duration = Duration::from_hours(24);

pub(crate) struct Options {
    pub(crate) conceal: bool,
    pub(crate) client_country: Option<&'static str>,
    pub(crate) quotas: Quotas,
    pub(crate) spending: Budget,
    pub(crate) pumping: PumpingGuard,
    pub(crate) client_countries: CountryRule,
    pub(crate) phone_countries: CountryRule,
    /// Whether the queue of passwords to hash is full.
    pub(crate) busy: bool,
    /// Whether a report can be recorded; without it, no provider calls.
    pub(crate) records: Option<bool>,
    pub(crate) partners: Partners,
    pub(crate) storage: Arc<InMemoryStorage>,
    /// The only one that is known.
    pub(crate) master_key: [u8; 32],
}

/// Limits that few tests meet, but for those that are changed.
pub(crate) fn quotas(change: impl FnOnce(&mut Quotas)) -> Quotas {
    let plenty = Quota { burst: 1000, period: DAY };
    let step = StepQuotas { device: plenty, address: plenty, block: plenty, everyone: plenty };
    let mut quotas = Quotas {
        sign_up: step,
        resend: step,
        code_guess: step,
        password_guess: step,
        reset: step,
        mail: step,
        keyed_request: step,
    };
    quotas.password_guess.address.burst = 20;
    quotas.reset.address.burst = 20;
    change(&mut quotas);
    quotas
}

/// A guard that few tests meet, but for what is changed.
pub(crate) fn pumping_guard(change: impl FnOnce(&mut PumpingGuard)) -> PumpingGuard {
    let mut guard = PumpingGuard {
        mode: Mode::Enforce,
        unconfirmed_per_range: 1000,
        unconfirmed_per_block: 1000,
        ..PumpingGuard::default()
    };
    change(&mut guard);
    guard
}

impl Options {
    fn callbacks(&self) -> Option<Callbacks> {
        let records = self.records?;
        let mut reports = MockDeliveryReports::new();
        reports.expect_record().returning(move |report| {
            assert_eq!((report.provider, report.delivery), ("gateway", Delivery::Delivered));
            records
        });
        Some(Callbacks { providers: vec![Arc::new(gateway())], reports: Arc::new(reports) })
    }
}

/// A provider whose signature is its name, and which reports what its body says.
fn gateway() -> MockDeliveryCallbacks {
    let mut callbacks = MockDeliveryCallbacks::new();
    callbacks.expect_name().return_const("gateway");
    callbacks.expect_read().returning(|request| {
        assert_eq!(request.path_and_query, "/callbacks/sms/gateway?message=%37&x");
        if request.header("x-gateway-signature") != Some("gateway") {
            return Err(CallbackError::Unsigned);
        }
        match request.body {
            b"delivered" => {
                let message = Reported::Reference("7".to_owned());
                Ok(Some(DeliveryReport { provider: "gateway", message, delivery: Delivery::Delivered }))
            }
            b"nothing" => Ok(None),
            _ => Err(CallbackError::Malformed),
        }
    });
    callbacks
}

impl Default for Options {
    fn default() -> Self {
        Self {
            conceal: false,
            client_country: None,
            client_countries: rule("", "KP"),
            phone_countries: rule("", "FR"),
            quotas: quotas(|_| {}),
            spending: Budget::default(),
            pumping: pumping_guard(|_| {}),
            busy: false,
            records: None,
            storage: Arc::default(),
            master_key: [1; 32],
            partners: Partners::default(),
        }
    }
}

/// A rule that refuses whom no country is known of, if only some are allowed.
pub(crate) fn rule(allowed: &str, blocked: &str) -> CountryRule {
    let of_none = if allowed.is_empty() { OfNoCountry::Admitted } else { OfNoCountry::Refused };
    rule_with(allowed, blocked, of_none)
}

pub(crate) fn rule_with(allowed: &str, blocked: &str, of_none: OfNoCountry) -> CountryRule {
    let countries = |codes: &str| -> Vec<_> {
        codes.split_whitespace().map(|code| Country::parse(code).unwrap()).collect()
    };
    CountryRule::new(countries(allowed), countries(blocked), of_none).unwrap()
}

/// What stands behind the routes.
pub(crate) struct Backstage {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) storage: Arc<InMemoryStorage>,
    pub(crate) hasher: Arc<FakeHasher>,
    derivation: Arc<Derivation>,
    last_received: Mutex<Option<MessageId>>,
    pub(crate) http: Data<Http>,
}

impl Backstage {
    pub(crate) fn new(options: &Options) -> Self {
        let clock = Arc::new(ManualClock::default());
        let storage = Arc::clone(&options.storage);
        let hasher = Arc::new(FakeHasher::default());
        let entropy = Arc::new(CountingEntropy::default());
        let keys = MasterKeys { active: options.master_key, previous: None, numbers: [2; 32] };
        let derivation = Arc::new(Derivation::new(&keys, 6));
        let wording = Arc::new(Wording::new("http://localhost", None).unwrap());
        let country = |code: &str| Country::parse(code).unwrap();
        let application = Application {
            storage: storage.clone(),
            answers: storage.clone(),
            hasher: if options.busy { Arc::new(busy()) } else { hasher.clone() },
            tokens: Arc::new(FakeTokens::default()),
            clock: clock.clone(),
            entropy,
            countries: Arc::new(OneCountry(options.client_country.map(country))),
            derivation: derivation.clone(),
            password_checks: Arc::new(tokio::sync::Semaphore::new(2)),
            settings: settings(options),
            held_back: HeldBack::default(),
            told_of_spending: ToldOfSpending::default(),
        };
        let http = Http {
            application: Arc::new(application),
            wording,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            callbacks: options.callbacks(),
            issuer: "https://vestibule.example".to_owned(),
            audience: "app".to_owned(),
            partners: options.partners.clone(),
            services: Services::new([("billing", "a secret of billing")]),
            underway: Underway::default(),
        };
        Self { clock, storage, hasher, derivation, last_received: Mutex::default(), http: Data::new(http) }
    }

    /// The routes, as the service serves them.
    pub(crate) async fn routes(
        &self,
    ) -> impl Service<actix_http::Request, Response = ServiceResponse<impl MessageBody>, Error = Error> {
        let app = App::new().app_data(self.http.clone()).wrap(from_fn(vestibule_http::finish));
        test::init_service(app.configure(vestibule_http::public)).await
    }

    /// The gateway reports of the message that was received last.
    pub(crate) async fn reported(&self, state: DeliveryState) {
        let message = vestibule_port_storage::Reported::Message(self.last_received.lock().unwrap().unwrap());
        let report = Report { provider: "gateway", message, state, reason: None, at: self.clock.now() };
        assert!(self.storage.record_delivery(&report).await.unwrap());
    }

    /// What happened to the number, the newest first.
    pub(crate) async fn events(&self, phone: &str) -> Vec<String> {
        let phone = PhoneNumber::restore(phone).unwrap();
        let facts = self.http.application.facts_of_number(&phone, 100).await.unwrap();
        facts.iter().map(|fact| fact.event.as_str().to_owned()).collect()
    }

    /// What happened last to the number, and from where.
    pub(crate) async fn newest_fact(&self, phone: &str) -> (&'static str, Option<String>) {
        let phone = PhoneNumber::parse(phone).unwrap();
        let facts = self.http.application.facts_of_number(&phone, 1).await.unwrap();
        let fact = facts.first().unwrap();
        (fact.event.as_str(), fact.address.map(|address| address.ip().to_string()))
    }

    /// How many messages to `to` are in the outbox, those included that will not be sent.
    pub(crate) async fn queued(&self, to: &str) -> usize {
        let claimed =
            self.storage.claim(Room::for_each(1000), Duration::ZERO, self.clock.now()).await.unwrap();
        claimed.iter().filter(|claimed| is_for(&claimed.message, to)).count()
    }

    /// The code or the path of the link in the latest message to `to`, which leaves the outbox.
    pub(crate) async fn received(&self, to: &str) -> Option<String> {
        let lease = Duration::from_secs(1);
        let mut latest = None;
        for claimed in self.storage.claim(Room::for_each(100), lease, self.clock.now()).await.unwrap() {
            let message = claimed.message;
            if self.clock.now() >= message.expires_at {
                let dropped = Settlement::Expired { at: self.clock.now() };
                self.storage.settle(message.id, claimed.tries, dropped).await.unwrap();
            } else if is_for(&message, to) {
                let sent = Settlement::Sent {
                    provider: "gateway",
                    reference: None,
                    cost: None,
                    at: self.clock.now(),
                };
                self.storage.settle(message.id, claimed.tries, sent).await.unwrap();
                latest = Some(message);
            } else {
                let again = Settlement::Retry { at: message.queued_at, reason: String::new() };
                self.storage.settle(message.id, claimed.tries, again).await.unwrap();
            }
        }
        let message = latest?;
        *self.last_received.lock().unwrap() = Some(message.id);
        Some(match (message.content, &message.recipient) {
            (Content::SignUpCode { attempt, generation } | Content::ResetCode { attempt, generation }, _) => {
                self.derivation.codes(None).code(attempt, generation).expose().to_owned()
            }
            (Content::EmailConfirmation { verification }, Recipient::Email(email)) => {
                let token = self.derivation.email_token(verification, email);
                let address = email.as_str().replace('+', "%2B");
                format!(
                    "/v2/mobile/email/confirm?email={address}&event={EMAIL_CONFIRMATION_EVENT}&token={token}"
                )
            }
            (other, _) => other.kind().to_owned(),
        })
    }
}

/// What this thread logs, until the second is dropped. One subscriber serves all threads for as long as the process lives: where each test brings one of
/// its own, what is logged just when another comes or goes may be lost.
pub(crate) fn logged() -> (Log, impl Drop) {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(|| LOG.with_borrow(Clone::clone).unwrap_or_default())
            .with_filter(dynamic_filter_fn(|_, _| LOG.with_borrow(Option::is_some)));
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    });
    let log = Log::default();
    LOG.set(Some(log.clone()));
    (log, Logged)
}

thread_local! {
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

struct Logged;

impl Drop for Logged {
    fn drop(&mut self) {
        LOG.set(None);
    }
}

/// Lines of the log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Those that have come since the last time, and hold the text.
    pub(crate) fn news(&self, text: &str) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_for(message: &Message, to: &str) -> bool {
    match &message.recipient {
        Recipient::Phone(phone) => phone.as_str() == to,
        Recipient::Email(email) => email.as_str().eq_ignore_ascii_case(to),
    }
}

/// A hasher whose queue is full.
fn busy() -> MockPasswordHasher {
    let mut hasher = MockPasswordHasher::new();
    let retry_after = Duration::from_millis(2100);
    hasher.expect_hash().returning(move |_| Err(HashError::Busy { retry_after }));
    hasher
}

fn test_numbers() -> TestNumbers {
    let test = TestNumber { code: OneTimeCode::parse(TEST_CODE).unwrap(), last_day: date!(2026 - 11 - 26) };
    let mut numbers = TestNumbers::default();
    for number in [FICTION, TEST_PHONE] {
        numbers.add(number, test.clone()).unwrap();
    }
    numbers
}

fn settings(options: &Options) -> Settings {
    let quota = |burst| Quota { burst, period: DAY };
    Settings {
        registration: Rules {
            code_ttl: Duration::from_mins(10),
            code_guesses: 5,
            resend_cooldown: Duration::from_mins(1),
            max_messages: 5,
            sign_ups: quota(10),
            guesses: quota(30),
            places: 20,
        },
        email: EmailRules { link_ttl: DAY, resend_cooldown: Duration::from_mins(1), mails: quota(4) },
        quotas: options.quotas,
        spending: options.spending.clone(),
        pumping: options.pumping.clone(),
        conceal_accounts: options.conceal,
        min_age_years: 18,
        client_countries: options.client_countries.clone(),
        phone_countries: options.phone_countries.clone(),
        test_numbers: test_numbers(),
        partners: HashMap::from([(merchant("acme"), acme())]),
        passwords: PasswordPolicy::new(2, 5, Arc::new(Zxcvbn), None),
        access_ttl: Duration::from_mins(15),
        keep_messages: DAY,
        keep_facts: DAY,
        sessions: SessionLives { idle: DAY, absolute: DAY * 3 },
        guard: GuardRules { attempts: 3, lock: Duration::from_mins(15) },
    }
}

/// A partner that serves one country, and not many people there.
fn acme() -> Partner {
    let sign_ups = Some(Quota { burst: 2, period: Duration::from_hours(1) });
    Partner { phone_countries: HashSet::from([Country::parse("GB").unwrap()]), sign_ups }
}

pub(crate) fn merchant(id: &str) -> MerchantId {
    MerchantId::parse(id).unwrap()
}

/// An answer, with everything that a client may look at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// A member of the answer that is a text.
    pub(crate) fn text_of(&self, member: &str) -> String {
        self.json().get(member).and_then(Value::as_str).unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// For a snapshot: the status, the headers that matter, the body.
    pub(crate) fn shown(&self) -> String {
        let names = ["retry-after", "www-authenticate", "allow"];
        let headers: String =
            names.iter().filter_map(|name| Some(format!("\n{name}: {}", self.header(name)?))).collect();
        format!("{}{headers}\n{}", self.status, self.text)
    }
}

/// A request in the making.
pub(crate) struct Call {
    request: TestRequest,
    peer: IpAddr,
}

pub(crate) fn call(method: Method, path: &str) -> Call {
    Call { request: TestRequest::default().method(method).uri(path), peer: [192, 0, 2, 1].into() }
}

impl Call {
    pub(crate) fn json(self, body: &Value) -> Self {
        self.raw("application/json", body.to_string())
    }

    pub(crate) fn raw(self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", media_type).body(body)
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request = self.request.set_payload(body.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.insert_header((name, value));
        self
    }

    /// One header more, beside those of that name.
    pub(crate) fn one_more_header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.append_header((name, value));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn from(mut self, peer: &str) -> Self {
        self.peer = peer.parse().unwrap();
        self
    }

    pub(crate) async fn send<B: MessageBody>(
        self,
        routes: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    ) -> Answer {
        let request = self.request.peer_addr(SocketAddr::from((self.peer, 4711))).to_request();
        let response = test::call_service(routes, request).await;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let text = String::from_utf8(test::read_body(response).await.to_vec()).unwrap();
        Answer { status, headers, text }
    }
}

pub(crate) fn sign_up(phone: &str) -> Call {
    call(Method::POST, "/v2/mobile/signup").json(&json!({ "phone": phone, "password": PASSWORD }))
}

pub(crate) fn confirm(phone: &str, code: &str) -> Call {
    call(Method::POST, "/v2/mobile/phone/confirm").json(&json!({ "phone": phone, "smsCode": code }))
}

pub(crate) fn resend(phone: &str) -> Call {
    call(Method::POST, "/v2/mobile/phone/verify/resend").json(&json!({ "phone": phone }))
}

pub(crate) fn add_email(token: &str, email: &str) -> Call {
    call(Method::PUT, "/v2/mobile/email/add").token(token).json(&json!({ "email": email }))
}

pub(crate) fn patch(token: &str, body: &Value) -> Call {
    call(Method::PATCH, "/v2/customer/profile").token(token).json(body)
}

pub(crate) fn get(token: &str, path: &str) -> Call {
    call(Method::GET, path).token(token)
}

pub(crate) fn callback(body: &[u8]) -> Call {
    call(Method::POST, "/callbacks/sms/gateway?message=%37&x").body(body)
}

/// A form, as OAuth has it.
pub(crate) fn form(path: &str, fields: &[(&str, &str)]) -> Call {
    let body =
        fields.iter().fold(form_urlencoded::Serializer::new(String::new()), |mut form, (name, value)| {
            form.append_pair(name, value);
            form
        });
    call(Method::POST, path).raw("application/x-www-form-urlencoded", { body }.finish())
}

pub(crate) fn sign_in(phone: &str, password: &str) -> Call {
    let fields = [("grant_type", "mobile_phone"), ("number", phone), ("password", password)];
    form("/oauth/token", &fields)
}

pub(crate) fn refresh(token: &str) -> Call {
    form("/oauth/token", &[("grant_type", "refresh_token"), ("refresh_token", token)])
}

pub(crate) fn introspect(token: &str) -> Call {
    // billing:a secret of billing
    form("/oauth/introspect", &[("token", token)])
        .header("authorization", "Basic YmlsbGluZzphIHNlY3JldCBvZiBiaWxsaW5n")
}

pub(crate) fn change_password(token: &str, current: &str, new: &str) -> Call {
    let body = json!({ "currentPassword": current, "newPassword": new });
    call(Method::PUT, "/v2/mobile/password/change").token(token).json(&body)
}

pub(crate) fn ask_reset(phone: &str) -> Call {
    call(Method::POST, "/v2/mobile/password/reset").json(&json!({ "phone": phone }))
}

pub(crate) fn check_reset(phone: &str, code: &str) -> Call {
    let body = json!({ "phone": phone, "code": code });
    call(Method::POST, "/v2/mobile/password/reset/confirm/code").json(&body)
}

pub(crate) fn reset(phone: &str, code: &str, password: &str) -> Call {
    let body = json!({ "phone": phone, "code": code, "password": password });
    call(Method::POST, "/v2/mobile/password/reset/confirm").json(&body)
}

pub(crate) fn erase(token: &str, password: &str) -> Call {
    call(Method::DELETE, "/v2/customer").token(token).json(&json!({ "password": password }))
}

/// Another code than this one.
pub(crate) fn wrong(code: &str) -> &'static str {
    if code == "000000" { "000001" } else { "000000" }
}

/// Signs up and confirms; the answer with the tokens.
macro_rules! registered {
    ($backstage:expr, $routes:expr) => {{
        let phone = $crate::harness::PHONE;
        assert_eq!($crate::harness::sign_up(phone).send(&$routes).await.status, 200);
        let code = $backstage.received(phone).await.unwrap();
        $crate::harness::confirm(phone, &code).send(&$routes).await
    }};
}
pub(crate) use registered;

/// Sends the call; when the hasher has come to the password, the other follows, and then the hasher goes on.
macro_rules! overtaken {
    ($backstage:expr, $routes:expr, $call:expr, at $password:expr, by $other:expr) => {{
        let pause = $backstage.hasher.pause_at($password);
        let other = async {
            pause.reached().await;
            let answer = $other.send(&$routes).await;
            pause.end();
            answer
        };
        futures_util::future::join($call.send(&$routes), other).await
    }};
}
pub(crate) use overtaken;
