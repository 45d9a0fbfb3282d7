//! Sign-in, sessions, passwords and erasure, over fakes.

use std::time::Duration;

use actix_web::http::Method;
use futures_util::future::join_all;
use insta::assert_snapshot;
use serde_json::{Value, json};
use vestibule_domain::{Standing, UserId};

use crate::harness::{
    Answer, Backstage, Options, PASSWORD, PHONE, add_email, ask_reset, call, change_password, check_reset,
    confirm, erase, form, get, introspect, overtaken, patch, refresh, registered, reset, sign_in, sign_up,
    wrong,
};

const UNKNOWN: &str = "+447400000009";
const OTHER_PASSWORD: &str = "staple-battery-9";

macro_rules! refused {
    ($name:literal, $call:expr, $routes:expr) => {
        assert_snapshot!($name, $call.send(&$routes).await.shown())
    };
}

fn access(answer: &Answer) -> String {
    answer.text_of("access_token")
}

fn refresh_token(answer: &Answer) -> String {
    answer.text_of("refresh_token")
}

const PROFILE: &str = "/v2/customer/profile";

#[actix_web::test]
async fn signing_in_gives_what_a_confirmation_gives() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let confirmed = registered!(backstage, routes);
    for number in [PHONE, "447871234567", " 447871234567", "0044 7871 234567"] {
        let signed_in = sign_in(number, PASSWORD).send(&routes).await;
        assert_eq!(signed_in.status, 200, "{number}: {}", signed_in.text);
        assert_eq!(signed_in.header("cache-control"), Some("no-store"));
        let members =
            |answer: &Answer| answer.json().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(members(&signed_in), members(&confirmed));
        assert_eq!(signed_in.json()["userId"], confirmed.json()["userId"]);
        assert_eq!(get(&access(&signed_in), PROFILE).send(&routes).await.status, 200);
    }
    let as_json = json!({ "grant_type": "mobile_phone", "number": PHONE, "password": PASSWORD });
    assert_eq!(call(Method::POST, "/oauth/token").json(&as_json).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_wrong_password_and_an_unknown_number_are_answered_alike() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    registered!(backstage, routes);
    refused!("11", sign_in(PHONE, "wrong-horse-7").from("198.51.100.1"), routes);
    for attempt in 0..2 {
        let known = sign_in(PHONE, "wrong-horse-7").from("198.51.100.1").send(&routes).await;
        let unknown = sign_in(UNKNOWN, "wrong-horse-7").from("198.51.100.1").send(&routes).await;
        assert_eq!(known.text, unknown.text, "{attempt}");
        assert_eq!(known.status, unknown.status);
    }
    let unprepared = sign_in(UNKNOWN, "tab\tulator").from("198.51.100.1").send(&routes).await;
    assert_eq!(unprepared.json()["errorId"], 11);
    refused!("273", sign_in(PHONE, PASSWORD).from("198.51.100.1"), routes);
    let unknown = sign_in(UNKNOWN, PASSWORD).from("198.51.100.1").send(&routes).await;
    assert_eq!((unknown.status, unknown.json()["errorId"].clone()), (429, json!(273)));
    assert_eq!(unknown.header("retry-after"), Some("900"));
    // The device that signed up is not kept out by strangers.
    assert_eq!(sign_in(PHONE, PASSWORD).send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(15));
    assert_eq!(sign_in(PHONE, PASSWORD).from("198.51.100.1").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn one_address_guesses_at_so_many_numbers_and_no_more() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    for number in 0..20 {
        let phone = format!("+4474000001{number:02}");
        assert_eq!(sign_in(&phone, PASSWORD).from("198.51.100.1").send(&routes).await.json()["errorId"], 11);
    }
    let refused = sign_in("+447400000200", PASSWORD).from("198.51.100.1").send(&routes).await;
    assert_eq!((refused.status, refused.json()["errorId"].clone()), (429, json!(273)));
    assert_eq!(sign_in("+447400000200", PASSWORD).from("198.51.100.2").send(&routes).await.status, 400);
}

#[actix_web::test]
async fn an_address_without_budget_is_not_told_that_a_password_was_right_either() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    registered!(backstage, routes);
    let pause = backstage.hasher.pause_at(PASSWORD);
    let guesses = async {
        pause.reached().await;
        for number in 0..20 {
            let phone = format!("+4474000001{number:02}");
            assert_eq!(sign_in(&phone, OTHER_PASSWORD).from("198.51.100.1").send(&routes).await.status, 400);
        }
        pause.end();
    };
    let right = sign_in(PHONE, PASSWORD).from("198.51.100.1").send(&routes);
    let (right, ()) = futures_util::future::join(right, guesses).await;
    assert_eq!((right.status, right.json()["errorId"].clone()), (429, json!(273)));
    // What is right costs nothing.
    for device in 0..40 {
        let from = sign_in(PHONE, PASSWORD).header("x-fingerprint", &device.to_string()).from("198.51.100.2");
        assert_eq!(from.send(&routes).await.status, 200);
    }
    let guess = sign_in(UNKNOWN, PASSWORD).from("198.51.100.2").send(&routes).await;
    assert_eq!(guess.status, 400);
}

#[actix_web::test]
async fn what_a_token_request_lacks_is_named() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    refused!("9003", form("/oauth/token", &[("grant_type", "password")]), routes);
    refused!("9004_grant", form("/oauth/token", &[("number", PHONE)]), routes);
    refused!("9004_refresh", form("/oauth/token", &[("grant_type", "refresh_token")]), routes);
    let twice = [("grant_type", "refresh_token"), ("grant_type", "mobile_phone")];
    refused!("9004_twice", form("/oauth/token", &twice), routes);
    refused!("9002", refresh("nonsense"), routes);
    let no_number = [("grant_type", "mobile_phone"), ("password", PASSWORD)];
    refused!("422_number", form("/oauth/token", &no_number), routes);
    refused!("422_number_landline", sign_in("+442079460000", PASSWORD), routes);
    let xml = call(Method::POST, "/oauth/token").raw("text/xml", "<a/>").send(&routes).await;
    assert_eq!(xml.status, 415);
}

#[actix_web::test]
async fn a_blocked_account_is_told_to_who_knows_the_password() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let confirmed = registered!(backstage, routes);
    let user = UserId::new(confirmed.text_of("userId").parse().unwrap());
    backstage.http.application.set_standing(user, Standing::Blocked).await.unwrap();
    assert_eq!(get(&access(&confirmed), PROFILE).send(&routes).await.status, 401);
    assert_eq!(refresh(&refresh_token(&confirmed)).send(&routes).await.json()["error"], "invalid_grant");
    refused!("3", sign_in(PHONE, PASSWORD), routes);
    assert_eq!(sign_in(PHONE, "wrong-horse-7").send(&routes).await.json()["errorId"], 11);
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    assert_eq!(backstage.received(PHONE).await, None);
    backstage.http.application.set_standing(user, Standing::Good).await.unwrap();
    assert_eq!(sign_in(PHONE, PASSWORD).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_lost_answer_is_given_again_and_a_stolen_token_ends_the_session() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let confirmed = registered!(backstage, routes);
    let first = refresh_token(&confirmed);
    let lost = refresh(&first).send(&routes).await;
    let again = refresh(&first).send(&routes).await;
    assert_eq!((lost.status, again.status), (200, 200));
    assert_ne!(refresh_token(&lost), refresh_token(&again));
    // The access token of the second answer arrives: the first token is spent for good.
    assert_eq!(get(&access(&again), PROFILE).send(&routes).await.status, 200);
    assert_snapshot!("9002_reused", refresh(&first).from("198.51.100.1").send(&routes).await.shown());
    assert_eq!(get(&access(&again), PROFILE).send(&routes).await.status, 401);
    assert_eq!(refresh(&refresh_token(&again)).send(&routes).await.status, 400);
    assert_eq!(backstage.received(PHONE).await.as_deref(), Some("session_stolen"));
    assert_eq!(backstage.newest_fact(PHONE).await, ("refresh_token_reused", Some("198.51.100.1".to_owned())));
}

#[actix_web::test]
async fn of_many_refreshes_at_once_one_lineage_survives() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let first = refresh_token(&registered!(backstage, routes));
    let answers = join_all((0..32).map(|_| refresh(&first).send(&routes))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "nobody who repeats is signed out");
    let on = refresh(&refresh_token(&answers[17])).send(&routes).await;
    assert_eq!(on.status, 200, "whichever answer arrived carries the session on");
    assert_eq!(get(&access(&on), PROFILE).send(&routes).await.status, 200);
    assert_eq!(refresh(&refresh_token(&answers[3])).send(&routes).await.status, 400);
    assert_eq!(refresh(&refresh_token(&on)).send(&routes).await.status, 400, "it was in the hands of two");
}

#[actix_web::test]
async fn tokens_end_with_idleness_and_with_age() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let mut pair = registered!(backstage, routes);
    for _ in 0..3 {
        backstage.clock.advance(Duration::from_hours(23));
        pair = refresh(&refresh_token(&pair)).send(&routes).await;
        assert_eq!(pair.status, 200);
    }
    backstage.clock.advance(Duration::from_mins(175));
    pair = refresh(&refresh_token(&pair)).send(&routes).await;
    assert_eq!(pair.json()["expires_in"], 300, "no token outlives its session");
    backstage.clock.advance(Duration::from_mins(5));
    assert_eq!(get(&access(&pair), PROFILE).send(&routes).await.status, 401);
    assert_eq!(refresh(&refresh_token(&pair)).send(&routes).await.status, 400);
    let idle = sign_in(PHONE, PASSWORD).send(&routes).await;
    backstage.clock.advance(Duration::from_hours(24));
    assert_eq!(refresh(&refresh_token(&idle)).send(&routes).await.json()["error"], "invalid_grant");
}

#[actix_web::test]
async fn a_session_is_ended_by_its_owner() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let here = access(&registered!(backstage, routes));
    backstage.clock.advance(Duration::from_mins(1));
    let there = sign_in(PHONE, PASSWORD).from("198.51.100.1").send(&routes).await;
    let listed = get(&here, "/v2/customer/sessions").send(&routes).await.json();
    let [newest, own] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((&newest["current"], &own["current"]), (&json!(false), &json!(true)));
    assert_eq!(newest["address"], "198.51.100.1");
    assert!(own["createdAt"].as_str().unwrap().ends_with('Z') && own["lastUsedAt"].is_string());
    let path = format!("/v2/customer/sessions/{}", newest["id"].as_str().unwrap());
    let end = |path: &str| call(Method::DELETE, path).token(&here);
    backstage.clock.advance(Duration::from_secs(1));
    assert_eq!(end(&path).send(&routes).await.text, r#"{"result":"ok"}"#);
    assert_eq!(get(&access(&there), PROFILE).send(&routes).await.status, 401);
    for unknown in [path.as_str(), "/v2/customer/sessions/nonsense"] {
        assert_eq!(end(unknown).send(&routes).await.json()["errorId"], 404);
    }
    backstage.clock.advance(Duration::from_secs(1));
    let out = call(Method::POST, "/signout").token(&here).send(&routes).await;
    assert_eq!(out.text, r#"{"result":"ok"}"#);
    assert_eq!(get(&here, PROFILE).send(&routes).await.status, 401);
    assert_eq!(backstage.events(PHONE).await[..2], ["signed_out", "session_revoked"]);
}

#[actix_web::test]
async fn either_token_revokes_and_introspection_knows() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    registered!(backstage, routes);
    for which in ["access_token", "refresh_token"] {
        let pair = sign_in(PHONE, PASSWORD).send(&routes).await;
        let token = pair.json()[which].as_str().unwrap().to_owned();
        let active = introspect(&token).send(&routes).await.json();
        assert_eq!((&active["active"], &active["sub"]), (&json!(true), &pair.json()["userId"]), "{active}");
        assert_eq!((&active["iss"], &active["kyc"]), (&json!("https://vestibule.example"), &json!("NONE")));
        assert!(active["exp"].as_i64().unwrap() > active["iat"].as_i64().unwrap());
        let revoked = form("/oauth/revoke", &[("token", &token)]).send(&routes).await;
        assert_eq!((revoked.status, revoked.text.as_str()), (200, r#"{"result":"ok"}"#));
        for token in [access(&pair), refresh_token(&pair), "nonsense".to_owned()] {
            assert_eq!(introspect(&token).send(&routes).await.text, r#"{"active":false}"#);
            assert_eq!(form("/oauth/revoke", &[("token", &token)]).send(&routes).await.status, 200);
        }
    }
    refused!("9005", form("/oauth/introspect", &[("token", "x")]), routes);
    let unknown = form("/oauth/introspect", &[("token", "x")]).header("authorization", "Basic YmlsbGluZzp4");
    let unknown = unknown.send(&routes).await;
    assert_eq!(unknown.status, 401);
    assert!(unknown.header("www-authenticate").unwrap().starts_with("Basic"));
    refused!("9004_token", form("/oauth/revoke", &[("token_type_hint", "access_token")]), routes);
}

#[actix_web::test]
async fn a_changed_password_ends_the_other_sessions_and_the_owner_is_told() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let here = access(&registered!(backstage, routes));
    assert_eq!(add_email(&here, "anna@example.com").send(&routes).await.status, 200);
    let link = backstage.received("anna@example.com").await.unwrap();
    assert_eq!(call(Method::GET, &link).send(&routes).await.status, 200);
    let there = access(&sign_in(PHONE, PASSWORD).send(&routes).await);
    refused!("11_change", change_password(&here, "wrong-horse-7", OTHER_PASSWORD), routes);
    refused!("422_new_password", change_password(&here, PASSWORD, "anna"), routes);
    refused!("422_recent", change_password(&here, PASSWORD, PASSWORD), routes);
    let named = change_password(&here, PASSWORD, "447871234567a").send(&routes).await;
    assert_eq!(named.json()["data"]["violations"], json!(["too_simple"]));
    assert_eq!(patch(&here, &json!({ "firstName": "Battery" })).send(&routes).await.status, 204);
    let named = change_password(&here, PASSWORD, OTHER_PASSWORD).send(&routes).await;
    assert_eq!(named.json()["data"]["violations"], json!(["contains_profile_data"]));
    let new = "purple-monkey-5";
    assert_eq!(change_password(&here, PASSWORD, new).send(&routes).await.text, r#"{"result":"ok"}"#);
    assert_eq!(get(&here, PROFILE).send(&routes).await.status, 200);
    assert_eq!(get(&there, PROFILE).send(&routes).await.status, 401);
    for to in [PHONE, "anna@example.com"] {
        assert_eq!(backstage.received(to).await.as_deref(), Some("password_changed"), "{to}");
    }
    assert_eq!(sign_in(PHONE, PASSWORD).send(&routes).await.json()["errorId"], 11);
    assert_eq!(sign_in(PHONE, new).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_clock_that_is_behind_makes_no_old_password_the_newest() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = access(&registered!(backstage, routes));
    // Within one and the same millisecond.
    assert_eq!(change_password(&token, PASSWORD, OTHER_PASSWORD).send(&routes).await.status, 200);
    assert_eq!(change_password(&token, OTHER_PASSWORD, "purple-monkey-5").send(&routes).await.status, 200);
    assert_eq!(sign_in(PHONE, "purple-monkey-5").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn the_current_password_is_not_to_be_guessed_either() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = access(&registered!(backstage, routes));
    for _ in 0..3 {
        let guess = change_password(&token, "wrong-horse-7", OTHER_PASSWORD).send(&routes).await;
        assert_eq!(guess.json()["errorId"], 11);
    }
    let locked = change_password(&token, PASSWORD, OTHER_PASSWORD).send(&routes).await;
    assert_eq!((locked.status, locked.json()["errorId"].clone()), (429, json!(273)));
    assert_eq!(erase(&token, PASSWORD).send(&routes).await.status, 429);
}

#[actix_web::test]
async fn the_last_five_passwords_are_refused_and_the_sixth_is_not() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let mut token = access(&registered!(backstage, routes));
    let passwords: Vec<_> = std::iter::once(PASSWORD.to_owned())
        .chain((1..=5).map(|number| format!("n\u{e9}w-l\u{f6}ng-secret-{number}x")))
        .collect();
    for pair in passwords.windows(2) {
        backstage.clock.advance(Duration::from_mins(2));
        let changed = change_password(&token, &pair[0], &pair[1]).send(&routes).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    }
    let present = passwords.last().unwrap();
    for recent in &passwords[1..] {
        // However it is typed: here with combining accents.
        let typed = recent.replace('\u{e9}', "e\u{301}").replace('\u{f6}', "o\u{308}");
        let refused = change_password(&token, present, &typed).send(&routes).await;
        assert_eq!(refused.json()["data"]["violations"], json!(["recently_used"]), "{recent}");
    }
    // All that is wrong with it is told at once.
    assert_eq!(patch(&token, &json!({ "firstName": "Secret" })).send(&routes).await.status, 204);
    let refused = change_password(&token, present, &passwords[3]).send(&routes).await;
    let all = json!(["contains_profile_data", "recently_used"]);
    assert_eq!(refused.json()["data"]["violations"], all, "{}", refused.text);
    assert_eq!(patch(&token, &json!({ "firstName": null })).send(&routes).await.status, 204);
    // The same holds of a reset.
    backstage.clock.advance(Duration::from_mins(2));
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    let refused = reset(PHONE, &code, &passwords[1]).send(&routes).await;
    assert_eq!(refused.json()["data"]["violations"], json!(["recently_used"]));
    let done = reset(PHONE, &code, PASSWORD).send(&routes).await;
    assert_eq!(done.status, 200, "the sixth back: {}", done.text);
    token = access(&done);
    let refused = change_password(&token, PASSWORD, &passwords[2]).send(&routes).await;
    assert_eq!(refused.json()["data"]["violations"], json!(["recently_used"]));
    assert_eq!(change_password(&token, PASSWORD, &passwords[1]).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn who_holds_the_phone_sets_a_new_password() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let before = access(&registered!(backstage, routes));
    // A stranger has locked the number.
    for _ in 0..3 {
        sign_in(PHONE, "wrong-horse-7").from("198.51.100.1").send(&routes).await;
    }
    assert_eq!(ask_reset(PHONE).send(&routes).await.text, r#"{"result":"ok"}"#);
    let code = backstage.received(PHONE).await.unwrap();
    refused!("157_reset", ask_reset(PHONE), routes);
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    assert_eq!(backstage.received(PHONE).await.as_ref(), Some(&code), "a resend repeats the code");
    refused!("8", check_reset(PHONE, wrong(&code)), routes);
    assert_eq!(check_reset(PHONE, &code).send(&routes).await.text, r#"{"result":"ok"}"#);
    refused!("422_reset_password", reset(PHONE, &code, "short"), routes);
    let done = reset(PHONE, &code, OTHER_PASSWORD).send(&routes).await;
    assert_eq!(done.status, 200, "neither a check nor a refused password spends the code: {}", done.text);
    assert_eq!(get(&access(&done), PROFILE).send(&routes).await.status, 200);
    assert_eq!(get(&before, PROFILE).send(&routes).await.status, 401);
    assert_eq!(backstage.received(PHONE).await.as_deref(), Some("password_changed"));
    assert_eq!(reset(PHONE, &code, "purple-monkey-5").send(&routes).await.json()["errorId"], 8);
    // The proof has opened the lock.
    assert_eq!(sign_in(PHONE, OTHER_PASSWORD).from("198.51.100.1").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_reset_says_nothing_of_who_has_an_account() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    registered!(backstage, routes);
    let strip = |answer: &Answer| (answer.status, answer.text.clone());
    let mut answers = Vec::new();
    for phone in [PHONE, UNKNOWN] {
        let mut these = vec![check_reset(phone, "000000").send(&routes).await];
        these.push(ask_reset(phone).send(&routes).await);
        these.push(ask_reset(phone).send(&routes).await);
        let code = backstage.received(phone).await;
        assert_eq!(code.is_some(), phone == PHONE);
        let wrong = wrong(code.as_deref().unwrap_or_default());
        for _ in 0..6 {
            these.push(check_reset(phone, wrong).send(&routes).await);
        }
        these.push(reset(phone, wrong, "short").send(&routes).await);
        answers.push(these.iter().map(strip).collect::<Vec<_>>());
    }
    assert_eq!(answers[0], answers[1]);
    assert_snapshot!("119_reset", check_reset(PHONE, "000000").send(&routes).await.shown());
    backstage.clock.advance(Duration::from_mins(10));
    assert_snapshot!("9", check_reset(PHONE, "000000").send(&routes).await.shown());
    // The budget of messages is one for the day.
    for _ in 0..3 {
        backstage.clock.advance(Duration::from_mins(1));
        assert_eq!(ask_reset(UNKNOWN).send(&routes).await.status, 200);
    }
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(ask_reset(UNKNOWN).send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(1));
    refused!("167_reset", ask_reset(UNKNOWN), routes);
}

#[actix_web::test]
async fn who_signs_out_is_obeyed_before_a_password_that_is_being_hashed() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let mine = access(&registered!(backstage, routes));
    let sign_out = |token: &str| call(Method::POST, "/signout").token(token);
    let stolen = access(&sign_in(PHONE, PASSWORD).send(&routes).await);
    let change = change_password(&stolen, PASSWORD, OTHER_PASSWORD);
    let (changed, ended) = overtaken!(backstage, routes, change, at OTHER_PASSWORD, by sign_out(&stolen));
    assert_eq!((changed.status, ended.status), (401, 200));
    let stolen = access(&sign_in(PHONE, PASSWORD).send(&routes).await);
    let (erased, ended) =
        overtaken!(backstage, routes, erase(&stolen, PASSWORD), at PASSWORD, by sign_out(&stolen));
    assert_eq!((erased.status, ended.status), (401, 200));
    assert_eq!(get(&mine, PROFILE).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_proof_of_a_password_that_was_replaced_meanwhile_is_worth_nothing() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = access(&registered!(backstage, routes));
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    let change = change_password(&token, PASSWORD, OTHER_PASSWORD);
    let set = reset(PHONE, &code, "purple-monkey-5");
    let (changed, set) = overtaken!(backstage, routes, change, at OTHER_PASSWORD, by set);
    assert_eq!((changed.status, set.status), (401, 200));
    let change = |new| change_password(&access(&set), "purple-monkey-5", new);
    let (slow, fast) =
        overtaken!(backstage, routes, change(OTHER_PASSWORD), at OTHER_PASSWORD, by change("orange-lion-3"));
    assert_eq!((slow.json()["errorId"].clone(), fast.status), (json!(11), 200));
    // A reset does not set what a change has set while it was hashed.
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    let change = change_password(&access(&set), "orange-lion-3", OTHER_PASSWORD);
    let (set, changed) =
        overtaken!(backstage, routes, reset(PHONE, &code, OTHER_PASSWORD), at OTHER_PASSWORD, by change);
    assert_eq!(changed.status, 200);
    assert_eq!(set.json()["data"]["violations"], json!(["recently_used"]));
}

#[actix_web::test]
async fn an_erased_account_leaves_a_used_number_and_nothing_else() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let confirmed = registered!(backstage, routes);
    let token = access(&confirmed);
    let details = json!({ "firstName": "Anna", "residenceCity": "London" });
    assert_eq!(patch(&token, &details).send(&routes).await.status, 204);
    assert_eq!(add_email(&token, "anna@example.com").send(&routes).await.status, 200);
    let exported = get(&token, "/v2/customer/export").send(&routes).await;
    assert_eq!(exported.header("cache-control"), Some("no-store"));
    let data = exported.json();
    assert_eq!(data["account"]["profile"]["firstName"], "Anna");
    assert_eq!(
        (&data["account"]["phone"], &data["account"]["email"]),
        (&json!(PHONE), &json!("anna@example.com"))
    );
    assert_eq!(data["sessions"].as_array().map(Vec::len), Some(1));
    assert_eq!(data["waitingMessages"][0]["kind"], "email_confirmation");
    let events: Vec<_> = data["history"].as_array().unwrap().iter().map(|fact| &fact["event"]).collect();
    assert_eq!(events, ["phone_confirmed", "signed_up"]);
    assert!(!exported.text.contains("fake$"), "no hash");
    refused!("11_erase", erase(&token, "wrong-horse-7"), routes);
    assert_eq!(erase(&token, PASSWORD).send(&routes).await.text, r#"{"result":"ok"}"#);
    assert_eq!(get(&token, PROFILE).send(&routes).await.status, 401);
    assert_eq!(refresh(&refresh_token(&confirmed)).send(&routes).await.status, 400);
    backstage.clock.advance(Duration::from_secs(1));
    assert_eq!(sign_in(PHONE, PASSWORD).send(&routes).await.json()["errorId"], 11);
    assert_eq!(sign_up(PHONE).send(&routes).await.json()["errorId"], 115);
    assert_eq!(backstage.received("anna@example.com").await, None, "nothing is sent any more");
    assert_eq!(backstage.events(PHONE).await[..2], ["password_refused", "erased"]);
}

#[actix_web::test]
async fn of_two_who_give_one_address_each_has_her_own_mail() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let one = access(&registered!(backstage, routes));
    assert_eq!(sign_up(UNKNOWN).send(&routes).await.status, 200);
    let code = backstage.received(UNKNOWN).await.unwrap();
    let other = access(&confirm(UNKNOWN, &code).send(&routes).await);
    for token in [&one, &other] {
        assert_eq!(add_email(token, "anna@example.com").send(&routes).await.status, 200);
    }
    for token in [&one, &other] {
        let exported = get(token, "/v2/customer/export").send(&routes).await.json();
        assert_eq!(exported["waitingMessages"].as_array().map(Vec::len), Some(1), "{exported}");
    }
    assert_eq!(erase(&one, PASSWORD).send(&routes).await.status, 200);
    let link = backstage.received("anna@example.com").await.unwrap();
    assert_eq!(call(Method::GET, &link).send(&routes).await.status, 200);
    assert_eq!(get(&other, PROFILE).send(&routes).await.json()["confirmedEmail"], true);
}

#[actix_web::test]
async fn an_export_shows_who_tried_what_and_nothing_to_try_with() {
    let backstage = Backstage::new(&Options { conceal: true, ..Options::default() });
    let routes = backstage.routes().await;
    let token = access(&registered!(backstage, routes));
    assert_eq!(add_email(&token, "anna@example.com").send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(1));
    let again = sign_up(PHONE).from("198.51.100.1").header("x-fingerprint", "tablet").send(&routes).await;
    assert_eq!(again.status, 200);
    backstage.clock.advance(Duration::from_mins(1));
    for peer in ["192.0.2.1", "198.51.100.2", "198.51.100.2", "198.51.100.2"] {
        assert_eq!(sign_in(PHONE, "wrong-horse-7").from(peer).send(&routes).await.json()["errorId"], 11);
    }
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(ask_reset(PHONE).from("198.51.100.3").send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    let guess = check_reset(PHONE, wrong(&code)).from("198.51.100.3").send(&routes).await;
    assert_eq!(guess.json()["errorId"], 8);
    let exported = get(&token, "/v2/customer/export").send(&routes).await;
    assert_snapshot!("export", serde_json::to_string_pretty(&exported.json()).unwrap());
    // The snapshot holds none of these, nor can it come to.
    for secret in ["fake$", &code, &again.text_of("registrationId"), PASSWORD, "wrong-horse-7", "tablet"] {
        assert!(!exported.text.contains(secret), "{secret}");
    }
}

#[actix_web::test]
async fn nothing_hangs_while_storage_is_away() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let confirmed = registered!(backstage, routes);
    let token = access(&confirmed);
    backstage.storage.take_down();
    for call in [
        sign_in(PHONE, PASSWORD),
        refresh(&refresh_token(&confirmed)),
        form("/oauth/revoke", &[("token", &token)]),
        introspect(&token),
        ask_reset(PHONE),
        check_reset(PHONE, "000000"),
        reset(PHONE, "000000", OTHER_PASSWORD),
        change_password(&token, PASSWORD, OTHER_PASSWORD),
        erase(&token, PASSWORD),
        get(&token, "/v2/customer/sessions"),
        get(&token, "/v2/customer/export"),
        call(Method::POST, "/signout").token(&token),
    ] {
        let answer = call.send(&routes).await;
        assert_eq!((answer.status, answer.json()["errorId"].clone()), (503, json!(503)), "{}", answer.text);
        assert!(answer.header("retry-after").is_some());
    }
    backstage.storage.bring_up();
    let still: Value = refresh(&refresh_token(&confirmed)).send(&routes).await.json();
    assert!(still["access_token"].is_string());
}
