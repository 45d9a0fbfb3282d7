use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use serde_json::{Value, json};
use tracing::{Instrument as _, field};

use crate::problem::Problem;
use crate::{Http, client, measure, page};

/// What every answer has in common: a request id, a span and a line in the log, the shape of errors in the language
/// of the request, and that nothing is kept by caches unless the handler said so.
///
/// # Errors
/// Of the service that it wraps; an error of a handler is none, but answered.
pub async fn finish(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let Some(http) = request.app_data::<Data<Http>>().cloned() else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    let id = http.application.entropy.ordered_id(http.application.clock.now()).to_string();
    let route = measure::route(request.match_pattern());
    let span = tracing::info_span!("request", %id, method = %request.method(), path = route, merchant = field::Empty, error = field::Empty);
    async move {
        let method = request.method().clone();
        let language = client::accept_language(request.headers()).map(str::to_owned);
        let response = next.call(request).await?.map_into_boxed_body();
        let mut response = write_problem(response, &http, language.as_deref());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        if !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        headers
            .insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
        let took = started.elapsed();
        measure::answered(&route, &method, response.status(), took);
        let (status, micros) = (response.status().as_u16(), took.as_micros());
        if is_probe(response.request().path(), &method) {
            tracing::debug!(status, micros, "answered");
        } else {
            tracing::info!(status, micros, "answered");
        }
        Ok(response)
    }
    .instrument(span)
    .await
}

/// A refusal whose body was written before: it is of an answer that was kept.
pub(crate) struct Written;

fn is_probe(path: &str, method: &Method) -> bool {
    method == Method::GET && path.starts_with("/health/")
}

/// Writes the body of a refusal. A refusal of the framework has none of ours; its status tells what it is.
pub(crate) fn write_problem(
    response: ServiceResponse,
    http: &Http,
    language: Option<&str>,
) -> ServiceResponse {
    let status = response.status();
    let is_written = response.response().extensions().contains::<Written>();
    if is_written || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = response.response().extensions().get::<Problem>().cloned();
    let problem = problem.unwrap_or_else(|| Problem::of_status(status));
    tracing::Span::current().record("error", problem.error);
    measure::refused(measure::route(response.request().match_pattern()), &problem);
    let locale = http.wording.negotiate(language);
    let of_field = problem.invalid_field().and_then(|field| http.wording.field(&locale, field));
    let message = of_field.unwrap_or_else(|| http.wording.error(&locale, problem.error));
    let (request, old) = response.into_parts();
    let mut written = HttpResponse::build(problem.status);
    for (name, value) in old.headers() {
        if name != CONTENT_TYPE {
            written.append_header((name.clone(), value.clone()));
        }
    }
    let mut response = if page::is_page(request.path()) && client::is_browser(&request) {
        let title = http.wording.page(&locale, "failed_title");
        page::headers(&mut written).body(page::message(locale.as_str(), title, message))
    } else {
        let mut body = json!({
            "error": problem.error,
            "errorId": problem.id,
            "message": message,
            "systemId": "core",
        });
        if let Value::Object(members) = &mut body {
            members.extend(problem.field.map(|field| ("field".to_owned(), json!(field))));
            if !problem.data.is_empty() {
                members.insert("data".to_owned(), Value::Object(problem.data));
            }
        }
        written.json(body)
    };
    response.extensions_mut().insert(Written);
    ServiceResponse::new(request, response)
}
