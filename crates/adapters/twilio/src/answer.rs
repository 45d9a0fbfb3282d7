//! What an answer of Twilio means for the message. Its texts are not passed on: they repeat the receiver's number.

use reqwest::StatusCode;
use serde::Deserialize;
use vestibule_domain::spending::Money;
use vestibule_http_gateway::Answer;
use vestibule_port_sms::{SmsError, SmsReceipt};

use crate::codes::{self, Kind};
use crate::without_code;

/// What is read of a message's document.
#[derive(Deserialize)]
struct Accepted {
    sid: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error_code: Option<u32>,
    /// Usually there is none yet. What is billed is shown as less than nothing.
    #[serde(default)]
    price: Option<serde_json::Value>,
    #[serde(default)]
    price_unit: Option<serde_json::Value>,
}

impl Accepted {
    /// The price, if it is told in the currency. Nothing is free: that is a price which is not known yet.
    fn price(&self, currency: &str) -> Option<Money> {
        let unit = self.price_unit.as_ref()?.as_str()?;
        let price = self.price.as_ref()?.as_str()?;
        let amount = Money::parse(price.strip_prefix('-').unwrap_or(price)).ok();
        amount.filter(|amount| *amount > Money::ZERO && unit.eq_ignore_ascii_case(currency))
    }
}

/// What is read of an error's document.
#[derive(Deserialize)]
struct Refused {
    code: u32,
}

/// Sorts an answer. A price is heard in the operator's currency.
pub(crate) fn judge(answer: &Answer, currency: &str) -> Result<SmsReceipt, SmsError> {
    if answer.status.is_success() { success(answer, currency) } else { Err(refusal(answer)) }
}

/// An answer that says yes. Without a SID that can be read, the yes may be a proxy's, or Twilio's after all.
fn success(answer: &Answer, currency: &str) -> Result<SmsReceipt, SmsError> {
    let message = serde_json::from_slice::<Accepted>(&answer.body).ok();
    let Some(message) = message.filter(|message| is_sid(&message.sid)) else {
        let reason = format!("HTTP {} without the message's SID", answer.status.as_u16());
        return Err(SmsError::Ambiguous { reason });
    };
    if matches!(message.status.as_deref(), Some("failed" | "undelivered")) {
        return Err(by_code(message.error_code, answer));
    }
    Ok(SmsReceipt { price: message.price(currency), reference: message.sid })
}

fn refusal(answer: &Answer) -> SmsError {
    let code = serde_json::from_slice::<Refused>(&answer.body).ok().map(|refused| refused.code);
    if answer.asks_to_wait() {
        return SmsError::Throttled {
            retry_after: answer.retry_after(),
            reason: reason(code, answer.status),
        };
    }
    // Whatever code it gives: the edge may have carried the request out before it gave up.
    if answer.leaves_in_doubt() {
        return SmsError::Ambiguous { reason: reason(code, answer.status) };
    }
    // A server that failed has not judged the message, whatever code it gives.
    if answer.status.is_server_error() {
        return SmsError::Temporary { reason: reason(code, answer.status) };
    }
    by_code(code, answer)
}

fn by_code(code: Option<u32>, answer: &Answer) -> SmsError {
    let kind = code.and_then(codes::meaning).map_or(Kind::Temporary, |(kind, _)| kind);
    let reason = reason(code, answer.status);
    match kind {
        Kind::Permanent => SmsError::Permanent { reason },
        Kind::Temporary => SmsError::Temporary { reason },
        Kind::Throttled => SmsError::Throttled { retry_after: answer.retry_after(), reason },
    }
}

fn reason(code: Option<u32>, status: StatusCode) -> String {
    let Some(code) = code else { return without_code(status) };
    format!("{} (HTTP {})", codes::describe(code), status.as_u16())
}

/// The SID goes into records and logs, so it must look like one.
fn is_sid(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
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
    #[case(502, "<html>", "ambiguous")]
    #[case(502, r#"{"code":21211}"#, "ambiguous")]
    #[case(503, "", "temporary")]
    #[case(504, "", "ambiguous")]
    #[case(500, r#"{"code":21211}"#, "temporary")]
    fn answers(#[case] status: u16, #[case] body: &str, #[case] outcome: &str) {
        let name = match judge(&answer(status, body), "USD") {
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

    #[rstest]
    #[case(r#""price":"-0.00750","price_unit":"USD""#, Some(7_500))]
    #[case(r#""price":"0.0075","price_unit":"usd""#, Some(7_500))]
    #[case(r#""price":"-0.00000","price_unit":"USD""#, None)]
    #[case(r#""price":null,"price_unit":"USD""#, None)]
    #[case(r#""price":"-0.00750","price_unit":"EUR""#, None)]
    #[case(r#""price":"-0.00750""#, None)]
    #[case(r#""price":"free","price_unit":"USD""#, None)]
    #[case(r#""price":-0.0075,"price_unit":7"#, None)]
    fn a_price_is_heard_in_the_operators_currency(#[case] price: &str, #[case] micros: Option<u64>) {
        let body = format!(r#"{{"sid":"SM01","status":"queued",{price}}}"#);
        let receipt = judge(&answer(201, &body), "USD").unwrap();
        assert_eq!((receipt.reference.as_str(), receipt.price), ("SM01", micros.map(Money::from_micros)));
    }

    #[test]
    fn a_server_that_asks_to_wait_is_heard() {
        let mut answer = answer(503, "");
        answer.headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let reason = "HTTP 503 without a Twilio code".to_owned();
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(judge(&answer, "USD"), Err(SmsError::Throttled { retry_after, reason }));
    }
}
