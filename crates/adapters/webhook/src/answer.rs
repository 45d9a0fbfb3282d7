//! What the receiver's answer means for the message.
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | taken; its `{"reference":"…"}` is kept, or else our own id; `{"price":"…"}` is what it costs |
//! | 422 with `{"error":"undeliverable","reason":"…"}` | refused for good; nobody else is asked |
//! | 429, and 503 with `Retry-After` | throttled, as long as the receiver says |
//! | 502 and 504 | in doubt: a proxy asked the receiver, and heard nothing that it understood |
//! | everything else | failed for now |
//!
//! Only an answer that names the message as undeliverable gives it up. Any other 4xx is somebody's mistake (a path, a
//! secret, a receiver that was taken down and says 410) that the operator can mend, and the message would be lost for
//! nothing. A redirect is one of them: it is not followed, since it would carry the message to somebody else.

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use vestibule_domain::spending::Money;
use vestibule_http_gateway::Answer;
use vestibule_port_sms::{SmsError, SmsReceipt};

use crate::shown_reason;

/// One of them that makes no sense takes nothing from the other.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Accepted {
    reference: Value,
    price: Value,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    reason: Option<String>,
}

/// Sorts an answer to the message with this id.
pub(crate) fn judge(answer: &Answer, id: &str) -> Result<SmsReceipt, SmsError> {
    if answer.status.is_success() { Ok(receipt(answer, id)) } else { Err(refusal(answer)) }
}

fn receipt(answer: &Answer, id: &str) -> SmsReceipt {
    let Accepted { reference, price } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reference = reference.as_str().filter(|text| is_reference(text));
    SmsReceipt { reference: reference.unwrap_or(id).to_owned(), price: amount(&price) }
}

/// A price, as a text or a number.
fn amount(price: &Value) -> Option<Money> {
    let amount = match price {
        Value::Null => return None,
        Value::String(text) => Money::parse(text).ok(),
        Value::Number(number) => Money::parse(&number.to_string()).ok(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    if amount.is_none() {
        tracing::warn!("the receiver's `price` is no amount, and is ignored");
    }
    amount
}

fn refusal(answer: &Answer) -> SmsError {
    if answer.asks_to_wait() {
        return SmsError::Throttled { retry_after: answer.retry_after(), reason: reason(answer.status) };
    }
    if answer.leaves_in_doubt() {
        return SmsError::Ambiguous { reason: reason(answer.status) };
    }
    if answer.status == StatusCode::UNPROCESSABLE_ENTITY
        && let Ok(refused) = serde_json::from_slice::<Refused>(&answer.body)
        && refused.error == "undeliverable"
    {
        return SmsError::Permanent { reason: shown_reason(refused.reason.as_deref()) };
    }
    SmsError::Temporary { reason: reason(answer.status) }
}

fn reason(status: StatusCode) -> String {
    let meaning = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": the receiver does not accept the signature",
        StatusCode::NOT_FOUND => ": there is no receiver at the URL",
        StatusCode::GONE => ": the receiver wants no more messages",
        status if status.is_redirection() => ": a redirect, which is not followed",
        _ => "",
    };
    format!("HTTP {} from the receiver{meaning}", status.as_u16())
}

/// The reference goes into records and logs.
fn is_reference(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
    use rstest::rstest;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    #[rstest]
    #[case(200, r#"{"reference":"abc-7"}"#, "abc-7")]
    #[case(202, r#"{"reference":"abc-7","more":1}"#, "abc-7")]
    #[case(204, "", "our-id")]
    #[case(200, r#"{"reference":7}"#, "our-id")]
    #[case(200, r#"{"reference":""}"#, "our-id")]
    #[case(200, r#"{"reference":"a\nb"}"#, "our-id")]
    #[case(200, "ok", "our-id")]
    fn taken(#[case] status: u16, #[case] body: &str, #[case] reference: &str) {
        assert_eq!(judge(&answer(status, body), "our-id").unwrap().reference, reference);
    }

    #[rstest]
    #[case(r#"{"reference":"abc-7","price":"0.0079"}"#, Some(7_900))]
    #[case(r#"{"price":"0.0079"}"#, Some(7_900))]
    #[case(r#"{"price":0.0079}"#, Some(7_900))]
    #[case(r#"{"price":"0"}"#, Some(0))]
    #[case(r#"{"reference":7,"price":"12"}"#, Some(12_000_000))]
    #[case(r#"{"reference":"abc-7","price":null}"#, None)]
    #[case(r#"{"reference":"abc-7","price":"-0.0079"}"#, None)]
    #[case(r#"{"reference":"abc-7","price":"0.0079 USD"}"#, None)]
    #[case(r#"{"reference":"abc-7","price":1e30}"#, None)]
    #[case(r#"{"reference":"abc-7","price":{"amount":"0.0079"}}"#, None)]
    #[case("", None)]
    fn what_it_costs(#[case] body: &str, #[case] micros: Option<u64>) {
        let receipt = judge(&answer(200, body), "our-id").unwrap();
        assert_eq!(receipt.price, micros.map(Money::from_micros));
    }

    #[rstest]
    #[case(
        422,
        r#"{"error":"undeliverable","reason":"landline"}"#,
        "refused for good: the receiver says landline"
    )]
    #[case(
        422,
        r#"{"error":"undeliverable"}"#,
        "refused for good: the receiver gives no reason that can be shown"
    )]
    #[case(422, r#"{"error":"no_such_field"}"#, "failed for now: HTTP 422 from the receiver")]
    #[case(422, "", "failed for now: HTTP 422 from the receiver")]
    #[case(400, r#"{"error":"undeliverable"}"#, "failed for now: HTTP 400 from the receiver")]
    #[case(401, "", "failed for now: HTTP 401 from the receiver: the receiver does not accept the signature")]
    #[case(404, "", "failed for now: HTTP 404 from the receiver: there is no receiver at the URL")]
    #[case(410, "", "failed for now: HTTP 410 from the receiver: the receiver wants no more messages")]
    #[case(308, "", "failed for now: HTTP 308 from the receiver: a redirect, which is not followed")]
    #[case(429, r#"{"error":"undeliverable"}"#, "throttled: HTTP 429 from the receiver")]
    #[case(500, r#"{"error":"undeliverable"}"#, "failed for now: HTTP 500 from the receiver")]
    #[case(502, "", "in doubt: HTTP 502 from the receiver")]
    #[case(503, "", "failed for now: HTTP 503 from the receiver")]
    #[case(504, "", "in doubt: HTTP 504 from the receiver")]
    fn not_taken(#[case] status: u16, #[case] body: &str, #[case] outcome: &str) {
        assert_eq!(judge(&answer(status, body), "our-id").unwrap_err().to_string(), outcome);
    }

    #[test]
    fn a_receiver_that_asks_to_wait_is_heard() {
        let mut answer = answer(503, "");
        answer.headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let reason = "HTTP 503 from the receiver".to_owned();
        let expected = SmsError::Throttled { retry_after: Some(Duration::from_secs(7)), reason };
        assert_eq!(judge(&answer, "our-id"), Err(expected));
    }
}
