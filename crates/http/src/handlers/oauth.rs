//! The endpoints of OAuth 2.0. Forms, as the standards have it, and JSON beside them.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use vestibule_application::{Introspected, SignIn, TokenKind};
use zeroize::Zeroizing;

use super::phone::origin;
use super::{done, in_time, tokens};
use crate::body::Fields;
use crate::partners::voice;
use crate::problem::Problem;
use crate::{Http, api, client};

/// Sign in (`mobile_phone`), or exchange a refresh token for a new pair (`refresh_token`).
#[utoipa::path(post, path = "/oauth/token", tag = "session",
    request_body(content((api::TokenRequest = "application/x-www-form-urlencoded"), (api::TokenRequest = "application/json"))), responses(
    (status = 200, description = "Signed in.", body = api::Tokens),
    (status = 400, description = "11 (wrong number or password), 9002 `invalid_grant`, 9003 `unsupported_grant_type`, 9004 `invalid_request`, 422, 123", body = api::Error),
    (status = 403, description = "3 (the account is blocked)", body = api::Error),
    (status = 429, description = "273 (too many wrong passwords)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn token(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::read_form_or_json(&request, payload).await?;
    let grant = fields.optional_text("grant_type")?.ok_or_else(|| Problem::oauth_field("grant_type"))?;
    match grant.as_str() {
        "mobile_phone" => {
            let (fingerprint, client) = origin(&http, &request, &mut fields)?;
            let sign_in = SignIn {
                phone: fields.text("number")?,
                password: fields.secret("password")?,
                fingerprint,
                client,
            };
            Ok(tokens(&in_time(http.application.sign_in(sign_in)).await??))
        }
        "refresh_token" => {
            let token = presented(&mut fields, "refresh_token")?;
            let (origin, voice) = (client::origin(&request, &http.trusted_proxies), voice(&http, &request));
            Ok(tokens(&in_time(http.application.refresh(&token, &origin, &voice)).await??))
        }
        _ => Err(Problem::oauth_grant_type()),
    }
}

/// End the session of a token (RFC 7009). A token that is worth nothing is no error.
#[utoipa::path(post, path = "/oauth/revoke", tag = "session",
    request_body(content((api::PresentedToken = "application/x-www-form-urlencoded"), (api::PresentedToken = "application/json"))), responses(
    (status = 200, description = "Nobody can use it any more.", body = api::Done),
    (status = 400, description = "9004 `invalid_request`, 123", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn revoke(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::read_form_or_json(&request, payload).await?;
    let token = presented(&mut fields, "token")?;
    let origin = client::origin(&request, &http.trusted_proxies);
    in_time(http.application.revoke_token(&token, &origin))
        .await?
        .map_err(|cause| Problem::unavailable(&cause))?;
    Ok(done())
}

/// What a token is worth now (RFC 7662), for services that have credentials (HTTP Basic).
#[utoipa::path(post, path = "/oauth/introspect", tag = "session", security(("service" = [])),
    request_body(content((api::PresentedToken = "application/x-www-form-urlencoded"), (api::PresentedToken = "application/json"))), responses(
    (status = 200, description = "Whether it is active, and whose it is.", body = api::Introspection),
    (status = 400, description = "9004 `invalid_request`, 123", body = api::Error),
    (status = 401, description = "9005 `invalid_client`", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn introspect(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (name, secret) = client::basic(&request).ok_or_else(Problem::oauth_client)?;
    if !http.services.admit(&name, &secret) {
        return Err(Problem::oauth_client());
    }
    let mut fields = Fields::read_form_or_json(&request, payload).await?;
    let token = presented(&mut fields, "token")?;
    let found = in_time(http.application.introspect(&token)).await?;
    Ok(match found.map_err(|cause| Problem::unavailable(&cause))? {
        Some(token) => HttpResponse::Ok().json(description(&token, &http)),
        None => HttpResponse::Ok().json(json!({ "active": false })),
    })
}

fn description(token: &Introspected, http: &Http) -> serde_json::Value {
    let mut members = json!({
        "active": true,
        "scope": "read write",
        "token_type": match token.kind {
            TokenKind::Access => "bearer",
            TokenKind::Refresh => "refresh_token",
        },
        "sub": token.user.to_string(),
        "sid": token.session.to_string(),
        "iss": http.issuer,
        "aud": http.audience,
        "iat": token.issued_at.unix_timestamp(),
        "nbf": token.issued_at.unix_timestamp(),
        "exp": token.expires_at.unix_timestamp(),
        "kyc": token.kyc.as_str(),
    });
    if let (Some(id), Some(members)) = (token.id, members.as_object_mut()) {
        members.insert("jti".to_owned(), json!(id.to_string()));
    }
    members
}

/// A token that somebody presents, whatever it is: it is compared by its hash, or verified, and never shown.
fn presented(fields: &mut Fields, name: &'static str) -> Result<Zeroizing<String>, Problem> {
    match fields.optional_text(name)? {
        Some(token) if !token.is_empty() => Ok(Zeroizing::new(token)),
        Some(_) | None => Err(Problem::oauth_field(name)),
    }
}
