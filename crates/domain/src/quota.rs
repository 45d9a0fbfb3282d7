//! Rate limits as the generic cell rate algorithm (GCRA, ITU-T I.371): one moment per key is all the state.
//!
//! The *theoretical arrival time* is when the key's budget is full again. Each charge pushes it forward by
//! the time that one unit needs to grow back; a charge that would push it more than the whole budget ahead is refused.

use std::time::Duration;

use time::UtcDateTime;

/// `burst` units at once, growing back evenly over `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Units in a full budget; 0 allows nothing.
    pub burst: u32,
    /// How long an empty budget takes to fill; at least a millisecond.
    pub period: Duration,
}

impl Quota {
    /// Takes one unit: the new theoretical arrival time, or how long to wait for a unit.
    ///
    /// # Errors
    /// The wait until one unit has grown back, when the budget is empty.
    pub fn charge(&self, arrival: Option<UtcDateTime>, now: UtcDateTime) -> Result<UtcDateTime, Duration> {
        if self.burst == 0 {
            return Err(self.period);
        }
        let next = arrival.map_or(now, |arrival| arrival.max(now)) + self.unit();
        let ahead = next - now;
        if ahead > self.unit() * self.burst {
            let wait = ahead - self.unit() * self.burst;
            return Err(wait.try_into().unwrap_or(self.period));
        }
        Ok(next)
    }

    /// Units that can be taken now.
    #[must_use]
    pub fn left(&self, arrival: Option<UtcDateTime>, now: UtcDateTime) -> u32 {
        let ahead: Duration =
            arrival.map_or(Duration::ZERO, |arrival| (arrival - now).try_into().unwrap_or_default());
        let taken = ahead.as_millis().div_ceil(self.unit().as_millis().max(1));
        self.burst.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// The most units that can be taken within so long, of a budget that is full at first.
    #[must_use]
    pub fn most_within(&self, span: Duration) -> u64 {
        if self.burst == 0 {
            return 0;
        }
        let grown_back = span.as_micros() / self.unit().as_micros().max(1);
        u64::from(self.burst).saturating_add(u64::try_from(grown_back).unwrap_or(u64::MAX))
    }

    /// How long one unit takes to grow back, in whole microseconds, as databases count.
    #[must_use]
    pub fn unit(&self) -> Duration {
        let micros = self.period.as_micros() / u128::from(self.burst.max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// So many units that grow back as fast, one by one.
    #[must_use]
    pub fn with_burst(&self, burst: u32) -> Self {
        Self { burst, period: self.unit() * burst }
    }

    /// One of so many parts, as near as can be; at least one unit.
    #[must_use]
    pub fn part(&self, parts: u32) -> Self {
        Self { burst: (self.burst / parts.max(1)).max(self.burst.min(1)), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { burst: 3, period: Duration::from_mins(1) };

    #[test]
    fn a_full_budget_gives_its_burst_and_then_one_unit_at_a_time() {
        let now = UtcDateTime::UNIX_EPOCH;
        let mut arrival = None;
        for _ in 0..3 {
            arrival = Some(QUOTA.charge(arrival, now).unwrap());
        }
        assert_eq!(QUOTA.left(None, now), 3);
        assert_eq!(QUOTA.left(arrival, now), 0);
        assert_eq!(QUOTA.charge(arrival, now), Err(Duration::from_secs(20)));
        let later = now + Duration::from_secs(20);
        let arrival = Some(QUOTA.charge(arrival, later).unwrap());
        assert!(QUOTA.charge(arrival, later).is_err());
    }

    #[test]
    fn an_idle_key_never_saves_up_more_than_its_burst() {
        let mut arrival = Some(UtcDateTime::UNIX_EPOCH);
        let now = UtcDateTime::UNIX_EPOCH + Duration::from_hours(24);
        for _ in 0..3 {
            arrival = Some(QUOTA.charge(arrival, now).unwrap());
        }
        assert!(QUOTA.charge(arrival, now).is_err());
    }

    #[test]
    fn a_full_budget_gives_within_a_time_its_burst_and_what_grows_back() {
        let within = |minutes: u64| QUOTA.most_within(Duration::from_secs(60 * minutes));
        assert_eq!([within(0), within(1), within(10)], [3, 6, 33]);
        assert_eq!(Quota { burst: 0, ..QUOTA }.most_within(Duration::from_hours(24)), 0);
    }

    #[test]
    fn nothing_is_allowed_where_the_burst_is_zero() {
        assert!(Quota { burst: 0, ..QUOTA }.charge(None, UtcDateTime::UNIX_EPOCH).is_err());
    }
}
