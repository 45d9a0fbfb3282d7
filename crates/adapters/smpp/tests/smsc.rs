//! The adapter against an SMSC on loopback: every outcome of the port, over real TCP.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rstest::rstest;
use secrecy::SecretString;
use tokio::sync::watch;
use vestibule_domain::{MessageId, PhoneNumber};
use vestibule_port_sms::{
    Delivery, DeliveryReport, DeliveryReports, Reported, Sms, SmsError, SmsReceipt, SmsSender,
};
use vestibule_smpp::{ENQUIRE_LINK, ReceiptIds, Settings, Smpp, WINDOW};
use vestibule_testkit::fake_smsc::{AcceptedPart, Answered, Delivered, FakeSmsc, PASSWORD, SmscBehaviour};

const NUMBER: &str = "+447871234567";
const TO: &str = "447871234567";
const TEXT: &str = "Your code: 123456 [£5 = €6]\n\n@example.com #123456";
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(8);
/// For a test that sees a time-out.
const SHORT: Duration = Duration::from_secs(1);

const ENQUIRE_LINK_COMMAND: u32 = 0x15;
const DELIVER_SM_RESP: u32 = 0x8000_0005;
const DATA_SM_RESP: u32 = 0x8000_0103;
const GENERIC_NACK: u32 = 0x8000_0000;
const RX_T_APPN: u32 = 0x64;

/// Keeps the reports, and says of each what the test wants.
struct Reports {
    recorded: watch::Sender<Vec<DeliveryReport>>,
    refused: Mutex<usize>,
    knows_references: AtomicBool,
}

impl Default for Reports {
    fn default() -> Self {
        Self { recorded: watch::Sender::default(), refused: Mutex::default(), knows_references: true.into() }
    }
}

impl Reports {
    /// Records from now on what is reported by our own ids only, as storage does of messages in doubt.
    fn forget_references(&self) {
        self.knows_references.store(false, Ordering::Relaxed);
    }

    /// Does not record the next report.
    fn refuse_next(&self) {
        *self.refused.lock().unwrap() += 1;
    }

    /// Waits for so many, and gives them.
    async fn wait_for(&self, count: usize) -> Vec<(Reported, Delivery)> {
        let mut reports = self.recorded.subscribe();
        let reached = tokio::time::timeout(PATIENCE, reports.wait_for(|reports| reports.len() >= count));
        let reports = reached.await.unwrap().unwrap();
        reports.iter().map(|report| (report.message.clone(), report.delivery.clone())).collect()
    }

    fn all(&self) -> Vec<(String, Delivery)> {
        let reports = self.recorded.borrow();
        let of = |report: &DeliveryReport| {
            assert_eq!(report.provider, "smpp");
            let id = match &report.message {
                Reported::Reference(id) => id.clone(),
                Reported::Message(id) => format!("not a reference: {id}"),
            };
            (id, report.delivery.clone())
        };
        reports.iter().map(of).collect()
    }
}

#[async_trait]
impl DeliveryReports for Reports {
    async fn record(&self, report: DeliveryReport) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if *refused > 0 {
            *refused -= 1;
            return false;
        }
        if matches!(report.message, Reported::Reference(_)) && !self.knows_references.load(Ordering::Relaxed)
        {
            return false;
        }
        self.recorded.send_modify(|reports| reports.push(report));
        true
    }
}

fn settings(smsc: &FakeSmsc) -> Settings {
    Settings {
        url: SecretString::from(smsc.url()),
        from: "Example".to_owned(),
        from_type: None,
        system_type: String::new(),
        window: WINDOW,
        per_second: None,
        enquire_link: ENQUIRE_LINK,
        timeout: TIMEOUT,
        ca_file: None,
        receipt_ids: ReceiptIds::AsGiven,
        jitter_seed: 7,
    }
}

async fn bound_with(settings: Settings, reports: &Arc<Reports>) -> Smpp {
    let smpp = Smpp::start(settings, Arc::clone(reports) as Arc<dyn DeliveryReports>).unwrap();
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    smpp
}

async fn bound(settings: Settings) -> Smpp {
    bound_with(settings, &Arc::default()).await
}

async fn pair() -> (FakeSmsc, Smpp) {
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = bound(settings(&smsc)).await;
    (smsc, smpp)
}

fn sms_of(text: &str) -> Sms {
    Sms {
        id: MessageId::new(uuid::Uuid::from_u128(0xab)),
        to: PhoneNumber::parse(NUMBER).unwrap(),
        text: text.to_owned(),
    }
}

fn sms() -> Sms {
    sms_of(TEXT)
}

/// An error of a send. It must tell nothing that is not the operator's.
async fn refused(smpp: &Smpp) -> SmsError {
    let error = smpp.send(&sms()).await.unwrap_err();
    let shown = format!("{error} {error:?} {smpp:?}");
    for secret in [TO, "123456", PASSWORD] {
        assert!(!shown.contains(secret), "{shown}");
    }
    error
}

async fn outcome(behaviour: SmscBehaviour) -> SmsError {
    let (smsc, smpp) = pair().await;
    smsc.script([behaviour]);
    refused(&smpp).await
}

#[tokio::test]
async fn a_message_arrives_as_it_was_written() {
    let (smsc, smpp) = pair().await;
    let receipt = smpp.send(&sms()).await.unwrap();
    assert_eq!(receipt, SmsReceipt { reference: "0000000A".to_owned(), price: None });
    let expected = AcceptedPart {
        id: "0000000A".to_owned(),
        to: TO.to_owned(),
        to_type: (1, 1),
        from: "Example".to_owned(),
        from_type: (5, 0),
        registered_delivery: 1,
        data_coding: 0,
        concatenation: None,
        text: TEXT.to_owned(),
    };
    assert_eq!(smsc.parts(), [expected]);
    assert_eq!(smpp.name(), "smpp");
}

#[rstest]
#[case::wide("Ваш код: 123456 😀", 8)]
#[case::narrow("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ{}[]~\\|^€", 0)]
#[tokio::test]
async fn a_text_picks_its_alphabet(#[case] text: &str, #[case] data_coding: u8) {
    let (smsc, smpp) = pair().await;
    smpp.send(&sms_of(text)).await.unwrap();
    assert_eq!(smsc.texts(TO), [text]);
    assert_eq!(smsc.parts()[0].data_coding, data_coding);
}

#[rstest]
#[case::narrow("0123456789".repeat(40), 3)]
#[case::extended(format!("{}{}", "a".repeat(152), "€".repeat(50)), 2)]
#[case::wide("Ваш код 😀 ".repeat(20), 4)]
#[tokio::test]
async fn a_long_text_goes_in_parts_and_is_joined(#[case] text: String, #[case] count: u8) {
    let (smsc, smpp) = pair().await;
    let receipt = smpp.send(&sms_of(&text)).await.unwrap();
    let parts = smsc.parts();
    assert_eq!(smsc.texts(TO), [text]);
    assert_eq!(receipt.reference, parts[0].id);
    let headers: Vec<_> =
        parts.iter().map(|part| (part.concatenation.unwrap(), part.registered_delivery)).collect();
    let expected: Vec<_> = (1..=count).map(|number| ((0xab, count, number), u8::from(number == 1))).collect();
    assert_eq!(headers, expected);
}

#[rstest]
#[case("")]
#[case(&"x".repeat(40_000))]
#[tokio::test]
async fn a_text_that_no_handset_could_show_is_refused_for_good(#[case] text: &str) {
    let (smsc, smpp) = pair().await;
    let error = smpp.send(&sms_of(text)).await.unwrap_err();
    assert!(matches!(error, SmsError::Permanent { .. }), "{error}");
    assert_eq!(smsc.submissions(), 0);
}

#[tokio::test]
async fn no_more_than_the_window_is_unanswered() {
    const MESSAGES: usize = 12;
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = Arc::new(bound(Settings { window: 4, ..settings(&smsc) }).await);
    smsc.set_behaviour(SmscBehaviour::Hold);
    let sends: Vec<_> = (0..MESSAGES)
        .map(|_| {
            let smpp = Arc::clone(&smpp);
            tokio::spawn(async move { smpp.send(&sms()).await })
        })
        .collect();
    for submitted in [4, 8, 12] {
        assert!(smsc.wait_for_submissions(submitted, PATIENCE).await);
        // What the adapter answers comes after all that it submitted before.
        assert_eq!(
            smsc.request(ENQUIRE_LINK_COMMAND, Vec::new(), PATIENCE).await.unwrap().command,
            0x8000_0015
        );
        assert_eq!(smsc.submissions(), submitted);
        smsc.release();
    }
    let mut references = BTreeSet::new();
    for send in sends {
        references.insert(send.await.unwrap().unwrap().reference);
    }
    assert_eq!(references.len(), MESSAGES);
}

#[tokio::test]
async fn answers_in_another_order_find_their_messages() {
    let (smsc, smpp) = pair().await;
    smsc.script([SmscBehaviour::Hold]);
    let first = sms_of("first");
    let (held, ()) = tokio::join!(smpp.send(&first), async {
        assert!(smsc.wait_for_submissions(1, PATIENCE).await);
        let second = smpp.send(&sms_of("second")).await.unwrap();
        assert_eq!(second.reference, smsc.parts()[1].id);
        smsc.release();
    });
    assert_eq!(held.unwrap().reference, smsc.parts()[0].id);
}

#[tokio::test]
async fn the_pace_is_kept() {
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = bound(Settings { per_second: NonZeroU32::new(20), ..settings(&smsc) }).await;
    let started = Instant::now();
    for _ in 0..5 {
        smpp.send(&sms()).await.unwrap();
    }
    // Four pauses of 50 ms between five.
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
}

#[rstest]
#[case::throttled(0x58)]
#[case::full(0x14)]
#[tokio::test]
async fn an_smsc_that_asks_for_less_is_left_alone_for_a_second(#[case] status: u32) {
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = bound(Settings { window: 1, ..settings(&smsc) }).await;
    smsc.script([SmscBehaviour::HoldRefusal(status)]);
    let waiting = sms();
    let (refused, waited) = tokio::join!(refused(&smpp), async {
        assert!(smsc.wait_for_submissions(1, PATIENCE).await);
        let (sent, started) = tokio::join!(smpp.send(&waiting), async {
            exchange(&smsc).await;
            let started = Instant::now();
            smsc.release();
            started
        });
        sent.unwrap();
        started.elapsed()
    });
    assert!(matches!(refused, SmsError::Throttled { .. }), "{refused}");
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[rstest]
#[case(0x0b, "permanent", "ESME_RINVDSTADR (0x0000000B): there is no such number")]
#[case(0x0a, "temporary", "ESME_RINVSRCADR (0x0000000A): the account may not send from this address")]
#[case(0x08, "temporary", "ESME_RSYSERR (0x00000008): the SMSC has failed")]
#[case(0x58, "throttled", "ESME_RTHROTTLED (0x00000058): the account sends faster than it may")]
#[case(0x14, "throttled", "ESME_RMSGQFUL (0x00000014): the queue is full")]
#[case(0x443, "temporary", "status 0x00000443: not known here")]
#[tokio::test]
async fn refusals_are_sorted(#[case] status: u32, #[case] kind: &str, #[case] reason: &str) {
    let reason = reason.to_owned();
    let expected = match kind {
        "permanent" => SmsError::Permanent { reason },
        "throttled" => SmsError::Throttled { retry_after: None, reason },
        _ => SmsError::Temporary { reason },
    };
    assert_eq!(outcome(SmscBehaviour::Refuse(status)).await, expected);
    assert_eq!(outcome(SmscBehaviour::Nack(status)).await, expected);
}

#[rstest]
#[case::empty(b"\0")]
#[case::none(b"")]
#[case::odd(b"1\n2\0")]
#[case::no_text(b"\xff\0")]
#[case::too_long(&[b'7'; 70])]
#[tokio::test]
async fn an_acceptance_without_an_id_is_referred_to_by_our_own(#[case] body: &[u8]) {
    let (smsc, smpp) = pair().await;
    smsc.set_behaviour(SmscBehaviour::AcceptWith(body.to_vec()));
    let long = sms_of(&"123456 ".repeat(50));
    for message in [&sms(), &long] {
        let receipt = smpp.send(message).await.unwrap();
        assert_eq!(receipt, SmsReceipt { reference: message.id.to_string(), price: None });
    }
    assert_eq!(smsc.parts().len(), 4);
}

#[rstest]
#[case::no_end(b"a-7")]
#[case::more_after_it(b"a-7\0\x04\x2b\0\xff1")]
#[tokio::test]
async fn an_id_is_read_however_the_answer_ends(#[case] body: &[u8]) {
    let (smsc, smpp) = pair().await;
    smsc.script([SmscBehaviour::AcceptWith(body.to_vec())]);
    assert_eq!(smpp.send(&sms()).await.unwrap().reference, "a-7");
}

#[tokio::test]
async fn the_ids_of_further_parts_do_not_matter() {
    let (smsc, smpp) = pair().await;
    let odd = SmscBehaviour::AcceptWith(b"\xff".to_vec());
    smsc.script([SmscBehaviour::AcceptAs("a-7".to_owned()), odd.clone(), odd]);
    let receipt = smpp.send(&sms_of(&"123456 ".repeat(50))).await.unwrap();
    assert_eq!((receipt.reference.as_str(), smsc.parts().len()), ("a-7", 3));
}

#[rstest]
#[case(SmscBehaviour::Close, 0)]
#[case(SmscBehaviour::AcceptThenClose, 1)]
#[tokio::test]
async fn a_lost_link_leaves_the_message_in_doubt(#[case] behaviour: SmscBehaviour, #[case] accepted: usize) {
    let (smsc, smpp) = pair().await;
    smsc.script([behaviour]);
    let error = refused(&smpp).await;
    assert!(matches!(error, SmsError::Ambiguous { .. }), "{error}");
    assert_eq!((smsc.submissions(), smsc.parts().len()), (1, accepted));
    // It does not stay lost.
    assert!(smsc.wait_for_binds(2, PATIENCE).await);
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    smpp.send(&sms()).await.unwrap();
}

/// An SMSC, and a session with a short time-out and as many places as given.
async fn impatient(window: usize) -> (FakeSmsc, Arc<Reports>, Smpp) {
    let (smsc, reports) = (FakeSmsc::start().await.unwrap(), Arc::<Reports>::default());
    reports.forget_references();
    let settings = Settings { timeout: SHORT, window, ..settings(&smsc) };
    let smpp = bound_with(settings, &reports).await;
    (smsc, reports, smpp)
}

/// Whatever the adapter had to say of what was released comes before its answer to this.
async fn exchange(smsc: &FakeSmsc) {
    smsc.request(ENQUIRE_LINK_COMMAND, Vec::new(), PATIENCE).await.unwrap();
}

/// Says a receipt again for as long as it is asked for: the acceptance is told before the receipt finds it.
async fn deliver_until_taken(smsc: &FakeSmsc, receipt: &Delivered) {
    let started = Instant::now();
    while smsc.deliver(receipt, PATIENCE).await.unwrap().status == RX_T_APPN {
        assert!(started.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn silence_leaves_the_message_in_doubt_and_the_link_usable() {
    let (smsc, _, smpp) = impatient(1).await;
    smsc.script([SmscBehaviour::Hold]);
    let error = refused(&smpp).await;
    assert_eq!(error, SmsError::Ambiguous { reason: "no answer within the time-out".to_owned() });
    // With the answer the place in the window is free again.
    smsc.release();
    let receipt = smpp.send(&sms()).await.unwrap();
    assert_eq!(receipt.reference, smsc.parts()[1].id);
}

#[tokio::test]
async fn a_late_acceptance_ends_the_doubt_and_its_receipts_find_the_message() {
    let (smsc, reports, smpp) = impatient(WINDOW).await;
    smsc.script([SmscBehaviour::Hold]);
    refused(&smpp).await;
    smsc.release();
    let message = || Reported::Message(sms().id);
    assert_eq!(reports.wait_for(1).await, [(message(), Delivery::Sent)]);
    let id = smsc.parts()[0].id.clone();
    deliver_until_taken(&smsc, &Delivered::receipt(&id, "ENROUTE")).await;
    // The receipt finds it on the next link too.
    smsc.script([SmscBehaviour::Close]);
    refused(&smpp).await;
    assert!(smsc.wait_for_binds(2, PATIENCE).await);
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    deliver_until_taken(&smsc, &Delivered::receipt(&id, "DELIVRD")).await;
    assert_eq!(reports.wait_for(3).await[2], (message(), Delivery::Delivered));
    // The SMSC gives the id to another message: it is that one's.
    smsc.script([SmscBehaviour::AcceptAs(id.clone())]);
    smpp.send(&sms()).await.unwrap();
    let answered = smsc.deliver(&Delivered::receipt(&id, "DELIVRD"), PATIENCE).await;
    assert_eq!(answered, Some(Answered { command: DELIVER_SM_RESP, status: RX_T_APPN }));
}

#[rstest]
#[case::for_now(0x14, "throttled: ESME_RMSGQFUL (0x00000014): the queue is full")]
#[case::for_good(0x0b, "refused for good: ESME_RINVDSTADR (0x0000000B): there is no such number")]
#[tokio::test]
async fn a_late_refusal_ends_the_doubt(#[case] status: u32, #[case] reason: &str) {
    let (smsc, reports, smpp) = impatient(WINDOW).await;
    smsc.script([SmscBehaviour::HoldRefusal(status)]);
    refused(&smpp).await;
    // Storage may not know yet that it is in doubt.
    reports.refuse_next();
    smsc.release();
    let failed = Delivery::Failed { reason: reason.to_owned() };
    assert_eq!(reports.wait_for(1).await, [(Reported::Message(sms().id), failed)]);
}

#[tokio::test]
async fn a_late_answer_to_the_last_part_ends_the_doubt_about_all() {
    let (smsc, reports, smpp) = impatient(WINDOW).await;
    let message = sms_of(&"123456 ".repeat(50));
    smsc.script([SmscBehaviour::Accept, SmscBehaviour::Accept, SmscBehaviour::Hold]);
    let error = smpp.send(&message).await.unwrap_err();
    assert!(matches!(error, SmsError::Ambiguous { .. }), "{error}");
    smsc.release();
    assert_eq!(reports.wait_for(1).await, [(Reported::Message(message.id), Delivery::Sent)]);
    let first = Delivered::receipt(&smsc.parts()[0].id, "DELIVRD");
    deliver_until_taken(&smsc, &first).await;
    assert_eq!(reports.wait_for(2).await[1], (Reported::Message(message.id), Delivery::Delivered));
}

#[rstest]
#[case::first(vec![SmscBehaviour::Hold])]
#[case::refused(vec![SmscBehaviour::Accept, SmscBehaviour::HoldRefusal(0x0b)])]
#[tokio::test]
async fn a_message_of_which_only_parts_are_on_their_way_stays_in_doubt(#[case] script: Vec<SmscBehaviour>) {
    let (smsc, reports, smpp) = impatient(WINDOW).await;
    smsc.script(script);
    let error = smpp.send(&sms_of(&"123456 ".repeat(50))).await.unwrap_err();
    assert!(matches!(error, SmsError::Ambiguous { .. }), "{error}");
    smsc.release();
    exchange(&smsc).await;
    assert_eq!(reports.all(), []);
}

#[tokio::test]
async fn a_late_acceptance_is_told_before_a_session_ends() {
    let (smsc, reports, smpp) = impatient(WINDOW).await;
    smsc.script([SmscBehaviour::Hold]);
    refused(&smpp).await;
    reports.refuse_next();
    smsc.release();
    exchange(&smsc).await;
    smpp.stop().await;
    assert_eq!(reports.wait_for(1).await, [(Reported::Message(sms().id), Delivery::Sent)]);
}

#[tokio::test]
async fn what_the_smsc_works_on_keeps_its_place_for_a_while() {
    let (smsc, _, smpp) = impatient(1).await;
    smsc.script([SmscBehaviour::Ignore]);
    let started = Instant::now();
    refused(&smpp).await;
    let error = refused(&smpp).await;
    assert!(matches!(error, SmsError::Throttled { .. }), "{error}");
    assert_eq!(smsc.submissions(), 1);
    // An SMSC that never answers does not block the link.
    while smpp.send(&sms()).await.is_err() {
        assert!(started.elapsed() < PATIENCE);
    }
    assert!(started.elapsed() >= 3 * SHORT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_message_that_finds_no_place_in_the_window_is_certainly_not_sent() {
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = bound(Settings { timeout: SHORT, window: 1, ..settings(&smsc) }).await;
    smsc.set_behaviour(SmscBehaviour::Ignore);
    let first = sms();
    let (in_doubt, not_sent) = tokio::join!(smpp.send(&first), async {
        assert!(smsc.wait_for_submissions(1, PATIENCE).await);
        smpp.send(&sms()).await
    });
    assert!(matches!(in_doubt, Err(SmsError::Ambiguous { .. })), "{in_doubt:?}");
    let reason = "the window had no place within half of the time-out".to_owned();
    assert_eq!(not_sent, Err(SmsError::Throttled { retry_after: None, reason }));
    assert_eq!(smsc.submissions(), 1);
}

#[tokio::test]
async fn no_more_than_some_hundred_messages_wait() {
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = Arc::new(bound(Settings { timeout: SHORT, window: 1, ..settings(&smsc) }).await);
    smsc.set_behaviour(SmscBehaviour::Ignore);
    let sends: Vec<_> = (0..300)
        .map(|_| {
            let smpp = Arc::clone(&smpp);
            tokio::spawn(async move { smpp.send(&sms()).await.unwrap_err() })
        })
        .collect();
    let (mut turned_away, mut waited, mut ambiguous) = (0, 0, 0);
    for send in sends {
        match send.await.unwrap() {
            SmsError::Throttled { reason, .. } if reason.starts_with("too many") => turned_away += 1,
            SmsError::Throttled { .. } => waited += 1,
            SmsError::Ambiguous { .. } => ambiguous += 1,
            error @ (SmsError::Temporary { .. } | SmsError::Permanent { .. }) => unreachable!("{error}"),
        }
    }
    assert!((40..=44).contains(&turned_away), "{turned_away}");
    assert_eq!((waited, ambiguous), (299 - turned_away, 1));
    assert_eq!(smsc.submissions(), 1);
}

#[rstest]
#[case::throttled(SmscBehaviour::Refuse(0x58))]
#[case::for_good(SmscBehaviour::Refuse(0x0b))]
#[case::lost(SmscBehaviour::Close)]
#[tokio::test]
async fn a_message_of_which_a_part_is_on_its_way_is_in_doubt(#[case] second: SmscBehaviour) {
    let (smsc, smpp) = pair().await;
    smsc.script([SmscBehaviour::Accept, second]);
    let error = smpp.send(&sms_of(&"123456 ".repeat(50))).await.unwrap_err();
    let SmsError::Ambiguous { reason } = error else { panic!("{error}") };
    assert!(reason.starts_with("part 2 of 3: ") && !reason.contains("123456"), "{reason}");
    assert_eq!(smsc.submissions(), 2);
}

#[tokio::test]
async fn a_first_part_that_is_refused_ends_the_message() {
    let (smsc, smpp) = pair().await;
    smsc.script([SmscBehaviour::Refuse(0x0b)]);
    let error = smpp.send(&sms_of(&"123456 ".repeat(50))).await.unwrap_err();
    assert!(matches!(error, SmsError::Permanent { .. }), "{error}");
    assert_eq!(smsc.submissions(), 1);
}

#[tokio::test]
async fn a_refused_bind_is_named_and_tried_again() {
    let smsc = FakeSmsc::start().await.unwrap();
    smsc.refuse_binds(Some(0x0d));
    let smpp = Smpp::start(settings(&smsc), Arc::<Reports>::default()).unwrap();
    assert!(smsc.wait_for_binds(2, PATIENCE).await);
    let started = Instant::now();
    let error = refused(&smpp).await;
    let reason = "the SMSC refused the bind: ESME_RBINDFAIL (0x0000000D): the bind failed";
    assert_eq!(error, SmsError::Temporary { reason: format!("not bound to the SMSC: {reason}") });
    assert_eq!(smpp.wait_until_bound(Duration::ZERO).await.unwrap_err().reason, reason);
    assert!(started.elapsed() < TIMEOUT);
    smsc.refuse_binds(None);
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    smpp.send(&sms()).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_no_reason_to_give_up() {
    let smsc = FakeSmsc::start().await.unwrap();
    let url = SecretString::from(smsc.url().replace("s3cr", "fals"));
    let smpp = Smpp::start(Settings { url, ..settings(&smsc) }, Arc::<Reports>::default()).unwrap();
    assert!(smsc.wait_for_binds(2, PATIENCE).await);
    let SmsError::Temporary { reason } = refused(&smpp).await else { panic!() };
    assert!(reason.contains("ESME_RINVPASWD (0x0000000E)"), "{reason}");
}

#[tokio::test]
async fn an_smsc_that_is_down_is_tried_again_later() {
    let (smsc, smpp) = pair().await;
    let address = smsc.address();
    smsc.stop().await;
    let error = refused(&smpp).await;
    assert!(matches!(error, SmsError::Temporary { .. } | SmsError::Ambiguous { .. }), "{error}");
    let smsc = FakeSmsc::start_on(address).await.unwrap();
    assert!(smsc.wait_for_binds(1, PATIENCE).await);
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    smpp.send(&sms()).await.unwrap();
    assert_eq!(smsc.texts(TO), [TEXT]);
}

#[tokio::test]
async fn an_idle_link_is_tested() {
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = bound(Settings { enquire_link: Duration::from_secs(1), ..settings(&smsc) }).await;
    assert!(smsc.wait_for_enquiries(2, PATIENCE).await);
    smpp.send(&sms()).await.unwrap();
    assert!(!smsc.wait_for_binds(2, Duration::ZERO).await);
}

#[tokio::test]
async fn a_dead_link_is_replaced() {
    let smsc = FakeSmsc::start().await.unwrap();
    smsc.ignore_enquiries();
    let settings = Settings { enquire_link: Duration::from_secs(1), timeout: SHORT, ..settings(&smsc) };
    let smpp = bound(settings).await;
    assert!(smsc.wait_for_binds(2, PATIENCE).await);
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    smpp.send(&sms()).await.unwrap();
}

#[tokio::test]
async fn the_smscs_own_requests_are_answered() {
    let (smsc, smpp) = pair().await;
    let answered = smsc.request(ENQUIRE_LINK_COMMAND, Vec::new(), PATIENCE).await;
    assert_eq!(answered, Some(Answered { command: 0x8000_0015, status: 0 }));
    // query_sm, and a command that nobody knows.
    for command in [0x03, 0x0111_1111] {
        let answered = smsc.request(command, vec![0; 3], PATIENCE).await;
        assert_eq!(answered, Some(Answered { command: GENERIC_NACK, status: 0x03 }));
    }
    smpp.send(&sms()).await.unwrap();
    // unbind
    let answered = smsc.request(0x06, Vec::new(), PATIENCE).await;
    assert_eq!(answered, Some(Answered { command: 0x8000_0006, status: 0 }));
    assert!(smsc.wait_for_binds(2, PATIENCE).await);
}

#[rstest]
#[case(b"\x00\x00\x00\x0f\x00\x00\x00\x15".to_vec())]
#[case(b"\xff\xff\xff\xff\x00\x00\x00\x05".to_vec())]
#[case(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())]
#[tokio::test]
async fn what_makes_no_sense_costs_the_link_only(#[case] octets: Vec<u8>) {
    let (smsc, smpp) = pair().await;
    smsc.send_raw(octets);
    assert_eq!(smsc.wait_for_nack(PATIENCE).await, Some(0x02));
    assert!(smsc.wait_for_binds(2, PATIENCE).await);
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    smpp.send(&sms()).await.unwrap();
}

#[tokio::test]
async fn a_session_that_stops_waits_for_its_answers_and_unbinds() {
    let (smsc, smpp) = pair().await;
    smsc.script([SmscBehaviour::Hold]);
    let message = sms();
    let (sent, ()) = tokio::join!(smpp.send(&message), async {
        assert!(smsc.wait_for_submissions(1, PATIENCE).await);
        tokio::join!(smpp.stop(), async {
            for _ in 0..5 {
                smsc.request(ENQUIRE_LINK_COMMAND, Vec::new(), PATIENCE).await.unwrap();
            }
            assert_eq!(smsc.unbinds(), 0);
            smsc.release();
        });
    });
    sent.unwrap();
    assert_eq!(smsc.unbinds(), 1);
    let error = refused(&smpp).await;
    assert_eq!(error, SmsError::Temporary { reason: "the session with the SMSC has ended".to_owned() });
    smpp.stop().await;
}

#[tokio::test]
async fn a_session_that_is_dropped_unbinds() {
    let (smsc, smpp) = pair().await;
    drop(smpp);
    assert!(smsc.wait_for_unbinds(1, PATIENCE).await);
}

#[tokio::test]
async fn receipts_are_recorded_and_acknowledged() {
    let smsc = FakeSmsc::start().await.unwrap();
    let reports = Arc::<Reports>::default();
    let smpp = bound_with(settings(&smsc), &reports).await;
    let id = smpp.send(&sms()).await.unwrap().reference;
    let failed = |reason: &str| Delivery::Failed { reason: reason.to_owned() };
    let with_parameter = |id_in_parameter: &[u8]| Delivered {
        parameters: vec![(0x001e, id_in_parameter.to_vec())],
        ..Delivered::receipt(&id, "DELIVRD")
    };
    let undeliverable = "UNDELIV: the message cannot be delivered";
    let receipts = [
        (Delivered::receipt(&id, "ENROUTE"), Delivery::Sent),
        (Delivered::receipt(&id, "DELIVRD"), Delivery::Delivered),
        (Delivered::receipt(&id, "EXPIRED"), Delivery::Expired),
        (Delivered::receipt(&id, "UNDELIV"), failed(&format!("{undeliverable} (error 034)"))),
        (Delivered::receipt_in_parameters(&id, 6), Delivery::Sent),
        (Delivered::receipt_in_parameters(&id, 2), Delivery::Delivered),
        (Delivered::receipt_in_parameters(&id, 5), failed(undeliverable)),
        (Delivered { as_data: true, ..Delivered::receipt_in_parameters(&id, 2) }, Delivery::Delivered),
        // In the text, the parameters being unreadable: the id has no final NUL.
        (
            Delivered {
                parameters: vec![(0x001e, id.clone().into_bytes())],
                ..Delivered::receipt(&id, "DELIVRD")
            },
            Delivery::Delivered,
        ),
        // In the text, the one in the parameters being none.
        (with_parameter(b"\0"), Delivery::Delivered),
        (with_parameter(b"a b\0"), Delivery::Delivered),
    ];
    for (receipt, _) in &receipts {
        let command = if receipt.as_data { DATA_SM_RESP } else { DELIVER_SM_RESP };
        assert_eq!(
            smsc.deliver(receipt, PATIENCE).await,
            Some(Answered { command, status: 0 }),
            "{receipt:?}"
        );
    }
    let expected: Vec<_> = receipts.into_iter().map(|(_, delivery)| (id.clone(), delivery)).collect();
    assert_eq!(reports.all(), expected);
}

#[tokio::test]
async fn receipts_in_decimal_find_hexadecimal_ids() {
    let smsc = FakeSmsc::start().await.unwrap();
    let reports = Arc::<Reports>::default();
    let settings = Settings { receipt_ids: ReceiptIds::Decimal, ..settings(&smsc) };
    let smpp = bound_with(settings, &reports).await;
    let reference = smpp.send(&sms()).await.unwrap().reference;
    let given = smsc.parts()[0].id.clone();
    let receipts = [
        Delivered::receipt_in_decimal(&given, "DELIVRD").unwrap(),
        Delivered::receipt_in_parameters(&given, 2),
        Delivered {
            parameters: Delivered::receipt_in_parameters(&given, 2).parameters,
            ..Delivered::receipt("7", "DELIVRD")
        },
    ];
    for receipt in receipts {
        smsc.deliver(&receipt, PATIENCE).await.unwrap();
    }
    assert_eq!(reports.all(), vec![(reference, Delivery::Delivered); 3]);
}

#[tokio::test]
async fn a_receipt_that_is_not_recorded_is_asked_for_again() {
    let smsc = FakeSmsc::start().await.unwrap();
    let reports = Arc::<Reports>::default();
    let _smpp = bound_with(settings(&smsc), &reports).await;
    reports.refuse_next();
    let receipt = Delivered::receipt("0000000A", "DELIVRD");
    let answered = smsc.deliver(&receipt, PATIENCE).await;
    assert_eq!(answered, Some(Answered { command: DELIVER_SM_RESP, status: RX_T_APPN }));
    assert_eq!(reports.all(), []);
    let answered = smsc.deliver(&receipt, PATIENCE).await;
    assert_eq!(answered, Some(Answered { command: DELIVER_SM_RESP, status: 0 }));
    assert_eq!(reports.all(), [("0000000A".to_owned(), Delivery::Delivered)]);
}

/// Storage that hangs.
struct Stuck;

#[async_trait]
impl DeliveryReports for Stuck {
    async fn record(&self, _: DeliveryReport) -> bool {
        std::future::pending().await
    }
}

#[tokio::test]
async fn receipts_that_cannot_be_recorded_in_time_are_asked_for_again() {
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = Smpp::start(Settings { timeout: SHORT, ..settings(&smsc) }, Arc::new(Stuck)).unwrap();
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    let again = Some(Answered { command: DELIVER_SM_RESP, status: RX_T_APPN });
    let receipt = Delivered::receipt("7", "DELIVRD");
    let started = Instant::now();
    assert_eq!(smsc.deliver(&receipt, PATIENCE).await, again);
    assert!(started.elapsed() >= SHORT);
    // Nothing else waits for that.
    smpp.send(&sms()).await.unwrap();
}

#[tokio::test]
async fn no_more_than_some_dozen_receipts_are_recorded_at_a_time() {
    let smsc = FakeSmsc::start().await.unwrap();
    let smpp = Smpp::start(settings(&smsc), Arc::new(Stuck)).unwrap();
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    let receipt = Delivered::receipt("7", "DELIVRD");
    let started = Instant::now();
    for _ in 0..32 {
        assert_eq!(smsc.deliver(&receipt, Duration::ZERO).await, None);
    }
    let answered = smsc.deliver(&receipt, PATIENCE).await;
    assert_eq!(answered, Some(Answered { command: DELIVER_SM_RESP, status: RX_T_APPN }));
    assert!(started.elapsed() < TIMEOUT);
}

#[rstest]
#[case::message(Delivered { text: b"id:7 stat:DELIVRD".to_vec(), ..Delivered::default() })]
#[case::no_news(Delivered::receipt("7", "UNKNOWN"))]
#[case::unreadable(Delivered { esm_class: 4, text: b"delivered, I think".to_vec(), ..Delivered::default() })]
#[tokio::test]
async fn what_is_no_report_is_acknowledged_and_dropped(#[case] message: Delivered) {
    let smsc = FakeSmsc::start().await.unwrap();
    let reports = Arc::<Reports>::default();
    let _smpp = bound_with(settings(&smsc), &reports).await;
    let answered = smsc.deliver(&message, PATIENCE).await;
    assert_eq!(answered, Some(Answered { command: DELIVER_SM_RESP, status: 0 }));
    assert_eq!(reports.all(), []);
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_is_not_wanted_again() {
    let (smsc, smpp) = pair().await;
    let answered = smsc.request(0x05, b"\0\x01\x01no end".to_vec(), PATIENCE).await;
    assert_eq!(answered, Some(Answered { command: DELIVER_SM_RESP, status: 0x66 }));
    smpp.send(&sms()).await.unwrap();
}

#[tokio::test]
async fn the_same_inside_tls() {
    let smsc = FakeSmsc::start_tls().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("authority.pem");
    std::fs::write(&ca_file, smsc.authority()).unwrap();
    let reports = Arc::<Reports>::default();
    let smpp = bound_with(Settings { ca_file: Some(ca_file), ..settings(&smsc) }, &reports).await;
    let text = "0123456789".repeat(100);
    let id = smpp.send(&sms_of(&text)).await.unwrap().reference;
    assert_eq!(smsc.texts(TO), [text]);
    smsc.deliver(&Delivered::receipt(&id, "DELIVRD"), PATIENCE).await.unwrap();
    assert_eq!(reports.all(), [(id, Delivery::Delivered)]);
    smpp.stop().await;
    assert_eq!(smsc.unbinds(), 1);
}

#[tokio::test]
async fn an_smsc_of_unknown_authority_gets_nothing() {
    let smsc = FakeSmsc::start_tls().await.unwrap();
    let Ok(smpp) = Smpp::start(settings(&smsc), Arc::<Reports>::default()) else {
        return; // a machine without root certificates, where `smpps` is refused at the start
    };
    let started = Instant::now();
    let reason = loop {
        let reason = smpp.wait_until_bound(Duration::from_millis(10)).await.unwrap_err().reason;
        if reason != "the session has just begun" || started.elapsed() > PATIENCE {
            break reason;
        }
    };
    assert!(reason.starts_with("no secure connection"), "{reason}");
    assert!(!smsc.wait_for_binds(1, Duration::ZERO).await);
}
