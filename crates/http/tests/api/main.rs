//! The wire, over fakes: every refusal as a snapshot, and what clients count on.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod answer_once;
mod coming_back;
mod concealment;
mod countries;
mod harness;
mod limits;
mod partners;
mod pumping;
mod repeats;
mod spending;
mod test_numbers;

use std::time::Duration;

use actix_web::http::Method;
use harness::{
    Backstage, Call, Options, PASSWORD, PHONE, add_email, call, callback, confirm, get, patch, quotas,
    resend, sign_up, wrong,
};
use insta::assert_snapshot;
use serde_json::{Value, json};
use vestibule_domain::{AttemptId, DeliveryState};
use vestibule_port_storage::Storage as _;

/// Signs up and confirms; the access token.
macro_rules! customer {
    ($backstage:expr, $routes:expr, $phone:expr) => {{
        assert_eq!(sign_up($phone).send(&$routes).await.status, 200);
        let code = $backstage.received($phone).await.unwrap();
        let confirmed = confirm($phone, &code).send(&$routes).await;
        confirmed.json()["access_token"].as_str().unwrap().to_owned()
    }};
}

macro_rules! refused {
    ($name:literal, $call:expr, $routes:expr) => {
        assert_snapshot!($name, $call.send(&$routes).await.shown())
    };
}

#[actix_web::test]
async fn the_five_steps() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let signed_up = sign_up(PHONE).send(&routes).await;
    assert_eq!((signed_up.status, signed_up.json()["result"].as_str()), (200, Some("ok")));
    assert_eq!((&signed_up.json()["expiresIn"], &signed_up.json()["resendIn"]), (&json!(600), &json!(60)));
    let code = backstage.received(PHONE).await.unwrap();
    let confirmed = confirm(PHONE, &code).send(&routes).await;
    let tokens = confirmed.json();
    assert_eq!(confirmed.header("cache-control"), Some("no-store"));
    assert_eq!(tokens["token_type"], "bearer");
    assert_eq!((&tokens["scope"], &tokens["expires_in"]), (&json!("read write"), &json!(900)));
    let token = tokens["access_token"].as_str().unwrap();
    assert_eq!(add_email(token, "anna@example.com").send(&routes).await.text, r#"{"result":"ok"}"#);
    let link = backstage.received("anna@example.com").await.unwrap();
    let path = link.as_str();
    for _ in 0..2 {
        assert_eq!(call(Method::GET, path).send(&routes).await.text, r#"{"result":"ok"}"#);
    }
    let details = json!({
        "firstName": " Anna ", "lastName": "Smith", "dateOfBirth": "1990-05-17", "residenceCountry": "gbr",
        "residenceCity": "London", "residenceStreet": "1 High Street", "residenceZipCode": "SW1A 1AA", "unknown": [1],
    });
    let before = get(token, "/v2/customer/kyc/data").send(&routes).await.json();
    assert_eq!(before["kycLevel"], "NONE");
    assert_eq!(before["missing"].as_array().unwrap().len(), 7);
    let patched = patch(token, &details).send(&routes).await;
    assert_eq!((patched.status, patched.text.as_str()), (204, ""));
    assert_snapshot!("kyc", get(token, "/v2/customer/kyc/data").send(&routes).await.text);
    let mut seen = get(token, "/v2/customer/profile").send(&routes).await.json();
    assert_eq!(seen["userId"], tokens["userId"]);
    // What is shown may be sent back.
    assert_eq!(patch(token, &seen).send(&routes).await.status, 204);
    seen["userId"] = json!("…");
    assert_snapshot!("profile", seen.to_string());
}

#[actix_web::test]
async fn every_refusal_of_a_sign_up() {
    let backstage = Backstage::new(&Options {
        quotas: quotas(|quotas| quotas.sign_up.address.burst = 7),
        ..Options::default()
    });
    let routes = backstage.routes().await;
    let body = |body: &Value| call(Method::POST, "/v2/mobile/signup").json(body);
    refused!("422_phone", sign_up("+44123"), routes);
    refused!("422_phone_landline", sign_up("+442079460000"), routes);
    refused!("422_phone_missing", body(&json!({ "password": PASSWORD })), routes);
    refused!("422_phone_type", body(&json!({ "phone": 447_871_234_567_u64, "password": PASSWORD })), routes);
    refused!("422_password_type", body(&json!({ "phone": PHONE, "password": ["x"] })), routes);
    refused!("422_password_phone", body(&json!({ "phone": PHONE, "password": "07871234567" })), routes);
    refused!("422_password_empty", body(&json!({ "phone": PHONE, "password": "" })), routes);
    refused!("422_password_long", body(&json!({ "phone": PHONE, "password": "a7".repeat(5000) })), routes);
    refused!(
        "422_password_control",
        body(&json!({ "phone": PHONE, "password": "correct\u{7}horse-7" })),
        routes
    );
    refused!("0_phone_country", sign_up("+33612345678"), routes);
    let from = |origin: &str| sign_up(PHONE).header("x-fingerprint", origin);
    assert_eq!(from("a").send(&routes).await.status, 200);
    refused!("157_sign_up", from("a"), routes);
    // The first of an address has a place of its own, the others share.
    for (origin, seconds) in [("b", 0), ("c", 1), ("d", 0)] {
        backstage.clock.advance(Duration::from_secs(seconds));
        assert_eq!(from(origin).send(&routes).await.status, 200);
    }
    refused!("167_living_codes", from("e"), routes);
    for number in 0..3 {
        assert_eq!(sign_up(&format!("+44740000000{number}")).send(&routes).await.status, 200);
    }
    refused!("167_client", sign_up("+447400000009"), routes);
    let code = backstage.received("+447400000001").await.unwrap();
    assert_eq!(confirm("+447400000001", &code).send(&routes).await.status, 200);
    // A used number is refused before the limits are looked at.
    refused!("115", sign_up("+447400000001"), routes);
    refused!("115_de", sign_up("+447400000001").header("accept-language", "de-CH, en;q=0.5"), routes);

    let blocked = Backstage::new(&Options { client_country: Some("KP"), ..Options::default() });
    refused!("0_client_country", sign_up("nonsense"), blocked.routes().await);
}

#[actix_web::test]
async fn every_refusal_of_a_confirmation_or_resend() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    refused!("2_confirm", confirm(PHONE, "123456"), routes);
    refused!("2_resend", resend(PHONE), routes);
    refused!("422_confirm_phone", confirm("x", "123456"), routes);
    let no_code = call(Method::POST, "/v2/mobile/phone/confirm").json(&json!({ "phone": PHONE }));
    refused!("422_code_missing", no_code, routes);
    sign_up(PHONE).send(&routes).await;
    let code = backstage.received(PHONE).await.unwrap();
    let foreign = json!({ "phone": PHONE, "smsCode": code, "registrationId": "nonsense" });
    refused!(
        "117_foreign_registration",
        call(Method::POST, "/v2/mobile/phone/confirm").json(&foreign),
        routes
    );
    refused!("117_no_code_at_all", confirm(PHONE, "banana"), routes);
    for left in (0..4).rev() {
        let answer = confirm(PHONE, wrong(&code)).send(&routes).await;
        assert_eq!(answer.json()["data"]["attemptsLeft"], left);
    }
    refused!("119", confirm(PHONE, &code), routes);
    refused!("157_resend", resend(PHONE), routes);
    for _ in 0..4 {
        backstage.clock.advance(Duration::from_mins(1));
        assert_eq!(resend(PHONE).send(&routes).await.status, 200);
    }
    backstage.clock.advance(Duration::from_mins(1));
    refused!("167_resend", resend(PHONE), routes);
    backstage.clock.advance(Duration::from_mins(10));
    refused!("118", confirm(PHONE, &code), routes);
}

#[actix_web::test]
async fn every_refusal_about_an_address() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = customer!(backstage, routes, PHONE);
    let resend_email = |token: &str| call(Method::POST, "/v2/mobile/email/verify/resend").token(token);
    refused!("422_no_email", resend_email(&token), routes);
    refused!("422_email", add_email(&token, "nobody"), routes);
    let link_call = |link: &str| call(Method::GET, link);
    add_email(&token, "anna@example.com").send(&routes).await;
    let link = backstage.received("anna@example.com").await.unwrap();
    refused!("157_email", resend_email(&token), routes);
    let other_event = link.replace("event=email_confirmation", "event=password_reset");
    refused!("169_event", link_call(&other_event), routes);
    refused!("169_token", link_call(&format!("{link}x")), routes);
    refused!("169_empty", call(Method::GET, "/v2/mobile/email/confirm"), routes);
    // Replaced, its link confirms nothing.
    add_email(&token, "bea@example.com").send(&routes).await;
    refused!("169_replaced", link_call(&link), routes);
    let link = backstage.received("bea@example.com").await.unwrap();
    let other = customer!(backstage, routes, "+447400000002");
    add_email(&other, "BEA@example.com").send(&routes).await;
    let rival = backstage.received("bea@example.com").await.unwrap();
    assert_eq!(link_call(&link).send(&routes).await.status, 200);
    refused!("168_link", link_call(&rival), routes);
    refused!("168_add", add_email(&other, "bea@example.com"), routes);
    refused!("310_add", add_email(&token, "clara@example.com"), routes);
    refused!("310_resend", resend_email(&token), routes);
    for number in 0..2 {
        add_email(&other, &format!("d{number}@example.com")).send(&routes).await;
    }
    refused!("167_mails", add_email(&other, "e@example.com"), routes);
    let last = backstage.received("d1@example.com").await.unwrap();
    backstage.clock.advance(Duration::from_hours(25));
    refused!("170", link_call(&last), routes);
}

#[actix_web::test]
async fn every_refusal_about_a_profile() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = customer!(backstage, routes, PHONE);
    for (field, value) in [
        ("firstName", json!("")),
        ("firstName", json!("a\u{202e}b")),
        ("lastName", json!(5)),
        ("dateOfBirth", json!("2010-01-01")),
        ("dateOfBirth", json!("1990-02-30")),
        ("primaryCurrency", json!("EURO")),
        ("residenceCountry", json!("XX")),
        ("citizenshipCountry", json!("Atlantis")),
        ("residenceState", json!({})),
        ("residenceCity", json!("x".repeat(101))),
        ("residenceStreet", json!("\0")),
        ("residenceZipCode", json!("x".repeat(17))),
    ] {
        let mut body = json!({ "firstName": "Bea" });
        body[field] = value.clone();
        let answer = patch(&token, &body).send(&routes).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{value}");
        assert_eq!(answer.json()["errorId"], 422);
    }
    let seen = get(&token, "/v2/customer/profile").send(&routes).await.json();
    assert_eq!(seen.get("firstName"), None, "a refused patch changes nothing");
}

#[actix_web::test]
async fn who_is_not_signed_in_is_told_before_the_body_is_read() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = customer!(backstage, routes, PHONE);
    refused!("401", call(Method::PUT, "/v2/mobile/email/add").raw("application/json", "{nonsense"), routes);
    for (method, path) in [
        (Method::PUT, "/v2/mobile/email/add"),
        (Method::POST, "/v2/mobile/email/verify/resend"),
        (Method::PATCH, "/v2/customer/profile"),
        (Method::GET, "/v2/customer/profile"),
        (Method::GET, "/v2/customer/kyc/data"),
    ] {
        for value in ["", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "bearer fake-token-99"] {
            let answer = call(method.clone(), path).header("authorization", value).send(&routes).await;
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some("Bearer")),
                "{path} {value}"
            );
        }
    }
    backstage.clock.advance(Duration::from_mins(15));
    assert_eq!(get(&token, "/v2/customer/profile").send(&routes).await.status, 401);
}

#[actix_web::test]
async fn what_the_framework_would_refuse_has_the_same_shape() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let raw = |media_type: &str, body: &[u8]| call(Method::POST, "/v2/mobile/signup").raw(media_type, body);
    refused!("404", call(Method::GET, "/nowhere"), routes);
    refused!("405", call(Method::DELETE, "/v2/customer/profile"), routes);
    refused!("413", raw("application/json", &vec![b' '; 16 * 1024 + 1]), routes);
    refused!("415", raw("text/plain", b"{}"), routes);
    refused!("123", raw("application/json", b"{"), routes);
    let deep = "[".repeat(10_000);
    for body in [&b""[..], b"[]", b"null", b"\xff\xfe", br#"{"phone":"\ud800"}"#, b"{}{}", deep.as_bytes()] {
        let answer = raw("application/json", body).send(&routes).await;
        assert_eq!((answer.status, &answer.json()["errorId"]), (400, &json!(123)));
    }
    backstage.storage.take_down();
    for down in [sign_up(PHONE), confirm(PHONE, "123456"), resend(PHONE), call(Method::GET, "/health/ready")]
    {
        let answer = down.send(&routes).await;
        assert_eq!(answer.status, 503);
        assert_snapshot!("503", answer.shown());
    }
    assert_eq!(call(Method::GET, "/health/live").send(&routes).await.status, 200);
    backstage.storage.bring_up();
    assert_eq!(call(Method::GET, "/health/ready").send(&routes).await.status, 200);
}

#[actix_web::test]
async fn every_refusal_of_a_callback() {
    let silent = Backstage::new(&Options::default());
    refused!("404_no_callbacks", callback(b"delivered"), silent.routes().await);
    let backstage = Backstage::new(&Options { records: Some(true), ..Options::default() });
    let routes = backstage.routes().await;
    let signed = |body: &[u8]| callback(body).header("X-Gateway-Signature", "gateway");
    for body in [&b"delivered"[..], b"nothing"] {
        let answer = signed(body).send(&routes).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    refused!("9001", callback(b"delivered"), routes);
    refused!("9001_de", callback(b"delivered").header("accept-language", "de"), routes);
    refused!("123_callback", signed(b"nonsense"), routes);
    refused!("413_callback", signed(&vec![b' '; 16 * 1024 + 1]), routes);
    refused!("405_callback", call(Method::GET, "/callbacks/sms/gateway"), routes);
    for path in
        ["/callbacks/sms/other", "/callbacks/sms/Gateway", "/callbacks/sms/", "/callbacks/sms/gateway/x"]
    {
        assert_eq!(call(Method::POST, path).send(&routes).await.status, 404, "{path}");
    }
    let forgetful = Backstage::new(&Options { records: Some(false), ..Options::default() });
    refused!("503_callback", signed(b"delivered"), forgetful.routes().await);
}

#[actix_web::test]
async fn a_full_queue_of_passwords_is_told_at_once() {
    let backstage = Backstage::new(&Options { busy: true, ..Options::default() });
    refused!("503_busy", sign_up(PHONE), backstage.routes().await);
}

#[actix_web::test]
async fn codes_and_phones_are_read_as_people_write_them() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    sign_up("0044 (7871) 234-567").send(&routes).await;
    let code = backstage.received(PHONE).await.unwrap();
    let arabic: String =
        code.chars().map(|c| char::from_u32(0x660 + c.to_digit(10).unwrap()).unwrap()).collect();
    let body = json!({ "phone": "447871234567", "code": format!("  {arabic} ") });
    let confirmed = call(Method::POST, "/v2/mobile/phone/confirm").json(&body).send(&routes).await;
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
    // The same again, as autofill does: the same account.
    let again = confirm(PHONE, &code).send(&routes).await;
    assert_eq!(again.json()["userId"], confirmed.json()["userId"]);
    assert_ne!(again.json()["refresh_token"], confirmed.json()["refresh_token"]);
    backstage.clock.advance(Duration::from_mins(3));
    assert_eq!(confirm(PHONE, &code).send(&routes).await.json()["errorId"], 2);
}

#[actix_web::test]
async fn a_strangers_attempt_is_out_of_reach() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let owner = sign_up(PHONE).header("x-fingerprint", "owner").send(&routes).await.json();
    let code = backstage.received(PHONE).await.unwrap();
    sign_up(PHONE).header("x-fingerprint", "stranger").send(&routes).await;
    let guess = |from: &str, code: &str| confirm(PHONE, code).header("x-fingerprint", from);
    assert_eq!(guess("stranger", &code).send(&routes).await.json()["errorId"], 117);
    assert_eq!(guess("somebody", &code).send(&routes).await.json()["errorId"], 117);
    let body = json!({ "phone": PHONE, "smsCode": code, "registrationId": owner["registrationId"] });
    let confirmed =
        call(Method::POST, "/v2/mobile/phone/confirm").json(&body).from("203.0.113.9").send(&routes).await;
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
}

#[actix_web::test]
async fn a_resend_tells_what_became_of_the_message_before() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let signed_up = sign_up(PHONE).send(&routes).await.json();
    refused!("157_resend_queued", resend(PHONE), routes);
    backstage.received(PHONE).await.unwrap();
    let attempt = AttemptId::new(signed_up["registrationId"].as_str().unwrap().parse().unwrap());
    for state in [DeliveryState::Failed, DeliveryState::Delivered] {
        backstage.reported(state).await;
        let refused = resend(PHONE).send(&routes).await.json();
        assert_eq!(refused["data"]["delivery"], state.as_str());
    }
    backstage.clock.advance(Duration::from_mins(1));
    assert_snapshot!("resend_delivered", resend(PHONE).send(&routes).await.shown());
    // That was about the message before; the one that it queued counts from now on.
    assert_eq!(resend(PHONE).send(&routes).await.json()["data"]["delivery"], "queued");
    assert_eq!(backstage.storage.delivery(attempt).await.unwrap(), Some(DeliveryState::Queued));
}

#[actix_web::test]
async fn a_stranger_is_not_told_what_became_of_somebody_elses_message() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let own = sign_up(PHONE).header("x-fingerprint", "own").send(&routes).await.json();
    backstage.received(PHONE).await.unwrap();
    let from = |fingerprint: &str| resend(PHONE).header("x-fingerprint", fingerprint).from("203.0.113.9");
    let named = |id: &Value| {
        let body = json!({ "phone": PHONE, "registrationId": id });
        call(Method::POST, "/v2/mobile/phone/verify/resend").json(&body).from("203.0.113.9")
    };
    for (own, told) in [
        (from("own"), true),
        (named(&own["registrationId"]), true),
        (from("stranger"), false),
        (resend(PHONE).from("203.0.113.9"), false),
    ] {
        let refused = own.send(&routes).await;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["data"].get("delivery").is_some(), told, "{}", refused.text);
    }
    assert_eq!(named(&json!("nonsense")).send(&routes).await.json()["errorId"], 2);
    backstage.clock.advance(Duration::from_mins(1));
    assert_eq!(from("stranger").send(&routes).await.text, r#"{"result":"ok"}"#);
}

#[actix_web::test]
async fn the_document_can_be_read_in_a_browser_that_reaches_nobody_else() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let page = call(Method::GET, "/docs").send(&routes).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let quoted = |attribute: &str| {
        let values = page.text.split(attribute).skip(1);
        values.map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let files = [quoted("src=\""), quoted("href=\"")].concat();
    let is_of =
        |file: &String, kind: &str| std::path::Path::new(file).extension().is_some_and(|of| of == kind);
    assert!(["js", "css"].iter().all(|kind| files.iter().any(|file| is_of(file, kind))));
    for file in files {
        assert!(file.starts_with("docs/"), "{file}");
        if is_of(&file, "png") {
            continue;
        }
        assert_eq!(call(Method::GET, &format!("/{file}")).send(&routes).await.status, 200, "{file}");
    }
    let start = call(Method::GET, "/docs/swagger-initializer.js").send(&routes).await.text;
    assert!(start.contains(r#""url": "openapi.json""#), "{start}");
    assert_eq!(
        call(Method::GET, "/docs/index.html").send(&routes).await.status,
        404,
        "it would have no policy"
    );
    assert_eq!(call(Method::GET, "/docs/nothing.js").send(&routes).await.json()["systemId"], "core");
}

#[actix_web::test]
async fn a_device_that_names_itself_in_every_request_is_known_by_that() {
    for device in ["dev-1", "Zo\u{eb}"] {
        let backstage = Backstage::new(&Options::default());
        let routes = backstage.routes().await;
        assert_eq!(sign_up(PHONE).from("203.0.113.9").send(&routes).await.status, 200, "a stranger");
        backstage.received(PHONE).await.unwrap();
        let own = |call: Call| call.header("x-deviceid", device);
        assert_eq!(own(sign_up(PHONE)).send(&routes).await.status, 200);
        let code = backstage.received(PHONE).await.unwrap();
        let body = json!({ "phone": PHONE, "smsCode": code, "fingerprint": "as the app calls it" });
        let confirm = call(Method::POST, "/v2/mobile/phone/confirm").json(&body).from("198.51.100.7");
        let confirmed = own(confirm).send(&routes).await;
        assert_eq!(confirmed.status, 200, "{}", confirmed.text);
    }
}

#[test]
fn every_error_is_described_for_clients() {
    let (texts, described) =
        (include_str!("../../../../locales/en.toml"), include_str!("../../../../docs/errors.md"));
    let errors = texts.split_once("[errors]\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = errors.lines().map(|line| line.split_once(" = ").unwrap().0);
    assert!(names.clone().count() > 40);
    for name in names {
        assert!(described.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[actix_web::test]
async fn what_says_nothing_is_passed_over() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let marked = format!("\u{feff}{}", json!({ "phone": PHONE, "password": PASSWORD }));
    let signed_up =
        call(Method::POST, "/v2/mobile/signup").raw("application/json", marked).send(&routes).await;
    assert_eq!(signed_up.status, 200, "{}", signed_up.text);
    let code = backstage.received(PHONE).await.unwrap();
    let body = json!({ "phone": PHONE, "smsCode": code, "registrationId": "" });
    let confirmed = call(Method::POST, "/v2/mobile/phone/confirm").json(&body).send(&routes).await;
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
}

#[actix_web::test]
async fn a_browser_gets_a_page_whose_button_confirms() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let token = customer!(backstage, routes, PHONE);
    add_email(&token, "anna+x@example.com").send(&routes).await;
    let link = backstage.received("anna+x@example.com").await.unwrap();
    let path = link.as_str();
    let is_confirmed = async || {
        get(&token, "/v2/customer/profile").send(&routes).await.json()["confirmedEmail"] == json!(true)
    };
    let page = call(Method::GET, path).header("accept", "text/html,*/*").send(&routes).await;
    assert!(
        page.header("content-type").unwrap().starts_with("text/html")
            && page.text.contains("<button>Confirm</button>")
    );
    // Where a proxy has put something before our path, it stays there.
    assert!(page.text.contains(r#"<form method="post" action="confirm">"#), "{}", page.text);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert_eq!(call(Method::HEAD, path).send(&routes).await.status, 200);
    assert!(!is_confirmed().await, "a page or a HEAD confirms nothing");
    let nothing = call(Method::POST, "/v2/mobile/email/confirm?lang=de").json(&json!({})).send(&routes).await;
    assert_eq!(nothing.json()["field"], "email", "a body counts before the query: {}", nothing.text);
    let hostile = "/v2/mobile/email/confirm?email=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&event=e&token=t";
    let hostile = call(Method::GET, hostile).header("accept", "text/html").send(&routes).await;
    assert!(!hostile.text.contains("<script>"), "{}", hostile.text);
    let form = path.split_once('?').unwrap().1;
    let post = |form: &str| {
        let post = call(Method::POST, "/v2/mobile/email/confirm").header("accept", "text/html");
        post.raw("application/x-www-form-urlencoded", form)
    };
    let failed = post("email=x&event=y&token=z").send(&routes).await;
    assert!(failed.status == 400 && failed.text.contains("That did not work"), "{}", failed.text);
    let thanked = post(form).header("accept-language", "de").send(&routes).await;
    assert!(thanked.status == 200 && thanked.text.contains("Danke"), "{}", thanked.text);
    assert!(is_confirmed().await);
}

#[actix_web::test]
async fn a_header_is_believed_from_a_trusted_proxy_only() {
    let backstage = Backstage::new(&Options {
        quotas: quotas(|quotas| quotas.sign_up.address.burst = 1),
        ..Options::default()
    });
    let routes = backstage.routes().await;
    let forwarded =
        |phone: &str, peer: &str, client: &str| sign_up(phone).from(peer).header("x-forwarded-for", client);
    assert_eq!(forwarded("+447400000001", "203.0.113.1", "198.51.100.1").send(&routes).await.status, 200);
    assert_eq!(forwarded("+447400000002", "203.0.113.1", "198.51.100.2").send(&routes).await.status, 429);
    assert_eq!(forwarded("+447400000003", "10.0.0.1", "198.51.100.3").send(&routes).await.status, 200);
    assert_eq!(forwarded("+447400000004", "10.0.0.1", "198.51.100.4").send(&routes).await.status, 200);
    assert_eq!(
        forwarded("+447400000005", "10.0.0.1", "6.6.6.6, 198.51.100.4").send(&routes).await.status,
        429
    );
}

#[actix_web::test]
async fn every_answer_has_a_request_id_of_its_own() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let mut seen = std::collections::HashSet::new();
    for path in ["/health/live", "/nowhere", "/openapi.json", "/v2/customer/profile"] {
        let answer = call(Method::GET, path).header("x-request-id", "mine").send(&routes).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(id != "mine" && seen.insert(id), "{path}");
    }
}

#[actix_web::test]
async fn the_document_describes_every_answer() {
    let backstage = Backstage::new(&Options::default());
    let document = call(Method::GET, "/openapi.json").send(&backstage.routes().await).await.json();
    let paths = document["paths"].as_object().unwrap().iter();
    for (path, method, operation) in paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation))
    }) {
        let answers = operation["responses"].as_object().unwrap();
        for (status, answer) in answers {
            // OpenAPI 3.1 demands it, and generators stumble where it is missing.
            assert!(answer["description"].is_string(), "{method} {path}: {status} is not described");
        }
        if operation.get("requestBody").is_some() {
            for status in ["400", "408", "413", "415", "503"] {
                let schema = &answers[status]["content"]["application/json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Error", "{method} {path}: {status}");
            }
        }
    }
    let patch = &document["paths"]["/v2/customer/profile"]["patch"]["requestBody"]["content"];
    assert_eq!(patch["application/merge-patch+json"], patch["application/json"]);
}

#[actix_web::test]
async fn the_document_names_every_route() {
    let backstage = Backstage::new(&Options::default());
    let routes = backstage.routes().await;
    let document = call(Method::GET, "/openapi.json").send(&routes).await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut named: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    named.sort();
    assert_snapshot!("routes", named.join("\n"));
    let keys = call(Method::GET, "/.well-known/paseto-keys").send(&routes).await.json();
    assert_eq!(keys["keys"][0]["kid"], "k4.pid.fake");
}
