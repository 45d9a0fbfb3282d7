//! Refusals, each with the status, the name and the number that clients know.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value, json};
use vestibule_application::{
    AddEmailError, AnswerOnceError, AuthenticateError, ChangePasswordError, CheckResetCodeError,
    ConfirmEmailError, ConfirmPhoneError, EndSessionError, EraseAccountError, PatchProfileError,
    ReceiveCallbackError, RefreshError, RequestResetError, ResendCodeError, ResendEmailError,
    ResetPasswordError, SignInError, SignUpError, Unavailable,
};
use vestibule_domain::{DeliveryState, Violation, Violations};

use crate::answer_once::IDEMPOTENCY_KEY;

/// The name of the refusal of a value.
const NOT_VALID: &str = "NOT_VALID_REQUEST_DATA";

/// How long a gateway is asked to wait before it says again what could not be recorded.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// How long a client is asked to wait for the answer to a request that is being carried out. Most take less.
const NEARLY_THERE: Duration = Duration::from_secs(1);

/// A refusal, on its way to be written.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// The stable name.
    pub(crate) error: &'static str,
    /// The stable number.
    pub(crate) id: u16,
    pub(crate) field: Option<&'static str>,
    pub(crate) data: Map<String, Value>,
    /// What is behind it, where only the operator may know.
    pub(crate) cause: Option<Cause>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    challenge: &'static str,
}

/// What is behind a refusal that tells clients no more than that something does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Too many passwords wait to be hashed.
    HashingQueue,
    /// A use case took too long.
    Late,
    /// Something that it needs does not work.
    Unavailable,
    /// What is reported of is not recorded yet.
    NotRecorded,
    /// The service stops.
    Stopping,
}

impl Cause {
    /// Its name for the operator.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::HashingQueue => "hashing_queue",
            Self::Late => "late",
            Self::Unavailable => "unavailable",
            Self::NotRecorded => "not_recorded",
            Self::Stopping => "stopping",
        }
    }
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, id: u16) -> Self {
        Self {
            status,
            error,
            id,
            field: None,
            data: Map::new(),
            cause: None,
            retry_after: None,
            allow: None,
            challenge: "Bearer",
        }
    }

    fn bad_request(error: &'static str, id: u16) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, id)
    }

    /// A refusal for rate or cool-down: in seconds, rounded up, so that waiting so long suffices.
    fn too_many(error: &'static str, id: u16, wait: Duration) -> Self {
        Self::waiting(StatusCode::TOO_MANY_REQUESTS, error, id, wait)
    }

    fn waiting(status: StatusCode, error: &'static str, id: u16, wait: Duration) -> Self {
        let seconds = whole_seconds(wait);
        let problem = Self::new(status, error, id).with("retryAfterSeconds", json!(seconds));
        Self { retry_after: Some(seconds), ..problem }
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.data.insert(key.to_owned(), value);
        self
    }

    fn with_delivery(self, delivery: Option<DeliveryState>) -> Self {
        match delivery {
            Some(delivery) => self.with("delivery", json!(delivery.as_str())),
            None => self,
        }
    }

    /// A value that is missing or not valid.
    pub(crate) fn field(field: &'static str) -> Self {
        Self { field: Some(field), ..Self::bad_request(NOT_VALID, 422) }
    }

    /// Whose value is, if that is what is wrong. Of a password only if it breaks the policy: one that is missing may be one to sign in with.
    pub(crate) fn invalid_field(&self) -> Option<&'static str> {
        let is_told = |field: &&str| {
            self.error == NOT_VALID
                && (!["password", "newPassword"].contains(field) || self.data.contains_key("violations"))
        };
        self.field.filter(is_told)
    }

    pub(crate) fn body() -> Self {
        Self::bad_request("INVALID_REQUEST_BODY", 123)
    }

    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", 413)
    }

    pub(crate) fn media_type() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", 415)
    }

    pub(crate) fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", 408)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", 404)
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", 405);
        Self { allow: Some(allow), ..problem }
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", 401)
    }

    /// A callback that its provider did not sign. The numbers from 9000 on are ours.
    pub(crate) fn not_signed() -> Self {
        Self::new(StatusCode::FORBIDDEN, "CALLBACK_NOT_SIGNED", 9001)
    }

    /// Refusals in the form of RFC 6749, section 5.2, whose names are its own.
    pub(crate) fn oauth_grant() -> Self {
        Self::bad_request("invalid_grant", 9002)
    }

    pub(crate) fn oauth_grant_type() -> Self {
        Self::bad_request("unsupported_grant_type", 9003)
    }

    pub(crate) fn oauth_request() -> Self {
        Self::bad_request("invalid_request", 9004)
    }

    pub(crate) fn oauth_client() -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "invalid_client", 9005);
        Self { challenge: "Basic realm=\"vestibule\", charset=\"UTF-8\"", ..problem }
    }

    pub(crate) fn oauth_field(field: &'static str) -> Self {
        Self { field: Some(field), ..Self::oauth_request() }
    }

    /// The draft asks for these two statuses.
    fn key_reused() -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED", 9006);
        Self { field: Some(IDEMPOTENCY_KEY), ..problem }
    }

    fn key_in_use() -> Self {
        Self::waiting(StatusCode::CONFLICT, "IDEMPOTENCY_KEY_IN_USE", 9007, NEARLY_THERE)
    }

    fn too_many_keys(wait: Duration) -> Self {
        Self::too_many("RATE_LIMIT_IDEMPOTENCY_KEY", 9008, wait)
    }

    /// A partner that is none, and those whose signature is not what it should be.
    pub(crate) fn unknown_merchant() -> Self {
        Self::new(StatusCode::FORBIDDEN, "UNKNOWN_MERCHANT", 9010)
    }

    pub(crate) fn no_merchant() -> Self {
        Self::new(StatusCode::FORBIDDEN, "MERCHANT_REQUIRED", 9011)
    }

    pub(crate) fn signature_missing() -> Self {
        Self::signature("SIGNATURE_REQUIRED", 9012)
    }

    pub(crate) fn signature_invalid() -> Self {
        Self::signature("SIGNATURE_INVALID", 9013)
    }

    pub(crate) fn signature_expired() -> Self {
        Self::signature("SIGNATURE_EXPIRED", 9014)
    }

    pub(crate) fn signature_replayed() -> Self {
        Self::signature("SIGNATURE_REPLAYED", 9015)
    }

    fn signature(error: &'static str, id: u16) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, error, id);
        Self { challenge: "X-Signature realm=\"vestibule\"", ..problem }
    }

    /// A dependency is down: the cause is logged here, once, and not told.
    pub(crate) fn unavailable(cause: &Unavailable) -> Self {
        tracing::error!(%cause, "the request could not be served");
        Self::because(Cause::Unavailable, Duration::from_secs(1))
    }

    pub(crate) fn late() -> Self {
        let late = Unavailable("a use case took too long".to_owned());
        Self { cause: Some(Cause::Late), ..Self::unavailable(&late) }
    }

    pub(crate) fn stopping() -> Self {
        Self::because(Cause::Stopping, Duration::from_secs(1))
    }

    fn busy(wait: Duration) -> Self {
        Self::because(Cause::HashingQueue, wait)
    }

    fn because(cause: Cause, wait: Duration) -> Self {
        let problem = Self::waiting(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", 503, wait);
        Self { cause: Some(cause), ..problem }
    }

    /// The refusal that a status of the framework stands for.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => Self::new(status, "METHOD_NOT_ALLOWED", 405),
            StatusCode::REQUEST_TIMEOUT => Self::slow(),
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::media_type(),
            StatusCode::UNAUTHORIZED => Self::unauthorized(),
            status if status.is_client_error() => Self::new(status, "INVALID_REQUEST_BODY", 123),
            status => Self::new(status, "INTERNAL_SERVER_ERROR", 500),
        }
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.error, self.id)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    /// The head of the answer; the middleware writes the body, since the language is the request's.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, self.challenge));
        }
        let mut response = response.finish();
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl From<&Violations> for Problem {
    fn from(violations: &Violations) -> Self {
        Self::violations("password", violations)
    }
}

impl From<SignUpError> for Problem {
    fn from(error: SignUpError) -> Self {
        match error {
            SignUpError::ClientCountryBlocked => {
                Self::new(StatusCode::FORBIDDEN, "COUNTRY_BLOCKED_FOR_REGISTRATION", 0)
            }
            SignUpError::Phone(_) => Self::field("phone"),
            SignUpError::PhoneCountryBlocked => {
                Self::new(StatusCode::FORBIDDEN, "PHONE_PREFIX_BLOCKED_FOR_REGISTRATION", 0)
            }
            SignUpError::Password(violations) => Self::from(&violations),
            SignUpError::AlreadyRegistered => Self::new(StatusCode::FORBIDDEN, "ALREADY_REGISTERED", 115),
            SignUpError::CoolDown { retry_after } => Self::cool_down(retry_after),
            SignUpError::TooMany { retry_after } => Self::rate_limit(retry_after),
            SignUpError::Busy { retry_after } => Self::busy(retry_after),
            SignUpError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<ConfirmPhoneError> for Problem {
    fn from(error: ConfirmPhoneError) -> Self {
        match error {
            ConfirmPhoneError::Phone(_) => Self::field("phone"),
            ConfirmPhoneError::NotFound => Self::customer_not_found(),
            ConfirmPhoneError::WrongCode { attempts_left } => {
                Self::bad_request("CUSTOMER_SMS_CODE_INCORRECT", 117)
                    .with("attemptsLeft", json!(attempts_left))
            }
            ConfirmPhoneError::Expired => Self::bad_request("CUSTOMER_SMS_CODE_EXPIRED", 118),
            ConfirmPhoneError::Exhausted { retry_after } | ConfirmPhoneError::TooMany { retry_after } => {
                Self::exhausted(retry_after)
            }
            ConfirmPhoneError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<ResendCodeError> for Problem {
    fn from(error: ResendCodeError) -> Self {
        match error {
            ResendCodeError::Phone(_) => Self::field("phone"),
            ResendCodeError::NotFound => Self::customer_not_found(),
            ResendCodeError::CoolDown { retry_after, delivery } => {
                Self::cool_down(retry_after).with_delivery(delivery)
            }
            ResendCodeError::TooMany { retry_after, delivery } => {
                Self::rate_limit(retry_after).with_delivery(delivery)
            }
            ResendCodeError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Phone(_) => Self::field("number"),
            SignInError::WrongPassword => Self::wrong_password(),
            SignInError::Locked { retry_after } => Self::locked(retry_after),
            SignInError::Blocked => Self::new(StatusCode::FORBIDDEN, "CUSTOMER_STATUS_INCORRECT", 3),
            SignInError::Busy { retry_after } => Self::busy(retry_after),
            SignInError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<RefreshError> for Problem {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Invalid => Self::oauth_grant(),
            RefreshError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<EndSessionError> for Problem {
    fn from(error: EndSessionError) -> Self {
        match error {
            EndSessionError::NotFound => Self::not_found(),
            EndSessionError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<ChangePasswordError> for Problem {
    fn from(error: ChangePasswordError) -> Self {
        match error {
            ChangePasswordError::WrongPassword => Self::wrong_password(),
            ChangePasswordError::Locked { retry_after } => Self::locked(retry_after),
            ChangePasswordError::Password(violations) => Self::violations("newPassword", &violations),
            ChangePasswordError::Unauthorized => Self::unauthorized(),
            ChangePasswordError::Busy { retry_after } => Self::busy(retry_after),
            ChangePasswordError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<RequestResetError> for Problem {
    fn from(error: RequestResetError) -> Self {
        match error {
            RequestResetError::Phone(_) => Self::field("phone"),
            RequestResetError::CoolDown { retry_after } => Self::cool_down(retry_after),
            RequestResetError::TooMany { retry_after } => Self::rate_limit(retry_after),
            RequestResetError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<CheckResetCodeError> for Problem {
    fn from(error: CheckResetCodeError) -> Self {
        match error {
            CheckResetCodeError::Phone(_) => Self::field("phone"),
            CheckResetCodeError::WrongCode { attempts_left } => {
                Self::bad_request("CUSTOMER_VERIFICATION_CODE_INCORRECT", 8)
                    .with("attemptsLeft", json!(attempts_left))
            }
            CheckResetCodeError::Expired => Self::bad_request("CUSTOMER_VERIFICATION_CODE_EXPIRED", 9),
            CheckResetCodeError::Exhausted { retry_after } | CheckResetCodeError::TooMany { retry_after } => {
                Self::exhausted(retry_after)
            }
            CheckResetCodeError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<ResetPasswordError> for Problem {
    fn from(error: ResetPasswordError) -> Self {
        match error {
            ResetPasswordError::Code(refused) => refused.into(),
            ResetPasswordError::Password(violations) => Self::from(&violations),
            ResetPasswordError::Busy { retry_after } => Self::busy(retry_after),
            ResetPasswordError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<EraseAccountError> for Problem {
    fn from(error: EraseAccountError) -> Self {
        match error {
            EraseAccountError::WrongPassword => Self::wrong_password(),
            EraseAccountError::Locked { retry_after } => Self::locked(retry_after),
            EraseAccountError::Unauthorized => Self::unauthorized(),
            EraseAccountError::Busy { retry_after } => Self::busy(retry_after),
            EraseAccountError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<AnswerOnceError> for Problem {
    fn from(error: AnswerOnceError) -> Self {
        match error {
            AnswerOnceError::Running => Self::key_in_use(),
            AnswerOnceError::OtherPayload => Self::key_reused(),
            AnswerOnceError::TooMany { retry_after } => Self::too_many_keys(retry_after),
            AnswerOnceError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<AuthenticateError> for Problem {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::Unauthorized => Self::unauthorized(),
            AuthenticateError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<AddEmailError> for Problem {
    fn from(error: AddEmailError) -> Self {
        match error {
            AddEmailError::Address(_) => Self::field("email"),
            AddEmailError::Taken => Self::email_taken(),
            AddEmailError::AlreadyConfirmed => Self::email_confirmed(),
            AddEmailError::TooMany { retry_after } => Self::rate_limit(retry_after),
            AddEmailError::Unauthorized => Self::unauthorized(),
            AddEmailError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<ResendEmailError> for Problem {
    fn from(error: ResendEmailError) -> Self {
        match error {
            ResendEmailError::NoAddress => Self::field("email"),
            ResendEmailError::AlreadyConfirmed => Self::email_confirmed(),
            ResendEmailError::CoolDown { retry_after } => Self::cool_down(retry_after),
            ResendEmailError::TooMany { retry_after } => Self::rate_limit(retry_after),
            ResendEmailError::Unauthorized => Self::unauthorized(),
            ResendEmailError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<ConfirmEmailError> for Problem {
    fn from(error: ConfirmEmailError) -> Self {
        match error {
            ConfirmEmailError::Invalid => Self::bad_request("EMAIL_TOKEN_INVALID", 169),
            ConfirmEmailError::Expired => Self::bad_request("EMAIL_TOKEN_EXPIRED", 170),
            ConfirmEmailError::Taken => Self::email_taken(),
            ConfirmEmailError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<PatchProfileError> for Problem {
    fn from(error: PatchProfileError) -> Self {
        match error {
            PatchProfileError::Field(invalid) => Self::field(invalid.field.as_str()),
            PatchProfileError::Unauthorized => Self::unauthorized(),
            PatchProfileError::Unavailable(cause) => Self::unavailable(&cause),
        }
    }
}

impl From<ReceiveCallbackError> for Problem {
    fn from(error: ReceiveCallbackError) -> Self {
        match error {
            ReceiveCallbackError::UnknownProvider => Self::not_found(),
            ReceiveCallbackError::Unsigned => Self::not_signed(),
            ReceiveCallbackError::Malformed => Self::body(),
            ReceiveCallbackError::NotRecorded => Self::because(Cause::NotRecorded, SAY_AGAIN),
        }
    }
}

/// Refusals that more than one endpoint has.
impl Problem {
    fn cool_down(wait: Duration) -> Self {
        Self::too_many("SMS_CODE_DELAY_NOT_REACHED", 157, wait)
    }

    fn rate_limit(wait: Duration) -> Self {
        Self::too_many("RATE_LIMIT_SIGNUP_ATTEMPT", 167, wait)
    }

    fn exhausted(wait: Duration) -> Self {
        Self::too_many("CUSTOMER_SMS_CODE_ATTEMPTS_EXCEEDED", 119, wait)
    }

    fn wrong_password() -> Self {
        Self::bad_request("WRONG_LOGIN_OR_PASSWORD_EXCEPTION", 11)
    }

    fn locked(wait: Duration) -> Self {
        Self::too_many("LOGIN_ATTEMPTS_EXCEEDED", 273, wait)
    }

    fn violations(field: &'static str, violations: &Violations) -> Self {
        let names: Vec<_> = violations.iter().map(Violation::as_str).collect();
        Self::field(field).with("violations", json!(names))
    }

    fn customer_not_found() -> Self {
        Self::bad_request("CUSTOMER_NOT_FOUND_EXCEPTION", 2)
    }

    fn email_taken() -> Self {
        Self::bad_request("EMAIL_IS_ALREADY_REGISTERED", 168)
    }

    fn email_confirmed() -> Self {
        Self::bad_request("EMAIL_ALREADY_CONFIRMED", 310)
    }
}
