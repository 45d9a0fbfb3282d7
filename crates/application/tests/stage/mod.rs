//! A running dispatcher whose every step can be waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;
use vestibule_application::{Derivation, Dispatcher, MasterKeys, Senders, Wording};
use vestibule_domain::{
    AttemptId, Content, EmailAddress, EmailVerificationId, Locale, Message, MessageId, PhoneNumber, Recipient,
};
use vestibule_port_email::{EmailError, MockEmailSender};
use vestibule_port_security::Clock as _;
use vestibule_port_sms::{MockSmsSender, Sms, SmsError, SmsReceipt, SmsSender};
use vestibule_port_storage::{Changes, Claimed, DeadLetter, Outbox, Settlement, Storage as _, Unavailable};
use vestibule_testkit::{CountingEntropy, InMemoryStorage, ManualClock};

/// Longer than anything takes that will happen at all.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Stage {
    pub(crate) storage: Arc<InMemoryStorage>,
    pub(crate) clock: Arc<ManualClock>,
    /// The sender's name and the text of each message that a sender was handed.
    pub(crate) handed: UnboundedReceiver<String>,
    settled: UnboundedReceiver<Settlement>,
    outages: UnboundedReceiver<()>,
    wake: Arc<Notify>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) running: JoinHandle<()>,
}

impl Stage {
    /// With providers that give these answers in turn and then accept.
    pub(crate) fn start(
        providers: Vec<Vec<Result<SmsReceipt, SmsError>>>,
        mail: Result<(), EmailError>,
    ) -> Self {
        let (hand, handed) = unbounded_channel();
        let names = ["first", "second"];
        let sms = names.iter().zip(providers).map(|(name, answers)| provider(name, answers, &hand)).collect();
        Self::with(sms, mail, &hand, handed)
    }

    /// With a provider that accepts each message for one permit.
    pub(crate) fn start_gated() -> (Self, Arc<Semaphore>) {
        let (hand, handed) = unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let provider = Gated { handed: hand.clone(), gate: gate.clone() };
        (Self::with(vec![Arc::new(provider)], Ok(()), &hand, handed), gate)
    }

    fn with(
        sms: Vec<Arc<dyn SmsSender>>,
        mail: Result<(), EmailError>,
        hand: &UnboundedSender<String>,
        handed: UnboundedReceiver<String>,
    ) -> Self {
        let (storage, clock) = (Arc::new(InMemoryStorage::default()), Arc::new(ManualClock::default()));
        let ((settle, settled), (fail, outages)) = (unbounded_channel(), unbounded_channel());
        let wake = Arc::new(Notify::new());
        let outbox = Watched { storage: storage.clone(), settled: settle, outages: fail, wake: wake.clone() };
        let keys = MasterKeys { active: [1; 32], previous: None, numbers: [2; 32] };
        let dispatcher = Dispatcher {
            outbox: Arc::new(outbox),
            senders: Senders { sms, email: Arc::new(transport(mail, hand)) },
            wording: Arc::new(Wording::new("https://example.com", None).unwrap()),
            derivation: Arc::new(Derivation::new(&keys, 6)),
            clock: clock.clone(),
            entropy: Arc::new(CountingEntropy::default()),
        };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(Arc::new(dispatcher).run(stopped));
        Self { storage, clock, handed, settled, outages, wake, stop, running }
    }

    pub(crate) async fn queue_code(&self, number: u128) {
        self.queue_aged(number, Duration::ZERO, Duration::from_mins(10)).await;
    }

    /// Queues a code that has waited since `age` ago: the dispatcher meets it only now.
    pub(crate) async fn queue_aged(&self, number: u128, age: Duration, life: Duration) {
        self.queue(number, code_content(number), age, life).await;
    }

    pub(crate) async fn queue(&self, number: u128, content: Content, age: Duration, life: Duration) {
        self.put(number, content, age, life).await;
        self.wake.notify_one();
    }

    /// Queues without yielding to the dispatcher.
    pub(crate) async fn put(&self, number: u128, content: Content, age: Duration, life: Duration) {
        let queued_at = self.clock.now() - age;
        let recipient = match content {
            Content::EmailConfirmation { .. } => {
                Recipient::Email(EmailAddress::parse("a@example.com").unwrap())
            }
            _ => Recipient::Phone(PhoneNumber::parse("+447871234567").unwrap()),
        };
        let message = Message {
            id: message_id(number),
            recipient,
            content,
            locale: Locale::new("en"),
            queued_at,
            expires_at: queued_at + life,
        };
        self.storage.commit(Changes { messages: vec![message], ..Changes::default() }).await.unwrap();
    }

    /// What came of the next try.
    pub(crate) async fn settled(&mut self) -> Settlement {
        next(&mut self.settled).await
    }

    /// When the next try that failed is to be repeated.
    pub(crate) async fn retry_at(&mut self) -> UtcDateTime {
        match self.settled().await {
            Settlement::Retry { at, .. } => at,
            other => panic!("no retry but {other:?}"),
        }
    }

    /// Moves the clock to this moment; the dispatcher looks at it.
    pub(crate) fn go_to(&self, then: UtcDateTime) {
        let way = then - self.clock.now();
        // The clock counts whole milliseconds.
        self.clock
            .advance(Duration::from_millis(u64::try_from(way.whole_microseconds()).unwrap().div_ceil(1000)));
        self.wake.notify_one();
    }

    /// Waits until the dispatcher has met an outbox that is down.
    pub(crate) async fn outage(&mut self) {
        self.wake.notify_one();
        next(&mut self.outages).await;
    }

    /// Stops; how many messages were handed over that nobody had waited for.
    pub(crate) async fn stop(&mut self) -> usize {
        self.wake.notify_one();
        self.stop.send_replace(true);
        (&mut self.running).await.unwrap();
        std::iter::from_fn(|| self.handed.try_recv().ok()).count()
    }
}

pub(crate) async fn next<T>(events: &mut UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
}

pub(crate) fn message_id(number: u128) -> MessageId {
    MessageId::new(Uuid::from_u128(number))
}

pub(crate) fn code_content(number: u128) -> Content {
    Content::SignUpCode { attempt: AttemptId::new(Uuid::from_u128(number)), generation: 0 }
}

pub(crate) fn mail_content() -> Content {
    Content::EmailConfirmation { verification: EmailVerificationId::new(Uuid::nil()) }
}

fn provider(
    name: &'static str,
    answers: Vec<Result<SmsReceipt, SmsError>>,
    handed: &UnboundedSender<String>,
) -> Arc<dyn SmsSender> {
    let (handed, asked) = (handed.clone(), AtomicUsize::new(0));
    let mut mock = MockSmsSender::new();
    mock.expect_name().return_const(name);
    mock.expect_send().returning(move |sms| {
        handed.send(format!("{name}: {}", sms.text)).unwrap();
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        answers.get(turn).cloned().unwrap_or_else(|| Ok(SmsReceipt { reference: turn.to_string() }))
    });
    Arc::new(mock)
}

fn transport(answer: Result<(), EmailError>, handed: &UnboundedSender<String>) -> MockEmailSender {
    let handed = handed.clone();
    let mut mock = MockEmailSender::new();
    mock.expect_name().return_const("mail");
    mock.expect_send().returning(move |email| {
        handed.send(format!("mail: {}", email.text)).unwrap();
        answer.clone()
    });
    mock
}

/// A provider that takes as long as the test wants.
struct Gated {
    handed: UnboundedSender<String>,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl SmsSender for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    async fn send(&self, sms: &Sms) -> Result<SmsReceipt, SmsError> {
        self.handed.send(format!("gated: {}", sms.text)).unwrap();
        self.gate.acquire().await.unwrap().forget();
        Ok(SmsReceipt { reference: String::new() })
    }
}

/// The outbox, telling what is done to it, and able to wake the dispatcher without a commit.
struct Watched {
    storage: Arc<InMemoryStorage>,
    settled: UnboundedSender<Settlement>,
    outages: UnboundedSender<()>,
    wake: Arc<Notify>,
}

#[async_trait]
impl Outbox for Watched {
    async fn claim(
        &self,
        limit: usize,
        lease: Duration,
        now: UtcDateTime,
    ) -> Result<Vec<Claimed>, Unavailable> {
        self.storage.claim(limit, lease, now).await
    }

    async fn settle(&self, id: MessageId, tries: u32, settlement: Settlement) -> Result<(), Unavailable> {
        self.storage.settle(id, tries, settlement.clone()).await?;
        // Nobody may be waiting any more.
        let _ = self.settled.send(settlement);
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<UtcDateTime>, Unavailable> {
        self.storage.next_due().await.inspect_err(|_| {
            let _ = self.outages.send(());
        })
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Unavailable> {
        self.storage.dead_letters(limit).await
    }

    async fn queued(&self) {
        tokio::select! {
            () = self.storage.queued() => {}
            () = self.wake.notified() => {}
        }
    }
}
