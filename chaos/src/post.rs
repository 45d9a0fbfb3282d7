//! The gateway and the mail server, and what people have received by them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use vestibule_testkit::{FakeGateway, MailServer, Options, ReceivedMail, SentSms};

/// What links begin with. The instances have ports of their own, so a link's path is asked of any of them.
pub(crate) const PUBLIC_URL: &str = "http://vestibule.example";

/// How often the servers are looked at for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Which way a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Sms,
    Mail,
}

/// A copy of a message that has arrived.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    /// Two copies of one message have the same.
    pub(crate) identity: String,
    /// The code or the link.
    pub(crate) content: String,
    /// When it was seen.
    pub(crate) at: Instant,
}

/// Both servers, which may be down, and the boxes, which stay.
pub(crate) struct Post {
    gateway: Mutex<Option<FakeGateway>>,
    mail_server: Mutex<Option<MailServer>>,
    gateway_address: SocketAddr,
    mail_address: SocketAddr,
    settings: Vec<(String, String)>,
    boxes: Mutex<Boxes>,
}

#[derive(Default)]
struct Boxes {
    sms: HashMap<String, Vec<Letter>>,
    mails: HashMap<String, Vec<Letter>>,
    /// How much of what the servers hold now is in the boxes.
    sms_seen: usize,
    mails_seen: usize,
}

impl Post {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let gateway = FakeGateway::start().await?;
        let mail_server = MailServer::start(Options::default()).await?;
        let (gateway_address, mail_address) = (gateway.address(), mail_server.address());
        let mail_settings = [
            ("TRANSPORT", "smtp".to_owned()),
            ("FROM", "Vestibule <no-reply@vestibule.example>".to_owned()),
            ("SMTP__URL", format!("smtp://localhost:{}", mail_address.port())),
        ];
        let mail_settings = mail_settings.map(|(name, value)| (format!("EMAIL__{name}"), value));
        let settings = gateway.settings().into_iter().chain(mail_settings).collect();
        Ok(Self {
            settings,
            gateway: Mutex::new(Some(gateway)),
            mail_server: Mutex::new(Some(mail_server)),
            gateway_address,
            mail_address,
            boxes: Mutex::default(),
        })
    }

    /// How the service is told of the servers.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    /// Moves what arrives into the boxes, until it is aborted.
    pub(crate) async fn collect_forever(self: Arc<Self>) {
        loop {
            self.collect();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Moves what has arrived into the boxes.
    pub(crate) fn collect(&self) {
        let mut boxes = lock(&self.boxes);
        if let Some(gateway) = &*lock(&self.gateway) {
            let unseen = gateway.messages_from(boxes.sms_seen);
            boxes.take_sms(unseen);
        }
        if let Some(mail_server) = &*lock(&self.mail_server) {
            let unseen = mail_server.mails_from(boxes.mails_seen);
            boxes.take_mails(unseen);
        }
    }

    /// Stops one of the servers. What it had taken stays taken.
    pub(crate) async fn stop(&self, way: Way) -> anyhow::Result<()> {
        self.collect();
        match way {
            Way::Sms => {
                let gateway = lock(&self.gateway).take().context("the gateway does not run")?;
                let all = gateway.stop().await;
                let mut boxes = lock(&self.boxes);
                let unseen = all.into_iter().skip(boxes.sms_seen).collect();
                boxes.take_sms(unseen);
                boxes.sms_seen = 0;
            }
            Way::Mail => {
                let mail_server = lock(&self.mail_server).take().context("the mail server does not run")?;
                let all = mail_server.stop().await;
                let mut boxes = lock(&self.boxes);
                let unseen = all.into_iter().skip(boxes.mails_seen).collect();
                boxes.take_mails(unseen);
                boxes.mails_seen = 0;
            }
        }
        Ok(())
    }

    /// Starts it again where it was.
    pub(crate) async fn start_again(&self, way: Way) -> anyhow::Result<()> {
        match way {
            Way::Sms => {
                let gateway = FakeGateway::start_on(self.gateway_address).await?;
                *lock(&self.gateway) = Some(gateway);
            }
            Way::Mail => {
                let mail_server = MailServer::start_on(self.mail_address, Options::default()).await?;
                *lock(&self.mail_server) = Some(mail_server);
            }
        }
        Ok(())
    }

    /// Has the mail server take connections and say nothing from now on; what it is in the middle of taking, it does not take.
    pub(crate) fn silence_mail(&self) -> anyhow::Result<()> {
        let mail_server = lock(&self.mail_server);
        mail_server.as_ref().context("the mail server does not run")?.fall_silent();
        Ok(())
    }

    /// The mail server talks again, to who comes anew.
    pub(crate) fn end_silence(&self) -> anyhow::Result<()> {
        lock(&self.mail_server).as_ref().context("the mail server does not run")?.obey();
        Ok(())
    }

    /// The latest code or link for a receiver, as soon as there is one.
    pub(crate) async fn latest(&self, way: Way, to: &str, patience: Duration) -> Option<String> {
        let end = Instant::now() + patience;
        loop {
            let content =
                lock(&self.boxes).of(way).get(to).and_then(|letters| Some(letters.last()?.content.clone()));
            if content.is_some() || Instant::now() >= end {
                return content;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// All that a receiver was sent, oldest first.
    pub(crate) fn letters(&self, way: Way, to: &str) -> Vec<Letter> {
        lock(&self.boxes).of(way).get(to).cloned().unwrap_or_default()
    }

    /// Everybody who was sent something.
    pub(crate) fn receivers(&self, way: Way) -> Vec<String> {
        lock(&self.boxes).of(way).keys().cloned().collect()
    }
}

impl Boxes {
    fn of(&self, way: Way) -> &HashMap<String, Vec<Letter>> {
        match way {
            Way::Sms => &self.sms,
            Way::Mail => &self.mails,
        }
    }

    fn take_sms(&mut self, messages: Vec<SentSms>) {
        self.sms_seen += messages.len();
        for sms in messages {
            let code = sms.code().unwrap_or_default().to_owned();
            let letter = Letter { content: code, identity: sms.body, at: Instant::now() };
            self.sms.entry(sms.to).or_default().push(letter);
        }
    }

    fn take_mails(&mut self, mails: Vec<ReceivedMail>) {
        self.mails_seen += mails.len();
        for mail in mails {
            let text = mail.part("text/plain").unwrap_or_default();
            let link = text.split_whitespace().find_map(|word| word.strip_prefix(PUBLIC_URL));
            let letter = Letter {
                content: link.unwrap_or_default().to_owned(),
                identity: mail.header("Message-ID").unwrap_or_default(),
                at: Instant::now(),
            };
            for to in mail.to {
                self.mails.entry(to).or_default().push(letter.clone());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
