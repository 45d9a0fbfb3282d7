//! Which provider carries a text message: the order, the circuit breakers, and when to move on.
//!
//! Providers are tried in the configured order; a country may have an order of its own. What a provider answers decides what follows:
//!
//! | answer | what follows | for the breaker |
//! |---|---|---|
//! | accepted | the message is sent | success |
//! | refused for good (no such number) | a dead letter: another provider would be paid to find out the same | success: it works |
//! | failed for now | the next provider | failure |
//! | fewer requests, please | the next provider; this one gets nothing until the moment that it named | success of a probe; else nothing |
//! | none came | no other provider; see below | failure |
//!
//! A provider with a spending ceiling is paid just before it is handed a message, and gives that back where it certainly has not taken it. One whose ceiling
//! is reached is passed over, as one is that rests; see `payments`.
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
mod payments;
mod provider;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use tokio::time::Instant;
use vestibule_domain::spending::{Audience, Budget, Money};
use vestibule_domain::{Channel, Country, PhoneNumber};
use vestibule_port_security::Clock;
use vestibule_port_sms::{Sms, SmsError, SmsReceipt, SmsSender};
use vestibule_port_storage::Storage;

use self::payments::{Payment, Payments};
use self::provider::Provider;
use crate::measure::answered;

/// The longest that a provider may take for one message, by the ports' contracts.
pub(crate) const PROVIDER_PATIENCE: Duration = Duration::from_secs(10);

/// The SMS providers, in the order in which they are tried.
pub struct Providers {
    default: Vec<Arc<Provider>>,
    by_country: HashMap<Country, Vec<Arc<Provider>>>,
    payments: Option<Payments>,
}

/// What a try came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Try {
    /// A provider has taken it.
    Sent {
        provider: &'static str,
        reference: Option<String>,
        /// What it costs, if that is another sum than was reserved for it.
        cost: Option<Money>,
    },
    /// A provider may have taken it.
    InDoubt { provider: &'static str, reason: String },
    /// Nobody has taken it; `ready_at` is when the first provider may be tried again.
    Failed { reason: String, ready_at: UtcDateTime },
    /// Nobody could be tried before `ready_at`.
    Postponed { reason: String, ready_at: UtcDateTime },
    /// Nobody will ever take it.
    Hopeless { provider: Option<&'static str>, reason: String },
}

/// A provider is not tried now.
#[derive(Debug, PartialEq, Eq)]
struct NotNow {
    why: &'static str,
    /// When it may be worth asking again.
    until: UtcDateTime,
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
        Self { default, by_country, payments: None }
    }

    /// Pays them out of the budget, the sums being kept in storage. Without this, they charge what was reserved, and as much as they will.
    #[must_use]
    pub fn paid(mut self, storage: Arc<dyn Storage>, budget: Budget) -> Self {
        self.payments = Some(Payments::new(storage, budget));
        self
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
        let patience = |provider: &Arc<Provider>| {
            let payments = self.payments.as_ref();
            PROVIDER_PATIENCE + payments.map_or(Duration::ZERO, |payments| payments.patience(provider.name()))
        };
        let longest = |route: &Vec<Arc<Provider>>| -> Duration {
            let end = now + route.iter().map(patience).sum::<Duration>();
            route.iter().filter(|provider| provider.ready_at(now) <= end).map(patience).sum()
        };
        self.routes().map(longest).max().unwrap_or_default()
    }

    /// Tries the providers in their order, the doubted one last, until one has taken the message, or may have, or refuses it for good.
    pub(crate) async fn send(
        &self,
        sms: &Sms,
        audience: Audience,
        doubted: Option<&str>,
        clock: &dyn Clock,
    ) -> Try {
        let route = self.route(&sms.to);
        let (last, first): (Vec<_>, Vec<_>) =
            route.iter().partition(|provider| doubted == Some(provider.name()));
        let (mut failures, mut closed) = (Vec::new(), Vec::new());
        let mut waits = HashMap::new();
        for provider in first.into_iter().chain(last) {
            let name = provider.name();
            let payment = match self.admit(provider, sms, audience, clock).await {
                Ok(payment) => payment,
                Err(NotNow { why, until }) => {
                    closed.push(format!("{name}: {why}"));
                    waits.insert(name, until);
                    continue;
                }
            };
            let asked = Instant::now();
            let answer = provider.sender.send(sms).await;
            answered(Channel::Sms, name, named(&answer), asked.elapsed());
            provider.learn(&answer, clock.now());
            match answer {
                Ok(SmsReceipt { reference, price }) => {
                    let cost = self.settle(payment, name, &sms.to, price).await;
                    return Try::Sent { provider: name, reference: Some(reference), cost };
                }
                Err(SmsError::Permanent { reason }) => {
                    self.take_back(payment).await;
                    return Try::Hopeless { provider: Some(name), reason: format!("{name}: {reason}") };
                }
                // It may have to be paid.
                Err(SmsError::Ambiguous { reason }) => {
                    return Try::InDoubt { provider: name, reason: format!("{name}: {reason}") };
                }
                Err(SmsError::Temporary { reason } | SmsError::Throttled { reason, .. }) => {
                    self.take_back(payment).await;
                    tracing::info!(provider = name, reason, "not taken");
                    failures.push(format!("{name}: {reason}"));
                }
            }
        }
        let now = clock.now();
        let ready_at = |provider: &Arc<Provider>| {
            waits.get(provider.name()).copied().unwrap_or(now).max(provider.ready_at(now))
        };
        let ready_at = route.iter().map(ready_at).min().unwrap_or(now);
        if failures.is_empty() && !closed.is_empty() {
            return Try::Postponed { reason: closed.join("; "), ready_at };
        }
        if failures.is_empty() {
            failures.push("there is no provider".to_owned());
        }
        Try::Failed { reason: failures.join("; "), ready_at }
    }

    /// Has a provider tried that is paid for it.
    async fn admit(
        &self,
        provider: &Provider,
        sms: &Sms,
        audience: Audience,
        clock: &dyn Clock,
    ) -> Result<Option<Payment>, NotNow> {
        let not_now = |why, now| NotNow { why, until: provider.ready_at(now) };
        let now = clock.now();
        if let Some(why) = provider.objection(now) {
            return Err(not_now(why, now));
        }
        let payment = match &self.payments {
            Some(payments) => Some(payments.pay(provider.name(), &sms.to, audience, now).await?),
            None => None,
        };
        // Others may have failed meanwhile, or one been its probe. A moment from before would look to it like one of a clock that was set back.
        let now = clock.now();
        if let Err(why) = provider.admit(now) {
            self.take_back(payment).await;
            return Err(not_now(why, now));
        }
        Ok(payment)
    }

    /// Settles what a message costs that the provider has taken: by its own word, or else by its table.
    async fn settle(
        &self,
        payment: Option<Payment>,
        provider: &str,
        to: &PhoneNumber,
        price: Option<Money>,
    ) -> Option<Money> {
        let Some(payments) = &self.payments else { return price };
        let cost = price.or_else(|| payments.price(provider, to))?;
        if let Some(payment) = payment {
            payments.correct(payment, cost).await;
        }
        payments.unreserved(to, cost)
    }

    /// Takes back what was paid for a message that the provider certainly has not taken.
    async fn take_back(&self, payment: Option<Payment>) {
        if let (Some(payments), Some(payment)) = (&self.payments, payment) {
            payments.correct(payment, Money::ZERO).await;
        }
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

/// What a provider's answer is called by the metrics.
fn named(answer: &Result<SmsReceipt, SmsError>) -> &'static str {
    match answer {
        Ok(_) => "accepted",
        Err(SmsError::Permanent { .. }) => "refused",
        Err(SmsError::Temporary { .. }) => "failed",
        Err(SmsError::Throttled { .. }) => "throttled",
        Err(SmsError::Ambiguous { .. }) => "lost",
    }
}

#[cfg(test)]
mod tests {
    use time::macros::utc_datetime;
    use uuid::Uuid;
    use vestibule_domain::MessageId;
    use vestibule_domain::spending::{Ceiling, ProviderBudget};
    use vestibule_port_sms::MockSmsSender;
    use vestibule_testkit::{InMemoryStorage, ManualClock};

    use super::provider::LONGEST_PAUSE;
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
        throttle_at(NOW, provider, seconds);
    }

    fn throttle_at(now: UtcDateTime, provider: &Provider, seconds: u64) {
        let retry_after = Some(Duration::from_secs(seconds));
        provider.learn(&Err(SmsError::Throttled { retry_after, reason: String::new() }), now);
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
    fn a_clock_that_is_set_back_does_not_prolong_a_pause() {
        let providers = Providers::new(senders(["a"]), HashMap::new());
        let provider = &providers.default[0];
        throttle(provider, 60);
        throttle(provider, 30);
        assert_eq!(provider.ready_at(NOW), NOW + Duration::from_mins(1), "the longest counts");
        for earlier in [NOW - Duration::from_hours(1), NOW - Duration::from_mins(2)] {
            assert_eq!((provider.ready_at(earlier), provider.objection(earlier)), (earlier, None));
            throttle_at(earlier, provider, 5);
            assert_eq!(provider.ready_at(earlier), earlier + Duration::from_secs(5));
            throttle(provider, 60);
        }
    }

    #[test]
    fn the_longest_route_counts() {
        let germany = Country::parse("DE").unwrap();
        let by_country = HashMap::from([(germany, senders(["a", "b"]))]);
        assert_eq!(Providers::new(senders(["a"]), by_country).patience(NOW).as_secs(), 20);
    }

    #[test]
    fn who_is_paid_before_takes_longer() {
        let ceiling = Ceiling { hour: None, day: Some(Money::from_micros(1)) };
        let limited = ProviderBudget { ceiling, ..ProviderBudget::default() };
        let budgets = HashMap::from([("a".to_owned(), limited), ("b".to_owned(), ProviderBudget::default())]);
        let budget = Budget { providers: budgets, ..Budget::default() };
        let providers = Providers::new(senders(["a", "b"]), HashMap::new());
        let providers = providers.paid(Arc::new(InMemoryStorage::default()), budget);
        assert_eq!(providers.patience(NOW).as_secs(), 30);
        throttle(&providers.default[0], 31);
        assert_eq!(providers.patience(NOW).as_secs(), 10);
    }

    /// A message to somebody in Britain, or in Germany.
    fn sms(phone: &str) -> Sms {
        let to = PhoneNumber::parse(phone).unwrap();
        Sms { id: MessageId::new(Uuid::nil()), to, text: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_comes_to_rest_while_it_is_paid_is_not_tried() {
        let ceiling = Ceiling { hour: None, day: Some(Money::from_micros(9)) };
        let limited = ProviderBudget { ceiling, ..ProviderBudget::default() };
        let budget = Budget { providers: HashMap::from([("a".to_owned(), limited)]), ..Budget::default() };
        let storage = Arc::new(InMemoryStorage::default());
        storage.slow_commits_down(Duration::from_secs(2));
        let providers = Providers::new(senders(["a"]), HashMap::new()).paid(storage, budget);
        let (clock, message) = (ManualClock::at(NOW), sms("+447871234567"));
        let comes_to_rest = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            clock.advance(Duration::from_secs(1));
            for _ in 0..5 {
                let failure = Err(SmsError::Temporary { reason: String::new() });
                providers.default[0].learn(&failure, clock.now());
            }
        };
        let sent = providers.send(&message, Audience::Customer, None, &clock);
        let (sent, ()) = tokio::join!(sent, comes_to_rest);
        let (reason, ready_at) = ("a: it rests after failures".to_owned(), NOW + Duration::from_secs(31));
        assert_eq!(sent, Try::Postponed { reason, ready_at });
    }
}
