use std::time::Duration;

use tokio::sync::watch;

/// How long a stop waits. Every use case is given up after four seconds; what is left is to keep its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests that are carried out in tasks of their own, whether or not their clients are still there: a server that stops waits for the requests of
/// its connections, and knows of no other.
#[derive(Debug)]
pub struct Underway(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    is_ending: bool,
}

/// One that is under way, as long as it is there.
#[derive(Debug)]
pub(crate) struct Running(watch::Sender<State>);

impl Default for Underway {
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

impl Underway {
    /// Waits until those that are under way have ended, ten seconds at most. Requests that come meanwhile are carried out as the rest of their
    /// connection is, so that there is an end to it.
    pub async fn end(&self) {
        self.end_within(PATIENCE).await;
    }

    async fn end_within(&self, patience: Duration) {
        self.0.send_modify(|state| state.is_ending = true);
        let mut states = self.0.subscribe();
        let ended = states.wait_for(|state| state.running == 0);
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("requests whose clients have gone are given up");
        }
    }

    /// Another one begins; `None` where it may not be waited for any more.
    pub(crate) fn begin(&self) -> Option<Running> {
        let mut begun = false;
        self.0.send_if_modified(|state| {
            begun = !state.is_ending;
            state.running += usize::from(begun);
            begun
        });
        begun.then(|| Running(self.0.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn an_end_waits_for_those_that_have_begun_and_lets_none_begin() {
        let underway = Underway::default();
        let (first, second) = (underway.begin().unwrap(), underway.begin().unwrap());
        let mut ending = pin!(underway.end());
        assert_eq!(ending.as_mut().now_or_never(), None);
        assert!(underway.begin().is_none());
        drop(first);
        assert_eq!(ending.as_mut().now_or_never(), None);
        drop(second);
        assert_eq!(ending.as_mut().now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn an_end_does_not_wait_for_ever() {
        let underway = Underway::default();
        let _running = underway.begin();
        underway.end_within(Duration::from_millis(1)).await;
    }
}
