//! What Prometheus fetches from the operator's listener.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use rstest::rstest;
use vestibule_metrics::ALL;

use super::harness::{Database, Service, World};
use super::{PHONE, phone, text};

/// Every value that is shown, by its name and labels as they are written.
type Values = BTreeMap<String, f64>;

async fn fetch(service: &Service) -> Values {
    let answer = reqwest::get(format!("{}/metrics", service.admin_url().await)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
    let shown = answer.text().await.unwrap();
    let lines = shown.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(key, value)| (key.to_owned(), value.parse().unwrap()))
        .collect()
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted_and_names_nobody(#[case] database: Database) {
    let world = World::new(database).await.with("LIMITS__SIGNUP_PER_IP_PER_HOUR", "2");
    let service = world.start();
    // The outbox was looked at, mail last, before anything is in it.
    let before = until(&service, "vestibule_outbox_dead_letters{channel=\"mail\"}", 0.0).await;
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    let confirmed = service.confirm(PHONE, &world.code(PHONE).await).await;
    let token = text(&confirmed, "access_token");
    assert_eq!(service.sign_up(PHONE).await.status, 403);
    assert_eq!(service.sign_up(&phone(1)).await.status, 200);
    world.code(&phone(1)).await;
    assert_eq!(service.sign_up(&phone(2)).await.status, 429);
    for _ in 0..3 {
        assert_eq!(service.get("/v2/customer/profile", &token).await.status, 200);
    }
    // What clients make up.
    let purge = Method::from_bytes(b"PURGE").unwrap();
    service.call(purge, &format!("/v2/{PHONE}?token={token}"), None, None).await;
    assert_eq!(service.get("/metrics", &token).await.status, 404, "strangers see none of it");

    let after = until(
        &service,
        "vestibule_outbox_outcomes_total{channel=\"sms\",provider=\"twilio\",outcome=\"sent\"}",
        2.0,
    )
    .await;
    let value = |key: &str| *after.get(key).unwrap_or_else(|| panic!("no {key} in {after:#?}"));
    for (key, expected) in [
        (
            r#"vestibule_http_request_duration_seconds_count{route="/v2/mobile/signup",method="POST",status="200"}"#,
            2.0,
        ),
        (
            r#"vestibule_http_request_duration_seconds_count{route="/v2/mobile/signup",method="POST",status="403"}"#,
            1.0,
        ),
        (
            r#"vestibule_http_request_duration_seconds_count{route="/v2/mobile/signup",method="POST",status="429"}"#,
            1.0,
        ),
        (
            r#"vestibule_http_request_duration_seconds_count{route="/v2/customer/profile",method="GET",status="200"}"#,
            3.0,
        ),
        (
            r#"vestibule_http_request_duration_seconds_count{route="unknown",method="other",status="404"}"#,
            1.0,
        ),
        (r#"vestibule_http_request_duration_seconds_count{route="unknown",method="GET",status="404"}"#, 1.0),
        (
            r#"vestibule_http_request_duration_seconds_bucket{route="/v2/customer/profile",method="GET",status="200",le="+Inf"}"#,
            3.0,
        ),
        (r#"vestibule_http_refusals_total{route="/v2/mobile/signup",error="ALREADY_REGISTERED"}"#, 1.0),
        (
            r#"vestibule_http_refusals_total{route="/v2/mobile/signup",error="RATE_LIMIT_SIGNUP_ATTEMPT"}"#,
            1.0,
        ),
        (r#"vestibule_http_refusals_total{route="unknown",error="NOT_FOUND"}"#, 2.0),
        (r#"vestibule_limit_objections_total{step="sign-up",scope="address"}"#, 1.0),
        ("vestibule_hashing_duration_seconds_count", 2.0),
        ("vestibule_hashing_queue_waiting", 0.0),
        ("vestibule_hashing_threads_busy", 0.0),
        ("vestibule_hashing_refused_total", 0.0),
        (
            r#"vestibule_provider_request_duration_seconds_count{channel="sms",provider="twilio",answer="accepted"}"#,
            2.0,
        ),
        (r#"vestibule_provider_breaker_open{provider="twilio"}"#, 0.0),
        (r#"vestibule_outbox_sent_age_seconds_count{channel="sms"}"#, 2.0),
        (concat!(r#"vestibule_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#), 1.0),
    ] {
        assert!((value(key) - expected).abs() < f64::EPSILON, "{key} is {}", value(key));
    }
    assert!(value("vestibule_hashing_threads") >= 1.0);
    assert!(value("vestibule_start_time_seconds") > 1.7e9);
    for channel in ["sms", "mail"] {
        for of in ["waiting", "oldest_due_seconds", "dead_letters"] {
            // Of when it was last looked: at the start.
            let key = format!("vestibule_outbox_{of}{{channel=\"{channel}\"}}");
            assert!(value(&key).abs() < f64::EPSILON, "{key} is {}", value(&key));
        }
    }
    if database == Database::Postgres {
        assert!(value("vestibule_database_connections_max{pool=\"writes\"}") >= 1.0);
        let open = ["in_use", "idle"].map(|state| {
            value(&format!("vestibule_database_connections{{pool=\"writes\",state=\"{state}\"}}"))
        });
        assert!(open.iter().sum::<f64>() >= 1.0, "{open:?}");
        assert!(value("vestibule_database_waiting{pool=\"writes\"}").abs() < f64::EPSILON);
    }

    assert!(!before.keys().any(|key| key.contains("/v2/mobile/signup")), "nothing had happened yet");
    for key in after.keys() {
        assert!(!key.contains("7871234567") && !key.contains("7400") && !key.contains(&token), "{key}");
        let name = key.split('{').next().unwrap();
        let is_of = |metric: &str| {
            name.strip_prefix(metric).is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        };
        assert!(ALL.iter().any(|metric| is_of(metric.name)), "{name} is not in the catalogue");
    }
}

/// Fetches until a value is so large: what follows a request is counted a little later.
async fn until(service: &Service, key: &str, least: f64) -> Values {
    let fetched = async {
        loop {
            let values = fetch(service).await;
            if values.get(key).is_some_and(|value| *value >= least) {
                return values;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, fetched)
        .await
        .unwrap_or_else(|_| panic!("{key} did not reach {least}"))
}

/// The rows of the handbook's table: a metric with its labels.
fn documented() -> BTreeSet<(String, Vec<String>)> {
    let handbook = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let handbook = std::fs::read_to_string(handbook).unwrap();
    let rows = handbook.lines().filter(|line| line.starts_with("| `vestibule_"));
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        (quoted(cells[1]).remove(0), quoted(cells[2]))
    })
    .collect()
}

#[test]
fn every_metric_is_in_the_handbook_and_no_other() {
    let labels = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    let known: BTreeSet<(String, Vec<String>)> =
        ALL.iter().map(|metric| (metric.name.to_owned(), labels(metric.labels))).collect();
    assert_eq!(known.len(), ALL.len());
    let documented = documented();
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), Vec::<&_>::new(), "not documented");
    assert_eq!(documented.difference(&known).collect::<Vec<_>>(), Vec::<&_>::new(), "not there");
}
