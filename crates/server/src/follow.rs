//! Files that may change while the service runs.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// How often an instance looks at a file.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks again and again, on a thread that may wait, since a file may be on a disk that is slow. Does not end.
pub(crate) async fn follow(what: &'static str, mut look: impl FnMut() + Send + 'static) {
    let mut interval = tokio::time::interval(LOOK_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let looking = tokio::task::spawn_blocking(move || {
            look();
            look
        });
        match looking.await {
            Ok(back) => look = back,
            Err(error) => {
                tracing::error!(%error, "{what} is no longer followed");
                return;
            }
        }
    }
}
