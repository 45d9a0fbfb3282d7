//! Each provider carries a code over its own protocol and tells what became of it.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use vestibule_testkit::fake_gateway::WEBHOOK_SECRET;
use vestibule_testkit::fake_smsc::Delivered;
use vestibule_testkit::{Behaviour, FakeSmsc, Report};

use crate::harness::{Database, PATIENCE, Service, World};
use crate::{PHONE, text};

/// What a resend that comes too early tells of the message before it.
async fn delivery(service: &Service) -> Value {
    let body = json!({ "phone": PHONE });
    let refused = service.call(Method::POST, "/v2/mobile/phone/verify/resend", None, Some(body)).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    refused.body["data"]["delivery"].clone()
}

/// Waits until the service has settled what its gateway has taken: before that nothing can be reported by reference.
async fn sent(service: &Service) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while delivery(service).await != "sent" {
        assert!(tokio::time::Instant::now() < end, "it was never settled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[rstest]
#[case::delivered(Report::Delivered, "delivered")]
#[case::failed(Report::Failed, "failed")]
#[tokio::test(flavor = "multi_thread")]
async fn twilio_calls_back(#[case] report: Report, #[case] state: &str) {
    let world = World::new(Database::Postgres).await.with("SMS__TWILIO__CALLBACKS", "true");
    let service = world.start();
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    let code = world.code(PHONE).await;
    sent(&service).await;
    assert_eq!(world.gateway.report(0, report).await.unwrap(), 204);
    assert_eq!(delivery(&service).await, state);
    text(&service.confirm(PHONE, &code).await, "access_token");
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_both_ways(#[case] database: Database) {
    let world = World::new(database).await;
    let url = world.gateway.webhook_url();
    let world = world
        .with("SMS__PROVIDERS", "webhook")
        .with("SMS__WEBHOOK__URL", &url)
        .with("SMS__WEBHOOK__SECRETS", WEBHOOK_SECRET);
    let service = world.start();
    world.gateway.set_webhook_callback(&format!("{}/callbacks/sms/webhook", service.url));
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    let code = world.code(PHONE).await;
    sent(&service).await;
    assert_eq!(world.gateway.report(0, Report::Delivered).await.unwrap(), 204);
    assert_eq!(delivery(&service).await, "delivered");
    let unsigned = json!({ "type": "sms.delivery", "data": { "id": "x", "state": "failed" } });
    let refused = service.call(Method::POST, "/callbacks/sms/webhook", None, Some(unsigned)).await;
    assert_eq!(refused.status, 403);
    text(&service.confirm(PHONE, &code).await, "access_token");
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_reports_as_failed_while_it_is_in_doubt_is_sent_again_at_once(
    #[case] database: Database,
) {
    let world = World::new(database).await;
    let url = world.gateway.webhook_url();
    let world = world
        .with("SMS__PROVIDERS", "webhook")
        .with("SMS__WEBHOOK__URL", &url)
        .with("SMS__WEBHOOK__SECRETS", WEBHOOK_SECRET);
    let service = world.start();
    world.gateway.set_webhook_callback(&format!("{}/callbacks/sms/webhook", service.url));
    world.gateway.script([Behaviour::AcceptThenReset]);
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    service.until_logged("in doubt: its report is waited for").await;
    // Until its doubt is recorded a report is to be said again.
    while world.gateway.report(0, Report::Failed).await.unwrap() == 503 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let again = world.gateway.wait_for(PHONE, 2, PATIENCE).await.unwrap();
    text(&service.confirm(PHONE, again.code().unwrap()).await, "access_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_smsc_sends_receipts_and_is_taken_leave_of() {
    let smsc = FakeSmsc::start().await.unwrap();
    let world = World::new(Database::Postgres).await;
    let world = world
        .with("SMS__PROVIDERS", "smpp")
        .with("SMS__SMPP__URL", &smsc.url())
        .with("SMS__SMPP__FROM", "Vestibule");
    let service = world.start();
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    assert!(smsc.wait_for_submissions(1, PATIENCE).await);
    let sms = smsc.texts(PHONE.trim_start_matches('+')).pop().unwrap();
    let code = sms.rsplit_once('#').unwrap().1;
    sent(&service).await;
    let receipt = Delivered::receipt(&smsc.parts()[0].id, "DELIVRD");
    assert_eq!(smsc.deliver(&receipt, PATIENCE).await.unwrap().status, 0);
    assert_eq!(delivery(&service).await, "delivered");
    text(&service.confirm(PHONE, code).await, "access_token");
    let log = service.stop();
    assert!(smsc.wait_for_unbinds(1, PATIENCE).await);
    assert!(!log.contains(code) && !log.contains("7871234567"), "{log}");
}
