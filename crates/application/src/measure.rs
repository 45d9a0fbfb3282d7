//! What the engineer on call is told of messages and limits.

use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::limits::Charge;
use vestibule_domain::{Channel, Message};
use vestibule_metrics::{
    OUTBOX_DEAD_LETTERS, OUTBOX_OLDEST_DUE, OUTBOX_OUTCOMES, OUTBOX_SENT_AGE, OUTBOX_WAITING,
    PROVIDER_REQUEST_DURATION, objected,
};
use vestibule_port_storage::{Backlog, Budgets, Unavailable};

use crate::Dispatcher;

/// Stands for the provider where none, or more than one, has decided.
const NO_PROVIDER: &str = "none";

/// How long a provider took for its answer.
pub(crate) fn answered(channel: Channel, provider: &'static str, answer: &'static str, took: Duration) {
    PROVIDER_REQUEST_DURATION.of([channel.as_str().into(), provider.into(), answer.into()]).record(took);
}

/// What came of a try to send the message.
pub(crate) fn came_to(message: &Message, provider: Option<&'static str>, outcome: &'static str) {
    let (channel, provider) = (message.recipient.channel().as_str(), provider.unwrap_or(NO_PROVIDER));
    OUTBOX_OUTCOMES.of([channel.into(), provider.into(), outcome.into()]).increment(1);
}

/// How old the message was when it left.
pub(crate) fn left(message: &Message, now: UtcDateTime) {
    let age = Duration::try_from(now - message.queued_at).unwrap_or_default();
    OUTBOX_SENT_AGE.of([message.recipient.channel().as_str().into()]).record(age);
}

/// Whether all the charges would be taken now, for who wants to know before anything is decided. Which limit objects is told.
///
/// # Errors
/// How long to wait.
pub(crate) fn admit(budgets: &Budgets, charges: &[Charge]) -> Result<(), Duration> {
    budgets.objection(charges).map_or(Ok(()), |(limit, wait)| {
        objected(limit.step.as_str(), limit.scope.kind());
        Err(wait)
    })
}

impl Dispatcher {
    /// Looks how many messages wait, and how long. What is not known is told as no number.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn watch_backlog(&self) -> Result<(), Unavailable> {
        let mut outcome = Ok(());
        for channel in Channel::ALL {
            let backlog = self.outbox.backlog(channel).await;
            tell_backlog(channel, backlog.as_ref().ok(), self.clock.now());
            outcome = outcome.and(backlog.map(drop));
        }
        outcome
    }
}

fn tell_backlog(channel: Channel, backlog: Option<&Backlog>, now: UtcDateTime) {
    let of = |backlog: &Backlog| {
        let overdue =
            backlog.next_due.map_or(Duration::ZERO, |due| (now - due).try_into().unwrap_or_default());
        [f64::from(backlog.waiting), overdue.as_secs_f64(), f64::from(backlog.dead)]
    };
    let [waiting, overdue, dead] = backlog.map_or([f64::NAN; 3], of);
    OUTBOX_WAITING.of([channel.as_str().into()]).set(waiting);
    OUTBOX_OLDEST_DUE.of([channel.as_str().into()]).set(overdue);
    OUTBOX_DEAD_LETTERS.of([channel.as_str().into()]).set(dead);
}
