mod account;
mod callbacks;
mod email;
mod oauth;
mod password;
mod personal_data;
mod phone;
mod profile;
mod sessions;

use std::future::Future;
use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::middleware::{Condition, from_fn};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};
use serde_json::json;
use vestibule_application::{Customer, TokenPair};
use vestibule_domain::Locale;

use crate::answer_once::{Takes, answer_once};
use crate::body::{Fields, is_of_json, read_bytes};
use crate::problem::Problem;
use crate::{Http, api, client, docs, page, partners};

pub(crate) use account::{__path_erase, __path_export, erase, export};
pub(crate) use callbacks::{__path_sms_delivery, sms_delivery};
pub(crate) use email::{
    __path_add, __path_confirm, __path_confirm_by_link, __path_resend as __path_resend_email,
};
pub(crate) use email::{add, confirm, confirm_by_link, resend as resend_email};
pub(crate) use oauth::{__path_introspect, __path_revoke, __path_token, introspect, revoke, token};
pub(crate) use password::{__path_change, __path_check_reset_code, __path_request_reset, __path_reset};
pub(crate) use password::{change, check_reset_code, request_reset, reset};
pub(crate) use phone::{__path_confirm_phone, __path_resend_code, __path_sign_up};
pub(crate) use phone::{confirm_phone, resend_code, sign_up};
pub(crate) use profile::{__path_kyc, __path_patch, __path_read};
pub(crate) use profile::{kyc, patch, read};
pub(crate) use sessions::{__path_list, __path_revoke_session, __path_sign_out};
pub(crate) use sessions::{list, revoke_session, sign_out};

/// No use case takes longer, unless something that it needs has stopped to answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Nor does finding out whose token it is.
const TOKEN_PATIENCE: Duration = Duration::from_secs(1);

/// The longest that a client waits, once it has sent its request.
pub(crate) const LONGEST_ANSWER: Duration = PATIENCE.saturating_add(TOKEN_PATIENCE);

/// The route table. What changes something may be repeated with a key: but not the reports of gateways, which are signed anew each time,
/// and not the question what a token is worth, whose answer must be of now. What apps of partners use lets none through that is not to
/// be: see [`partners::concerns`].
pub(crate) fn register(config: &mut ServiceConfig) {
    use Takes::{Anybodys, Customers};

    once(config, Anybodys, "/v2/mobile/signup", "POST", [web::post().to(sign_up)]);
    once(config, Anybodys, "/v2/mobile/phone/confirm", "POST", [web::post().to(confirm_phone)]);
    once(config, Anybodys, "/v2/mobile/phone/verify/resend", "POST", [web::post().to(resend_code)]);
    once(config, Customers, "/v2/mobile/email/add", "PUT", [web::put().to(add)]);
    let confirm_routes =
        [web::get().to(confirm_by_link), web::head().to(email::head), web::post().to(confirm)];
    once(config, Anybodys, page::PATH, "GET, HEAD, POST", confirm_routes);
    once(config, Customers, "/v2/mobile/email/verify/resend", "POST", [web::post().to(resend_email)]);
    let profile_routes = [web::get().to(read), web::patch().to(patch)];
    once(config, Customers, "/v2/customer/profile", "GET, PATCH", profile_routes);
    resource(config, "/v2/customer/kyc/data", "GET", [web::get().to(kyc)]);
    resource(config, "/v2/customer/sessions", "GET", [web::get().to(list)]);
    resource(config, "/v2/customer/sessions/{id}", "DELETE", [web::delete().to(revoke_session)]);
    resource(config, "/v2/customer/export", "GET", [web::get().to(export)]);
    resource(config, "/v2/customer", "DELETE", [web::delete().to(erase)]);
    once(config, Customers, "/v2/mobile/password/change", "PUT", [web::put().to(change)]);
    once(config, Anybodys, "/v2/mobile/password/reset", "POST", [web::post().to(request_reset)]);
    let check_routes = [web::post().to(check_reset_code)];
    once(config, Anybodys, "/v2/mobile/password/reset/confirm/code", "POST", check_routes);
    once(config, Anybodys, "/v2/mobile/password/reset/confirm", "POST", [web::post().to(reset)]);
    once(config, Anybodys, "/oauth/token", "POST", [web::post().to(token)]);
    once(config, Anybodys, "/oauth/revoke", "POST", [web::post().to(revoke)]);
    resource(config, "/oauth/introspect", "POST", [web::post().to(introspect)]);
    once(config, Customers, "/signout", "POST", [web::post().to(sign_out)]);
    resource(config, "/callbacks/sms/{provider}", "POST", [web::post().to(sms_delivery)]);
    resource(config, "/.well-known/paseto-keys", "GET", [web::get().to(paseto_keys)]);
    resource(config, "/openapi.json", "GET", [web::get().to(api::document)]);
    resource(config, "/docs", "GET", [web::get().to(docs::page)]);
    resource(config, "/docs/{file}", "GET", [web::get().to(docs::part)]);
}

pub(crate) fn register_health(config: &mut ServiceConfig) {
    resource(config, "/health/live", "GET, HEAD", [web::get().to(live), web::head().to(live)]);
    resource(config, "/health/ready", "GET, HEAD", [web::get().to(ready), web::head().to(ready)]);
}

fn resource<const N: usize>(config: &mut ServiceConfig, path: &str, allow: &'static str, routes: [Route; N]) {
    let of_partners = Condition::new(partners::concerns(path), from_fn(partners::admit));
    config.service(with_routes(path, allow, routes).wrap(of_partners));
}

/// A resource whose requests may be repeated with a key.
fn once<const N: usize>(
    config: &mut ServiceConfig,
    takes: Takes,
    path: &str,
    allow: &'static str,
    routes: [Route; N],
) {
    let once = from_fn(move |request, next| answer_once(takes, request, next));
    // Outermost: an answer is not repeated to whom nothing would be answered.
    let of_partners = Condition::new(partners::concerns(path), from_fn(partners::admit));
    config.service(with_routes(path, allow, routes).wrap(once).wrap(of_partners));
}

fn with_routes<const N: usize>(path: &str, allow: &'static str, routes: [Route; N]) -> Resource {
    let refuse = move || async move { Err::<HttpResponse, _>(Problem::method(allow)) };
    let resource = web::resource(path).default_service(web::to(refuse));
    routes.into_iter().fold(resource, Resource::route)
}

/// Nothing is at the path.
pub(crate) async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found())
}

/// The process runs.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, description = "The process runs.")))]
pub(crate) async fn live() -> HttpResponse {
    done()
}

/// Requests can be served.
#[utoipa::path(get, path = "/health/ready", tag = "operations", responses(
    (status = 200, description = "Requests can be served."),
    (status = 503, description = "The database cannot be used, or the service stops.", body = api::Error),
))]
pub(crate) async fn ready(http: Data<Http>) -> Result<HttpResponse, Problem> {
    if http.underway.is_leaving() {
        return Err(Problem::stopping());
    }
    in_time(http.application.ready()).await?.map_err(|cause| Problem::unavailable(&cause))?;
    Ok(done())
}

/// The keys that access tokens can be checked with.
#[utoipa::path(get, path = "/.well-known/paseto-keys", tag = "operations", responses((status = 200, description = "The keys.", body = api::Keys)))]
pub(crate) async fn paseto_keys(http: Data<Http>) -> HttpResponse {
    let keys = http.application.public_keys();
    let keys: Vec<_> =
        keys.iter().map(|key| json!({ "kid": key.id, "key": key.key, "active": key.active })).collect();
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=300")).json(json!({ "keys": keys }))
}

/// What an action answers that returns nothing else.
fn done() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "result": "ok" }))
}

/// What a signed-in client gets.
fn tokens(pair: &TokenPair) -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "access_token": pair.access_token.expose(),
        "token_type": "bearer",
        "refresh_token": pair.refresh_token.expose(),
        "expires_in": pair.expires_in,
        "scope": "read write",
        "userId": pair.user.to_string(),
    }))
}

/// Waits for a use case, but not for one that hangs. Dropping one leaves nothing half done.
async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, Problem> {
    within(PATIENCE, work).await
}

pub(crate) async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(patience, work).await.map_err(|_| Problem::late())
}

/// The customer whose token the request carries, and what it asks. A token that is none is refused before the body is read; whether its session
/// lives is looked at when the whole body is here, or who held one back would change something when the session has long ended. Who is not
/// signed in learns that before what is wrong with the body.
async fn authenticate_with_body(
    http: &Http,
    request: &HttpRequest,
    payload: Payload,
) -> Result<(Customer, Fields), Problem> {
    let token = client::bearer(request).ok_or_else(Problem::unauthorized)?;
    http.application.token_asker(token).ok_or_else(Problem::unauthorized)?;
    let body = match is_of_json(request) {
        Ok(()) => read_bytes(request, payload).await,
        Err(problem) => Err(problem),
    };
    let customer = authenticate(http, request).await?;
    Ok((customer, Fields::of(request, &body?)?))
}

/// The customer whose token the request carries.
async fn authenticate(http: &Http, request: &HttpRequest) -> Result<Customer, Problem> {
    let token = client::bearer(request).ok_or_else(Problem::unauthorized)?;
    Ok(within(TOKEN_PATIENCE, http.application.authenticate(token)).await??)
}

fn locale(http: &Http, request: &HttpRequest) -> Locale {
    http.wording.negotiate(client::accept_language(request.headers()))
}
