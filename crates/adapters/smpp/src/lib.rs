//! The SMS port on an SMSC by SMPP 3.4 (Short Message Peer-to-Peer Protocol Specification v3.4, issue 1.2).
//!
//! The codec is a crate's; the session is our own. It binds as a transceiver and stays bound, keeps a window of unanswered
//! submissions, and can say of each message whether it was certainly not sent, certainly taken, or is in
//! doubt: that is what the port asks for, and what decides whether somebody is billed twice. Delivery receipts come
//! over the same link and go to [`DeliveryReports`].
//!
//! A text goes in the GSM default alphabet if that has all of its characters, or else in UCS-2; a long one in parts,
//! each of them a submission, joined by the handset. A receipt is asked for with the first part only: its id is the
//! message's reference, and nobody would know the others. Where the SMSC gives no id our own is the reference.
//!
//! An answer that comes after the time-out is no less true: the message is in doubt by then, and the answer ends the doubt by
//! a report. Of a long message that is the answer to the last part, or a refusal of the first; when another one is late
//! the message stays in doubt.
//!
//! Not here: whether and when a message is tried again, what a report changes, messages that somebody sends to
//! us (they are acknowledged and dropped), more than one link. Every instance of the service binds for itself, so
//! the account must allow as many binds; a receipt may come to any of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use vestibule_port_sms::{DeliveryReports, Sms, SmsError, SmsReceipt, SmsSender};

mod alphabet;
mod doubts;
mod link;
mod pdu;
mod receipt;
mod segments;
mod session;
mod settings;
mod statuses;
mod submissions;
mod tls;
mod unplaced;

use link::{Claim, Order};
use pdu::Part;
use segments::{Unsendable, segments};
use session::{State, Stop};
use settings::Account;
pub use settings::{AddressType, ENQUIRE_LINK, ReceiptIds, Settings, SettingsError, TIMEOUT, WINDOW};
use submissions::{Answer, Origin, Place};

/// The provider's name in the configuration.
const PROVIDER: &str = "smpp";
/// How many submissions may wait for a place in the window.
const MAX_WAITING: usize = 256;

/// An account at an SMSC, and the session with it.
///
/// One value serves the whole process. The session ends with [`Smpp::stop`], or when the value is dropped.
pub struct Smpp {
    account: Arc<Account>,
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    /// That messages are given no id: it is told once.
    has_warned: AtomicBool,
}

/// The session is not bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not bound to the SMSC: {reason}")]
pub struct NotBound {
    /// What happened; names the SMSC's status if it gave one.
    pub reason: String,
}

impl Smpp {
    /// Checks the settings and starts a session, which goes on binding until it succeeds. What becomes of messages goes
    /// to `reports`; the SMSC is asked to say again what was not recorded, for a minute.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(settings: Settings, reports: Arc<dyn DeliveryReports>) -> Result<Self, SettingsError> {
        let account = Arc::new(Account::new(settings)?);
        let (orders, waiting) = mpsc::channel(MAX_WAITING);
        let (stop, stopped) = watch::channel(false);
        let (changes, state) = watch::channel(State::NotBound("the session has just begun".to_owned()));
        tokio::spawn(session::run(Arc::clone(&account), reports, waiting, changes, Stop(stopped)));
        Ok(Self { account, orders, state, stop, has_warned: AtomicBool::new(false) })
    }

    /// Waits until the session is bound, at most for so long. Messages are refused before.
    pub async fn wait_until_bound(&self, patience: Duration) -> Result<(), NotBound> {
        let mut state = self.state.clone();
        let is_decided = |state: &State| matches!(state, State::Bound | State::Stopped);
        let _ = timeout(patience, state.wait_for(is_decided)).await;
        match &*self.state.borrow() {
            State::Bound => Ok(()),
            State::NotBound(reason) => Err(NotBound { reason: reason.clone() }),
            State::Stopped => Err(NotBound { reason: "the session has ended".to_owned() }),
        }
    }

    /// Ends the session: takes no more messages, waits for the answers to those on their way (within the time-out), then
    /// unbinds.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let _ = self.state.clone().wait_for(|state| *state == State::Stopped).await;
    }

    /// Has one part submitted and waits for its answer. It is submitted in the first half of the time or not at
    /// all, so that there is time for an answer.
    async fn submit(&self, part: Part<'_>, origin: Origin, answer_by: Instant) -> Answer {
        let pdu = pdu::submit(&self.account, part)
            .map_err(|_| permanent("the number or the text does not fit into a submission"))?;
        let now = Instant::now();
        let submit_by = now + answer_by.saturating_duration_since(now) / 2;
        let (claim, (reply, mut answer)) = (Claim::default(), oneshot::channel());
        let pdu = Box::new(pdu);
        self.orders
            .try_send(Order { pdu, origin, answer_by, claim: claim.clone(), reply })
            .map_err(|error| unqueued(&error))?;
        let answered = match timeout_at(submit_by, &mut answer).await {
            // An SMSC that works through a burst is no failure.
            Err(_) if claim.take() => {
                return Err(throttled("the window had no place within half of the time-out"));
            }
            // The session answers by then in any case. It alone says what was too late, so that no answer is lost between
            // the two.
            Err(_) => answer.await,
            Ok(answered) => answered,
        };
        match answered {
            Ok(answered) => answered,
            // The session was torn down with its runtime.
            Err(_) if claim.take() => Err(temporary("the session with the SMSC has ended")),
            Err(_) => Err(SmsError::Ambiguous { reason: "the session with the SMSC has ended".to_owned() }),
        }
    }
}

#[async_trait]
impl SmsSender for Smpp {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    async fn send(&self, sms: &Sms) -> Result<SmsReceipt, SmsError> {
        let answer_by = Instant::now() + self.account.timeout;
        // The same for a message that is sent again, so that a handset can tell that it has the parts already.
        let [.., reference] = sms.id.uuid().into_bytes();
        let segments = segments(&sms.text, reference).map_err(unsendable)?;
        let total = segments.octets.len();
        let mut first: Option<Option<String>> = None;
        for (number, octets) in (1..).zip(segments.octets) {
            let part = Part {
                to: sms.to.as_str(),
                coding: segments.coding,
                has_header: segments.have_headers,
                octets,
                wants_receipt: first.is_none(),
            };
            let place = match &first {
                None if total == 1 => Place::Whole,
                None => Place::First,
                Some(first) if number == total => Place::Last { first: first.clone() },
                Some(_) => Place::Inner,
            };
            let origin = Origin { message: sms.id, place };
            match (self.submit(part, origin, answer_by).await, &first) {
                (Ok(id), None) => first = Some(id),
                (Ok(_), Some(_)) => {}
                (Err(error), None) => return Err(error),
                // A part is on its way; a handset may show it, or wait for the rest.
                (Err(error), Some(_)) => {
                    return Err(SmsError::Ambiguous { reason: format!("part {number} of {total}: {error}") });
                }
            }
        }
        let id = first.ok_or_else(|| permanent("the text is empty"))?;
        if id.is_none() && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("the SMSC accepts messages without a usable id: no receipt will find them");
        }
        Ok(SmsReceipt { reference: id.unwrap_or_else(|| sms.id.to_string()), price: None })
    }
}

impl std::fmt::Debug for Smpp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smpp").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

fn unsendable(unsendable: Unsendable) -> SmsError {
    match unsendable {
        Unsendable::Empty => permanent("the text is empty"),
        Unsendable::TooLong => permanent("the text is too long"),
    }
}

fn unqueued(error: &mpsc::error::TrySendError<Order>) -> SmsError {
    match error {
        mpsc::error::TrySendError::Full(_) => throttled("too many messages wait for the SMSC"),
        mpsc::error::TrySendError::Closed(_) => temporary("the session with the SMSC has ended"),
    }
}

fn permanent(reason: &str) -> SmsError {
    SmsError::Permanent { reason: reason.to_owned() }
}

fn temporary(reason: &str) -> SmsError {
    SmsError::Temporary { reason: reason.to_owned() }
}

fn throttled(reason: &str) -> SmsError {
    SmsError::Throttled { retry_after: None, reason: reason.to_owned() }
}
