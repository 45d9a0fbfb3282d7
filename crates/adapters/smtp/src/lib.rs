//! The e-mail port on an SMTP server (RFC 5321): plain, with STARTTLS or inside TLS, with or without AUTH.
//!
//! Not here: texts, and what to do about a failure.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lettre::address::Envelope;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::{Address, Message};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;
use vestibule_port_email::{Email, EmailError, EmailSender};

mod server;

use server::{FAREWELL, Failure, Idle, Security, Server};

/// How long the server may take for one message, by default.
pub const TIMEOUT: Duration = Duration::from_secs(9);

/// The port's bound on a call.
const MAX_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that takes longer to reach is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Access to the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `smtp://` (port 25 if none is given), `smtp+starttls://` (587) or `smtps://` (465), then `user:password@` if it wants
    /// that (percent-encoded), and the host. Over `smtp://` password and links travel in clear: it is for a server on
    /// the same machine or network.
    pub url: SecretString,
    /// The sender: `no-reply@example.com`, with a name before it if wanted (`Example <no-reply@example.com>`).
    pub from: String,
    /// How long the server may take for one message, at most 10 s.
    pub timeout: Duration,
    /// A certificate authority to trust beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
}

/// A setting that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL has another form; it is not repeated, since it may hold a password.
    #[error("smtp.url must be smtp://, smtp+starttls:// or smtps:// and a host")]
    Url,
    /// The sender is no address.
    #[error("from is not an e-mail address")]
    From,
    /// The authority's certificate cannot be used.
    #[error("smtp.ca_file cannot be used: {0}")]
    CaFile(String),
}

/// The e-mail port on an SMTP server.
pub struct Smtp {
    server: Server,
    from: Mailbox,
    timeout: Duration,
}

impl Smtp {
    /// Speaks to the server of these settings. Makes no connection yet.
    ///
    /// # Errors
    /// [`SettingsError`]
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let timeout = settings.timeout.min(MAX_TIMEOUT.saturating_sub(FAREWELL));
        let server = server(settings, timeout)?;
        Ok(Self { server, from: sender(&settings.from)?, timeout })
    }

    fn message(&self, email: &Email) -> Result<(Envelope, Vec<u8>), EmailError> {
        let unusable =
            |what: &str| EmailError::Permanent { reason: format!("{what} cannot be written in a mail") };
        // The domain in ASCII; the local part as its owner writes it.
        let domain = email.to.canonical().rsplit('@').next().unwrap_or_default();
        let to = Address::new(email.to.local_part(), domain).map_err(|_| unusable("the address"))?;
        if !is_message_id(&email.id) {
            return Err(unusable("the id"));
        }
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            // A line break would be folded by the library, but a subject has none to begin with.
            .subject(email.subject.replace(char::is_control, " "))
            .message_id(Some(format!("<{}@{}>", email.id, self.from.email.domain())))
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(email.text.clone(), email.html.clone()))
            .map_err(|_| unusable("the content"))?;
        Ok((message.envelope().clone(), message.formatted()))
    }
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").finish_non_exhaustive()
    }
}

#[async_trait]
impl EmailSender for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }

    async fn send(&self, email: &Email) -> Result<(), EmailError> {
        let (envelope, message) = self.message(email)?;
        let sending = self.server.deliver(&envelope, &message);
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(outcome) => outcome.map_err(|failure| meaning(&failure)),
            Err(_) => Err(EmailError::Temporary { reason: "no answer in time".to_owned() }),
        }
    }
}

/// What a failure means. The server's own words are not repeated: they repeat the address.
fn meaning(failure: &Failure) -> EmailError {
    let (error, is_about_message) = match failure {
        Failure::Session(error) => (error, false),
        Failure::Message(error) => (error, true),
        Failure::NoSmtpUtf8 => {
            return EmailError::Permanent { reason: "the server cannot take the address".to_owned() };
        }
    };
    let Some(code) = error.status().map(u16::from) else {
        return EmailError::Temporary { reason: without_reply(error).to_owned() };
    };
    let reason = format!("reply {code}");
    match code {
        // Commands, the service and the credentials: said at any point, they are about us. An operator can mend that.
        500..=504 | 521 | 530 | 534 | 535 | 538 => EmailError::Temporary { reason },
        500..=599 if is_about_message => EmailError::Permanent { reason },
        _ => EmailError::Temporary { reason },
    }
}

fn without_reply(error: &Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_tls() {
        "no secure connection"
    } else if error.is_client() {
        "the server lacks STARTTLS, or a way to authenticate"
    } else if error.is_response() {
        "a reply that makes no sense"
    } else {
        "no connection"
    }
}

fn server(settings: &Settings, timeout: Duration) -> Result<Server, SettingsError> {
    let url = Url::parse(settings.url.expose_secret()).map_err(|_| SettingsError::Url)?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(SettingsError::Url);
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SettingsError::Url)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (security, usual_port) = match url.scheme() {
        "smtp" => (Security::Plain, 25),
        "smtp+starttls" => (Security::StartTls(tls(&host, settings)?), 587),
        "smtps" => (Security::Implicit(tls(&host, settings)?), 465),
        _ => return Err(SettingsError::Url),
    };
    Ok(Server {
        host,
        port: url.port().unwrap_or(usual_port),
        security,
        credentials: credentials(&url)?,
        connect_timeout: CONNECT_TIMEOUT.min(timeout),
        idle: Idle::default(),
    })
}

fn credentials(url: &Url) -> Result<Option<Credentials>, SettingsError> {
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().map_err(|_| SettingsError::Url)?;
        // NUL separates the parts of AUTH PLAIN (RFC 4616).
        if text.contains('\0') { Err(SettingsError::Url) } else { Ok(text.into_owned()) }
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) | (_, None) => Err(SettingsError::Url),
        (user, Some(password)) => Ok(Some(Credentials::new(decoded(user)?, decoded(password)?))),
    }
}

fn tls(host: &str, settings: &Settings) -> Result<TlsParameters, SettingsError> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(|error| SettingsError::CaFile(error.to_string()))?;
        let authority =
            Certificate::from_pem(&pem).map_err(|error| SettingsError::CaFile(error.to_string()))?;
        parameters = parameters.add_root_certificate(authority);
    }
    parameters.build().map_err(|error| SettingsError::CaFile(error.to_string()))
}

/// The sender, its domain in ASCII: it must be writable for every server.
fn sender(text: &str) -> Result<Mailbox, SettingsError> {
    let mailbox: Mailbox = text.parse().map_err(|_| SettingsError::From)?;
    let domain = idna::domain_to_ascii_strict(mailbox.email.domain()).map_err(|_| SettingsError::From)?;
    let address = Address::new(mailbox.email.user(), domain).map_err(|_| SettingsError::From)?;
    let is_ascii = AsRef::<str>::as_ref(&address).is_ascii();
    if is_ascii { Ok(Mailbox::new(mailbox.name, address)) } else { Err(SettingsError::From) }
}

/// Whether it can stand on the left side of a `Message-ID`: a dot-atom (RFC 5322, section 3.6.4), of which ours use less.
fn is_message_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Tells automatic responders not to answer (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
