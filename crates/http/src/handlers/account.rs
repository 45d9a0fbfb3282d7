use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use vestibule_application::EraseAccount;

use super::{TOKEN_PATIENCE, authenticate, authenticate_with_body, done, in_time, personal_data, within};
use crate::problem::Problem;
use crate::{Http, api, client};

/// Erase the account with everything personal. The number stays used.
#[utoipa::path(delete, path = "/v2/customer", tag = "customer", security(("bearer" = [])), request_body = api::EraseAccount, responses(
    (status = 200, description = "Erased, now or before.", body = api::Done),
    (status = 400, description = "11 (wrong password), 422, 123", body = api::Error),
    (status = 401, description = "401", body = api::Error),
    (status = 429, description = "273 (too many wrong passwords)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn erase(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (customer, mut fields) = match authenticate_with_body(&http, &request, payload).await {
        // Its answer was lost, and this is the request once more.
        Err(refused) if refused.status == StatusCode::UNAUTHORIZED && is_erased(&http, &request).await? => {
            return Ok(done());
        }
        asked => asked?,
    };
    let password = fields.secret("password")?;
    let origin = client::origin(&request, &http.trusted_proxies);
    in_time(http.application.erase_account(&customer, EraseAccount { password, origin })).await??;
    Ok(done())
}

/// Whether the account is no more that the request's token speaks of.
async fn is_erased(http: &Http, request: &HttpRequest) -> Result<bool, Problem> {
    let token = client::bearer(request).ok_or_else(Problem::unauthorized)?;
    Ok(within(TOKEN_PATIENCE, http.application.is_erased(token)).await??)
}

/// Everything that is kept about the customer.
#[utoipa::path(get, path = "/v2/customer/export", tag = "customer", security(("bearer" = [])), responses(
    (status = 200, description = "Everything that is kept.", body = api::Export),
    (status = 401, description = "401", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn export(http: Data<Http>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let customer = authenticate(&http, &request).await?;
    let data = in_time(http.application.export_account(customer)).await?;
    let data = data.map_err(|cause| Problem::unavailable(&cause))?;
    Ok(HttpResponse::Ok().json(personal_data::shown(data)))
}
