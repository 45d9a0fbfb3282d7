//! What happens when the money is spent, over fakes.

use std::time::Duration;

use actix_web::http::Method;
use serde_json::json;
use vestibule_domain::spending::{Budget, Ceiling, Money, Prices, Purse};
use vestibule_port_security::Clock as _;
use vestibule_port_storage::Storage as _;

use crate::harness::{
    Backstage, Call, Options, PASSWORD, PHONE, TEST_CODE, TEST_PHONE, add_email, ask_reset, call,
    change_password, confirm, logged, refresh, resend, reset, sign_in, sign_up,
};

fn phone(number: u32) -> String {
    format!("+4474000001{number:02}")
}

/// An hour has five messages, of which newcomers get four.
fn five_messages() -> Budget {
    let hour = Some(Money::from_micros(5_000_000));
    Budget {
        prices: Prices { otherwise: Money::from_micros(1_000_000), ..Prices::default() },
        all: Ceiling { hour, day: None },
        reserve_percent: 20,
        ..Budget::default()
    }
}

/// From the device that the account was opened with.
fn hers(call: Call) -> Call {
    call.header("x-fingerprint", "hers")
}

#[actix_web::test]
async fn at_the_ceiling_nobody_new_gets_a_message_and_customers_do() {
    let backstage = Backstage::new(&Options { spending: five_messages(), ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(hers(sign_up(PHONE)).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(hers(confirm(PHONE, &code)).send(&routes).await.status, 200);
    for number in 1..4 {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
    }
    let refused = sign_up(&phone(4)).send(&routes).await;
    assert_eq!((refused.status, refused.json()["errorId"].clone()), (429, json!(167)));
    assert_eq!(refused.header("retry-after"), Some("3600"));
    assert_eq!(backstage.received(&phone(4)).await, None);
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(resend(&phone(1)).send(&routes).await.status, 429);
    // Half of what is kept is for devices that the number knows.
    let [unnamed, unknown] = [ask_reset(PHONE), ask_reset(PHONE).header("x-fingerprint", "new")];
    for claimant in [unnamed, unknown] {
        assert_eq!(claimant.send(&routes).await.status, 429);
    }
    assert_eq!(hers(ask_reset(PHONE)).send(&routes).await.status, 200);
    assert!(backstage.received(PHONE).await.is_some());
    backstage.clock.advance(Duration::from_mins(59));
    assert_eq!(sign_up(&phone(4)).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn a_burst_is_told_of_before_it_is_refused_and_so_is_the_end_of_the_reserve() {
    let hour = Some(Money::from_micros(25_000_000));
    let spending = Budget { all: Ceiling { hour, day: None }, ..five_messages() };
    let backstage = Backstage::new(&Options { spending, ..Options::default() });
    let routes = backstage.routes().await;
    let (log, _logs) = logged();
    let mut told = Vec::new();
    assert_eq!(hers(sign_up(PHONE)).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(hers(confirm(PHONE, &code)).send(&routes).await.status, 200);
    // Nobody looks meanwhile; as many as there are for newcomers, and one more.
    for number in 1..=20 {
        let status = sign_up(&phone(number)).send(&routes).await.status;
        assert_eq!(status, if number < 20 { 200 } else { 429 });
        for line in log.news("newcomers may cost") {
            let (_, share) = line.split_once("WARN").unwrap();
            told.push((
                number,
                ["50", "80", "95"].into_iter().find(|of| share.contains(&format!("{of} per cent"))),
            ));
        }
    }
    assert_eq!(told, [(10, Some("50")), (16, Some("80")), (19, Some("95"))]);
    for messages in 21..=25 {
        assert_eq!(log.news("the reserve is used up"), [""; 0]);
        backstage.clock.advance(Duration::from_mins(1));
        assert_eq!(hers(ask_reset(PHONE)).send(&routes).await.status, 200);
        assert_eq!(messages_spent(&backstage).await, messages);
    }
    for lines in [1, 0] {
        assert_eq!(sign_up(&phone(20)).send(&routes).await.status, 429);
        assert_eq!(log.news("the reserve is used up").len(), lines);
    }
    backstage.http.application.watch_spending().await.unwrap();
    assert_eq!(log.news("WARN"), [""; 0], "the look tells nothing twice");
}

#[actix_web::test]
async fn an_empty_purse_does_not_tell_who_has_an_account() {
    let backstage = Backstage::new(&Options { spending: five_messages(), ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(hers(sign_up(PHONE)).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(hers(confirm(PHONE, &code)).send(&routes).await.status, 200);
    // Nobody empties a purse by requests that send nothing.
    for number in 1..7 {
        assert_eq!(ask_reset(&phone(number)).send(&routes).await.status, 200);
    }
    for number in 11..14 {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
    }
    assert_eq!(hers(ask_reset(PHONE)).send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(1));
    let [known, unknown] = [PHONE, &phone(1)].map(ask_reset);
    let (known, unknown) = (known.send(&routes).await, unknown.send(&routes).await);
    assert_eq!((known.status, known.header("retry-after")), (429, Some("3540")));
    assert_eq!(known.shown(), unknown.shown());
}

#[actix_web::test]
async fn the_last_message_of_a_ceiling_does_not_tell_who_has_a_concealed_account() {
    let after_a_reset_of = async |asked: &str| {
        let options = Options { conceal: true, spending: five_messages(), ..Options::default() };
        let backstage = Backstage::new(&options);
        let routes = backstage.routes().await;
        assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
        let code = backstage.received(PHONE).await.unwrap();
        assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
        for number in 1..3 {
            assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
        }
        // One message is left to newcomers.
        assert_eq!(ask_reset(asked).send(&routes).await.status, 200);
        // What is never to be sent is dropped meanwhile.
        backstage.received(asked).await;
        let answer = sign_up(&phone(3)).send(&routes).await;
        (answer.status, answer.header("retry-after").map(str::to_owned), messages_spent(&backstage).await)
    };
    let of_known = after_a_reset_of(PHONE).await;
    assert_eq!(of_known, (429, Some("3600".to_owned()), 4));
    assert_eq!(after_a_reset_of(&phone(9)).await, of_known);
}

#[actix_web::test]
async fn a_concealed_number_is_refused_like_any_other_and_costs_as_much() {
    let options = Options { conceal: true, spending: five_messages(), ..Options::default() };
    let backstage = Backstage::new(&options);
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
    // The owner is told once, and pays as if it were each time.
    for _ in 0..2 {
        backstage.clock.advance(Duration::from_mins(1));
        assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    }
    for (number, status) in [(1, 200), (2, 429), (3, 429)] {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, status);
    }
    backstage.clock.advance(Duration::from_mins(1));
    let (used, unused) = (sign_up(PHONE).send(&routes).await, sign_up(&phone(3)).send(&routes).await);
    assert_eq!(used.status, 429);
    assert_eq!(used.shown(), unused.shown());
}

/// A service whose hasher is busy, with the same storage: who is hashed for is answered 503.
fn without_hasher(options: &Options) -> Backstage {
    let Options { conceal, spending, storage, .. } = options;
    let (spending, storage) = (spending.clone(), storage.clone());
    Backstage::new(&Options { busy: true, conceal: *conceal, spending, storage, ..Options::default() })
}

#[actix_web::test]
async fn who_finds_no_money_is_refused_before_anything_is_hashed() {
    for conceal in [false, true] {
        let options = Options { conceal, spending: five_messages(), ..Options::default() };
        let (backstage, busy) = (Backstage::new(&options), without_hasher(&options));
        let (routes, busy_routes) = (backstage.routes().await, busy.routes().await);
        assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
        let code = backstage.received(PHONE).await.unwrap();
        assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
        for number in 1..4 {
            assert_eq!(sign_up(&phone(number + 50)).send(&busy_routes).await.status, 503, "there is money");
            assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
        }
        let refused = sign_up(&phone(4)).send(&busy_routes).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("3600")));
        if conceal {
            assert_eq!(sign_up(PHONE).send(&busy_routes).await.shown(), refused.shown());
        } else {
            assert_eq!(sign_up(PHONE).send(&busy_routes).await.status, 403);
        }
        // A test number is sent nothing.
        assert_eq!(sign_up(TEST_PHONE).send(&busy_routes).await.status, 503);
    }
}

/// What was spent in the hour, in messages.
async fn messages_spent(backstage: &Backstage) -> u64 {
    let spent = backstage.storage.spent(&[Purse::All], backstage.clock.now()).await.unwrap();
    spent.iter().map(|spent| spent.amount.micros() / 1_000_000).sum()
}

const MAIL: &str = "anna@example.com";
const ANOTHER: &str = "another-horse-8";
const A_THIRD: &str = "a-third-horse-9";

/// A customer with a confirmed address; the refresh token.
async fn customer(backstage: &Backstage) -> (String, String) {
    let routes = backstage.routes().await;
    assert_eq!(hers(sign_up(PHONE)).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    let tokens = hers(confirm(PHONE, &code)).send(&routes).await;
    let token = tokens.text_of("access_token");
    assert_eq!(add_email(&token, MAIL).send(&routes).await.status, 200);
    let link = backstage.received(MAIL).await.unwrap();
    assert_eq!(call(Method::GET, &link).send(&routes).await.status, 200);
    (token, tokens.text_of("refresh_token"))
}

#[actix_web::test]
async fn a_notice_costs_what_a_message_costs_and_mail_nothing() {
    let backstage = Backstage::new(&Options { spending: five_messages(), ..Options::default() });
    let routes = backstage.routes().await;
    let (token, refresh_token) = customer(&backstage).await;
    assert_eq!(messages_spent(&backstage).await, 1);
    assert_eq!(change_password(&token, PASSWORD, ANOTHER).send(&routes).await.status, 200);
    assert_eq!(messages_spent(&backstage).await, 2);
    let next = refresh(&refresh_token).send(&routes).await.text_of("refresh_token");
    assert_eq!(refresh(&next).send(&routes).await.status, 200);
    assert_eq!(messages_spent(&backstage).await, 2);
    assert_eq!(refresh(&refresh_token).send(&routes).await.status, 400);
    assert_eq!(messages_spent(&backstage).await, 3, "the session was stolen");
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(reset(PHONE, &code, A_THIRD).send(&routes).await.status, 200);
    assert_eq!(messages_spent(&backstage).await, 5);
    for to in [PHONE, MAIL] {
        assert_eq!(backstage.received(to).await.as_deref(), Some("password_changed"), "{to}");
    }
}

#[actix_web::test]
async fn without_money_for_a_notice_what_it_tells_of_is_done_and_mail_tells_it() {
    let backstage = Backstage::new(&Options { spending: five_messages(), ..Options::default() });
    let routes = backstage.routes().await;
    let (token, refresh_token) = customer(&backstage).await;
    for number in 1..4 {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
    }
    assert_eq!(hers(ask_reset(PHONE)).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(messages_spent(&backstage).await, 5);

    assert_eq!(change_password(&token, PASSWORD, ANOTHER).send(&routes).await.status, 200);
    assert_eq!(sign_in(PHONE, PASSWORD).send(&routes).await.status, 400);
    assert_eq!(backstage.queued(PHONE).await, 0);
    assert_eq!(backstage.received(MAIL).await.as_deref(), Some("password_changed"));

    let next = refresh(&refresh_token).send(&routes).await.text_of("refresh_token");
    assert_eq!(refresh(&next).send(&routes).await.status, 200);
    assert_eq!(refresh(&refresh_token).send(&routes).await.status, 400);
    assert_eq!(call(Method::GET, "/v2/customer/profile").token(&token).send(&routes).await.status, 401);
    assert_eq!(backstage.queued(PHONE).await, 0);
    assert_eq!(backstage.received(MAIL).await.as_deref(), Some("session_stolen"));

    assert_eq!(reset(PHONE, &code, A_THIRD).send(&routes).await.status, 200);
    assert_eq!(sign_in(PHONE, A_THIRD).send(&routes).await.status, 200);
    assert_eq!(backstage.queued(PHONE).await, 0);
    assert_eq!(backstage.received(MAIL).await.as_deref(), Some("password_changed"));
    assert_eq!(messages_spent(&backstage).await, 5);
}

#[actix_web::test]
async fn a_test_account_is_told_nothing_by_sms_and_costs_nothing() {
    let backstage = Backstage::new(&Options { spending: five_messages(), ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(sign_up(TEST_PHONE).send(&routes).await.status, 200);
    let token = confirm(TEST_PHONE, TEST_CODE).send(&routes).await.text_of("access_token");
    assert_eq!(change_password(&token, PASSWORD, ANOTHER).send(&routes).await.status, 200);
    assert_eq!(messages_spent(&backstage).await, 0);
}

#[actix_web::test]
async fn an_account_causes_five_notices_by_sms_in_a_day_and_no_more() {
    let backstage = Backstage::new(&Options {
        spending: Budget {
            all: Ceiling { hour: Some(Money::from_micros(100_000_000)), day: None },
            ..five_messages()
        },
        ..Options::default()
    });
    let routes = backstage.routes().await;
    let (token, _) = customer(&backstage).await;
    let before = messages_spent(&backstage).await;
    let passwords: Vec<_> = (0..8).map(|number| format!("brown-Giraffe-{}", 70 + number)).collect();
    let mut current = PASSWORD;
    for new in &passwords {
        assert_eq!(change_password(&token, current, new).send(&routes).await.status, 200, "{new}");
        current = new;
    }
    assert_eq!(messages_spent(&backstage).await - before, 5);
}
