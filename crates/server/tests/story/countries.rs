//! The file that knows where addresses are changes under a running service.

use std::path::Path;
use std::time::Duration;

use vestibule_testkit::mmdb;

use super::harness::{Database, PATIENCE, Service, World};
use super::phone;

/// Puts an edition in place in which this machine is in the country.
fn replace(path: &Path, country: &str) {
    let beside = path.with_extension("new");
    let networks: &[(&str, &[(&str, &str)])] = &[("127.0.0.0/8", &[("country", country)])];
    std::fs::write(&beside, mmdb::file(4, "Test-Country", networks)).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// Signs up with one number after the other until that is answered so.
async fn answered(service: &Service, numbers: &mut std::ops::RangeFrom<usize>, status: u16) {
    let answered = async {
        while service.sign_up(&phone(numbers.next().unwrap())).await.status != status {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, answered).await.is_ok(), "no sign-up is answered {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_of_countries_counts_without_a_restart() {
    let world = World::new(Database::Sqlite).await;
    let path = world.directory.path().join("countries.mmdb");
    replace(&path, "DE");
    let world = world
        .with("REGISTRATION__IP_COUNTRY_DATABASE", path.to_str().unwrap())
        .with("REGISTRATION__ALLOWED_IP_COUNTRIES", "DE,GB");
    let checked = world.command(&["check"]);
    assert!(checked.contains("countries of client addresses: only DE, GB, or unknown\n"), "{checked}");
    let (service, mut numbers) = (world.start(), 0..);
    assert_eq!(service.sign_up(&phone(numbers.next().unwrap())).await.status, 200);

    replace(&path, "FR");
    answered(&service, &mut numbers, 403).await;
    let refused = service.sign_up(&phone(numbers.next().unwrap())).await;
    assert_eq!(refused.body["error"], "COUNTRY_BLOCKED_FOR_REGISTRATION");
    std::fs::write(&path, "<html>").unwrap();
    replace(&path, "GB");
    answered(&service, &mut numbers, 200).await;
    let log = service.stop();
    assert!(log.contains("the address database has changed"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_the_rule_is_off_and_that_is_said() {
    let world = World::new(Database::Sqlite).await.with("REGISTRATION__BLOCKED_PHONE_COUNTRIES", "FR");
    let off =
        "countries of client addresses: the rule is off, since `registration.ip_country_database` is not set";
    let checked = world.command(&["check"]);
    assert!(checked.contains(off) && checked.contains("countries of numbers: all but FR\n"), "{checked}");
    let service = world.start();
    assert_eq!(service.sign_up("+33612345678").await.body["error"], "PHONE_PREFIX_BLOCKED_FOR_REGISTRATION");
    let log = service.stop();
    assert!(log.contains(off), "{log}");
}
