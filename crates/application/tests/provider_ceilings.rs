//! What providers are paid: dispatchers over the in-memory outbox and mocked senders.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use time::UtcDateTime;
use tokio::sync::{Notify, watch};
use uuid::Uuid;
use vestibule_application::{Derivation, Dispatcher, MasterKeys, Providers, Senders, UnsentCodes, Wording};
use vestibule_domain::pumping::PumpingGuard;
use vestibule_domain::spending::{
    Audience, Budget, Ceiling, Money, Prices, ProviderBudget, Purse, Unsent, Window,
};
use vestibule_domain::{AttemptId, Content, Locale, Message, MessageId, PhoneNumber, Recipient};
use vestibule_port_email::MockEmailSender;
use vestibule_port_security::Clock as _;
use vestibule_port_sms::{MockSmsSender, SmsError, SmsReceipt, SmsSender};
use vestibule_port_storage::{Changes, Outbox as _, Room, Storage as _};
use vestibule_testkit::{CountingEntropy, InMemoryStorage, ManualClock};

const NEWCOMER: fn(u128) -> Content =
    |number| Content::SignUpCode { attempt: AttemptId::new(Uuid::from_u128(number)), generation: 0 };
const CUSTOMER: fn(u128) -> Content =
    |number| Content::ResetCode { attempt: AttemptId::new(Uuid::from_u128(number)), generation: 0 };

type Answer = Result<SmsReceipt, SmsError>;

#[derive(Default)]
struct World {
    storage: Arc<InMemoryStorage>,
    clock: Arc<ManualClock>,
    /// The providers that messages were handed to.
    handed: Arc<Mutex<Vec<&'static str>>>,
    queued: AtomicUsize,
}

fn money(units: u64) -> Money {
    Money::from_micros(units)
}

/// One that charges so much, and in an hour no more than that.
fn provider(price: u64, hour: Option<u64>) -> ProviderBudget {
    ProviderBudget {
        prices: Prices { otherwise: money(price), countries: HashMap::new() },
        ceiling: Ceiling { hour: hour.map(money), day: None },
    }
}

/// Providers called `first` and `second`; what they cost is counted for all, without an end to it.
fn budget<const N: usize>(providers: [ProviderBudget; N]) -> Budget {
    let dearest = Prices::dearest(&providers.each_ref().map(|provider| &provider.prices), &HashMap::new());
    Budget {
        prices: dearest,
        providers: ["first", "second"].map(str::to_owned).into_iter().zip(providers).collect(),
        all: Ceiling { hour: Some(money(1_000_000)), day: None },
        ..Budget::default()
    }
}

fn receipt(price: Option<u64>) -> SmsReceipt {
    SmsReceipt { reference: "x".to_owned(), price: price.map(money) }
}

impl World {
    fn sender(&self, name: &'static str, answer: &Answer) -> Arc<dyn SmsSender> {
        let (handed, answer) = (Arc::clone(&self.handed), answer.clone());
        let mut mock = MockSmsSender::new();
        mock.expect_name().return_const(name);
        mock.expect_send().returning(move |_| {
            handed.lock().unwrap().push(name);
            answer.clone()
        });
        Arc::new(mock)
    }

    /// One instance, whose providers answer so.
    fn instance(&self, answers: &[Answer], budget: &Budget) -> Arc<Dispatcher> {
        let names = ["first", "second"];
        let senders = names.iter().zip(answers).map(|(name, answer)| self.sender(name, answer)).collect();
        let keys = MasterKeys { active: [1; 32], previous: None, numbers: [2; 32] };
        Arc::new(Dispatcher {
            outbox: self.storage.clone(),
            unsent_codes: UnsentCodes { storage: self.storage.clone(), guard: PumpingGuard::default() },
            senders: Senders {
                sms: Providers::new(senders, HashMap::new()).paid(self.storage.clone(), budget.clone()),
                email: Arc::new(MockEmailSender::new()),
            },
            wording: Arc::new(Wording::new("https://example.com", None).unwrap()),
            derivation: Arc::new(Derivation::new(&keys, 6)),
            clock: self.clock.clone(),
            entropy: Arc::new(CountingEntropy::default()),
            wake: Arc::new(Notify::new()),
        })
    }

    /// Queues a message as a use case does.
    async fn queue(&self, budget: &Budget, content: fn(u128) -> Content, lives: Duration) {
        let number = self.queued.fetch_add(1, Ordering::SeqCst) as u128 + 1;
        let (now, to) = (self.clock.now(), PhoneNumber::parse("+447871234567").unwrap());
        let content = content(number);
        let spends = budget.spends(&to, Audience::of(&content), Unsent::Returned, now);
        let message = Message {
            id: MessageId::new(Uuid::from_u128(number)),
            recipient: Recipient::Phone(to),
            content,
            voice: Locale::new("en").into(),
            queued_at: now,
            expires_at: now + lives,
        };
        self.storage.commit(Changes { spends, messages: vec![message], ..Changes::default() }).await.unwrap();
    }

    async fn queue_code(&self, budget: &Budget) {
        self.queue(budget, NEWCOMER, Duration::from_mins(10)).await;
    }

    /// Lets the instances do what is due, and stops them.
    async fn run(&self, instances: &[Arc<Dispatcher>]) {
        let (stop, stopped) = watch::channel(false);
        let running: Vec<_> = instances
            .iter()
            .map(|instance| tokio::spawn(Arc::clone(instance).run(stopped.clone())))
            .collect();
        let nothing_due = async {
            while self.next_due().await.is_some_and(|due| due <= self.clock.now()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), nothing_due).await.unwrap();
        stop.send_replace(true);
        for running in running {
            running.await.unwrap();
        }
    }

    async fn next_due(&self) -> Option<UtcDateTime> {
        self.storage.next_due(Room::for_each(1)).await.unwrap()
    }

    fn handed(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.handed.lock().unwrap())
    }

    /// What was spent in this hour out of the purse.
    async fn spent(&self, purse: Purse) -> u64 {
        let spent = self.storage.spent(&[purse], self.clock.now()).await.unwrap();
        spent.iter().filter(|spent| spent.window == Window::Hour).map(|spent| spent.amount.micros()).sum()
    }

    async fn paid(&self, provider: &str) -> u64 {
        self.spent(Purse::Provider(provider.to_owned())).await
    }
}

#[tokio::test]
async fn at_its_ceiling_a_provider_is_passed_over() {
    let world = World::default();
    let budget = budget([provider(2, Some(5)), provider(3, None)]);
    let instance = world.instance(&[Ok(receipt(None)), Ok(receipt(None))], &budget);
    for _ in 0..3 {
        world.queue_code(&budget).await;
        world.run(std::slice::from_ref(&instance)).await;
    }
    assert_eq!(world.handed(), ["first", "first", "second"]);
    assert_eq!((world.paid("first").await, world.paid("second").await), (4, 0));
    // The next hour is another.
    world.clock.advance(Duration::from_hours(1));
    world.queue_code(&budget).await;
    world.run(&[instance]).await;
    assert_eq!(world.handed(), ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_instances_hand_a_provider_no_more_than_its_ceiling_allows() {
    let world = World::default();
    let budget = budget([provider(2, Some(21)), provider(3, None)]);
    for _ in 0..64 {
        world.queue_code(&budget).await;
    }
    let instances = [0, 1].map(|_| world.instance(&[Ok(receipt(None)), Ok(receipt(None))], &budget));
    world.run(&instances).await;
    let handed = world.handed();
    let to = |name| handed.iter().filter(|handed| **handed == name).count();
    assert_eq!((to("first"), to("second")), (10, 54));
    assert_eq!(world.paid("first").await, 20);
    assert_eq!(world.spent(Purse::All).await, 10 * 2 + 54 * 3, "each message counts for what it cost");
}

#[tokio::test]
async fn without_another_provider_a_message_waits_until_the_hour_ends() {
    let world = World::default();
    let budget = budget([provider(2, Some(1))]);
    let instance = world.instance(&[Ok(receipt(None))], &budget);
    world.queue(&budget, CUSTOMER, Duration::from_hours(2)).await;
    world.run(std::slice::from_ref(&instance)).await;
    assert_eq!(world.handed(), [""; 0]);
    let now = world.clock.now();
    assert_eq!(world.next_due().await, Some(now + Window::Hour.rest(now)));
}

#[tokio::test]
async fn a_message_that_cannot_wait_so_long_is_offered_until_its_life_ends() {
    let world = World::default();
    let budget = budget([provider(2, Some(1))]);
    let instance = world.instance(&[Ok(receipt(None))], &budget);
    world.queue_code(&budget).await;
    world.run(std::slice::from_ref(&instance)).await;
    let soon = world.next_due().await.unwrap();
    assert!(soon <= world.clock.now() + Duration::from_secs(1), "somebody may have given back something");
    world.clock.advance(Duration::from_secs(599));
    world.run(std::slice::from_ref(&instance)).await;
    let dead = world.storage.dead_letters(9).await.unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "first: its spending ceiling is reached"));
    assert_eq!(world.spent(Purse::All).await, 0, "nobody has been billed");
}

#[tokio::test]
async fn who_certainly_has_not_taken_a_message_is_not_paid() {
    let reason = || "no".to_owned();
    for (answer, paid) in [
        (Err(SmsError::Permanent { reason: reason() }), 0),
        (Err(SmsError::Temporary { reason: reason() }), 0),
        (Err(SmsError::Throttled { retry_after: None, reason: reason() }), 0),
        (Err(SmsError::Ambiguous { reason: reason() }), 2),
        (Ok(receipt(None)), 2),
    ] {
        let world = World::default();
        let budget = budget([provider(2, Some(9))]);
        let instance = world.instance(std::slice::from_ref(&answer), &budget);
        world.queue_code(&budget).await;
        world.run(&[instance]).await;
        assert_eq!((world.handed().len(), world.paid("first").await), (1, paid), "{answer:?}");
    }
}

#[tokio::test]
async fn what_a_message_cost_is_the_providers_word_or_else_its_table() {
    for (price, cost) in [(None, 2), (Some(1), 1), (Some(3), 3), (Some(9), 9)] {
        let world = World::default();
        let budget = budget([provider(2, Some(5)), provider(3, None)]);
        let instance = world.instance(&[Ok(receipt(price)), Ok(receipt(None))], &budget);
        world.queue_code(&budget).await;
        assert_eq!(world.spent(Purse::All).await, 3, "who will carry it is not known");
        world.run(std::slice::from_ref(&instance)).await;
        assert_eq!((world.paid("first").await, world.spent(Purse::All).await), (cost, cost));
        // Who charges more than was expected is at its ceiling earlier.
        world.queue_code(&budget).await;
        world.run(&[instance]).await;
        let next = if cost + 2 <= 5 { "first" } else { "second" };
        assert_eq!(world.handed(), ["first", next], "{price:?}");
    }
}

#[tokio::test]
async fn newcomers_leave_the_reserve_of_a_providers_ceiling_to_customers() {
    let world = World::default();
    let budget = Budget { reserve_percent: 50, ..budget([provider(2, Some(4)), provider(3, None)]) };
    let instance = world.instance(&[Ok(receipt(None)), Ok(receipt(None))], &budget);
    for content in [NEWCOMER, NEWCOMER, CUSTOMER, CUSTOMER] {
        world.queue(&budget, content, Duration::from_mins(10)).await;
        world.run(std::slice::from_ref(&instance)).await;
    }
    assert_eq!(world.handed(), ["first", "second", "first", "second"]);
}
