//! The SMS port as a webhook: a JSON POST to a receiver of the operator's, signed after the Standard Webhooks
//! specification (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>). It is the
//! way to a gateway that has no adapter here.
//!
//! The signature covers the message's id, the moment and the body. The id is the same when a message is sent again, so a
//! receiver drops repeats by it. What the receiver may answer is listed in `answer`, what it may report afterwards in
//! `callbacks`; `docs/webhook.md` is for those who write the other side.
//!
//! Not here: retries. The specification wants the sender to try again; the outbox does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use secrecy::SecretString;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use vestibule_http_gateway::{ClientError, GatewayClient, exchange};
use vestibule_port_security::Clock;
use vestibule_port_sms::{Sms, SmsError, SmsReceipt, SmsSender};

mod answer;
mod callbacks;
mod secrets;

pub use callbacks::WebhookCallbacks;
pub use vestibule_http_gateway::TIMEOUT;

use secrets::Secrets;

/// The provider's name in the configuration.
const NAME: &str = "webhook";

/// How to reach the receiver.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where messages are posted: `https`, or `http` on this machine. It may hold a query, and no credentials.
    pub url: String,
    /// One or more secrets of 24 to 64 bytes, as `whsec_` and base64. Every one signs what is sent, and any one is
    /// believed in a callback: to change a secret, put the new one beside the old one, then drop the old one.
    pub secrets: Vec<SecretString>,
    /// How long one message may take, at most 10 s; usually [`TIMEOUT`].
    pub timeout: Duration,
}

/// Why a receiver cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL is none, has credentials or a fragment, or is neither `https` nor `http` on this machine.
    #[error("`url` is not an https URL without credentials (http is for this machine only)")]
    Url,
    /// There is no secret.
    #[error("`secrets` is empty")]
    NoSecret,
    /// A secret is not `whsec_` and the base64 of 24 to 64 bytes.
    #[error("a secret is not `whsec_` and the base64 of 24 to 64 bytes")]
    Secret,
    /// The time-out is not between 1 ms and 10 s, or there is no TLS.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A receiver of webhooks.
///
/// It keeps connections open between messages; one value serves the whole process.
pub struct Webhook {
    client: GatewayClient,
    secrets: Arc<Secrets>,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// Checks the settings and reads the system's root certificates. Nothing is sent.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let secrets = Arc::new(Secrets::parse(&settings.secrets)?);
        let client = GatewayClient::new(receiver(&settings.url)?, settings.timeout)?;
        Ok(Self { client, secrets, clock })
    }

    /// The way back: what the receiver reports of messages that it took, signed with the same secrets.
    #[must_use]
    pub fn callbacks(&self) -> WebhookCallbacks {
        WebhookCallbacks::new(Arc::clone(&self.secrets), Arc::clone(&self.clock))
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The query of the URL may hold what nobody else should know.
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

/// The body of a request.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    to: &'a str,
    text: &'a str,
}

#[async_trait]
impl SmsSender for Webhook {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn send(&self, sms: &Sms) -> Result<SmsReceipt, SmsError> {
        let (id, now) = (sms.id.to_string(), self.clock.now());
        let event = Event {
            r#type: "sms.send",
            timestamp: now.format(&Rfc3339).map_err(|_| unwritable())?,
            data: Message { id: &id, to: sms.to.as_str(), text: &sms.text },
        };
        let body = serde_json::to_vec(&event).map_err(|_| unwritable())?;
        let timestamp = now.unix_timestamp().to_string();
        let signature = self.secrets.sign(&id, &timestamp, &body);
        let request = self
            .client
            .post()
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        answer::judge(&exchange(request).await?, &id)
    }
}

/// A year of more than four digits has no RFC 3339 form; nothing else stops a message from being written.
fn unwritable() -> SmsError {
    SmsError::Temporary { reason: "the clock shows no date that can be written".to_owned() }
}

/// Messages carry codes, so they go over TLS, unless they stay on the machine.
fn receiver(url: &str) -> Result<Url, SettingsError> {
    let url = Url::parse(url).map_err(|_| SettingsError::Url)?;
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_this_machine(&url));
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if is_safe && is_plain { Ok(url) } else { Err(SettingsError::Url) }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A word that a receiver gave as a reason, if it can be shown: small letters, `_` and `-`, so that it holds neither a
/// number nor a code.
fn shown_reason(reason: Option<&str>) -> String {
    let is_word = |word: &&str| {
        (1..=64).contains(&word.len())
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
    };
    reason.filter(is_word).map_or("the receiver gives no reason that can be shown".to_owned(), |word| {
        format!("the receiver says {word}")
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use vestibule_testkit::ManualClock;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn webhook(url: &str, secrets: &[&str], timeout: Duration) -> Result<Webhook, SettingsError> {
        let secrets = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        Webhook::new(&Settings { url: url.to_owned(), secrets, timeout }, Arc::new(ManualClock::default()))
    }

    #[rstest]
    #[case("https://sms.example/send?team=7", true)]
    #[case("http://localhost:8088/", true)]
    #[case("http://127.0.0.1:8088", true)]
    #[case("http://[::1]:8088/sms", true)]
    #[case("http://sms.example/send", false)]
    #[case("http://10.0.0.7/send", false)]
    #[case("http://localhost.example/send", false)]
    #[case("https://user:word@sms.example/", false)]
    #[case("https://sms.example/#here", false)]
    #[case("ftp://sms.example/", false)]
    #[case("sms.example", false)]
    fn messages_leave_the_machine_encrypted(#[case] url: &str, #[case] taken: bool) {
        assert_eq!(receiver(url).is_ok(), taken);
    }

    #[test]
    fn settings_are_checked() {
        let made = |secrets: &[&str]| webhook("http://localhost", secrets, TIMEOUT);
        assert!(made(&[SECRET, SECRET]).is_ok());
        assert!(matches!(made(&[]), Err(SettingsError::NoSecret)));
        assert!(matches!(made(&[SECRET, "whsec_c2hvcnQ="]), Err(SettingsError::Secret)));
        assert!(matches!(
            webhook("http://localhost", &[SECRET], Duration::ZERO),
            Err(SettingsError::Client(ClientError::Timeout))
        ));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let webhook = webhook("http://localhost/?key=hush", &[SECRET], TIMEOUT).unwrap();
        let shown = format!("{webhook:?} {:?}", webhook.callbacks());
        assert!(!shown.contains("hush") && !shown.contains("MfKQ"), "{shown}");
    }

    #[rstest]
    #[case(Some("unknown_number"), "the receiver says unknown_number")]
    #[case(Some("no-447871234567"), "the receiver gives no reason that can be shown")]
    #[case(Some("Your code: x"), "the receiver gives no reason that can be shown")]
    #[case(Some(""), "the receiver gives no reason that can be shown")]
    #[case(None, "the receiver gives no reason that can be shown")]
    fn reasons(#[case] reason: Option<&str>, #[case] shown: &str) {
        assert_eq!(shown_reason(reason), shown);
    }
}
