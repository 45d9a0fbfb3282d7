//! The story as its users live it: the real binary, a gateway, a mail server, and everything that can go wrong between them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure fails the test"
)]

mod answer_once;
mod coming_back;
mod copy;
mod countries;
mod failover;
mod harness;
mod master_key;
mod metrics;
mod partners;
mod providers;
mod pumping;
mod spending;
mod test_numbers;
mod token_keys;
mod verifier;

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Answer, Database, PASSWORD, PATIENCE, Service, World};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use vestibule_testkit::postgres::Pooling;
use vestibule_testkit::{Behaviour, FakeGateway, Stage, fake_gateway};

const PHONE: &str = "+447871234567";

fn profile() -> Value {
    json!({
        "firstName": "Annabella", "lastName": "Smithson", "dateOfBirth": "1990-05-17", "residenceCountry": "GBR",
        "residenceCity": "Londinium", "residenceStreet": "1 High Street", "residenceZipCode": "SW1A 1AA",
    })
}

fn text(answer: &Answer, member: &str) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", answer.body)).to_owned()
}

/// A number for each of many people.
fn phone(number: usize) -> String {
    format!("+447400{number:06}")
}

/// Lives the five steps; the access token and the user.
async fn live(world: &World, service: &Service, phone: &str, address: &str) -> (String, String) {
    assert_eq!(service.sign_up(phone).await.status, 200);
    let confirmed = service.confirm(phone, &world.code(phone).await).await;
    let (token, user) = (text(&confirmed, "access_token"), text(&confirmed, "userId"));
    let added = service
        .call(Method::PUT, "/v2/mobile/email/add", Some(&token), Some(json!({ "email": address })))
        .await;
    assert_eq!(added.status, 200, "{}", added.body);
    let link = world.link(address).await;
    assert!(link.starts_with(&service.url), "{link}");
    let followed = service.call(Method::GET, link.strip_prefix(&service.url).unwrap(), None, None).await;
    assert_eq!(followed.status, 200, "{}", followed.body);
    let patched = service.call(Method::PATCH, "/v2/customer/profile", Some(&token), Some(profile())).await;
    assert_eq!(patched.status, 204, "{}", patched.body);
    (token, user)
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn from_a_phone_number_to_kyc_0_and_nothing_of_it_in_a_log(#[case] database: Database) {
    let world = World::new(database).await;
    let service = world.start();
    let (token, user) = live(&world, &service, PHONE, "wonder.woman+app@example.com").await;

    let seen = service.get("/v2/customer/profile", &token).await;
    assert_eq!(text(&seen, "userId"), user);
    assert_eq!(text(&seen, "residenceCountry"), "GB");
    assert_eq!(seen.body["confirmedEmail"], true);
    let kyc = service.get("/v2/customer/kyc/data", &token).await;
    assert_eq!((text(&kyc, "kycLevel").as_str(), &kyc.body["missing"]), ("KYC_0", &json!([])));
    let again = service.sign_up(PHONE).await;
    assert_eq!((again.status, &again.body["errorId"]), (403, &json!(115)));
    // What goes wrong is logged too.
    service.call(Method::POST, "/v2/mobile/signup", None, Some(json!({ "phone": "x", "password": 5 }))).await;
    service.get("/v2/customer/profile", &format!("{token}x")).await;
    service
        .call(
            Method::GET,
            "/v2/mobile/email/confirm?email=wonder.woman%2Bapp@example.com&token=tok&event=e",
            None,
            None,
        )
        .await;

    service.get(&format!("/v2/customer/{PHONE}/wonder.woman@example.com"), &token).await;

    let code = world.code(PHONE).await;
    let link = world.link("wonder.woman+app@example.com").await;
    let link_token = link.rsplit('=').next().unwrap().to_owned();
    let log = service.stop();
    assert!(log.contains("DEBUG"), "the log tells no details:\n{log}");
    let secrets = [
        "7871234567",
        &code,
        PASSWORD,
        &token,
        &link_token,
        "wonder.woman",
        "Annabella",
        "Smithson",
        "Londinium",
        "1990-05-17",
        "argon2id",
        fake_gateway::AUTH_TOKEN,
    ];
    for secret in secrets {
        let told = log.lines().find(|line| line.contains(secret));
        assert!(told.is_none(), "`{secret}` is in the log: {}", told.unwrap());
    }
    // Nor is anything in what is kept that a code or link could be read from.
    for (place, bytes) in world.everything_kept().await {
        for secret in [code.as_bytes(), link_token.as_bytes(), PASSWORD.as_bytes(), token.as_bytes()] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "a secret is in {place}");
        }
    }
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn of_64_confirmations_one_opens_the_account(#[case] database: Database) {
    let world = World::new(database).await;
    let service = Arc::new(world.start());
    service.sign_up(PHONE).await;
    let code = world.code(PHONE).await;
    let confirming: Vec<_> = (0..64)
        .map(|_| {
            let (service, code) = (Arc::clone(&service), code.clone());
            tokio::spawn(async move { text(&service.confirm(PHONE, &code).await, "userId") })
        })
        .collect();
    let mut users = HashSet::new();
    for confirmed in confirming {
        users.insert(confirmed.await.unwrap());
    }
    assert_eq!(users.len(), 1);
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn of_64_wrong_guesses_five_are_evaluated(#[case] database: Database) {
    let world = World::new(database).await;
    let service = Arc::new(world.start());
    service.sign_up(PHONE).await;
    let code = world.code(PHONE).await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let guessing: Vec<_> = (0..64)
        .map(|_| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.confirm(PHONE, wrong).await })
        })
        .collect();
    let mut left = Vec::new();
    for guess in guessing {
        let answer = guess.await.unwrap();
        match answer.body["errorId"].as_u64() {
            Some(117) => left.push(answer.body["data"]["attemptsLeft"].as_u64().unwrap()),
            Some(119) => assert!(answer.status == 429 && answer.retry_after.is_some()),
            other => panic!("{other:?}: {}", answer.body),
        }
    }
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4]);
    assert_eq!(
        service.confirm(PHONE, &code).await.body["errorId"],
        119,
        "the right code is not evaluated any more"
    );
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_survives_a_kill(#[case] database: Database) {
    survive_kills(&World::new(database).await).await;
}

#[rstest]
#[case::session(Pooling::Session)]
#[case::transaction(Pooling::Transaction)]
#[tokio::test(flavor = "multi_thread")]
async fn behind_pgbouncer_nothing_is_different(#[case] pooling: Pooling) {
    let Some(world) = World::behind_pgbouncer(pooling).await else {
        return;
    };
    let service = world.start();
    let (token, _) = live(&world, &service, PHONE, "anna@example.com").await;
    let kyc = service.get("/v2/customer/kyc/data", &token).await;
    assert_eq!(text(&kyc, "kycLevel"), "KYC_0");
    service.kill();
    survive_kills(&world).await;
}

async fn survive_kills(world: &World) {
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let service = Arc::new(world.start());
        let signing_up: Vec<_> = (0..24)
            .map(|number| {
                let (service, phone) = (Arc::clone(&service), phone(round * 100 + number));
                tokio::spawn(async move {
                    let body = json!({ "phone": phone, "password": PASSWORD });
                    let answer = service.try_call(Method::POST, "/v2/mobile/signup", None, Some(body)).await;
                    answer.ok().filter(|answer| answer.status == 200).map(|_| phone)
                })
            })
            .collect();
        // Killed in the midst: as soon as some were answered.
        assert!(world.gateway.wait_for_requests(acknowledged.len() + 3, PATIENCE).await);
        let killing = Arc::clone(&service);
        std::process::Command::new("kill").arg("-KILL").arg(killing.id().to_string()).status().unwrap();
        drop(killing);
        for answered in signing_up {
            acknowledged.extend(answered.await.unwrap());
        }
        drop(service);
    }
    assert!(!acknowledged.is_empty());
    let service = world.start();
    for phone in &acknowledged {
        let confirmed = service.confirm(phone, &world.code(phone).await).await;
        let token = text(&confirmed, "access_token");
        assert_eq!(text(&service.get("/v2/customer/profile", &token).await, "phone"), *phone);
    }
    service.kill();
    // The accounts are there after one more, and are not opened twice.
    let service = world.start();
    for phone in &acknowledged {
        assert_eq!(service.sign_up(phone).await.body["errorId"], 115);
    }
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_or_mail_server_in_trouble_delays_messages_only(#[case] database: Database) {
    let world = World::new(database).await;
    let service = world.start();
    let troubles = [
        Behaviour::RespondWith { status: 503, headers: vec![], body: "<html>".to_owned() },
        Behaviour::Delay(Duration::from_mins(1)),
        Behaviour::ResetAfterRequest,
        Behaviour::RespondWith {
            status: 429,
            headers: vec![("Retry-After".to_owned(), "1".to_owned())],
            body: String::new(),
        },
    ];
    for (number, trouble) in troubles.into_iter().enumerate() {
        world.gateway.set_behaviour(trouble);
        let begun = Instant::now();
        assert_eq!(service.sign_up(&phone(number)).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(5), "the gateway's trouble reached the client");
        assert!(world.gateway.wait_for_requests(world.gateway.requests().max(1), PATIENCE).await);
    }
    world.gateway.set_behaviour(Behaviour::Accept);
    for number in 0..4 {
        assert_eq!(service.confirm(&phone(number), &world.code(&phone(number)).await).await.status, 200);
    }

    let (token, _) = live(&world, &service, PHONE, "anna@example.com").await;
    assert_eq!(service.get("/v2/customer/profile", &token).await.status, 200);
    service.sign_up(&phone(50)).await;
    let token = text(&service.confirm(&phone(50), &world.code(&phone(50)).await).await, "access_token");
    world.mail.refuse(Stage::Rcpt, "451 4.3.0 later");
    let body = json!({ "email": "bea@example.com" });
    assert_eq!(service.call(Method::PUT, "/v2/mobile/email/add", Some(&token), Some(body)).await.status, 200);
    world.mail.obey();
    world.link("bea@example.com").await;
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_away_gets_the_message_when_it_is_back(#[case] database: Database) {
    let mut world = World::new(database).await;
    let address = world.gateway.address();
    let service = world.start();
    world.gateway.stop().await;
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    world.gateway = FakeGateway::start_on(address).await.unwrap();
    assert_eq!(service.confirm(PHONE, &world.code(PHONE).await).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_to_stop_says_so_and_serves_on_until_asked_again() {
    let world = World::new(Database::Sqlite).await.with("HTTP__DRAIN_SECONDS", "300");
    let service = world.start();
    let ready = async || service.call(Method::GET, "/health/ready", None, None).await;
    assert_eq!(ready().await.status, 200);
    service.ask_to_stop();
    service.until_logged("stopping signal=").await;
    let refused = ready().await;
    assert_eq!((refused.status, refused.retry_after.as_deref()), (503, Some("1")));
    assert_eq!(service.call(Method::GET, "/health/live", None, None).await.status, 200);
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    assert_eq!(service.confirm(PHONE, &world.code(PHONE).await).await.status, 200);
    let log = service.stop();
    assert!(log.contains("stopping at once"), "{log}");
}

/// The newest message that the inbox has caught for the number.
async fn caught(service: &Service, phone: &str) -> Value {
    let path = format!("/dev/inbox/messages?wait=30&to={}", phone.replace('+', "%2B"));
    let answer = service.call(Method::GET, &path, None, None).await;
    answer.body["messages"].as_array().unwrap().last().expect("the inbox has caught nothing").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_provider_takes_over_and_what_became_of_a_message_is_told() {
    let world = World::new(Database::Sqlite).await.with("SMS__PROVIDERS", "twilio,inbox");
    world.gateway.set_behaviour(Behaviour::RespondWith { status: 503, headers: vec![], body: String::new() });
    let service = world.start();
    for number in 0..7 {
        let phone = phone(number);
        assert_eq!(service.sign_up(&phone).await.status, 200);
        let sms = caught(&service, &phone).await;
        assert_eq!(sms["state"], "delivered", "{sms}");
        // Too early for another, and told at once that the first has arrived.
        let body = json!({ "phone": phone });
        let refused = service.call(Method::POST, "/v2/mobile/phone/verify/resend", None, Some(body)).await;
        assert_eq!((refused.status, &refused.body["data"]["delivery"]), (429, &json!("delivered")));
        assert_eq!(service.confirm(&phone, sms["code"].as_str().unwrap()).await.status, 200);
    }
    assert_eq!(world.gateway.requests(), 5, "a gateway that fails again and again is left alone");
    let log = service.stop();
    assert_eq!(log.matches("the provider fails and is left alone").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_country_may_have_a_provider_of_its_own() {
    let world = World::new(Database::Sqlite)
        .await
        .with("SMS__PROVIDERS", "inbox")
        .with("SMS__COUNTRIES__GB", "twilio");
    let service = world.start();
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    assert_eq!(service.confirm(PHONE, &world.code(PHONE).await).await.status, 200);
    let elsewhere = "+4915112345678";
    assert_eq!(service.sign_up(elsewhere).await.status, 200);
    assert_eq!(caught(&service, elsewhere).await["to"], elsewhere);
    assert_eq!(world.gateway.requests(), 1);
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_sent_makes_it_stumble(#[case] database: Database) {
    let world = World::new(database).await;
    let service = world.start();
    let (token, _) = live(&world, &service, PHONE, "anna@example.com").await;
    let long = "x".repeat(10_000);
    let nasty = [
        "",
        " ",
        "\0",
        "\u{202e}abc",
        "рaypal",
        "😀",
        "-0001-01-01",
        "99999-01-01",
        "'; DROP TABLE accounts;--",
        "%00",
        "\u{feff}",
        &long,
        "null",
        "{}",
        "../../etc/passwd",
        "a@b@c",
        "0",
        "٠١٢٣٤٥",
        "\u{1d7ce}",
    ];
    let endpoints: [(Method, &str, &[&str]); 6] = [
        (Method::POST, "/v2/mobile/signup", &["phone", "password", "fingerprint"]),
        (Method::POST, "/v2/mobile/phone/confirm", &["phone", "smsCode", "registrationId", "fingerprint"]),
        (Method::POST, "/v2/mobile/phone/verify/resend", &["phone", "registrationId"]),
        (Method::PUT, "/v2/mobile/email/add", &["email"]),
        (Method::POST, "/v2/mobile/email/confirm", &["email", "event", "token"]),
        (
            Method::PATCH,
            "/v2/customer/profile",
            &["firstName", "dateOfBirth", "residenceCountry", "primaryCurrency", "residenceZipCode"],
        ),
    ];
    for (method, path, fields) in endpoints {
        let texts = nasty.iter().map(|text| json!(text));
        let others = [json!(null), json!(7), json!(-1.5e300), json!(true), json!([]), json!({ "a": [1] })];
        for value in texts.chain(others) {
            for field in fields {
                let mut body = json!({ "phone": "+447871234568", "password": PASSWORD, "smsCode": "123456", "email": "c@example.com" });
                body[field] = value.clone();
                let answer = service.call(method.clone(), path, Some(&token), Some(body)).await;
                assert!(answer.status < 500, "{method} {path} {field}={value}: {}", answer.body);
                if answer.status >= 400 {
                    assert!(
                        answer.body["error"].is_string() && answer.body["systemId"] == "core",
                        "{}",
                        answer.body
                    );
                }
            }
        }
    }
    let deep = "[".repeat(15_000);
    let huge = vec![b' '; 10_000_000];
    let client = reqwest::Client::new();
    for (raw, status) in [
        (deep.into_bytes(), 400),
        (huge, 413),
        (vec![0xff, 0xfe], 400),
        (br#"{"phone":"\ud800"}"#.to_vec(), 400),
    ] {
        let url = format!("{}/v2/mobile/signup", service.url);
        let sent = client.post(url).header("content-type", "application/json").body(raw).send().await;
        // A server may close on a body that it refuses before the client has sent it all.
        if let Ok(answer) = sent {
            assert_eq!(answer.status().as_u16(), status);
        }
    }
    assert_eq!(service.get("/v2/customer/profile", &token).await.status, 200);
    for garbage in
        [&b"\x16\x03\x01\x02\0\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", &vec![b'a'; 200_000]]
    {
        let mut connection = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
        // It may be closed before all of it is sent, or read.
        let _ = connection.write_all(garbage).and_then(|()| connection.shutdown(Shutdown::Write));
        let _ = connection.read_to_end(&mut Vec::new());
    }
    let log = service.stop();
    let alarm = log.lines().find(|line| line.contains("ERROR"));
    assert!(alarm.is_none(), "a client can cause an error: {}", alarm.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let world = World::new(Database::Sqlite).await;
    let service = world.start_on_a_small_disk(2048);
    let (token, _) = live(&world, &service, PHONE, "anna@example.com").await;
    let mut taken = 0;
    let refused = loop {
        let answer = service.sign_up(&phone(taken)).await;
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 1000, "the disk never filled");
    };
    assert_eq!((refused.status, &refused.body["errorId"]), (503, &json!(503)), "{}", refused.body);
    assert!(refused.retry_after.is_some());
    assert_eq!(service.get("/v2/customer/profile", &token).await.status, 200);

    let room = ["--pid", &service.id().to_string(), "--fsize=unlimited:"];
    assert!(std::process::Command::new("prlimit").args(room).status().unwrap().success());
    assert_eq!(service.sign_up(&phone(taken)).await.status, 200, "there is room again");
    for number in [0, taken - 1, taken] {
        let code = world.code(&phone(number)).await;
        assert_eq!(service.confirm(&phone(number), &code).await.status, 200);
    }
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_say_how_long_to_wait(
    #[case] database: Database,
    #[values("SIGNUP_PER_IP_PER_HOUR", "SIGNUP_PER_BLOCK_PER_HOUR", "SIGNUP_PER_HOUR")] limit: &str,
) {
    let world = World::new(database).await.with(&format!("LIMITS__{limit}"), "3");
    let service = world.start();
    for number in 0..3 {
        assert_eq!(service.sign_up(&phone(number)).await.status, 200);
    }
    let refused = service.sign_up(&phone(3)).await;
    assert_eq!((refused.status, &refused.body["errorId"]), (429, &json!(167)));
    let seconds = refused.body["data"]["retryAfterSeconds"].as_u64().unwrap();
    assert!((1..=3600).contains(&seconds));
    assert_eq!(refused.retry_after.unwrap(), seconds.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_of_the_readme_leads_to_kyc_0() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &[], "info");
    let readme = include_str!("../../../../README.md");
    let walk = &readme[readme.find("API=").expect("no walk")..];
    let walk = walk.split("```").next().unwrap().replace("http://127.0.0.1:8080", &service.url);
    // And once more, with another number only.
    for phone in ["+447871234567", "+447871234568"] {
        let walk = walk.replace("+447871234567", phone);
        let pasted = std::process::Command::new("bash").args(["-c", &walk]).output().unwrap();
        let said = String::from_utf8_lossy(&pasted.stdout);
        let end = r#"{"kyc1ClientData":{"status":"UNDEFINED"},"kycLevel":"KYC_0","missing":[]}"#;
        assert!(said.ends_with(end), "{said}{}", String::from_utf8_lossy(&pasted.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_watched_does_not_hold_up_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let service = Arc::new(Service::start(directory.path(), &[], "info"));
    let page = reqwest::get(format!("{}/dev/inbox", service.url)).await.unwrap().text().await.unwrap();
    for asset in ["src=", "href=\"", "url(", "@import", "http:", "https:"] {
        assert!(!page.contains(asset), "the page loads something: {asset}");
    }
    let watching = {
        let service = Arc::clone(&service);
        tokio::spawn(
            async move { service.try_call(Method::GET, "/dev/inbox/messages?wait=60", None, None).await },
        )
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let process = service.id().to_string();
    let begun = Instant::now();
    assert!(std::process::Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    let seen = watching.await.unwrap().expect("it was cut off");
    assert_eq!((seen.status, &seen.body["messages"]), (200, &json!([])));
    Arc::into_inner(service).unwrap().stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_setting_that_makes_no_sense_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let run = |variable: &str, value: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.current_dir(directory.path()).args(arguments).env("VESTIBULE__HTTP__LISTEN", "127.0.0.1:0");
        command.env(variable, value).output().unwrap()
    };
    for (variable, value, key) in [
        ("VESTIBULE__HTTP__LISTN", "x", "listn"),
        ("VESTIBULE__REGISTRATION__CODE_LENGTH", "99", "registration.code_length"),
        ("VESTIBULE__REGISTRATION__CODE_LENGTH", "six", "registration.code_length"),
        ("VESTIBULE__HTTP__LISTEN", "0.0.0.0:0", "http.listen"),
        ("VESTIBULE__ENVIRONMENT", "production", "http.public_url"),
    ] {
        let output = run(variable, value, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {said}");
        assert!(said.contains(key), "{variable}={value}: {said}");
    }
    let help = run("RUST_LOG", "info", &["--help"]);
    let said = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success() && said.contains("migrate"));
    assert!(said.starts_with("From a phone number to a verified account"), "{said}");
    for command in ["migrate", "check"] {
        let output = run("RUST_LOG", "info", &[command]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let odds = |variable, value| {
        let output = run(variable, value, &["check"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().filter(|line| line.contains("within a day")).map(str::to_owned).collect::<Vec<_>>()
    };
    let by_default = [
        "a guesser gets one number's code right within a day: 1 in 15,385 from one block of addresses, 1 in 6,250 from many",
        "a botnet gets at least one of all codes right within a day: 1 in 14 by the wrong codes that everyone may type, \
         1 in 1.3 with the first guess at each of 1,500,000 codes",
    ];
    assert_eq!(odds("RUST_LOG", "info"), by_default);
    let eight_digits = odds("VESTIBULE__REGISTRATION__CODE_LENGTH", "8");
    assert!(eight_digits.concat().contains("1 in 625,000 from many"), "{eight_digits:?}");
    let paid = odds("VESTIBULE__SPENDING__PER_DAY", "200");
    assert!(paid.concat().contains("with the first guess at each of 10,000 codes"), "{paid:?}");
}
