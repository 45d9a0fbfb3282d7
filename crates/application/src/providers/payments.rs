use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::PhoneNumber;
use vestibule_domain::spending::{Audience, Budget, Ceiling, Money, Purse, Spend};
use vestibule_port_storage::{Changes, CommitError, Storage, Unavailable};

use super::NotNow;
use crate::{MAX_ROUNDS, contended};

/// How long storage may take for a charge, and for a correction. Whoever is answered later has paid, and does not send.
const PAYMENT_PATIENCE: Duration = Duration::from_secs(5);

/// How soon a provider is tried again of which storage did not say what it may charge still.
const STORAGE_PAUSE: Duration = Duration::from_secs(1);

/// What providers charge, and who keeps the sums.
///
/// A provider with a ceiling is paid before it is handed a message, since any number of instances hand it theirs at the same time. Whatever ends between
/// the two has paid: the sum says too much rather than too little.
pub(super) struct Payments {
    storage: Arc<dyn Storage>,
    budget: Budget,
}

/// What a provider was paid for one try of one message; nothing where it has no ceiling.
pub(super) struct Payment(Vec<Spend>);

impl Payments {
    pub(super) const fn new(storage: Arc<dyn Storage>, budget: Budget) -> Self {
        Self { storage, budget }
    }

    /// The longest that paying and correcting may take.
    pub(super) fn patience(&self, provider: &str) -> Duration {
        let ceiling = self.budget.ceiling(&Purse::Provider(provider.to_owned()));
        if ceiling == Ceiling::default() { Duration::ZERO } else { PAYMENT_PATIENCE * 2 }
    }

    /// Pays for a message that is handed over next.
    pub(super) async fn pay(
        &self,
        provider: &str,
        to: &PhoneNumber,
        audience: Audience,
        now: UtcDateTime,
    ) -> Result<Payment, NotNow> {
        let spends = self.budget.provider_spends(provider, to, audience, now);
        if spends.is_empty() {
            return Ok(Payment(spends));
        }
        match self.commit(Changes { spends: spends.clone(), ..Changes::default() }).await {
            Ok(()) => Ok(Payment(spends)),
            Err(CommitError::LimitReached { retry_after }) => {
                Err(NotNow { why: "its spending ceiling is reached", until: now + retry_after })
            }
            Err(error) => {
                tracing::warn!(provider, %error, "cannot tell what the provider may charge still");
                let why = "what it may charge is not known";
                Err(NotNow { why, until: now + STORAGE_PAUSE })
            }
        }
    }

    /// Notes that the provider has charged another sum than it was paid; nothing, if it has not taken the message.
    pub(super) async fn correct(&self, Payment(spends): Payment, paid: Money) {
        let wrong = spends.iter().filter(|spend| spend.amount != paid);
        let corrections: Vec<_> = wrong.map(|spend| spend.correction(paid)).collect();
        if corrections.is_empty() {
            return;
        }
        if let Err(error) = self.commit(Changes { corrections, ..Changes::default() }).await {
            tracing::warn!(%error, "what a provider was paid could not be corrected");
        }
    }

    /// What the provider charges for a message, by its table.
    pub(super) fn price(&self, provider: &str, to: &PhoneNumber) -> Option<Money> {
        self.budget.providers.get(provider).map(|budget| budget.prices.of(to))
    }

    /// What a message has cost, if that is another sum than is reserved for one.
    pub(super) fn unreserved(&self, to: &PhoneNumber, cost: Money) -> Option<Money> {
        (cost != self.budget.prices.of(to)).then_some(cost)
    }

    /// Commits again what lost to rivals, as long as anybody waits for it.
    async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        let commits = async {
            for _ in 0..MAX_ROUNDS {
                match self.storage.commit(changes.clone()).await {
                    Err(CommitError::Conflict) => {}
                    outcome => return outcome,
                }
            }
            Err(contended().into())
        };
        let late = || Unavailable("a payment took too long".to_owned()).into();
        tokio::time::timeout(PAYMENT_PATIENCE, commits).await.unwrap_or_else(|_| Err(late()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use time::macros::utc_datetime;
    use vestibule_domain::spending::ProviderBudget;
    use vestibule_testkit::InMemoryStorage;

    use super::*;

    const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);

    #[tokio::test]
    async fn while_nobody_knows_what_is_left_a_provider_with_a_ceiling_is_not_paid() {
        let storage = Arc::new(InMemoryStorage::default());
        let ceiling = Ceiling { hour: Some(Money::from_micros(9)), day: None };
        let limited = ProviderBudget { ceiling, ..ProviderBudget::default() };
        let budget = Budget { providers: HashMap::from([("a".to_owned(), limited)]), ..Budget::default() };
        let payments = Payments::new(storage.clone(), budget);
        let to = PhoneNumber::parse("+447871234567").unwrap();
        let pay = async |provider| payments.pay(provider, &to, Audience::Customer, NOW).await.map(drop);
        storage.take_down();
        let not_now = NotNow { why: "what it may charge is not known", until: NOW + STORAGE_PAUSE };
        assert_eq!(pay("a").await, Err(not_now));
        assert_eq!(pay("b").await, Ok(()), "storage is not asked for one without a ceiling");
        storage.bring_up();
        assert_eq!(pay("a").await, Ok(()));
    }
}
