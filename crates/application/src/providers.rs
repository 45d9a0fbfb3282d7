//! Which provider carries a text message: the order, the circuit breakers, and when to move on.
//!
//! Providers are tried in the configured order; a country may have an order of its own. What a provider answers decides what follows:
//!
//! | answer | what follows | for the breaker |
//! |---|---|---|
//! | accepted | the message is sent | success |
//! | refused for good (no such number) | a dead letter: another provider would be paid to find out the same | success: it works |
//! | failed for now | the next provider | failure |
//! | fewer requests, please | the next provider; this one gets nothing until the moment that it named | success: it works |
//! | none came | no other provider; see below | failure |
//!
//! When no provider can be tried, the message waits for the first that can. That alone never makes it a dead letter, unless its life ends.
//!
//! **Nobody is billed twice for one message, with one exception.** Where a provider's answer was lost, the message may have left, so no other
//! provider is asked. The provider's delivery report is waited for. Does it say that the message failed, the message is sent again at
//! once. Does no report come within the wait, it is sent again then, and *if* it had left, its recipient gets the same text twice and it is
//! billed twice. Without this second try, a gateway that dies after it has read a request would cost a registration. Both times the provider
//! in doubt comes last.
//!
//! What is known of a provider's health is known to this process only and is lost with it. That is fine: it decides about order and time,
//! never about whether a message is sent. Another instance finds out for itself with five messages, none of which is lost; and an
//! instance whose own network is at fault doesn't close the way for the others.

mod breaker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::{Country, PhoneNumber};
use vestibule_port_security::Clock;
use vestibule_port_sms::{Sms, SmsError, SmsReceipt, SmsSender};

use self::breaker::{Breaker, Change};

/// The longest that a provider may take for one message, by the ports' contracts.
pub(crate) const PROVIDER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a provider gets nothing that asks for fewer requests and does not say for how long; and at most, whatever it says, since a
/// gateway that names a wrong date must not close itself for ever.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// The SMS providers, in the order in which they are tried.
pub struct Providers {
    default: Vec<Arc<Provider>>,
    by_country: HashMap<Country, Vec<Arc<Provider>>>,
}

/// A provider, and what this process knows of its health.
struct Provider {
    sender: Arc<dyn SmsSender>,
    health: Mutex<Health>,
}

struct Health {
    breaker: Breaker,
    paused_until: Option<UtcDateTime>,
}

/// What a try came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Try {
    /// A provider has taken it.
    Sent { provider: &'static str, reference: Option<String> },
    /// A provider may have taken it.
    InDoubt { provider: &'static str, reason: String },
    /// Nobody has taken it; `ready_at` is when the first provider may be tried again.
    Failed { reason: String, ready_at: UtcDateTime },
    /// Nobody could be tried before `ready_at`.
    Postponed { reason: String, ready_at: UtcDateTime },
    /// Nobody will ever take it.
    Hopeless { reason: String },
}

impl Providers {
    /// Tries `default` in this order, for numbers of a country in `by_country` its own list instead. Senders of one name are one provider.
    #[must_use]
    pub fn new(
        default: Vec<Arc<dyn SmsSender>>,
        by_country: HashMap<Country, Vec<Arc<dyn SmsSender>>>,
    ) -> Self {
        let mut known: HashMap<&'static str, Arc<Provider>> = HashMap::new();
        let mut provide = |senders: Vec<Arc<dyn SmsSender>>| {
            let provider = |sender: Arc<dyn SmsSender>| {
                let known = known.entry(sender.name()).or_insert_with(|| Arc::new(Provider::new(sender)));
                Arc::clone(known)
            };
            senders.into_iter().map(provider).collect::<Vec<_>>()
        };
        let default = provide(default);
        let by_country =
            by_country.into_iter().map(|(country, senders)| (country, provide(senders))).collect();
        Self { default, by_country }
    }

    /// The names of all providers, each once, the default ones first.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for provider in self.routes().flatten() {
            if !names.contains(&provider.name()) {
                names.push(provider.name());
            }
        }
        names
    }

    /// How long one message may take at most, if it is begun now: as long as all providers of a route together that may be tried
    /// until then.
    pub(crate) fn patience(&self, now: UtcDateTime) -> Duration {
        let times =
            |providers: usize| PROVIDER_PATIENCE.saturating_mul(u32::try_from(providers).unwrap_or(u32::MAX));
        let reachable = |route: &Vec<Arc<Provider>>| {
            let end = now + times(route.len());
            route.iter().filter(|provider| provider.ready_at(now) <= end).count()
        };
        times(self.routes().map(reachable).max().unwrap_or(0))
    }

    /// Tries the providers in their order, the doubted one last, until one has taken the message, or may have, or refuses it for good.
    pub(crate) async fn send(&self, sms: &Sms, doubted: Option<&str>, clock: &dyn Clock) -> Try {
        let route = self.route(&sms.to);
        let (last, first): (Vec<_>, Vec<_>) =
            route.iter().partition(|provider| doubted == Some(provider.name()));
        let (mut failures, mut closed) = (Vec::new(), Vec::new());
        for provider in first.into_iter().chain(last) {
            let name = provider.name();
            if let Err(why) = provider.admit(clock.now()) {
                closed.push(format!("{name}: {why}"));
                continue;
            }
            let answer = provider.sender.send(sms).await;
            provider.learn(&answer, clock.now());
            match answer {
                Ok(SmsReceipt { reference }) => {
                    return Try::Sent { provider: name, reference: Some(reference) };
                }
                Err(SmsError::Permanent { reason }) => {
                    return Try::Hopeless { reason: format!("{name}: {reason}") };
                }
                Err(SmsError::Ambiguous { reason }) => {
                    return Try::InDoubt { provider: name, reason: format!("{name}: {reason}") };
                }
                Err(SmsError::Temporary { reason } | SmsError::Throttled { reason, .. }) => {
                    tracing::info!(provider = name, reason, "not taken");
                    failures.push(format!("{name}: {reason}"));
                }
            }
        }
        let now = clock.now();
        let ready_at = route.iter().map(|provider| provider.ready_at(now)).min().unwrap_or(now);
        if failures.is_empty() && !closed.is_empty() {
            return Try::Postponed { reason: closed.join("; "), ready_at };
        }
        if failures.is_empty() {
            failures.push("there is no provider".to_owned());
        }
        Try::Failed { reason: failures.join("; "), ready_at }
    }

    fn route(&self, to: &PhoneNumber) -> &[Arc<Provider>] {
        if self.by_country.is_empty() {
            return &self.default;
        }
        to.country().and_then(|country| self.by_country.get(&country)).unwrap_or(&self.default)
    }

    fn routes(&self) -> impl Iterator<Item = &Vec<Arc<Provider>>> {
        std::iter::once(&self.default).chain(self.by_country.values())
    }
}

impl Provider {
    fn new(sender: Arc<dyn SmsSender>) -> Self {
        Self { sender, health: Mutex::new(Health { breaker: Breaker::new(), paused_until: None }) }
    }

    fn name(&self) -> &'static str {
        self.sender.name()
    }

    /// When it may be tried; not before `now`.
    fn ready_at(&self, now: UtcDateTime) -> UtcDateTime {
        let health = self.health();
        health.breaker.ready_at(now).max(health.paused_until.unwrap_or(now))
    }

    /// Whether it may be tried now, or why not.
    fn admit(&self, now: UtcDateTime) -> Result<(), &'static str> {
        let mut health = self.health();
        if health.paused_until.is_some_and(|until| now < until) {
            return Err("it has asked for fewer requests");
        }
        let change = health.breaker.admit(now).map_err(|_| "it rests after failures")?;
        drop(health);
        self.tell(change);
        Ok(())
    }

    fn learn(&self, answer: &Result<SmsReceipt, SmsError>, now: UtcDateTime) {
        let mut health = self.health();
        let change = match answer {
            Ok(_) | Err(SmsError::Permanent { .. }) => health.breaker.succeed(),
            Err(SmsError::Temporary { .. } | SmsError::Ambiguous { .. }) => health.breaker.fail(now),
            Err(SmsError::Throttled { retry_after, .. }) => {
                let until = now + retry_after.unwrap_or(DEFAULT_PAUSE).min(LONGEST_PAUSE);
                health.paused_until = Some(health.paused_until.map_or(until, |earlier| earlier.max(until)));
                health.breaker.succeed()
            }
        };
        drop(health);
        self.tell(change);
    }

    fn tell(&self, change: Option<Change>) {
        let provider = self.name();
        match change {
            None => {}
            Some(Change::Opened(rest)) => {
                tracing::warn!(
                    provider,
                    seconds = rest.as_secs(),
                    "the provider fails and is left alone for a while"
                );
            }
            Some(Change::Probed) => tracing::info!(provider, "the provider is tried again with one message"),
            Some(Change::Closed) => tracing::info!(provider, "the provider works again"),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::utc_datetime;
    use vestibule_port_sms::MockSmsSender;

    use super::*;

    const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);

    fn sender(name: &'static str) -> Arc<dyn SmsSender> {
        let mut mock = MockSmsSender::new();
        mock.expect_name().return_const(name);
        Arc::new(mock)
    }

    fn senders<const N: usize>(names: [&'static str; N]) -> Vec<Arc<dyn SmsSender>> {
        names.into_iter().map(sender).collect()
    }

    fn throttle(provider: &Provider, seconds: u64) {
        let retry_after = Some(Duration::from_secs(seconds));
        provider.learn(&Err(SmsError::Throttled { retry_after, reason: String::new() }), NOW);
    }

    #[test]
    fn a_provider_is_one_in_whatever_lists_it_stands() {
        let germany = Country::parse("DE").unwrap();
        let by_country = HashMap::from([(germany, senders(["b", "c"]))]);
        let providers = Providers::new(senders(["a", "b"]), by_country);
        assert_eq!(providers.names(), ["a", "b", "c"]);
        throttle(&providers.default[1], 5);
        assert_eq!(providers.by_country[&germany][0].ready_at(NOW), NOW + Duration::from_secs(5));
    }

    #[test]
    fn only_what_can_be_tried_in_the_meantime_takes_time() {
        let providers = Providers::new(senders(["a", "b", "c"]), HashMap::new());
        let seconds = || providers.patience(NOW).as_secs();
        assert_eq!(seconds(), 30);
        throttle(&providers.default[0], 30);
        assert_eq!(seconds(), 30, "its turn may come while the others take their time");
        throttle(&providers.default[0], 31);
        assert_eq!(seconds(), 20);
        for provider in &providers.default {
            throttle(provider, u64::MAX);
            assert_eq!(provider.ready_at(NOW), NOW + LONGEST_PAUSE);
        }
        assert_eq!(seconds(), 0);
    }

    #[test]
    fn the_longest_route_counts() {
        let germany = Country::parse("DE").unwrap();
        let by_country = HashMap::from([(germany, senders(["a", "b"]))]);
        assert_eq!(Providers::new(senders(["a"]), by_country).patience(NOW).as_secs(), 20);
    }
}
