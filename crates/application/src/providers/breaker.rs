use std::time::Duration;

use time::UtcDateTime;

use super::PROVIDER_PATIENCE;

/// Failures in a row after which a provider is left alone.
const TRIP_AFTER: u32 = 5;

/// How long it is left alone at first, and at most.
const FIRST_REST: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_mins(1);

/// How soon it is worth asking again while the one try that ends a rest is under way.
const PROBE_PAUSE: Duration = Duration::from_secs(2);

/// Leaves a provider alone that fails again and again.
///
/// ```mermaid
/// stateDiagram-v2
///     [*] --> Closed
///     Closed --> Open: five failures in a row
///     Open --> Probing: the rest is over, one try goes through
///     Probing --> Closed: it succeeds
///     Probing --> Open: it fails, and the rest is twice as long
/// ```
///
/// How a try went that was under way when the breaker opened is no news: a rest never ends early, which the leases of messages count on. Such a try
/// takes less time than any rest, so it is never mistaken for a probe. A probe of which nothing is heard is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breaker(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { since: UtcDateTime, rest: Duration },
    Probing { since: UtcDateTime, rest: Duration },
}

/// What the operator should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is left alone for so long.
    Opened(Duration),
    /// It is tried again, with one message.
    Probed,
    /// It works again.
    Closed,
}

impl Breaker {
    /// Of a provider that nothing bad is known of.
    pub(super) const fn new() -> Self {
        Self(State::Closed { failures: 0 })
    }

    /// The first moment from `now` on at which a try may be admitted.
    pub(super) fn ready_at(&self, now: UtcDateTime) -> UtcDateTime {
        match self.0 {
            State::Closed { .. } => now,
            State::Open { since, rest } => end(since, rest, now),
            State::Probing { since, .. } => end(since, PROVIDER_PATIENCE, now).min(now + PROBE_PAUSE),
        }
    }

    /// Admits a try, whose outcome is to be told to [`succeed`](Self::succeed) or [`fail`](Self::fail); or tells when to ask again.
    pub(super) fn admit(&mut self, now: UtcDateTime) -> Result<Option<Change>, UtcDateTime> {
        let ready_at = self.ready_at(now);
        if ready_at > now {
            return Err(ready_at);
        }
        match self.0 {
            State::Closed { .. } => Ok(None),
            State::Open { rest, .. } | State::Probing { rest, .. } => {
                self.0 = State::Probing { since: now, rest };
                Ok(Some(Change::Probed))
            }
        }
    }

    /// The provider has answered as one that works.
    pub(super) fn succeed(&mut self) -> Option<Change> {
        let change = match self.0 {
            State::Open { .. } => return None,
            State::Probing { .. } => Some(Change::Closed),
            State::Closed { .. } => None,
        };
        self.0 = State::Closed { failures: 0 };
        change
    }

    /// The provider works, and asks for fewer requests: a probe has succeeded, but failures before and after it are still in a row. Some say so
    /// while all that they have taken gets no answer.
    pub(super) fn throttle(&mut self) -> Option<Change> {
        match self.0 {
            State::Closed { .. } => None,
            State::Open { .. } | State::Probing { .. } => self.succeed(),
        }
    }

    /// The provider has failed.
    pub(super) fn fail(&mut self, now: UtcDateTime) -> Option<Change> {
        let rest = match self.0 {
            State::Closed { failures } if failures + 1 < TRIP_AFTER => {
                self.0 = State::Closed { failures: failures + 1 };
                return None;
            }
            State::Closed { .. } => FIRST_REST,
            State::Probing { rest, .. } => (rest * 2).min(LONGEST_REST),
            State::Open { .. } => return None,
        };
        self.0 = State::Open { since: now, rest };
        Some(Change::Opened(rest))
    }
}

/// When so long a time from `since` is over; at once, if the clock was set back and nobody knows.
pub(super) fn end(since: UtcDateTime, lasting: Duration, now: UtcDateTime) -> UtcDateTime {
    if now < since { now } else { now.max(since + lasting) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use time::macros::utc_datetime;

    use super::*;

    const START: UtcDateTime = utc_datetime!(2026-11-24 12:00);

    fn at(seconds: u64) -> UtcDateTime {
        START + Duration::from_secs(seconds)
    }

    fn opened(seconds: u64) -> Change {
        Change::Opened(Duration::from_secs(seconds))
    }

    /// Five failures at the start.
    fn open() -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..4 {
            assert_eq!(breaker.fail(START), None);
        }
        assert_eq!(breaker.fail(START), Some(opened(30)));
        breaker
    }

    /// What happens to a breaker at a second, and what it says to that: `+` is a success, `-` a failure, `~` asks for fewer requests, `?` asks to be admitted.
    #[rstest]
    #[case::five_in_a_row(&[(0, "----", ""), (0, "-", "opened 30"), (29, "?", "wait 1"), (30, "?", "probed")])]
    #[case::not_in_a_row(&[(0, "----+----", ""), (0, "?", "")])]
    #[case::throttled_in_a_row_of_failures(&[(0, "----~~", ""), (0, "-", "opened 30")])]
    #[case::a_probe_that_is_throttled(&[(0, "-----", "opened 30"), (30, "?", "probed"), (31, "~", "closed"), (31, "----", "")])]
    #[case::what_was_under_way_is_no_news(&[(0, "-----", "opened 30"), (5, "-+-", ""), (29, "?", "wait 1"), (30, "?", "probed")])]
    #[case::one_probe_at_a_time(&[(0, "-----", "opened 30"), (31, "?", "probed"), (31, "?", "wait 2"), (40, "?", "wait 1")])]
    #[case::a_probe_that_succeeds(&[(0, "-----", "opened 30"), (30, "?", "probed"), (31, "+", "closed"), (31, "?", ""), (31, "----", "")])]
    #[case::a_probe_that_is_lost(&[(0, "-----", "opened 30"), (30, "?", "probed"), (40, "?", "probed"), (41, "+", "closed")])]
    #[case::a_probe_that_fails(&[(0, "-----", "opened 30"), (30, "?", "probed"), (32, "-", "opened 60"), (91, "?", "wait 1"), (92, "?", "probed")])]
    fn a_breaker(#[case] story: &[(u64, &str, &str)]) {
        let mut breaker = Breaker::new();
        for (step, &(second, events, expected)) in story.iter().enumerate() {
            let now = at(second);
            let said: Vec<_> = events
                .chars()
                .filter_map(|event| match event {
                    '+' => breaker.succeed().map(Ok),
                    '-' => breaker.fail(now).map(Ok),
                    '~' => breaker.throttle().map(Ok),
                    _ => breaker.admit(now).transpose(),
                })
                .map(|said| match said {
                    Ok(Change::Opened(rest)) => format!("opened {}", rest.as_secs()),
                    Ok(Change::Probed) => "probed".to_owned(),
                    Ok(Change::Closed) => "closed".to_owned(),
                    Err(then) => format!("wait {}", (then - now).whole_seconds()),
                })
                .collect();
            assert_eq!(said.join(", "), expected, "step {step}");
        }
    }

    #[test]
    fn rests_double_up_to_a_minute_and_start_anew_after_a_success() {
        let mut breaker = open();
        let mut now = START;
        for rest in [60, 60, 60] {
            now = breaker.ready_at(now);
            assert_eq!(breaker.admit(now), Ok(Some(Change::Probed)));
            assert_eq!(breaker.fail(now), Some(opened(rest)));
        }
        now = breaker.ready_at(now);
        assert_eq!(breaker.admit(now), Ok(Some(Change::Probed)));
        assert_eq!(breaker.succeed(), Some(Change::Closed));
        assert_eq!((0..5).find_map(|_| breaker.fail(now)), Some(opened(30)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_prolong_a_rest() {
        let mut breaker = open();
        assert_eq!(breaker.admit(START - Duration::from_hours(1)), Ok(Some(Change::Probed)));
    }
}
