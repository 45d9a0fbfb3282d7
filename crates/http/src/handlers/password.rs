use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use vestibule_application::{ChangePassword, CheckResetCode, RequestReset, ResetPassword};
use vestibule_domain::{ClientAddress, OneTimeCode, Origin};

use super::phone::origin;
use super::{authenticate_with_body, done, in_time, tokens};
use crate::body::Fields;
use crate::partners::voice;
use crate::problem::Problem;
use crate::{Http, api};

/// Change the password. All other sessions end, and the owner is told by SMS and mail.
#[utoipa::path(put, path = "/v2/mobile/password/change", tag = "password", security(("bearer" = [])), request_body = api::ChangePassword, responses(
    (status = 200, description = "Changed.", body = api::Done),
    (status = 400, description = "11 (wrong current password), 422 (`newPassword` with `data.violations`), 123", body = api::Error),
    (status = 401, description = "401", body = api::Error),
    (status = 429, description = "273 (too many wrong passwords)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn change(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (customer, mut fields) = authenticate_with_body(&http, &request, payload).await?;
    let (fingerprint, client) = origin(&http, &request, &mut fields)?;
    let change = ChangePassword {
        current: fields.secret("currentPassword")?,
        new: fields.secret("newPassword")?,
        origin: Origin { fingerprint, address: ClientAddress::of(client) },
        voice: voice(&http, &request),
    };
    in_time(http.application.change_password(&customer, change)).await??;
    Ok(done())
}

/// Ask for a code that allows to set a new password. The answer is the same for a number without an account.
#[utoipa::path(post, path = "/v2/mobile/password/reset", tag = "password", request_body = api::RequestReset, responses(
    (status = 200, description = "If the number has an account, a code is on its way.", body = api::Done),
    (status = 400, description = "422 (`phone`), 123", body = api::Error),
    (status = 429, description = "157 (cool-down), 167 (too many)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn request_reset(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::read(&request, payload).await?;
    let (fingerprint, client) = origin(&http, &request, &mut fields)?;
    let voice = voice(&http, &request);
    let reset = RequestReset { phone: fields.text("phone")?, fingerprint, client, voice };
    in_time(http.application.request_reset(reset)).await??;
    Ok(done())
}

/// Check the code without spending it.
#[utoipa::path(post, path = "/v2/mobile/password/reset/confirm/code", tag = "password", request_body = api::CheckResetCode, responses(
    (status = 200, description = "The code is right.", body = api::Done),
    (status = 400, description = "8 (wrong, `data.attemptsLeft`), 9 (expired), 422, 123", body = api::Error),
    (status = 429, description = "119 (no guesses left)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn check_reset_code(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::read(&request, payload).await?;
    let check = read_check(&http, &request, &mut fields)?;
    in_time(http.application.check_reset_code(&check)).await??;
    Ok(done())
}

/// Set a new password with the code. Every older session ends, and the owner is told by SMS and mail.
#[utoipa::path(post, path = "/v2/mobile/password/reset/confirm", tag = "password", request_body = api::ResetPassword, responses(
    (status = 200, description = "Changed, and signed in.", body = api::Tokens),
    (status = 400, description = "8 (wrong, `data.attemptsLeft`), 9 (expired), 422 (`password` with `data.violations`; the code is as good as before), 123", body = api::Error),
    (status = 429, description = "119 (no guesses left)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn reset(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::read(&request, payload).await?;
    let check = read_check(&http, &request, &mut fields)?;
    let password = fields.secret("password")?;
    let reset = ResetPassword { check, password, voice: voice(&http, &request) };
    Ok(tokens(&in_time(http.application.reset_password(reset)).await??))
}

fn read_check(http: &Http, request: &HttpRequest, fields: &mut Fields) -> Result<CheckResetCode, Problem> {
    let phone = fields.text("phone")?;
    let code = OneTimeCode::parse(&fields.text("code")?);
    let (fingerprint, client) = origin(http, request, fields)?;
    Ok(CheckResetCode { phone, code, fingerprint, client })
}
