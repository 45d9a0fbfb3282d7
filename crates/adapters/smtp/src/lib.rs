//! The e-mail port on an SMTP server (RFC 5321): plain, with STARTTLS or inside TLS, with or without AUTH.
//!
//! Not here: texts, and what to do about a failure.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{Error, PoolConfig};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use secrecy::{ExposeSecret as _, SecretString};
use vestibule_port_email::{Email, EmailError, EmailSender};

/// How long the server may take for one message, by default.
pub const TIMEOUT: Duration = Duration::from_secs(9);

/// Connections that are kept for the next messages.
const MAX_CONNECTIONS: u32 = 8;

/// Access to the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `smtp://`, `smtp+starttls://` or `smtps://`, then `user:password@` if it wants that (percent-encoded), host and port.
    pub url: SecretString,
    /// The sender: `no-reply@example.com`, with a name before it if wanted (`Example <no-reply@example.com>`).
    pub from: String,
    /// How long the server may take for one message.
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
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    timeout: Duration,
}

impl Smtp {
    /// Speaks to the server of these settings. Makes no connection yet.
    ///
    /// # Errors
    /// [`SettingsError`]
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let from: Mailbox = settings.from.parse().map_err(|_| SettingsError::From)?;
        let (scheme, rest) = settings.url.expose_secret().split_once("://").ok_or(SettingsError::Url)?;
        let host = host(rest).ok_or(SettingsError::Url)?;
        let url = match scheme {
            "smtp" | "smtps" => format!("{scheme}://{rest}"),
            // Required: a server that does not offer it gets nothing in clear.
            "smtp+starttls" => format!("smtp://{}?tls=required", rest.trim_end_matches('/')),
            _ => return Err(SettingsError::Url),
        };
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::from_url(&url).map_err(|_| SettingsError::Url)?;
        if let Some(path) = &settings.ca_file {
            let failed = |error: String| SettingsError::CaFile(error);
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let authority = Certificate::from_pem(&pem).map_err(|error| failed(error.to_string()))?;
            let parameters = TlsParameters::builder(host.to_owned()).add_root_certificate(authority).build();
            let parameters = parameters.map_err(|error| failed(error.to_string()))?;
            builder = match scheme {
                "smtps" => builder.tls(Tls::Wrapper(parameters)),
                "smtp+starttls" => builder.tls(Tls::Required(parameters)),
                _ => builder,
            };
        }
        let transport = builder
            .timeout(Some(settings.timeout))
            .pool_config(PoolConfig::new().max_size(MAX_CONNECTIONS).idle_timeout(Duration::from_secs(30)))
            .build();
        Ok(Self { transport, from, timeout: settings.timeout })
    }

    fn message(&self, email: &Email) -> Result<Message, EmailError> {
        let unusable =
            |what: &str| EmailError::Permanent { reason: format!("{what} cannot be written in a mail") };
        // The domain in ASCII; the local part as its owner writes it.
        let domain = email.to.canonical().rsplit('@').next().unwrap_or_default();
        let to = Address::new(email.to.local_part(), domain).map_err(|_| unusable("the address"))?;
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&email.subject)
            .message_id(Some(format!("<{}@{}>", email.id, self.from.email.domain())))
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(email.text.clone(), email.html.clone()))
            .map_err(|_| unusable("the content"))
    }

    async fn failure(&self, error: &Error, email: &Email) -> EmailError {
        let temporary = |reason: String| EmailError::Temporary { reason };
        let Some(code) = error.status().map(u16::from) else {
            let reason = match error {
                error if error.is_timeout() => "no answer in time",
                error if error.is_tls() => "no secure connection",
                // The server lacks an extension that the address needs (SMTPUTF8, RFC 6531).
                error if error.is_client() && !email.to.local_part().is_ascii() => {
                    return EmailError::Permanent { reason: "the server cannot take the address".to_owned() };
                }
                _ => "no usable connection",
            };
            return temporary(reason.to_owned());
        };
        let reason = format!("reply {code}");
        match code {
            // About us, not about the message: service, credentials, commands. An operator can mend it.
            500..=504 | 521 | 530 | 534 | 535 | 538 => temporary(reason),
            // Said of a message, or of everyone at the greeting: ask which.
            554 if self.transport.test_connection().await.is_err() => temporary(reason),
            500..=599 => EmailError::Permanent { reason },
            _ => temporary(reason),
        }
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
        let message = self.message(email)?;
        let sending = async {
            match self.transport.send(message).await {
                Ok(_) => Ok(()),
                Err(error) => Err(self.failure(&error, email).await),
            }
        };
        // The transport's own limit is per command; this one is for all of them.
        let late = || EmailError::Temporary { reason: "no answer in time".to_owned() };
        tokio::time::timeout(self.timeout, sending).await.unwrap_or_else(|_| Err(late()))
    }
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

fn host(rest: &str) -> Option<&str> {
    let authority = rest.split(['/', '?']).next()?;
    let server = authority.rsplit('@').next()?;
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    (!host.is_empty()).then_some(host)
}
