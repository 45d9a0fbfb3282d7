//! Request bodies: bounded, and checked field by field, so that a refusal names the field and never repeats the value.

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{BytesMut, Payload};
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::SLOW_CLIENT;
use crate::problem::Problem;

/// No body of ours needs more.
const MAX_BYTES: usize = 16 * 1024;

/// The media type of forms.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// The members of a JSON object. Unknown ones are ignored.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the body of a request that must have a JSON object.
    pub(crate) async fn read(request: &HttpRequest, payload: Payload) -> Result<Self, Problem> {
        is_of_json(request)?;
        Self::of(request, &read_bytes(request, payload).await?)
    }

    /// The members of a body that was read and must be a JSON object. The mark that some editors put in front of a text is none of it.
    pub(crate) fn of(request: &HttpRequest, bytes: &[u8]) -> Result<Self, Problem> {
        is_of_json(request)?;
        match serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) | Err(_) => Err(Problem::body()),
        }
    }

    /// Reads the body of a request that may be a form too, as OAuth has it.
    pub(crate) async fn read_form_or_json(request: &HttpRequest, payload: Payload) -> Result<Self, Problem> {
        if media_type(request).is_none_or(|media_type| media_type != FORM) {
            return Self::read(request, payload).await;
        }
        let bytes = read_bytes(request, payload).await?;
        let mut fields = Map::new();
        for (name, value) in form_urlencoded::parse(&bytes) {
            // RFC 6749, section 3.2: no parameter comes twice.
            if fields.insert(name.into_owned(), Value::String(value.into_owned())).is_some() {
                return Err(Problem::oauth_request());
            }
        }
        Ok(Self(fields))
    }

    /// A text that must be there.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<String, Problem> {
        self.optional_text(name)?.ok_or_else(|| Problem::field(name))
    }

    /// A secret text that must be there.
    pub(crate) fn secret(&mut self, name: &'static str) -> Result<Zeroizing<String>, Problem> {
        self.text(name).map(Zeroizing::new)
    }

    /// A text that may be there; `null` is absent.
    pub(crate) fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        Ok(match self.member(name)? {
            Member::Absent | Member::Null => None,
            Member::Text(text) => Some(text),
        })
    }

    /// What the object says of a member that is a text.
    pub(crate) fn member(&mut self, name: &'static str) -> Result<Member, Problem> {
        match self.0.remove(name) {
            None => Ok(Member::Absent),
            Some(Value::Null) => Ok(Member::Null),
            Some(Value::String(text)) => Ok(Member::Text(text)),
            Some(_) => Err(Problem::field(name)),
        }
    }
}

/// A member of an object. A merge patch (RFC 7396) tells an absent one from `null`.
pub(crate) enum Member {
    Absent,
    Null,
    Text(String),
}

/// Reads a whole body, up to the limit, in bounded time.
pub(crate) async fn read_bytes(request: &HttpRequest, mut payload: Payload) -> Result<BytesMut, Problem> {
    let announced =
        request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BYTES as u64) {
        return Err(Problem::too_large());
    }
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Problem::body())?;
            if bytes.len() + chunk.len() > MAX_BYTES {
                return Err(Problem::too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(SLOW_CLIENT, reading).await.unwrap_or_else(|_| Err(Problem::slow()))
}

/// The media type without its parameters, in lower case.
pub(crate) fn media_type(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(CONTENT_TYPE)?;
    let value = String::from_utf8_lossy(value.as_bytes());
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// That it is, or says nothing of it.
pub(crate) fn is_of_json(request: &HttpRequest) -> Result<(), Problem> {
    let is_json = media_type(request).is_none_or(|media_type| {
        ["", "application/json", "application/merge-patch+json"].contains(&media_type.as_str())
    });
    if is_json { Ok(()) } else { Err(Problem::media_type()) }
}
