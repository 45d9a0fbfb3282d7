//! What happens when the money is spent, over fakes.

use std::time::Duration;

use serde_json::json;
use vestibule_domain::spending::{Budget, Ceiling, Money, Prices};

use crate::harness::{Backstage, Options, PHONE, ask_reset, confirm, resend, sign_up};

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

#[actix_web::test]
async fn at_the_ceiling_nobody_new_gets_a_message_and_customers_do() {
    let backstage = Backstage::new(&Options { spending: five_messages(), ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
    for number in 1..4 {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
    }
    let refused = sign_up(&phone(4)).send(&routes).await;
    assert_eq!((refused.status, refused.json()["errorId"].clone()), (429, json!(167)));
    assert_eq!(refused.header("retry-after"), Some("3600"));
    assert_eq!(backstage.received(&phone(4)).await, None);
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(resend(&phone(1)).send(&routes).await.status, 429);
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    assert!(backstage.received(PHONE).await.is_some());
    backstage.clock.advance(Duration::from_mins(59));
    assert_eq!(sign_up(&phone(4)).send(&routes).await.status, 200);
}

#[actix_web::test]
async fn an_empty_purse_does_not_tell_who_has_an_account() {
    let backstage = Backstage::new(&Options { spending: five_messages(), ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
    // A request that sends nothing costs nothing.
    for number in 1..7 {
        assert_eq!(ask_reset(&phone(number)).send(&routes).await.status, 200);
    }
    for number in 11..14 {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, 200);
    }
    assert_eq!(ask_reset(PHONE).send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(1));
    let [known, unknown] = [PHONE, &phone(1)].map(ask_reset);
    let (known, unknown) = (known.send(&routes).await, unknown.send(&routes).await);
    assert_eq!((known.status, known.header("retry-after")), (429, Some("3540")));
    assert_eq!(known.shown(), unknown.shown());
}

#[actix_web::test]
async fn a_concealed_number_is_refused_like_any_other_and_costs_what_it_is_sent() {
    let options = Options { conceal: true, spending: five_messages(), ..Options::default() };
    let backstage = Backstage::new(&options);
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
    // The owner is told once.
    for _ in 0..2 {
        backstage.clock.advance(Duration::from_mins(1));
        assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    }
    for (number, status) in [(1, 200), (2, 200), (3, 429)] {
        assert_eq!(sign_up(&phone(number)).send(&routes).await.status, status);
    }
    backstage.clock.advance(Duration::from_mins(1));
    let (used, unused) = (sign_up(PHONE).send(&routes).await, sign_up(&phone(3)).send(&routes).await);
    assert_eq!(used.status, 429);
    assert_eq!(used.shown(), unused.shown());
}
