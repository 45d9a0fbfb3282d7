//! What an answer of Twilio means for the message. Its texts are not passed on: they repeat the receiver's number.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use vestibule_port_sms::{SmsError, SmsReceipt};

use crate::codes::{self, Kind};
use crate::without_code;

/// No wish to wait is followed for longer: the code in the message would be of no use by then.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// What is read of a message's document.
#[derive(Deserialize)]
struct Accepted {
    sid: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error_code: Option<u32>,
}

/// What is read of an error's document.
#[derive(Deserialize)]
struct Refused {
    code: u32,
}

/// Sorts an answer. `body` is empty where it could not be read.
pub(crate) fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<SmsReceipt, SmsError> {
    if status.is_success() { success(status, headers, body) } else { Err(refusal(status, headers, body)) }
}

/// An answer that says yes. Without a SID that can be read, the yes may be a proxy's, or Twilio's after all.
fn success(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<SmsReceipt, SmsError> {
    let Some(message) = serde_json::from_slice::<Accepted>(body).ok().filter(|message| is_sid(&message.sid))
    else {
        let reason = format!("HTTP {} without the message's SID", status.as_u16());
        return Err(SmsError::Ambiguous { reason });
    };
    if matches!(message.status.as_deref(), Some("failed" | "undelivered")) {
        return Err(by_code(message.error_code, status, headers));
    }
    Ok(SmsReceipt { reference: message.sid })
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> SmsError {
    let code = serde_json::from_slice::<Refused>(body).ok().map(|refused| refused.code);
    let asks_to_wait = status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::SERVICE_UNAVAILABLE && headers.contains_key(RETRY_AFTER));
    if asks_to_wait {
        let reason = reason(code, status);
        return SmsError::Throttled { retry_after: retry_after(headers), reason };
    }
    // A server that failed has not judged the message, whatever code it gives.
    if status.is_server_error() {
        return SmsError::Temporary { reason: reason(code, status) };
    }
    by_code(code, status, headers)
}

fn by_code(code: Option<u32>, status: StatusCode, headers: &HeaderMap) -> SmsError {
    let kind = code.and_then(codes::meaning).map_or(Kind::Temporary, |(kind, _)| kind);
    let reason = reason(code, status);
    match kind {
        Kind::Permanent => SmsError::Permanent { reason },
        Kind::Temporary => SmsError::Temporary { reason },
        Kind::Throttled => SmsError::Throttled { retry_after: retry_after(headers), reason },
    }
}

fn reason(code: Option<u32>, status: StatusCode) -> String {
    let Some(code) = code else { return without_code(status) };
    let meaning = codes::meaning(code).map_or("a code that is not known here", |(_, meaning)| meaning);
    format!("Twilio {code}: {meaning} (HTTP {})", status.as_u16())
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date, which is compared with the answer's own `Date` so that
/// our clock does not matter.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The SID goes into records and logs, so it must look like one.
fn is_sid(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use rstest::rstest;

    use super::*;

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn headers(pairs: &[(reqwest::header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[rstest]
    #[case("120", None, Some(120))]
    #[case("0", None, Some(0))]
    #[case("99999999", None, Some(3600))]
    #[case("Sun, 06 Nov 1994 08:50:07 GMT", Some(DAY), Some(30))]
    #[case("Sun, 06 Nov 1994 08:00:00 GMT", Some(DAY), Some(0))]
    #[case("Sun, 06 Nov 1994 08:50:07 GMT", None, None)]
    #[case("soon", Some(DAY), None)]
    #[case("-5", None, None)]
    fn waiting(#[case] wish: &'static str, #[case] date: Option<&'static str>, #[case] seconds: Option<u64>) {
        let mut headers = headers(&[(RETRY_AFTER, wish)]);
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_static(date));
        }
        assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs));
    }

    #[rstest]
    #[case(201, r#"{"sid":"SM01","status":"queued","error_code":null}"#, "ok")]
    #[case(200, r#"{"sid":"SM01"}"#, "ok")]
    #[case(201, r#"{"sid":"SM01","status":"failed","error_code":21614}"#, "permanent")]
    #[case(201, r#"{"sid":"SM01","status":"failed","error_code":30001}"#, "throttled")]
    #[case(201, r#"{"sid":"SM01","status":"failed"}"#, "temporary")]
    #[case(201, r#"{"sid":""}"#, "ambiguous")]
    #[case(201, r#"{"sid":"a\nb"}"#, "ambiguous")]
    #[case(201, r#"{"sid":12}"#, "ambiguous")]
    #[case(201, "", "ambiguous")]
    #[case(302, "", "temporary")]
    #[case(400, r#"{"code":21211}"#, "permanent")]
    #[case(400, r#"{"code":21408}"#, "temporary")]
    #[case(400, r#"{"code":99999}"#, "temporary")]
    #[case(400, "<html>", "temporary")]
    #[case(400, r#"{"code":14107}"#, "throttled")]
    #[case(429, "", "throttled")]
    #[case(429, r#"{"code":21211}"#, "throttled")]
    #[case(503, "", "temporary")]
    #[case(500, r#"{"code":21211}"#, "temporary")]
    fn answers(#[case] status: u16, #[case] body: &str, #[case] outcome: &str) {
        let judged = judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes());
        let name = match judged {
            Ok(receipt) => {
                assert_eq!(receipt.reference, "SM01");
                "ok"
            }
            Err(SmsError::Permanent { .. }) => "permanent",
            Err(SmsError::Temporary { .. }) => "temporary",
            Err(SmsError::Throttled { .. }) => "throttled",
            Err(SmsError::Ambiguous { .. }) => "ambiguous",
        };
        assert_eq!(name, outcome);
    }

    #[test]
    fn a_server_that_asks_to_wait_is_heard() {
        let judged = judge(StatusCode::SERVICE_UNAVAILABLE, &headers(&[(RETRY_AFTER, "7")]), b"");
        let reason = "HTTP 503 without a Twilio code".to_owned();
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(judged, Err(SmsError::Throttled { retry_after, reason }));
    }
}
