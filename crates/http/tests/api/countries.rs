//! From where somebody may sign up, and with whose numbers.

use actix_web::http::Method;
use rstest::rstest;
use serde_json::json;
use vestibule_domain::OfNoCountry;

use super::harness::{Backstage, Options, PHONE, call, confirm, resend, rule, rule_with, sign_up};

const FRENCH: &str = "+33612345678";
const SATELLITE: &str = "+881612345678";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Admitted,
    Address,
    Number,
}
use Outcome::{Address, Admitted, Number};

#[expect(clippy::indexing_slicing, clippy::panic, reason = "a failure fails the test")]
async fn outcome(backstage: &Backstage, phone: &str) -> Outcome {
    let answer = sign_up(phone).send(&backstage.routes().await).await;
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    match (answer.status, error.as_str(), answer.json()["errorId"].as_i64()) {
        (200, "", None) => Admitted,
        (403, "COUNTRY_BLOCKED_FOR_REGISTRATION", Some(0)) => Address,
        (403, "PHONE_PREFIX_BLOCKED_FOR_REGISTRATION", Some(0)) => Number,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::no_list("", "", Some("KP"), Admitted)]
#[case::blocked("", "KP", Some("KP"), Address)]
#[case::not_blocked("", "KP", Some("DE"), Admitted)]
#[case::not_blocked_as_nothing_is_known("", "KP", None, Admitted)]
#[case::allowed("DE GB", "", Some("DE"), Admitted)]
#[case::not_allowed("DE GB", "", Some("FR"), Address)]
#[case::not_allowed_as_nothing_is_known("DE GB", "", None, Address)]
#[actix_web::test]
async fn a_client_comes_from_somewhere(
    #[case] allowed: &str,
    #[case] blocked: &str,
    #[case] client_country: Option<&'static str>,
    #[case] expected: Outcome,
    #[values(false, true)] conceal: bool,
) {
    let client_countries = rule(allowed, blocked);
    let options = Options { conceal, client_country, client_countries, ..Options::default() };
    assert_eq!(outcome(&Backstage::new(&options), PHONE).await, expected);
}

#[actix_web::test]
async fn nobody_knows_where_a_developers_own_machine_is() {
    let client_countries = rule_with("DE", "", OfNoCountry::Admitted);
    let options = Options { client_country: None, client_countries, ..Options::default() };
    assert_eq!(outcome(&Backstage::new(&options), PHONE).await, Admitted);
}

#[actix_web::test]
async fn who_comes_from_nowhere_known_can_be_refused_beside_a_list_of_blocked_countries() {
    for blocked in ["KP", ""] {
        for (client_country, expected) in [(None, Address), (Some("DE"), Admitted)] {
            let client_countries = rule_with("", blocked, OfNoCountry::Refused);
            let options = Options { client_country, client_countries, ..Options::default() };
            assert_eq!(outcome(&Backstage::new(&options), PHONE).await, expected, "{blocked}");
        }
    }
}

#[rstest]
#[case::blocked("", "FR", FRENCH, Number)]
#[case::not_blocked("", "FR", PHONE, Admitted)]
#[case::not_blocked_as_it_belongs_to_no_country("", "FR", SATELLITE, Admitted)]
#[case::allowed("GB", "", PHONE, Admitted)]
#[case::not_allowed("GB", "", FRENCH, Number)]
#[case::not_allowed_as_it_belongs_to_no_country("GB", "", SATELLITE, Number)]
#[actix_web::test]
async fn a_number_belongs_to_a_country(
    #[case] allowed: &str,
    #[case] blocked: &str,
    #[case] phone: &str,
    #[case] expected: Outcome,
    #[values(false, true)] conceal: bool,
) {
    let phone_countries = rule(allowed, blocked);
    let options = Options { conceal, phone_countries, ..Options::default() };
    assert_eq!(outcome(&Backstage::new(&options), phone).await, expected);
}

/// The body, the client's country, the number, its country, the password.
#[actix_web::test]
async fn the_first_reason_is_told() {
    let weak = |phone: &str| {
        call(Method::POST, "/v2/mobile/signup").json(&json!({ "phone": phone, "password": "short" }))
    };
    for (client_country, refusals) in [
        (
            "KP",
            [
                "NOT_VALID_REQUEST_DATA",
                "COUNTRY_BLOCKED_FOR_REGISTRATION",
                "COUNTRY_BLOCKED_FOR_REGISTRATION",
                "COUNTRY_BLOCKED_FOR_REGISTRATION",
            ],
        ),
        (
            "DE",
            [
                "NOT_VALID_REQUEST_DATA",
                "NOT_VALID_REQUEST_DATA",
                "PHONE_PREFIX_BLOCKED_FOR_REGISTRATION",
                "NOT_VALID_REQUEST_DATA",
            ],
        ),
    ] {
        let options = Options { client_country: Some(client_country), ..Options::default() };
        let backstage = Backstage::new(&options);
        let routes = backstage.routes().await;
        let without_password = call(Method::POST, "/v2/mobile/signup").json(&json!({ "phone": FRENCH }));
        for (call, refusal) in
            [without_password, weak("+44123"), weak(FRENCH), weak(PHONE)].into_iter().zip(refusals)
        {
            let answer = call.send(&routes).await;
            assert_eq!(answer.json()["error"], refusal, "{client_country}: {}", answer.text);
        }
    }
}

/// What has begun may be ended from wherever one is: the rules are for sign-ups.
#[actix_web::test]
async fn only_sign_ups_are_refused() {
    let backstage = Backstage::new(&Options { client_country: Some("KP"), ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(resend(PHONE).send(&routes).await.json()["errorId"], 2);
    assert_eq!(confirm(FRENCH, "123456").send(&routes).await.json()["errorId"], 2);
}
