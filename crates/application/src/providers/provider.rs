use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::UtcDateTime;
use vestibule_metrics::{GaugeHandle, PROVIDER_BREAKER_OPEN};
use vestibule_port_sms::{SmsError, SmsReceipt, SmsSender};

use super::breaker::{Breaker, Change, end};

/// How long a provider gets nothing that asks for fewer requests and does not say for how long; and at most, whatever it says: a page of maintenance that
/// names an hour may be gone in a minute, and codes are of no use later.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// A pause that the operator is told of.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// Why nothing is sent while the breaker is open.
const RESTS: &str = "it rests after failures";

/// A provider, and what this process knows of its health.
pub(super) struct Provider {
    pub(super) sender: Arc<dyn SmsSender>,
    health: Mutex<Health>,
    is_open: GaugeHandle,
}

struct Health {
    breaker: Breaker,
    /// Since when it has asked to be left alone, and for how long.
    pause: Option<(UtcDateTime, Duration)>,
}

impl Health {
    /// When the pause ends that it has asked for; not before `now`.
    fn pause_ends(&self, now: UtcDateTime) -> UtcDateTime {
        self.pause.map_or(now, |(since, lasting)| end(since, lasting, now))
    }
}

impl Provider {
    pub(super) fn new(sender: Arc<dyn SmsSender>) -> Self {
        let is_open = PROVIDER_BREAKER_OPEN.of([sender.name().into()]);
        is_open.set(0);
        Self { sender, health: Mutex::new(Health { breaker: Breaker::new(), pause: None }), is_open }
    }

    pub(super) fn name(&self) -> &'static str {
        self.sender.name()
    }

    /// When it may be tried; not before `now`.
    pub(super) fn ready_at(&self, now: UtcDateTime) -> UtcDateTime {
        let health = self.health();
        health.breaker.ready_at(now).max(health.pause_ends(now))
    }

    /// Why it may not be tried now, if it may not.
    pub(super) fn objection(&self, now: UtcDateTime) -> Option<&'static str> {
        let health = self.health();
        if health.pause_ends(now) > now {
            return Some("it has asked for fewer requests");
        }
        (health.breaker.ready_at(now) > now).then_some(RESTS)
    }

    /// Has it tried now, or tells why it may not be.
    pub(super) fn admit(&self, now: UtcDateTime) -> Result<(), &'static str> {
        if let Some(why) = self.objection(now) {
            return Err(why);
        }
        let change = self.health().breaker.admit(now).map_err(|_| RESTS)?;
        self.tell(change);
        Ok(())
    }

    pub(super) fn learn(&self, answer: &Result<SmsReceipt, SmsError>, now: UtcDateTime) {
        let mut health = self.health();
        let change = match answer {
            Ok(_) | Err(SmsError::Permanent { .. }) => health.breaker.succeed(),
            Err(SmsError::Temporary { .. } | SmsError::Ambiguous { .. }) => health.breaker.fail(now),
            Err(SmsError::Throttled { retry_after, .. }) => {
                let pause = retry_after.unwrap_or(DEFAULT_PAUSE).min(LONGEST_PAUSE);
                let earlier_ends = health.pause_ends(now);
                if pause >= LONG_PAUSE && earlier_ends <= now {
                    let (provider, seconds) = (self.name(), pause.as_secs());
                    tracing::warn!(provider, seconds, "the provider asks to be left alone for a while");
                }
                if now + pause > earlier_ends {
                    health.pause = Some((now, pause));
                }
                health.breaker.throttle()
            }
        };
        // Under the lock, so that the last one to tell is right.
        match change {
            Some(Change::Opened(_)) => self.is_open.set(1),
            Some(Change::Closed) => self.is_open.set(0),
            Some(Change::Probed) | None => {}
        }
        drop(health);
        self.tell(change);
    }

    fn tell(&self, change: Option<Change>) {
        let provider = self.name();
        match change {
            None => {}
            Some(Change::Opened(rest)) => {
                tracing::warn!(
                    provider,
                    seconds = rest.as_secs(),
                    "the provider fails and is left alone for a while"
                );
            }
            Some(Change::Probed) => tracing::info!(provider, "the provider is tried again with one message"),
            Some(Change::Closed) => tracing::info!(provider, "the provider works again"),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
