//! The dispatcher over the in-memory outbox and mocked senders.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;
use vestibule_application::{
    Derivation, Dispatcher, MasterKeys, Providers, RecordDelivery, Senders, UnsentCodes, Wording,
};
use vestibule_domain::limits::Unit;
use vestibule_domain::pumping::{CODES_PER_NUMBER, CountryNorm, Mode, Part, PumpingGuard, SentCode, Traffic};
use vestibule_domain::spending::{Money, Purse, Spend, Unsent, Window};
use vestibule_domain::{
    AttemptId, ClientAddress, Content, Country, DeliveryState, EmailAddress, EmailVerificationId, Locale,
    Message, MessageId, PhoneNumber, Recipient,
};
use vestibule_port_email::{Email, EmailError, EmailSender, MockEmailSender};
use vestibule_port_security::Clock as _;
use vestibule_port_sms::{
    Delivery, DeliveryReport, DeliveryReports as _, MockSmsSender, Reported, SmsError, SmsReceipt, SmsSender,
};
use vestibule_port_storage::{Changes, Outbox as _, Room, Storage as _};
use vestibule_testkit::{CountingEntropy, InMemoryStorage, ManualClock};

type Answers = Vec<Result<SmsReceipt, SmsError>>;

struct Stage {
    storage: Arc<InMemoryStorage>,
    clock: Arc<ManualClock>,
    /// The text of each message that a provider was handed, as it comes.
    handed: mpsc::UnboundedReceiver<String>,
    reports: RecordDelivery,
    wake: Arc<Notify>,
    dispatcher: Arc<Dispatcher>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

/// A provider that gives these answers in turn and then accepts.
fn provider(
    name: &'static str,
    answers: Answers,
    handed: &mpsc::UnboundedSender<String>,
) -> Arc<dyn SmsSender> {
    let (handed, asked) = (handed.clone(), AtomicUsize::new(0));
    let mut mock = MockSmsSender::new();
    mock.expect_name().return_const(name);
    mock.expect_send().returning(move |sms| {
        handed.send(format!("{name}: {}", sms.text)).unwrap();
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        answers
            .get(turn)
            .cloned()
            .unwrap_or_else(|| Ok(SmsReceipt { reference: turn.to_string(), price: None }))
    });
    Arc::new(mock)
}

/// Providers called `first`, `second` and so on, with their answers.
fn start(providers: Vec<Answers>, mail: Result<(), EmailError>) -> Stage {
    start_with(providers, &[], mail)
}

/// The same, where a country's messages go to these of the providers only.
fn start_with(
    providers: Vec<Answers>,
    countries: &[(&str, &[usize])],
    mail: Result<(), EmailError>,
) -> Stage {
    start_by_mail(providers, countries, |hand| {
        let mut email = MockEmailSender::new();
        email.expect_name().return_const("mail");
        email.expect_send().returning(move |email| {
            hand.send(format!("mail: {}", email.text)).unwrap();
            mail.clone()
        });
        Arc::new(email)
    })
}

/// The same, with any mail transport.
fn start_by_mail(
    providers: Vec<Answers>,
    countries: &[(&str, &[usize])],
    mail: impl FnOnce(mpsc::UnboundedSender<String>) -> Arc<dyn EmailSender>,
) -> Stage {
    let (storage, clock) = (Arc::new(InMemoryStorage::default()), Arc::new(ManualClock::default()));
    let (hand, handed) = mpsc::unbounded_channel();
    let names = ["first", "second"];
    let sms: Vec<_> =
        names.iter().zip(providers).map(|(name, answers)| provider(name, answers, &hand)).collect();
    let countries = countries.iter().map(|(code, order)| {
        let order = order.iter().map(|&at| Arc::clone(sms.get(at).unwrap())).collect();
        (Country::parse(code).unwrap(), order)
    });
    let countries = countries.collect();
    let keys = MasterKeys { active: [1; 32], previous: None, numbers: [2; 32] };
    let wake = Arc::new(Notify::new());
    let reports = RecordDelivery { outbox: storage.clone(), clock: clock.clone(), wake: Arc::clone(&wake) };
    let dispatcher = Dispatcher {
        outbox: storage.clone(),
        unsent_codes: UnsentCodes { storage: storage.clone(), guard: guard() },
        senders: Senders { sms: Providers::new(sms, countries), email: mail(hand) },
        wording: Arc::new(Wording::new("https://example.com", None).unwrap()),
        derivation: Arc::new(Derivation::new(&keys, 6)),
        clock: clock.clone(),
        entropy: Arc::new(CountingEntropy::default()),
        wake: Arc::clone(&wake),
    };
    let dispatcher = Arc::new(dispatcher);
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(Arc::clone(&dispatcher).run(stopped));
    Stage { storage, clock, handed, reports, wake, dispatcher, stop, running }
}

impl Stage {
    async fn queue(&self, number: u128, content: Content, lives: Duration) {
        self.queue_to("+447871234567", number, content, lives).await;
    }

    async fn queue_to(&self, phone: &str, number: u128, content: Content, lives: Duration) {
        let messages = vec![self.message_to(phone, number, content, lives)];
        let changes = Changes { spends: vec![price()], messages, ..Changes::default() };
        self.storage.commit(changes).await.unwrap();
    }

    fn message_to(&self, phone: &str, number: u128, content: Content, lives: Duration) -> Message {
        let now = self.clock.now();
        let recipient = match content {
            Content::EmailConfirmation { .. } => {
                Recipient::Email(EmailAddress::parse("a@example.com").unwrap())
            }
            _ => Recipient::Phone(PhoneNumber::parse(phone).unwrap()),
        };
        let id = MessageId::new(Uuid::from_u128(number));
        let voice = Locale::new("en").into();
        Message { id, recipient, content, voice, queued_at: now, expires_at: now + lives }
    }

    async fn queue_code(&self, number: u128) {
        let attempt = AttemptId::new(Uuid::from_u128(number));
        self.queue(number, Content::SignUpCode { attempt, generation: 0 }, Duration::from_mins(10)).await;
    }

    async fn next(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(10), self.handed.recv()).await.unwrap().unwrap()
    }

    /// The provider that the next message is handed to.
    async fn next_provider(&mut self) -> String {
        self.next().await.split_once(':').unwrap().0.to_owned()
    }

    /// Moves the clock, and lets the dispatcher see it.
    fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.wake.notify_one();
    }

    /// Lets so much time go by, on the clock as well.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::sleep(time).await;
    }

    /// Waits until everything that was due has been settled. A message on its way is leased, so this is for when none is, or its lease
    /// doesn't matter.
    async fn until_nothing_is_due(&self) {
        let nothing_due = async {
            while self
                .storage
                .next_due(Room::for_each(1))
                .await
                .unwrap()
                .is_some_and(|due| due <= self.clock.now())
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), nothing_due).await.unwrap();
    }

    /// What the provider says of message `number`, as often as it takes.
    async fn report(&self, provider: &'static str, number: u128, delivery: Delivery) {
        let message = Reported::Message(MessageId::new(Uuid::from_u128(number)));
        let report = DeliveryReport { provider, message, delivery };
        let recorded = async {
            while !self.reports.record(report.clone()).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), recorded).await.unwrap();
    }

    /// Lets what is under way settle, by stopping in the regular way; how many messages were handed over after that.
    async fn settle(mut self) -> (Arc<InMemoryStorage>, usize) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
        let mut late = 0;
        while self.handed.try_recv().is_ok() {
            late += 1;
        }
        (self.storage, late)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_recorded_when_storage_comes_back() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.storage.refuse_settlements(2);
    stage.queue_code(1).await;
    assert_eq!(stage.next_provider().await, "first");
    let recorded = async {
        let attempt = AttemptId::new(Uuid::from_u128(1));
        while stage.storage.delivery(attempt).await.unwrap() != Some(DeliveryState::Sent) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), recorded).await.unwrap();
    // The lease has ended, and nobody sends it again.
    stage.pass(Duration::from_mins(1)).await;
    let (_, late) = stage.settle().await;
    assert_eq!(late, 0);
}

impl Stage {
    /// Has messages sent without storage being told, and takes storage away for longer than their leases; until it is back.
    async fn outage_after(&mut self, messages: u128) {
        self.storage.refuse_settlements(u32::MAX);
        for number in 1..=messages {
            self.queue_code(number).await;
            assert_eq!(self.next_provider().await, "first");
        }
        self.storage.take_down();
        self.storage.refuse_settlements(0);
        let lasting = Duration::from_mins(1);
        tokio::time::sleep(lasting).await;
        self.clock.advance(lasting);
        self.storage.bring_up();
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_a_lease_sends_nothing_twice() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.outage_after(3).await;
    stage.queue_code(4).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(stage.next_provider().await, "first", "what is new");
    let (storage, late) = stage.settle().await;
    assert_eq!(late, 0, "sent again");
    for number in 1..=4 {
        assert_eq!(delivery(&storage, number).await, Some(DeliveryState::Sent), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_an_instance_lets_the_others_settle_first() {
    let mut stage = start(vec![vec![]], Ok(()));
    // It looks half a second after the first, which is just before storage is back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let other = tokio::spawn(Arc::clone(&stage.dispatcher).run(stage.stop.subscribe()));
    stage.outage_after(3).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (storage, late) = stage.settle().await;
    other.await.unwrap();
    assert_eq!((late, storage.next_due(Room::for_each(1)).await.unwrap()), (0, None));
}

/// How many messages are sent again by another instance, which looks so long after the one that has sent them, when storage takes writes again.
async fn sent_again_after_an_outage_of_writes(looks_later_by: Duration) -> usize {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.storage.refuse_settlements(u32::MAX);
    for number in 1..=3 {
        stage.queue_code(number).await;
        assert_eq!(stage.next_provider().await, "first");
    }
    stage.storage.take_no_writes();
    stage.storage.refuse_settlements(0);
    tokio::time::sleep(looks_later_by).await;
    let other = tokio::spawn(Arc::clone(&stage.dispatcher).run(stage.stop.subscribe()));
    stage.pass(Duration::from_millis(60_500)).await;
    stage.storage.bring_up();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (storage, late) = stage.settle().await;
    other.await.unwrap();
    assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), None);
    late
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_writes_an_instance_lets_the_others_settle_before_it_claims_many() {
    assert_eq!(sent_again_after_an_outage_of_writes(Duration::from_millis(100)).await, 0);
    assert_eq!(
        sent_again_after_an_outage_of_writes(Duration::from_millis(900)).await,
        1,
        "the one that it asks with"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_no_lease_has_ended_in_holds_up_nothing() {
    let mut stage = start(vec![vec![]], Ok(()));
    // It has looked all the time, and had nothing to write.
    tokio::time::sleep(Duration::from_millis(60_100)).await;
    stage.storage.take_down();
    tokio::time::sleep(Duration::from_secs(6)).await;
    stage.storage.bring_up();
    stage.queue_code(1).await;
    stage.queue_code(2).await;
    let begun = tokio::time::Instant::now();
    assert_eq!([stage.next_provider().await, stage.next_provider().await], ["first", "first"]);
    assert!(begun.elapsed() <= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_try_that_storage_never_takes_holds_up_no_other() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.storage.refuse_settlements(u32::MAX);
    for number in 1..=3 {
        stage.queue_code(number).await;
        assert_eq!(stage.next_provider().await, "first");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_settled_is_offered_to_storage_one_by_one() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.storage.refuse_settlements(u32::MAX);
    for number in 1..=40 {
        stage.queue_code(number).await;
        stage.next().await;
    }
    let before = stage.storage.refused_settlements();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stage.wake.notify_one();
    }
    let offered = stage.storage.refused_settlements() - before;
    assert!((9..=11).contains(&offered), "{offered} in ten seconds");
    stage.storage.refuse_settlements(0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for number in 1..=40 {
        assert_eq!(delivery(&stage.storage, number).await, Some(DeliveryState::Sent), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_storage_never_takes_holds_up_no_other() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.storage.never_settle(MessageId::new(Uuid::from_u128(1)));
    stage.storage.refuse_settlements(3);
    for number in 1..=3 {
        stage.queue_code(number).await;
        stage.next().await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    for (number, state) in [(1, DeliveryState::Queued), (2, DeliveryState::Sent), (3, DeliveryState::Sent)] {
        assert_eq!(delivery(&stage.storage, number).await, Some(state), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_over_is_not_sent_again_however_often_its_lease_ends() {
    let permanent = Err(SmsError::Permanent { reason: "no such number".to_owned() });
    let receipt = Ok(SmsReceipt { reference: "x".to_owned(), price: None });
    for (answer, state) in [(receipt, DeliveryState::Sent), (permanent, DeliveryState::Failed)] {
        let mut stage = start(vec![vec![answer]], Ok(()));
        stage.storage.refuse_settlements(u32::MAX);
        stage.queue_code(1).await;
        stage.next().await;
        for _ in 0..4 {
            stage.pass(Duration::from_secs(25)).await;
        }
        assert!(stage.handed.try_recv().is_err(), "{state:?}: handed over again");
        stage.storage.refuse_settlements(0);
        stage.pass(Duration::from_secs(2)).await;
        let (storage, _) = stage.settle().await;
        assert_eq!(delivery(&storage, 1).await, Some(state), "told for the last lease");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_in_doubt_is_sent_elsewhere_after_the_wait_though_the_doubt_could_not_be_recorded() {
    let mut stage = start(vec![vec![ambiguous()], vec![]], Ok(()));
    stage.storage.refuse_settlements(u32::MAX);
    stage.queue_code(1).await;
    assert_eq!(stage.next_provider().await, "first");
    stage.pass(Duration::from_secs(25)).await;
    assert!(stage.handed.try_recv().is_err(), "its lease has ended, the wait for its report has not");
    stage.pass(Duration::from_secs(25)).await;
    assert_eq!(stage.next_provider().await, "second");
}

#[tokio::test(start_paused = true)]
async fn a_failed_try_that_could_not_be_recorded_is_followed_by_another() {
    let mut stage = start(vec![vec![temporary()]], Ok(()));
    stage.storage.refuse_settlements(u32::MAX);
    stage.queue_code(1).await;
    stage.next().await;
    stage.pass(Duration::from_secs(25)).await;
    assert_eq!(stage.next_provider().await, "first");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_storage_no_longer_than_leases_last() {
    for (sent_before, longest) in [(0, 20), (60, 1)] {
        let mut stage = start(vec![vec![]], Ok(()));
        stage.storage.refuse_settlements(u32::MAX);
        stage.queue_code(1).await;
        stage.next().await;
        stage.storage.take_down();
        tokio::time::sleep(Duration::from_secs(sent_before)).await;
        let begun = tokio::time::Instant::now();
        stage.settle().await;
        assert!(begun.elapsed() <= Duration::from_secs(longest), "{:?}", begun.elapsed());
    }
}

/// A mail server that takes connections and says nothing.
struct Silent;

#[async_trait]
impl EmailSender for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    async fn send(&self, _: &Email) -> Result<(), EmailError> {
        tokio::time::sleep(Duration::from_secs(9)).await;
        Err(EmailError::Temporary { reason: "no answer in time".to_owned() })
    }
}

#[tokio::test(start_paused = true)]
async fn codes_do_not_wait_for_a_mail_server_that_is_silent() {
    let mut stage = start_by_mail(vec![vec![]], &[], |_| Arc::new(Silent));
    let mail = |number| {
        let content = Content::EmailConfirmation { verification: EmailVerificationId::new(Uuid::nil()) };
        stage.message_to("", number, content, Duration::from_hours(24))
    };
    let messages = (1000..2000).map(mail).collect();
    stage.storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    // All places of mails are taken.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 1..=100 {
        let queued_at = tokio::time::Instant::now();
        stage.queue_code(number).await;
        assert_eq!(stage.next_provider().await, "first");
        assert!(queued_at.elapsed() < Duration::from_millis(50), "{:?}", queued_at.elapsed());
    }
}

fn temporary() -> Result<SmsReceipt, SmsError> {
    Err(SmsError::Temporary { reason: "down".to_owned() })
}

fn ambiguous() -> Result<SmsReceipt, SmsError> {
    Err(SmsError::Ambiguous { reason: "no answer".to_owned() })
}

fn throttled(seconds: u64) -> Result<SmsReceipt, SmsError> {
    let retry_after = Some(Duration::from_secs(seconds));
    Err(SmsError::Throttled { retry_after, reason: "slow down".to_owned() })
}

async fn delivery(storage: &InMemoryStorage, attempt: u128) -> Option<DeliveryState> {
    storage.delivery(AttemptId::new(Uuid::from_u128(attempt))).await.unwrap()
}

/// When the only message is due again after its first try, from now.
async fn due_after(answer: Result<SmsReceipt, SmsError>, age: Duration) -> Option<Duration> {
    let mut stage = start(vec![vec![answer]], Ok(()));
    // The message has waited: the dispatcher meets it only now.
    stage.queue_aged(age).await;
    stage.next().await;
    let now: UtcDateTime = stage.clock.now();
    let (storage, late) = stage.settle().await;
    assert_eq!(late, 0);
    storage.next_due(Room::for_each(1)).await.unwrap().map(|due| (due - now).unsigned_abs())
}

impl Stage {
    async fn queue_aged(&self, age: Duration) {
        let now = self.clock.now();
        let attempt = AttemptId::new(Uuid::from_u128(1));
        let message = Message {
            id: MessageId::new(Uuid::from_u128(1)),
            recipient: Recipient::Phone(PhoneNumber::parse("+447871234567").unwrap()),
            content: Content::SignUpCode { attempt, generation: 0 },
            voice: Locale::new("en").into(),
            queued_at: now - age,
            expires_at: now - age + Duration::from_mins(10),
        };
        self.storage.commit(Changes { messages: vec![message], ..Changes::default() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_message_is_sent_once_and_forgotten() {
    let mut stage = start(vec![vec![]], Ok(()));
    for number in 1..4 {
        stage.queue_code(number).await;
        assert!(stage.next().await.starts_with("first: "));
    }
    stage
        .queue(
            9,
            Content::EmailConfirmation { verification: EmailVerificationId::new(Uuid::nil()) },
            Duration::from_hours(1),
        )
        .await;
    assert!(stage.next().await.contains("https://example.com/v2/mobile/email/confirm?"));
    let (storage, late) = stage.settle().await;
    assert_eq!((storage.next_due(Room::for_each(1)).await.unwrap(), late), (None, 0));
}

#[tokio::test]
async fn more_messages_than_may_be_on_their_way_all_leave_at_once() {
    let mut stage = start(vec![vec![]], Ok(()));
    let message = |number| {
        let code = Content::SignUpCode { attempt: AttemptId::new(Uuid::from_u128(number)), generation: 0 };
        stage.message_to("+447871234567", number, code, Duration::from_mins(10))
    };
    let changes = Changes { messages: (0..640).map(message).collect(), ..Changes::default() };
    stage.storage.commit(changes).await.unwrap();
    let all_leave = async {
        for _ in 0..640 {
            stage.next().await;
        }
    };
    // If nobody noticed that there is room again, ten times the longest sleep would pass.
    tokio::time::timeout(Duration::from_secs(20), all_leave).await.unwrap();
}

#[tokio::test]
async fn the_same_code_is_sent_at_every_try() {
    let mut stage = start(vec![vec![temporary()]], Ok(()));
    stage.queue_code(1).await;
    let first = stage.next().await;
    stage.clock.advance(Duration::from_secs(5));
    // The manual clock has moved, so the message is due; another commit wakes the dispatcher.
    stage.queue_code(2).await;
    let others = [stage.next().await, stage.next().await];
    assert!(others.contains(&first), "{first} {others:?}");
}

#[tokio::test]
async fn waits_grow_with_the_messages_age_and_obey_the_gateway() {
    let young = due_after(temporary(), Duration::ZERO).await.unwrap();
    assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&young), "{young:?}");
    let older = due_after(temporary(), Duration::from_mins(2)).await.unwrap();
    assert!((Duration::from_secs(30)..=Duration::from_mins(1)).contains(&older), "{older:?}");
    assert_eq!(due_after(throttled(42), Duration::ZERO).await, Some(Duration::from_secs(42)));
    let longest = due_after(throttled(3600), Duration::ZERO).await;
    assert_eq!(longest, Some(Duration::from_mins(5)), "whatever it says");
    let beyond_its_life = due_after(throttled(270), Duration::from_mins(6)).await.unwrap();
    assert!(
        (Duration::from_secs(90)..=Duration::from_mins(3)).contains(&beyond_its_life),
        "another instance may have a way: {beyond_its_life:?}"
    );
}

#[tokio::test]
async fn a_message_refused_for_good_or_tried_for_the_last_time_is_a_dead_letter() {
    let permanent = SmsError::Permanent { reason: "no such number".to_owned() };
    for (answer, age) in [(Err(permanent), Duration::ZERO), (temporary(), Duration::from_mins(9))] {
        let mut stage = start(vec![vec![answer]], Ok(()));
        stage.queue_aged(age).await;
        stage.next().await;
        let (storage, _) = stage.settle().await;
        assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), None);
        assert_eq!(storage.dead_letters(9).await.unwrap().len(), 1);
    }
}

/// Two codes of a range may be lost, ten of a block or a country.
fn guard() -> PumpingGuard {
    let norm = CountryNorm { unconfirmed: 10, ..CountryNorm::default() };
    let (unconfirmed_per_range, unconfirmed_per_block) = (2, 10);
    PumpingGuard {
        mode: Mode::Enforce,
        norm,
        unconfirmed_per_range,
        unconfirmed_per_block,
        ..PumpingGuard::default()
    }
}

impl Stage {
    /// Queues a code as a sign-up does, to a number that got so many before; whether the guard lets it pass.
    async fn queue_watched(&self, number: u128, sent_before: u32) -> bool {
        let (now, to) = (self.clock.now(), PhoneNumber::parse("+447871234567").unwrap());
        let traffic = Traffic::new(&to, ClientAddress::of([192, 0, 2, 1].into()));
        let (attempt, id) =
            (AttemptId::new(Uuid::from_u128(number)), MessageId::new(Uuid::from_u128(number)));
        let message = Message {
            id,
            recipient: Recipient::Phone(to),
            content: Content::SignUpCode { attempt, generation: 0 },
            voice: Locale::new("en").into(),
            queued_at: now,
            expires_at: now + Duration::from_mins(10),
        };
        let range_unit = if sent_before < CODES_PER_NUMBER { Unit::Taken } else { Unit::Kept };
        let price = Some(Money::from_micros(1));
        let changes = Changes {
            charges: guard().charges(&traffic, Part::Shared, sent_before, now),
            sent_code: Some(SentCode {
                message: id,
                attempt,
                traffic,
                price,
                part: Part::Shared,
                range_unit,
                at: now,
            }),
            messages: vec![message],
            ..Changes::default()
        };
        self.storage.commit(changes).await.is_ok()
    }

    /// How much of the budgets of its block, range and country is used, in codes.
    async fn unconfirmed(&self) -> [u32; 3] {
        let to = PhoneNumber::parse("+447871234567").unwrap();
        let traffic = Traffic::new(&to, ClientAddress::of([192, 0, 2, 1].into()));
        let charges = guard().charges(&traffic, Part::Shared, 0, self.clock.now());
        let limits: Vec<_> = charges.iter().map(|charge| charge.limit).collect();
        let budgets = self.storage.budgets(&limits).await.unwrap();
        let used = charges.iter().map(|charge| {
            let level = budgets.0.get(&charge.limit);
            let full_at = level.and_then(|level| level.fullest(charge.quota).1);
            charge.quota.burst - charge.quota.left(full_at, charge.now)
        });
        <[u32; 3]>::try_from(used.collect::<Vec<_>>()).unwrap()
    }
}

#[tokio::test]
async fn a_code_that_no_provider_took_is_given_back_to_the_guard() {
    let permanent = || Err(SmsError::Permanent { reason: "out of service".to_owned() });
    let mut stage = start(vec![vec![permanent(), permanent(), permanent(), ambiguous()]], Ok(()));
    let settled = async |stage: &mut Stage| {
        stage.next().await;
        let budgets = async {
            while stage.unconfirmed().await != [0, 0, 0] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), budgets).await
    };
    // More than the range could bear if they were lost; and one that takes nothing from it.
    for (number, sent_before) in [(1, 0), (2, 0), (3, CODES_PER_NUMBER)] {
        assert!(stage.queue_watched(number, sent_before).await, "{number}");
        settled(&mut stage).await.unwrap();
    }
    // Whoever gave no answer may have taken it, and so it stays.
    assert!(stage.queue_watched(4, 0).await);
    stage.next().await;
    stage.advance(Duration::from_mins(11));
    stage.until_nothing_is_due().await;
    let (used, storage) = (stage.unconfirmed().await, Arc::clone(&stage.storage));
    stage.settle().await;
    assert_eq!((used, storage.dead_letters(9).await.unwrap().len()), ([1, 1, 1], 3));
}

/// What a message costs.
fn price() -> Spend {
    Spend {
        purse: Purse::All,
        window: Window::Day,
        start: UtcDateTime::UNIX_EPOCH,
        amount: Money::from_micros(1),
        unsent: Unsent::Returned,
        ceiling: Money::from_micros(1000),
        rest: Duration::ZERO,
    }
}

/// Whether as much is there as if nothing had been sent.
async fn is_unspent(storage: &InMemoryStorage) -> bool {
    let spent = storage.spent(&[Purse::All], UtcDateTime::UNIX_EPOCH).await.unwrap();
    spent.iter().all(|spent| spent.amount == Money::ZERO)
}

#[tokio::test]
async fn a_message_that_nobody_took_gives_its_money_back() {
    let permanent = || Err(SmsError::Permanent { reason: "no such number".to_owned() });
    let mut refused = start(vec![vec![permanent()]], Ok(()));
    refused.queue_code(1).await;
    refused.next().await;
    let (storage, _) = refused.settle().await;
    assert!(is_unspent(&storage).await);

    let mut sent = start(vec![vec![]], Ok(()));
    sent.queue_code(1).await;
    sent.next().await;
    let (storage, _) = sent.settle().await;
    assert!(!is_unspent(&storage).await);

    let mut doubted = start(vec![vec![ambiguous()], vec![permanent()]], Ok(()));
    doubted.queue_code(1).await;
    assert_eq!(doubted.next_provider().await, "first");
    doubted.report("first", 1, Delivery::Failed { reason: "30003".to_owned() }).await;
    assert_eq!(doubted.next_provider().await, "second");
    let (storage, _) = doubted.settle().await;
    assert_eq!(storage.dead_letters(9).await.unwrap().len(), 1);
    assert!(!is_unspent(&storage).await, "the first may have billed it");
}

#[tokio::test]
async fn a_message_that_would_come_too_late_is_not_sent() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.queue_aged(Duration::from_mins(10)).await;
    stage.queue_code(2).await;
    stage.next().await;
    let (storage, late) = stage.settle().await;
    assert_eq!((late, storage.next_due(Room::for_each(1)).await.unwrap()), (0, None));
    assert!(storage.dead_letters(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_next_provider_steps_in_where_the_first_has_failed_for_now() {
    let mut stage = start(vec![vec![temporary()], vec![]], Ok(()));
    stage.queue_code(1).await;
    assert_eq!([stage.next_provider().await, stage.next_provider().await], ["first", "second"]);
    let (storage, late) = stage.settle().await;
    assert_eq!((storage.next_due(Room::for_each(1)).await.unwrap(), late), (None, 0));
}

#[tokio::test]
async fn nobody_else_is_asked_about_a_number_that_does_not_exist() {
    let permanent = SmsError::Permanent { reason: "no such number".to_owned() };
    let mut stage = start(vec![vec![Err(permanent)], vec![]], Ok(()));
    stage.queue_code(1).await;
    assert_eq!(stage.next_provider().await, "first");
    let (storage, late) = stage.settle().await;
    assert_eq!((late, storage.dead_letters(9).await.unwrap().len()), (0, 1));
}

#[tokio::test]
async fn a_country_may_have_providers_of_its_own() {
    let mut stage = start_with(vec![vec![], vec![]], &[("DE", &[1, 0])], Ok(()));
    for (number, phone, provider) in
        [(1, "+4915112345678", "second"), (2, "+447871234567", "first"), (3, "+4915112345679", "second")]
    {
        let attempt = AttemptId::new(Uuid::from_u128(number));
        let content = Content::SignUpCode { attempt, generation: 0 };
        stage.queue_to(phone, number, content, Duration::from_mins(10)).await;
        assert_eq!(stage.next_provider().await, provider, "{phone}");
    }
}

#[tokio::test]
async fn a_throttled_provider_gets_nothing_until_the_moment_that_it_named() {
    let mut stage = start(vec![vec![throttled(30)], vec![]], Ok(()));
    stage.queue_code(1).await;
    assert_eq!([stage.next_provider().await, stage.next_provider().await], ["first", "second"]);
    stage.queue_code(2).await;
    assert_eq!(stage.next_provider().await, "second");
    stage.advance(Duration::from_secs(30));
    stage.queue_code(3).await;
    assert_eq!(stage.next_provider().await, "first");
    assert_eq!(stage.settle().await.1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_in_doubt_is_not_billed_twice_where_its_report_comes() {
    let mut stage = start(vec![vec![ambiguous()], vec![]], Ok(()));
    stage.queue_code(1).await;
    assert_eq!(stage.next_provider().await, "first");
    stage.report("first", 1, Delivery::Delivered).await;
    stage.pass(Duration::from_mins(1)).await;
    let (storage, late) = stage.settle().await;
    assert_eq!((storage.next_due(Room::for_each(1)).await.unwrap(), late), (None, 0));
    assert_eq!(delivery(&storage, 1).await, Some(DeliveryState::Delivered));
}

#[tokio::test]
async fn a_message_in_doubt_is_sent_again_elsewhere_when_no_report_has_come() {
    let mut stage = start(vec![vec![ambiguous()], vec![]], Ok(()));
    stage.queue_code(1).await;
    assert_eq!(stage.next_provider().await, "first");
    stage.advance(Duration::from_secs(29));
    stage.queue_code(2).await;
    assert_eq!(stage.next_provider().await, "first", "one failure closes nothing");
    stage.until_nothing_is_due().await;
    stage.advance(Duration::from_secs(1));
    assert_eq!(stage.next_provider().await, "second");
    assert_eq!(stage.settle().await.0.next_due(Room::for_each(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_message_in_doubt_that_has_failed_is_sent_elsewhere_at_once() {
    let mut stage = start(vec![vec![ambiguous()], vec![temporary()]], Ok(()));
    stage.queue_code(1).await;
    assert_eq!(stage.next_provider().await, "first");
    // The clock stands still.
    stage.report("first", 1, Delivery::Failed { reason: "30003".to_owned() }).await;
    assert_eq!([stage.next_provider().await, stage.next_provider().await], ["second", "first"]);
    let (storage, _) = stage.settle().await;
    assert_eq!(delivery(&storage, 1).await, Some(DeliveryState::Sent));
}

#[tokio::test]
async fn a_provider_that_fails_again_and_again_is_left_alone_and_then_tried_with_one_message() {
    let mut stage = start(vec![vec![temporary(); 6]], Ok(()));
    for number in 1..=5 {
        stage.queue_code(number).await;
        stage.next().await;
    }
    stage.queue_code(6).await;
    stage.until_nothing_is_due().await;
    // Every message is due again by then, but only one is handed over: the sixth failure.
    stage.advance(Duration::from_secs(30));
    stage.next().await;
    stage.until_nothing_is_due().await;
    assert!(stage.handed.try_recv().is_err(), "more than a probe");
    // The provider is back, with the second probe.
    stage.advance(Duration::from_mins(1));
    for _ in 1..=6 {
        stage.next().await;
    }
    let (storage, late) = stage.settle().await;
    assert_eq!((storage.next_due(Room::for_each(1)).await.unwrap(), late), (None, 0));
    assert!(storage.dead_letters(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn while_every_provider_rests_a_message_waits_for_the_first_that_may_be_tried() {
    let answers = vec![temporary(), temporary(), temporary(), temporary(), temporary()];
    let mut stage = start(vec![answers.clone(), answers], Ok(()));
    for number in 1..=5 {
        stage.queue_code(number).await;
        assert_eq!([stage.next_provider().await, stage.next_provider().await], ["first", "second"]);
    }
    stage.until_nothing_is_due().await;
    stage.queue_code(6).await;
    stage.until_nothing_is_due().await;
    let now = stage.clock.now();
    let (storage, late) = stage.settle().await;
    assert_eq!(late, 0, "a provider was asked while it rests");
    let lease = Duration::from_hours(1);
    // The first four were tried while the breaker was closed, the fifth and the sixth know that it is open.
    assert_eq!(
        storage.claim(Room::for_each(9), lease, now + Duration::from_millis(29_999)).await.unwrap().len(),
        4
    );
    assert_eq!(
        storage.claim(Room::for_each(9), lease, now + Duration::from_secs(30)).await.unwrap().len(),
        2
    );
}

#[tokio::test]
async fn no_provider_is_a_reason_for_a_dead_letter_only_when_the_message_would_come_too_late() {
    let mut stage = start(vec![vec![throttled(3600)]], Ok(()));
    stage.queue_code(2).await;
    stage.next().await;
    stage.queue_code(3).await;
    stage.queue_aged(Duration::from_mins(9)).await;
    stage.until_nothing_is_due().await;
    let (storage, late) = stage.settle().await;
    let dead = storage.dead_letters(9).await.unwrap();
    assert_eq!((late, dead.len(), dead[0].reason.as_str()), (0, 1, "first: it has asked for fewer requests"));
    // The younger ones wait for it.
    let after_the_pause = ManualClock::default().now() + Duration::from_mins(5);
    assert_eq!(
        storage.claim(Room::for_each(9), Duration::from_secs(1), after_the_pause).await.unwrap().len(),
        2
    );
}

#[tokio::test]
async fn a_mail_refused_for_good_is_a_dead_letter() {
    let mut stage = start(vec![], Err(EmailError::Permanent { reason: "reply 550".to_owned() }));
    let content = Content::EmailConfirmation { verification: EmailVerificationId::new(Uuid::nil()) };
    stage.queue(1, content, Duration::from_hours(1)).await;
    stage.next().await;
    let (storage, _) = stage.settle().await;
    let dead = storage.dead_letters(9).await.unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "reply 550"));
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_is_down_is_read_again_when_it_is_up() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.queue_code(1).await;
    stage.next().await;
    stage.storage.take_down();
    // It has looked at least once.
    tokio::time::sleep(Duration::from_secs(6)).await;
    stage.storage.bring_up();
    stage.queue_code(2).await;
    assert!(stage.next().await.starts_with("first: "));
}
