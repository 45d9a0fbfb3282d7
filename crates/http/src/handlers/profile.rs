use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use vestibule_domain::{AccountKind, ProfileField, ProfilePatch, Requirement};

use super::{authenticate, authenticate_with_body, in_time};
use crate::body::Member;
use crate::problem::Problem;
use crate::{Http, api};

/// Step 5: change personal details (JSON Merge Patch, RFC 7396), all or nothing.
#[utoipa::path(patch, path = "/v2/customer/profile", tag = "customer", security(("bearer" = [])), request_body = api::Profile, responses(
    (status = 204, description = "Changed."),
    (status = 400, description = "123, 422 with the field", body = api::Error),
    (status = 401, description = "401", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn patch(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (customer, mut fields) = authenticate_with_body(&http, &request, payload).await?;
    let mut patch = ProfilePatch::default();
    for field in ProfileField::ALL {
        patch = match fields.member(field.as_str())? {
            Member::Absent => patch,
            Member::Null => patch.with(field, None),
            Member::Text(text) => patch.with(field, Some(text)),
        };
    }
    in_time(http.application.patch_profile(customer, &patch)).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// The customer's details; what is not set is left out.
#[utoipa::path(get, path = "/v2/customer/profile", tag = "customer", security(("bearer" = [])), responses(
    (status = 200, description = "What is set.", body = api::CustomerProfile),
    (status = 401, description = "401", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn read(http: Data<Http>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let customer = authenticate(&http, &request).await?;
    let account = customer.account();
    let mut body: Map<String, Value> = ProfileField::ALL
        .into_iter()
        .filter_map(|field| Some((field.as_str().to_owned(), json!(account.profile().value(field)?))))
        .collect();
    body.insert("userId".to_owned(), json!(account.user().to_string()));
    body.insert("phone".to_owned(), json!(account.phone().as_str()));
    body.extend(account.email().address().map(|address| ("email".to_owned(), json!(address.as_str()))));
    body.insert("confirmedEmail".to_owned(), json!(account.email().confirmed().is_some()));
    if account.kind() == AccountKind::Test {
        body.insert("testAccount".to_owned(), json!(true));
    }
    body.insert("pushEnabled".to_owned(), json!(false));
    body.insert("enabled2FA".to_owned(), json!(false));
    Ok(HttpResponse::Ok().json(body))
}

/// How far the customer is known, and what is missing for the next level.
#[utoipa::path(get, path = "/v2/customer/kyc/data", tag = "customer", security(("bearer" = [])), responses(
    (status = 200, description = "The level, and what is missing for the next.", body = api::Kyc),
    (status = 401, description = "401", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn kyc(http: Data<Http>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let customer = authenticate(&http, &request).await?;
    let account = customer.account();
    let missing: Vec<_> = account.missing().into_iter().map(Requirement::as_str).collect();
    Ok(HttpResponse::Ok().json(json!({
        "kycLevel": account.kyc().as_str(),
        "kyc1ClientData": { "status": "UNDEFINED" },
        "missing": missing,
    })))
}
