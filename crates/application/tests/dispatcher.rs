//! The dispatcher over the in-memory outbox and doubles of the senders.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod stage;

use std::time::Duration;

use rstest::rstest;
use stage::{Stage, mail_content, next};
use vestibule_port_email::EmailError;
use vestibule_port_security::Clock as _;
use vestibule_port_sms::{SmsError, SmsReceipt};
use vestibule_port_storage::{Outbox as _, Settlement};

type Answer = Result<SmsReceipt, SmsError>;

/// How long a code lives.
const LIFE: Duration = Duration::from_mins(10);

fn temporary() -> Answer {
    Err(SmsError::Temporary { reason: "down".to_owned() })
}

fn permanent() -> Answer {
    Err(SmsError::Permanent { reason: "no such number".to_owned() })
}

fn throttled(retry_after: Option<Duration>) -> Answer {
    Err(SmsError::Throttled { retry_after, reason: "slower".to_owned() })
}

fn ambiguous() -> Answer {
    Err(SmsError::Ambiguous { reason: "no answer".to_owned() })
}

/// When the only message is due again after one try, from now; it was queued `age` ago.
async fn wait_after(answer: Answer, age: Duration) -> Duration {
    let mut stage = Stage::start(vec![vec![answer]], Ok(()));
    stage.queue_aged(1, age, LIFE).await;
    stage.retry_at().await - stage.clock.now()
}

#[tokio::test]
async fn a_message_is_sent_once_and_forgotten() {
    let mut stage = Stage::start(vec![vec![]], Ok(()));
    for number in 1..4 {
        stage.queue_code(number).await;
        assert!(next(&mut stage.handed).await.starts_with("first: "));
        assert_eq!(stage.settled().await, Settlement::Done);
    }
    stage.queue(9, mail_content(), Duration::ZERO, Duration::from_hours(1)).await;
    assert!(next(&mut stage.handed).await.contains("https://example.com/v2/mobile/email/confirm?"));
    assert_eq!(stage.settled().await, Settlement::Done);
    // Nothing of it comes back, however late it is.
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(stage.stop().await, 0);
    assert_eq!(stage.storage.next_due().await.unwrap(), None);
}

#[tokio::test]
async fn a_retry_sends_the_same_text() {
    let mut stage = Stage::start(vec![vec![temporary()]], Ok(()));
    stage.queue_code(1).await;
    let first = next(&mut stage.handed).await;
    let at = stage.retry_at().await;
    stage.go_to(at);
    assert_eq!(next(&mut stage.handed).await, first);
    assert_eq!(stage.settled().await, Settlement::Done);
}

#[tokio::test]
async fn a_message_is_not_tried_before_its_time() {
    let mut stage = Stage::start(vec![vec![temporary()]], Ok(()));
    stage.queue_code(1).await;
    next(&mut stage.handed).await;
    let at = stage.retry_at().await;
    stage.go_to(at - Duration::from_millis(1));
    // The dispatcher has looked when it has sent what was queued after.
    stage.queue_code(2).await;
    let first_of_second = next(&mut stage.handed).await;
    assert_eq!(stage.settled().await, Settlement::Done);
    stage.go_to(at);
    assert_ne!(next(&mut stage.handed).await, first_of_second);
}

#[tokio::test]
async fn the_waits_grow_until_the_last_try_makes_a_dead_letter() {
    let mut stage = Stage::start(vec![vec![temporary(); 99]], Ok(()));
    let queued_at = stage.clock.now();
    stage.queue_code(1).await;
    let mut waits = Vec::new();
    let reason = loop {
        next(&mut stage.handed).await;
        let now = stage.clock.now();
        match stage.settled().await {
            Settlement::Retry { at, .. } => {
                let age: Duration = (now - queued_at).unsigned_abs();
                let (wait, most) = ((at - now).unsigned_abs(), (age / 2).max(Duration::from_secs(1)));
                assert!((most / 2..=most).contains(&wait), "{wait:?} at the age of {age:?}");
                assert!(at < queued_at + LIFE, "a try that comes too late was planned");
                waits.push(wait);
                stage.go_to(at);
            }
            Settlement::Dead { reason } => break reason,
            Settlement::Done => panic!("it was not sent"),
        }
    };
    assert_eq!(reason, "first: down");
    assert!((8..=30).contains(&waits.len()), "{waits:?}");
    let (early, late) = waits.split_at(waits.len() / 2);
    assert!(late.iter().sum::<Duration>() > early.iter().sum::<Duration>() * 4, "{waits:?}");
    let dead = stage.storage.dead_letters(9).await.unwrap();
    assert_eq!((dead.len(), usize::try_from(dead[0].tries).unwrap()), (1, waits.len() + 1));
    assert_eq!(stage.storage.next_due().await.unwrap(), None);
}

#[tokio::test]
async fn no_wait_is_longer_than_five_minutes() {
    let mut stage = Stage::start(vec![], Err(EmailError::Temporary { reason: "reply 451".to_owned() }));
    let (age, life) = (Duration::from_hours(12), Duration::from_hours(24));
    stage.queue(1, mail_content(), age, life).await;
    let wait = stage.retry_at().await - stage.clock.now();
    assert!((Duration::from_secs(150)..=Duration::from_secs(300)).contains(&wait.unsigned_abs()), "{wait}");
}

#[tokio::test]
async fn a_gateways_wish_to_wait_is_obeyed() {
    let wish = Duration::from_secs(42);
    assert_eq!(wait_after(throttled(Some(wish)), Duration::ZERO).await, wish);
    // It is no reason to come back sooner than without the wish.
    let old = Duration::from_mins(4);
    assert!(wait_after(throttled(Some(Duration::from_secs(1))), old).await >= Duration::from_mins(1));
    assert!(wait_after(throttled(None), Duration::ZERO).await <= Duration::from_secs(1));
}

#[rstest]
#[case::refused_for_good(permanent(), Duration::ZERO)]
#[case::the_next_try_would_be_too_late(temporary(), Duration::from_mins(9))]
#[case::in_doubt_for_too_long(ambiguous(), Duration::from_mins(9))]
#[case::throttled_for_too_long(throttled(Some(LIFE)), Duration::ZERO)]
#[tokio::test]
async fn what_cannot_arrive_any_more_is_a_dead_letter(#[case] answer: Answer, #[case] age: Duration) {
    let mut stage = Stage::start(vec![vec![answer]], Ok(()));
    stage.queue_aged(1, age, LIFE).await;
    next(&mut stage.handed).await;
    assert!(matches!(stage.settled().await, Settlement::Dead { reason } if reason.starts_with("first: ")));
    let dead = stage.storage.dead_letters(9).await.unwrap();
    assert_eq!((dead.len(), dead[0].tries), (1, 1));
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(stage.stop().await, 0, "it was tried again");
}

#[tokio::test]
async fn a_mail_refused_for_good_is_a_dead_letter() {
    let mut stage = Stage::start(vec![], Err(EmailError::Permanent { reason: "reply 550".to_owned() }));
    stage.queue(1, mail_content(), Duration::ZERO, Duration::from_hours(1)).await;
    assert_eq!(stage.settled().await, Settlement::Dead { reason: "reply 550".to_owned() });
    assert_eq!(stage.storage.dead_letters(9).await.unwrap()[0].reason, "reply 550");
}

#[rstest]
#[case::at_the_very_end(LIFE)]
#[case::long_after(LIFE * 9)]
#[tokio::test]
async fn a_message_that_would_come_too_late_is_dropped_unsent(#[case] age: Duration) {
    let mut stage = Stage::start(vec![vec![]], Ok(()));
    stage.queue_aged(1, age, LIFE).await;
    assert_eq!(stage.settled().await, Settlement::Done);
    assert_eq!(stage.stop().await, 0, "it was sent");
    assert_eq!(stage.storage.next_due().await.unwrap(), None);
    assert!(stage.storage.dead_letters(9).await.unwrap().is_empty(), "nobody needs to look at it");
}

#[rstest]
#[case::down(temporary())]
#[case::throttled(throttled(Some(Duration::from_mins(1))))]
#[tokio::test]
async fn the_next_provider_steps_in(#[case] first: Answer) {
    let mut stage = Stage::start(vec![vec![first], vec![]], Ok(()));
    stage.queue_code(1).await;
    let tries = [next(&mut stage.handed).await, next(&mut stage.handed).await];
    assert!(tries[0].starts_with("first: ") && tries[1].starts_with("second: "), "{tries:?}");
    let texts = tries.map(|text| text.split_once(": ").unwrap().1.to_owned());
    assert_eq!(texts[0], texts[1], "both were asked to send the same");
    assert_eq!(stage.settled().await, Settlement::Done);
}

#[rstest]
#[case::the_first_may_have_sent_it(ambiguous())]
#[case::no_provider_could_send_it(permanent())]
#[tokio::test]
async fn the_next_provider_is_not_asked(#[case] first: Answer) {
    let is_in_doubt = first == ambiguous();
    let mut stage = Stage::start(vec![vec![first], vec![]], Ok(()));
    stage.queue_code(1).await;
    assert!(next(&mut stage.handed).await.starts_with("first: "));
    let settlement = stage.settled().await;
    assert_eq!(matches!(settlement, Settlement::Retry { .. }), is_in_doubt, "{settlement:?}");
    assert_eq!(stage.stop().await, 0, "the second provider was asked");
}

#[tokio::test]
async fn when_every_provider_fails_the_message_waits() {
    let mut stage = Stage::start(vec![vec![temporary()], vec![temporary()]], Ok(()));
    stage.queue_code(1).await;
    let at = stage.retry_at().await;
    stage.go_to(at);
    let tries = [next(&mut stage.handed).await, next(&mut stage.handed).await, next(&mut stage.handed).await];
    assert!(tries[2].starts_with("first: "), "{tries:?}");
    assert_eq!(stage.settled().await, Settlement::Done);
}

#[tokio::test]
async fn to_stop_is_to_finish_what_is_on_its_way_and_to_begin_nothing() {
    let (mut stage, gate) = Stage::start_gated();
    stage.queue_code(1).await;
    next(&mut stage.handed).await;
    stage.stop.send_replace(true);
    stage.queue_code(2).await;
    gate.add_permits(9);
    (&mut stage.running).await.unwrap();
    assert!(stage.handed.try_recv().is_err(), "a message left after the stop");
    let [left] = stage.storage.claim(9, LIFE, stage.clock.now()).await.unwrap().try_into().unwrap();
    assert_eq!((left.message.id, left.tries), (stage::message_id(2), 1));
    // The first is not only leased: it is gone.
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(stage.storage.claim(9, LIFE, stage.clock.now()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_slow_gateway_holds_up_nobody_else() {
    let (mut stage, gate) = Stage::start_gated();
    stage.queue_code(1).await;
    assert!(next(&mut stage.handed).await.starts_with("gated: "));
    stage.queue(2, mail_content(), Duration::ZERO, Duration::from_hours(1)).await;
    assert!(next(&mut stage.handed).await.starts_with("mail: "));
    assert_eq!(stage.settled().await, Settlement::Done);
    gate.add_permits(1);
    assert_eq!(stage.settled().await, Settlement::Done);
}

#[tokio::test]
async fn what_a_dead_dispatcher_had_leased_is_sent_when_the_lease_has_ended() {
    let mut stage = Stage::start(vec![vec![]], Ok(()));
    stage.storage.take_down();
    stage.outage().await;
    stage.storage.bring_up();
    let lease = Duration::from_secs(20);
    // Another instance claims before this one looks again, and dies.
    stage.put(1, stage::code_content(1), Duration::ZERO, LIFE).await;
    assert_eq!(stage.storage.claim(9, lease, stage.clock.now()).await.unwrap().len(), 1);
    stage.queue_code(2).await;
    let second = next(&mut stage.handed).await;
    assert_eq!(stage.settled().await, Settlement::Done);
    let lease_ends = stage.clock.now() + lease;
    stage.go_to(lease_ends);
    assert_ne!(next(&mut stage.handed).await, second);
    assert_eq!(stage.settled().await, Settlement::Done);
}

#[tokio::test]
async fn an_outbox_that_is_down_is_read_again_when_it_is_up() {
    let mut stage = Stage::start(vec![vec![]], Ok(()));
    stage.storage.take_down();
    stage.outage().await;
    stage.outage().await;
    stage.storage.bring_up();
    stage.queue_code(1).await;
    assert!(next(&mut stage.handed).await.starts_with("first: "));
    assert_eq!(stage.settled().await, Settlement::Done);
}
