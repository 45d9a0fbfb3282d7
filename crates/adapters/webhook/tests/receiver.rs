//! The adapter against a receiver on loopback: every outcome of the port, over real HTTP.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use secrecy::SecretString;
use vestibule_domain::{MessageId, PhoneNumber};
use vestibule_port_security::Clock as _;
use vestibule_port_sms::{
    CallbackRequest, Delivery, DeliveryCallbacks as _, DeliveryReport, Reported, Sms, SmsError, SmsSender,
};
use vestibule_testkit::ManualClock;
use vestibule_testkit::fake_gateway::{
    Behaviour, Callback, CallbackListener, FakeGateway, Report, SentSms, Via, WEBHOOK_SECRET,
};
use vestibule_webhook::{Settings, Webhook};

const NUMBER: &str = "+447871234567";
const TEXT: &str = "Your code: 123456 \"ü\"\n\n@example.com #123456";
const PATIENCE: Duration = Duration::from_secs(5);

fn settings(gateway: &FakeGateway) -> Settings {
    Settings {
        url: gateway.webhook_url(),
        secrets: vec![SecretString::from(WEBHOOK_SECRET)],
        timeout: PATIENCE,
    }
}

fn webhook(settings: &Settings) -> Webhook {
    Webhook::new(settings, Arc::new(ManualClock::default())).unwrap()
}

fn sms() -> Sms {
    let id = MessageId::new(uuid::Uuid::from_u128(7));
    Sms { id, to: PhoneNumber::parse(NUMBER).unwrap(), text: TEXT.to_owned() }
}

async fn outcome(gateway: &FakeGateway, behaviour: Behaviour) -> SmsError {
    gateway.set_behaviour(behaviour);
    let error = webhook(&settings(gateway)).send(&sms()).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    for secret in [NUMBER, NUMBER.trim_start_matches('+'), "123456", WEBHOOK_SECRET] {
        assert!(!shown.contains(secret), "{shown}");
    }
    error
}

fn respond(status: u16, headers: &[(&str, &str)], body: &str) -> Behaviour {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Behaviour::RespondWith { status, headers, body: body.to_owned() }
}

#[tokio::test]
async fn a_message_arrives_as_it_was_written() {
    let gateway = FakeGateway::start().await.unwrap();
    let webhook = webhook(&settings(&gateway));
    let receipt = webhook.send(&sms()).await.unwrap();
    assert_eq!((receipt.reference.as_str(), webhook.name()), ("webhook-0", "webhook"));
    let timestamp = ManualClock::default().now().unix_timestamp();
    let expected = SentSms {
        to: NUMBER.to_owned(),
        from: String::new(),
        body: TEXT.to_owned(),
        at_index: 0,
        via: Via::Webhook { id: sms().id.to_string(), timestamp, failed: false },
    };
    assert_eq!(gateway.messages(), [expected]);
}

#[rstest]
#[case(Report::Sent, Delivery::Sent)]
#[case(Report::Delivered, Delivery::Delivered)]
#[case(Report::Failed, Delivery::Failed { reason: "the receiver says unknown_number".to_owned() })]
#[case(Report::Expired, Delivery::Expired)]
#[tokio::test]
async fn what_the_receiver_reports_is_read(#[case] report: Report, #[case] delivery: Delivery) {
    let (gateway, listener) = (FakeGateway::start().await.unwrap(), CallbackListener::start().await.unwrap());
    let webhook = webhook(&settings(&gateway));
    webhook.send(&sms()).await.unwrap();
    assert!(gateway.report(0, report).await.is_err(), "nobody to report to");
    gateway.set_webhook_callback(&format!("{}/callbacks/sms/webhook", listener.base_url().unwrap()));
    let (answered, callback) = tokio::join!(gateway.report(0, report), listener.next());
    assert_eq!(answered.unwrap(), 204);
    let Callback { path_and_query, headers, body } = callback.unwrap();
    let request = CallbackRequest { path_and_query: &path_and_query, headers: &headers, body: &body };
    let expected = DeliveryReport { provider: "webhook", message: Reported::Message(sms().id), delivery };
    assert_eq!(webhook.callbacks().read(&request), Ok(Some(expected)));
}

#[tokio::test]
async fn a_receiver_drops_repeats_by_their_id() {
    let gateway = FakeGateway::start().await.unwrap();
    let webhook = webhook(&settings(&gateway));
    gateway.script([Behaviour::AcceptThenReset]);
    let in_doubt = webhook.send(&sms()).await.unwrap_err();
    assert!(matches!(in_doubt, SmsError::Ambiguous { .. }), "{in_doubt}");
    assert_eq!(webhook.send(&sms()).await.unwrap().reference, "webhook-0");
    assert_eq!((gateway.requests(), gateway.messages().len()), (2, 1));
}

#[tokio::test]
async fn while_a_secret_changes_the_receiver_may_know_either() {
    let gateway = FakeGateway::start().await.unwrap();
    let new = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let both = Settings { secrets: vec![new.clone(), WEBHOOK_SECRET.into()], ..settings(&gateway) };
    webhook(&both).send(&sms()).await.unwrap();
    let error = webhook(&Settings { secrets: vec![new], ..both }).send(&sms()).await.unwrap_err();
    let reason = "HTTP 401 from the receiver: the receiver does not accept the signature".to_owned();
    assert_eq!(error, SmsError::Temporary { reason });
}

#[tokio::test]
async fn what_the_receiver_cannot_deliver_is_given_up() {
    let gateway = FakeGateway::start().await.unwrap();
    let body =
        format!(r#"{{"error":"undeliverable","reason":"landline","message":"{NUMBER} is a landline"}}"#);
    let error = outcome(&gateway, respond(422, &[], &body)).await;
    assert_eq!(error, SmsError::Permanent { reason: "the receiver says landline".to_owned() });
}

#[rstest]
#[case(400)]
#[case(404)]
#[case(410)]
#[case(500)]
#[case(503)]
#[tokio::test]
async fn what_can_be_mended_is_temporary(#[case] status: u16) {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(&gateway, respond(status, &[], &format!("no such thing as {NUMBER}"))).await;
    assert!(
        matches!(&error, SmsError::Temporary { reason } if reason.contains(&status.to_string())),
        "{error}"
    );
}

#[rstest]
#[case(502)]
#[case(504)]
#[tokio::test]
async fn what_a_proxy_gave_up_is_in_doubt(#[case] status: u16) {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(&gateway, respond(status, &[], &format!("no answer for {NUMBER}"))).await;
    assert_eq!(error, SmsError::Ambiguous { reason: format!("HTTP {status} from the receiver") });
}

#[tokio::test]
async fn a_receiver_that_throttles_says_how_long() {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(&gateway, respond(429, &[("Retry-After", "17")], "")).await;
    let reason = "HTTP 429 from the receiver".to_owned();
    assert_eq!(error, SmsError::Throttled { retry_after: Some(Duration::from_secs(17)), reason });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (gateway, other) = (FakeGateway::start().await.unwrap(), FakeGateway::start().await.unwrap());
    let error = outcome(&gateway, respond(307, &[("Location", &other.webhook_url())], "")).await;
    assert!(matches!(error, SmsError::Temporary { .. }), "{error}");
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_slow_receiver_leaves_the_message_in_doubt() {
    let gateway = FakeGateway::start().await.unwrap();
    gateway.set_behaviour(Behaviour::Delay(Duration::from_mins(1)));
    let hasty = Settings { timeout: Duration::from_millis(300), ..settings(&gateway) };
    let error = webhook(&hasty).send(&sms()).await.unwrap_err();
    assert_eq!(error, SmsError::Ambiguous { reason: "no answer within the time-out".to_owned() });
}

#[tokio::test]
async fn a_receiver_that_is_down_is_tried_again_later() {
    let gateway = FakeGateway::start().await.unwrap();
    let (address, webhook) = (gateway.address(), webhook(&settings(&gateway)));
    gateway.stop().await;
    let error = webhook.send(&sms()).await.unwrap_err();
    assert_eq!(error, SmsError::Temporary { reason: "no connection".to_owned() });
    let gateway = FakeGateway::start_on(address).await.unwrap();
    webhook.send(&sms()).await.unwrap();
    assert_eq!(gateway.messages().len(), 1);
}
