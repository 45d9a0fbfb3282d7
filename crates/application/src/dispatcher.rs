//! Empties the outbox: claims what is due, sends it, settles it.
//!
//! A message leaves at least once. It is leased before it is sent and settled after, so a crash between the two sends it again
//! when the lease has ended. Where storage does not take a settlement, it is offered again until it does, and the message is not sent again meanwhile by whoever
//! has sent it, though its lease ends and it is claimed once more. Each channel has places of its
//! own, so that codes do not wait for a mail server that is silent. The wait before another try grows with the message's age; when the next try would come
//! too late to be of use, the message becomes a dead letter.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use time::UtcDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::Instrument as _;
use vestibule_domain::spending::Audience;
use vestibule_domain::{Channel, Message, Recipient};
use vestibule_port_email::{Email, EmailError, EmailSender};
use vestibule_port_security::{Clock, Entropy};
use vestibule_port_sms::Sms;
use vestibule_port_storage::{Claimed, Outbox, Room, Settlement, Unavailable};

use crate::measure::{answered, came_to, left};
use crate::providers::{PROVIDER_PATIENCE, Providers, Try};
use crate::{Derivation, UnsentCodes, Wording};

mod places;

use places::{Places, Tried};

/// The first wait after a failure, and the longest.
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_mins(5);

/// How long the report of a message in doubt is waited for before it is sent again, which may make a second copy.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(30);

/// How long the dispatcher sleeps at most without looking: another instance may have queued something and died, and nobody may
/// hear of it behind a pooler.
const MAX_SLEEP: Duration = Duration::from_secs(5);

/// How long it waits when storage does not answer, or takes no settlement.
const STORAGE_PAUSE: Duration = Duration::from_secs(1);

/// How many are settled at once where storage takes settlements again: commits need connections too.
const SETTLED_AT_ONCE: usize = 8;

/// A silence of storage in which a lease may have ended: none is shorter than twice as long.
const OUTAGE: Duration = PROVIDER_PATIENCE;

/// How long nothing is claimed once storage is back from an [`OUTAGE`]: other instances may not have settled yet what they have sent, and it would be sent
/// again. They find storage back within a look that still waits for it and a [`STORAGE_PAUSE`], and settle first.
const OTHERS_FIRST: Duration = Duration::from_secs(3);

/// Who carries messages.
pub struct Senders {
    /// The SMS providers.
    pub sms: Providers,
    /// The mail transport.
    pub email: Arc<dyn EmailSender>,
}

/// Sends what the outbox holds.
pub struct Dispatcher {
    /// The queue.
    pub outbox: Arc<dyn Outbox>,
    /// What the guard against pumping gets back.
    pub unsent_codes: UnsentCodes,
    /// Who carries messages.
    pub senders: Senders,
    /// The texts.
    pub wording: Arc<Wording>,
    /// Codes and links.
    pub derivation: Arc<Derivation>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// For the jitter of the waits.
    pub entropy: Arc<dyn Entropy>,
    /// Wakes it where something became due by another way than a commit.
    pub wake: Arc<Notify>,
}

/// What is known of the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// There is a message that nobody has seen, or there may be one that there was no room for.
    HasMore,
    /// Nothing.
    Unknown,
}

/// What is known of the way to storage, which may be read and take no writes. Where nothing is due nothing is written, and that is no silence.
struct Line {
    reads: Way,
    writes: Way,
    claims_from: Instant,
}

struct Way {
    heard_at: Instant,
    has_failed: bool,
}

impl Way {
    const fn hear(&mut self, now: Instant) {
        (self.heard_at, self.has_failed) = (now, false);
    }

    /// Whether it fails, and may have done so since a lease began that has ended.
    fn is_in_outage(&self) -> bool {
        self.has_failed && self.heard_at.elapsed() >= OUTAGE
    }
}

impl Line {
    fn new() -> Self {
        let now = Instant::now();
        let way = || Way { heard_at: now, has_failed: false };
        Self { reads: way(), writes: way(), claims_from: now }
    }

    /// Learns from what came of a read, which tells nothing of writes.
    fn read<T>(&mut self, answer: Result<T, Unavailable>) -> Result<T, Unavailable> {
        if answer.is_ok() {
            let (now, was_away) = (Instant::now(), self.reads.is_in_outage());
            self.reads.hear(now);
            self.let_others_settle(was_away);
        } else {
            self.reads.has_failed = true;
        }
        answer
    }

    /// Learns from what came of a write.
    fn write<T>(&mut self, answer: Result<T, Unavailable>) -> Result<T, Unavailable> {
        if answer.is_ok() {
            self.written();
        } else {
            self.writes.has_failed = true;
        }
        answer
    }

    /// Storage has taken a write.
    fn written(&mut self) {
        let (now, was_away) = (Instant::now(), self.is_in_outage());
        self.reads.hear(now);
        self.writes.hear(now);
        self.let_others_settle(was_away);
    }

    fn let_others_settle(&mut self, was_away: bool) {
        if was_away {
            self.claims_from = Instant::now() + OTHERS_FIRST;
        }
    }

    fn is_in_outage(&self) -> bool {
        self.reads.is_in_outage() || self.writes.is_in_outage()
    }

    /// How long nothing is to be claimed.
    fn rest(&self) -> Duration {
        self.claims_from.saturating_duration_since(Instant::now())
    }

    /// Whether something may be claimed without asking first.
    fn may_claim(&self) -> bool {
        !self.is_in_outage() && self.rest().is_zero()
    }

    /// How many may be claimed. Whether storage takes writes again can only be found out by one; what it claims may have been sent by another instance.
    fn allows(&self, room: Room) -> Room {
        if self.is_in_outage() { Room { sms: room.sms.min(1), mail: room.mail.min(1) } } else { room }
    }
}

impl Dispatcher {
    /// Runs until `stop` turns true; then finishes what is on its way and returns.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut places = Places::new();
        let (mut queue, mut line) = (Queue::Unknown, Line::new());
        while !*stop.borrow() {
            places.see_to_ended();
            let mut sleep = match self.start_due(queue, &mut line, &mut places).await {
                Ok(sleep) => sleep,
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be read or written");
                    STORAGE_PAUSE
                }
            };
            if let Some(pause) = places.pause() {
                sleep = sleep.min(pause);
            }
            queue = tokio::select! {
                () = self.outbox.queued() => Queue::HasMore,
                () = self.wake.notified() => Queue::Unknown,
                () = places.one_ended() => Queue::HasMore,
                () = tokio::time::sleep(sleep) => Queue::Unknown,
                _ = stop.changed() => Queue::Unknown,
            };
        }
        self.finish(line, places).await;
    }

    /// Lets what is on its way arrive, and settles it as long as its lease lasts.
    async fn finish(&self, mut line: Line, mut places: Places) {
        places.all_ended().await;
        while let Some(pause) = places.pause() {
            let last_chance = Instant::now() + pause;
            tokio::time::sleep_until(last_chance).await;
            self.settle_again(&mut line, &mut places).await;
            if places.unsettled.iter().all(|tried| tried.leased_until <= last_chance + STORAGE_PAUSE) {
                return;
            }
        }
    }

    /// Starts everything that is due, and tells how long nothing will be. Storage is not asked whether anything is due where that is known.
    async fn start_due(
        self: &Arc<Self>,
        mut queue: Queue,
        line: &mut Line,
        places: &mut Places,
    ) -> Result<Duration, Unavailable> {
        self.settle_again(line, places).await;
        loop {
            let room = places.room();
            if room.is_none() {
                return Ok(MAX_SLEEP);
            }
            let is_asked = queue == Queue::Unknown || !line.may_claim();
            if is_asked {
                let due = line.read(self.outbox.next_due(room).await)?;
                let wait = due.map_or(MAX_SLEEP, |due| until(self.clock.now(), due));
                let wait = wait.max(line.rest());
                if !wait.is_zero() {
                    return Ok(wait.min(MAX_SLEEP));
                }
            }
            queue = Queue::Unknown;
            let lease = self.lease();
            let claimed = self.outbox.claim(line.allows(room), lease, self.clock.now()).await;
            let claimed = line.write(claimed)?;
            if claimed.is_empty() && is_asked {
                // Another instance was faster: don't spin on what is its own.
                return Ok(Duration::from_millis(10));
            }
            places.see_to_ended();
            let leased_until = Instant::now() + lease;
            for message in claimed {
                let Some(message) = self.still_to_send(message, leased_until, places) else { continue };
                let dispatcher = Arc::clone(self);
                let span = tracing::info_span!(
                    "deliver", message = %message.message.id, kind = message.message.content.kind(), tries = message.tries,
                );
                let channel = message.message.recipient.channel();
                let delivery = async move { dispatcher.deliver(message, leased_until).await };
                places.take(channel, delivery.instrument(span));
            }
        }
    }

    /// What there is to send of a claimed message: nothing, if it is known here what came of the try before, and only storage could not be told. Then the
    /// new lease is for telling it. A try that has failed or is in doubt is followed by another, as soon as it would be if storage knew.
    fn still_to_send(&self, claimed: Claimed, leased_until: Instant, places: &mut Places) -> Option<Claimed> {
        let (message, now) = (&claimed.message, self.clock.now());
        let Some(known) = places.forget(message.id) else { return Some(claimed) };
        match known.settlement {
            Settlement::Retry { at, .. } if at <= now => Some(claimed),
            Settlement::InDoubt { provider, until, .. } if until <= now => {
                Some(Claimed { doubted: Some(provider.to_owned()), ..claimed })
            }
            settlement => {
                let tries = claimed.tries;
                places.unsettled.push_back(Tried { tries, settlement, leased_until, ..known });
                None
            }
        }
    }

    /// Longer than all providers together may take that can be tried, so that nobody sends a message that is still on its way; and no
    /// longer, since it is how long a message waits whose sender has died.
    fn lease(&self) -> Duration {
        self.senders.sms.patience(self.clock.now()).max(PROVIDER_PATIENCE) + PROVIDER_PATIENCE
    }

    /// Settles what storage did not take when it was over: one, and then the others, if it was taken. What is refused comes last the next time: it may be
    /// its own trouble, which is to hold up nothing else, and which tells nothing of storage.
    async fn settle_again(&self, line: &mut Line, places: &mut Places) {
        if places.pause().is_none_or(|pause| !pause.is_zero()) {
            return;
        }
        let (begun, mut left, mut at_once) = (Instant::now(), places.unsettled.len(), 1);
        while left > 0 {
            let next: Vec<_> = places.unsettled.drain(..at_once.min(left)).collect();
            left -= next.len();
            let settled = join_all(next.iter().map(|tried| self.settle(tried))).await;
            let (mut refused, mut takes_none) = (None, true);
            for (tried, settled) in next.into_iter().zip(settled) {
                match settled {
                    Ok(()) => takes_none = false,
                    Err(error) => {
                        places.unsettled.push_back(tried);
                        refused = Some(error);
                    }
                }
            }
            if let Some(error) = refused {
                places.settles_from = Instant::now() + STORAGE_PAUSE;
                tracing::warn!(%error, left = places.unsettled.len(), "what was sent cannot be recorded yet");
            }
            if !takes_none {
                line.written();
            }
            // What is left has its turn after what else there is to do.
            if takes_none || begun.elapsed() >= STORAGE_PAUSE {
                return;
            }
            at_once = SETTLED_AT_ONCE;
        }
    }

    /// One try of one message, settled; or the try, if storage does not take it.
    async fn deliver(&self, claimed: Claimed, leased_until: Instant) -> Option<Tried> {
        let Claimed { message, tries, doubted } = claimed;
        let settlement = if self.clock.now() >= message.expires_at {
            // What was never to be sent is no news.
            if message.expires_at > message.queued_at {
                tracing::warn!("dropped: it would come too late");
                came_to(&message, None, "expired");
            }
            Settlement::Expired { at: self.clock.now() }
        } else {
            let outcome = self.try_to_send(&message, doubted.as_deref()).await;
            self.settlement(&message, outcome)
        };
        let is_due_again = matches!(settlement, Settlement::Retry { .. } | Settlement::InDoubt { .. });
        let channel = message.recipient.channel();
        let tried = Tried { channel, message: message.id, tries, settlement, leased_until };
        if let Err(error) = self.settle(&tried).await {
            tracing::warn!(%error, "a try could not be recorded");
            return Some(tried);
        }
        if is_due_again {
            self.wake.notify_one();
        }
        None
    }

    /// Records what came of a try, unless the message has been claimed again since.
    async fn settle(&self, tried: &Tried) -> Result<(), Unavailable> {
        let settled = self.outbox.settle(tried.message, tried.tries, tried.settlement.clone());
        if let Some(unsent) = settled.await? {
            self.unsent_codes.return_units(&unsent, self.clock.now()).await;
        }
        Ok(())
    }

    async fn try_to_send(&self, message: &Message, doubted: Option<&str>) -> Try {
        match &message.recipient {
            Recipient::Phone(to) => {
                let Some(text) = self.wording.sms(message, &self.derivation) else {
                    return Try::Hopeless {
                        provider: None,
                        reason: "there is no SMS of this kind".to_owned(),
                    };
                };
                let sms = Sms { id: message.id, to: to.clone(), text };
                self.senders.sms.send(&sms, Audience::of(&message.content), doubted, &*self.clock).await
            }
            Recipient::Email(to) => {
                let Some(mail) = self.wording.mail(message, to, &self.derivation) else {
                    return Try::Hopeless {
                        provider: None,
                        reason: "there is no mail of this kind".to_owned(),
                    };
                };
                let id = message.id.to_string();
                let email =
                    Email { to: to.clone(), subject: mail.subject, text: mail.text, html: mail.html, id };
                let (provider, asked) = (self.senders.email.name(), Instant::now());
                let (answer, outcome) = match self.senders.email.send(&email).await {
                    Ok(()) => ("accepted", Try::Sent { provider, reference: None, cost: None }),
                    Err(EmailError::Permanent { reason }) => {
                        ("refused", Try::Hopeless { provider: Some(provider), reason })
                    }
                    Err(EmailError::Temporary { reason }) => {
                        ("failed", Try::Failed { reason, ready_at: self.clock.now() })
                    }
                };
                answered(Channel::Mail, provider, answer, asked.elapsed());
                outcome
            }
        }
    }

    fn settlement(&self, message: &Message, outcome: Try) -> Settlement {
        match outcome {
            Try::Sent { provider, reference, cost } => {
                tracing::info!(provider, reference, "sent");
                came_to(message, Some(provider), "sent");
                left(message, self.clock.now());
                Settlement::Sent { provider, reference, cost, at: self.clock.now() }
            }
            Try::InDoubt { provider, reason } => {
                tracing::warn!(reason, "in doubt: its report is waited for");
                came_to(message, Some(provider), "in_doubt");
                Settlement::InDoubt { provider, until: self.clock.now() + RECEIPT_PATIENCE, reason }
            }
            Try::Hopeless { provider, reason } => {
                tracing::error!(reason, "dead letter: refused for good");
                came_to(message, provider, "dead");
                Settlement::Dead { reason }
            }
            Try::Failed { reason, ready_at } => {
                let paced = self.paced(message);
                let Some(at) = in_time([ready_at.max(paced), paced], message) else {
                    tracing::error!(reason, "dead letter: the last try has failed");
                    came_to(message, None, "dead");
                    return Settlement::Dead { reason };
                };
                tracing::warn!(reason, "not sent, will be tried again");
                came_to(message, None, "failed");
                Settlement::Retry { at, reason }
            }
            Try::Postponed { reason, ready_at } => {
                let Some(at) = in_time([ready_at, self.paced(message)], message) else {
                    tracing::error!(reason, "dead letter: no provider can be tried in time");
                    came_to(message, None, "dead");
                    return Settlement::Dead { reason };
                };
                // The provider's trouble was told when it began.
                tracing::debug!(reason, "postponed: no provider can be tried now");
                came_to(message, None, "postponed");
                Settlement::Retry { at, reason }
            }
        }
    }

    /// When the message is tried again if nothing but its age speaks against it.
    fn paced(&self, message: &Message) -> UtcDateTime {
        let now = self.clock.now();
        now + self.back_off(message.queued_at, now)
    }

    /// Half the message's age, so that the waits grow exponentially, less up to half of that by chance, so that the
    /// messages of one outage don't come back together.
    fn back_off(&self, queued_at: UtcDateTime, now: UtcDateTime) -> Duration {
        let wait = (until(queued_at, now) / 2).clamp(MIN_WAIT, MAX_WAIT);
        let [chance, ..] = self.entropy.bytes();
        wait.saturating_sub(wait / 2 * u32::from(chance) / 255)
    }
}

/// The first of the moments at which the message is still of use. The later one takes no notice of what this instance knows of the
/// providers: another instance may find one that works.
fn in_time(moments: [UtcDateTime; 2], message: &Message) -> Option<UtcDateTime> {
    moments.into_iter().find(|at| *at < message.expires_at)
}

fn until(now: UtcDateTime, then: UtcDateTime) -> Duration {
    (then - now).try_into().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Result<(), Unavailable> = Ok(());

    fn failure() -> Result<(), Unavailable> {
        Err(Unavailable(String::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn claims_are_held_back_after_an_outage_and_after_nothing_else() {
        let mut line = Line::new();
        for (fails, seconds, rests) in
            [(false, 60, false), (true, 9, false), (false, 60, false), (true, 10, true)]
        {
            if fails {
                line.read(failure()).unwrap_err();
            }
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(line.may_claim(), !rests, "{fails}, {seconds} s");
            line.read(OK).unwrap();
            assert_eq!(
                line.rest(),
                if rests { OTHERS_FIRST } else { Duration::ZERO },
                "{fails}, {seconds} s"
            );
        }
        tokio::time::advance(OTHERS_FIRST).await;
        assert!(line.may_claim());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_does_not_tell_that_storage_takes_writes() {
        let mut line = Line::new();
        // A failure between writes that succeed is no outage.
        for (seconds, rests) in [(9, false), (10, true)] {
            line.write(failure()).unwrap_err();
            tokio::time::advance(Duration::from_secs(seconds)).await;
            line.read(OK).unwrap();
            assert_eq!((line.may_claim(), line.rest()), (!rests, Duration::ZERO), "{seconds} s");
            let most = if rests { 1 } else { 9 };
            assert_eq!(line.allows(Room::for_each(9)), Room::for_each(most), "{seconds} s");
            line.write(OK).unwrap();
            assert_eq!(line.rest(), if rests { OTHERS_FIRST } else { Duration::ZERO }, "{seconds} s");
            assert_eq!(line.allows(Room::for_each(9)), Room::for_each(9), "{seconds} s");
        }
    }
}
