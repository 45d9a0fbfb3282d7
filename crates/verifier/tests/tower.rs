//! The layer, around a service with bodies of plain text and in an axum router.
#![cfg(feature = "tower")]
#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod issuer;

use std::convert::Infallible;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{Request, Response};
use axum::routing::get;
use axum::{Extension, Router};
use issuer::{Issuer, builder, claims};
use rstest::rstest;
use serde_json::{Value, json};
use time::UtcDateTime;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use vestibule_verifier::{Claims, KycLevel, Refusal, Uuid, Verifier, VerifierLayer};

async fn greet(request: Request<String>) -> Result<Response<String>, Infallible> {
    let user = request.extensions().get::<Claims>().map(|claims| claims.user_id.to_string());
    Ok(Response::new(user.unwrap_or_default()))
}

/// A request with this `Authorization`, through the layer, to a service that answers whom it sees.
async fn ask(verifier: Verifier, authorization: Option<String>) -> Response<String> {
    let service = ServiceBuilder::new().layer(VerifierLayer::new(verifier)).service(service_fn(greet));
    let mut request = Request::new(String::new());
    if let Some(value) = authorization {
        request.headers_mut().insert(AUTHORIZATION, value.parse().unwrap());
    }
    service.oneshot(request).await.unwrap()
}

fn good(issuer: &Issuer) -> String {
    #[expect(clippy::disallowed_methods, reason = "the layer goes by the system's clock")]
    let now = UtcDateTime::now();
    format!("Bearer {}", issuer.sign(&claims(now)))
}

#[tokio::test]
async fn a_good_token_tells_the_service_who_asks() {
    let issuer = Issuer::new();
    let response = ask(issuer.verifier(), Some(good(&issuer))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(*response.body(), Uuid::from_u128(1).to_string());
}

#[rstest]
#[case::none(None, "Bearer")]
#[case::another_scheme(Some("Basic YTpi"), "Bearer")]
#[case::no_token(Some("Bearer x"), r#"Bearer error="invalid_token""#)]
#[tokio::test]
async fn without_a_good_token_the_service_is_not_called(
    #[case] authorization: Option<&str>,
    #[case] challenge: &str,
) {
    let response = ask(Issuer::new().verifier(), authorization.map(str::to_owned)).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()[WWW_AUTHENTICATE], challenge);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let body: Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(body["error"], "UNAUTHORIZED");
}

#[tokio::test]
async fn the_verifiers_demands_are_the_layers() {
    let issuer = Issuer::new();
    let verifier = builder().require_kyc(KycLevel::KYC_0).build(issuer.keys());
    let response = ask(verifier, Some(good(&issuer))).await;
    assert_eq!(response.status(), 403);
    assert_eq!(response.extensions().get(), Some(&Refusal::InsufficientKyc));
    let body: Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(body["error"], json!("INSUFFICIENT_KYC_LEVEL"));
}

#[tokio::test]
async fn an_axum_router_takes_it() {
    let issuer = Issuer::new();
    let me = |Extension(claims): Extension<Claims>| async move { claims.user_id.to_string() };
    let router = Router::new().route("/", get(me)).layer(VerifierLayer::new(issuer.verifier()));
    for (authorization, status) in [(Some(good(&issuer)), 200), (None, 401)] {
        let mut request = Request::new(axum::body::Body::empty());
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value.parse().unwrap());
        }
        assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status);
    }
}
