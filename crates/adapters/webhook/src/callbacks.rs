//! What the receiver reports of a message that it took:
//! `{"type":"sms.delivery","data":{"id":"…","state":"delivered"}}`, signed as our requests are. The id is the message's;
//! the state is `sent`, `delivered`, `failed` (with a `reason`, one word in small letters) or `expired`. A callback of
//! another type is taken and changes nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;
use vestibule_domain::MessageId;
use vestibule_port_security::Clock;
use vestibule_port_sms::{
    CallbackError, CallbackRequest, Delivery, DeliveryCallbacks, DeliveryReport, Reported,
};

use crate::secrets::Secrets;
use crate::{NAME, shown_reason};

/// How far from our clock a callback may have been signed, either way. The specification's libraries allow as much.
const TOLERANCE: Duration = Duration::from_mins(5);

/// Reads what the receiver reports.
pub struct WebhookCallbacks {
    secrets: Arc<Secrets>,
    clock: Arc<dyn Clock>,
}

impl WebhookCallbacks {
    pub(crate) fn new(secrets: Arc<Secrets>, clock: Arc<dyn Clock>) -> Self {
        Self { secrets, clock }
    }

    /// Whether the receiver signed it, and lately.
    fn is_signed(&self, request: &CallbackRequest<'_>) -> bool {
        let (Some(id), Some(timestamp), Some(signatures)) = (
            request.header("webhook-id"),
            request.header("webhook-timestamp"),
            request.header("webhook-signature"),
        ) else {
            return false;
        };
        self.secrets.verify(signatures, id, timestamp, request.body)
            && timestamp.parse::<i64>().is_ok_and(|timestamp| {
                self.clock.now().unix_timestamp().abs_diff(timestamp) <= TOLERANCE.as_secs()
            })
    }
}

impl std::fmt::Debug for WebhookCallbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookCallbacks").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Data {
    id: Uuid,
    state: State,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Sent,
    Delivered,
    Failed,
    Expired,
}

impl DeliveryCallbacks for WebhookCallbacks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn read(&self, request: &CallbackRequest<'_>) -> Result<Option<DeliveryReport>, CallbackError> {
        if !self.is_signed(request) {
            return Err(CallbackError::Unsigned);
        }
        let event: Event = serde_json::from_slice(request.body).map_err(|_| CallbackError::Malformed)?;
        if event.r#type != "sms.delivery" {
            return Ok(None);
        }
        let data: Data = serde_json::from_value(event.data).map_err(|_| CallbackError::Malformed)?;
        let delivery = match data.state {
            State::Sent => Delivery::Sent,
            State::Delivered => Delivery::Delivered,
            State::Failed => Delivery::Failed { reason: shown_reason(data.reason.as_deref()) },
            State::Expired => Delivery::Expired,
        };
        let message = Reported::Message(MessageId::new(data.id));
        Ok(Some(DeliveryReport { provider: NAME, message, delivery }))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::SecretString;
    use vestibule_testkit::ManualClock;

    use super::*;

    const ID: &str = "00000000-0000-0000-0000-000000000007";

    fn secrets(byte: char) -> Arc<Secrets> {
        let secret = format!("whsec_{}", byte.to_string().repeat(32));
        Arc::new(Secrets::parse(&[SecretString::from(secret)]).unwrap())
    }

    /// Reads a callback that was signed so many seconds before now.
    fn read(body: &str, age: i64) -> Result<Option<DeliveryReport>, CallbackError> {
        let clock = Arc::new(ManualClock::default());
        let timestamp = (clock.now().unix_timestamp() - age).to_string();
        let signature = secrets('A').sign("callback-1", &timestamp, body.as_bytes());
        let headers = [
            ("webhook-id".to_owned(), "callback-1".to_owned()),
            ("webhook-timestamp".to_owned(), timestamp),
            ("webhook-signature".to_owned(), signature),
        ];
        let path_and_query = "/callbacks/sms/webhook";
        let request = CallbackRequest { path_and_query, headers: &headers, body: body.as_bytes() };
        let foreign = WebhookCallbacks::new(secrets('B'), clock.clone());
        assert_eq!(foreign.read(&request), Err(CallbackError::Unsigned));
        for missing in 0..headers.len() {
            let mut headers = headers.to_vec();
            headers.remove(missing);
            let request = CallbackRequest { headers: &headers, ..request };
            let callbacks = WebhookCallbacks::new(secrets('A'), clock.clone());
            assert_eq!(callbacks.read(&request), Err(CallbackError::Unsigned));
        }
        WebhookCallbacks::new(secrets('A'), clock).read(&request)
    }

    fn delivery(data: &str) -> String {
        format!(r#"{{"type":"sms.delivery","data":{{"id":"{ID}",{data}}}}}"#)
    }

    #[rstest]
    #[case(r#""state":"sent""#, Delivery::Sent)]
    #[case(r#""state":"delivered","reason":null,"more":1"#, Delivery::Delivered)]
    #[case(
        r#""state":"failed","reason":"unknown_number""#,
        Delivery::Failed { reason: "the receiver says unknown_number".to_owned() }
    )]
    #[case(
        r#""state":"failed","reason":"+447871234567""#,
        Delivery::Failed { reason: "the receiver gives no reason that can be shown".to_owned() }
    )]
    #[case(r#""state":"expired""#, Delivery::Expired)]
    fn what_became_of_a_message(#[case] data: &str, #[case] expected: Delivery) {
        let report = read(&delivery(data), 0).unwrap().unwrap();
        let message = Reported::Message(MessageId::new(Uuid::from_u128(7)));
        assert_eq!(report, DeliveryReport { provider: "webhook", message, delivery: expected });
    }

    #[rstest]
    #[case("")]
    #[case("[]")]
    #[case(r#"{"data":{}}"#)]
    #[case(r#"{"type":"sms.delivery"}"#)]
    #[case(r#"{"type":"sms.delivery","data":{"id":"7","state":"sent"}}"#)]
    #[case(r#"{"type":"sms.delivery","data":{"id":"00000000-0000-0000-0000-000000000007","state":"lost"}}"#)]
    fn what_makes_no_sense(#[case] body: &str) {
        assert_eq!(read(body, 0), Err(CallbackError::Malformed));
    }

    #[test]
    fn what_does_not_matter_here() {
        // Also our own request, sent back to us.
        let request = format!(r#"{{"type":"sms.send","data":{{"id":"{ID}","to":"x","text":"y"}}}}"#);
        assert_eq!(read(&request, 0), Ok(None));
    }

    #[rstest]
    #[case(300, true)]
    #[case(301, false)]
    #[case(-300, true)]
    #[case(-301, false)]
    fn an_old_callback_is_not_believed(#[case] age: i64, #[case] believed: bool) {
        assert_eq!(read(&delivery(r#""state":"sent""#), age).is_ok(), believed);
    }
}
