//! Apps of partners: what a server that signs does, over real HTTP.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::harness::{Database, PASSWORD, PATIENCE, Service, World};
use crate::{PHONE, phone};

/// That of the documentation.
const SECRET: &str = "an example secret of 32 letters!";

async fn with_partner(database: Database) -> World {
    let world = World::new(database).await.with("HTTP__REQUIRE_MERCHANT", "true");
    let world = world.with("PARTNERS__ACME__NAME", "Acme Pay").with("PARTNERS__ACME__SECRETS", SECRET);
    world.with("PARTNERS__ACME__PHONE_COUNTRIES", "GB").with("PARTNERS__ACME__SIGNUP_PER_HOUR", "3")
}

/// A sign-up with its signature, as it may be sent to any instance.
#[derive(Clone)]
struct Signed {
    body: String,
    signature: String,
}

#[expect(clippy::disallowed_methods, reason = "the time of the process that it is sent to")]
fn sign_up(phone: &str, nonce: &str) -> Signed {
    let body = json!({ "phone": phone, "password": PASSWORD }).to_string();
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let hash = hex::encode(Sha256::digest(&body));
    let text = format!("acme\nPOST\n/v2/mobile/signup\n{time}\n{nonce}\n{hash}");
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(text);
    let signature = format!("t={time},n={nonce},v1={}", hex::encode(mac.finalize().into_bytes()));
    Signed { body, signature }
}

impl Signed {
    /// The status and the number of the error, if it is one.
    async fn send(&self, client: &reqwest::Client, url: &str) -> (u16, Value) {
        let request = client.post(format!("{url}/v2/mobile/signup")).body(self.body.clone());
        let request = request.header("content-type", "application/json").header("x-merchant-id", "acme");
        let answer = request.header("x-signature", &self.signature).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()["errorId"].clone())
    }
}

#[rstest]
#[case::sqlite(Database::Sqlite, 1)]
#[case::postgres(Database::Postgres, 2)]
#[tokio::test(flavor = "multi_thread")]
async fn of_32_repeats_of_a_signed_request_one_is_served(
    #[case] database: Database,
    #[case] instances: usize,
) {
    let world = with_partner(database).await;
    let services: Vec<Service> = (0..instances).map(|_| world.start()).collect();
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let signed = sign_up(PHONE, "one-of-32-repeats");
    let mut repeats = JoinSet::new();
    for service in services.iter().cycle().take(32) {
        let (signed, client, url) = (signed.clone(), client.clone(), service.url.clone());
        repeats.spawn(async move { signed.send(&client, &url).await });
    }
    let answers = repeats.join_all().await;
    let served = answers.iter().filter(|(status, _)| *status == 200).count();
    let replayed = answers.iter().filter(|answer| **answer == (401, json!(9015))).count();
    assert_eq!((served, replayed), (1, 31), "{answers:?}");
    let sms = world.gateway.wait_for(PHONE, 1, PATIENCE).await.expect("no SMS came");
    assert!(sms.body.contains("is your confirmation code for Acme Pay."), "{}", sms.body);

    // A restart forgets neither the signature nor what the partner has spent.
    let logs: Vec<_> = services.into_iter().map(Service::stop).collect();
    assert!(logs.iter().any(|log| log.contains("acme")) && !logs.iter().any(|log| log.contains(SECRET)));
    let service = world.start();
    assert_eq!(signed.send(&client, &service.url).await, (401, json!(9015)));
    for number in 1..3 {
        let signed = sign_up(&phone(number), &format!("sign-up-{number}"));
        assert_eq!(signed.send(&client, &service.url).await, (200, Value::Null));
    }
    assert_eq!(sign_up(&phone(3), "one-too-many").send(&client, &service.url).await, (429, json!(167)));
    assert_eq!(sign_up("+4915112345678", "from-abroad").send(&client, &service.url).await, (403, json!(0)));
    assert_eq!(service.sign_up(&phone(4)).await.body["errorId"], 9011);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_of_the_documentation_signs() {
    let world = with_partner(Database::Sqlite).await;
    let service = world.start();
    let documentation = include_str!("../../../../docs/partners.md");
    let shell = documentation[documentation.find("API=").expect("no shell")..].split("```").next().unwrap();
    let shell = shell.replace("http://127.0.0.1:8080", &service.url);
    let pasted = std::process::Command::new("bash").args(["-c", &shell]).output().unwrap();
    let said = String::from_utf8_lossy(&pasted.stdout);
    let (signed_up, profile) = said.split_once('}').unwrap_or_else(|| panic!("{pasted:?}"));
    assert!(signed_up.contains(r#""result":"ok""#), "{said}");
    // The signature is accepted; nobody is signed in.
    assert!(profile.contains(r#""errorId":401"#), "{said}");
}
