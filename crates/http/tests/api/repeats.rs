//! Each step once more, because its answer was lost: without a key, one after the other and at once, over fakes.

use std::time::Duration;

use actix_web::http::Method;
use serde_json::{Value, json};
use vestibule_domain::PhoneNumber;
use vestibule_port_storage::Storage as _;

use crate::harness::{
    Answer, Backstage, Call, Options, PASSWORD, PHONE, add_email, ask_reset, call, change_password,
    check_reset, confirm, erase, form, get, introspect, overtaken, patch, refresh, registered, resend, reset,
    sign_in, sign_up, wrong,
};

const OTHER_PASSWORD: &str = "staple-battery-9";
const PROFILE: &str = "/v2/customer/profile";

fn access(answer: &Answer) -> String {
    answer.text_of("access_token")
}

/// How often that happened to the number.
async fn count(backstage: &Backstage, event: &str) -> usize {
    backstage.events(PHONE).await.iter().filter(|happened| *happened == event).count()
}

/// The session of the access token, as introspection tells it.
macro_rules! session {
    ($routes:expr, $answer:expr) => {{
        let introspected = introspect(&access(&$answer)).send(&$routes).await.json();
        introspected["sid"].as_str().unwrap().to_owned()
    }};
}

/// Sends the call twice, as who has lost the first answer: the first, and what the second says instead of the same.
macro_rules! twice {
    ($routes:expr, $call:expr) => {{
        let first = $call.send(&$routes).await;
        assert!([200, 204].contains(&first.status), "{}", first.text);
        let second = $call.send(&$routes).await;
        let instead = (second.status != first.status).then(|| second.json()["errorId"].clone());
        (first, instead)
    }};
}

#[actix_web::test]
async fn each_step_that_changes_something_may_be_repeated() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let wait = || backstage.clock.advance(Duration::from_mins(1));
    let mut told = Vec::new();
    let mut step = |name: &'static str, (first, instead): (Answer, Option<Value>)| {
        told.push((name, instead));
        first
    };
    step("sign up", twice!(routes, sign_up(PHONE)));
    wait();
    step("resend", twice!(routes, resend(PHONE)));
    let code = backstage.received(PHONE).await.unwrap();
    let confirmed = step("confirm", twice!(routes, confirm(PHONE, &code)));
    let token = access(&confirmed);
    step("add email", twice!(routes, add_email(&token, "anna@example.com")));
    wait();
    let again = || call(Method::POST, "/v2/mobile/email/verify/resend").token(&token);
    step("resend email", twice!(routes, again()));
    let link = backstage.received("anna@example.com").await.unwrap();
    step("confirm email", twice!(routes, call(Method::GET, &link)));
    step("profile", twice!(routes, patch(&token, &json!({ "firstName": "Anna" }))));
    let signed_in = step("sign in", twice!(routes, sign_in(PHONE, PASSWORD)));
    let refreshed = step("refresh", twice!(routes, refresh(&signed_in.text_of("refresh_token"))));
    let revoke = || form("/oauth/revoke", &[("token", &refreshed.text_of("refresh_token"))]);
    step("revoke", twice!(routes, revoke()));
    step("change", twice!(routes, change_password(&token, PASSWORD, OTHER_PASSWORD)));
    step("ask for a reset", twice!(routes, ask_reset(PHONE)));
    let code = backstage.received(PHONE).await.unwrap();
    step("check its code", twice!(routes, check_reset(PHONE, &code)));
    let set = step("reset", twice!(routes, reset(PHONE, &code, "purple-monkey-5")));
    let other = sign_in(PHONE, "purple-monkey-5").send(&routes).await;
    let path = format!("/v2/customer/sessions/{}", session!(routes, other));
    step("end a session", twice!(routes, call(Method::DELETE, &path).token(&access(&set))));
    let other = access(&sign_in(PHONE, "purple-monkey-5").send(&routes).await);
    step("sign out", twice!(routes, call(Method::POST, "/signout").token(&other)));
    step("erase", twice!(routes, erase(&access(&set), "purple-monkey-5")));
    told.retain(|(_, instead)| instead.is_some());
    // A message is not sent again at once; and what has ended is not there any more.
    let instead = [
        ("sign up", 157),
        ("resend", 157),
        ("resend email", 157),
        ("ask for a reset", 157),
        ("end a session", 404),
        ("sign out", 401),
    ];
    assert_eq!(told, instead.map(|(step, instead)| (step, Some(json!(instead)))));
}

#[actix_web::test]
async fn a_change_whose_answer_was_lost_is_made_once() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = access(&registered!(backstage, routes));
    let change = || change_password(&token, PASSWORD, OTHER_PASSWORD);
    assert_eq!(change().send(&routes).await.status, 200);
    assert_eq!(backstage.received(PHONE).await.as_deref(), Some("password_changed"));
    backstage.clock.advance(Duration::from_mins(1));
    let since = access(&sign_in(PHONE, OTHER_PASSWORD).send(&routes).await);
    // More often than a password may be wrong.
    for _ in 0..4 {
        assert_eq!(change().send(&routes).await.text, r#"{"result":"ok"}"#);
    }
    assert_eq!(backstage.received(PHONE).await, None, "the owner is told once");
    assert_eq!(count(&backstage, "password_changed").await, 1);
    assert_eq!(count(&backstage, "password_refused").await, 0);
    for token in [&token, &since] {
        assert_eq!(get(token, PROFILE).send(&routes).await.status, 200, "a repeat ends no session");
    }
    let foreign = change_password(&since, PASSWORD, OTHER_PASSWORD).send(&routes).await;
    assert_eq!(foreign.json()["errorId"], 11, "it was not this session that changed it");
    backstage.clock.advance(Duration::from_mins(10));
    assert_eq!(change().send(&routes).await.json()["errorId"], 11, "its time is over");
    assert_eq!(sign_in(PHONE, OTHER_PASSWORD).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn of_two_equal_changes_at_once_one_is_made_and_both_are_told_so() {
    for at in [PASSWORD, OTHER_PASSWORD] {
        let backstage = Backstage::new(&Options::default());
        let routes = backstage.routes().await;
        let token = access(&registered!(backstage, routes));
        let change = || change_password(&token, PASSWORD, OTHER_PASSWORD);
        let (slow, fast) = overtaken!(backstage, routes, change(), at at, by change());
        assert_eq!((slow.text.as_str(), fast.status), (r#"{"result":"ok"}"#, 200), "at {at}");
        assert_eq!(count(&backstage, "password_changed").await, 1);
        assert_eq!(count(&backstage, "password_refused").await, 0);
    }
}

#[actix_web::test]
async fn no_password_is_guessed_by_repeating_a_change() {
    // Whether the one before is known or not: each miss counts as one.
    for present in [PASSWORD, "wrong-horse-7"] {
        let backstage = Backstage::new(&Options::default());
        let routes = backstage.routes().await;
        let token = access(&registered!(backstage, routes));
        assert_eq!(change_password(&token, PASSWORD, OTHER_PASSWORD).send(&routes).await.status, 200);
        for guess in ["orange-lion-3", "purple-monkey-5", "cobalt-lantern-4"] {
            let missed = change_password(&token, present, guess).send(&routes).await;
            assert_eq!(missed.json()["errorId"], 11, "{present}: {}", missed.text);
        }
        let locked = change_password(&token, present, OTHER_PASSWORD).send(&routes).await;
        assert_eq!((locked.status, locked.json()["errorId"].clone()), (429, json!(273)));
        assert_eq!(count(&backstage, "password_refused").await, 3);
    }
}

#[actix_web::test]
async fn a_miss_by_who_was_overtaken_counts_too() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = access(&registered!(backstage, routes));
    let slow = change_password(&token, PASSWORD, "orange-lion-3");
    let fast = change_password(&token, PASSWORD, OTHER_PASSWORD);
    let (slow, fast) = overtaken!(backstage, routes, slow, at "orange-lion-3", by fast);
    assert_eq!((slow.json()["errorId"].clone(), fast.status), (json!(11), 200));
    assert_eq!(count(&backstage, "password_refused").await, 1);
}

/// Asks for a new password; the code.
macro_rules! reset_code {
    ($backstage:expr, $routes:expr) => {{
        assert_eq!(ask_reset(PHONE).send(&$routes).await.status, 200);
        $backstage.received(PHONE).await.unwrap()
    }};
}

#[actix_web::test]
async fn a_reset_whose_answer_was_lost_is_made_once_and_gives_tokens_again() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    registered!(backstage, routes);
    let code = reset_code!(backstage, routes);
    let reset_it = || reset(PHONE, &code, OTHER_PASSWORD);
    let lost = reset_it().send(&routes).await;
    assert_eq!(lost.status, 200, "{}", lost.text);
    assert_eq!(backstage.received(PHONE).await.as_deref(), Some("password_changed"));
    backstage.clock.advance(Duration::from_mins(1));
    let since = sign_in(PHONE, OTHER_PASSWORD).send(&routes).await;
    // More often than a code may be wrong.
    for _ in 0..6 {
        let again = reset_it().send(&routes).await;
        assert_eq!(again.status, 200, "{}", again.text);
        assert_eq!(session!(routes, again), session!(routes, lost));
        assert_eq!(get(&access(&again), PROFILE).send(&routes).await.status, 200);
    }
    assert_eq!(backstage.received(PHONE).await, None, "the owner is told once");
    assert_eq!(count(&backstage, "password_reset").await, 1);
    assert_eq!(get(&access(&since), PROFILE).send(&routes).await.status, 200, "a repeat ends no session");
    // For whom else the code is spent.
    assert_eq!(reset_it().from("198.51.100.1").send(&routes).await.json()["errorId"], 8);
    assert_eq!(reset(PHONE, wrong(&code), OTHER_PASSWORD).send(&routes).await.json()["errorId"], 8);
    assert_eq!(check_reset(PHONE, &code).send(&routes).await.json()["errorId"], 8);
    // Another request for a code leaves it as it is.
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    let again = reset_it().send(&routes).await;
    assert_eq!(again.status, 200);
    let next = refresh(&again.text_of("refresh_token")).send(&routes).await;
    assert_eq!(session!(routes, next), session!(routes, lost), "its tokens go on as any");
    let exported = get(&access(&again), "/v2/customer/export").send(&routes).await.json();
    let finished = &exported["passwordReset"]["finished"];
    assert_eq!((&finished["address"], &finished["wrongRepeats"]), (&json!("192.0.2.1"), &json!(0)));
    backstage.clock.advance(Duration::from_mins(10));
    assert_eq!(
        reset_it().send(&routes).await.json()["errorId"],
        9,
        "its time is over, as is the other code's"
    );
}

#[actix_web::test]
async fn of_two_equal_resets_at_once_one_is_made_and_both_get_tokens() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    registered!(backstage, routes);
    let code = reset_code!(backstage, routes);
    let reset_it = || reset(PHONE, &code, OTHER_PASSWORD);
    let (slow, fast) = overtaken!(backstage, routes, reset_it(), at OTHER_PASSWORD, by reset_it());
    assert_eq!((slow.status, fast.status), (200, 200), "{}", slow.text);
    assert_eq!(session!(routes, slow), session!(routes, fast));
    assert_eq!(count(&backstage, "password_reset").await, 1);
}

#[actix_web::test]
async fn no_password_is_guessed_by_repeating_a_reset() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    registered!(backstage, routes);
    let code = reset_code!(backstage, routes);
    let done = reset(PHONE, &code, OTHER_PASSWORD).send(&routes).await;
    assert_eq!(done.status, 200);
    let spent = reset(PHONE, wrong(&code), OTHER_PASSWORD).send(&routes).await;
    for guess in 0..5 {
        // What the policy would say of it is not said.
        let guess = if guess == 0 { "short".to_owned() } else { format!("orange-lion-{guess}") };
        let missed = reset(PHONE, &code, &guess).send(&routes).await;
        assert_eq!((missed.status, &missed.text), (400, &spent.text), "{guess}");
    }
    let late = reset(PHONE, &code, OTHER_PASSWORD).send(&routes).await;
    assert_eq!((late.status, &late.text), (400, &spent.text), "no repeats are left");
    assert_eq!(sign_in(PHONE, OTHER_PASSWORD).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_repeat_opens_nothing_that_has_ended_since() {
    let ends: [fn(&str) -> Call; 2] = [
        |token| call(Method::POST, "/signout").token(token),
        |token| change_password(token, OTHER_PASSWORD, "purple-monkey-5"),
    ];
    for end in ends {
        let backstage = Backstage::new(&Options::default());
        let routes = backstage.routes().await;
        registered!(backstage, routes);
        let code = reset_code!(backstage, routes);
        let done = reset(PHONE, &code, OTHER_PASSWORD).send(&routes).await;
        assert_eq!(end(&access(&done)).send(&routes).await.status, 200);
        assert_eq!(reset(PHONE, &code, OTHER_PASSWORD).send(&routes).await.json()["errorId"], 8);
    }
}

/// What happened last to the number, and whether anything is known of who tries passwords for it.
async fn left(backstage: &Backstage) -> (String, bool) {
    let phone = PhoneNumber::parse(PHONE).unwrap();
    let credentials = backstage.storage.credentials(&phone, &[]).await.unwrap();
    (backstage.events(PHONE).await.swap_remove(0), credentials.guard.is_some())
}

#[actix_web::test]
async fn an_erasure_whose_answer_was_lost_is_told_again_to_who_holds_the_token() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let confirmed = registered!(backstage, routes);
    let token = access(&confirmed);
    backstage.clock.advance(Duration::from_secs(1));
    for _ in 0..2 {
        assert_eq!(erase(&token, PASSWORD).send(&routes).await.text, r#"{"result":"ok"}"#);
        assert_eq!(get(&token, PROFILE).send(&routes).await.status, 401);
    }
    assert_eq!(left(&backstage).await, ("erased".to_owned(), false));
    assert_eq!(erase("forged", PASSWORD).send(&routes).await.status, 401);
    backstage.clock.advance(Duration::from_mins(15));
    assert_eq!(erase(&token, PASSWORD).send(&routes).await.status, 401, "the token has expired");
}

#[actix_web::test]
async fn who_signed_out_has_erased_nothing() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = access(&registered!(backstage, routes));
    assert_eq!(call(Method::POST, "/signout").token(&token).send(&routes).await.status, 200);
    assert_eq!(erase(&token, PASSWORD).send(&routes).await.status, 401);
    assert_eq!(sign_in(PHONE, PASSWORD).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn whoever_is_overtaken_by_an_erasure_leaves_nothing_behind() {
    type Make = fn(&str) -> Call;
    let cases: [(Make, &str, u16); 4] = [
        (|token| erase(token, PASSWORD), PASSWORD, 200),
        (|token| erase(token, "wrong-horse-7"), "wrong-horse-7", 200),
        (|token| change_password(token, PASSWORD, OTHER_PASSWORD), PASSWORD, 401),
        (|token| change_password(token, "wrong-horse-7", OTHER_PASSWORD), "wrong-horse-7", 401),
    ];
    for (slow, at, status) in cases {
        // Whether or not a password was tried before.
        for is_tried in [false, true] {
            let backstage = Backstage::new(&Options::default());
            let routes = backstage.routes().await;
            let mut token = access(&registered!(backstage, routes));
            if is_tried {
                token = access(&sign_in(PHONE, PASSWORD).send(&routes).await);
            }
            backstage.clock.advance(Duration::from_secs(1));
            let fast = erase(&token, PASSWORD);
            let (slow, fast) = overtaken!(backstage, routes, slow(&token), at at, by fast);
            assert_eq!((slow.status, fast.status), (status, 200), "{at}: {}", slow.text);
            assert_eq!(left(&backstage).await, ("erased".to_owned(), false), "{at}, {status}, {is_tried}");
        }
    }
}
