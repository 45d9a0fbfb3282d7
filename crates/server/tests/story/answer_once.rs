//! Requests with an `Idempotency-Key` on the real binary and both databases: killed instances, other instances, broken connections.

use std::time::Duration;

use reqwest::{Client, Method};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{Database, PASSWORD, Service, World};
use crate::{PHONE, phone};

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

#[derive(Debug, PartialEq)]
struct Told {
    status: u16,
    is_repeat: bool,
    text: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

async fn post_once(service: &Service, path: &str, body: &Value) -> Told {
    let request = Client::new().request(Method::POST, format!("{}{path}", service.url));
    let answer = request.header("idempotency-key", KEY).json(body).send().await.unwrap();
    Told {
        status: answer.status().as_u16(),
        is_repeat: answer.headers().contains_key("idempotency-replayed"),
        text: answer.text().await.unwrap(),
    }
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_outlives_its_instance_and_nobody_reads_it(#[case] database: Database) {
    let world = World::new(database).await;
    let service = world.start();
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    let body = json!({ "phone": PHONE, "smsCode": world.code(PHONE).await });
    let confirm = async |service: &Service| post_once(service, "/v2/mobile/phone/confirm", &body).await;
    let first = confirm(&service).await;
    assert_eq!((first.status, first.is_repeat), (200, false), "{}", first.text);
    let log = service.kill();
    let again = world.start();
    let repeated = Told { is_repeat: true, ..first };
    assert_eq!(confirm(&again).await, repeated);
    let other = json!({ "phone": PHONE, "smsCode": "000000" });
    assert_eq!(post_once(&again, "/v2/mobile/phone/confirm", &other).await.status, 422);
    if database == Database::Postgres {
        let beside = world.start();
        assert_eq!(confirm(&beside).await, repeated);
    }
    let tokens = repeated.json();
    let log = format!("{log}{}", again.stop());
    for secret in [tokens["access_token"].as_str().unwrap(), tokens["refresh_token"].as_str().unwrap(), KEY] {
        assert!(!log.contains(secret), "`{secret}` is in the log");
        for (place, bytes) in world.everything_kept().await {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "`{secret}` is in {place}");
        }
    }
}

/// How a client goes away.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    /// It closes the connection.
    Quietly,
    /// The connection is reset, as by a network that changes.
    Abruptly,
}

/// Sends a sign-up, and goes away while its password is hashed.
async fn sign_up_and_leave(service: &Service, body: &Value, leaves: Leaves) {
    let connection = TcpStream::connect(service.url.strip_prefix("http://").unwrap()).await.unwrap();
    let request = format!(
        "POST /v2/mobile/signup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Idempotency-Key: {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
        body.to_string().len()
    );
    connection.writable().await.unwrap();
    assert_eq!(connection.try_write(request.as_bytes()).unwrap(), request.len());
    service.until_logged("a request with a key is begun").await;
    if let Leaves::Abruptly = leaves {
        connection.set_zero_linger().unwrap();
    }
    drop(connection);
}

#[rstest]
#[case::quietly(Leaves::Quietly)]
#[case::abruptly(Leaves::Abruptly)]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_went_away_finds_its_answer_after_a_stop(#[case] leaves: Leaves) {
    let world = World::new(Database::Sqlite).await;
    let world = world.with("HASHING__ITERATIONS", "2");
    let service = world.start();
    let body = json!({ "phone": phone(1), "password": PASSWORD });
    sign_up_and_leave(&service, &body, leaves).await;
    service.stop();
    let again = post_once(&world.start(), "/v2/mobile/signup", &body).await;
    assert_eq!((again.status, again.is_repeat), (200, true), "{}", again.text);
}

#[rstest]
#[case::quietly(Leaves::Quietly)]
#[case::abruptly(Leaves::Abruptly)]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_went_away_finds_its_answer(#[case] leaves: Leaves) {
    // Hashing takes long enough to go away meanwhile, and not so long that it is given up on a busy machine.
    let world = World::new(Database::Sqlite).await;
    let world = world.with("HASHING__ITERATIONS", "2");
    let service = world.start();
    let body = json!({ "phone": phone(1), "password": PASSWORD });
    sign_up_and_leave(&service, &body, leaves).await;
    let mut again = post_once(&service, "/v2/mobile/signup", &body).await;
    while again.status == 409 {
        // Asking all the time would take the processor from whom is asked for.
        tokio::time::sleep(Duration::from_millis(20)).await;
        again = post_once(&service, "/v2/mobile/signup", &body).await;
    }
    assert_eq!((again.status, again.is_repeat), (200, true), "{}", again.text);
    world.code(&phone(1)).await;
    assert_eq!(world.gateway.messages().len(), 1);
}
