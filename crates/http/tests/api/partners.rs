//! Whose app a request comes from, and whether its partner has signed it.

use std::time::Duration;

use actix_web::http::Method;
use hmac::{Hmac, KeyInit as _, Mac as _};
use insta::assert_snapshot;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::UtcDateTime;
use vestibule_http::Partners;
use vestibule_port_security::Clock as _;
use vestibule_port_storage::{Outbox as _, Room};

use super::harness::{
    Backstage, Call, Options, PASSWORD, PHONE, call, callback, introspect, merchant, sign_up,
};

const SECRET: &str = "a secret of acme, of 32 letters!";
const NEXT_SECRET: &str = "the next secret of acme, as long";
const SIGN_UP: &str = "/v2/mobile/signup";

/// `acme` need not sign; `bolt` must, and so must `twin`, with the same secrets.
fn partners() -> Partners {
    let secrets = vec![SECRET, NEXT_SECRET];
    Partners::new([
        (merchant("acme"), vec![]),
        (merchant("bolt"), secrets.clone()),
        (merchant("twin"), secrets),
    ])
}

fn with_partners() -> Options {
    Options { partners: partners(), ..Options::default() }
}

macro_rules! refused {
    ($name:literal, $call:expr, $routes:expr) => {
        assert_snapshot!($name, $call.send(&$routes).await.shown())
    };
}

/// A request as a partner signs it.
#[derive(Clone)]
struct Request {
    merchant: &'static str,
    method: Method,
    target: &'static str,
    time: UtcDateTime,
    nonce: &'static str,
    body: String,
    secret: &'static str,
}

impl Request {
    /// A sign-up that is signed now.
    fn sign_up(backstage: &Backstage) -> Self {
        Self {
            merchant: "bolt",
            method: Method::POST,
            target: SIGN_UP,
            time: backstage.clock.now(),
            nonce: "nonce-of-the-test",
            body: json!({ "phone": PHONE, "password": PASSWORD }).to_string(),
            secret: SECRET,
        }
    }

    fn v1(&self) -> String {
        let Self { merchant, method, target, time, nonce, body, secret } = self;
        let (time, body) = (time.unix_timestamp(), hex::encode(Sha256::digest(body)));
        let text = format!("{merchant}\n{method}\n{target}\n{time}\n{nonce}\n{body}");
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(text);
        hex::encode(mac.finalize().into_bytes())
    }

    fn signature(&self) -> String {
        format!("t={},n={},v1={}", self.time.unix_timestamp(), self.nonce, self.v1())
    }

    /// It, with the signature of another.
    fn signed_as(&self, other: &Self) -> Call {
        call(self.method.clone(), self.target)
            .raw("application/json", self.body.clone())
            .header("x-merchant-id", self.merchant)
            .header("x-signature", &other.signature())
    }

    fn signed(&self) -> Call {
        self.signed_as(self)
    }
}

#[actix_web::test]
async fn without_partners_the_header_says_nothing() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).header("x-merchant-id", "who: ever").send(&routes).await.status, 200);
    assert_eq!(
        backstage.storage.claim(Room::for_each(1), Duration::ZERO, backstage.clock.now()).await.unwrap()[0]
            .message
            .voice
            .merchant,
        None
    );
}

#[actix_web::test]
async fn an_unknown_partner_is_refused() {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let by = |id: &str| sign_up(PHONE).header("x-merchant-id", id);
    refused!("9010", by("nobody"), routes);
    refused!("9010_de", by("nobody").header("accept-language", "de"), routes);
    for id in ["", "ACME", "acme,bolt", "a:b", &"a".repeat(65)] {
        assert_eq!(by(id).send(&routes).await.json()["errorId"], 9010, "{id}");
    }
    let two = by("acme").one_more_header("x-merchant-id", "acme");
    assert_eq!(two.send(&routes).await.json()["errorId"], 9010);
    assert_eq!(by("acme").send(&routes).await.status, 200);
    // Nor is it told whether there is such a method.
    let other_method = call(Method::GET, SIGN_UP).header("x-merchant-id", "nobody");
    assert_eq!(other_method.send(&routes).await.json()["errorId"], 9010);
}

#[actix_web::test]
async fn a_partner_can_be_required_where_apps_go_and_nowhere_else() {
    let records = Some(true);
    let backstage =
        Backstage::new(&Options { partners: partners().required(), records, ..Options::default() });
    let routes = backstage.routes().await;
    refused!("9011", sign_up(PHONE), routes);
    let document = call(Method::GET, "/openapi.json").send(&routes).await.json();
    let mut open = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = call(method.clone(), path).send(&routes).await;
            if answer.json()["errorId"] != 9011 {
                open.push(format!("{method} {path}"));
            }
        }
    }
    open.sort();
    assert_eq!(
        open,
        [
            "GET /.well-known/paseto-keys",
            "GET /health/live",
            "GET /health/ready",
            "GET /v2/mobile/email/confirm",
            "POST /callbacks/sms/{provider}",
            "POST /oauth/introspect",
            "POST /v2/mobile/email/confirm",
        ]
    );
    assert_eq!(
        callback(b"delivered").header("x-gateway-signature", "gateway").send(&routes).await.status,
        204
    );
    assert_eq!(introspect("nonsense").send(&routes).await.json()["active"], false);
    assert_eq!(sign_up(PHONE).header("x-merchant-id", "acme").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn what_is_signed_is_let_through_as_it_is() {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let request = Request::sign_up(&backstage);
    assert_eq!(request.signed().send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    let body = json!({ "phone": PHONE, "smsCode": code }).to_string();
    let (target, nonce) = ("/v2/mobile/phone/confirm", "another-nonce");
    let confirmation = Request { target, nonce, body, ..request.clone() };
    let confirmed = confirmation.signed().send(&routes).await;
    let token = confirmed.text_of("access_token");
    // Two requests of one second that are alike, but for whose they are.
    let profile = Request {
        method: Method::GET,
        target: "/v2/customer/profile?x=%2f&y",
        body: String::new(),
        ..request
    };
    for nonce in ["first-of-two", "second-of-two"] {
        let profile = Request { nonce, ..profile.clone() };
        assert_eq!(profile.signed().token(&token).send(&routes).await.status, 200);
    }
}

#[actix_web::test]
async fn what_is_not_signed_is_refused_before_it_costs_anything() {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let request = Request::sign_up(&backstage);
    refused!("9012", sign_up(PHONE).header("x-merchant-id", "bolt"), routes);
    refused!("9013", sign_up(PHONE).header("x-merchant-id", "bolt").header("x-signature", "v1=00"), routes);
    let other_secret = Request { secret: "a secret of somebody else's, long", ..request.clone() };
    assert_eq!(other_secret.signed().send(&routes).await.json()["errorId"], 9013);
    let two = request.signed().one_more_header("x-signature", &request.signature());
    assert_eq!(two.send(&routes).await.json()["errorId"], 9013);
    let no_body = call(Method::POST, SIGN_UP).header("x-merchant-id", "bolt");
    assert_eq!(no_body.send(&routes).await.json()["errorId"], 9012);
    assert!(backstage.received(PHONE).await.is_none());
    assert_eq!(request.signed().send(&routes).await.status, 200);
}

#[rstest]
#[case::method(|request: &mut Request| request.method = Method::PUT)]
#[case::path(|request: &mut Request| request.target = "/v2/mobile/phone/verify/resend")]
#[case::query(|request: &mut Request| request.target = "/v2/mobile/signup?")]
#[case::time(|request: &mut Request| request.time += Duration::from_secs(1))]
#[case::nonce(|request: &mut Request| request.nonce = "nonce-of-the-tests")]
#[case::body(|request: &mut Request| request.body.push(' '))]
#[case::no_body(|request: &mut Request| request.body.clear())]
#[case::merchant(|request: &mut Request| request.merchant = "twin")]
#[actix_web::test]
async fn whatever_is_altered_is_noticed(#[case] alter: fn(&mut Request)) {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let request = Request::sign_up(&backstage);
    let mut other = request.clone();
    alter(&mut other);
    let signature = format!("t={},n={},v1={}", other.time.unix_timestamp(), other.nonce, request.v1());
    let answer = other.signed().header("x-signature", &signature).send(&routes).await;
    assert_eq!((answer.status, &answer.json()["errorId"]), (401, &json!(9013)), "{}", answer.text);
    assert_eq!(request.signed().send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_signature_is_good_for_five_minutes_and_once() {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let request = Request::sign_up(&backstage);
    let (time, minute) = (request.time, Duration::from_mins(1));
    for time in [time - 5 * minute - Duration::from_secs(1), time + 5 * minute + Duration::from_secs(1)] {
        let answer = Request { time, ..request.clone() }.signed().send(&routes).await;
        assert_eq!(answer.json()["errorId"], 9014);
    }
    let late = Request { time: time - 5 * minute, body: "{}".to_owned(), ..request.clone() };
    assert_eq!(late.signed().send(&routes).await.json()["errorId"], 422);
    refused!("9014", Request { time: time - 6 * minute, ..request.clone() }.signed(), routes);
    assert_eq!(request.signed().send(&routes).await.status, 200);
    refused!("9015", request.signed(), routes);
    let same_nonce = Request { body: "{}".to_owned(), ..request.clone() };
    assert_eq!(same_nonce.signed().send(&routes).await.json()["errorId"], 9015);
    backstage.clock.advance(5 * minute);
    backstage.http.application.sweep().await.unwrap();
    assert_eq!(request.signed().send(&routes).await.json()["errorId"], 9015);
    backstage.clock.advance(Duration::from_secs(1));
    assert_eq!(request.signed().send(&routes).await.json()["errorId"], 9014);
    // It is forgotten, since nobody can use it any more.
    backstage.clock.advance(5 * minute);
    backstage.http.application.sweep().await.unwrap();
    let again = Request { time: backstage.clock.now(), ..request };
    assert_eq!(again.signed().send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_kept_answer_is_repeated_to_its_partner_alone_and_only_if_it_is_signed_anew() {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let keyed = |request: &Request| request.signed().header("idempotency-key", "one-sign-up");
    let request = Request::sign_up(&backstage);
    let first = keyed(&request).send(&routes).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, None));
    let unaltered = keyed(&request).send(&routes).await;
    assert_eq!((unaltered.status, &unaltered.json()["errorId"]), (401, &json!(9015)));
    let forged =
        Request { nonce: "forged-nonce", secret: "a secret of somebody else's, long", ..request.clone() };
    assert_eq!(keyed(&forged).send(&routes).await.json()["errorId"], 9013);
    let anew = keyed(&Request { nonce: "signed-anew", ..request.clone() }).send(&routes).await;
    assert_eq!((anew.status, anew.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(anew.text, first.text);
    let of_other = keyed(&Request { merchant: "twin", ..request }).send(&routes).await;
    assert_eq!(of_other.header("idempotency-replayed"), None, "{}", of_other.text);
}

#[actix_web::test]
async fn a_partner_changes_its_secret_and_its_requests_still_count_once() {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let old = Request::sign_up(&backstage);
    let new = Request { secret: NEXT_SECRET, ..old.clone() };
    let stranger = Request { secret: "a secret of somebody else's, long", ..old.clone() };
    let both = format!("{},v1={},v1={}", stranger.signature(), new.v1(), old.v1());
    assert_eq!(old.signed().header("x-signature", &both).send(&routes).await.status, 200);
    for once_more in [old.clone(), new.clone()] {
        assert_eq!(once_more.signed().send(&routes).await.json()["errorId"], 9015);
    }
    let another = Request { nonce: "another-nonce", body: "{}".to_owned(), ..new };
    assert_eq!(another.signed().send(&routes).await.json()["errorId"], 422);
}

#[actix_web::test]
async fn a_signed_body_is_bounded_and_storage_that_is_down_lets_nothing_through() {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let request = Request::sign_up(&backstage);
    let large = Request { body: " ".repeat(16 * 1024 + 1), ..request.clone() };
    assert_eq!(large.signed().send(&routes).await.status, 413);
    backstage.storage.take_down();
    let answer = request.signed().send(&routes).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    backstage.storage.bring_up();
    assert_eq!(request.signed().send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_partner_has_countries_a_limit_and_messages_of_its_own() {
    let backstage = Backstage::new(&with_partners());
    let routes = backstage.routes().await;
    let by_acme = |phone: &str| sign_up(phone).header("x-merchant-id", "acme");
    refused!("0_partner_country", by_acme("+4915112345678"), routes);
    assert_eq!(sign_up("+4915112345678").send(&routes).await.status, 200);
    assert_eq!(by_acme(PHONE).send(&routes).await.status, 200);
    assert_eq!(by_acme("+447400000001").send(&routes).await.status, 200);
    refused!("167_partner", by_acme("+447400000002"), routes);
    assert_eq!(sign_up("+447400000002").send(&routes).await.status, 200);
    let claimed =
        backstage.storage.claim(Room::for_each(9), Duration::ZERO, backstage.clock.now()).await.unwrap();
    let merchants = claimed.iter().map(|claimed| claimed.message.voice.merchant);
    let acme = Some(merchant("acme"));
    assert_eq!(merchants.collect::<Vec<_>>(), [None, acme, acme, None]);
    backstage.clock.advance(Duration::from_mins(30));
    assert_eq!(by_acme("+447400000003").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn every_operation_of_an_app_tells_of_its_partner() {
    let backstage = Backstage::new(&Options::default());
    let document = call(Method::GET, "/openapi.json").send(&backstage.routes().await).await.json();
    let operation = |path: &str, method: &str| document["paths"][path][method].clone();
    let tells = |operation: &Value| {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let headers: Vec<_> = parameters.iter().filter_map(|parameter| parameter["name"].as_str()).collect();
        let of_signatures = operation["responses"]["401"]["description"].as_str().unwrap_or_default();
        headers.contains(&"X-Merchant-ID")
            && headers.contains(&"X-Signature")
            && of_signatures.contains("9012")
    };
    assert!(tells(&operation(SIGN_UP, "post")));
    assert!(tells(&operation("/v2/customer/profile", "get")));
    assert!(!tells(&operation("/oauth/introspect", "post")));
    let refusals = operation(SIGN_UP, "post")["responses"]["403"]["description"].clone();
    assert!(refusals.as_str().unwrap().contains("115") && refusals.as_str().unwrap().contains("9010"));
}
