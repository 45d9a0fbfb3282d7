//! An SMS gateway on loopback, over HTTP/1.1. It has two doors: Twilio's Messages resource
//! (<https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource>), and a receiver of webhooks
//! signed after the Standard Webhooks specification.
//!
//! It judges a request as the real one does (path, authentication or signature, fields) and keeps one journal of the
//! messages that it accepted. What it answers can be scripted, so that a test sees every way in which a gateway fails;
//! and it can report what became of a message, signed as the real one signs.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

mod callbacks;
mod http;
mod webhook;

pub use callbacks::{Callback, CallbackListener, Report};
use http::{Answer, Request};

/// The account that the gateway knows.
pub const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
/// That account's token.
pub const AUTH_TOKEN: &str = "the-token-of-the-fake-gateway";
/// The secret that signs webhooks, in both directions.
pub const WEBHOOK_SECRET: &str = "whsec_dGhlLXNlY3JldC1vZi10aGUtZmFrZS1nYXRld2F5";

/// An SMS gateway that listens until it is stopped or dropped.
#[derive(Debug)]
pub struct FakeGateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// A message that the gateway accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentSms {
    /// The receiver, as the client wrote it.
    pub to: String,
    /// The sender: a number, or the SID of a messaging service; empty for a webhook, which names none.
    pub from: String,
    /// The text.
    pub body: String,
    /// Its place in the journal, from 0.
    pub at_index: usize,
    /// The door that it came in by.
    pub via: Via,
}

impl SentSms {
    /// The code that it carries, if it carries one: what follows the last `#`, as browsers find it.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.body.rsplit_once('#').map(|(_, code)| code.trim())
    }
}

/// A door of the gateway, and what was said there beside the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// Twilio's Messages resource.
    Twilio {
        /// Where the client wants to hear what becomes of the message.
        status_callback: Option<String>,
    },
    /// The receiver of webhooks.
    Webhook {
        /// The message's id. However often it comes, it enters the journal once, and again after a report that it has failed.
        id: String,
        /// When it was signed, in seconds since 1970.
        timestamp: i64,
        /// Whether it was reported as failed.
        failed: bool,
    },
}

/// What the gateway does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Judges it as the real gateway does.
    Accept,
    /// Refuses it with an error document in Twilio's form, whose message repeats the receiver's number.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// Twilio's error code.
        code: u32,
    },
    /// Answers exactly this.
    RespondWith {
        /// The HTTP status.
        status: u16,
        /// Further headers; `Content-Length` is added.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// Waits, then accepts.
    Delay(Duration),
    /// Reads the request and resets the connection; the message is not sent.
    ResetAfterRequest,
    /// Accepts the message, and resets the connection instead of answering.
    AcceptThenReset,
    /// Answers 200 with a page, as a captive portal or a proxy does.
    HtmlNonsense,
}

/// No such message arrived in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSms {
    /// How many did arrive for the receiver.
    pub arrived: usize,
}

impl std::fmt::Display for NoSms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the text message did not arrive in time; {} did", self.arrived)
    }
}

impl std::error::Error for NoSms {}

impl FakeGateway {
    /// Starts a gateway on a free port.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts a gateway at an address, such as that of one that was stopped.
    pub async fn start_on(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Accept),
            script: Mutex::new(VecDeque::new()),
            journal: watch::Sender::new(Vec::new()),
            requests: watch::Sender::new(0),
            webhook_callback: Mutex::new(None),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands before `/2010-04-01` in its URLs.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How the service is told to send by it, as by Twilio: names below `VESTIBULE__`, and values.
    #[must_use]
    pub fn settings(&self) -> [(String, String); 5] {
        [
            ("PROVIDERS", "twilio".to_owned()),
            ("TWILIO__BASE_URL", self.base_url()),
            ("TWILIO__ACCOUNT_SID", ACCOUNT_SID.to_owned()),
            ("TWILIO__AUTH_TOKEN", AUTH_TOKEN.to_owned()),
            ("TWILIO__FROM", "+15005550006".to_owned()),
        ]
        .map(|(name, value)| (format!("SMS__{name}"), value))
    }

    /// Where it takes webhooks.
    #[must_use]
    pub fn webhook_url(&self) -> String {
        format!("{}{}", self.base_url(), webhook::PATH)
    }

    /// Sets where it reports what becomes of messages that came as webhooks. Twilio's clients say it with each message.
    pub fn set_webhook_callback(&self, url: &str) {
        *lock(&self.shared.webhook_callback) = Some(url.to_owned());
    }

    /// Reports what became of a message, signed as its door demands, and gives the status that was answered.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such message or nobody wants to hear of it; otherwise the connection's.
    pub async fn report(&self, at_index: usize, report: Report) -> io::Result<u16> {
        let sms = self.messages().get(at_index).cloned().ok_or(io::ErrorKind::NotFound)?;
        let webhook_callback = lock(&self.shared.webhook_callback).clone();
        if report == Report::Failed {
            webhook::forget(&self.shared.journal, at_index);
        }
        callbacks::call(&sms, webhook_callback, report).await
    }

    /// Sets what is done with the requests to come.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// Sets what is done with the next requests, one each; after them the behaviour that is set applies again.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.shared.script).extend(behaviours);
    }

    /// All accepted messages, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<SentSms> {
        self.shared.journal.borrow().clone()
    }

    /// The accepted messages from a place in the journal on.
    #[must_use]
    pub fn messages_from(&self, index: usize) -> Vec<SentSms> {
        self.shared.journal.borrow().get(index..).unwrap_or_default().to_vec()
    }

    /// How many messages were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.journal.borrow().len()
    }

    /// How many requests came, accepted or not.
    #[must_use]
    pub fn requests(&self) -> usize {
        *self.shared.requests.borrow()
    }

    /// Waits until `count` messages for a receiver were accepted, and gives the last of these.
    pub async fn wait_for(&self, to: &str, count: usize, timeout: Duration) -> Result<SentSms, NoSms> {
        let nth = |journal: &Vec<SentSms>| {
            journal.iter().filter(|sms| sms.to == to).nth(count.saturating_sub(1)).cloned()
        };
        let mut journal = self.shared.journal.subscribe();
        let found = tokio::time::timeout(timeout, journal.wait_for(|journal| nth(journal).is_some())).await;
        let found = found.ok().and_then(Result::ok).and_then(|journal| nth(&journal));
        found.ok_or_else(|| NoSms { arrived: self.messages().iter().filter(|sms| sms.to == to).count() })
    }

    /// Whether so many requests came in time.
    pub async fn wait_for_requests(&self, count: usize, timeout: Duration) -> bool {
        let mut requests = self.shared.requests.subscribe();
        tokio::time::timeout(timeout, requests.wait_for(|requests| *requests >= count)).await.is_ok()
    }

    /// Stops it; all that it had accepted. When this returns, its port is free and its connections are closed.
    pub async fn stop(mut self) -> Vec<SentSms> {
        self.server.abort();
        // An aborted task ends with an error, which is what was asked for.
        let _ = (&mut self.server).await;
        self.messages()
    }
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    script: Mutex<VecDeque<Behaviour>>,
    journal: watch::Sender<Vec<SentSms>>,
    requests: watch::Sender<usize>,
    webhook_callback: Mutex<Option<String>>,
}

impl Shared {
    fn next_behaviour(&self) -> Behaviour {
        let scripted = lock(&self.script).pop_front();
        scripted.unwrap_or_else(|| lock(&self.behaviour).clone())
    }

    /// The real gateway's judgement; an accepted message enters the journal.
    fn judge(&self, request: &Request) -> Answer {
        if request.path == webhook::PATH {
            return webhook::judge(&self.journal, request);
        }
        if request.path != format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json") {
            return refusal(404, 20404, &format!("The requested resource {} was not found", request.path));
        }
        if request.credentials() != Some((ACCOUNT_SID.to_owned(), AUTH_TOKEN.to_owned())) {
            return refusal(401, 20003, "Authenticate")
                .with_header("WWW-Authenticate", r#"Basic realm="Twilio API""#);
        }
        if request.method != "POST" {
            return refusal(405, 20004, "Method not allowed");
        }
        match message(request) {
            Ok(sms) => accepted(&enter(&self.journal, sms)),
            Err(refusal) => refusal,
        }
    }
}

/// Enters a message into the journal, which gives it its place.
fn enter(journal: &watch::Sender<Vec<SentSms>>, mut sms: SentSms) -> SentSms {
    journal.send_modify(|journal| {
        sms.at_index = journal.len();
        journal.push(sms.clone());
    });
    sms
}

/// The message of a request to Twilio's resource.
fn message(request: &Request) -> Result<SentSms, Answer> {
    let form = request.form().ok_or_else(|| refusal(400, 20001, "Unable to parse the form"))?;
    let field = |name: &str| {
        form.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.clone())
    };
    let to = field("To").ok_or_else(|| refusal(400, 21604, "A 'To' phone number is required."))?;
    let digits = to.strip_prefix('+').unwrap_or_default();
    if !(7..=15).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refusal(400, 21211, &format!("Invalid 'To' Phone Number: {to}")));
    }
    let from = field("MessagingServiceSid")
        .or_else(|| field("From"))
        .ok_or_else(|| refusal(400, 21603, "A 'From' phone number is required."))?;
    let body = field("Body").ok_or_else(|| refusal(400, 21602, "Message body is required."))?;
    if body.chars().count() > 1600 {
        return Err(refusal(400, 21617, "The concatenated message body exceeds the 1600 character limit."));
    }
    let status_callback = field("StatusCallback");
    if status_callback.as_ref().is_some_and(|url| !url.starts_with("http")) {
        return Err(refusal(400, 21609, "The 'StatusCallback' URL is not a valid URL."));
    }
    Ok(SentSms { to, from, body, at_index: 0, via: Via::Twilio { status_callback } })
}

fn sid(at_index: usize) -> String {
    format!("SM{at_index:032x}")
}

fn accepted(sms: &SentSms) -> Answer {
    let document = json!({
        "sid": sid(sms.at_index),
        "account_sid": ACCOUNT_SID,
        "status": "queued",
        "to": sms.to,
        "from": sms.from,
        "body": sms.body,
        "num_segments": "1",
        "error_code": null,
        "error_message": null,
    });
    Answer::json(201, &document)
}

fn refusal(status: u16, code: u32, message: &str) -> Answer {
    let document = json!({
        "code": code,
        "message": message,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status,
    });
    Answer::json(status, &document)
}

/// Takes connections until it is aborted, which ends them as well.
async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move { converse(BufReader::new(stream), &shared).await });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection. An error of it concerns its client, who sees it too.
async fn converse(mut stream: BufReader<TcpStream>, shared: &Shared) -> io::Result<()> {
    loop {
        let request = match Request::read(&mut stream).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let answer =
                    Answer::new(400, "text/plain", error.to_string()).with_header("Connection", "close");
                return answer.write(&mut stream).await;
            }
            Err(error) => return Err(error),
        };
        shared.requests.send_modify(|count| *count += 1);
        let Some(answer) = answer(shared, &request).await else {
            return stream.get_ref().set_zero_linger();
        };
        answer.write(&mut stream).await?;
        if request.is_last() {
            return Ok(());
        }
    }
}

/// What is answered; `None` to reset the connection.
async fn answer(shared: &Shared, request: &Request) -> Option<Answer> {
    match shared.next_behaviour() {
        Behaviour::Accept => Some(shared.judge(request)),
        Behaviour::Refuse { status, code } => {
            let form = request.form().unwrap_or_default();
            let to = form.iter().find(|(name, _)| name == "To").map_or("", |(_, value)| value.as_str());
            Some(refusal(status, code, &format!("Refused: {to}")))
        }
        Behaviour::RespondWith { status, headers, body } => Some(Answer { status, headers, body }),
        Behaviour::Delay(delay) => {
            tokio::time::sleep(delay).await;
            Some(shared.judge(request))
        }
        Behaviour::ResetAfterRequest => None,
        Behaviour::AcceptThenReset => {
            let _ = shared.judge(request);
            None
        }
        Behaviour::HtmlNonsense => {
            let page = "<!doctype html><title>Welcome</title><p>Please accept our terms.</p>";
            Some(Answer::new(200, "text/html; charset=utf-8", page.to_owned()))
        }
    }
}

/// A test that panicked must not take the others' answers with it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn exchange(gateway: &FakeGateway, request: &str) -> String {
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn post(authorization: &str, body: &str) -> String {
        format!(
            "POST /2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
             Authorization: {authorization}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn authorization() -> String {
        use base64::Engine as _;
        let pair = format!("{ACCOUNT_SID}:{AUTH_TOKEN}");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    #[tokio::test]
    async fn a_raw_request_is_judged_and_kept() {
        let gateway = FakeGateway::start().await.unwrap();
        let body = "To=%2B447871234567&From=%2B15005550006&Body=Code%3A+123456%0A%40example.com";
        let answer = exchange(&gateway, &post(&authorization(), body)).await;
        assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
        let sms = gateway.wait_for("+447871234567", 1, Duration::from_secs(5)).await.unwrap();
        assert_eq!((sms.from.as_str(), sms.body.as_str()), ("+15005550006", "Code: 123456\n@example.com"));
    }

    #[tokio::test]
    async fn what_the_real_gateway_refuses_is_refused() {
        let gateway = FakeGateway::start().await.unwrap();
        let full = "To=%2B447871234567&From=%2B15005550006&Body=x";
        for (request, status, code) in [
            (post("Basic eDp5", full), "401", "20003"),
            (post(&authorization(), "From=%2B15005550006&Body=x"), "400", "21604"),
            (post(&authorization(), "To=447871234567&From=%2B15005550006&Body=x"), "400", "21211"),
            (post(&authorization(), "To=%2B447871234567&Body=x"), "400", "21603"),
            (post(&authorization(), "To=%2B447871234567&From=%2B15005550006"), "400", "21602"),
            (post(&authorization(), full).replace("/Messages", "/Calls"), "404", "20404"),
            (post(&authorization(), full).replace("x-www-form-urlencoded", "json"), "400", "20001"),
            ("nonsense\r\n\r\n".to_owned(), "400", "no request line"),
        ] {
            let answer = exchange(&gateway, &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(code), "{answer}");
        }
        assert_eq!(gateway.messages(), []);
        let missing = gateway.wait_for("+447871234567", 1, Duration::from_millis(10)).await;
        assert_eq!(missing, Err(NoSms { arrived: 0 }));
    }

    #[tokio::test]
    async fn it_comes_back_at_the_same_address() {
        let gateway = FakeGateway::start().await.unwrap();
        let address = gateway.address();
        gateway.stop().await;
        assert!(TcpStream::connect(address).await.is_err());
        let gateway = FakeGateway::start_on(address).await.unwrap();
        assert_eq!(gateway.address(), address);
    }
}
