//! The OpenAPI document: the bodies' shapes, and the handlers that describe themselves.

#![expect(dead_code, reason = "the types describe bodies; nothing constructs them")]
#![expect(clippy::struct_field_names, reason = "the names are those of the wire")]

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::answer_once::IDEMPOTENCY_KEY;
use crate::partners::{MERCHANT, SIGNATURE};
use crate::{handlers, partners};

/// A sign-up.
#[derive(ToSchema)]
pub(crate) struct SignUp {
    /// In international form; spaces, dashes, brackets and a leading `00` are accepted.
    #[schema(example = "+447871234567")]
    phone: String,
    /// 8 to 128 characters with a digit and a letter, not easily guessed.
    #[schema(example = "correct-horse-7", format = Password)]
    password: String,
    /// The device, if `X-Fingerprint` does not name it.
    fingerprint: Option<String>,
    /// Accepted and ignored.
    #[schema(rename = "analyticsCallback")]
    analytics_callback: Option<String>,
}

/// A recorded sign-up.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct SignedUp {
    #[schema(example = "ok")]
    result: String,
    /// Repeat it at the confirmation: it proves that both come from one client.
    registration_id: uuid::Uuid,
    /// Seconds that the code lives.
    expires_in: u64,
    /// Seconds until the code can be sent again.
    resend_in: u64,
}

/// A code that somebody typed.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ConfirmPhone {
    #[schema(example = "+447871234567")]
    phone: String,
    /// The code.
    #[schema(example = "123456")]
    sms_code: Option<String>,
    /// Another name for `smsCode`, one of which must be there.
    code: Option<String>,
    /// The device.
    fingerprint: Option<String>,
    /// As the sign-up answered it.
    registration_id: Option<uuid::Uuid>,
}

/// A wish for another message.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ResendCode {
    #[schema(example = "+447871234567")]
    phone: String,
    fingerprint: Option<String>,
    registration_id: Option<uuid::Uuid>,
}

/// A queued message.
#[derive(ToSchema)]
pub(crate) struct ResentCode {
    #[schema(example = "ok")]
    result: String,
    data: Option<LastDelivery>,
}

/// What became of the message before.
#[derive(ToSchema)]
pub(crate) struct LastDelivery {
    delivery: Delivery,
}

/// How far a message has come.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Delivery {
    /// It waits to be sent, or to be sent again.
    Queued,
    /// The provider has taken it.
    Sent,
    /// The handset has it.
    Delivered,
    /// It will not arrive.
    Failed,
    /// It came to nothing before it arrived.
    Expired,
}

/// The tokens of a session.
#[derive(ToSchema)]
pub(crate) struct Tokens {
    /// PASETO v4.public.
    access_token: String,
    #[schema(example = "bearer")]
    token_type: String,
    /// Opaque.
    refresh_token: String,
    /// Seconds until the access token expires.
    expires_in: u64,
    #[schema(example = "read write")]
    scope: String,
    #[schema(rename = "userId")]
    user_id: uuid::Uuid,
}

/// An address to add.
#[derive(ToSchema)]
pub(crate) struct AddEmail {
    #[schema(example = "anna@example.com", format = Email)]
    email: String,
}

/// The values of a confirmation link.
#[derive(ToSchema)]
pub(crate) struct EmailLink {
    email: String,
    event: String,
    token: String,
}

/// Personal details. Absent is unchanged, `null` clears.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Profile {
    first_name: Option<String>,
    last_name: Option<String>,
    /// A date or an RFC 3339 date-time.
    #[schema(example = "1990-05-17")]
    date_of_birth: Option<String>,
    /// ISO 4217.
    #[schema(example = "EUR")]
    primary_currency: Option<String>,
    /// ISO 3166-1, alpha-2 or alpha-3.
    #[schema(example = "GB")]
    residence_country: Option<String>,
    citizenship_country: Option<String>,
    residence_state: Option<String>,
    residence_city: Option<String>,
    residence_street: Option<String>,
    residence_zip_code: Option<String>,
}

/// What a customer sees of the account.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct CustomerProfile {
    #[schema(inline)]
    #[serde(flatten)]
    details: Profile,
    user_id: uuid::Uuid,
    phone: String,
    email: Option<String>,
    confirmed_email: bool,
    push_enabled: bool,
    #[schema(rename = "enabled2FA")]
    enabled_2fa: bool,
    /// Only where it is true: the account was opened with the fixed code of a test number.
    test_account: Option<bool>,
}

/// How far a customer is known.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Kyc {
    /// `NONE` or `KYC_0`.
    #[schema(example = "KYC_0")]
    kyc_level: String,
    kyc1_client_data: Kyc1,
    /// What still stands between the customer and KYC_0: `email` and names of profile fields.
    missing: Vec<String>,
}

/// The next level.
#[derive(ToSchema)]
pub(crate) struct Kyc1 {
    #[schema(example = "UNDEFINED")]
    status: String,
}

/// An action that returns nothing else.
#[derive(ToSchema)]
pub(crate) struct Done {
    #[schema(example = "ok")]
    result: String,
}

/// A sign-in or a refresh.
#[derive(ToSchema)]
pub(crate) struct TokenRequest {
    /// `mobile_phone` or `refresh_token`.
    #[schema(example = "mobile_phone")]
    grant_type: String,
    /// Of `mobile_phone`.
    #[schema(example = "+447871234567")]
    number: Option<String>,
    /// Of `mobile_phone`.
    #[schema(example = "correct-horse-7", format = Password)]
    password: Option<String>,
    /// Of `mobile_phone`: the device, if `X-Fingerprint` does not name it.
    fingerprint: Option<String>,
    /// Of `refresh_token`.
    refresh_token: Option<String>,
}

/// An access or a refresh token.
#[derive(ToSchema)]
pub(crate) struct PresentedToken {
    token: String,
    /// Accepted and ignored.
    token_type_hint: Option<String>,
}

/// What a token is worth.
#[derive(ToSchema)]
pub(crate) struct Introspection {
    active: bool,
    scope: Option<String>,
    /// `bearer` or `refresh_token`.
    token_type: Option<String>,
    sub: Option<uuid::Uuid>,
    sid: Option<uuid::Uuid>,
    jti: Option<uuid::Uuid>,
    iss: Option<String>,
    aud: Option<String>,
    /// Seconds since 1970.
    iat: Option<i64>,
    nbf: Option<i64>,
    exp: Option<i64>,
    /// The account's level now.
    #[schema(example = "KYC_0")]
    kyc: Option<String>,
}

/// A living session.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Session {
    /// The `sid` of its tokens.
    id: uuid::Uuid,
    /// RFC 3339.
    created_at: String,
    last_used_at: String,
    /// Whether it is the one that asks.
    current: bool,
    /// Where it was opened from; of an IPv6 address the first 64 bits.
    address: String,
}

/// A password to replace another.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ChangePassword {
    #[schema(format = Password)]
    current_password: String,
    #[schema(format = Password)]
    new_password: String,
}

/// A wish for a code.
#[derive(ToSchema)]
pub(crate) struct RequestReset {
    #[schema(example = "+447871234567")]
    phone: String,
    fingerprint: Option<String>,
}

/// A code that somebody typed.
#[derive(ToSchema)]
pub(crate) struct CheckResetCode {
    #[schema(example = "+447871234567")]
    phone: String,
    #[schema(example = "123456")]
    code: String,
    fingerprint: Option<String>,
}

/// A code and a new password.
#[derive(ToSchema)]
pub(crate) struct ResetPassword {
    #[schema(example = "+447871234567")]
    phone: String,
    #[schema(example = "123456")]
    code: String,
    #[schema(format = Password)]
    password: String,
    fingerprint: Option<String>,
}

/// The password once more.
#[derive(ToSchema)]
pub(crate) struct EraseAccount {
    #[schema(format = Password)]
    password: String,
}

/// Everything that is kept about a customer, but for what is secret. Moments are RFC 3339; a `…FullAt` is when a budget is whole
/// again. `address` and `device` say where something came from: of an IPv6 address the first 64 bits, of a fingerprint its
/// SHA-256. New members may come.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Export {
    /// With `profile`, `standing` (`good` or `blocked`) and `testAccount`.
    #[schema(value_type = Object)]
    account: serde_json::Value,
    /// When each of the remembered passwords was set.
    #[schema(value_type = Vec<Object>)]
    passwords: Vec<serde_json::Value>,
    /// The living ones.
    #[schema(value_type = Vec<Object>)]
    sessions: Vec<serde_json::Value>,
    /// Where the right password came from, each with its `wrongPasswords` (`count`, `lastAt`, `lockedUntil`).
    #[schema(value_type = Vec<Object>)]
    known_devices: Vec<serde_json::Value>,
    /// The `wrongPasswords` from everywhere else.
    #[schema(value_type = Object)]
    unknown_devices: serde_json::Value,
    /// What is still known of the sign-ups with the number: its `stage` (`pending`, `confirmed` or `concealed`), each of the
    /// `attempts`, and the `confirmation` that opened the account.
    #[schema(value_type = Option<Object>)]
    registration: Option<serde_json::Value>,
    /// What is still known of the `requests` for a new password.
    #[schema(value_type = Option<Object>)]
    password_reset: Option<serde_json::Value>,
    /// Messages that have not left yet.
    #[schema(value_type = Vec<Object>)]
    waiting_messages: Vec<serde_json::Value>,
    /// What happened, the newest first.
    #[schema(value_type = Vec<Object>)]
    history: Vec<serde_json::Value>,
}

/// The published keys.
#[derive(ToSchema)]
pub(crate) struct Keys {
    keys: Vec<Key>,
}

/// A key that access tokens can be checked with.
#[derive(ToSchema)]
pub(crate) struct Key {
    /// PASERK `k4.pid`, as the footer of a token names it.
    kid: String,
    /// PASERK `k4.public`.
    key: String,
    /// Whether new tokens are signed with it.
    active: bool,
}

/// A refusal.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Error {
    /// The stable name.
    #[schema(example = "CUSTOMER_SMS_CODE_INCORRECT")]
    error: String,
    /// The stable number.
    #[schema(example = 117)]
    error_id: u16,
    /// For a person, in the language of `Accept-Language`.
    message: String,
    #[schema(example = "core")]
    system_id: String,
    /// The request's field at fault.
    field: Option<String>,
    /// `retryAfterSeconds`, `attemptsLeft`, `delivery`; or of a password all its `violations`: `too_short`, `too_long`, `no_digit`, `no_letter`,
    /// `equals_phone`, `contains_profile_data`, `recently_used`, `too_simple`, `not_allowed`.
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Vestibule", description = "From a phone number to a verified account."),
    modifiers(&Bearer, &Bodies, &Repeats, &OfApps, &OfPartners),
    paths(
        handlers::sign_up,
        handlers::confirm_phone,
        handlers::resend_code,
        handlers::add,
        handlers::confirm_by_link,
        handlers::confirm,
        handlers::resend_email,
        handlers::patch,
        handlers::read,
        handlers::kyc,
        handlers::erase,
        handlers::export,
        handlers::token,
        handlers::revoke,
        handlers::introspect,
        handlers::sign_out,
        handlers::list,
        handlers::revoke_session,
        handlers::change,
        handlers::request_reset,
        handlers::check_reset_code,
        handlers::reset,
        handlers::sms_delivery,
        handlers::live,
        handlers::ready,
        handlers::paseto_keys,
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("PASETO").build();
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("service", SecurityScheme::Http(scheme));
    }
}

/// What every operation that reads a body may answer, and the other media type that a merge patch may have.
struct Bodies;

impl Modify for Bodies {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for path in openapi.paths.paths.values_mut() {
            if let Some(body) = path.patch.as_mut().and_then(body) {
                let merge_patch = body.content.get("application/json").cloned();
                body.content
                    .extend(merge_patch.map(|content| ("application/merge-patch+json".to_owned(), content)));
            }
            for operation in operations(path).filter(|operation| operation.request_body.is_some()) {
                for (status, description) in [
                    ("408", "408 (the body came too slowly)"),
                    ("413", "413 (the body is over 16 KiB)"),
                    ("415", "415 (the body is of another media type)"),
                ] {
                    operation.responses.responses.insert(status.to_owned(), refusal(description));
                }
            }
        }
    }
}

/// What every request may carry that can be repeated, and what it may be answered then.
struct Repeats;

/// Where nothing is repeated; see `handlers::register`.
const NEVER_REPEATED: [&str; 2] = ["/callbacks/sms/{provider}", "/oauth/introspect"];

impl Modify for Repeats {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let paths = openapi.paths.paths.iter_mut();
        let repeated = paths.filter(|(path, _)| !NEVER_REPEATED.contains(&path.as_str()));
        for operation in
            repeated.flat_map(|(_, item)| [&mut item.post, &mut item.put, &mut item.patch]).flatten()
        {
            let key = ParameterBuilder::new()
                .name(IDEMPOTENCY_KEY)
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(
                    "Names the request, so that it can be repeated: 1 to 255 visible ASCII characters, quoted or bare, best a random UUID. \
                     For 24 hours the same request under the same key gets the first answer again, with `Idempotency-Replayed: true`; \
                     not kept are answers with the status 401, 403, 429 or 5xx, and those to requests that could not be read.",
                ))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).max_length(Some(255))));
            operation.parameters.get_or_insert_default().push(RefOr::T(key.build()));
            let responses = &mut operation.responses.responses;
            responses.entry("400".to_owned()).or_insert_with(|| refusal("422 (`Idempotency-Key`)"));
            responses.insert(
                "409".to_owned(),
                refusal("9007 (a request under this key is being worked on), with `Retry-After`"),
            );
            responses
                .insert("422".to_owned(), refusal("9006 (the key was used for a request that is different)"));
            let too_many = "9008 (too many new requests with a key), with `Retry-After`";
            match responses.entry("429".to_owned()).or_insert_with(|| refusal(too_many)) {
                RefOr::T(response) if response.description != too_many => {
                    response.description.push_str("; ");
                    response.description.push_str(too_many);
                }
                RefOr::T(_) | RefOr::Ref(_) => {}
            }
        }
    }
}

/// What every request of an app may say of itself.
struct OfApps;

impl Modify for OfApps {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for operation in of_apps(openapi) {
            for (name, description) in [
                (
                    "X-Fingerprint",
                    "The device: any text that the app keeps for it, the same in every request (`X-DeviceID` is another name of the header; a `fingerprint` \
                     in the body counts where there is none). By it an owner is told from strangers, whose guesses, messages and locks are not hers.",
                ),
                ("Accept-Language", "Of the answer's `message`, and of what is sent by SMS and mail."),
            ] {
                operation.parameters.get_or_insert_default().push(header(name, description));
            }
        }
    }
}

/// What a request of a partner's app says of the partner, and how it is refused.
struct OfPartners;

impl Modify for OfPartners {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for operation in of_apps(openapi) {
            for (name, description) in [
                (MERCHANT, "The partner whose app it is, where partners are configured."),
                (
                    SIGNATURE,
                    "`t=…,n=…,v1=…`: the partner's signature, where it has secrets (docs/partners.md).",
                ),
            ] {
                operation.parameters.get_or_insert_default().push(header(name, description));
            }
            for (status, refusals) in [
                (
                    "401",
                    "9012 to 9015 (the partner's signature is missing, not valid, expired, or was used before)",
                ),
                ("403", "9010 (unknown partner), 9011 (no partner is named)"),
            ] {
                refuse_too(operation, status, refusals);
            }
        }
    }
}

/// The operations that apps use.
fn of_apps(openapi: &mut utoipa::openapi::OpenApi) -> impl Iterator<Item = &mut Operation> {
    let paths = openapi.paths.paths.iter_mut().filter(|(path, _)| partners::concerns(path));
    paths.flat_map(|(_, PathItem { get, post, put, patch, delete, .. })| {
        [get, post, put, patch, delete].into_iter().flatten()
    })
}

/// A header that may be there.
fn header(name: &str, description: &str) -> RefOr<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    parameter.build().into()
}

/// Adds refusals to those that an operation has under the status.
fn refuse_too(operation: &mut Operation, status: &str, refusals: &str) {
    if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
        response.description = format!("{}, {refusals}", response.description);
        return;
    }
    operation.responses.responses.insert(status.to_owned(), refusal(refusals));
}

fn refusal(description: &str) -> RefOr<Response> {
    let error = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).build();
    ResponseBuilder::new().description(description).content("application/json", error).build().into()
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.post, &mut path.put, &mut path.patch, &mut path.delete].into_iter().flatten()
}

fn body(operation: &mut Operation) -> Option<&mut RequestBody> {
    match operation.request_body.as_mut()? {
        RefOr::T(body) => Some(body),
        RefOr::Ref(_) => None,
    }
}

/// The OpenAPI document of the public listener.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

pub(crate) async fn document() -> HttpResponse {
    static JSON: LazyLock<String> = LazyLock::new(|| openapi().to_json().unwrap_or_default());
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "public, max-age=300"))
        .body(JSON.as_str())
}
