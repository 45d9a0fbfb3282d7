use std::time::Duration;

use async_trait::async_trait;
use time::UtcDateTime;
use vestibule_domain::pumping::SentCode;
use vestibule_domain::spending::{Correction, Money, Spend, Unsent};
use vestibule_domain::{AttemptId, Channel, DeliveryState, Message, MessageId};
use vestibule_port_storage::{
    Backlog, Claimed, DeadLetter, Outbox, Report, Reported, Room, Settlement, Unavailable,
};

use super::{InMemoryStorage, State};

#[derive(Clone)]
pub(super) struct Queued {
    pub(super) message: Message,
    pub(super) due_at: UtcDateTime,
    pub(super) tries: u32,
    pub(super) dead: Option<String>,
    pub(super) in_doubt_with: Option<&'static str>,
    /// What was spent for it, and after how many tries it is certain that nobody has taken it.
    spends: Vec<Spend>,
    failed: u32,
}

/// A message that has left the queue.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) id: MessageId,
    pub(super) attempt: Option<AttemptId>,
    pub(super) provider: Option<&'static str>,
    pub(super) reference: Option<String>,
    pub(super) state: DeliveryState,
    pub(super) queued_at: UtcDateTime,
}

#[async_trait]
impl Outbox for InMemoryStorage {
    async fn claim(
        &self,
        room: Room,
        lease: Duration,
        now: UtcDateTime,
    ) -> Result<Vec<Claimed>, Unavailable> {
        let mut state = self.up()?;
        let mut due: Vec<_> = state
            .messages
            .iter_mut()
            .filter(|queued| queued.dead.is_none() && queued.due_at <= now)
            .collect();
        due.sort_by_key(|queued| queued.due_at);
        let mut left = room;
        let claimed = due.into_iter().filter(|queued| take(&mut left, queued.channel())).map(|queued| {
            queued.due_at = now + lease;
            queued.tries += 1;
            let doubted = queued.in_doubt_with.take().map(str::to_owned);
            Claimed { message: queued.message.clone(), tries: queued.tries, doubted }
        });
        Ok(claimed.collect())
    }

    async fn settle(
        &self,
        id: MessageId,
        tries: u32,
        settlement: Settlement,
    ) -> Result<Option<SentCode>, Unavailable> {
        let mut state = self.up()?;
        if let Some(left) = state.settlements_to_refuse.checked_sub(1) {
            state.settlements_to_refuse = left;
            return Err(Unavailable("refused by a test".to_owned()));
        }
        let leased =
            |queued: &Queued| queued.message.id == id && queued.tries == tries && queued.dead.is_none();
        let Some(at_index) = state.messages.iter().position(leased) else {
            return Ok(None);
        };
        let was_never_sent =
            state.messages.get(at_index).is_some_and(|queued| queued.ends_unsent(&settlement));
        let unsent = if was_never_sent { state.unsent(id) } else { None };
        let corrections = state.messages.get(at_index).map(|queued| queued.corrections(&settlement));
        for correction in corrections.unwrap_or_default() {
            state.correct(&correction);
        }
        if let Settlement::Sent { cost: Some(cost), .. } = settlement {
            let codes = state.sent_codes.iter_mut().map(|(sent, _)| sent).filter(|sent| sent.message == id);
            codes.filter_map(|sent| sent.price.as_mut()).for_each(|price| *price = cost);
        }
        let State { messages, deliveries, .. } = &mut *state;
        if let Settlement::Sent { .. } | Settlement::Expired { .. } = settlement {
            deliveries.push(messages.remove(at_index).left(match settlement {
                Settlement::Sent { provider, reference, .. } => {
                    (DeliveryState::Sent, Some(provider), reference)
                }
                _ => (DeliveryState::Expired, None, None),
            }));
        } else if let Some(queued) = messages.get_mut(at_index) {
            match settlement {
                Settlement::Retry { at, .. } => {
                    queued.due_at = at;
                    queued.failed += u32::from(queued.failed + 1 == tries);
                }
                Settlement::InDoubt { provider, until, .. } => {
                    queued.due_at = until;
                    queued.in_doubt_with = Some(provider);
                }
                Settlement::Dead { reason } => queued.dead = Some(reason),
                Settlement::Sent { .. } | Settlement::Expired { .. } => {}
            }
        }
        Ok(unsent)
    }

    async fn record_delivery(&self, report: &Report) -> Result<bool, Unavailable> {
        let mut state = self.up()?;
        let State { messages, deliveries, .. } = &mut *state;
        let known = deliveries.iter_mut().rev().find(|left| match &report.message {
            Reported::Message(id) => left.id == *id,
            Reported::Reference(reference) => {
                left.provider == Some(report.provider) && left.reference.as_ref() == Some(reference)
            }
        });
        if let Some(left) = known {
            let is_senders =
                report.state == DeliveryState::Delivered || left.provider == Some(report.provider);
            if is_senders && left.state.may_become(report.state) {
                left.state = report.state;
            }
            return Ok(true);
        }
        let Reported::Message(id) = report.message else {
            return Ok(false);
        };
        let arrived = matches!(report.state, DeliveryState::Sent | DeliveryState::Delivered);
        let queued = |queued: &Queued| queued.message.id == id && (queued.dead.is_none() || arrived);
        let Some(at_index) = messages.iter().position(queued) else {
            return Ok(true);
        };
        if report.state != DeliveryState::Failed {
            deliveries.push(messages.remove(at_index).left((report.state, Some(report.provider), None)));
            return Ok(true);
        }
        let in_doubt = messages.get_mut(at_index).filter(|it| it.in_doubt_with == Some(report.provider));
        Ok(in_doubt.is_some_and(|queued| {
            queued.due_at = report.at;
            true
        }))
    }

    async fn next_due(&self, room: Room) -> Result<Option<UtcDateTime>, Unavailable> {
        let state = self.up()?;
        let waiting = state.messages.iter().filter(|queued| queued.dead.is_none());
        let wanted = waiting.filter(|queued| room.of(queued.channel()) > 0);
        Ok(wanted.map(|queued| queued.due_at).min())
    }

    async fn backlog(&self, channel: Channel) -> Result<Backlog, Unavailable> {
        let state = self.up()?;
        let (dead, waiting): (Vec<_>, Vec<_>) = state
            .messages
            .iter()
            .filter(|queued| queued.channel() == channel)
            .partition(|queued| queued.dead.is_some());
        let count = |queued: &[&Queued]| {
            u32::try_from(queued.len()).map_or(Backlog::COUNTED, |n| n.min(Backlog::COUNTED))
        };
        let next_due = waiting.iter().map(|queued| queued.due_at).min();
        Ok(Backlog { waiting: count(&waiting), next_due, dead: count(&dead) })
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Unavailable> {
        let state = self.up()?;
        let mut dead: Vec<_> = state
            .messages
            .iter()
            .filter_map(|queued| {
                let reason = queued.dead.clone()?;
                Some(DeadLetter { message: queued.message.clone(), tries: queued.tries, reason })
            })
            .collect();
        dead.sort_by_key(|letter| std::cmp::Reverse(letter.message.queued_at));
        dead.truncate(limit);
        Ok(dead)
    }

    async fn queued(&self) {
        self.queued.notified().await;
    }
}

/// Takes a place, if there is one.
fn take(room: &mut Room, channel: Channel) -> bool {
    let left = match channel {
        Channel::Sms => &mut room.sms,
        Channel::Mail => &mut room.mail,
    };
    let is_there = *left > 0;
    *left = left.saturating_sub(1);
    is_there
}

impl State {
    /// Takes the price from the code of a message that nobody has taken; the code, if it had one.
    fn unsent(&mut self, message: MessageId) -> Option<SentCode> {
        let mut codes = self.sent_codes.iter_mut().map(|(sent, _)| sent);
        let sent = codes.find(|sent| sent.message == message && sent.price.is_some())?;
        sent.price = None;
        Some(*sent)
    }
}

impl Queued {
    fn channel(&self) -> Channel {
        self.message.recipient.channel()
    }

    pub(super) fn new(message: Message, spends: &[Spend]) -> Self {
        let returned = spends.iter().filter(|spend| spend.unsent == Unsent::Returned);
        Self {
            due_at: message.queued_at,
            message,
            tries: 0,
            dead: None,
            in_doubt_with: None,
            spends: returned.cloned().collect(),
            failed: 0,
        }
    }

    /// Whether it is certain that nobody has taken it before the try that is going on.
    const fn is_untaken(&self) -> bool {
        self.failed + 1 == self.tries
    }

    /// Whether it was never sent, if the try that is going on ends so.
    const fn ends_unsent(&self, settlement: &Settlement) -> bool {
        matches!(settlement, Settlement::Expired { .. } | Settlement::Dead { .. }) && self.is_untaken()
    }

    /// What becomes of the money for it, if the try that is going on ends so.
    fn corrections(&self, settlement: &Settlement) -> Vec<Correction> {
        let is_first_bill = self.is_untaken();
        let paid = match settlement {
            Settlement::Expired { .. } | Settlement::Dead { .. } => Some(Money::ZERO),
            Settlement::Sent { cost, .. } => *cost,
            Settlement::Retry { .. } | Settlement::InDoubt { .. } => None,
        };
        let Some(paid) = paid else { return Vec::new() };
        let wrong = self.spends.iter().filter(|spend| is_first_bill || paid > spend.amount);
        wrong.map(|spend| spend.correction(paid)).collect()
    }

    fn left(
        self,
        (state, provider, reference): (DeliveryState, Option<&'static str>, Option<String>),
    ) -> Left {
        let Message { id, queued_at, .. } = self.message;
        Left { id, attempt: self.message.content.attempt(), provider, reference, state, queued_at }
    }
}
