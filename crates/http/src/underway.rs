use std::time::Duration;

use tokio::sync::watch;

/// How long a stop waits. Every use case is given up after four seconds; what is left is to keep its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far the stop of the service is, and the requests that it waits for: those carried out in tasks of their own, whether or not their clients
/// are still there. A server that stops waits for the requests of its connections, and knows of no other.
#[derive(Debug)]
pub struct Underway(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    phase: Phase,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Serving,
    /// As before, but who asks is told to go elsewhere.
    Leaving,
    Ending,
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
    /// From now on `/health/ready` says that requests should go elsewhere. Those that come are served as before.
    pub fn leave(&self) {
        self.0.send_modify(|state| state.phase = Phase::Leaving);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.0.borrow().phase != Phase::Serving
    }

    /// Waits until those that are under way have ended, ten seconds at most. Requests that come meanwhile are carried out as the rest of their
    /// connection is, so that there is an end to it.
    pub async fn end(&self) {
        self.end_within(PATIENCE).await;
    }

    async fn end_within(&self, patience: Duration) {
        self.0.send_modify(|state| state.phase = Phase::Ending);
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
            begun = state.phase != Phase::Ending;
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
    async fn who_leaves_lets_others_begin_and_waits_for_them() {
        let underway = Underway::default();
        assert!(!underway.is_leaving());
        underway.leave();
        assert!(underway.is_leaving());
        let running = underway.begin().unwrap();
        let mut ending = pin!(underway.end());
        assert_eq!(ending.as_mut().now_or_never(), None);
        assert!(underway.is_leaving());
        drop(running);
        assert_eq!(ending.as_mut().now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn an_end_does_not_wait_for_ever() {
        let underway = Underway::default();
        let _running = underway.begin();
        underway.end_within(Duration::from_millis(1)).await;
    }
}
