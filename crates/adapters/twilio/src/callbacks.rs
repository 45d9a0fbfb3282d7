//! What Twilio reports of a message that it took
//! (<https://www.twilio.com/docs/messaging/guides/track-outbound-message-status>): a form, posted to the URL that was given
//! with the message and signed with the account's token
//! (<https://www.twilio.com/docs/usage/security#validating-requests>).
//!
//! The URL carries our id of the message, so a report finds even a message whose acceptance never reached us. The
//! signature covers the URL. A report has no age; an old one says nothing that was not true.
//!
//! By itself, Twilio says again only what found no connection. The URL asks for more, in a fragment that is neither sent
//! nor signed (<https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>). All tries end within 15
//! seconds: a report that we cannot record for longer is lost, and a message in doubt is sent again without it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use sha1::Sha1;
use url::form_urlencoded;
use vestibule_domain::MessageId;
use vestibule_port_sms::{
    CallbackError, CallbackRequest, Delivery, DeliveryCallbacks, DeliveryReport, Reported,
};

use crate::{NAME, codes};

/// Twilio's code for a message that its carrier held until its time was over.
const VALIDITY_EXPIRED: u32 = 30036;

/// Twilio's connection overrides: five more tries, the most there are, whatever went wrong.
const OVERRIDES: &str = "rc=5&rp=all";

/// Where Twilio reports to.
#[derive(Debug, Clone)]
pub(crate) struct CallbackUrl {
    /// As Twilio is told it, without the query and the fragment.
    told: String,
    /// The same with the port written out if it was not, and the other way round: Twilio signs either, as its own
    /// libraries have it.
    other: String,
}

impl CallbackUrl {
    pub(crate) fn new(public_url: &Url) -> Option<Self> {
        let (scheme, host) = (public_url.scheme(), public_url.host_str()?);
        let port = public_url.port_or_known_default()?;
        let path = format!("{}/callbacks/sms/{NAME}", public_url.path().trim_end_matches('/'));
        let bare = format!("{scheme}://{host}{path}");
        let with_port = format!("{scheme}://{host}:{port}{path}");
        let is_bare = public_url.port().is_none();
        let (told, other) = if is_bare { (bare, with_port) } else { (with_port, bare) };
        Some(Self { told, other })
    }

    /// The `StatusCallback` of a message.
    pub(crate) fn of(&self, message: MessageId) -> String {
        format!("{}?message={message}#{OVERRIDES}", self.told)
    }
}

/// Reads what Twilio reports.
#[derive(Debug)]
pub struct TwilioCallbacks {
    url: CallbackUrl,
    auth_token: SecretString,
}

impl TwilioCallbacks {
    pub(crate) fn new(url: CallbackUrl, auth_token: SecretString) -> Self {
        Self { url, auth_token }
    }

    /// Whether Twilio signed a call of our URL with this query and this form.
    fn is_signed(&self, signature: &str, query: &str, form: &[Field<'_>]) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        [&self.url.told, &self.url.other].into_iter().any(|url| {
            mac(&self.auth_token, &[url, "?", query], form)
                .is_some_and(|mac| mac.verify_slice(&signature).is_ok())
        })
    }
}

impl DeliveryCallbacks for TwilioCallbacks {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Of the path, only the query counts: what stands before it is known, and a proxy may have changed it.
    fn read(&self, request: &CallbackRequest<'_>) -> Result<Option<DeliveryReport>, CallbackError> {
        let signature = request.header("x-twilio-signature").ok_or(CallbackError::Unsigned)?;
        let query = request.path_and_query.split_once('?').map_or("", |(_, query)| query);
        let form = form(request.body);
        if !self.is_signed(signature, query, &form) {
            return Err(CallbackError::Unsigned);
        }
        let message = message(query).ok_or(CallbackError::Malformed)?;
        let status = field(&form, "MessageStatus").ok_or(CallbackError::Malformed)?;
        let code = field(&form, "ErrorCode").and_then(|code| code.parse().ok());
        let message = Reported::Message(message);
        Ok(delivery(status, code).map(|delivery| DeliveryReport { provider: NAME, message, delivery }))
    }
}

type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The fields in the order in which they are signed. One that is repeated counts once.
fn form(body: &[u8]) -> Vec<Field<'_>> {
    let mut form: Vec<_> = form_urlencoded::parse(body).collect();
    form.sort_unstable();
    form.dedup();
    form
}

fn field<'a>(form: &'a [Field<'_>], name: &str) -> Option<&'a str> {
    form.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
}

/// The URL, then the fields' names and values, with nothing between them.
fn mac(auth_token: &SecretString, url: &[&str], form: &[Field<'_>]) -> Option<Hmac<Sha1>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(auth_token.expose_secret().as_bytes()).ok()?;
    for part in url {
        mac.update(part.as_bytes());
    }
    for (name, value) in form {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    Some(mac)
}

fn message(query: &str) -> Option<MessageId> {
    let (_, id) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "message")?;
    id.parse().ok().map(MessageId::new)
}

/// What a status means. Those that are not about an SMS on its way out mean nothing here.
fn delivery(status: &str, code: Option<u32>) -> Option<Delivery> {
    match status {
        "queued" | "sending" | "sent" => Some(Delivery::Sent),
        "delivered" => Some(Delivery::Delivered),
        "undelivered" | "failed" if code == Some(VALIDITY_EXPIRED) => Some(Delivery::Expired),
        "undelivered" | "failed" => Some(Delivery::Failed { reason: reason(code) }),
        _ => None,
    }
}

fn reason(code: Option<u32>) -> String {
    code.map_or("Twilio gives no code".to_owned(), codes::describe)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;

    const ID: &str = "00000000-0000-0000-0000-000000000007";
    const PATH: &str = "/callbacks/sms/twilio?message=00000000-0000-0000-0000-000000000007";

    fn callbacks(public_url: &str) -> TwilioCallbacks {
        let url = CallbackUrl::new(&Url::parse(public_url).unwrap()).unwrap();
        TwilioCallbacks::new(url, SecretString::from("12345"))
    }

    fn sign(url: &str, body: &str) -> String {
        let mac = mac(&SecretString::from("12345"), &[url], &form(body.as_bytes())).unwrap();
        STANDARD.encode(mac.finalize().into_bytes())
    }

    /// Reads a callback whose signature is for `signed_url`.
    fn read(signed_url: &str, path: &str, body: &str) -> Result<Option<DeliveryReport>, CallbackError> {
        let headers = [("x-twilio-signature".to_owned(), sign(signed_url, body))];
        let request = CallbackRequest { path_and_query: path, headers: &headers, body: body.as_bytes() };
        let unsigned = CallbackRequest { headers: &[], ..request };
        let callbacks = callbacks("https://sms.example/auth/");
        assert_eq!(callbacks.read(&unsigned), Err(CallbackError::Unsigned));
        callbacks.read(&request)
    }

    // The example of Twilio's documentation, and that of its Python library.
    #[rstest]
    #[case(
        "12345",
        "https://mycompany.com/myapp.php?foo=1&bar=2",
        "To=%2B18005551212&CallSid=CA1234567890ABCDE&Caller=%2B12349013030&Digits=1234&From=%2B12349013030",
        "0/KCTR6DLpKmkAf8muzZqo1nDgQ="
    )]
    #[case(
        "12345",
        "https://mycompany.com/myapp.php?foo=1&bar=2",
        "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309",
        "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    )]
    fn twilios_examples(#[case] token: &str, #[case] url: &str, #[case] body: &str, #[case] signature: &str) {
        let mac = mac(&SecretString::from(token), &[url], &form(body.as_bytes())).unwrap();
        assert_eq!(STANDARD.encode(mac.finalize().into_bytes()), signature);
    }

    #[rstest]
    #[case("https://sms.example", "https://sms.example/callbacks/sms/twilio?message=")]
    #[case("https://sms.example:443/", "https://sms.example/callbacks/sms/twilio?message=")]
    #[case("https://sms.example:8443/auth/", "https://sms.example:8443/auth/callbacks/sms/twilio?message=")]
    #[case("http://[::1]:80/a/b", "http://[::1]/a/b/callbacks/sms/twilio?message=")]
    fn what_twilio_is_told(#[case] public_url: &str, #[case] told: &str) {
        let id = MessageId::new(Uuid::from_u128(7));
        assert_eq!(callbacks(public_url).url.of(id), format!("{told}{ID}#rc=5&rp=all"));
    }

    #[rstest]
    #[case("MessageStatus=queued", Some(Delivery::Sent))]
    #[case("MessageStatus=sent&To=%2B447871234567", Some(Delivery::Sent))]
    #[case("MessageStatus=delivered", Some(Delivery::Delivered))]
    #[case(
        "MessageStatus=undelivered&ErrorCode=30005",
        Some(Delivery::Failed { reason: "Twilio 30005: the number is unknown or no longer in use".to_owned() })
    )]
    #[case(
        "ErrorCode=99999&MessageStatus=failed",
        Some(Delivery::Failed { reason: "Twilio 99999: a code that is not known here".to_owned() })
    )]
    #[case("MessageStatus=failed", Some(Delivery::Failed { reason: "Twilio gives no code".to_owned() }))]
    #[case("MessageStatus=undelivered&ErrorCode=30036", Some(Delivery::Expired))]
    #[case("MessageStatus=scheduled", None)]
    #[case("MessageStatus=received", None)]
    fn what_became_of_a_message(#[case] body: &str, #[case] delivery: Option<Delivery>) {
        let report = read(&format!("https://sms.example/auth{PATH}"), PATH, body).unwrap();
        let message = Reported::Message(MessageId::new(Uuid::from_u128(7)));
        assert_eq!(report, delivery.map(|delivery| DeliveryReport { provider: "twilio", message, delivery }));
    }

    #[rstest]
    #[case("https://sms.example/auth", true)]
    #[case("https://sms.example:443/auth", true)]
    #[case("https://sms.example", false)]
    #[case("http://sms.example/auth", false)]
    #[case("https://sms.example:8443/auth", false)]
    #[case("https://other.example/auth", false)]
    fn the_url_is_signed(#[case] public_url: &str, #[case] believed: bool) {
        // Whatever a proxy made of the path.
        for path in [PATH.to_owned(), format!("/auth{PATH}")] {
            let report = read(&format!("{public_url}{PATH}"), &path, "MessageStatus=delivered");
            assert_eq!(report.is_ok(), believed, "{report:?}");
        }
    }

    #[test]
    fn the_message_and_the_form_are_signed() {
        let url = format!("https://sms.example/auth{PATH}");
        let other = PATH.replace('7', "8");
        assert_eq!(read(&url, &other, "MessageStatus=sent"), Err(CallbackError::Unsigned));
        let headers = [("x-twilio-signature".to_owned(), sign(&url, "MessageStatus=sent"))];
        let body = b"MessageStatus=failed";
        let request = CallbackRequest { path_and_query: PATH, headers: &headers, body };
        assert_eq!(callbacks("https://sms.example/auth").read(&request), Err(CallbackError::Unsigned));
        let headers = [("x-twilio-signature".to_owned(), "no base64".to_owned())];
        let request = CallbackRequest { headers: &headers, ..request };
        assert_eq!(callbacks("https://sms.example/auth").read(&request), Err(CallbackError::Unsigned));
    }

    #[rstest]
    #[case("?message=7", "MessageStatus=sent")]
    #[case("?other=7", "MessageStatus=sent")]
    #[case("?", "MessageStatus=sent")]
    #[case("?message=00000000-0000-0000-0000-000000000007", "Status=sent")]
    #[case("?message=00000000-0000-0000-0000-000000000007", "")]
    fn what_makes_no_sense(#[case] query: &str, #[case] body: &str) {
        let path = format!("/callbacks/sms/twilio{query}");
        let report = read(&format!("https://sms.example/auth{path}"), &path, body);
        assert_eq!(report, Err(CallbackError::Malformed));
    }
}
