use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use uuid::Uuid;
use vestibule_application::{ConfirmPhone, ResendCode, SignUp};
use vestibule_domain::{AttemptId, Fingerprint, OneTimeCode};

use super::{done, in_time, tokens};
use crate::body::Fields;
use crate::partners::voice;
use crate::problem::Problem;
use crate::{Http, api, client};

/// Step 1: sign up with a phone number and a password. A code is on its way by SMS.
#[utoipa::path(post, path = "/v2/mobile/signup", tag = "registration", request_body = api::SignUp, responses(
    (status = 200, description = "Recorded; the code is on its way.", body = api::SignedUp),
    (status = 400, description = "123, 422 (`phone`; `password` with `data.violations`)", body = api::Error),
    (status = 403, description = "0 (blocked country), 115 (number used before)", body = api::Error),
    (status = 429, description = "157 (cool-down), 167 (too many)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn sign_up(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::read(&request, payload).await?;
    let (fingerprint, client) = origin(&http, &request, &mut fields)?;
    let sign_up = SignUp {
        phone: fields.text("phone")?,
        password: fields.secret("password")?,
        client,
        fingerprint,
        voice: voice(&http, &request),
    };
    let signed_up = in_time(http.application.sign_up(sign_up)).await??;
    Ok(HttpResponse::Ok().json(json!({
        "result": "ok",
        "registrationId": signed_up.registration.to_string(),
        "expiresIn": signed_up.expires_in.as_secs(),
        "resendIn": signed_up.resend_in.as_secs(),
    })))
}

/// Steps 2 and 3: confirm the phone with the code. The account is opened and its first tokens are issued.
#[utoipa::path(post, path = "/v2/mobile/phone/confirm", tag = "registration", request_body = api::ConfirmPhone, responses(
    (status = 200, description = "The account is open.", body = api::Tokens),
    (status = 400, description = "117 (wrong code, `data.attemptsLeft`), 118 (expired), 2 (nothing pending), 123, 422", body = api::Error),
    (status = 429, description = "119 (no guesses left)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn confirm_phone(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::read(&request, payload).await?;
    let phone = fields.text("phone")?;
    let code = match fields.optional_text("smsCode")? {
        Some(code) => code,
        None => fields.optional_text("code")?.ok_or_else(|| Problem::field("smsCode"))?,
    };
    let registration = registration_id(&mut fields)?;
    let (fingerprint, client) = origin(&http, &request, &mut fields)?;
    let confirm = ConfirmPhone { phone, code: OneTimeCode::parse(&code), registration, fingerprint, client };
    let pair = in_time(http.application.confirm_phone(confirm)).await??;
    Ok(tokens(&pair))
}

/// Send the code once more: the same while it lives, else a new one. `data.delivery` tells how far the message before has come, so that an
/// app can say "it has arrived" or "check the number"; only to who signed up, and not where accounts are concealed.
#[utoipa::path(post, path = "/v2/mobile/phone/verify/resend", tag = "registration", request_body = api::ResendCode, responses(
    (status = 200, description = "It is on its way.", body = api::ResentCode),
    (status = 400, description = "2 (nothing pending), 123, 422", body = api::Error),
    (status = 429, description = "157 (sooner than the cool-down), 167 (too many messages); `data.delivery` as in the 200 answer", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn resend_code(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::read(&request, payload).await?;
    let phone = fields.text("phone")?;
    let registration = registration_id(&mut fields)?;
    let (fingerprint, client) = origin(&http, &request, &mut fields)?;
    let resend = ResendCode { phone, registration, fingerprint, client, voice: voice(&http, &request) };
    let resent = in_time(http.application.resend_code(resend)).await??;
    Ok(match resent.delivery {
        Some(delivery) => {
            HttpResponse::Ok().json(json!({ "result": "ok", "data": { "delivery": delivery.as_str() } }))
        }
        None => done(),
    })
}

/// Where the request comes from. The header's fingerprint counts before the body's, since a client that has one sends it with every request.
pub(super) fn origin(
    http: &Http,
    request: &HttpRequest,
    fields: &mut Fields,
) -> Result<(Option<Fingerprint>, std::net::IpAddr), Problem> {
    let named = fields.optional_text("fingerprint")?;
    let fingerprint = client::fingerprint(request).or_else(|| named.as_deref().and_then(Fingerprint::of));
    Ok((fingerprint, client::address(request, &http.trusted_proxies)))
}

/// A `registrationId` that is none of ours names no attempt, which is a matter of the code, not of the field.
fn registration_id(fields: &mut Fields) -> Result<Option<AttemptId>, Problem> {
    let id = fields.optional_text("registrationId")?.filter(|id| !id.is_empty());
    Ok(id.map(|id| AttemptId::new(Uuid::try_parse(id.trim()).unwrap_or(Uuid::nil()))))
}
