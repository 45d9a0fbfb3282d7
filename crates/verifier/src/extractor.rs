use std::future::{Ready, ready};
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse, ResponseError, error, web};

use crate::claims::Claims;
use crate::refusal::Refusal;
use crate::request::{Answer, bearer};
use crate::verifier::Verifier;

/// Who sends a request, by its bearer token. A handler that takes one is not called without a good one.
///
/// The [`Verifier`] is taken from the application's data, as it is or in [`web::Data`]; the nearest one counts, so a scope
/// may have a stricter one of its own. Without any, requests end with 500 and a line in the log.
///
/// ```
/// use actix_web::{App, get};
/// use vestibule_verifier::{Authenticated, KycLevel, Refusal, Verifier};
///
/// #[get("/limits")]
/// async fn limits(user: Authenticated) -> Result<String, Refusal> {
///     user.require_kyc(KycLevel::KYC_0)?;
///     Ok(format!("The limits of {}", user.user_id))
/// }
///
/// fn serve(verifier: Verifier) {
///     App::new().app_data(verifier).service(limits);
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated(
    /// What the token says.
    pub Claims,
);

impl Deref for Authenticated {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl FromRequest for Authenticated {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticate(request))
    }
}

fn authenticate(request: &HttpRequest) -> Result<Authenticated, Error> {
    let shared = || request.app_data::<web::Data<Verifier>>().map(web::Data::get_ref);
    let verifier = request.app_data::<Verifier>().or_else(shared).ok_or_else(|| {
        tracing::error!("a handler asks who sends the request, and the application has no `Verifier`");
        error::ErrorInternalServerError("")
    })?;
    let token = bearer(request.headers().get_all(AUTHORIZATION).map(HeaderValue::as_bytes))?;
    Ok(Authenticated(verifier.verify_now(token)?))
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(Answer::from(*self).status).unwrap_or(StatusCode::UNAUTHORIZED)
    }

    fn error_response(&self) -> HttpResponse {
        let answer = Answer::from(*self);
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, "application/json"));
        if let Some(challenge) = answer.challenge {
            response.insert_header((WWW_AUTHENTICATE, challenge));
        }
        if let Some(seconds) = answer.retry_after {
            response.insert_header((RETRY_AFTER, seconds));
        }
        response.body(answer.body)
    }
}
