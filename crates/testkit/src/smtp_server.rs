use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The longest message, as EHLO announces it.
const MAX_SIZE: usize = 1_048_576;

/// No line is longer, in bytes; the longest is a response of AUTH (RFC 4954, section 4).
const MAX_LINE: u64 = 12_288;

/// How connections are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Not at all.
    #[default]
    Plain,
    /// On demand, and nothing is taken before (RFC 3207).
    StartTls,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// What the server asks for and offers.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How connections are secured.
    pub security: Security,
    /// User and password, if it takes mail from nobody else (RFC 4954).
    pub auth: Option<(String, String)>,
    /// Whether it takes addresses with other letters (RFC 6531).
    pub smtputf8: bool,
}

/// A point of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The first reply.
    Greeting,
    /// `MAIL FROM`.
    Mail,
    /// `RCPT TO`.
    Rcpt,
    /// `DATA`.
    Data,
    /// The dot that ends the message.
    EndOfData,
}

/// A mail that the server has taken responsibility for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMail {
    /// The sender of the envelope.
    pub from: String,
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// The message as it was sent, dots unstuffed, lines ending in `\n`.
    pub data: String,
}

impl ReceivedMail {
    /// The value of the first header of that name, unfolded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let head =
            self.data.split("\n\n").next().unwrap_or_default().replace("\n ", " ").replace("\n\t", " ");
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// The decoded content of the first part of that type.
    #[must_use]
    pub fn part(&self, media_type: &str) -> Option<String> {
        let at = self.data.find(&format!("Content-Type: {media_type}"))?;
        let (head, content) = self.data.get(at..)?.split_once("\n\n")?;
        // The line before the part, if it is one of several. Other lines may begin with dashes as well.
        let delimiter = self.data.get(..at)?.lines().rev().find(|line| line.starts_with("--"));
        let content = delimiter.map_or(content, |line| {
            content.split_once(&format!("\n{line}")).map_or(content, |(part, _)| part)
        });
        if head.contains("quoted-printable") {
            Some(unquote(content))
        } else if head.contains("base64") {
            let joined: String = content.split_whitespace().collect();
            String::from_utf8(STANDARD.decode(joined).ok()?).ok()
        } else {
            Some(content.to_owned())
        }
    }
}

/// An SMTP server on loopback that keeps to the protocol (RFC 5321), for tests.
pub struct MailServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

struct Shared {
    options: Options,
    tls: TlsAcceptor,
    authority: String,
    script: Mutex<HashMap<Stage, Option<String>>>,
    mails: watch::Sender<Vec<ReceivedMail>>,
    commands: Mutex<Vec<String>>,
}

impl MailServer {
    /// Starts on any port.
    ///
    /// # Errors
    /// When nothing can listen on loopback.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), options).await
    }

    /// Starts on this address, which another server may have had a moment ago.
    ///
    /// # Errors
    /// When nothing can listen there.
    pub async fn start_on(address: SocketAddr, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (tls, authority) = certificate().map_err(io::Error::other)?;
        let mails = watch::Sender::new(Vec::new());
        let shared = Arc::new(Shared {
            options,
            tls,
            authority,
            script: Mutex::default(),
            mails,
            commands: Mutex::default(),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { shared, address, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client takes as the server's URL, credentials included.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match self.shared.options.security {
            Security::Plain => "smtp",
            Security::StartTls => "smtp+starttls",
            Security::Implicit => "smtps",
        };
        let auth = self.shared.options.auth.as_ref().map(|(user, password)| format!("{user}:{password}@"));
        format!("{scheme}://{}localhost:{}", auth.unwrap_or_default(), self.address.port())
    }

    /// The certificate to trust, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.shared.authority
    }

    /// Answers `reply` at this point from now on.
    pub fn refuse(&self, stage: Stage, reply: &str) {
        self.shared.script().insert(stage, Some(reply.to_owned()));
    }

    /// Answers nothing at this point from now on.
    pub fn stall(&self, stage: Stage) {
        self.shared.script().insert(stage, None);
    }

    /// Answers nothing at any point from now on, and takes no mail.
    pub fn fall_silent(&self) {
        for stage in [Stage::Greeting, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::EndOfData] {
            self.stall(stage);
        }
    }

    /// Takes everything again.
    pub fn obey(&self) {
        self.shared.script().clear();
    }

    /// The verbs of all commands that it was given, in upper case.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has taken.
    #[must_use]
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.shared.mails.borrow().clone()
    }

    /// What it has taken, from the mail with this index on.
    #[must_use]
    pub fn mails_from(&self, index: usize) -> Vec<ReceivedMail> {
        self.shared.mails.borrow().get(index..).unwrap_or_default().to_vec()
    }

    /// Stops it; all that it had taken. When this returns, its port is free and its connections are closed.
    pub async fn stop(mut self) -> Vec<ReceivedMail> {
        self.serving.abort();
        // An aborted task ends with an error, which is what was asked for.
        let _ = (&mut self.serving).await;
        self.mails()
    }

    /// The latest mail to `to`, as soon as there is one; `None` if there is none in time.
    pub async fn wait_for(&self, to: &str, patience: Duration) -> Option<ReceivedMail> {
        let is_for = |mail: &ReceivedMail| mail.to.iter().any(|recipient| recipient == to);
        let mut mails = self.shared.mails.subscribe();
        let found = mails.wait_for(|mails| mails.iter().any(is_for));
        let found = tokio::time::timeout(patience, found).await.ok()?.ok()?;
        found.iter().rev().find(|mail| is_for(mail)).cloned()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn script(&self) -> std::sync::MutexGuard<'_, HashMap<Stage, Option<String>>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reply at a point: the scripted one, or the usual. A stalled point has none, ever.
    async fn reply(&self, stage: Stage, usual: &str) -> String {
        let scripted = self.script().get(&stage).cloned();
        match scripted {
            None => usual.to_owned(),
            Some(Some(reply)) => reply,
            Some(None) => std::future::pending().await,
        }
    }
}

pub(crate) fn certificate() -> Result<(TlsAcceptor, String), Box<dyn std::error::Error + Send + Sync>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), made.cert.pem()))
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client that breaks off is none of the server's business.
            let _ = accept(stream, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn accept(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    if shared.options.security == Security::Implicit {
        let secured = shared.tls.accept(stream).await?;
        return Conversation::new(secured, shared, true).hold().await.map(|_| ());
    }
    if let Some(plain) = Conversation::new(stream, shared, false).hold().await? {
        let secured = shared.tls.accept(plain).await?;
        // After STARTTLS the client begins anew, without a greeting.
        Conversation::new(secured, shared, true).talk().await?;
    }
    Ok(())
}

/// One connection's state.
struct Conversation<'a, S> {
    stream: BufReader<S>,
    shared: &'a Shared,
    secured: bool,
    authenticated: bool,
    greeted: bool,
    from: Option<String>,
    to: Vec<String>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    fn new(stream: S, shared: &'a Shared, secured: bool) -> Self {
        let (from, to) = (None, Vec::new());
        Self {
            stream: BufReader::new(stream),
            shared,
            secured,
            authenticated: false,
            greeted: false,
            from,
            to,
        }
    }

    /// Greets and talks; the stream, if the client wants to secure it.
    async fn hold(mut self) -> io::Result<Option<S>> {
        let greeting = self.shared.reply(Stage::Greeting, "220 localhost ESMTP").await;
        self.say(&greeting).await?;
        self.talk().await
    }

    async fn talk(mut self) -> io::Result<Option<S>> {
        while let Some(line) = self.line().await? {
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let verb = verb.to_ascii_uppercase();
            self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner).push(verb.clone());
            match verb.as_str() {
                "QUIT" => {
                    self.say("221 bye").await?;
                    return Ok(None);
                }
                "STARTTLS" if self.shared.options.security == Security::StartTls && !self.secured => {
                    self.say("220 go ahead").await?;
                    return Ok(Some(self.stream.into_inner()));
                }
                verb => {
                    let reply = self.command(verb, rest).await?;
                    self.say(&reply).await?;
                }
            }
        }
        Ok(None)
    }

    async fn command(&mut self, verb: &str, rest: &str) -> io::Result<String> {
        let options = &self.shared.options;
        Ok(match verb {
            "EHLO" | "HELO" => {
                self.greeted = true;
                self.reset();
                let size = format!("SIZE {MAX_SIZE}");
                let mut lines = vec!["localhost", "8BITMIME", "PIPELINING", &size];
                lines.extend(options.smtputf8.then_some("SMTPUTF8"));
                lines.extend((options.security == Security::StartTls && !self.secured).then_some("STARTTLS"));
                lines.extend(options.auth.is_some().then_some("AUTH PLAIN LOGIN"));
                let last = lines.len() - 1;
                let mark =
                    |(at, line): (usize, &&str)| format!("250{}{line}", if at == last { ' ' } else { '-' });
                lines.iter().enumerate().map(mark).collect::<Vec<_>>().join("\r\n")
            }
            "NOOP" => "250 ok".to_owned(),
            "RSET" => {
                self.reset();
                "250 ok".to_owned()
            }
            "VRFY" => "252 try it".to_owned(),
            "MAIL" | "RCPT" | "DATA" | "AUTH" if options.security == Security::StartTls && !self.secured => {
                "530 5.7.0 Must issue a STARTTLS command first".to_owned()
            }
            "AUTH" => self.authenticate(rest).await?,
            "MAIL" if options.auth.is_some() && !self.authenticated => {
                "530 5.7.0 Authentication required".to_owned()
            }
            "MAIL" if self.greeted && self.from.is_none() => match path(rest, "FROM:") {
                Some(from) => {
                    let reply = self.shared.reply(Stage::Mail, "250 2.1.0 ok").await;
                    self.from = reply.starts_with('2').then_some(from);
                    reply
                }
                None => "501 5.5.4 no address".to_owned(),
            },
            "RCPT" if self.from.is_some() => match path(rest, "TO:") {
                Some(to) => {
                    let reply = self.shared.reply(Stage::Rcpt, "250 2.1.5 ok").await;
                    self.to.extend(reply.starts_with('2').then_some(to));
                    reply
                }
                None => "501 5.5.4 no address".to_owned(),
            },
            "DATA" if !self.to.is_empty() => self.data().await?,
            "MAIL" | "RCPT" | "DATA" => "503 5.5.1 bad sequence of commands".to_owned(),
            _ => "502 5.5.2 unknown command".to_owned(),
        })
    }

    async fn data(&mut self) -> io::Result<String> {
        let reply = self.shared.reply(Stage::Data, "354 go ahead").await;
        if !reply.starts_with('3') {
            return Ok(reply);
        }
        self.say(&reply).await?;
        let mut data = String::new();
        loop {
            // A message that breaks off was not sent (RFC 5321, section 4.1.1.10).
            let line = self.line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line == "." {
                break;
            }
            if data.len() <= MAX_SIZE {
                data += line.strip_prefix('.').unwrap_or(&line);
                data.push('\n');
            }
        }
        if data.len() > MAX_SIZE {
            self.reset();
            return Ok("552 5.3.4 too large".to_owned());
        }
        let reply = self.shared.reply(Stage::EndOfData, "250 2.0.0 taken").await;
        if reply.starts_with('2') {
            let mail =
                ReceivedMail { from: self.from.clone().unwrap_or_default(), to: self.to.clone(), data };
            self.shared.mails.send_modify(|mails| mails.push(mail));
        }
        self.reset();
        Ok(reply)
    }

    async fn authenticate(&mut self, rest: &str) -> io::Result<String> {
        let decode =
            |text: &str| STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let given = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let response = if initial.is_empty() { self.ask("").await? } else { initial.to_owned() };
                let parts = decode(&response).unwrap_or_default();
                let mut parts = parts.split('\0').skip(1).map(str::to_owned);
                parts.next().zip(parts.next())
            }
            "LOGIN" => {
                let user = self.ask("VXNlcm5hbWU6").await?;
                let password = self.ask("UGFzc3dvcmQ6").await?;
                decode(&user).zip(decode(&password))
            }
            _ => return Ok("504 5.5.4 unknown mechanism".to_owned()),
        };
        self.authenticated = given.is_some() && given == self.shared.options.auth;
        Ok(if self.authenticated { "235 2.7.0 welcome" } else { "535 5.7.8 wrong credentials" }.to_owned())
    }

    async fn ask(&mut self, challenge: &str) -> io::Result<String> {
        self.say(&format!("334 {challenge}")).await?;
        Ok(self.line().await?.unwrap_or_default())
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        self.stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        self.stream.flush().await
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(None);
        }
        // What breaks off, or has another end, is no line.
        let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    }
}

/// The address of `FROM:<address> PARAMETERS`.
fn path(rest: &str, keyword: &str) -> Option<String> {
    let (found, rest) = rest.split_at_checked(keyword.len())?;
    let rest = found.eq_ignore_ascii_case(keyword).then(|| rest.trim_start())?;
    Some(rest.strip_prefix('<')?.split_once('>')?.0.to_owned())
}

/// Quoted-printable (RFC 2045, section 6.7).
fn unquote(text: &str) -> String {
    let joined = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex =
            tail.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        if let (b'=', Some(byte)) = (first, hex) {
            bytes.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_dashes_does_not_end_a_part() {
        let data = "Content-Type: multipart/alternative; boundary=\"abc\"\n\n--abc\nContent-Type: text/plain\n\
                    Content-Transfer-Encoding: quoted-printable\n\ntoken=3Dx=\n--y\n--abc\nContent-Type: text/html\n\n<p>\n--abc--\n";
        let mail = ReceivedMail { from: String::new(), to: Vec::new(), data: data.to_owned() };
        assert_eq!(mail.part("text/plain").as_deref(), Some("token=x--y"));
        assert_eq!(mail.part("text/html").as_deref(), Some("<p>"));
    }
}
