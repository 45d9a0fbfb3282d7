//! The extractor, in real applications.
#![cfg(feature = "actix")]
#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod issuer;

use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::{App, web};
use issuer::{Issuer, builder, claims};
use rstest::rstest;
use serde_json::{Value, json};
use time::UtcDateTime;
use vestibule_verifier::{Authenticated, KycLevel, Refusal, Uuid};

async fn me(user: Authenticated) -> String {
    user.user_id.to_string()
}

async fn vault(user: Authenticated) -> Result<String, Refusal> {
    user.require_kyc(KycLevel::KYC_0)?;
    Ok(user.user_id.to_string())
}

/// Status, `WWW-Authenticate` and body of a request with this `Authorization`. The verifier is the application's; below
/// `/strict` another one is nearer.
async fn ask(issuer: &Issuer, path: &str, authorization: &[&str]) -> (u16, Option<String>, Value) {
    let strict = builder().require_scope("admin").build(issuer.keys());
    let nearer = web::scope("/strict").app_data(strict).route("/me", web::get().to(me));
    let app = App::new()
        .app_data(web::Data::new(issuer.verifier()))
        .route("/me", web::get().to(|user: Authenticated| async move { web::Json(user.user_id) }))
        .route("/vault", web::get().to(vault))
        .service(web::scope("/own").app_data(issuer.verifier()).route("/me", web::get().to(me)))
        .service(nearer);
    let app = init_service(app).await;
    let mut request = TestRequest::get().uri(path);
    for value in authorization {
        request = request.append_header((AUTHORIZATION, *value));
    }
    let response = call_service(&app, request.to_request()).await;
    let challenge = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
    let (status, is_json) = (
        response.status().as_u16(),
        response.headers().get(CONTENT_TYPE).is_some_and(|value| value == "application/json"),
    );
    let body = if is_json { read_body_json(response).await } else { Value::Null };
    (status, challenge, body)
}

fn now() -> UtcDateTime {
    #[expect(clippy::disallowed_methods, reason = "the extractor goes by the system's clock")]
    UtcDateTime::now()
}

#[actix_web::test]
async fn a_good_token_tells_the_handler_who_asks() {
    let issuer = Issuer::new();
    let token = format!("Bearer {}", issuer.sign(&claims(now())));
    let (status, challenge, body) = ask(&issuer, "/me", &[&token]).await;
    assert_eq!((status, challenge, body), (200, None, json!(Uuid::from_u128(1))));
    assert_eq!(ask(&issuer, "/own/me", &[&token]).await.0, 200);
}

#[rstest]
#[case::none(&[], "Bearer")]
#[case::another_scheme(&["Basic YTpi"], "Bearer")]
#[case::no_token(&["Bearer x"], r#"Bearer error="invalid_token""#)]
#[case::two(&["Bearer x", "Bearer x"], r#"Bearer error="invalid_token""#)]
#[actix_web::test]
async fn without_a_good_token_no_handler_is_called(#[case] authorization: &[&str], #[case] expected: &str) {
    let (status, challenge, body) = ask(&Issuer::new(), "/me", authorization).await;
    assert_eq!((status, challenge.as_deref()), (401, Some(expected)));
    assert_eq!((&body["error"], &body["errorId"]), (&json!("UNAUTHORIZED"), &json!(401)));
}

#[actix_web::test]
async fn a_handler_may_ask_for_more() {
    let issuer = Issuer::new();
    let mut claims = claims(now());
    let low = format!("Bearer {}", issuer.sign(&claims));
    let (status, challenge, body) = ask(&issuer, "/vault", &[&low]).await;
    assert_eq!((status, challenge.as_deref()), (403, Some(r#"Bearer error="insufficient_scope""#)));
    assert_eq!(body["error"], "INSUFFICIENT_KYC_LEVEL");
    claims["kyc"] = json!("KYC_0");
    assert_eq!(ask(&issuer, "/vault", &[&format!("Bearer {}", issuer.sign(&claims))]).await.0, 200);
}

#[actix_web::test]
async fn the_nearest_verifier_counts() {
    let issuer = Issuer::new();
    let token = format!("Bearer {}", issuer.sign(&claims(now())));
    let (status, _, body) = ask(&issuer, "/strict/me", &[&token]).await;
    assert_eq!((status, &body["error"]), (403, &json!("INSUFFICIENT_SCOPE")));
}

#[actix_web::test]
async fn an_application_without_a_verifier_lets_nobody_in() {
    let app = init_service(App::new().route("/me", web::get().to(me))).await;
    let token = format!("Bearer {}", Issuer::new().sign(&claims(now())));
    let request = TestRequest::get().uri("/me").insert_header((AUTHORIZATION, token)).to_request();
    assert_eq!(call_service(&app, request).await.status().as_u16(), 500);
}
