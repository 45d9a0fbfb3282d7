//! Requests with an `Idempotency-Key`, over fakes.

use std::pin::pin;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::Method;
use actix_web::{Error, rt};
use futures_util::future::{Either, join, join_all, select};
use insta::assert_snapshot;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Backstage, Call, Options, PASSWORD, PHONE, call, change_password, confirm, form, get, introspect,
    patch, quotas, refresh, resend, rule, sign_in, sign_up, wrong,
};
use crate::limits::{SHARING, narrow};

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

trait Keyed {
    fn key(self, key: &str) -> Self;
}

impl Keyed for Call {
    fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }
}

fn is_repeat(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

/// The answer, but for what every answer has of its own.
fn first_and_again(answer: &Answer) -> (u16, &str, Vec<&(String, String)>) {
    let own = ["x-request-id", "idempotency-replayed"];
    let mut headers: Vec<_> =
        answer.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).collect();
    headers.sort();
    (answer.status, &answer.text, headers)
}

/// Signs up and confirms; the answer with the tokens.
async fn registered<B: MessageBody>(
    backstage: &Backstage,
    routes: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    phone: &str,
) -> Answer {
    assert_eq!(sign_up(phone).send(routes).await.status, 200);
    let code = backstage.received(phone).await.unwrap();
    confirm(phone, &code).send(routes).await
}

#[actix_web::test]
async fn a_repeat_gets_the_first_answer_byte_for_byte() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    let first = confirm(PHONE, &code).key(KEY).send(&routes).await;
    assert_eq!((first.status, is_repeat(&first)), (200, false));
    for (key, minutes) in [(KEY.to_owned(), 0), (format!("\"{KEY}\""), 0), (KEY.to_owned(), 60)] {
        backstage.clock.advance(Duration::from_mins(minutes));
        let again = confirm(PHONE, &code).key(&key).send(&routes).await;
        assert!(is_repeat(&again), "{key} after {minutes} minutes: {}", again.text);
        assert_eq!(first_and_again(&again), first_and_again(&first));
        assert_eq!(again.header("cache-control"), Some("no-store"));
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    }
    let signed_in = sign_in(PHONE, PASSWORD).send(&routes).await;
    let sessions = get(&signed_in.text_of("access_token"), "/v2/customer/sessions").send(&routes).await;
    assert_eq!(sessions.json().as_array().unwrap().len(), 2, "the confirmation opened one");
}

#[actix_web::test]
async fn an_answer_without_a_body_is_repeated_too() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = registered(&backstage, &routes, PHONE).await.text_of("access_token");
    let rename = || patch(&token, &json!({ "firstName": "Anna" })).key(KEY);
    let first = rename().send(&routes).await;
    assert_eq!(patch(&token, &json!({ "firstName": "Bea" })).send(&routes).await.status, 204);
    let again = rename().send(&routes).await;
    assert_eq!((first.status, is_repeat(&again)), (204, true));
    assert_eq!(first_and_again(&again), first_and_again(&first));
    let profile = get(&token, "/v2/customer/profile").send(&routes).await.json();
    assert_eq!(profile["firstName"], "Bea", "the repeat changed nothing");
}

#[actix_web::test]
async fn new_requests_with_a_key_have_a_limit_of_their_own() {
    let quotas = quotas(|quotas| quotas.keyed_request.address.burst = 2);
    let backstage = Backstage::new(&Options { quotas, ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).key("1").send(&routes).await.status, 200);
    // What is refused has an answer that is kept, too.
    assert_eq!(sign_up("nonsense").key("2").send(&routes).await.status, 400);
    assert_snapshot!("9008", sign_up("nonsense").key("3").send(&routes).await.shown());
    for (key, phone) in [("1", PHONE), ("2", "nonsense")] {
        assert!(is_repeat(&sign_up(phone).key(key).send(&routes).await), "a repeat leaves nothing more");
    }
    assert_eq!(sign_up(PHONE).key("2").send(&routes).await.json()["errorId"], 9006);
    assert_eq!(sign_up("+447400000001").send(&routes).await.status, 200, "without a key");
    assert_eq!(sign_up("+447400000002").key("4").from("192.0.2.2").send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_hours(12));
    assert_eq!(sign_up("+447400000003").key("3").send(&routes).await.status, 200, "nothing was kept");
}

#[actix_web::test]
async fn the_budgets_of_requests_with_a_key_are_those_of_every_step() {
    for (scope, shares, does_not) in SHARING {
        let quotas = quotas(|quotas| narrow(&mut quotas.keyed_request, scope, 1));
        let backstage = Backstage::new(&Options { quotas, ..Options::default() });
        let routes = backstage.routes().await;
        assert_eq!(sign_up(PHONE).key("1").from("192.0.2.1").send(&routes).await.status, 200);
        let refused = sign_up("+447400000001").key("2").from(shares).send(&routes).await;
        assert_eq!((refused.status, refused.json()["errorId"].clone()), (429, json!(9008)), "{scope}");
        if !does_not.is_empty() {
            let other = sign_up("+447400000001").key("2").from(does_not).send(&routes).await;
            assert_eq!(other.status, 200, "{scope}");
        }
    }
}

#[actix_web::test]
async fn another_payload_under_the_same_key_is_refused() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).key(KEY).send(&routes).await.status, 200);
    let body = json!({ "phone": PHONE, "password": PASSWORD });
    assert_snapshot!("9006", sign_up("+447400000001").key(KEY).send(&routes).await.shown());
    let german = sign_up("+447400000001").key(KEY).header("accept-language", "de").send(&routes).await;
    assert_snapshot!("9006_de", german.shown());
    let as_other_type =
        call(Method::POST, "/v2/mobile/signup").raw("application/json; charset=utf-8", body.to_string());
    assert_eq!(as_other_type.key(KEY).send(&routes).await.status, 422);
    let with_query = call(Method::POST, "/v2/mobile/signup?x=1").json(&body);
    assert_eq!(with_query.key(KEY).send(&routes).await.status, 422);
    assert!(backstage.received("+447400000001").await.is_none());
    // Another request is another matter.
    assert_eq!(resend(PHONE).key(KEY).send(&routes).await.json()["errorId"], 157);
    assert!(is_repeat(&sign_up(PHONE).key(KEY).send(&routes).await));
}

#[actix_web::test]
async fn a_repeat_that_comes_too_soon_is_told_to_wait() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let pause = backstage.hasher.pause_at(PASSWORD);
    let (first, second) = join(sign_up(PHONE).key(KEY).send(&routes), async {
        pause.reached().await;
        let second = sign_up(PHONE).key(KEY).send(&routes).await;
        pause.end();
        second
    })
    .await;
    assert_snapshot!("9007", second.shown());
    assert_eq!(first.status, 200);
    let third = sign_up(PHONE).key(KEY).send(&routes).await;
    assert_eq!((third.text == first.text, is_repeat(&third)), (true, true));
}

#[actix_web::test]
async fn of_many_at_once_one_is_carried_out() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let answers = join_all((0..16).map(|_| sign_up(PHONE).key(KEY).send(&routes))).await;
    let carried_out = answers.iter().filter(|answer| answer.status == 200 && !is_repeat(answer)).count();
    assert_eq!(carried_out, 1);
    assert!(answers.iter().all(|answer| answer.status == 409 || answer.status == 200));
}

#[actix_web::test]
async fn what_a_client_does_not_wait_for_is_carried_out_all_the_same() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let pause = backstage.hasher.pause_at(PASSWORD);
    {
        let leaving = pin!(sign_up(PHONE).key(KEY).send(&routes));
        match select(leaving, pin!(pause.reached())).await {
            Either::Left((answer, _)) => panic!("answered before it was hashed: {}", answer.text),
            Either::Right(_) => {}
        }
        // The future goes, as when the connection breaks.
    }
    pause.end();
    let mut again = sign_up(PHONE).key(KEY).send(&routes).await;
    while again.status == 409 {
        rt::task::yield_now().await;
        again = sign_up(PHONE).key(KEY).send(&routes).await;
    }
    assert_eq!((again.status, is_repeat(&again)), (200, true), "{}", again.text);
    let code = backstage.received(PHONE).await.unwrap();
    let registration = again.text_of("registrationId");
    let body = json!({ "phone": PHONE, "smsCode": code, "registrationId": registration });
    assert_eq!(call(Method::POST, "/v2/mobile/phone/confirm").json(&body).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_key_is_its_customers_own() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let anna = registered(&backstage, &routes, PHONE).await;
    let bea = registered(&backstage, &routes, "+447400000001").await.text_of("access_token");
    let rename = |token: &str, name: &str| patch(token, &json!({ "firstName": name })).key(KEY);
    let token = anna.text_of("access_token");
    assert_eq!(rename(&token, "Anna").send(&routes).await.status, 204);
    let other = rename(&bea, "Bea").send(&routes).await;
    assert_eq!((other.status, is_repeat(&other)), (204, false));
    // Another token of the same customer.
    let refreshed = refresh(&anna.text_of("refresh_token")).send(&routes).await.text_of("access_token");
    assert_ne!(refreshed, token);
    assert!(is_repeat(&rename(&refreshed, "Anna").send(&routes).await));
    let nobody = rename("fake-token-99", "Anna").send(&routes).await;
    assert_eq!((nobody.status, is_repeat(&nobody)), (401, false));
}

#[actix_web::test]
async fn a_key_is_its_devices_own() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let from = |device: &str, phone: &str| sign_up(phone).key(KEY).header("x-fingerprint", device);
    assert_eq!(from("a", PHONE).send(&routes).await.status, 200);
    assert_eq!(from("b", "+447400000001").send(&routes).await.status, 200);
    assert!(is_repeat(&from("a", PHONE).send(&routes).await));
    assert_eq!(from("a", "+447400000001").send(&routes).await.json()["errorId"], 9006);
}

#[actix_web::test]
async fn who_has_signed_out_may_ask_again_for_the_answer() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = registered(&backstage, &routes, PHONE).await.text_of("access_token");
    let sign_out = || call(Method::POST, "/signout").token(&token);
    assert_eq!(sign_out().key(KEY).send(&routes).await.status, 200);
    let again = sign_out().key(KEY).send(&routes).await;
    assert_eq!((again.status, is_repeat(&again)), (200, true));
    assert_eq!(sign_out().key("another").send(&routes).await.status, 401);
    assert_eq!(sign_out().send(&routes).await.status, 401);
}

#[actix_web::test]
async fn a_key_that_one_session_has_used_ends_another_session_too() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let first = registered(&backstage, &routes, PHONE).await.text_of("access_token");
    let second = sign_in(PHONE, PASSWORD).send(&routes).await.text_of("access_token");
    for token in [first, second] {
        let signed_out = call(Method::POST, "/signout").token(&token).key(KEY).send(&routes).await;
        assert_eq!((signed_out.status, is_repeat(&signed_out)), (200, false));
        assert_eq!(get(&token, "/v2/customer/profile").send(&routes).await.status, 401, "it has ended");
    }
}

#[actix_web::test]
async fn an_answer_is_kept_for_a_day() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let first = sign_up(PHONE).key(KEY).send(&routes).await;
    backstage.clock.advance(Duration::from_hours(24).saturating_sub(Duration::from_millis(1)));
    assert_eq!(sign_up(PHONE).key(KEY).send(&routes).await.text, first.text);
    backstage.clock.advance(Duration::from_millis(1));
    let anew = sign_up(PHONE).key(KEY).send(&routes).await;
    assert_eq!((anew.status, is_repeat(&anew)), (200, false));
    assert_ne!(anew.json()["registrationId"], first.json()["registrationId"]);
    backstage.http.application.sweep().await.unwrap();
    assert!(is_repeat(&sign_up(PHONE).key(KEY).send(&routes).await), "the new one is not swept");
}

#[actix_web::test]
async fn a_lasting_refusal_is_repeated_and_costs_nothing_more() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    sign_up(PHONE).send(&routes).await;
    let code = backstage.received(PHONE).await.unwrap();
    let guess = || confirm(PHONE, wrong(&code)).key(KEY).header("accept-language", "de");
    let first = guess().send(&routes).await;
    assert_eq!((&first.json()["errorId"], &first.json()["data"]["attemptsLeft"]), (&json!(117), &json!(4)));
    for _ in 0..9 {
        let again = confirm(PHONE, wrong(&code)).key(KEY).send(&routes).await;
        assert_eq!(first_and_again(&again), first_and_again(&first), "in the language of the first");
        assert!(is_repeat(&again));
    }
    assert_eq!(confirm(PHONE, &code).key("another").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn what_no_key_opens_is_carried_out_again() {
    let before = Backstage::new(&Options::default());
    let routes = before.routes().await;
    sign_up(PHONE).send(&routes).await;
    let guess = || confirm(PHONE, "banana").key(KEY);
    let left = |answer: &Answer| answer.json()["data"]["attemptsLeft"].as_u64();
    assert_eq!(left(&guess().send(&routes).await), Some(4));
    let storage = before.storage.clone();
    let rotated = Backstage::new(&Options { storage, master_key: [3; 32], ..Options::default() });
    let routes = rotated.routes().await;
    let anew = guess().send(&routes).await;
    assert_eq!((left(&anew), is_repeat(&anew)), (Some(3), false));
    let again = guess().send(&routes).await;
    assert_eq!((left(&again), is_repeat(&again)), (Some(3), true));
}

#[actix_web::test]
async fn what_asks_to_come_again_is_not_kept() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    sign_up(PHONE).send(&routes).await;
    let too_soon = resend(PHONE).key(KEY).send(&routes).await;
    assert_eq!((too_soon.status, &too_soon.json()["errorId"]), (429, &json!(157)));
    backstage.clock.advance(Duration::from_mins(1));
    let later = resend(PHONE).key(KEY).send(&routes).await;
    assert_eq!((later.status, is_repeat(&later)), (200, false));
    assert!(is_repeat(&resend(PHONE).key(KEY).send(&routes).await));
}

#[actix_web::test]
async fn what_is_forbidden_may_be_allowed_by_the_next_try() {
    let forbidding =
        Options { client_country: Some("KP"), client_countries: rule("", "KP"), ..Options::default() };
    let before = Backstage::new(&forbidding);
    let forbidden = sign_up(PHONE).key(KEY).send(&before.routes().await).await;
    assert_eq!((forbidden.status, is_repeat(&forbidden)), (403, false));
    let after = Backstage::new(&Options { storage: before.storage.clone(), ..Options::default() });
    let routes = after.routes().await;
    let allowed = sign_up(PHONE).key(KEY).send(&routes).await;
    assert_eq!((allowed.status, is_repeat(&allowed)), (200, false));
    assert!(is_repeat(&sign_up(PHONE).key(KEY).send(&routes).await));
}

#[actix_web::test]
async fn a_service_that_was_away_has_kept_nothing() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    backstage.storage.take_down();
    for _ in 0..2 {
        let down = sign_up(PHONE).key(KEY).send(&routes).await;
        assert_eq!((down.status, down.header("retry-after")), (503, Some("1")));
    }
    backstage.storage.bring_up();
    let pause = backstage.hasher.pause_at(PASSWORD);
    let (broken, ()) = join(sign_up(PHONE).key(KEY).send(&routes), async {
        pause.reached().await;
        backstage.storage.take_down();
        pause.end();
    })
    .await;
    assert_eq!(broken.status, 503);
    backstage.storage.bring_up();
    // It could not be forgotten either: that takes until its lease ends.
    assert_eq!(sign_up(PHONE).key(KEY).send(&routes).await.json()["errorId"], 9007);
    backstage.clock.advance(Duration::from_secs(30));
    let again = sign_up(PHONE).key(KEY).send(&routes).await;
    assert_eq!((again.status, is_repeat(&again)), (200, false));

    let busy = Backstage::new(&Options { busy: true, ..Options::default() });
    let routes = busy.routes().await;
    for _ in 0..2 {
        let refused = sign_up(PHONE).key(KEY).send(&routes).await;
        assert_eq!((refused.status, is_repeat(&refused)), (503, false), "{}", refused.text);
    }
}

#[actix_web::test]
async fn what_is_refused_before_it_is_read_is_not_kept() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let raw = |media_type: &str, body: Vec<u8>| {
        call(Method::POST, "/v2/mobile/signup").raw(media_type, body).key(KEY)
    };
    assert_eq!(raw("text/plain", b"x".to_vec()).send(&routes).await.status, 415);
    assert_eq!(raw("application/json", vec![b' '; 16 * 1024 + 1]).send(&routes).await.status, 413);
    assert_eq!(call(Method::PATCH, "/v2/mobile/signup").key(KEY).send(&routes).await.status, 405);
    let token = "fake-token-7";
    // The token is looked at before the body.
    let stranger = call(Method::PATCH, "/v2/customer/profile").token(token).key(KEY);
    assert_eq!(stranger.raw("application/json", vec![b' '; 16 * 1024 + 1]).send(&routes).await.status, 401);
    assert_eq!(sign_up(PHONE).key(KEY).send(&routes).await.status, 200);
}

#[rstest]
#[case("")]
#[case("two words")]
#[case("\"open")]
#[actix_web::test]
async fn what_is_no_key_is_refused(#[case] key: &str) {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    assert_snapshot!("422_key", sign_up(PHONE).key(key).send(&routes).await.shown());
    assert!(backstage.received(PHONE).await.is_none());
    let too_long = sign_up(PHONE).key(&"k".repeat(256)).send(&routes).await;
    assert_eq!(too_long.json()["field"], "Idempotency-Key");
    // Where nothing changes nobody looks at it.
    assert_eq!(call(Method::GET, "/health/live").key(key).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn what_a_token_is_worth_is_never_repeated() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = registered(&backstage, &routes, PHONE).await.text_of("access_token");
    let ask = || introspect(&token).key(KEY);
    assert_eq!(ask().send(&routes).await.json()["active"], true);
    assert_eq!(form("/oauth/revoke", &[("token", &token)]).key(KEY).send(&routes).await.status, 200);
    assert!(is_repeat(&form("/oauth/revoke", &[("token", &token)]).key(KEY).send(&routes).await));
    assert_eq!(ask().send(&routes).await.json()["active"], false);
}

#[actix_web::test]
async fn tokens_and_passwords_are_changed_once() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let first = registered(&backstage, &routes, PHONE).await;
    let refresh_once = || refresh(&first.text_of("refresh_token")).key(KEY);
    let second = refresh_once().send(&routes).await;
    let token = second.text_of("access_token");
    assert_eq!(get(&token, "/v2/customer/profile").send(&routes).await.status, 200);
    // Its successor was used: without the key this would be a theft.
    assert_eq!(refresh_once().send(&routes).await.text, second.text);
    assert_eq!(get(&token, "/v2/customer/profile").send(&routes).await.status, 200);
    let change = || change_password(&token, PASSWORD, "staple-battery-9").key(KEY);
    assert_eq!(change().send(&routes).await.status, 200);
    let again = change().send(&routes).await;
    assert_eq!((again.status, is_repeat(&again)), (200, true), "though the old password is wrong by now");
}

#[actix_web::test]
async fn the_document_tells_of_keys_where_they_work() {
    let backstage = Backstage::new(&Options::default());
    let document = call(Method::GET, "/openapi.json").send(&backstage.routes().await).await.json();
    let tells = |operation: &Value| {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let named = parameters.filter(|parameter| parameter["name"] == "Idempotency-Key").count();
        let refusals =
            ["409", "422"].iter().filter(|status| operation["responses"][**status].is_object()).count();
        assert_eq!(named * 2, refusals, "{operation}");
        named == 1
    };
    let mut without = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let changes = ["post", "put", "patch"].contains(&method.as_str());
            if tells(operation) {
                assert!(changes, "{method} {path}");
            } else if changes {
                without.push(format!("{method} {path}"));
            }
        }
    }
    assert_eq!(without, ["post /callbacks/sms/{provider}", "post /oauth/introspect"]);
}
