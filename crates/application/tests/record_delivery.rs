//! Delivery reports over the in-memory storage.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use tokio::sync::Notify;
use uuid::Uuid;
use vestibule_application::RecordDelivery;
use vestibule_domain::{
    AttemptId, Content, DeliveryState, Locale, Message, MessageId, PhoneNumber, Recipient,
};
use vestibule_port_security::Clock as _;
use vestibule_port_sms::{Delivery, DeliveryReport, DeliveryReports as _, Reported};
use vestibule_port_storage::{Changes, Outbox as _, Room, Settlement, Storage as _};
use vestibule_testkit::{InMemoryStorage, ManualClock};

struct Stage {
    storage: Arc<InMemoryStorage>,
    reports: RecordDelivery,
    wake: Arc<Notify>,
}

impl Stage {
    /// A message that was settled so.
    async fn with_message(settlement: Settlement) -> Self {
        let (storage, clock) = (Arc::new(InMemoryStorage::default()), Arc::new(ManualClock::default()));
        let now = clock.now();
        let message = Message {
            id: message(),
            recipient: Recipient::Phone(PhoneNumber::parse("+447871234567").unwrap()),
            content: Content::SignUpCode { attempt: attempt(), generation: 0 },
            voice: Locale::new("en").into(),
            queued_at: now,
            expires_at: now + Duration::from_mins(10),
        };
        storage.commit(Changes { messages: vec![message.clone()], ..Changes::default() }).await.unwrap();
        let claimed = storage.claim(Room::for_each(1), Duration::from_secs(30), now).await.unwrap();
        assert_eq!(claimed.len(), 1);
        storage.settle(message.id, 1, settlement).await.unwrap();
        let wake = Arc::new(Notify::new());
        let reports = RecordDelivery { outbox: storage.clone(), clock, wake: Arc::clone(&wake) };
        Self { storage, reports, wake }
    }

    async fn report(&self, message: Reported, delivery: Delivery) -> bool {
        self.reports.record(DeliveryReport { provider: "gateway", message, delivery }).await
    }

    async fn state(&self) -> DeliveryState {
        self.storage.delivery(attempt()).await.unwrap().unwrap()
    }
}

fn message() -> MessageId {
    MessageId::new(Uuid::from_u128(1))
}

fn attempt() -> AttemptId {
    AttemptId::new(Uuid::from_u128(2))
}

fn sent() -> Settlement {
    let at = ManualClock::default().now();
    Settlement::Sent { provider: "gateway", reference: Some("x1".to_owned()), cost: None, at }
}

fn failed() -> Delivery {
    Delivery::Failed { reason: "30003: unreachable".to_owned() }
}

#[rstest]
#[case(Delivery::Sent, DeliveryState::Sent)]
#[case(Delivery::Delivered, DeliveryState::Delivered)]
#[case(failed(), DeliveryState::Failed)]
#[case(Delivery::Expired, DeliveryState::Expired)]
#[tokio::test]
async fn a_report_is_recorded_by_id_or_reference(#[case] delivery: Delivery, #[case] state: DeliveryState) {
    for named in [Reported::Message(message()), Reported::Reference("x1".to_owned())] {
        let stage = Stage::with_message(sent()).await;
        assert!(stage.report(named, delivery.clone()).await);
        assert_eq!(stage.state().await, state);
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_recorded_is_to_be_said_again() {
    let stage = Stage::with_message(sent()).await;
    assert!(!stage.report(Reported::Reference("unknown".to_owned()), Delivery::Delivered).await);
    stage.storage.take_down();
    assert!(!stage.report(Reported::Message(message()), Delivery::Delivered).await);
    stage.storage.bring_up();
    assert_eq!(stage.state().await, DeliveryState::Sent);
}

#[tokio::test]
async fn a_failure_in_doubt_wakes_the_dispatcher() {
    let until = ManualClock::default().now() + Duration::from_secs(30);
    let in_doubt = Settlement::InDoubt { provider: "gateway", until, reason: "no answer".to_owned() };
    let stage = Stage::with_message(in_doubt).await;
    assert!(stage.report(Reported::Message(message()), failed()).await);
    tokio::time::timeout(Duration::from_secs(10), stage.wake.notified()).await.unwrap();
    assert_eq!(stage.storage.next_due(Room::for_each(1)).await.unwrap(), Some(ManualClock::default().now()));
}
