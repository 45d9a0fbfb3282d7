//! The whole application over fakes, and the phone that only the owner of the number reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use vestibule_application::{Application, Derivation, HeldBack, MasterKeys, Settings, ToldOfSpending};
use vestibule_domain::limits::{Quotas, StepQuotas};
use vestibule_domain::pumping::{Mode, PumpingGuard};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::Rules;
use vestibule_domain::sign_in::GuardRules;
use vestibule_domain::spending::Budget;
use vestibule_domain::{
    AttemptId, Content, CountryRule, EmailRules, OfNoCountry, OneTimeCode, OneTimeCodes as _, PasswordPolicy,
    SessionLives, StrengthEstimator, TestNumbers,
};
use vestibule_port_security::Clock as _;
use vestibule_port_storage::{Outbox as _, Room, Settlement};
use vestibule_testkit::{CountingEntropy, FakeHasher, FakeTokens, InMemoryStorage, ManualClock, OneCountry};

pub(crate) const PHONE: &str = "+447871234567";

const DAY: Duration = Duration::from_hours(24);

/// The service's own defaults.
pub(crate) const RULES: Rules = Rules {
    code_ttl: Duration::from_mins(10),
    code_guesses: 5,
    resend_cooldown: Duration::from_mins(1),
    max_messages: 5,
    sign_ups: Quota { burst: 10, period: DAY },
    guesses: Quota { burst: 30, period: DAY },
    places: 20,
};

/// What a code was sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    SignUp,
    Reset,
}

/// A message that the owner has got.
struct Sms {
    purpose: For,
    attempt: AttemptId,
    code: OneTimeCode,
}

pub(crate) struct World {
    pub(crate) application: Application,
    storage: Arc<InMemoryStorage>,
    clock: Arc<ManualClock>,
    derivation: Arc<Derivation>,
    received: Vec<Sms>,
}

/// Passwords are not what this is about.
struct Strong;

impl StrengthEstimator for Strong {
    fn score(&self, _: &str, _: &[&str]) -> u8 {
        4
    }
}

impl World {
    pub(crate) fn new(conceal_accounts: bool) -> Self {
        let storage = Arc::new(InMemoryStorage::default());
        let clock = Arc::new(ManualClock::default());
        let keys = MasterKeys { active: [1; 32], previous: None, numbers: [2; 32] };
        let derivation = Arc::new(Derivation::new(&keys, 6));
        let application = Application {
            storage: storage.clone(),
            answers: storage.clone(),
            hasher: Arc::new(FakeHasher::default()),
            tokens: Arc::new(FakeTokens::default()),
            clock: clock.clone(),
            entropy: Arc::new(CountingEntropy::default()),
            countries: Arc::new(OneCountry(None)),
            derivation: derivation.clone(),
            password_checks: Arc::new(tokio::sync::Semaphore::new(1)),
            settings: settings(conceal_accounts),
            held_back: HeldBack::default(),
            told_of_spending: ToldOfSpending::default(),
        };
        Self { application, storage, clock, derivation, received: Vec::new() }
    }

    pub(crate) fn now(&self) -> UtcDateTime {
        self.clock.now()
    }

    /// What was sent has come before.
    pub(crate) async fn pass(&mut self, time: Duration) {
        self.receive().await;
        self.clock.advance(time);
    }

    /// The request that the newest code on the phone belongs to.
    pub(crate) async fn newest_attempt(&mut self, purpose: For) -> Option<AttemptId> {
        self.receive().await;
        self.received.iter().rfind(|sms| sms.purpose == purpose).map(|sms| sms.attempt)
    }

    /// The newest code on the phone that belongs to the request.
    pub(crate) async fn newest_code(&mut self, attempt: AttemptId) -> Option<OneTimeCode> {
        self.receive().await;
        self.received.iter().rfind(|sms| sms.attempt == attempt).map(|sms| sms.code.clone())
    }

    async fn receive(&mut self) {
        let now = self.clock.now();
        for claimed in self.storage.claim(Room::for_each(1000), Duration::from_secs(1), now).await.unwrap() {
            let message = claimed.message;
            let (settlement, sent) = if now >= message.expires_at {
                (Settlement::Expired { at: now }, None)
            } else {
                let sent = match message.content {
                    Content::SignUpCode { attempt, generation } => Some((For::SignUp, attempt, generation)),
                    Content::ResetCode { attempt, generation } => Some((For::Reset, attempt, generation)),
                    _ => None,
                };
                (Settlement::Sent { provider: "fake", reference: None, cost: None, at: now }, sent)
            };
            self.storage.settle(message.id, claimed.tries, settlement).await.unwrap();
            self.received.extend(sent.map(|(purpose, attempt, generation)| Sms {
                purpose,
                attempt,
                code: self.derivation.codes(None).code(attempt, generation),
            }));
        }
    }
}

fn settings(conceal_accounts: bool) -> Settings {
    let ample = Quota { burst: 1_000_000, period: Duration::from_hours(1) };
    let step = StepQuotas { device: ample, address: ample, block: ample, everyone: ample };
    let everywhere = CountryRule::new([], [], OfNoCountry::Admitted).unwrap();
    Settings {
        registration: RULES,
        email: EmailRules { link_ttl: DAY, resend_cooldown: Duration::from_mins(1), mails: ample },
        quotas: Quotas {
            sign_up: step,
            resend: step,
            code_guess: step,
            password_guess: step,
            reset: step,
            mail: step,
            keyed_request: step,
        },
        spending: Budget::default(),
        pumping: PumpingGuard { mode: Mode::Enforce, ..PumpingGuard::default() },
        guard: GuardRules { attempts: 10, lock: Duration::from_mins(15) },
        conceal_accounts,
        min_age_years: 18,
        client_countries: everywhere.clone(),
        phone_countries: everywhere,
        test_numbers: TestNumbers::default(),
        partners: HashMap::new(),
        passwords: PasswordPolicy::new(2, 5, Arc::new(Strong), None),
        access_ttl: Duration::from_mins(15),
        keep_messages: DAY,
        keep_facts: DAY,
        sessions: SessionLives { idle: DAY * 30, absolute: DAY * 365 },
    }
}
