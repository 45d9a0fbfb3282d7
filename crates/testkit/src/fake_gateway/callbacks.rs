//! What became of a message, said as each door's gateway says it.

use std::io;
use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use sha1::Sha1;
use tokio::io::BufReader;
use tokio::net::TcpListener;

use super::http::{Answer, Request, post};
use super::{ACCOUNT_SID, AUTH_TOKEN, SentSms, Via, sid, webhook};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The network has it.
    Sent,
    /// The handset has it.
    Delivered,
    /// The number is unknown.
    Failed,
    /// The network gave up.
    Expired,
}

/// Takes callbacks in the place of the service, for tests of what reads them.
#[derive(Debug)]
pub struct CallbackListener(TcpListener);

/// A callback, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Path and query.
    pub path_and_query: String,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl CallbackListener {
    /// Listens on a free port.
    pub async fn start() -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map(Self)
    }

    /// What stands before the path in its URLs.
    pub fn base_url(&self) -> io::Result<String> {
        Ok(format!("http://{}", self.0.local_addr()?))
    }

    /// Takes the next callback and answers 204.
    pub async fn next(&self) -> io::Result<Callback> {
        let mut stream = BufReader::new(self.0.accept().await?.0);
        let request = Request::read(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Answer::new(204, "text/plain", String::new()).write(&mut stream).await?;
        let headers = request.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        Ok(Callback { path_and_query: request.target, headers: headers.collect(), body: request.body })
    }
}

pub(super) async fn call(sms: &SentSms, webhook_callback: Option<String>, report: Report) -> io::Result<u16> {
    match (&sms.via, webhook_callback) {
        (Via::Twilio { status_callback: Some(url) }, _) => by_twilio(sms, url, report).await,
        (Via::Webhook { id, timestamp, .. }, Some(url)) => by_webhook(id, *timestamp, &url, report).await,
        (Via::Twilio { status_callback: None }, _) | (Via::Webhook { .. }, None) => {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

/// <https://www.twilio.com/docs/usage/security#validating-requests>. A fragment says how Twilio shall call; it is neither
/// sent nor signed (<https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>).
async fn by_twilio(sms: &SentSms, url: &str, report: Report) -> io::Result<u16> {
    let url = url.split('#').next().unwrap_or_default();
    let (status, code) = match report {
        Report::Sent => ("sent", ""),
        Report::Delivered => ("delivered", ""),
        Report::Failed => ("undelivered", "30005"),
        Report::Expired => ("undelivered", "30036"),
    };
    let sid = sid(sms.at_index);
    // In the order of their names, as they are signed.
    let fields = [
        ("AccountSid", ACCOUNT_SID),
        ("ApiVersion", "2010-04-01"),
        ("ErrorCode", code),
        ("From", &sms.from),
        ("MessageSid", &sid),
        ("MessageStatus", status),
        ("SmsSid", &sid),
        ("SmsStatus", status),
        ("To", &sms.to),
    ];
    let fields = fields.iter().filter(|(_, value)| !value.is_empty());
    let signed: String = fields.clone().flat_map(|(name, value)| [*name, *value]).collect();
    let mut mac = Hmac::<Sha1>::new_from_slice(AUTH_TOKEN.as_bytes()).map_err(io::Error::other)?;
    mac.update(url.as_bytes());
    mac.update(signed.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let form: Vec<String> = fields
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"),
        ("X-Twilio-Signature", &signature),
    ];
    post(url, &headers, &form.join("&")).await
}

/// Signed at the moment at which the message was, for the clock of a test may stand still.
async fn by_webhook(id: &str, timestamp: i64, url: &str, report: Report) -> io::Result<u16> {
    let data = match report {
        Report::Sent => json!({ "id": id, "state": "sent" }),
        Report::Delivered => json!({ "id": id, "state": "delivered" }),
        Report::Failed => json!({ "id": id, "state": "failed", "reason": "unknown_number" }),
        Report::Expired => json!({ "id": id, "state": "expired" }),
    };
    let body = json!({ "type": "sms.delivery", "data": data }).to_string();
    let (callback, timestamp) = (format!("report-{id}-{report:?}"), timestamp.to_string());
    let signature = webhook::sign(&callback, &timestamp, body.as_bytes());
    let headers = [
        ("Content-Type", "application/json"),
        ("webhook-id", callback.as_str()),
        ("webhook-timestamp", &timestamp),
        ("webhook-signature", &signature),
    ];
    post(url, &headers, &body).await
}
