//! A reviewer without a phone.

use reqwest::Method;
use rstest::rstest;
use serde_json::json;

use super::harness::{Database, PASSWORD, World};
use super::text;

const REVIEWER: &str = "+447700900123";

#[rstest]
#[case(Database::Sqlite)]
#[case(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_signs_up_erases_the_account_and_signs_up_again(#[case] database: Database) {
    let world = World::new(database).await;
    let described = format!("[test_numbers.\"{REVIEWER}\"]\ncode = '012345'\nuntil = '{}'\n", tomorrow());
    let file = world.directory.path().join("vestibule.toml");
    std::fs::write(&file, described).unwrap();
    let checked = world.command(&["check"]);
    assert!(checked.contains(&format!("test number {REVIEWER}: until {}\n", tomorrow())), "{checked}");
    let service = world.start();
    for _ in 0..2 {
        assert_eq!(service.sign_up(REVIEWER).await.status, 200);
        let confirmed = service.confirm(REVIEWER, "012345").await;
        let token = text(&confirmed, "access_token");
        assert_eq!(service.get("/v2/customer/profile", &token).await.body["testAccount"], true);
        let password = Some(json!({ "password": PASSWORD }));
        let erased = service.call(Method::DELETE, "/v2/customer", Some(&token), password).await;
        assert_eq!(erased.status, 200, "{}", erased.body);
    }
    let audit = world.command(&["audit", "--phone", REVIEWER]);
    assert_eq!(audit.matches("test_account_opened").count(), 2, "{audit}");
    assert_eq!(audit.matches("erased").count(), 2, "{audit}");
    let log = service.stop();
    assert!(log.contains("there are test numbers") && !log.contains("012345"), "{log}");
    assert_eq!(world.gateway.requests(), 0, "something was sent");
}

/// As the configuration has it.
#[expect(clippy::disallowed_methods, reason = "the service has no other clock than the machine's")]
fn tomorrow() -> String {
    (time::UtcDateTime::now() + std::time::Duration::from_hours(24)).date().to_string()
}
