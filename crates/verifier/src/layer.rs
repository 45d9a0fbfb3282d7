use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::refusal::Refusal;
use crate::request::{Answer, bearer};
use crate::verifier::Verifier;

/// Lets requests through whose bearer token is good, with its [`Claims`](crate::Claims) in their extensions, and answers
/// the others itself, with the [`Refusal`] in the extensions of the response for whoever logs or counts.
///
/// The body of a response may be of any type that a text can become, as `axum::body::Body`.
///
/// ```
/// use axum::routing::get;
/// use axum::{Extension, Router};
/// use vestibule_verifier::{Claims, Verifier, VerifierLayer};
///
/// async fn me(Extension(claims): Extension<Claims>) -> String {
///     format!("You are {}", claims.user_id)
/// }
///
/// fn routes(verifier: Verifier) -> Router {
///     Router::new().route("/me", get(me)).layer(VerifierLayer::new(verifier))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct VerifierLayer {
    verifier: Verifier,
}

/// What [`VerifierLayer`] makes of a service.
#[derive(Debug, Clone)]
pub struct VerifierService<S> {
    verifier: Verifier,
    inner: S,
}

impl VerifierLayer {
    /// A layer that asks for what the verifier asks for.
    #[must_use]
    pub const fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }
}

impl<S> Layer<S> for VerifierLayer {
    type Service = VerifierService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        VerifierService { verifier: self.verifier.clone(), inner }
    }
}

impl<S, B, R> Service<Request<B>> for VerifierService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: From<&'static str>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let values = request.headers().get_all(AUTHORIZATION).iter();
        let claims =
            bearer(values.map(HeaderValue::as_bytes)).and_then(|token| self.verifier.verify_now(token));
        match claims {
            Ok(claims) => {
                request.extensions_mut().insert(claims);
                Either::Left(self.inner.call(request))
            }
            Err(refusal) => Either::Right(ready(Ok(refuse(refusal)))),
        }
    }
}

fn refuse<R: From<&'static str>>(refusal: Refusal) -> Response<R> {
    let answer = Answer::from(refusal);
    let mut response = Response::new(R::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::UNAUTHORIZED);
    response.extensions_mut().insert(refusal);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(challenge) = answer.challenge {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}
