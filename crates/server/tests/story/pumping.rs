//! Sign-ups that nobody confirms, and what the operator sees of them.

use std::time::Duration;

use super::harness::{Database, PATIENCE, World};
use rstest::rstest;
use vestibule_testkit::Behaviour;

const CUSTOMER: &str = "+447400123456";

#[rstest]
#[case(Database::Sqlite)]
#[case(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_closed_reported_and_replayed(#[case] database: Database) {
    let world = World::new(database).await;
    let world = world.with("GUARD__MODE", "enforce").with("GUARD__UNCONFIRMED_PER_RANGE", "6");
    let service = world.start();
    let mut sent = 0;
    for number in 10..30 {
        let answer = service.sign_up(&format!("+4478712345{number}")).await;
        match answer.status {
            200 => sent += 1,
            status => assert_eq!((status, &answer.body["errorId"]), (429, &serde_json::json!(167))),
        }
    }
    // Six, and what the client's block may take of the reserve.
    assert!((6..=9).contains(&sent), "{sent}");
    assert_eq!(service.sign_up(CUSTOMER).await.status, 200);
    let code = world.code(CUSTOMER).await;
    assert_eq!(service.confirm(CUSTOMER, &code).await.status, 200);

    // What was held back is written a moment later, and a provider is known once a message has left.
    let row = format!("GB twilio {} 1 {} %", sent + 1, 100 / (sent + 1));
    let blocked =
        format!("all {} 1 {} % {:.2} {}", sent + 1, 100 / (sent + 1), f64::from(sent + 1) * 0.06, 20 - sent);
    let is_complete = |report: &str| report.contains(&row) && report.contains(&blocked);
    let report = tokio::time::timeout(PATIENCE, async {
        loop {
            let report = words(&world.command(&["guard", "report", "--since", "1h"]));
            if is_complete(&report) {
                break report;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let report = report.await.expect("the report lacks something");
    assert!(report.contains("The guard is enforcing."), "{report}");
    assert!(report.contains("Blocked and observed are requests"), "{report}");
    assert!(report.contains(": code:range:44787123: "), "{report}");

    let lax = world.directory.path().join("lax.toml");
    std::fs::write(&lax, "[guard]\nunconfirmed_per_range = 1000\n").unwrap();
    let replay = words(&world.command(&["guard", "replay", "--policy", lax.to_str().unwrap()]));
    assert!(replay.contains("policy 21 1 "), "{replay}");
    assert!(replay.contains(&format!(" {} Turned away:", 20 - sent)), "{replay}");
    let log = service.stop();
    assert_eq!(log.matches("too few codes come back").count(), 1, "{log}");
}

#[rstest]
#[case(Database::Sqlite)]
#[case(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_provider_closes_no_range(#[case] database: Database) {
    let world = World::new(database).await;
    let world = world.with("GUARD__MODE", "enforce").with("GUARD__UNCONFIRMED_PER_RANGE", "1");
    world.gateway.set_behaviour(Behaviour::Refuse { status: 400, code: 21211 });
    let service = world.start();
    for number in 10..20 {
        assert_eq!(service.sign_up(&format!("+4478712345{number}")).await.status, 200, "{number}");
        let has_come_back = async {
            while world.command(&["guard", "report"]).contains(": code:range:") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, has_come_back).await.expect("what it took comes back");
    }
    let report = words(&world.command(&["guard", "report", "--since", "1h"]));
    assert!(report.contains(" all 0 0 - "), "{report}");
}

/// With single spaces, as columns are of no matter.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
