use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use vestibule_application::CallbackRequest;

use super::in_time;
use crate::body::read_bytes;
use crate::problem::Problem;
use crate::{Http, api};

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
    let callbacks = http.callbacks.as_ref().ok_or_else(Problem::not_found)?;
    let body = read_bytes(&request, payload).await?;
    let headers = headers(&request);
    let path_and_query = request.uri().path_and_query().map_or("/", |both| both.as_str());
    let callback = CallbackRequest { path_and_query, headers: &headers, body: &body };
    in_time(callbacks.receive(&provider, &callback)).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// The headers that are text, which is all that providers sign with. Actix has their names in lower case.
fn headers(request: &HttpRequest) -> Vec<(String, String)> {
    let text = request.headers().iter().filter_map(|(name, value)| Some((name, value.to_str().ok()?)));
    text.map(|(name, value)| (name.as_str().to_owned(), value.to_owned())).collect()
}
