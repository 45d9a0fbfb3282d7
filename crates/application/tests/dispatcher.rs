//! The dispatcher over the in-memory outbox and mocked senders.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use time::UtcDateTime;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;
use vestibule_application::{Derivation, Dispatcher, MasterKeys, Senders, Wording};
use vestibule_domain::{
    AttemptId, Content, EmailAddress, EmailVerificationId, Locale, Message, MessageId, PhoneNumber, Recipient,
};
use vestibule_port_email::{EmailError, MockEmailSender};
use vestibule_port_security::Clock as _;
use vestibule_port_sms::{MockSmsSender, SmsError, SmsReceipt, SmsSender};
use vestibule_port_storage::{Changes, Outbox as _, Storage as _};
use vestibule_testkit::{CountingEntropy, InMemoryStorage, ManualClock};

type Answers = Vec<Result<SmsReceipt, SmsError>>;

struct Stage {
    storage: Arc<InMemoryStorage>,
    clock: Arc<ManualClock>,
    /// The text of each message that a provider was handed, as it comes.
    handed: mpsc::UnboundedReceiver<String>,
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
        answers.get(turn).cloned().unwrap_or_else(|| Ok(SmsReceipt { reference: turn.to_string() }))
    });
    Arc::new(mock)
}

fn start(providers: Vec<Answers>, mail: Result<(), EmailError>) -> Stage {
    let (storage, clock) = (Arc::new(InMemoryStorage::default()), Arc::new(ManualClock::default()));
    let (hand, handed) = mpsc::unbounded_channel();
    let mut email = MockEmailSender::new();
    email.expect_name().return_const("mail");
    let hand_mail = hand.clone();
    email.expect_send().returning(move |email| {
        hand_mail.send(format!("mail: {}", email.text)).unwrap();
        mail.clone()
    });
    let names = ["first", "second"];
    let sms = names.iter().zip(providers).map(|(name, answers)| provider(name, answers, &hand)).collect();
    let keys = MasterKeys { active: [1; 32], previous: None, numbers: [2; 32] };
    let dispatcher = Dispatcher {
        outbox: storage.clone(),
        senders: Senders { sms, email: Arc::new(email) },
        wording: Arc::new(Wording::new("https://example.com", None).unwrap()),
        derivation: Arc::new(Derivation::new(&keys, 6)),
        clock: clock.clone(),
        entropy: Arc::new(CountingEntropy::default()),
    };
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(Arc::new(dispatcher).run(stopped));
    Stage { storage, clock, handed, stop, running }
}

impl Stage {
    async fn queue(&self, number: u128, content: Content, lives: Duration) {
        let now = self.clock.now();
        let recipient = match content {
            Content::EmailConfirmation { .. } => {
                Recipient::Email(EmailAddress::parse("a@example.com").unwrap())
            }
            _ => Recipient::Phone(PhoneNumber::parse("+447871234567").unwrap()),
        };
        let id = MessageId::new(Uuid::from_u128(number));
        let message = Message {
            id,
            recipient,
            content,
            locale: Locale::new("en"),
            queued_at: now,
            expires_at: now + lives,
        };
        self.storage.commit(Changes { messages: vec![message], ..Changes::default() }).await.unwrap();
    }

    async fn queue_code(&self, number: u128) {
        let attempt = AttemptId::new(Uuid::from_u128(number));
        self.queue(number, Content::SignUpCode { attempt, generation: 0 }, Duration::from_mins(10)).await;
    }

    async fn next(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(10), self.handed.recv()).await.unwrap().unwrap()
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

fn temporary() -> Result<SmsReceipt, SmsError> {
    Err(SmsError::Temporary { reason: "down".to_owned() })
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
    storage.next_due().await.unwrap().map(|due| (due - now).unsigned_abs())
}

impl Stage {
    async fn queue_aged(&self, age: Duration) {
        let now = self.clock.now();
        let attempt = AttemptId::new(Uuid::from_u128(1));
        let message = Message {
            id: MessageId::new(Uuid::from_u128(1)),
            recipient: Recipient::Phone(PhoneNumber::parse("+447871234567").unwrap()),
            content: Content::SignUpCode { attempt, generation: 0 },
            locale: Locale::new("en"),
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
    assert_eq!((storage.next_due().await.unwrap(), late), (None, 0));
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
    let throttled = SmsError::Throttled { retry_after: Some(Duration::from_secs(42)), reason: String::new() };
    assert_eq!(due_after(Err(throttled), Duration::ZERO).await, Some(Duration::from_secs(42)));
}

#[tokio::test]
async fn a_message_refused_for_good_or_tried_for_the_last_time_is_a_dead_letter() {
    let permanent = SmsError::Permanent { reason: "no such number".to_owned() };
    for (answer, age) in [(Err(permanent), Duration::ZERO), (temporary(), Duration::from_mins(9))] {
        let mut stage = start(vec![vec![answer]], Ok(()));
        stage.queue_aged(age).await;
        stage.next().await;
        let (storage, _) = stage.settle().await;
        assert_eq!(storage.next_due().await.unwrap(), None);
        assert_eq!(storage.dead_letters(9).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_message_that_would_come_too_late_is_not_sent() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.queue_aged(Duration::from_mins(10)).await;
    stage.queue_code(2).await;
    stage.next().await;
    let (storage, late) = stage.settle().await;
    assert_eq!((late, storage.next_due().await.unwrap()), (0, None));
    assert!(storage.dead_letters(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_next_provider_steps_in_unless_the_first_may_have_sent_it() {
    let mut stage = start(vec![vec![temporary()], vec![]], Ok(()));
    stage.queue_code(1).await;
    let tries = [stage.next().await, stage.next().await];
    assert!(tries[0].starts_with("first: ") && tries[1].starts_with("second: "), "{tries:?}");
    assert_eq!(stage.settle().await.0.next_due().await.unwrap(), None);

    let ambiguous = SmsError::Ambiguous { reason: "no answer".to_owned() };
    let mut stage = start(vec![vec![Err(ambiguous)], vec![]], Ok(()));
    stage.queue_code(1).await;
    stage.next().await;
    let (storage, late) = stage.settle().await;
    assert_eq!(late, 0, "the second provider was asked");
    assert!(storage.next_due().await.unwrap().is_some());
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

#[tokio::test]
async fn an_outbox_that_is_down_is_read_again_when_it_is_up() {
    let mut stage = start(vec![vec![]], Ok(()));
    stage.queue_code(1).await;
    stage.next().await;
    stage.storage.take_down();
    stage.storage.bring_up();
    stage.queue_code(2).await;
    assert!(stage.next().await.starts_with("first: "));
}
