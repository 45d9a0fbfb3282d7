//! The adapter against a gateway on loopback: every outcome of the port, over real HTTP.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::time::{Duration, Instant};

use rstest::rstest;
use secrecy::SecretString;
use vestibule_domain::{MessageId, PhoneNumber};
use vestibule_port_sms::{
    CallbackRequest, Delivery, DeliveryCallbacks as _, DeliveryReport, Reported, Sms, SmsError, SmsSender,
};
use vestibule_testkit::fake_gateway::{
    ACCOUNT_SID, AUTH_TOKEN, Behaviour, Callback, CallbackListener, FakeGateway, Report, SentSms, Via,
};
use vestibule_twilio::{Settings, Twilio};

const NUMBER: &str = "+447871234567";
const TEXT: &str = "Your code: 123456 & more = 100% ü\n\n@example.com #123456";
const PATIENCE: Duration = Duration::from_secs(5);

fn settings(gateway: &FakeGateway) -> Settings {
    Settings {
        base_url: gateway.base_url(),
        account_sid: ACCOUNT_SID.to_owned(),
        auth_token: SecretString::from(AUTH_TOKEN),
        from: "+15005550006".to_owned(),
        public_url: None,
        currency: "USD".to_owned(),
        timeout: PATIENCE,
    }
}

fn sms() -> Sms {
    Sms {
        id: MessageId::new(uuid::Uuid::from_u128(7)),
        to: PhoneNumber::parse(NUMBER).unwrap(),
        text: TEXT.to_owned(),
    }
}

async fn outcome(gateway: &FakeGateway, behaviour: Behaviour) -> SmsError {
    gateway.set_behaviour(behaviour);
    let error = Twilio::new(settings(gateway)).unwrap().send(&sms()).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    for secret in [NUMBER, NUMBER.trim_start_matches('+'), "123456", AUTH_TOKEN] {
        assert!(!shown.contains(secret), "{shown}");
    }
    error
}

#[tokio::test]
async fn a_message_arrives_as_it_was_written() {
    let gateway = FakeGateway::start().await.unwrap();
    let twilio = Twilio::new(settings(&gateway)).unwrap();
    let receipt = twilio.send(&sms()).await.unwrap();
    assert_eq!(receipt.reference, format!("SM{:032x}", 0));
    let expected = SentSms {
        to: NUMBER.to_owned(),
        from: "+15005550006".to_owned(),
        body: TEXT.to_owned(),
        at_index: 0,
        via: Via::Twilio { status_callback: None },
    };
    assert_eq!(gateway.messages(), [expected]);
    assert_eq!(SmsSender::name(&twilio), "twilio");
    assert!(twilio.callbacks().is_none());
}

#[tokio::test]
async fn a_message_asks_for_reports() {
    let gateway = FakeGateway::start().await.unwrap();
    let public_url = Some("https://vestibule.example/auth/".to_owned());
    let twilio = Twilio::new(Settings { public_url, ..settings(&gateway) }).unwrap();
    twilio.send(&sms()).await.unwrap();
    let told =
        format!("https://vestibule.example/auth/callbacks/sms/twilio?message={}#rc=5&rp=all", sms().id);
    assert_eq!(gateway.messages()[0].via, Via::Twilio { status_callback: Some(told) });
}

#[rstest]
#[case(Report::Sent, Delivery::Sent)]
#[case(Report::Delivered, Delivery::Delivered)]
#[case(
    Report::Failed,
    Delivery::Failed { reason: "Twilio 30005: the number is unknown or no longer in use".to_owned() }
)]
#[case(Report::Expired, Delivery::Expired)]
#[tokio::test]
async fn what_twilio_reports_is_read(#[case] report: Report, #[case] delivery: Delivery) {
    let (gateway, listener) = (FakeGateway::start().await.unwrap(), CallbackListener::start().await.unwrap());
    let public_url = Some(listener.base_url().unwrap());
    let twilio = Twilio::new(Settings { public_url, ..settings(&gateway) }).unwrap();
    twilio.send(&sms()).await.unwrap();
    let (answered, callback) = tokio::join!(gateway.report(0, report), listener.next());
    assert_eq!(answered.unwrap(), 204);
    let Callback { path_and_query, headers, body } = callback.unwrap();
    assert_eq!(path_and_query, format!("/callbacks/sms/twilio?message={}", sms().id));
    let request = CallbackRequest { path_and_query: &path_and_query, headers: &headers, body: &body };
    let expected = DeliveryReport { provider: "twilio", message: Reported::Message(sms().id), delivery };
    assert_eq!(twilio.callbacks().unwrap().read(&request), Ok(Some(expected)));
}

#[tokio::test]
async fn a_messaging_service_sends_by_its_own_field() {
    let gateway = FakeGateway::start().await.unwrap();
    let service = format!("MG{:032x}", 7);
    let twilio = Twilio::new(Settings { from: service.clone(), ..settings(&gateway) }).unwrap();
    twilio.send(&sms()).await.unwrap();
    assert_eq!(gateway.messages()[0].from, service);
}

#[tokio::test]
async fn many_messages_go_at_once() {
    let gateway = FakeGateway::start().await.unwrap();
    let twilio = std::sync::Arc::new(Twilio::new(settings(&gateway)).unwrap());
    let sends: Vec<_> = (0..32)
        .map(|_| {
            let twilio = std::sync::Arc::clone(&twilio);
            tokio::spawn(async move { twilio.send(&sms()).await })
        })
        .collect();
    for send in sends {
        send.await.unwrap().unwrap();
    }
    assert_eq!(gateway.messages().len(), 32);
}

#[tokio::test]
async fn wrong_credentials_can_be_mended() {
    let gateway = FakeGateway::start().await.unwrap();
    let wrong = Settings { auth_token: SecretString::from("wrong"), ..settings(&gateway) };
    let error = Twilio::new(wrong).unwrap().send(&sms()).await.unwrap_err();
    let reason = "Twilio 20003: the account's SID or token is wrong (HTTP 401)".to_owned();
    assert_eq!(error, SmsError::Temporary { reason });
}

#[rstest]
#[case(21211)]
#[case(21610)]
#[case(21614)]
#[tokio::test]
async fn what_nobody_can_mend_is_permanent(#[case] code: u32) {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(&gateway, Behaviour::Refuse { status: 400, code }).await;
    assert!(
        matches!(&error, SmsError::Permanent { reason } if reason.contains(&code.to_string())),
        "{error}"
    );
}

#[rstest]
#[case(400, 21408)]
#[case(400, 21606)]
#[case(403, 20005)]
#[case(404, 20404)]
#[case(500, 20500)]
#[tokio::test]
async fn what_can_be_mended_is_temporary(#[case] status: u16, #[case] code: u32) {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(&gateway, Behaviour::Refuse { status, code }).await;
    assert!(
        matches!(&error, SmsError::Temporary { reason } if reason.contains(&code.to_string())),
        "{error}"
    );
}

#[rstest]
#[case(502)]
#[case(504)]
#[tokio::test]
async fn what_an_edge_gave_up_is_in_doubt(#[case] status: u16) {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(&gateway, Behaviour::Refuse { status, code: 20500 }).await;
    assert!(matches!(error, SmsError::Ambiguous { .. }), "{error}");
}

#[tokio::test]
async fn a_gateway_that_throttles_says_how_long() {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(
        &gateway,
        Behaviour::RespondWith {
            status: 429,
            headers: vec![("Retry-After".to_owned(), "17".to_owned())],
            body: r#"{"code":20429,"message":"Too Many Requests","status":429}"#.to_owned(),
        },
    )
    .await;
    let reason = "Twilio 20429: too many requests (HTTP 429)".to_owned();
    assert_eq!(error, SmsError::Throttled { retry_after: Some(Duration::from_secs(17)), reason });
}

#[tokio::test]
async fn a_slow_gateway_leaves_the_message_in_doubt() {
    let gateway = FakeGateway::start().await.unwrap();
    gateway.set_behaviour(Behaviour::Delay(Duration::from_mins(1)));
    let hasty = Settings { timeout: Duration::from_millis(300), ..settings(&gateway) };
    let started = Instant::now();
    let error = Twilio::new(hasty).unwrap().send(&sms()).await.unwrap_err();
    assert_eq!(error, SmsError::Ambiguous { reason: "no answer within the time-out".to_owned() });
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(gateway.requests(), 1);
}

#[rstest]
#[case(Behaviour::ResetAfterRequest, 0)]
#[case(Behaviour::AcceptThenReset, 1)]
#[tokio::test]
async fn a_reset_leaves_the_message_in_doubt(#[case] behaviour: Behaviour, #[case] accepted: usize) {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(&gateway, behaviour).await;
    assert!(matches!(error, SmsError::Ambiguous { .. }), "{error}");
    assert_eq!((gateway.requests(), gateway.messages().len()), (1, accepted));
}

#[tokio::test]
async fn a_page_instead_of_an_answer_leaves_the_message_in_doubt() {
    let gateway = FakeGateway::start().await.unwrap();
    let error = outcome(&gateway, Behaviour::HtmlNonsense).await;
    assert_eq!(error, SmsError::Ambiguous { reason: "HTTP 200 without the message's SID".to_owned() });
}

#[tokio::test]
async fn a_huge_answer_is_not_read() {
    let gateway = FakeGateway::start().await.unwrap();
    let huge = |status, start: &str| Behaviour::RespondWith {
        status,
        headers: Vec::new(),
        body: format!("{start}{}\"}}", "x".repeat(1024 * 1024)),
    };
    let error = outcome(&gateway, huge(201, r#"{"sid":"SM01","x":""#)).await;
    assert!(matches!(error, SmsError::Ambiguous { .. }), "{error}");
    let error = outcome(&gateway, huge(400, r#"{"code":21211,"x":""#)).await;
    assert_eq!(error, SmsError::Temporary { reason: "HTTP 400 without a Twilio code".to_owned() });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (gateway, other) = (FakeGateway::start().await.unwrap(), FakeGateway::start().await.unwrap());
    let location = format!("{}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json", other.base_url());
    let headers = vec![("Location".to_owned(), location)];
    let error = outcome(&gateway, Behaviour::RespondWith { status: 307, headers, body: String::new() }).await;
    assert!(matches!(error, SmsError::Temporary { .. }), "{error}");
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_gateway_that_is_down_is_tried_again_later() {
    let gateway = FakeGateway::start().await.unwrap();
    let (address, twilio) = (gateway.address(), Twilio::new(settings(&gateway)).unwrap());
    twilio.send(&sms()).await.unwrap();
    gateway.stop().await;
    let error = twilio.send(&sms()).await.unwrap_err();
    assert_eq!(error, SmsError::Temporary { reason: "no connection".to_owned() });
    let gateway = FakeGateway::start_on(address).await.unwrap();
    twilio.send(&sms()).await.unwrap();
    assert_eq!(gateway.messages().len(), 1);
}

#[tokio::test]
async fn what_does_not_speak_tls_gets_nothing() {
    let gateway = FakeGateway::start().await.unwrap();
    let base_url = gateway.base_url().replace("http:", "https:");
    let Ok(twilio) = Twilio::new(Settings { base_url, ..settings(&gateway) }) else {
        return; // a machine without root certificates, where `https` is refused at the start
    };
    let error = twilio.send(&sms()).await.unwrap_err();
    assert!(matches!(error, SmsError::Temporary { .. }), "{error}");
    assert_eq!(gateway.requests(), 0);
}
