//! With `registration.conceal_accounts` nothing that a stranger does tells a number with a past from a fresh one.
//!
//! There are two services, which differ in the number's past and in nothing else: in the second it is another's. The same steps are
//! taken in both at the same moments, and each must be answered alike, charge the same limits and queue as many messages.

use std::time::Duration;

use actix_web::http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;
use vestibule_domain::limits::{self, Unit};
use vestibule_domain::spending::{Budget, Ceiling, Money, Prices, Purse, Spend, Unsent, Window};
use vestibule_domain::{ClientAddress, Origin, PhoneNumber, Standing};
use vestibule_port_security::Clock as _;
use vestibule_port_storage::{Changes, Storage as _};

use crate::harness::{
    Answer, Backstage, Call, Options, PASSWORD, PHONE, ask_reset, call, check_reset, confirm, erase, quotas,
    resend, reset, sign_in, sign_up,
};

/// What has become of the number.
#[derive(Debug, Clone, Copy)]
enum Past {
    Opened { seconds_ago: u64 },
    Blocked,
    Erased,
}

/// What a stranger does, and from where.
#[derive(Debug, Clone)]
struct Deed {
    step: Step,
    from: From,
    seconds_later: u64,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    SignUp,
    Resend,
    Confirm,
    /// What is no code at all.
    ConfirmNothing,
    /// By the `registrationId` of the last sign-up.
    ConfirmNamed,
    RequestReset,
    CheckReset,
    Reset,
    /// With a wrong password.
    SignIn,
}

#[derive(Debug, Clone, Copy)]
enum From {
    /// The address that the owner registered from, too.
    OwnersNetwork,
    OwnersNetworkWithFingerprint,
    Elsewhere,
}

impl From {
    fn of(self, call: Call) -> Call {
        match self {
            Self::OwnersNetwork => call.from("192.0.2.1"),
            Self::OwnersNetworkWithFingerprint => call.from("192.0.2.1").header("x-fingerprint", "tablet"),
            Self::Elsewhere => call.from("203.0.113.9"),
        }
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    let step = prop_oneof![
        3 => Just(Step::SignUp),
        2 => Just(Step::Resend),
        3 => Just(Step::Confirm),
        1 => Just(Step::ConfirmNothing),
        1 => Just(Step::ConfirmNamed),
        2 => Just(Step::RequestReset),
        2 => Just(Step::CheckReset),
        1 => Just(Step::Reset),
        2 => Just(Step::SignIn),
    ];
    let from = prop_oneof![
        Just(From::OwnersNetwork),
        Just(From::OwnersNetworkWithFingerprint),
        Just(From::Elsewhere)
    ];
    let later = prop_oneof![4 => Just(0), 2 => 1..70_u64, 1 => 500..1000_u64, 1 => 1_000..90_000_u64];
    (step, from, later).prop_map(|(step, from, seconds_later)| Deed { step, from, seconds_later })
}

fn past() -> impl Strategy<Value = Past> {
    prop_oneof![
        Just(Past::Opened { seconds_ago: 0 }),
        Just(Past::Opened { seconds_ago: 100 }),
        Just(Past::Opened { seconds_ago: 100_000 }),
        Just(Past::Blocked),
        Just(Past::Erased),
    ]
}

/// How many of the thousand messages are paid: none, all that newcomers may have, all of them, or up to five less.
fn spent() -> impl Strategy<Value = u64> {
    let near = |ceiling: u64| (0..6_u64).prop_map(move |left| ceiling - left);
    prop_oneof![1 => Just(0), 2 => near(800), 2 => near(1000)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_stranger_does_a_number_with_a_past_is_answered_as_a_fresh_one(
        past in past(),
        spent in spent(),
        guesses in 0..9_u32,
        deeds in proptest::collection::vec(deed(), 1..40),
    ) {
        actix_web::rt::System::new().block_on(walk(past, spent, guesses, &deeds))?;
    }
}

/// Takes the steps in both services.
async fn walk(past: Past, spent: u64, guesses: u32, deeds: &[Deed]) -> Result<(), TestCaseError> {
    // What work takes is not measured, and what is waited for is: neither of them may tell.
    tokio::time::pause();
    let quotas = quotas(|quotas| {
        quotas.sign_up.address.burst = 6;
        quotas.resend.address.burst = 8;
        quotas.code_guess.address.burst = 8;
    });
    let spending = a_thousand_messages();
    let options = || Options { conceal: true, quotas, spending: spending.clone(), ..Options::default() };
    let service = || Backstage::new(&options());
    let (known, fresh) = (service(), service());
    let routes = (known.routes().await, fresh.routes().await);
    live(&known, past, PHONE).await;
    live(&fresh, past, "+447400000003").await;
    for backstage in [&known, &fresh] {
        spend(backstage, Money::from_micros(spent)).await;
        guess_elsewhere(backstage, guesses).await;
    }
    let before = known.events(PHONE).await.len();
    let mut named = (Value::Null, Value::Null);
    for (at, Deed { step, from, seconds_later }) in deeds.iter().enumerate() {
        for backstage in [&known, &fresh] {
            backstage.clock.advance(Duration::from_secs(*seconds_later));
        }
        let asked = Instant::now();
        let from = match (step, from) {
            // There the owner, whose app names no device, is known.
            (Step::SignIn, From::OwnersNetwork) => From::OwnersNetworkWithFingerprint,
            (_, from) => *from,
        };
        let of_known = from.of(make(*step, &named.0)).send(&routes.0).await;
        let after_known = asked.elapsed();
        let asked = Instant::now();
        let of_fresh = from.of(make(*step, &named.1)).send(&routes.1).await;
        let after_fresh = asked.elapsed();
        prop_assert_eq!(told(&of_known), told(&of_fresh), "step {}", at);
        prop_assert_eq!(after_known, after_fresh, "time of step {}", at);
        prop_assert!(after_known >= Duration::from_millis(50), "step {} is answered at once", at);
        for (named, answer) in [(&mut named.0, &of_known), (&mut named.1, &of_fresh)] {
            if let Some(id) = answer.json().get("registrationId") {
                *named = id.clone();
            }
        }
        prop_assert_eq!(known.queued(PHONE).await, fresh.queued(PHONE).await, "messages of step {}", at);
    }
    let since = known.events(PHONE).await.len() - before;
    prop_assert_eq!(since, fresh.events(PHONE).await.len(), "what is on record");
    Ok(())
}

/// An hour has more messages than any walk, with a fifth kept for customers.
fn a_thousand_messages() -> Budget {
    let hour = Some(Money::from_micros(1000));
    let prices = Prices { otherwise: Money::from_micros(1), ..Prices::default() };
    Budget { prices, all: Ceiling { hour, day: None }, reserve_percent: 20, ..Budget::default() }
}

/// Lets as much be spent in the present hour, whatever was before.
async fn spend(backstage: &Backstage, amount: Money) {
    let (now, window) = (backstage.clock.now(), Window::Hour);
    let already = backstage.storage.spent(&[Purse::All], now).await.unwrap();
    let already = already.first().map_or(Money::ZERO, |spent| spent.amount);
    let spend = Spend {
        purse: Purse::All,
        window,
        start: window.start(now),
        amount: amount.less(already),
        unsent: Unsent::Returned,
        ceiling: Money::from_micros(1000),
        rest: window.rest(now),
    };
    backstage.storage.commit(Changes { spends: vec![spend], ..Changes::default() }).await.unwrap();
}

/// Takes as many guesses at the codes of other numbers, from each of the two networks.
async fn guess_elsewhere(backstage: &Backstage, guesses: u32) {
    let (application, now) = (&backstage.http.application, backstage.clock.now());
    for network in ["192.0.2.1", "203.0.113.9"] {
        let address = ClientAddress::of(network.parse().unwrap());
        let origin = Origin { fingerprint: None, address };
        let quotas = &application.settings.quotas;
        for _ in 0..guesses {
            let charges = quotas.charges(limits::Step::CodeGuess, &origin, Unit::Taken, now);
            backstage.storage.commit(Changes { charges, ..Changes::default() }).await.unwrap();
        }
    }
}

/// Gives the number its past.
async fn live(backstage: &Backstage, past: Past, phone: &str) {
    let routes = backstage.routes().await;
    assert_eq!(sign_up(phone).send(&routes).await.status, 200);
    let code = backstage.received(phone).await.unwrap();
    let token = confirm(phone, &code).send(&routes).await.text_of("access_token");
    match past {
        Past::Opened { seconds_ago } => backstage.clock.advance(Duration::from_secs(seconds_ago)),
        Past::Blocked => {
            let application = &backstage.http.application;
            let owner = application.user_of(&PhoneNumber::parse(phone).unwrap()).await.unwrap();
            application.set_standing(owner, Standing::Blocked).await.unwrap();
        }
        Past::Erased => assert_eq!(erase(&token, PASSWORD).send(&routes).await.status, 200),
    }
}

fn make(step: Step, named: &Value) -> Call {
    match step {
        Step::SignUp => sign_up(PHONE),
        Step::Resend => resend(PHONE),
        Step::Confirm => confirm(PHONE, "000000"),
        Step::ConfirmNothing => confirm(PHONE, "banana"),
        Step::ConfirmNamed => {
            let body = json!({ "phone": PHONE, "smsCode": "000000", "registrationId": named });
            call(Method::POST, "/v2/mobile/phone/confirm").json(&body)
        }
        Step::RequestReset => ask_reset(PHONE),
        Step::CheckReset => check_reset(PHONE, "000000"),
        Step::Reset => reset(PHONE, "000000", PASSWORD),
        Step::SignIn => sign_in(PHONE, "wrong-horse-7"),
    }
}

/// All of the answer but what is another each time.
fn told(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| name != "x-request-id");
    headers.sort();
    let mut body = answer.json();
    if let Some(id) = body.get_mut("registrationId") {
        *id = json!(id.as_str().map(str::len));
    }
    (answer.status, headers, body)
}

#[actix_web::test]
async fn the_owner_of_a_concealed_number_is_told_once_a_day() {
    let backstage = Backstage::new(&Options { conceal: true, ..Options::default() });
    let routes = backstage.routes().await;
    live(&backstage, Past::Opened { seconds_ago: 0 }, PHONE).await;
    let mut told = Vec::new();
    for hour in 0..72_u64 {
        let stranger = format!("203.0.113.{hour}");
        sign_up(PHONE).from(&stranger).send(&routes).await;
        resend(PHONE).from(&stranger).send(&routes).await;
        if let Some(kind) = backstage.received(PHONE).await {
            assert_eq!(kind, "already_registered");
            told.push(hour);
        }
        backstage.clock.advance(Duration::from_hours(1));
    }
    assert_eq!(told, [0, 24, 48]);
}
