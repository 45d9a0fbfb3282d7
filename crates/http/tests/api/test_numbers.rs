//! Numbers with a code of their own, for reviewers of app stores and for automatic tests.

use std::time::Duration;

use serde_json::json;
use vestibule_domain::{AccountKind, UserId};
use vestibule_port_storage::{Changes, Save, Storage as _};

use super::harness::{
    Answer, Backstage, FICTION, Options, PASSWORD, PHONE, TEST_CODE, TEST_PHONE, add_email, ask_reset, call,
    change_password, check_reset, confirm, erase, get, resend, reset, rule, sign_in, sign_up, wrong,
};

const PROFILE: &str = "/v2/customer/profile";
const OTHER_PASSWORD: &str = "staple-battery-9";

/// Signs up and confirms with the fixed code; the answer with the tokens.
macro_rules! registered {
    ($backstage:expr, $routes:expr, $phone:expr) => {{
        assert_eq!(sign_up($phone).send(&$routes).await.status, 200);
        confirm($phone, TEST_CODE).send(&$routes).await
    }};
}

fn access(answer: &Answer) -> String {
    answer.text_of("access_token")
}

#[actix_web::test]
async fn a_reviewer_signs_up_and_nothing_is_sent() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    for phone in [FICTION, TEST_PHONE] {
        let token = access(&registered!(backstage, routes, phone));
        assert_eq!(backstage.received(phone).await, None);
        let profile = get(&token, PROFILE).send(&routes).await.json();
        assert_eq!((&profile["testAccount"], &profile["phone"]), (&json!(true), &json!(phone)));
        let mut events = backstage.events(phone).await;
        events.sort();
        assert_eq!(events, ["phone_confirmed", "signed_up", "test_account_opened"]);
        let export = get(&token, "/v2/customer/export").send(&routes).await.json();
        assert_eq!(export["account"]["testAccount"], true);
        assert_eq!(sign_in(phone, PASSWORD).send(&routes).await.status, 200);
    }
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    let token = access(&confirm(PHONE, &code).send(&routes).await);
    let profile = get(&token, PROFILE).send(&routes).await.json();
    assert_eq!(profile.get("testAccount"), None, "a customer's account is none");
    assert!(!backstage.events(PHONE).await.contains(&"test_account_opened".to_owned()));
}

#[actix_web::test]
async fn its_limits_are_those_of_any_number() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    assert_eq!(sign_up(FICTION).send(&routes).await.status, 200);
    assert_eq!(resend(FICTION).send(&routes).await.json()["errorId"], 157);
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(resend(FICTION).send(&routes).await.status, 200);
    assert_eq!(backstage.received(FICTION).await, None);
    for attempts_left in (0..5).rev() {
        let refused = confirm(FICTION, wrong(TEST_CODE)).send(&routes).await;
        assert_eq!((refused.status, &refused.json()["data"]["attemptsLeft"]), (400, &json!(attempts_left)));
    }
    assert_eq!(confirm(FICTION, TEST_CODE).send(&routes).await.json()["errorId"], 119);
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(resend(FICTION).send(&routes).await.status, 200);
    assert_eq!(confirm(FICTION, TEST_CODE).send(&routes).await.status, 200);
    assert_eq!(sign_up(FICTION).send(&routes).await.json()["error"], "ALREADY_REGISTERED");
}

#[actix_web::test]
async fn a_code_of_a_test_number_expires_too() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    assert_eq!(sign_up(FICTION).send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(10));
    assert_eq!(confirm(FICTION, TEST_CODE).send(&routes).await.json()["errorId"], 118);
}

#[actix_web::test]
async fn the_rule_for_countries_holds_for_fiction_too() {
    let options = Options { phone_countries: rule("GB", ""), ..Options::default() };
    let backstage = Backstage::new(&options);
    assert_eq!(sign_up(FICTION).send(&backstage.routes().await).await.status, 200);
    let options = Options { phone_countries: rule("", "GB"), ..Options::default() };
    let backstage = Backstage::new(&options);
    let refused = sign_up(FICTION).send(&backstage.routes().await).await;
    assert_eq!(refused.json()["error"], "PHONE_PREFIX_BLOCKED_FOR_REGISTRATION");
}

#[actix_web::test]
async fn a_password_is_reset_and_changed_and_only_mail_tells_so() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = access(&registered!(backstage, routes, FICTION));
    assert_eq!(add_email(&token, "anna@example.com").send(&routes).await.status, 200);
    let link = backstage.received("anna@example.com").await.unwrap();
    assert_eq!(call(actix_web::http::Method::GET, &link).send(&routes).await.status, 200);

    assert_eq!(ask_reset(FICTION).send(&routes).await.status, 200);
    assert_eq!(check_reset(FICTION, wrong(TEST_CODE)).send(&routes).await.json()["errorId"], 8);
    assert_eq!(check_reset(FICTION, TEST_CODE).send(&routes).await.status, 200);
    let token = access(&reset(FICTION, TEST_CODE, OTHER_PASSWORD).send(&routes).await);
    assert_eq!(backstage.received("anna@example.com").await.as_deref(), Some("password_changed"));
    assert_eq!(change_password(&token, OTHER_PASSWORD, "cobalt-lantern-4").send(&routes).await.status, 200);
    assert_eq!(backstage.received("anna@example.com").await.as_deref(), Some("password_changed"));
    assert_eq!(backstage.received(FICTION).await, None);
}

#[actix_web::test]
async fn after_its_last_day_a_number_is_like_any_other() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    // The last second of the day.
    backstage.clock.advance(Duration::from_secs(60 * 60 * 60 - 1));
    assert_eq!(sign_up(FICTION).send(&routes).await.status, 200);
    assert_eq!(sign_up(TEST_PHONE).send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_secs(1));
    let refused = sign_up(FICTION).send(&routes).await.json();
    assert_eq!((&refused["errorId"], &refused["field"]), (&json!(422), &json!("phone")));
    assert_eq!(confirm(TEST_PHONE, TEST_CODE).send(&routes).await.json()["errorId"], 117);
    assert_eq!(backstage.received(TEST_PHONE).await, None);
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(resend(TEST_PHONE).send(&routes).await.status, 200);
    let code = backstage.received(TEST_PHONE).await.unwrap();
    let token = access(&confirm(TEST_PHONE, &code).send(&routes).await);
    assert_eq!(get(&token, PROFILE).send(&routes).await.json().get("testAccount"), None);
}

/// Somebody names the number of a customer.
#[actix_web::test]
async fn a_fixed_code_does_not_open_a_customers_account() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let user = UserId::new(registered!(backstage, routes, TEST_PHONE).text_of("userId").parse().unwrap());
    let loaded = backstage.storage.account(user).await.unwrap().unwrap();
    let customer = Save::over(loaded.version, loaded.value.of_kind(AccountKind::Customer));
    backstage.storage.commit(Changes { account: Some(customer), ..Changes::default() }).await.unwrap();

    assert_eq!(ask_reset(TEST_PHONE).send(&routes).await.status, 200);
    let code = backstage.received(TEST_PHONE).await.unwrap();
    assert_eq!(check_reset(TEST_PHONE, TEST_CODE).send(&routes).await.json()["errorId"], 8);
    let token = access(&reset(TEST_PHONE, &code, OTHER_PASSWORD).send(&routes).await);
    assert_eq!(backstage.received(TEST_PHONE).await.as_deref(), Some("password_changed"));
    assert_eq!(erase(&token, OTHER_PASSWORD).send(&routes).await.status, 200);
    assert_eq!(sign_up(TEST_PHONE).send(&routes).await.json()["error"], "ALREADY_REGISTERED");
}

#[actix_web::test]
async fn an_erased_test_account_makes_room_for_the_next() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let mut users = Vec::new();
    for _ in 0..3 {
        let confirmed = registered!(backstage, routes, FICTION);
        users.push(confirmed.text_of("userId"));
        assert_eq!(erase(&access(&confirmed), PASSWORD).send(&routes).await.status, 200);
        assert_eq!(get(&access(&confirmed), PROFILE).send(&routes).await.status, 401);
    }
    users.dedup();
    assert_eq!(users.len(), 3);
}

#[actix_web::test]
async fn where_accounts_are_concealed_a_used_test_number_is_answered_alike() {
    let backstage = Backstage::new(&Options { conceal: true, ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(registered!(backstage, routes, FICTION).status, 200);
    backstage.clock.advance(Duration::from_mins(3));
    assert_eq!(sign_up(FICTION).send(&routes).await.status, 200);
    assert_eq!(backstage.received(FICTION).await, None);
    assert_eq!(confirm(FICTION, TEST_CODE).send(&routes).await.json()["errorId"], 117);
}
