//! Coming back on the real binary and both databases: devices, theft, forgotten passwords, and being forgotten.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use oauth2::basic::BasicClient;
use oauth2::{
    AuthType, ClientId, ClientSecret, IntrospectionUrl, RefreshToken, RevocationUrl, StandardRevocableToken,
    TokenIntrospectionResponse as _, TokenResponse as _, TokenUrl,
};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use vestibule_testkit::cheap_hashing;

use crate::harness::{Answer, Database, PASSWORD, PATIENCE, Service, World};
use crate::{PHONE, live, phone, text};

const NEW_PASSWORD: &str = "staple-battery-9";
const PROFILE: &str = "/v2/customer/profile";

impl Service {
    async fn sign_in(&self, phone: &str, password: &str, device: &str) -> Answer {
        let body = json!({
            "grant_type": "mobile_phone", "number": phone, "password": password, "fingerprint": device,
        });
        self.call(Method::POST, "/oauth/token", None, Some(body)).await
    }

    async fn refresh(&self, token: &str) -> Answer {
        let body = json!({ "grant_type": "refresh_token", "refresh_token": token });
        self.call(Method::POST, "/oauth/token", None, Some(body)).await
    }

    async fn reset(&self, step: &str, body: Value) -> Answer {
        self.call(Method::POST, &format!("/v2/mobile/password/reset{step}"), None, Some(body)).await
    }

    async fn is_signed_in(&self, token: &str) -> bool {
        match self.get(PROFILE, token).await.status {
            200 => true,
            401 => false,
            other => panic!("{other}"),
        }
    }
}

/// The text of the newest of `count` SMS to the number.
async fn sms(world: &World, phone: &str, count: usize) -> String {
    world.gateway.wait_for(phone, count, PATIENCE).await.expect("no SMS came").body
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_second_device_a_theft_a_reset_and_an_erasure(#[case] database: Database) {
    let world = World::new(database).await;
    let mut service = world.start();
    // Somebody who stays.
    service.sign_up(&phone(7)).await;
    service.confirm(&phone(7), &world.code(&phone(7)).await).await;
    let (first, user) = live(&world, &service, PHONE, "anna@example.com").await;

    // A second device.
    let second = service.sign_in(PHONE, PASSWORD, "tablet").await;
    assert_eq!(text(&second, "userId"), user);
    let sessions = service.get("/v2/customer/sessions", &first).await.body;
    assert_eq!(sessions.as_array().map(Vec::len), Some(2), "{sessions}");

    // Its token is stolen, and used after its owner went on.
    let stolen = text(&second, "refresh_token");
    let refreshed = service.refresh(&stolen).await;
    assert!(service.is_signed_in(&text(&refreshed, "access_token")).await);
    let thief = service.refresh(&stolen).await;
    assert_eq!((thief.status, &thief.body["error"]), (400, &json!("invalid_grant")));
    assert!(!service.is_signed_in(&text(&refreshed, "access_token")).await);
    assert!(service.is_signed_in(&first).await, "the other device is none of the thief's");
    assert!(sms(&world, PHONE, 2).await.contains("signed out"));

    // The password is forgotten; the service is killed at the worst moment.
    assert_eq!(service.reset("", json!({ "phone": PHONE })).await.status, 200);
    let code = sms(&world, PHONE, 3).await.rsplit_once('#').unwrap().1.to_owned();
    service.kill();
    service = world.start();
    assert_eq!(service.reset("/confirm/code", json!({ "phone": PHONE, "code": code })).await.status, 200);
    let set = json!({ "phone": PHONE, "code": code, "password": NEW_PASSWORD });
    let done = service.reset("/confirm", set.clone()).await;
    let token = text(&done, "access_token");
    assert!(service.is_signed_in(&token).await && !service.is_signed_in(&first).await);
    assert_eq!(service.reset("/confirm", set).await.body["userId"], user, "the answer may be lost");
    let other = json!({ "phone": PHONE, "code": code, "password": "orange-lion-3" });
    assert_eq!(service.reset("/confirm", other).await.body["errorId"], 8, "a code sets one password");
    assert!(sms(&world, PHONE, 4).await.contains("password was changed"));
    assert_eq!(service.sign_in(PHONE, PASSWORD, "phone").await.body["errorId"], 11);
    assert_eq!(service.sign_in(PHONE, NEW_PASSWORD, "phone").await.status, 200);

    // The operator sees what happened.
    let audit = world.command(&["audit", "--phone", PHONE, "--json"]);
    for event in ["signed_up", "phone_confirmed", "email_confirmed", "refresh_token_reused", "password_reset"]
    {
        assert!(audit.contains(&format!("\"event\":\"{event}\"")), "{event}: {audit}");
    }
    assert!(!audit.contains(&PHONE[3..]) && audit.contains(&user));

    // Everything personal goes.
    let exported = service.get("/v2/customer/export", &token).await;
    assert_eq!(exported.body["account"]["profile"]["firstName"], "Annabella");
    for time in ["once", "once more"] {
        let erase = Some(json!({ "password": NEW_PASSWORD }));
        let erased = service.call(Method::DELETE, "/v2/customer", Some(&token), erase).await;
        assert_eq!(erased.status, 200, "{time}: {}", erased.body);
    }
    assert!(!service.is_signed_in(&token).await);
    assert_eq!(service.sign_in(PHONE, NEW_PASSWORD, "phone").await.body["errorId"], 11);
    assert_eq!(service.sign_up(PHONE).await.body["errorId"], 115);
    assert!(world.command(&["audit", "--user", &user]).contains("erased"));
    let log = service.stop();
    for secret in [PASSWORD, NEW_PASSWORD, &code, &token, &stolen, &PHONE[3..]] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    if database == Database::Postgres {
        // What a file of SQLite has freed may still be in it until it is used again; a dump shows what is there.
        for (place, bytes) in world.everything_kept().await {
            for personal in ["Annabella", "Smithson", "anna@example.com", "1990-05-17"] {
                let found = bytes.windows(personal.len()).any(|window| window == personal.as_bytes());
                assert!(!found || place != "the database", "`{personal}` is in {place}");
            }
        }
    }
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn of_32_refreshes_at_once_one_lineage_survives(#[case] database: Database) {
    let world = World::new(database).await;
    let service = Arc::new(world.start());
    service.sign_up(PHONE).await;
    let confirmed = service.confirm(PHONE, &world.code(PHONE).await).await;
    let first = text(&confirmed, "refresh_token");
    let refreshing = (0..32).map(|_| {
        let (service, first) = (Arc::clone(&service), first.clone());
        tokio::spawn(async move { service.refresh(&first).await })
    });
    let mut answers = Vec::new();
    for refresh in refreshing.collect::<Vec<_>>() {
        answers.push(text(&refresh.await.unwrap(), "refresh_token"));
    }
    let on = service.refresh(&answers[9]).await;
    assert!(service.is_signed_in(&text(&on, "access_token")).await, "whoever merely repeats stays signed in");
    let others = answers.iter().enumerate().filter(|(at, _)| *at != 9).map(|(_, token)| token);
    for other in others {
        assert_eq!(service.refresh(other).await.status, 400);
    }
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_guesses_at_once_the_allowed_number_is_answered(#[case] database: Database) {
    let world = World::new(database).await.with("LIMITS__LOGIN_ATTEMPTS", "5");
    // Forty at once are answered in time on a machine that has other things to do.
    let world = cheap_hashing().fold(world, |world, (name, value)| world.with(&name, &value));
    let service = Arc::new(world.start());
    service.sign_up(PHONE).await;
    service.confirm(PHONE, &world.code(PHONE).await).await;
    for number in [PHONE.to_owned(), phone(99)] {
        let guessing = (0..40).map(|guess| {
            let (service, number) = (Arc::clone(&service), number.clone());
            tokio::spawn(async move {
                service.sign_in(&number, &format!("guess-horse-{guess}"), "stranger").await
            })
        });
        let mut refused = 0;
        for guess in guessing.collect::<Vec<_>>() {
            let answer = guess.await.unwrap();
            match answer.body["errorId"].as_u64() {
                Some(11) => refused += 1,
                Some(273) => assert!(answer.retry_after.is_some()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, 5, "{number}");
    }
    // The right password is no exception, until the lock ends.
    assert_eq!(service.sign_in(PHONE, PASSWORD, "stranger").await.body["errorId"], 273);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_client_of_oauth_refreshes_introspects_and_revokes() {
    let secret = "a secret of billing: 50% & more";
    let world = World::new(Database::Sqlite).await.with("OAUTH__SERVICES__BILLING", secret);
    let service = world.start();
    service.sign_up(PHONE).await;
    let confirmed = service.confirm(PHONE, &world.code(PHONE).await).await;
    let url = |path: &str| format!("{}{path}", service.url);
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let http = async |mut request: oauth2::HttpRequest| {
        // The library revokes by TLS only, which a proxy ends in front of the service.
        *request.uri_mut() = request.uri().to_string().replace("https://", "http://").parse().unwrap();
        let answer = client.execute(request.try_into()?).await?;
        let builder = oauth2::http::Response::builder().status(answer.status());
        let builder = builder.header("content-type", answer.headers()["content-type"].clone());
        let body = answer.bytes().await?.to_vec();
        Ok::<_, reqwest::Error>(builder.body(body).unwrap())
    };
    let http = |request| Box::pin(http(request));
    let app = BasicClient::new(ClientId::new("app".to_owned()))
        .set_auth_type(AuthType::RequestBody)
        .set_token_uri(TokenUrl::new(url("/oauth/token")).unwrap())
        .set_revocation_url(RevocationUrl::new(url("/oauth/revoke").replace("http://", "https://")).unwrap());
    let spent = RefreshToken::new(text(&confirmed, "refresh_token"));
    let pair = app.exchange_refresh_token(&spent).request_async(&http).await.unwrap();
    assert_eq!(pair.expires_in(), Some(Duration::from_mins(15)));

    let billing = BasicClient::new(ClientId::new("billing".to_owned()))
        .set_client_secret(ClientSecret::new(secret.to_owned()))
        .set_introspection_url(IntrospectionUrl::new(url("/oauth/introspect")).unwrap());
    let active = billing.introspect(pair.access_token()).request_async(&http).await.unwrap();
    assert!(active.active());
    assert_eq!(active.sub(), confirmed.body["userId"].as_str());

    let token: StandardRevocableToken = pair.refresh_token().unwrap().into();
    app.revoke_token(token).unwrap().request_async(&http).await.unwrap();
    assert!(!billing.introspect(pair.access_token()).request_async(&http).await.unwrap().active());
    let refused = app.exchange_refresh_token(pair.refresh_token().unwrap()).request_async(&http).await;
    let oauth2::RequestTokenError::ServerResponse(refused) = refused.unwrap_err() else { panic!() };
    assert_eq!(refused.error().as_ref(), "invalid_grant");
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_blocks_an_account_while_the_service_runs(#[case] database: Database) {
    let world = World::new(database).await;
    let service = world.start();
    service.sign_up(PHONE).await;
    let confirmed = service.confirm(PHONE, &world.code(PHONE).await).await;
    let token = text(&confirmed, "access_token");
    assert!(service.is_signed_in(&token).await);
    world.command(&["block", "--phone", PHONE]);
    assert!(!service.is_signed_in(&token).await);
    assert_eq!(service.sign_in(PHONE, PASSWORD, "phone").await.body["errorId"], 3);
    world.command(&["unblock", "--user", &text(&confirmed, "userId")]);
    assert_eq!(service.sign_in(PHONE, PASSWORD, "phone").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_after_the_session_has_ended_changes_nothing() {
    let world = World::new(Database::Sqlite).await;
    let service = world.start();
    service.sign_up(PHONE).await;
    let token = text(&service.confirm(PHONE, &world.code(PHONE).await).await, "access_token");
    let body = json!({ "email": "thief@example.com" }).to_string();
    let mut thief = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
    thief.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        thief,
        "PUT /v2/mobile/email/add HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .unwrap();
    let mut answer = BufReader::new(thief.try_clone().unwrap());
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    let out = service.call(Method::POST, "/signout", Some(&token), None).await;
    assert_eq!(out.status, 200, "{}", out.body);
    thief.write_all(body.as_bytes()).unwrap();
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 401"), "{rest}");
}
