//! The mail server: how it is reached, the connections to it that are kept, and one transaction over one of them.
//!
//! The transaction is carried out command by command, and not by the library's own transport, since what a refusal
//! means depends on the command that it answers: `550` to `RCPT TO` is about the recipient, and to `MAIL FROM` about us.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};

/// Connections kept for the next messages.
const MAX_IDLE: usize = 4;
/// How long. Servers close theirs after minutes (RFC 5321, section 4.5.3.2.7).
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);
/// How long a server has to answer `QUIT` before the connection is closed all the same.
pub(crate) const FAREWELL: Duration = Duration::from_millis(500);

/// A mail server.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle: Idle,
}

/// How connections are secured.
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// By STARTTLS (RFC 3207), or the server gets nothing.
    StartTls(TlsParameters),
    /// From the first byte (RFC 8314).
    Implicit(TlsParameters),
}

/// Why a transaction failed.
pub(crate) enum Failure {
    /// Before there was talk of the recipient or the content: it would have happened to any message.
    Session(Error),
    /// The recipient or the content was refused, or the answer about them did not come.
    Message(Error),
    /// The address has other letters than ASCII, and the server lacks SMTPUTF8 (RFC 6531).
    NoSmtpUtf8,
}

/// Connections waiting for the next message.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Vec<(AsyncSmtpConnection, Instant)>>);

impl Server {
    /// Delivers one message. When the future is dropped midway, its connection is closed.
    pub(crate) async fn deliver(&self, envelope: &Envelope, message: &[u8]) -> Result<(), Failure> {
        let mut connection = self.connection().await.map_err(Failure::Session)?;
        match transact(&mut connection, envelope, message).await {
            Ok(()) => {
                self.idle.park(connection);
                Ok(())
            }
            Err(failure) => {
                // The outcome is known; that the farewell is late or fails changes nothing about it.
                let _ = tokio::time::timeout(FAREWELL, connection.abort()).await;
                Err(failure)
            }
        }
    }

    /// A kept connection that still works, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, Error> {
        while let Some(mut kept) = self.idle.take() {
            if kept.test_connected().await {
                return Ok(kept);
            }
        }
        let name = ClientId::default();
        let implicit = match &self.security {
            Security::Implicit(parameters) => Some(parameters.clone()),
            Security::Plain | Security::StartTls(_) => None,
        };
        let address = (self.host.as_str(), self.port);
        let timeout = Some(self.connect_timeout);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, timeout, &name, implicit, None).await?;
        if let Security::StartTls(parameters) = &self.security {
            connection.starttls(parameters.clone(), &name).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

async fn transact(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    message: &[u8],
) -> Result<(), Failure> {
    let mut parameters = Vec::new();
    if envelope.to().iter().any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(Failure::NoSmtpUtf8);
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !message.is_ascii() {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let mail = Mail::new(envelope.from().cloned(), parameters);
    connection.command(mail).await.map_err(Failure::Session)?;
    for recipient in envelope.to() {
        let recipient = Rcpt::new(recipient.clone(), Vec::new());
        connection.command(recipient).await.map_err(Failure::Message)?;
    }
    connection.command(Data).await.map_err(Failure::Message)?;
    connection.message(message).await.map_err(Failure::Message)?;
    Ok(())
}

impl Idle {
    /// Keeps a connection, if there is room.
    fn park(&self, connection: AsyncSmtpConnection) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, since)| since.elapsed() < MAX_IDLE_TIME);
        if kept.len() < MAX_IDLE {
            kept.push((connection, Instant::now()));
        }
    }

    /// The connection that was used last.
    fn take(&self) -> Option<AsyncSmtpConnection> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, since)| since.elapsed() < MAX_IDLE_TIME);
        kept.pop().map(|(connection, _)| connection)
    }
}
