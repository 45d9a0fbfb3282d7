use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::Application;

/// Twice what a step takes that hashes a password at the default cost, short beside what a person notices.
const BEAT: Duration = Duration::from_millis(50);

/// Who has waited for so long is answered at once: the caller's patience may be over before the next beat.
const LATE: Duration = Duration::from_secs(3);

/// Keeps an answer until a multiple of [`BEAT`] after its request came, so that its time does not tell what had to be read, decoded and
/// decided for it. Keeps nothing where accounts are not concealed, since sign-up tells by its status then.
///
/// A step that takes longer than a beat is answered at the next: what remains to be seen is on which side of a beat it ended.
#[must_use]
pub(crate) struct Beat {
    started: Option<Instant>,
}

impl Application {
    /// The beat for a step that begins now.
    pub(crate) fn beat(&self) -> Beat {
        Beat { started: self.settings.conceal_accounts.then(Instant::now) }
    }
}

impl Beat {
    /// Gives the answer when its time has come.
    pub(crate) async fn keep<T>(self, answer: T) -> T {
        if let Some(started) = self.started.filter(|started| started.elapsed() < LATE) {
            sleep_until(next(started, Instant::now())).await;
        }
        answer
    }

    /// Gives a refusal when its time has come, and anything else at once: that tells of nobody but who proved to be the owner.
    pub(crate) async fn keep_refusal<T, E>(self, answer: Result<T, E>) -> Result<T, E> {
        match answer {
            Ok(_) => answer,
            Err(_) => self.keep(answer).await,
        }
    }
}

/// The first multiple of [`BEAT`] after the start that is not over.
fn next(started: Instant, now: Instant) -> Instant {
    let beats = now.saturating_duration_since(started).as_nanos().div_ceil(BEAT.as_nanos()).max(1);
    started + BEAT * u32::try_from(beats).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing(0, 50_000_000)]
    #[case::little(1, 50_000_000)]
    #[case::more(49_999_999, 50_000_000)]
    #[case::a_beat(50_000_000, 50_000_000)]
    #[case::just_over_a_beat(50_000_001, 100_000_000)]
    #[case::long(4_500_000_001, 4_550_000_000)]
    fn an_answer_waits_for_the_next_beat(#[case] took: u64, #[case] until: u64) {
        let started = Instant::now();
        let after = next(started, started + Duration::from_nanos(took)) - started;
        assert_eq!(after, Duration::from_nanos(until));
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_answer_took_is_not_seen() {
        for (took, kept) in [(0, 50), (1, 50), (7, 50), (49, 50), (51, 100), (2999, 3000), (3001, 3001)] {
            let beat = Beat { started: Some(Instant::now()) };
            let asked = Instant::now();
            let answer = async {
                tokio::time::sleep(Duration::from_millis(took)).await;
                Err::<(), _>("no")
            };
            assert_eq!(beat.keep_refusal(answer.await).await, Err("no"));
            assert_eq!(asked.elapsed(), Duration::from_millis(kept), "{took} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_concealed_nothing_waits() {
        let asked = Instant::now();
        assert_eq!(Beat { started: None }.keep_refusal(Err::<(), _>("no")).await, Err("no"));
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }
}
