//! The SMS port on Twilio's Messages resource, and on every gateway that speaks the same.
//!
//! Not here: what to do about a failure, which the dispatcher decides.

mod codes;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use vestibule_port_sms::{Sms, SmsError, SmsReceipt, SmsSender};

use codes::{Meaning, meaning};

/// How long the gateway may take for one message, by default.
pub const TIMEOUT: Duration = Duration::from_secs(8);

/// How long it may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// No answer of the gateway's is longer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Access to the gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the gateway is: `https://api.twilio.com`, or a stand-in.
    pub base_url: String,
    /// The account.
    pub account_sid: String,
    /// Its secret.
    pub auth_token: SecretString,
    /// The sender: a number, a name, or a messaging service (`MG…`).
    pub from: String,
    /// How long the gateway may take for one message.
    pub timeout: Duration,
}

/// A setting that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The address is none of a web server.
    #[error("base_url is not the address of a web server")]
    BaseUrl,
    /// The account has a form that no account has.
    #[error("account_sid must be letters and digits")]
    AccountSid,
    /// No client can be made.
    #[error("no HTTP client can be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// The SMS port on Twilio.
#[derive(Debug)]
pub struct Twilio {
    client: Client,
    url: Url,
    settings: Settings,
}

#[derive(Deserialize)]
struct Accepted {
    sid: String,
}

#[derive(Deserialize)]
struct Refused {
    code: u32,
}

impl Twilio {
    /// Speaks to the gateway of these settings. Makes no connection yet.
    ///
    /// # Errors
    /// [`SettingsError`]
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        if settings.account_sid.is_empty()
            || !settings.account_sid.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(SettingsError::AccountSid);
        }
        let base = settings.base_url.trim_end_matches('/');
        let path = format!("{base}/2010-04-01/Accounts/{}/Messages.json", settings.account_sid);
        let url = Url::parse(&path).map_err(|_| SettingsError::BaseUrl)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(SettingsError::BaseUrl);
        }
        let client = Client::builder()
            .timeout(settings.timeout)
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the number and the text elsewhere.
            .redirect(Policy::none())
            .build()
            .map_err(SettingsError::Client)?;
        Ok(Self { client, url, settings })
    }
}

#[async_trait]
impl SmsSender for Twilio {
    fn name(&self) -> &'static str {
        "twilio"
    }

    async fn send(&self, sms: &Sms) -> Result<SmsReceipt, SmsError> {
        let Settings { account_sid, auth_token, from, .. } = &self.settings;
        let sender = if from.starts_with("MG") { "MessagingServiceSid" } else { "From" };
        let form = [("To", sms.to.as_str()), (sender, from.as_str()), ("Body", sms.text.as_str())];
        let request = self.client.post(self.url.clone());
        let answer =
            request.basic_auth(account_sid, Some(auth_token.expose_secret())).form(&form).send().await;
        let answer = answer.map_err(|error| no_answer(&error))?;
        let (status, retry_after) = (answer.status(), retry_after(&answer));
        let body = read_bounded(answer).await;
        if status.is_success() {
            return match body.ok().and_then(|body| serde_json::from_slice::<Accepted>(&body).ok()) {
                Some(accepted) => Ok(SmsReceipt { reference: accepted.sid }),
                // It may have been taken: nothing says that it was not.
                None => Err(SmsError::Ambiguous { reason: format!("status {status} without a message id") }),
            };
        }
        let code = body.ok().and_then(|body| Some(serde_json::from_slice::<Refused>(&body).ok()?.code));
        Err(refusal(status, code, retry_after))
    }
}

/// What a refusal means. The gateway's own words are not repeated: they repeat the number.
fn refusal(status: StatusCode, code: Option<u32>, retry_after: Option<Duration>) -> SmsError {
    let reason = match code {
        Some(code) => format!("error {code} (status {})", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    };
    match (status, code.and_then(meaning)) {
        (StatusCode::TOO_MANY_REQUESTS, _) | (_, Some(Meaning::Throttled)) => {
            SmsError::Throttled { retry_after, reason }
        }
        (_, Some(Meaning::Permanent)) => SmsError::Permanent { reason },
        // An unknown refusal may be the account's, which an operator can mend: the message waits.
        (_, None) => SmsError::Temporary { reason },
    }
}

fn no_answer(error: &reqwest::Error) -> SmsError {
    if error.is_connect() {
        return SmsError::Temporary { reason: "no connection".to_owned() };
    }
    if error.is_builder() {
        return SmsError::Permanent { reason: "the request cannot be made".to_owned() };
    }
    let reason = if error.is_timeout() { "no answer in time" } else { "the connection broke" };
    SmsError::Ambiguous { reason: reason.to_owned() }
}

/// The wait that the gateway asks for, in its form in seconds (RFC 9110, section 10.2.3), up to an hour.
fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

async fn read_bounded(mut answer: Response) -> Result<Vec<u8>, ()> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| ())? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
