//! What becomes of sign-ups where too few codes come back, over fakes.

use std::time::Duration;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use futures_util::future::join;
use serde_json::json;
use time::UtcDateTime;
use vestibule_domain::pumping::{HeldCodes, Mode, PumpingGuard, Reason};
use vestibule_port_storage::{Page, Storage as _};

use crate::harness::{Answer, Backstage, Options, PASSWORD, PHONE, confirm, pumping_guard, resend, sign_up};

/// One of ten thousand neighbours.
fn neighbour(number: u32) -> String {
    format!("+44740010{number:04}")
}

/// A number of another range of the same country.
fn stranger(number: u32) -> String {
    format!("+44740110{number:04}")
}

/// Of ten of a range: these, and two from the reserve, as all come from one block.
const ALL_THAT_PASS: usize = 12;

/// Of the neighbours, ten may not confirm within a day.
fn ten_of_a_range(mode: Mode) -> PumpingGuard {
    pumping_guard(|guard| {
        guard.mode = mode;
        guard.unconfirmed_per_range = 10;
    })
}

fn backstage(pumping: PumpingGuard) -> Backstage {
    Backstage::new(&Options { pumping, ..Options::default() })
}

/// Signs so many neighbours up; how many got through.
async fn pump<B: MessageBody>(
    routes: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    numbers: std::ops::Range<u32>,
) -> (usize, Option<Answer>) {
    let (mut passed, mut refused) = (0, None);
    for number in numbers {
        let answer = sign_up(&neighbour(number)).send(routes).await;
        match answer.status {
            200 => passed += 1,
            _ => refused = Some(answer),
        }
    }
    (passed, refused)
}

async fn held(backstage: &Backstage) -> Vec<HeldCodes> {
    backstage.http.application.record_held_back().await.unwrap();
    let page = Page { since: UtcDateTime::UNIX_EPOCH, after: None, limit: 1000 };
    backstage.storage.held_codes(page).await.unwrap().into_iter().map(|(_, held)| held).collect()
}

#[actix_web::test]
async fn a_range_whose_codes_do_not_come_back_is_closed_and_its_neighbours_are_not() {
    let backstage = backstage(ten_of_a_range(Mode::Enforce));
    let routes = backstage.routes().await;
    let (passed, refused) = pump(&routes, 0..200).await;
    assert_eq!(passed, ALL_THAT_PASS);
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.json()["errorId"].clone()), (429, json!(167)));
    assert_eq!(sign_up(&stranger(1)).send(&routes).await.status, 200);
    let held = held(&backstage).await;
    assert_eq!(held.iter().map(|held| held.count).sum::<u32>(), 188);
    assert!(held.iter().all(|held| held.enforced && held.limit.to_string() == "code:range:44740010"));
    assert!(held.iter().any(|held| held.reason == Reason::Stopped));
}

#[actix_web::test]
async fn who_asks_from_a_block_that_took_no_part_gets_in_where_a_range_is_closed() {
    let backstage = backstage(ten_of_a_range(Mode::Enforce));
    let routes = backstage.routes().await;
    assert_eq!(pump(&routes, 0..200).await.0, ALL_THAT_PASS);
    // The code, and one that is sent again.
    let her = neighbour(9999);
    assert_eq!(sign_up(&her).from("198.51.100.7").send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(resend(&her).from("198.51.100.7").send(&routes).await.status, 200);
    // Her neighbour in the house does not, but may come back soon: it may open at any time.
    let refused = sign_up(&neighbour(9998)).from("198.51.100.8").send(&routes).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("900")));
    let code = backstage.received(&her).await.unwrap();
    assert_eq!(confirm(&her, &code).from("203.0.113.9").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn who_passed_before_a_range_was_closed_is_borne_by_the_reserve() {
    let backstage = backstage(ten_of_a_range(Mode::Enforce));
    let routes = backstage.routes().await;
    let pause = backstage.hasher.pause_at(PASSWORD);
    let her = neighbour(9999);
    let signing_up = sign_up(&her).from("198.51.100.7").send(&routes);
    let closing = async {
        pause.reached().await;
        let passed = pump(&routes, 0..200).await.0;
        pause.end();
        passed
    };
    let (answer, passed) = join(signing_up, closing).await;
    assert_eq!((answer.status, passed), (200, ALL_THAT_PASS));
}

#[actix_web::test]
async fn it_is_slowed_before_it_is_stopped() {
    let backstage = backstage(pumping_guard(|guard| guard.unconfirmed_per_range = 400));
    let routes = backstage.routes().await;
    let (passed, refused) = pump(&routes, 0..200).await;
    assert_eq!((passed, refused.is_some()), (200, false));
    let (passed, refused) = pump(&routes, 200..400).await;
    assert!((50..190).contains(&passed), "{passed}");
    assert_eq!(refused.unwrap().header("retry-after"), Some("60"));
    assert!(held(&backstage).await.iter().all(|held| held.reason == Reason::Slowed));
}

#[actix_web::test]
async fn it_opens_again_where_the_few_that_are_let_through_come_back() {
    let backstage = backstage(ten_of_a_range(Mode::Enforce));
    let routes = backstage.routes().await;
    assert_eq!(pump(&routes, 0..200).await.0, ALL_THAT_PASS);
    let mut number = 200;
    for _ in 0..4 {
        backstage.clock.advance(Duration::from_hours(3));
        assert!(number < 400, "it does not open");
        let passed = loop {
            let phone = neighbour(number);
            number += 1;
            if sign_up(&phone).send(&routes).await.status == 200 {
                break phone;
            }
        };
        let code = backstage.received(&passed).await.unwrap();
        assert_eq!(confirm(&passed, &code).send(&routes).await.status, 200);
    }
    assert_eq!(pump(&routes, 500..505).await.0, 5);
}

#[actix_web::test]
async fn codes_that_come_back_keep_it_open_whoever_had_to_ask_twice() {
    let backstage = backstage(ten_of_a_range(Mode::Enforce));
    let routes = backstage.routes().await;
    for number in 0..100 {
        let phone = neighbour(number);
        assert_eq!(sign_up(&phone).send(&routes).await.status, 200, "{number}");
        backstage.clock.advance(Duration::from_mins(1));
        assert_eq!(resend(&phone).send(&routes).await.status, 200, "{number}");
        let code = backstage.received(&phone).await.unwrap();
        assert_eq!(confirm(&phone, &code).send(&routes).await.status, 200, "{number}");
    }
    let page = Page { since: UtcDateTime::UNIX_EPOCH, after: None, limit: 1000 };
    let sent = backstage.storage.sent_codes(page).await.unwrap();
    assert_eq!((sent.len(), sent.iter().filter(|code| code.confirmed_at.is_some()).count()), (200, 200));
    assert!(held(&backstage).await.is_empty());
}

#[actix_web::test]
async fn a_code_that_is_sent_again_is_held_back_too() {
    let backstage = backstage(pumping_guard(|guard| guard.unconfirmed_per_block = 1));
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(2));
    let refused = resend(PHONE).send(&routes).await;
    assert_eq!((refused.status, refused.json()["errorId"].clone()), (429, json!(167)));
    assert_eq!(held(&backstage).await[0].limit.to_string(), "code:block:192.0.2.0");
}

#[actix_web::test]
async fn who_only_observes_refuses_nobody_and_records_the_same() {
    let backstage = backstage(ten_of_a_range(Mode::Observe));
    let routes = backstage.routes().await;
    assert_eq!(pump(&routes, 0..90).await.0, 90);
    let would_be = held(&backstage).await;
    let objections: u32 = would_be.iter().map(|held| held.count).sum();
    assert!((78..=82).contains(&objections), "{objections}");
    assert!(would_be.iter().all(|held| !held.enforced));
    // Nor is anybody from elsewhere objected to, by a rule that would let him pass.
    assert_eq!(sign_up(&neighbour(95)).from("198.51.100.7").send(&routes).await.status, 200);
    assert_eq!(held(&backstage).await.len(), would_be.len());
    let code = backstage.received(&neighbour(89)).await.unwrap();
    assert_eq!(confirm(&neighbour(89), &code).send(&routes).await.status, 200);
    // What came back is not lost on who observes: most of the next would pass.
    let before = would_be.len();
    assert_eq!(sign_up(&neighbour(90)).send(&routes).await.status, 200);
    let stopped = held(&backstage).await.into_iter().skip(before).find(|held| held.reason == Reason::Stopped);
    assert_eq!(stopped, None);
}

#[actix_web::test]
async fn a_guard_that_is_off_keeps_nothing() {
    let backstage = backstage(ten_of_a_range(Mode::Off));
    let routes = backstage.routes().await;
    assert_eq!(pump(&routes, 0..100).await.0, 100);
    assert!(held(&backstage).await.is_empty());
    let page = Page { since: UtcDateTime::UNIX_EPOCH, after: None, limit: 1000 };
    assert!(backstage.storage.sent_codes(page).await.unwrap().is_empty());
}

#[actix_web::test]
async fn a_concealed_number_meets_the_guard_as_others_do() {
    let pumping = pumping_guard(|guard| guard.unconfirmed_per_range = 1);
    let backstage = Backstage::new(&Options { conceal: true, pumping, ..Options::default() });
    let routes = backstage.routes().await;
    assert_eq!(sign_up(PHONE).send(&routes).await.status, 200);
    let code = backstage.received(PHONE).await.unwrap();
    assert_eq!(confirm(PHONE, &code).send(&routes).await.status, 200);
    backstage.clock.advance(Duration::from_mins(5));
    // What the client's block may take of the reserve is used.
    assert_eq!(pump(&routes, 0..50).await.0, 3);
    let unknown = stranger(1);
    for phone in [PHONE, &unknown] {
        assert_eq!(sign_up(phone).send(&routes).await.status, 200);
    }
    backstage.clock.advance(Duration::from_mins(5));
    let (used, unused) = (resend(PHONE).send(&routes).await, resend(&unknown).send(&routes).await);
    assert_eq!(used.status, 429);
    assert_eq!(used.shown(), unused.shown());
}
