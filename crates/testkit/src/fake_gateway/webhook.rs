//! The door for webhooks: a receiver as somebody would write it who has only the specification
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! The age of a request is not checked, since the clock of a test may stand still.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::watch;

use super::http::{Answer, Request};
use super::{SentSms, Via, WEBHOOK_SECRET, enter};

/// Where it takes webhooks.
pub(super) const PATH: &str = "/webhook";

pub(super) fn judge(journal: &watch::Sender<Vec<SentSms>>, request: &Request) -> Answer {
    let refusal = |status: u16, error: &str| Answer::json(status, &json!({ "error": error }));
    if request.method != "POST" {
        return refusal(405, "method_not_allowed");
    }
    let (Some(id), Some(timestamp)) = (request.header("webhook-id"), request.header("webhook-timestamp"))
    else {
        return refusal(401, "unsigned");
    };
    let expected = sign(id, timestamp, &request.body);
    let is_signed = request
        .header("webhook-signature")
        .is_some_and(|signatures| signatures.split(' ').any(|signature| signature == expected));
    let Some(timestamp) = timestamp.parse().ok().filter(|_| is_signed) else {
        return refusal(401, "unsigned");
    };
    let event: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let text = |name: &str| event.pointer(name).and_then(Value::as_str).map(str::to_owned);
    let (Some("sms.send"), Some(to), Some(body)) =
        (text("/type").as_deref(), text("/data/to"), text("/data/text"))
    else {
        return refusal(400, "not_understood");
    };
    if text("/data/id").as_deref() != Some(id) {
        return refusal(400, "not_understood");
    }
    let via = Via::Webhook { id: id.to_owned(), timestamp, failed: false };
    let is_repeat =
        |sms: &&SentSms| matches!(&sms.via, Via::Webhook { id: known, failed: false, .. } if known == id);
    let known = journal.borrow().iter().find(is_repeat).map(|sms| sms.at_index);
    let at_index = known.unwrap_or_else(|| {
        enter(journal, SentSms { to, from: String::new(), body, at_index: 0, via }).at_index
    });
    Answer::json(202, &json!({ "reference": format!("webhook-{at_index}") }))
}

/// What was reported as failed is sent when it comes again.
pub(super) fn forget(journal: &watch::Sender<Vec<SentSms>>, at_index: usize) {
    journal.send_modify(|journal| {
        if let Some(SentSms { via: Via::Webhook { failed, .. }, .. }) = journal.get_mut(at_index) {
            *failed = true;
        }
    });
}

/// One signature, as it stands in the header.
pub(super) fn sign(id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(WEBHOOK_SECRET.trim_start_matches("whsec_")).unwrap_or_default();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return String::new() };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}
