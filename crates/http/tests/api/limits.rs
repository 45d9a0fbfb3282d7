//! Budgets of devices, addresses, blocks and everyone, over fakes.

use std::time::Duration;

use actix_web::http::Method;
use serde_json::json;
use vestibule_application::ToldOfLimits;
use vestibule_domain::limits::{Step, StepQuotas};

use crate::harness::{
    Backstage, Call, Options, PASSWORD, PHONE, add_email, ask_reset, call, check_reset, confirm, get, quotas,
    resend, sign_in, sign_up, wrong,
};

fn phone(number: u32) -> String {
    format!("+4474000001{number:02}")
}

/// Where the second of two requests comes from, if it shares the budget with the first, and if it does not.
pub(crate) const SHARING: [(&str, &str, &str); 4] = [
    ("address", "192.0.2.1", "192.0.2.2"),
    ("address", "192.0.2.1", "2001:db8::1"),
    ("block", "192.0.2.200", "192.0.3.1"),
    ("everyone", "203.0.113.9", ""),
];

pub(crate) fn narrow(step: &mut StepQuotas, scope: &str, burst: u32) {
    match scope {
        "device" => step.device.burst = burst,
        "address" => step.address.burst = burst,
        "block" => step.block.burst = burst,
        _ => step.everyone.burst = burst,
    }
}

#[actix_web::test]
async fn a_sign_up_is_charged_to_its_address_its_block_and_everyone() {
    for (scope, shares, does_not) in SHARING {
        let quotas = quotas(|quotas| narrow(&mut quotas.sign_up, scope, 1));
        let backstage = Backstage::new(&Options { quotas, ..Options::default() });
        let routes = backstage.routes().await;
        assert_eq!(sign_up(&phone(1)).from("192.0.2.1").send(&routes).await.status, 200);
        let refused = sign_up(&phone(2)).from(shares).send(&routes).await;
        assert_eq!((refused.status, refused.json()["errorId"].clone()), (429, json!(167)), "{scope}");
        assert_eq!(refused.header("retry-after"), Some("86400"));
        if !does_not.is_empty() {
            assert_eq!(sign_up(&phone(2)).from(does_not).send(&routes).await.status, 200, "{scope}");
        }
        backstage.clock.advance(Duration::from_hours(24));
        assert_eq!(sign_up(&phone(3)).from(shares).send(&routes).await.status, 200, "{scope}");
    }
}

#[actix_web::test]
async fn a_clock_that_is_set_back_makes_codes_and_waits_longer_and_nothing_else() {
    const HOUR: Duration = Duration::from_hours(1);
    let quotas = quotas(|quotas| narrow(&mut quotas.sign_up, "address", 1));
    let backstage = Backstage::new(&Options { quotas, ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(sign_up(&phone(1)).send(&routes).await.status, 200);
    let code = backstage.received(&phone(1)).await.unwrap();
    backstage.clock.set_back(HOUR);
    let refused = sign_up(&phone(2)).send(&routes).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("90000")));
    let token = confirm(&phone(1), &code).send(&routes).await.text_of("access_token");
    assert_eq!(get(&token, "/v2/customer/profile").send(&routes).await.status, 200);
    backstage.clock.advance(HOUR);
    assert_eq!(get(&token, "/v2/customer/profile").send(&routes).await.status, 401, "its own life is over");
    assert_eq!(sign_in(&phone(1), PASSWORD).send(&routes).await.status, 200);
    assert_eq!(sign_up(&phone(2)).send(&routes).await.header("retry-after"), Some("86400"));
}

#[actix_web::test]
async fn a_device_has_its_budget_wherever_it_is() {
    let quotas = quotas(|quotas| narrow(&mut quotas.sign_up, "device", 1));
    let backstage = Backstage::new(&Options { quotas, ..Options::default() });
    let routes = backstage.routes().await;
    let from = |call: Call, device: &str, address: &str| call.header("x-fingerprint", device).from(address);
    assert_eq!(from(sign_up(&phone(1)), "a", "192.0.2.1").send(&routes).await.status, 200);
    assert_eq!(from(sign_up(&phone(2)), "a", "198.51.100.1").send(&routes).await.status, 429);
    assert_eq!(from(sign_up(&phone(2)), "b", "192.0.2.1").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn resends_resets_and_mails_have_budgets_of_their_own() {
    let quotas = quotas(|quotas| {
        for step in [&mut quotas.resend, &mut quotas.reset, &mut quotas.mail] {
            step.everyone.burst = 1;
        }
    });
    let backstage = Backstage::new(&Options { quotas, ..Options::default() });
    let routes = backstage.routes().await;
    for number in 1..3 {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
    }
    backstage.clock.advance(Duration::from_mins(1));
    let mut tokens = Vec::new();
    for (number, status) in [(1, 200), (2, 429)] {
        assert_eq!(resend(&phone(number)).send(&routes).await.status, status);
        let code = backstage.received(&phone(number)).await.unwrap();
        tokens.push(confirm(&phone(number), &code).send(&routes).await.text_of("access_token"));
    }
    for (number, status) in [(1, 200), (2, 429)] {
        let asked = ask_reset(&phone(number)).send(&routes).await;
        assert_eq!(asked.status, status, "{}", asked.text);
    }
    for (token, status) in tokens.iter().zip([200, 429]) {
        let added = add_email(token, &format!("a{status}@example.com")).send(&routes).await;
        assert_eq!(added.status, status, "{}", added.text);
    }
}

#[actix_web::test]
async fn that_an_address_is_registered_is_told_at_the_price_of_a_mail() {
    // What bears mails has three, or else the account has its four.
    for (burst, told) in [(3, 2), (1000, 4)] {
        let quotas = quotas(|quotas| quotas.mail.everyone.burst = burst);
        let backstage = Backstage::new(&Options { quotas, ..Options::default() });
        let routes = backstage.routes().await;
        let mut tokens = Vec::new();
        for number in 1..3 {
            assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
            let code = backstage.received(&phone(number)).await.unwrap();
            tokens.push(confirm(&phone(number), &code).send(&routes).await.text_of("access_token"));
        }
        assert_eq!(add_email(&tokens[0], "anna@example.com").send(&routes).await.status, 200);
        let link = backstage.received("anna@example.com").await.unwrap();
        assert_eq!(call(Method::GET, &link).send(&routes).await.status, 200);
        for _ in 0..told {
            let answer = add_email(&tokens[1], "Anna@example.com").send(&routes).await;
            assert_eq!((answer.status, answer.json()["errorId"].clone()), (400, json!(168)));
        }
        let registered = add_email(&tokens[1], "anna@example.com").send(&routes).await;
        let other = add_email(&tokens[1], "bea@example.com").send(&routes).await;
        assert_eq!((registered.status, registered.json()["errorId"].clone()), (429, json!(167)));
        assert_eq!(registered.shown(), other.shown());
    }
}

#[actix_web::test]
async fn guesses_beyond_the_budget_learn_nothing_and_a_first_guess_is_free() {
    let quotas = quotas(|quotas| narrow(&mut quotas.code_guess, "everyone", 2));
    let backstage = Backstage::new(&Options { quotas, ..Options::default() });
    let routes = backstage.routes().await;
    let mut codes = Vec::new();
    for number in 1..4 {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
        codes.push(backstage.received(&phone(number)).await.unwrap());
    }
    let guess = |number: u32, code: &str| confirm(&phone(number), code).from("192.0.2.1");
    // The first is free, the next two are everyone's.
    for left in [4, 3, 2] {
        let answer = guess(1, wrong(&codes[0])).send(&routes).await;
        assert_eq!((answer.status, answer.json()["data"]["attemptsLeft"].clone()), (400, json!(left)));
    }
    for code in [wrong(&codes[0]), &codes[0]] {
        let answer = guess(1, code).send(&routes).await;
        assert_eq!((answer.status, answer.json()["errorId"].clone()), (429, json!(119)));
        assert_eq!(answer.header("retry-after"), Some("43200"));
    }
    assert_eq!(guess(2, &codes[1]).send(&routes).await.status, 200);
    assert_eq!(guess(3, wrong(&codes[2])).send(&routes).await.status, 400);
    assert_eq!(guess(3, &codes[2]).send(&routes).await.status, 429);
    // What was refused has spent none of the code's guesses.
    backstage.clock.advance(Duration::from_hours(12));
    assert_eq!(resend(&phone(1)).send(&routes).await.status, 200);
    let code = backstage.received(&phone(1)).await.unwrap();
    assert_eq!(guess(1, &code).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_botnet_meets_everyones_budget_and_the_operator_is_told_once() {
    let quotas = quotas(|quotas| narrow(&mut quotas.code_guess, "everyone", 6));
    let backstage = Backstage::new(&Options { quotas, ..Options::default() });
    let routes = backstage.routes().await;
    let (application, mut told) = (&backstage.http.application, ToldOfLimits::default());
    let address = |number: u32| format!("203.0.{number}.1");
    let mut refused = 0;
    for number in 1..10 {
        assert_eq!(sign_up(&phone(number)).from(&address(number)).send(&routes).await.status, 200);
        let code = backstage.received(&phone(number)).await.unwrap();
        let guess = || confirm(&phone(number), wrong(&code)).from(&address(number));
        assert_eq!(guess().send(&routes).await.status, 400, "the first");
        refused += u32::from(guess().send(&routes).await.status == 429);
        let news = application.watch_limits(&mut told).await.unwrap();
        assert_eq!(news, if number == 6 { vec![Step::CodeGuess] } else { Vec::new() }, "after {number}");
    }
    assert_eq!(refused, 3, "each address and each number had made one guess");
    // Who has just got a code is not kept waiting by them.
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn guesses_at_reset_codes_are_guesses_at_codes() {
    let quotas = quotas(|quotas| narrow(&mut quotas.code_guess, "address", 1));
    let backstage = Backstage::new(&Options { quotas, ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
    for number in [PHONE, "+447400000009"] {
        backstage.clock.advance(Duration::from_hours(24));
        assert_eq!(ask_reset(number).send(&routes).await.status, 200);
        let code = backstage.received(number).await;
        let wrong = wrong(code.as_deref().unwrap_or_default());
        for status in [400, 400, 429] {
            assert_eq!(check_reset(number, wrong).send(&routes).await.status, status, "{number}");
        }
    }
}

#[actix_web::test]
async fn a_device_that_was_good_signs_in_whatever_strangers_have_spent() {
    let quotas = quotas(|quotas| narrow(&mut quotas.password_guess, "everyone", 1));
    let backstage = Backstage::new(&Options { quotas, ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
    let password = crate::harness::PASSWORD;
    assert_eq!(sign_in(&phone(1), password).from("198.51.100.1").send(&routes).await.status, 400);
    assert_eq!(sign_in(PHONE, password).from("203.0.113.1").send(&routes).await.status, 429);
    assert_eq!(sign_in(PHONE, password).send(&routes).await.status, 200);
}
