use actix_web::web::{Data, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use vestibule_application::EmailLink;

use super::{authenticate, authenticate_with_body, done, in_time, locale};
use crate::body::{FORM, Fields, media_type, read_bytes};
use crate::partners::voice;
use crate::problem::Problem;
use crate::{Http, api, client, page};

/// The values of a confirmation link.
#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    email: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    token: String,
}

/// Step 4: add an e-mail address, or replace one that is not confirmed. A link is on its way by mail.
#[utoipa::path(put, path = "/v2/mobile/email/add", tag = "e-mail", security(("bearer" = [])), request_body = api::AddEmail, responses(
    (status = 200, description = "Added; the link is on its way.", body = api::Done),
    (status = 400, description = "123, 422 (`email`), 168 (another account's), 310 (already confirmed)", body = api::Error),
    (status = 401, description = "401", body = api::Error),
    (status = 429, description = "167 (too many mails)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn add(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (customer, mut fields) = authenticate_with_body(&http, &request, payload).await?;
    let address = fields.text("email")?;
    let (origin, voice) = (client::origin(&request, &http.trusted_proxies), voice(&http, &request));
    in_time(http.application.add_email(customer, &address, &origin, &voice)).await??;
    Ok(done())
}

/// Send the link once more.
#[utoipa::path(post, path = "/v2/mobile/email/verify/resend", tag = "e-mail", security(("bearer" = [])), responses(
    (status = 200, description = "It is on its way.", body = api::Done),
    (status = 400, description = "310 (already confirmed), 422 (`email`: there is none)", body = api::Error),
    (status = 401, description = "401", body = api::Error),
    (status = 429, description = "157 (sooner than the cool-down), 167 (too many mails)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn resend(http: Data<Http>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let customer = authenticate(&http, &request).await?;
    let (origin, voice) = (client::origin(&request, &http.trusted_proxies), voice(&http, &request));
    in_time(http.application.resend_email(customer, &origin, &voice)).await??;
    Ok(done())
}

/// Confirm the address by the link of the mail. A browser gets a page with a button instead.
#[utoipa::path(get, path = "/v2/mobile/email/confirm", tag = "e-mail", params(
    ("email" = String, Query, description = "The address, plain or in base64."),
    ("event" = String, Query, description = "`email_confirmation`, plain or in base64."),
    ("token" = String, Query, description = "The proof."),
), responses(
    (status = 200, description = "Confirmed, now or before.", body = api::Done),
    (status = 400, description = "169 (not valid), 170 (expired), 168 (another account's)", body = api::Error),
    (status = 503, description = "503, with `Retry-After`", body = api::Error),
))]
pub(crate) async fn confirm_by_link(http: Data<Http>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let link = query(&request);
    if client::is_browser(&request) {
        let locale = locale(&http, &request);
        let texts =
            ["confirm_title", "confirm_text", "confirm_button"].map(|name| http.wording.page(&locale, name));
        let page = page::button(locale.as_str(), texts, &link.email, &link.event, &link.token);
        return Ok(page::headers(&mut HttpResponse::Ok()).body(page));
    }
    confirm_link(&http, &link).await?;
    Ok(done())
}

/// Confirm the address, as the page's button does.
#[utoipa::path(post, path = "/v2/mobile/email/confirm", tag = "e-mail",
    request_body(content = api::EmailLink, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "Confirmed, now or before.", body = api::Done),
        (status = 400, description = "169 (not valid), 170 (expired), 168 (another account's)", body = api::Error),
        (status = 503, description = "503, with `Retry-After`", body = api::Error),
    )
)]
pub(crate) async fn confirm(
    http: Data<Http>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let bytes = read_bytes(&request, payload).await?;
    let link = if media_type(&request).is_some_and(|kind| kind == FORM) {
        let form = std::str::from_utf8(&bytes).map_err(|_| Problem::body())?;
        Query::<Link>::from_query(form).map_err(|_| Problem::body())?.into_inner()
    } else if bytes.is_empty() && !request.query_string().is_empty() {
        query(&request)
    } else {
        let mut fields = Fields::of(&request, &bytes)?;
        Link { email: fields.text("email")?, event: fields.text("event")?, token: fields.text("token")? }
    };
    confirm_link(&http, &link).await?;
    if client::is_browser(&request) {
        let locale = locale(&http, &request);
        let text = |name| http.wording.page(&locale, name);
        let page = page::message(locale.as_str(), text("confirmed_title"), text("confirmed_text"));
        return Ok(page::headers(&mut HttpResponse::Ok()).body(page));
    }
    Ok(done())
}

/// Asking for the head of the page confirms nothing.
pub(super) async fn head() -> HttpResponse {
    HttpResponse::Ok().finish()
}

/// A query that cannot be read has no values, which makes a link that is not valid.
fn query(request: &HttpRequest) -> Link {
    Query::<Link>::from_query(request.query_string()).map_or_else(
        |_| Link { email: String::new(), event: String::new(), token: String::new() },
        Query::into_inner,
    )
}

async fn confirm_link(http: &Http, link: &Link) -> Result<(), Problem> {
    let link = EmailLink { email: &link.email, event: &link.event, token: &link.token };
    Ok(in_time(http.application.confirm_email(link)).await??)
}
