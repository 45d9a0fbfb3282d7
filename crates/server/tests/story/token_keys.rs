//! The keys of access tokens change under a running service.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::harness::{Database, PATIENCE, Service, World};
use super::{PHONE, live, phone};

fn keys(world: &World, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let output = command.current_dir(world.directory.path()).arg("keys").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// The published keys and whether they sign.
async fn published(service: &Service) -> Vec<(String, bool)> {
    let answer = service.call(Method::GET, "/.well-known/paseto-keys", None, None).await;
    let key = |key: &Value| (key["kid"].as_str().unwrap().to_owned(), key["active"].as_bool().unwrap());
    answer.body["keys"].as_array().unwrap().iter().map(key).collect()
}

async fn publishes(service: &Service, expected: &[(&str, bool)]) {
    let noticed = async {
        while published(service)
            .await
            .iter()
            .map(|(id, active)| (id.as_str(), *active))
            .ne(expected.iter().copied())
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, noticed).await.is_ok(), "{:?}", published(service).await);
}

fn footer(token: &str) -> &str {
    token.rsplit_once('.').unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_and_retired_and_nobody_restarts() {
    let world = World::new(Database::Sqlite).await;
    let service = world.start();
    let (early, _) = live(&world, &service, PHONE, "early@example.com").await;
    let old = published(&service).await.remove(0).0;

    let next = keys(&world, &["rotate"]);
    publishes(&service, &[(&old, true), (&next, false)]).await;
    keys(&world, &["retire", &next]);
    publishes(&service, &[(&old, true)]).await;

    let new = keys(&world, &["rotate", "--delay", "0s"]);
    publishes(&service, &[(&old, false), (&new, true)]).await;
    let (late, _) = live(&world, &service, &phone(1), "late@example.com").await;
    assert_ne!(footer(&early), footer(&late));
    for token in [&early, &late] {
        assert_eq!(service.get("/v2/customer/profile", token).await.status, 200);
    }

    keys(&world, &["retire", &old]);
    publishes(&service, &[(&new, true)]).await;
    assert_eq!(service.get("/v2/customer/profile", &early).await.status, 401);
    assert_eq!(service.get("/v2/customer/profile", &late).await.status, 200);
    let log = service.stop();
    assert!(log.contains("the token keys have changed") && !log.contains("k4.secret."), "{log}");
}
