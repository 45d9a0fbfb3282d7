use std::time::Duration;

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use vestibule_port_sms::{CallbackRequest, DeliveryReport};

use super::in_time;
use crate::body::read_bytes;
use crate::problem::Problem;
use crate::{Deliveries, Http, api};

/// How long a gateway is asked to wait before it says again what could not be recorded.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// For gateways: what became of a message that a provider took. The provider signs it, each in its own way.
#[utoipa::path(post, path = "/callbacks/sms/{provider}", tag = "operations", params(
    ("provider" = String, Path, description = "The provider's name in the configuration: `twilio`, `webhook`."),
), request_body(
    content = Vec<u8>, content_type = "application/octet-stream", description = "As the provider writes it, up to 16 KiB."
), responses(
    (status = 204, description = "Recorded, or about nothing that needs recording."),
    (status = 400, description = "123 (signed, and makes no sense)", body = api::Error),
    (status = 403, description = "9001 (the signature is missing, not the provider's, or too old)", body = api::Error),
    (status = 404, description = "404 (no such provider, or it takes no callbacks)", body = api::Error),
    (status = 413, description = "413", body = api::Error),
    (status = 503, description = "503, with `Retry-After`: not recorded, say it again", body = api::Error),
))]
pub(crate) async fn sms_delivery(
    http: Data<Http>,
    provider: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let Some(deliveries) = &http.deliveries else { return Err(Problem::not_found()) };
    let callbacks = deliveries.callbacks.iter().find(|callbacks| callbacks.name() == provider.as_str());
    let callbacks = callbacks.ok_or_else(Problem::not_found)?;
    let body = read_bytes(&request, payload).await?;
    let headers = headers(&request);
    let path_and_query = request.uri().path_and_query().map_or("/", |both| both.as_str());
    let callback = CallbackRequest { path_and_query, headers: &headers, body: &body };
    if let Some(report) = callbacks.read(&callback)? {
        record(deliveries, report).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn record(deliveries: &Deliveries, report: DeliveryReport) -> Result<(), Problem> {
    if in_time(deliveries.reports.record(report)).await? { Ok(()) } else { Err(Problem::busy(SAY_AGAIN)) }
}

/// The headers that are text, which is all that providers sign with. Actix has their names in lower case.
fn headers(request: &HttpRequest) -> Vec<(String, String)> {
    let text = request.headers().iter().filter_map(|(name, value)| Some((name, value.to_str().ok()?)));
    text.map(|(name, value)| (name.as_str().to_owned(), value.to_owned())).collect()
}
