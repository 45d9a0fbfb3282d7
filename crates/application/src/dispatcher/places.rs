use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use vestibule_domain::{Channel, MessageId};
use vestibule_port_storage::{Room, Settlement};

/// Messages of a channel on their way at once, so that a slow provider holds up no more than this.
const PLACES: usize = 64;

/// A try that is over, and what came of it.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) message: MessageId,
    /// Which try; with the message it names the lease.
    pub(super) tries: u32,
    pub(super) settlement: Settlement,
    pub(super) leased_until: Instant,
}

/// The places of the messages that were claimed here. Each channel has its own, so that none waits for another; and a message keeps its place until
/// storage has taken what came of it.
#[derive(Default)]
pub(super) struct Places {
    sms: Taken,
    mail: Taken,
}

#[derive(Default)]
struct Taken {
    /// Messages on their way. A task answers with the try that storage did not take.
    in_flight: JoinSet<Option<Tried>>,
    unsettled: Vec<Tried>,
}

impl Places {
    pub(super) fn room(&self) -> Room {
        Room { sms: self.sms.room(), mail: self.mail.room() }
    }

    /// Has a message take a place of its channel until its try is settled.
    pub(super) fn take(
        &mut self,
        channel: Channel,
        delivery: impl Future<Output = Option<Tried>> + Send + 'static,
    ) {
        self.of(channel).in_flight.spawn(delivery);
    }

    /// Has a try that storage did not take keep a place.
    pub(super) fn keep(&mut self, channel: Channel, tried: Tried) {
        self.of(channel).unsettled.push(tried);
    }

    /// Gives up the place of the message's try that storage did not take, if there is one.
    pub(super) fn forget(&mut self, channel: Channel, message: MessageId) -> Option<Tried> {
        let unsettled = &mut self.of(channel).unsettled;
        let at = unsettled.iter().position(|tried| tried.message == message)?;
        Some(unsettled.remove(at))
    }

    /// Sees to the tries that have ended.
    pub(super) fn see_to_ended(&mut self) {
        for taken in [&mut self.sms, &mut self.mail] {
            while let Some(ended) = taken.in_flight.try_join_next() {
                taken.end(ended);
            }
        }
    }

    /// Returns when a try ends that storage did not take, or one of a channel that had no room.
    pub(super) async fn one_ended(&mut self) {
        loop {
            let Self { sms, mail } = self;
            let (taken, ended) = tokio::select! {
                Some(ended) = sms.in_flight.join_next() => (sms, ended),
                Some(ended) = mail.in_flight.join_next() => (mail, ended),
                else => std::future::pending().await,
            };
            let before = taken.unsettled.len();
            taken.end(ended);
            if taken.unsettled.len() > before || taken.room() == 1 {
                return;
            }
        }
    }

    /// Returns when all tries have ended.
    pub(super) async fn all_ended(&mut self) {
        for taken in [&mut self.sms, &mut self.mail] {
            while let Some(ended) = taken.in_flight.join_next().await {
                taken.end(ended);
            }
        }
    }

    pub(super) fn has_unsettled(&self) -> bool {
        self.unsettled().next().is_some()
    }

    /// The tries that storage did not take.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = &Tried> {
        self.sms.unsettled.iter().chain(&self.mail.unsettled)
    }

    /// Frees the places of those of them that were settled: one answer for each, in their order.
    pub(super) fn free(&mut self, were_settled: impl IntoIterator<Item = bool>) {
        let mut were_settled = were_settled.into_iter();
        for taken in [&mut self.sms, &mut self.mail] {
            taken.unsettled.retain(|_| were_settled.next() != Some(true));
        }
    }

    const fn of(&mut self, channel: Channel) -> &mut Taken {
        match channel {
            Channel::Sms => &mut self.sms,
            Channel::Mail => &mut self.mail,
        }
    }
}

impl Taken {
    fn room(&self) -> usize {
        PLACES.saturating_sub(self.in_flight.len() + self.unsettled.len())
    }

    /// A task that has panicked leaves nothing to settle: its message is claimed again when its lease ends.
    fn end(&mut self, ended: Result<Option<Tried>, JoinError>) {
        self.unsettled.extend(ended.ok().flatten());
    }
}
