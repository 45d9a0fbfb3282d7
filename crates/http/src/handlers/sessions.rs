use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;
use vestibule_domain::SessionId;

use super::{authenticate, done, in_time};
use crate::problem::Problem;
use crate::{Http, api, client};

/// End this session: its tokens are refused from now on.
#[utoipa::path(post, path = "/signout", tag = "session", security(("bearer" = [])), responses(
    (status = 200, description = "Signed out.", body = api::Done),
    (status = 401, description = "401", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn sign_out(http: Data<Http>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let customer = authenticate(&http, &request).await?;
    let origin = client::origin(&request, &http.trusted_proxies);
    let ended = in_time(http.application.sign_out(&customer, &origin)).await?;
    ended.map_err(|cause| Problem::unavailable(&cause))?;
    Ok(done())
}

/// The customer's living sessions, the newest first.
#[utoipa::path(get, path = "/v2/customer/sessions", tag = "session", security(("bearer" = [])), responses(
    (status = 200, description = "The sessions.", body = [api::Session]),
    (status = 401, description = "401", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn list(http: Data<Http>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let customer = authenticate(&http, &request).await?;
    let sessions = in_time(http.application.sessions(&customer)).await?;
    let sessions = sessions.map_err(|cause| Problem::unavailable(&cause))?;
    let shown: Vec<Value> = sessions
        .iter()
        .map(|session| {
            json!({
                "id": session.id.to_string(),
                "createdAt": rfc3339(session.created_at),
                "lastUsedAt": rfc3339(session.last_used_at),
                "current": session.is_current,
                "address": session.origin.address.ip().to_string(),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(shown))
}

/// End one of the customer's sessions.
#[utoipa::path(delete, path = "/v2/customer/sessions/{id}", tag = "session", security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "The session's `id`.")), responses(
    (status = 200, description = "It has ended.", body = api::Done),
    (status = 401, description = "401", body = api::Error),
    (status = 404, description = "404 (the customer has no such session)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn revoke_session(
    http: Data<Http>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let customer = authenticate(&http, &request).await?;
    let session = SessionId::new(Uuid::try_parse(&id).map_err(|_| Problem::not_found())?);
    let origin = client::origin(&request, &http.trusted_proxies);
    in_time(http.application.revoke_session(&customer, session, &origin)).await??;
    Ok(done())
}

/// To the second, as people read it.
pub(super) fn rfc3339(moment: UtcDateTime) -> Option<String> {
    moment.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}
