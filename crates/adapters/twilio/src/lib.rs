//! The SMS port on Twilio's Messages resource
//! (<https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource>).
//!
//! One call of the port is one HTTP request, and its answer is sorted into the port's outcomes. Where it is known under
//! which URL Twilio reaches us, each message asks for reports of what becomes of it. Whether and when to try again is
//! not known here.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use vestibule_http_gateway::{ClientError, GatewayClient, exchange};
use vestibule_port_sms::{Sms, SmsError, SmsReceipt, SmsSender};

mod answer;
mod callbacks;
mod codes;

pub use callbacks::TwilioCallbacks;
pub use vestibule_http_gateway::TIMEOUT;

use callbacks::CallbackUrl;

/// The provider's name in the configuration.
const NAME: &str = "twilio";

/// Where Twilio's API is.
pub const DEFAULT_BASE_URL: &str = "https://api.twilio.com";

/// How to reach an account at Twilio.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What stands before `/2010-04-01`; usually [`DEFAULT_BASE_URL`].
    pub base_url: String,
    /// The account's SID, `AC…`.
    pub account_sid: String,
    /// The account's token.
    pub auth_token: SecretString,
    /// Who sends: a number, a short code or an alphanumeric sender, or the SID (`MG…`) of a messaging service.
    pub from: String,
    /// Where Twilio reaches us: what stands before `/callbacks/sms/twilio`, as seen from outside any proxy. Without it, no
    /// reports are asked for.
    pub public_url: Option<String>,
    /// The currency that the operator counts in, as ISO 4217 has it: a price in another is not heard.
    pub currency: String,
    /// How long one message may take, at most 10 s; usually [`TIMEOUT`].
    pub timeout: Duration,
}

/// Why an account cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The base URL is none, is not `http` or `https`, or has credentials, a query or a fragment.
    #[error("`base_url` is not an http or https URL without credentials and query")]
    BaseUrl,
    /// The account's SID has something other than ASCII letters and digits.
    #[error("`account_sid` is not an account's SID")]
    AccountSid,
    /// There is no token.
    #[error("`auth_token` is empty")]
    AuthToken,
    /// The sender is empty, longer than 64 bytes or not printable ASCII.
    #[error("`from` is neither a number or name of a sender nor the SID of a messaging service")]
    From,
    /// The public URL is none, is not `http` or `https`, or has credentials, a query or a fragment.
    #[error("the public URL is not an http or https URL without credentials and query")]
    PublicUrl,
    /// The time-out is not between 1 ms and 10 s, or there is no TLS.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// An account at Twilio.
///
/// It keeps connections open between messages; one value serves the whole process.
#[derive(Debug)]
pub struct Twilio {
    client: GatewayClient,
    account_sid: String,
    auth_token: SecretString,
    from: Sender,
    callback_url: Option<CallbackUrl>,
    currency: String,
}

impl Twilio {
    /// Checks the settings and reads the system's root certificates. Nothing is sent.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        if settings.auth_token.expose_secret().is_empty() {
            return Err(SettingsError::AuthToken);
        }
        let messages = messages_url(&settings.base_url, &settings.account_sid)?;
        let from = Sender::parse(settings.from)?;
        let callback_url = settings.public_url.as_deref().map(callback_url).transpose()?;
        Ok(Self {
            client: GatewayClient::new(messages, settings.timeout)?,
            account_sid: settings.account_sid,
            auth_token: settings.auth_token,
            from,
            callback_url,
            currency: settings.currency,
        })
    }

    /// The way back, if Twilio is told one: what it reports of messages that it took.
    #[must_use]
    pub fn callbacks(&self) -> Option<TwilioCallbacks> {
        Some(TwilioCallbacks::new(self.callback_url.clone()?, self.auth_token.clone()))
    }
}

#[async_trait]
impl SmsSender for Twilio {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn send(&self, sms: &Sms) -> Result<SmsReceipt, SmsError> {
        let (from_field, from) = self.from.field();
        let status_callback = self.callback_url.as_ref().map(|url| url.of(sms.id));
        let mut form = vec![("To", sms.to.as_str()), (from_field, from), ("Body", sms.text.as_str())];
        form.extend(status_callback.as_deref().map(|url| ("StatusCallback", url)));
        let request = self
            .client
            .post()
            .basic_auth(&self.account_sid, Some(self.auth_token.expose_secret()))
            .form(&form);
        answer::judge(&exchange(request).await?, &self.currency)
    }
}

/// Who sends, and so which field of the form says it.
#[derive(Debug)]
enum Sender {
    MessagingService(String),
    Address(String),
}

impl Sender {
    fn parse(text: String) -> Result<Self, SettingsError> {
        if text.is_empty() || text.len() > 64 || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(SettingsError::From);
        }
        // A SID has 34 characters, and an alphanumeric sender at most 11.
        let is_service = text.starts_with("MG")
            && text.len() == 34
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Ok(if is_service { Self::MessagingService(text) } else { Self::Address(text) })
    }

    fn field(&self) -> (&'static str, &str) {
        match self {
            Self::MessagingService(sid) => ("MessagingServiceSid", sid),
            Self::Address(address) => ("From", address),
        }
    }
}

fn messages_url(base_url: &str, account_sid: &str) -> Result<Url, SettingsError> {
    if account_sid.is_empty() || !account_sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(SettingsError::AccountSid);
    }
    let base = plain_url(base_url).ok_or(SettingsError::BaseUrl)?;
    let base = base.as_str().trim_end_matches('/');
    Url::parse(&format!("{base}/2010-04-01/Accounts/{account_sid}/Messages.json"))
        .map_err(|_| SettingsError::BaseUrl)
}

fn callback_url(public_url: &str) -> Result<CallbackUrl, SettingsError> {
    plain_url(public_url).as_ref().and_then(CallbackUrl::new).ok_or(SettingsError::PublicUrl)
}

/// A URL that a path can be appended to.
fn plain_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_plain.then_some(url)
}

/// The reason given for an answer that has no Twilio code.
fn without_code(status: StatusCode) -> String {
    format!("HTTP {} without a Twilio code", status.as_u16())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn settings() -> Settings {
        Settings {
            base_url: DEFAULT_BASE_URL.to_owned(),
            account_sid: "AC01".to_owned(),
            auth_token: SecretString::from("the-token"),
            from: "+15005550006".to_owned(),
            public_url: Some("https://vestibule.example".to_owned()),
            currency: "USD".to_owned(),
            timeout: TIMEOUT,
        }
    }

    #[rstest]
    #[case("https://api.twilio.com", "https://api.twilio.com/2010-04-01/Accounts/AC01/Messages.json")]
    #[case("http://127.0.0.1:1/", "http://127.0.0.1:1/2010-04-01/Accounts/AC01/Messages.json")]
    #[case("https://proxy.example/sms", "https://proxy.example/sms/2010-04-01/Accounts/AC01/Messages.json")]
    fn the_resource(#[case] base_url: &str, #[case] url: &str) {
        assert_eq!(messages_url(base_url, "AC01").unwrap().as_str(), url);
    }

    #[rstest]
    #[case("api.twilio.com")]
    #[case("ftp://api.twilio.com")]
    #[case("https://AC01:token@api.twilio.com")]
    #[case("https://api.twilio.com?a=b")]
    fn no_base_url(#[case] base_url: &str) {
        assert!(matches!(messages_url(base_url, "AC01"), Err(SettingsError::BaseUrl)));
    }

    #[test]
    fn settings_are_checked() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            Twilio::new(settings).unwrap_err()
        };
        assert!(matches!(refused(|it| it.account_sid = "AC/../".into()), SettingsError::AccountSid));
        assert!(matches!(refused(|it| it.auth_token = SecretString::from("")), SettingsError::AuthToken));
        assert!(matches!(refused(|it| it.from = "a\r\nb".into()), SettingsError::From));
        assert!(matches!(refused(|it| it.from = String::new()), SettingsError::From));
        assert!(matches!(
            refused(|it| it.timeout = Duration::ZERO),
            SettingsError::Client(ClientError::Timeout)
        ));
    }

    #[test]
    fn the_token_is_not_shown() {
        let twilio = Twilio::new(Settings { base_url: "http://localhost".into(), ..settings() }).unwrap();
        let shown = format!("{twilio:?} {:?}", twilio.callbacks().unwrap());
        assert!(shown.contains("AC01") && !shown.contains("the-token"), "{shown}");
    }
}
