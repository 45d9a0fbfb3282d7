//! Whose app a request comes from, and whether the partner has signed it, where it is one that signs. `docs/partners.md` has the
//! signature for partners to read.

mod signature;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{self, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpMessage as _, HttpRequest};
use futures_util::stream;
use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;
use vestibule_domain::{MerchantId, Voice};

use crate::body::read_bytes;
use crate::handlers::within;
use crate::problem::Problem;
use crate::{Http, client, page};
use signature::{LEEWAY, SignatureHeader, Signed};

/// The header that names the partner.
pub(crate) const MERCHANT: &str = "X-Merchant-ID";

/// The header that the partner has signed the request in.
pub(crate) const SIGNATURE: &str = "X-Signature";

/// How long storage may take to say whether a signature was used before. It is asked first: where it has stopped to answer, nothing else
/// is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The partners whose apps requests come from. Without any, no request is asked for one.
#[derive(Clone, Default)]
pub struct Partners {
    /// With the secrets that a partner signs with, if it is one that does.
    known: HashMap<MerchantId, Option<Vec<Hmac<Sha256>>>>,
    required: bool,
}

impl Partners {
    /// Partners with their secrets; one without any need not sign.
    pub fn new<'a>(
        partners: impl IntoIterator<Item = (MerchantId, impl IntoIterator<Item = &'a str>)>,
    ) -> Self {
        let signs = |secrets: Vec<&str>| {
            let keys = secrets.iter().filter_map(|secret| Hmac::new_from_slice(secret.as_bytes()).ok());
            (!secrets.is_empty()).then(|| keys.collect())
        };
        let known = partners.into_iter().map(|(merchant, secrets)| {
            let secrets = secrets.into_iter().collect();
            (merchant, signs(secrets))
        });
        Self { known: known.collect(), required: false }
    }

    /// From now on every request must come by one of them.
    #[must_use]
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// The partner that the request names.
    fn named(&self, headers: &HeaderMap) -> Result<Option<MerchantId>, Problem> {
        if self.known.is_empty() {
            return Ok(None);
        }
        let mut values = headers.get_all(MERCHANT);
        let Some(value) = values.next() else {
            return if self.required { Err(Problem::no_merchant()) } else { Ok(None) };
        };
        let merchant = value.to_str().ok().and_then(|value| MerchantId::parse(value.trim()));
        let merchant = merchant.filter(|merchant| self.known.contains_key(merchant));
        match (merchant, values.next()) {
            (Some(merchant), None) => Ok(Some(merchant)),
            (None | Some(_), _) => Err(Problem::unknown_merchant()),
        }
    }

    fn secrets(&self, merchant: MerchantId) -> Option<&[Hmac<Sha256>]> {
        self.known.get(&merchant)?.as_deref()
    }
}

impl fmt::Debug for Partners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known.keys()).finish()
    }
}

/// Whether the path is one that apps of partners use. Others are for operators, for gateways and services that have credentials of their
/// own, for everybody who checks tokens, and for a browser that follows a link.
pub(crate) fn concerns(path: &str) -> bool {
    let is_apps = ["/v2/", "/oauth/", "/signout"].iter().any(|apps| path.starts_with(apps));
    is_apps && path != page::PATH && path != "/oauth/introspect"
}

/// Lets a request through that comes by a known partner and is signed where that partner signs. Comes before anything of the body is
/// read by others, or anything is repeated.
pub(crate) async fn admit(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(http) = request.app_data::<Data<Http>>().cloned() else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    match identify(&http, &mut request).await {
        Ok(merchant) => {
            if let Some(merchant) = merchant {
                tracing::Span::current().record("merchant", merchant.as_str());
                request.extensions_mut().insert(merchant);
            }
            next.call(request).await.map(ServiceResponse::map_into_boxed_body)
        }
        Err(problem) => Ok(request.error_response(problem)),
    }
}

/// How whoever sends the request is spoken to.
pub(crate) fn voice(http: &Http, request: &HttpRequest) -> Voice {
    let locale = http.wording.negotiate(client::accept_language(request.headers()));
    Voice { locale, merchant: request.extensions().get().copied() }
}

async fn identify(http: &Http, request: &mut ServiceRequest) -> Result<Option<MerchantId>, Problem> {
    let merchant = http.partners.named(request.headers())?;
    if let Some(merchant) = merchant
        && let Some(secrets) = http.partners.secrets(merchant)
    {
        verify(http, request, merchant, secrets).await?;
    }
    Ok(merchant)
}

/// Verifies the signature, cheapest first: its form, its time, then the body that it is over, and last that it is not used for the second
/// time.
async fn verify(
    http: &Http,
    request: &mut ServiceRequest,
    merchant: MerchantId,
    secrets: &[Hmac<Sha256>],
) -> Result<(), Problem> {
    let header = SignatureHeader::of(request.headers())?;
    header.check_time(http.application.clock.now())?;
    let body = take_body(request).await?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let signed = Signed { method: request.method().as_str(), target, body: &body };
    let digest = header.verify(&signed, merchant, secrets)?;
    let forget_at = header.time() + 2 * LEEWAY;
    let accepting = http.application.accept_signature(&digest, forget_at);
    let is_new = within(PATIENCE, accepting).await?.map_err(|cause| Problem::unavailable(&cause))?;
    if is_new { Ok(()) } else { Err(Problem::signature_replayed()) }
}

/// Reads the body, which whoever comes after finds as it was.
async fn take_body(request: &mut ServiceRequest) -> Result<Bytes, Problem> {
    let payload = request.extract::<Payload>().await.map_err(|_| Problem::body())?;
    let body = read_bytes(request.request(), payload).await?.freeze();
    let again = Box::pin(stream::iter([Ok(body.clone())]));
    request.set_payload(dev::Payload::Stream { payload: again });
    Ok(body)
}
