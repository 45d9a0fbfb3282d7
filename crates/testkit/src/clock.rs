use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use time::UtcDateTime;
use time::macros::utc_datetime;
use vestibule_port_security::Clock;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl Default for ManualClock {
    fn default() -> Self {
        Self::at(utc_datetime!(2026-11-24 12:00))
    }
}

impl ManualClock {
    /// Stands at this moment, cut to milliseconds.
    #[must_use]
    pub fn at(moment: UtcDateTime) -> Self {
        let millis = i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        Self(AtomicI64::new(millis))
    }

    /// Is set back, as by who corrects it.
    pub fn set_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }

    /// Moves forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UtcDateTime {
        let nanos = i128::from(self.0.load(Ordering::SeqCst)) * 1_000_000;
        UtcDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(UtcDateTime::UNIX_EPOCH)
    }
}
