//! The SMS and e-mail ports for development: messages are kept in memory, for a page and for scripts to read.
//!
//! Not here: the routes, which the server adds in development only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use vestibule_domain::{DeliveryState, EmailAddress, PhoneNumber};
use vestibule_port_email::{Email, EmailError, EmailSender};
use vestibule_port_security::Clock;
use vestibule_port_sms::{
    Delivery, DeliveryReport, DeliveryReports, Reported, Sms, SmsError, SmsReceipt, SmsSender,
};

/// The page that shows the messages as they come. It loads nothing from anywhere.
pub const PAGE: &str = include_str!("page.html");

/// Messages that are kept; older ones are forgotten.
const CAPACITY: usize = 500;

/// How long a report of delivery may take; it must not hold up the message.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// A message that was caught.
#[derive(Debug, Clone, Serialize)]
pub struct Caught {
    /// Counts from 1, in the order of arrival.
    pub number: u64,
    /// `sms` or `email`.
    pub kind: &'static str,
    /// The number or address.
    pub to: String,
    /// Of a mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The whole text.
    pub text: String,
    /// The code in it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The link in it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// When it came, in RFC 3339.
    pub at: String,
    /// How far it has come, as far as it is recorded: an SMS is `delivered` once it is here, a mail `sent`.
    pub state: &'static str,
}

/// Keeps what would have been sent.
pub struct Inbox {
    clock: Arc<dyn Clock>,
    reports: Option<Arc<dyn DeliveryReports>>,
    caught: Mutex<VecDeque<Caught>>,
    last: watch::Sender<u64>,
    closed: AtomicBool,
}

impl Inbox {
    /// An empty inbox.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            reports: None,
            caught: Mutex::new(VecDeque::new()),
            last: watch::Sender::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Reports every SMS as delivered, as a gateway would.
    #[must_use]
    pub fn with_reports(self, reports: Arc<dyn DeliveryReports>) -> Self {
        Self { reports: Some(reports), ..self }
    }

    /// Sends everybody away who waits for a message: the service stops, and a page that is open in a browser must not hold
    /// it up.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.last.send_modify(|_| {});
    }

    /// The messages to `to` (to anybody, if `None`) that came after message number `after`. Waits up to `wait` until there is
    /// one. Phones and addresses are compared as the service compares them. A number that was never reached is of an inbox before this one, which
    /// a page may have followed: all messages came after it.
    pub async fn messages(&self, to: Option<&str>, after: u64, wait: Duration) -> Vec<Caught> {
        let to = to.map(canonical);
        let mut last = self.last.subscribe();
        let after = if after > *last.borrow() { 0 } else { after };
        let found = async {
            loop {
                last.borrow_and_update();
                let found = self.select(to.as_deref(), after);
                let is_closed = self.closed.load(Ordering::SeqCst);
                if !found.is_empty() || is_closed || last.changed().await.is_err() {
                    return found;
                }
            }
        };
        tokio::time::timeout(wait, found).await.unwrap_or_default()
    }

    fn select(&self, to: Option<&str>, after: u64) -> Vec<Caught> {
        let caught = self.lock();
        let wanted =
            |message: &&Caught| message.number > after && to.is_none_or(|to| canonical(&message.to) == to);
        caught.iter().filter(wanted).cloned().collect()
    }

    /// How far the message has come now that it is here. It is told before the message is shown, so that whoever sees it can rely on it.
    async fn report(&self, sms: &Sms) -> DeliveryState {
        let Some(reports) = &self.reports else {
            return DeliveryState::Sent;
        };
        let report = DeliveryReport {
            provider: SmsSender::name(self),
            message: Reported::Message(sms.id),
            delivery: Delivery::Delivered,
        };
        match tokio::time::timeout(REPORT_PATIENCE, reports.record(report)).await {
            Ok(true) => DeliveryState::Delivered,
            Ok(false) | Err(_) => DeliveryState::Sent,
        }
    }

    fn keep(
        &self,
        (kind, state): (&'static str, DeliveryState),
        to: &str,
        subject: Option<&str>,
        text: &str,
    ) -> u64 {
        let at = self.clock.now().to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_default();
        let mut caught = self.lock();
        let number = caught.back().map_or(1, |message| message.number + 1);
        if caught.len() == CAPACITY {
            caught.pop_front();
        }
        let words = || text.split_whitespace();
        caught.push_back(Caught {
            number,
            kind,
            to: to.to_owned(),
            subject: subject.map(str::to_owned),
            code: words().rev().find_map(|word| word.strip_prefix('#')).map(str::to_owned),
            link: words()
                .find(|word| word.starts_with("http://") || word.starts_with("https://"))
                .map(str::to_owned),
            text: text.to_owned(),
            at,
            state: state.as_str(),
        });
        drop(caught);
        self.last.send_replace(number);
        number
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Caught>> {
        self.caught.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SmsSender for Inbox {
    fn name(&self) -> &'static str {
        "inbox"
    }

    async fn send(&self, sms: &Sms) -> Result<SmsReceipt, SmsError> {
        let state = self.report(sms).await;
        let number = self.keep(("sms", state), sms.to.as_str(), None, &sms.text);
        Ok(SmsReceipt { reference: number.to_string(), price: None })
    }
}

#[async_trait]
impl EmailSender for Inbox {
    fn name(&self) -> &'static str {
        "inbox"
    }

    async fn send(&self, email: &Email) -> Result<(), EmailError> {
        self.keep(("email", DeliveryState::Sent), email.to.as_str(), Some(&email.subject), &email.text);
        Ok(())
    }
}

/// One form of a recipient, however it is written; a query's unescaped `+` arrives as a space.
fn canonical(to: &str) -> String {
    if let Ok(address) = EmailAddress::parse(to) {
        return address.canonical().to_owned();
    }
    PhoneNumber::parse(to).map_or_else(|_| to.trim().to_owned(), |phone| phone.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use vestibule_domain::MessageId;
    use vestibule_port_sms::MockDeliveryReports;
    use vestibule_testkit::ManualClock;

    use super::*;

    fn inbox() -> Arc<Inbox> {
        Arc::new(Inbox::new(Arc::new(ManualClock::default())))
    }

    fn sms(to: &str, text: &str) -> Sms {
        Sms {
            id: MessageId::new(uuid::Uuid::from_u128(7)),
            to: PhoneNumber::parse(to).unwrap(),
            text: text.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_script_gets_the_code_whenever_it_comes() {
        let inbox = inbox();
        let waiting = {
            let inbox = Arc::clone(&inbox);
            tokio::spawn(
                async move { inbox.messages(Some(" 447871234567"), 0, Duration::from_secs(10)).await },
            )
        };
        SmsSender::send(&*inbox, &sms("+12015550123", "not this one")).await.unwrap();
        SmsSender::send(&*inbox, &sms("+447871234567", "Your code.\n\n@example.com #123456")).await.unwrap();
        let caught = waiting.await.unwrap();
        assert_eq!(caught.len(), 1);
        assert_eq!((caught[0].number, caught[0].code.as_deref()), (2, Some("123456")));
        assert!(inbox.messages(None, 2, Duration::ZERO).await.is_empty());
        let followed_before = inbox.messages(None, 3, Duration::ZERO).await;
        assert_eq!(followed_before.len(), 2, "of an inbox before this one");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_closed_inbox() {
        let inbox = inbox();
        let minute = Duration::from_mins(1);
        let waiting = {
            let inbox = Arc::clone(&inbox);
            tokio::spawn(async move { inbox.messages(None, 0, minute).await })
        };
        tokio::task::yield_now().await;
        inbox.close();
        let soon = Duration::from_secs(5);
        assert!(tokio::time::timeout(soon, waiting).await.unwrap().unwrap().is_empty());
        assert!(tokio::time::timeout(soon, inbox.messages(None, 0, minute)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_sms_is_reported_and_shows_what_was_recorded() {
        for (recorded, state) in [(true, "delivered"), (false, "sent")] {
            let mut reports = MockDeliveryReports::new();
            let expected = DeliveryReport {
                provider: "inbox",
                message: Reported::Message(MessageId::new(uuid::Uuid::from_u128(7))),
                delivery: Delivery::Delivered,
            };
            reports.expect_record().withf(move |report| *report == expected).return_const(recorded);
            let inbox = Inbox::new(Arc::new(ManualClock::default())).with_reports(Arc::new(reports));
            SmsSender::send(&inbox, &sms("+447871234567", "text")).await.unwrap();
            assert_eq!(inbox.messages(None, 0, Duration::ZERO).await[0].state, state);
        }
    }

    #[tokio::test]
    async fn a_mail_has_its_link() {
        let inbox = inbox();
        let email = Email {
            to: EmailAddress::parse("anna@example.com").unwrap(),
            subject: "Hello".to_owned(),
            text: "Please:\n\nhttp://localhost/x?a=b\n\nBye".to_owned(),
            html: String::new(),
            id: "1".to_owned(),
        };
        EmailSender::send(&*inbox, &email).await.unwrap();
        let caught = inbox.messages(Some("ANNA@example.com"), 0, Duration::ZERO).await;
        assert_eq!(caught[0].link.as_deref(), Some("http://localhost/x?a=b"));
    }

    #[tokio::test]
    async fn it_keeps_the_newest() {
        let inbox = inbox();
        for _ in 0..=CAPACITY {
            SmsSender::send(&*inbox, &sms("+447871234567", "text")).await.unwrap();
        }
        let caught = inbox.messages(None, 0, Duration::ZERO).await;
        assert_eq!((caught.len(), caught[0].number), (CAPACITY, 2));
    }
}
