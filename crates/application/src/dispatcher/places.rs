use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use vestibule_domain::{Channel, MessageId};
use vestibule_port_storage::{Room, Settlement};

/// Messages of a channel on their way at once, so that a slow provider holds up no more than this.
const PLACES: usize = 64;

/// A try that is over, and what came of it.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) channel: Channel,
    pub(super) message: MessageId,
    /// Which try; with the message it names the lease.
    pub(super) tries: u32,
    pub(super) settlement: Settlement,
    pub(super) leased_until: Instant,
}

/// The places of the messages that were claimed here. Each channel has its own, so that none waits for another; and a message keeps its place until
/// storage has taken what came of it.
pub(super) struct Places {
    sms: InFlight,
    mail: InFlight,
    /// The tries that storage did not take, in the order in which they are offered to it again.
    pub(super) unsettled: VecDeque<Tried>,
    /// When that may be: not at once after it has refused one.
    pub(super) settles_from: Instant,
}

/// Messages on their way. A task answers with the try that storage did not take.
type InFlight = JoinSet<Option<Tried>>;

impl Places {
    pub(super) fn new() -> Self {
        let (sms, mail) = (JoinSet::new(), JoinSet::new());
        Self { sms, mail, unsettled: VecDeque::new(), settles_from: Instant::now() }
    }

    pub(super) fn room(&self) -> Room {
        Room { sms: self.room_of(Channel::Sms), mail: self.room_of(Channel::Mail) }
    }

    fn room_of(&self, channel: Channel) -> usize {
        let in_flight = match channel {
            Channel::Sms => &self.sms,
            Channel::Mail => &self.mail,
        };
        let unsettled = self.unsettled.iter().filter(|tried| tried.channel == channel).count();
        PLACES.saturating_sub(in_flight.len() + unsettled)
    }

    /// Has a message take a place of its channel until its try is settled.
    pub(super) fn take(
        &mut self,
        channel: Channel,
        delivery: impl Future<Output = Option<Tried>> + Send + 'static,
    ) {
        let in_flight = match channel {
            Channel::Sms => &mut self.sms,
            Channel::Mail => &mut self.mail,
        };
        in_flight.spawn(delivery);
    }

    /// Gives up the place of the message's try that storage did not take, if there is one.
    pub(super) fn forget(&mut self, message: MessageId) -> Option<Tried> {
        let at = self.unsettled.iter().position(|tried| tried.message == message)?;
        self.unsettled.remove(at)
    }

    /// How long nothing is to be settled of what storage did not take, if there is anything.
    pub(super) fn pause(&self) -> Option<Duration> {
        let pause = self.settles_from.saturating_duration_since(Instant::now());
        (!self.unsettled.is_empty()).then_some(pause)
    }

    /// Sees to the tries that have ended.
    pub(super) fn see_to_ended(&mut self) {
        for in_flight in [&mut self.sms, &mut self.mail] {
            while let Some(ended) = in_flight.try_join_next() {
                self.unsettled.extend(unsettled(ended));
            }
        }
    }

    /// Returns when a try ends that storage did not take, or one of a channel that had no room.
    pub(super) async fn one_ended(&mut self) {
        loop {
            let (channel, ended) = tokio::select! {
                Some(ended) = self.sms.join_next() => (Channel::Sms, ended),
                Some(ended) = self.mail.join_next() => (Channel::Mail, ended),
                else => std::future::pending().await,
            };
            let unsettled = unsettled(ended);
            let has_unsettled = unsettled.is_some();
            self.unsettled.extend(unsettled);
            if has_unsettled || self.room_of(channel) == 1 {
                return;
            }
        }
    }

    /// Returns when all tries have ended.
    pub(super) async fn all_ended(&mut self) {
        for in_flight in [&mut self.sms, &mut self.mail] {
            while let Some(ended) = in_flight.join_next().await {
                self.unsettled.extend(unsettled(ended));
            }
        }
    }
}

/// A task that has panicked leaves nothing to settle: its message is claimed again when its lease ends.
fn unsettled(ended: Result<Option<Tried>, JoinError>) -> Option<Tried> {
    ended.ok().flatten()
}
