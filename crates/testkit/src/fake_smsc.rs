//! An SMSC on loopback: SMPP 3.4 over TCP, or inside TLS.
//!
//! It judges binds and submissions as a real one does, keeps a journal of the parts that it accepted, and joins long
//! messages as a handset would. What it answers can be scripted, so that a test sees every way in which an SMSC fails.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::smtp_server::certificate;

mod judge;
mod session;
mod wire;

use session::converse;
use wire::Pdu;

/// The account that the SMSC knows.
pub const SYSTEM_ID: &str = "vestibule";
/// That account's password. It has a character that must be escaped in a URL.
pub const PASSWORD: &str = "s3cr@t";

/// An SMSC that listens until it is stopped or dropped.
pub struct FakeSmsc {
    address: SocketAddr,
    authority: Option<String>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// A submission that the SMSC accepted: a message, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedPart {
    /// The id that the SMSC gave it.
    pub id: String,
    /// The receiver's address, without a plus sign.
    pub to: String,
    /// Type of number and numbering plan of the receiver's address.
    pub to_type: (u8, u8),
    /// The sender's address.
    pub from: String,
    /// Type of number and numbering plan of the sender's address.
    pub from_type: (u8, u8),
    /// Its `registered_delivery`.
    pub registered_delivery: u8,
    /// Its `data_coding`.
    pub data_coding: u8,
    /// Reference, total and number of a part.
    pub concatenation: Option<(u8, u8, u8)>,
    /// The text, without the header.
    pub text: String,
}

/// What the SMSC does with a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmscBehaviour {
    /// Judges it as a real one does.
    Accept,
    /// Accepts it and gives it this id.
    AcceptAs(String),
    /// Accepts it, and answers with this body.
    AcceptWith(Vec<u8>),
    /// Accepts it, and answers when it is released.
    Hold,
    /// Refuses it with a status when it is released.
    HoldRefusal(u32),
    /// Refuses it with a status, without a body.
    Refuse(u32),
    /// Answers with a `generic_nack` of a status.
    Nack(u32),
    /// Reads it, and nothing else.
    Ignore,
    /// Reads it and closes the connection; the message is not sent.
    Close,
    /// Accepts it and closes the connection instead of answering.
    AcceptThenClose,
}

/// What came back for a request of the SMSC's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The command that answered.
    pub command: u32,
    /// Its status.
    pub status: u32,
}

/// A message that the SMSC delivers to the account.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    /// As a `data_sm` instead of a `deliver_sm`; it has no text.
    pub as_data: bool,
    /// Its `esm_class`.
    pub esm_class: u8,
    /// Its text.
    pub text: Vec<u8>,
    /// Tags and values of its optional parameters.
    pub parameters: Vec<(u16, Vec<u8>)>,
}

impl Delivered {
    /// A receipt by its text only, as appendix B has it; `state` has seven letters.
    #[must_use]
    pub fn receipt(id: &str, state: &str) -> Self {
        let text = format!(
            "id:{id} sub:001 dlvrd:001 submit date:2611250101 done date:2611250102 stat:{state} err:034 text:Your code"
        );
        Self { esm_class: 0x04, text: text.into_bytes(), ..Self::default() }
    }

    /// A receipt by its text only that has a hexadecimal id in decimal, as some SMSCs write it.
    #[must_use]
    pub fn receipt_in_decimal(id: &str, state: &str) -> Option<Self> {
        let id = u64::from_str_radix(id, 16).ok()?;
        Some(Self::receipt(&id.to_string(), state))
    }

    /// A receipt by its optional parameters only.
    #[must_use]
    pub fn receipt_in_parameters(id: &str, state: u8) -> Self {
        let id = [id.as_bytes(), &[0]].concat();
        Self { esm_class: 0x04, parameters: vec![(0x001e, id), (0x0427, vec![state])], ..Self::default() }
    }
}

impl FakeSmsc {
    /// Starts on a free port.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts at an address, such as that of one that was stopped.
    pub async fn start_on(address: SocketAddr) -> io::Result<Self> {
        Self::start_with(address, None).await
    }

    /// Starts on a free port, inside TLS.
    pub async fn start_tls() -> io::Result<Self> {
        let tls = certificate().map_err(io::Error::other)?;
        Self::start_with(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Some(tls)).await
    }

    async fn start_with(address: SocketAddr, tls: Option<(TlsAcceptor, String)>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (acceptor, authority) = tls.unzip();
        let server = tokio::spawn(serve(listener, acceptor, Arc::clone(&shared)));
        Ok(Self { address, authority, shared, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the account that it knows.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "smpps" } else { "smpp" };
        format!("{scheme}://{SYSTEM_ID}:{}@{}", PASSWORD.replace('@', "%40"), self.address)
    }

    /// The certificate to trust, in PEM; empty without TLS.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_deref().unwrap_or_default()
    }

    /// Sets what is done with the submissions to come.
    pub fn set_behaviour(&self, behaviour: SmscBehaviour) {
        *lock(&self.shared.behaviour) = Some(behaviour);
    }

    /// Sets what is done with the next submissions, one each; after them the behaviour that is set applies again.
    pub fn script(&self, behaviours: impl IntoIterator<Item = SmscBehaviour>) {
        lock(&self.shared.script).extend(behaviours);
    }

    /// Answers the submissions that are held.
    pub fn release(&self) {
        for (link, answer) in lock(&self.shared.held).drain(..) {
            // Its link may be gone.
            let _ = link.send(answer.octets());
        }
    }

    /// Refuses binds with a status from now on, or judges them again.
    pub fn refuse_binds(&self, status: Option<u32>) {
        *lock(&self.shared.bind_refusal) = status;
    }

    /// Stops answering `enquire_link`.
    pub fn ignore_enquiries(&self) {
        self.shared.ignores_enquiries.store(true, Ordering::Relaxed);
    }

    /// All accepted parts, oldest first.
    #[must_use]
    pub fn parts(&self) -> Vec<AcceptedPart> {
        self.shared.journal.borrow().clone()
    }

    /// The texts for a receiver, as a handset shows them: each when its last part has come.
    #[must_use]
    pub fn texts(&self, to: &str) -> Vec<String> {
        let mut incomplete: HashMap<(u8, u8), HashMap<u8, String>> = HashMap::new();
        let mut texts = Vec::new();
        for part in self.parts().into_iter().filter(|part| part.to == to) {
            let Some((reference, total, number)) = part.concatenation else {
                texts.push(part.text);
                continue;
            };
            let parts = incomplete.entry((reference, total)).or_default();
            parts.insert(number, part.text);
            let whole: Option<String> = (1..=total).map(|number| parts.get(&number).cloned()).collect();
            if let Some(whole) = whole {
                incomplete.remove(&(reference, total));
                texts.push(whole);
            }
        }
        texts
    }

    /// How many submissions came, accepted or not.
    #[must_use]
    pub fn submissions(&self) -> usize {
        *self.shared.submissions.borrow()
    }

    /// Whether so many submissions came in time.
    pub async fn wait_for_submissions(&self, count: usize, patience: Duration) -> bool {
        reaches(&self.shared.submissions, count, patience).await
    }

    /// Whether so many binds were asked for in time, granted or not.
    pub async fn wait_for_binds(&self, count: usize, patience: Duration) -> bool {
        reaches(&self.shared.binds, count, patience).await
    }

    /// Whether so many `enquire_link` came in time.
    pub async fn wait_for_enquiries(&self, count: usize, patience: Duration) -> bool {
        reaches(&self.shared.enquiries, count, patience).await
    }

    /// How many sessions were ended by `unbind`.
    #[must_use]
    pub fn unbinds(&self) -> usize {
        *self.shared.unbinds.borrow()
    }

    /// Whether so many sessions were ended by `unbind` in time.
    pub async fn wait_for_unbinds(&self, count: usize, patience: Duration) -> bool {
        reaches(&self.shared.unbinds, count, patience).await
    }

    /// The status of the first `generic_nack` to nothing in particular, if one comes in time.
    pub async fn wait_for_nack(&self, patience: Duration) -> Option<u32> {
        let mut nacks = self.shared.nacks.subscribe();
        let found = tokio::time::timeout(patience, nacks.wait_for(|nacks| !nacks.is_empty())).await.ok()?;
        found.ok()?.first().copied()
    }

    /// Delivers a message on the link that was bound last, and waits for the answer.
    pub async fn deliver(&self, message: &Delivered, patience: Duration) -> Option<Answered> {
        let mut body = b"\0\x01\x01447871234567\0\x01\x0115005550006\0".to_vec();
        body.push(message.esm_class);
        if message.as_data {
            // `registered_delivery` and `data_coding`.
            body.extend([0; 2]);
        } else {
            // `protocol_id` to `sm_default_msg_id`, the two times empty.
            body.extend([0; 8]);
            body.push(u8::try_from(message.text.len()).ok()?);
            body.extend(&message.text);
        }
        for (tag, value) in &message.parameters {
            body.extend(tag.to_be_bytes());
            body.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
            body.extend(value);
        }
        let command = if message.as_data { wire::DATA_SM } else { wire::DELIVER_SM };
        self.request(command, body, patience).await
    }

    /// Makes any request on the link that was bound last, and waits for the answer.
    pub async fn request(&self, command: u32, body: Vec<u8>, patience: Duration) -> Option<Answered> {
        let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let (answered, answer) = oneshot::channel();
        lock(&self.shared.waiting).insert(sequence, answered);
        self.send_raw(Pdu { command, status: 0, sequence, body }.octets());
        tokio::time::timeout(patience, answer).await.ok()?.ok()
    }

    /// Writes octets on the link that was bound last.
    pub fn send_raw(&self, octets: Vec<u8>) {
        if let Some(link) = &*lock(&self.shared.bound) {
            let _ = link.send(octets);
        }
    }

    /// Stops it. When this returns, its port is free and its connections are closed.
    pub async fn stop(mut self) {
        self.server.abort();
        // An aborted task ends with an error, which is what was asked for.
        let _ = (&mut self.server).await;
    }
}

impl Drop for FakeSmsc {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Link = UnboundedSender<Vec<u8>>;

#[derive(Default)]
struct Shared {
    behaviour: Mutex<Option<SmscBehaviour>>,
    script: Mutex<VecDeque<SmscBehaviour>>,
    bind_refusal: Mutex<Option<u32>>,
    ignores_enquiries: AtomicBool,
    journal: watch::Sender<Vec<AcceptedPart>>,
    submissions: watch::Sender<usize>,
    binds: watch::Sender<usize>,
    enquiries: watch::Sender<usize>,
    unbinds: watch::Sender<usize>,
    nacks: watch::Sender<Vec<u32>>,
    held: Mutex<Vec<(Link, Pdu)>>,
    bound: Mutex<Option<Link>>,
    sequence: AtomicU32,
    waiting: Mutex<HashMap<u32, oneshot::Sender<Answered>>>,
}

impl Shared {
    fn next_behaviour(&self) -> SmscBehaviour {
        let scripted = lock(&self.script).pop_front();
        scripted.or_else(|| lock(&self.behaviour).clone()).unwrap_or(SmscBehaviour::Accept)
    }

    /// Status and body of the answer to a bind.
    fn bind(&self, body: &[u8]) -> (u32, Vec<u8>) {
        self.binds.send_modify(|count| *count += 1);
        let status = lock(&self.bind_refusal).unwrap_or_else(|| judge::bind(body));
        let body = if status == 0 { b"FakeSMSC\0\x02\x10\0\x01\x34".to_vec() } else { Vec::new() };
        (status, body)
    }

    /// The answer to a submission; an accepted part enters the journal.
    fn submit(&self, request: &Pdu, id: Option<String>) -> Pdu {
        let (status, body) = match judge::part(&request.body) {
            Ok(mut part) => {
                let mut body = Vec::new();
                self.journal.send_modify(|journal| {
                    part.id = id.unwrap_or_else(|| format!("{:08X}", journal.len() + 10));
                    body = [part.id.as_bytes(), &[0]].concat();
                    journal.push(part);
                });
                (0, body)
            }
            Err(status) => (status, Vec::new()),
        };
        Pdu { command: request.command | wire::ANSWER, status, sequence: request.sequence, body }
    }
}

/// Takes connections until it is aborted, which ends them as well.
async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    // An error of a connection concerns its client, who sees it too.
                    match tls {
                        None => converse(stream, &shared).await,
                        Some(tls) => converse(tls.accept(stream).await?, &shared).await,
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn reaches(counter: &watch::Sender<usize>, count: usize, patience: Duration) -> bool {
    let mut counter = counter.subscribe();
    tokio::time::timeout(patience, counter.wait_for(|reached| *reached >= count)).await.is_ok()
}

/// A test that panicked must not take the others' answers with it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn exchange(stream: &mut TcpStream, octets: &[u8], answer: usize) -> Vec<u8> {
        stream.write_all(octets).await.unwrap();
        let mut read = vec![0; answer];
        stream.read_exact(&mut read).await.unwrap();
        read
    }

    /// Written out by hand after the specification's section 4.
    #[tokio::test]
    async fn a_conversation_in_octets() {
        let smsc = FakeSmsc::start().await.unwrap();
        let mut stream = TcpStream::connect(smsc.address()).await.unwrap();
        let early = exchange(&mut stream, b"\0\0\0\x10\0\0\0\x04\0\0\0\0\0\0\0\x01", 16).await;
        assert_eq!(early, b"\0\0\0\x10\x80\0\0\x04\0\0\0\x04\0\0\0\x01");
        let bind = b"\0\0\0\x26\0\0\0\x09\0\0\0\0\0\0\0\x02vestibule\0s3cr@t\0\0\x34\0\0\0";
        let bound = exchange(&mut stream, bind, 30).await;
        assert_eq!(bound, b"\0\0\0\x1e\x80\0\0\x09\0\0\0\0\0\0\0\x02FakeSMSC\0\x02\x10\0\x01\x34");
        let submit = b"\0\0\0\x37\0\0\0\x04\0\0\0\0\0\0\0\x03\0\x05\0Example\0\x01\x01447871234567\0\0\0\0\0\0\x01\0\0\0\x03Hi\x00";
        let accepted = exchange(&mut stream, submit, 25).await;
        assert_eq!(accepted, b"\0\0\0\x19\x80\0\0\x04\0\0\0\0\0\0\0\x030000000A\0");
        assert_eq!(smsc.texts("447871234567"), ["Hi@"]);
        let unbound = exchange(&mut stream, b"\0\0\0\x10\0\0\0\x06\0\0\0\0\0\0\0\x04", 16).await;
        assert_eq!(unbound, b"\0\0\0\x10\x80\0\0\x06\0\0\0\0\0\0\0\x04");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(smsc.unbinds(), 1);
    }
}
