//! Requests with an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the first answer is kept, and repeated as it was.
//!
//! Such a request is carried out to its end whether or not its client is still there: who lost the answer finds it when he asks again.
//! Kept is what was decided, which is success or a lasting refusal. Whatever may be otherwise next time leaves nothing behind.

mod key;

use std::borrow::Cow;
use std::future::ready;

use actix_web::body::{BoxBody, to_bytes};
use actix_web::dev::{self, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpMessage as _, HttpResponse, HttpResponseBuilder, rt};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;
use vestibule_application::{Asker, Execution, IdempotencyKey, KeyedRequest, Turn};
use vestibule_domain::{MerchantId, Origin};
use zeroize::Zeroizing;

use crate::finish::{Written, write_problem};
use crate::handlers::{LONGEST_ANSWER, within};
use crate::problem::Problem;
use crate::{Http, body, client};

/// The header, which is the field at fault where the key is.
pub(crate) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Whose requests a resource takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A customer's; others are refused.
    Customers,
    /// Anybody's.
    Anybodys,
}

/// Carries a request with a key out once; one without is none of its business.
///
/// # Errors
/// Of the service that it wraps.
pub(crate) async fn answer_once(
    takes: Takes,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if !request.headers().contains_key(IDEMPOTENCY_KEY) || !is_change(request.method()) {
        return next.call(request).await;
    }
    let Some(http) = request.app_data::<Data<Http>>().cloned() else {
        return next.call(request).await;
    };
    // Before anything is read: who sends no good token is refused for that, by the handler.
    let Some(asker) = asker(takes, &http, &request) else {
        return next.call(request).await;
    };
    let origin = client::origin(request.request(), &http.trusted_proxies);
    let keyed = match read(asker, origin, &mut request).await {
        Ok(keyed) => keyed,
        Err(problem) => return Ok(request.error_response(problem)),
    };
    let head = request.request().clone();
    let running = http.underway.begin();
    let answering = answer(http, keyed, request, next).in_current_span();
    let answered = match running {
        // A task of its own: this future is dropped when the client goes away.
        Some(running) => {
            let task = rt::spawn(async move {
                let answered = answering.await;
                drop(running);
                answered
            });
            within(LONGEST_ANSWER, task).await.and_then(|ended| ended.map_err(|_| failed()))
        }
        None => within(LONGEST_ANSWER, answering).await,
    };
    answered.unwrap_or_else(|problem| Ok(ServiceResponse::from_err(problem, head)))
}

fn is_change(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn failed() -> Problem {
    Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A request with all that it carries.
struct Keyed {
    key: IdempotencyKey,
    asker: Asker,
    merchant: Option<MerchantId>,
    origin: Origin,
    method: Method,
    path: String,
    /// The query, the media type and the body.
    payload: [Bytes; 3],
}

impl Keyed {
    async fn begin(&self, http: &Http) -> Result<Turn, Problem> {
        let payload: Vec<&[u8]> = self.payload.iter().map(AsRef::as_ref).collect();
        let target = [self.method.as_str(), self.path.as_str()];
        let Self { key, asker, merchant, origin, .. } = self;
        let (asker, merchant, origin) = (*asker, *merchant, *origin);
        let request = KeyedRequest { key, target, asker, merchant, origin, payload: &payload };
        Ok(http.application.begin_request(&request).await?)
    }
}

/// Who asks, if the resource takes its requests. A customer's session is known by any good token; so a repeat after a refresh is found.
fn asker(takes: Takes, http: &Http, request: &ServiceRequest) -> Option<Asker> {
    match takes {
        Takes::Customers => {
            client::bearer(request.request()).and_then(|token| http.application.token_asker(token))
        }
        Takes::Anybodys => Some(Asker::Anybody(client::fingerprint(request.request()))),
    }
}

/// Reads the key and the body, which the handler then finds as it was.
async fn read(asker: Asker, origin: Origin, request: &mut ServiceRequest) -> Result<Keyed, Problem> {
    let key = key::parse(request.headers()).ok_or_else(|| Problem::field(IDEMPOTENCY_KEY))?;
    let payload = request.extract::<Payload>().await.map_err(|_| Problem::body())?;
    let body = body::read_bytes(request.request(), payload).await?.freeze();
    let again = Box::pin(stream::once(ready(Ok(body.clone()))));
    request.set_payload(dev::Payload::Stream { payload: again });
    let media_type =
        request.headers().get(CONTENT_TYPE).map(|value| Bytes::copy_from_slice(value.as_bytes()));
    let query = Bytes::copy_from_slice(request.query_string().as_bytes());
    Ok(Keyed {
        key,
        asker,
        merchant: request.extensions().get().copied(),
        origin,
        method: request.method().clone(),
        path: request.path().to_owned(),
        payload: [query, media_type.unwrap_or_default(), body],
    })
}

/// Repeats the answer, or carries the request out and keeps it.
async fn answer(
    http: Data<Http>,
    keyed: Keyed,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let execution = match keyed.begin(&http).await {
        Ok(Turn::First(execution)) => execution,
        Ok(Turn::Repeat(kept)) => {
            let repeated = repeat(&kept).unwrap_or_else(|| HttpResponse::from_error(failed()));
            return Ok(request.into_response(repeated));
        }
        Err(problem) => return Ok(request.error_response(problem)),
    };
    tracing::debug!("a request with a key is begun");
    let language = client::accept_language(request.headers()).map(str::to_owned);
    let response = match next.call(request).await {
        Ok(response) => write_problem(response, &http, language.as_deref()),
        Err(error) => {
            forget(&http, &execution).await;
            return Err(error);
        }
    };
    Ok(keep(&http, &execution, response).await)
}

/// Keeps an answer that decides something. It is on record before the client gets it: what it was told once it is told again.
async fn keep(http: &Http, execution: &Execution, response: ServiceResponse) -> ServiceResponse {
    if !is_decided(response.status()) {
        forget(http, execution).await;
        return response;
    }
    let (request, response) = response.into_parts();
    let (head, body) = response.into_parts();
    // A body that is in memory does not fail.
    let body = to_bytes(body).await.unwrap_or_default();
    match Kept::of(&head, &body) {
        Some(kept) => {
            if let Err(cause) = http.application.keep_answer(execution, &kept).await {
                tracing::error!(%cause, "an answer could not be kept: a repeat carries the request out again");
            }
        }
        None => forget(http, execution).await,
    }
    ServiceResponse::new(request, head.set_body(BoxBody::new(body)))
}

/// A refusal that asks to come again, that says nothing of the request itself, or that hangs on more than what it carries, as a 403 does
/// on the client's country or a block by the operator, must not stand for a day.
fn is_decided(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::BAD_REQUEST
}

async fn forget(http: &Http, execution: &Execution) {
    if let Err(cause) = http.application.forget_request(execution).await {
        tracing::warn!(%cause, "a request could not be forgotten: its repeat is refused until the lease ends");
    }
}

/// An answer as it is kept. What every answer has of its own, such as the request id, is not in it yet.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(borrow)]
    body: Cow<'a, str>,
}

impl Kept<'_> {
    /// `None` for what is no text, which no answer of ours is.
    fn of(head: &HttpResponse<()>, body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let headers = head.headers().iter();
        let headers = headers.map(|(name, value)| Some((name.as_str().into(), value.to_str().ok()?.into())));
        let kept = Kept {
            status: head.status().as_u16(),
            headers: headers.collect::<Option<_>>()?,
            body: std::str::from_utf8(body).ok()?.into(),
        };
        serde_json::to_vec(&kept).ok().map(Zeroizing::new)
    }
}

fn repeat(kept: &[u8]) -> Option<HttpResponse> {
    let Kept { status, headers, body } = serde_json::from_slice(kept).ok()?;
    let mut response = HttpResponseBuilder::new(StatusCode::from_u16(status).ok()?);
    for (name, value) in headers {
        response.append_header((&*name, &*value));
    }
    response
        .insert_header((HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true")));
    let mut response = if body.is_empty() { response.finish() } else { response.body(body.into_owned()) };
    response.extensions_mut().insert(Written);
    Some(response)
}
