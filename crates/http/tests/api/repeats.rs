//! Each step once more, because its answer was lost: without a key, one after the other and at once, over fakes.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Answer, Backstage, Options, PASSWORD, PHONE, change_password, get, overtaken, registered, sign_in,
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
