//! What providers may charge, and what they do charge.

use std::time::Duration;

use rstest::rstest;
use vestibule_testkit::fake_gateway::{Behaviour, Via, WEBHOOK_SECRET};

use crate::harness::{Database, PATIENCE, Service, World};
use crate::phone;

/// A service that sends by the webhook and else by Twilio. A message by the webhook costs 1.
async fn world(database: Database, providers: &str) -> World {
    let world = World::new(database).await;
    let url = world.gateway.webhook_url();
    world
        .with("SMS__PROVIDERS", providers)
        .with("SMS__WEBHOOK__URL", &url)
        .with("SMS__WEBHOOK__SECRETS", WEBHOOK_SECRET)
        .with("SPENDING__RESERVE_PERCENT", "0")
        .with("SPENDING__PROVIDERS__WEBHOOK__DEFAULT_PRICE", "1")
}

#[rstest]
#[case::sqlite(Database::Sqlite, 1)]
#[case::postgres(Database::Postgres, 2)]
#[tokio::test(flavor = "multi_thread")]
async fn all_instances_together_give_a_provider_no_more_than_its_ceiling_allows(
    #[case] database: Database,
    #[case] instances: usize,
) {
    let world = world(database, "webhook,twilio").await.with("SPENDING__PROVIDERS__WEBHOOK__PER_DAY", "3");
    let services: Vec<_> = (0..instances).map(|_| world.start()).collect();
    for number in 0..8 {
        let service: &Service = services.get(number % instances).unwrap();
        assert_eq!(service.sign_up(&phone(number)).await.status, 200);
        world.code(&phone(number)).await;
    }
    let messages = world.gateway.messages();
    let by_webhook = messages.iter().filter(|sms| matches!(sms.via, Via::Webhook { .. })).count();
    assert_eq!((by_webhook, messages.len()), (3, 8));
    drop(services);
    // Whoever starts looks first what is spent.
    let watching = world.start();
    watching.until_logged("purse=provider:webhook").await;
    drop(watching);
    let checked = world.command(&["check"]);
    assert!(checked.contains("sms: webhook, at most 3.00 USD each day\nsms: twilio\n"), "{checked}");
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_that_it_charges_counts(#[case] database: Database) {
    let world = world(database, "webhook").await.with("SPENDING__PER_DAY", "10");
    let body = r#"{"price":"9.5"}"#.to_owned();
    world.gateway.set_behaviour(Behaviour::RespondWith { status: 200, headers: Vec::new(), body });
    let service = world.start();
    assert_eq!(service.sign_up(&phone(0)).await.status, 200);
    let refused = async {
        for number in 1.. {
            let answer = service.sign_up(&phone(number)).await;
            if answer.status == 429 {
                return (number, answer);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("the ceiling is finite");
    };
    let (number, refused) = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(refused.body["errorId"], 167, "{}", refused.body);
    assert!(number < 10, "by the price of the table there is money for ten");
    service.stop();
    let report = world.command(&["guard", "report"]);
    assert!(report.contains("9.50"), "{report}");
}
