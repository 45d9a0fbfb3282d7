//! Who waits for messages hears of them: in this process at once, in others soon.
//!
//! The instance that commits a message sends it. Others need to hear of it only for the case that this one can't keep up or has
//! died: so they are told apart from the commit (a `NOTIFY` inside it would make all commits wait for one another), at most once in
//! a while, and look only after the sender has had its chance. Behind a pooler that passes no notifications they look by themselves.

use std::sync::Arc;
use std::time::Duration;

use diesel::pg::PgNotification;
use diesel::sql_types::Text;
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::address::Address;
use crate::connection::connect_unlimited;

/// How often others are told at most.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// How long the sender of a message has before others look.
const SENDERS_CHANCE: Duration = Duration::from_millis(500);

/// How long an answer may take before the connection counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before another connection is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// The instances on one database, as far as messages are concerned.
pub(crate) struct Neighbours {
    /// Somebody has queued messages.
    queued: Arc<Notify>,
    /// This process has.
    told: Arc<Notify>,
    talking: JoinHandle<()>,
}

diesel::define_sql_function! {
    /// Tells who listens.
    fn pg_notify(channel: Text, payload: Text) -> Text;
}

diesel::define_sql_function! {
    /// The server's number for this connection.
    fn pg_backend_pid() -> diesel::sql_types::Integer;
}

impl Neighbours {
    /// Begins to listen and to tell, on a connection of its own.
    pub(crate) fn meet(address: Address) -> Arc<Self> {
        let (queued, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let talking = {
            let (queued, told) = (Arc::clone(&queued), Arc::clone(&told));
            tokio::spawn(async move {
                loop {
                    if let Err(problem) = talk(&address, &queued, &told).await {
                        tracing::debug!(problem, "other instances can't be heard");
                    }
                    sleep(PAUSE).await;
                }
            })
        };
        Arc::new(Self { queued, told, talking })
    }

    /// Messages were committed.
    pub(crate) fn tell(&self) {
        self.queued.notify_one();
        self.told.notify_one();
    }

    /// Returns when messages were committed.
    pub(crate) async fn wait(&self) {
        self.queued.notified().await;
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.talking.abort();
    }
}

/// Talks with the others until the connection fails.
async fn talk(address: &Address, queued: &Notify, told: &Notify) -> Result<(), String> {
    let said = |error: diesel::result::Error| error.to_string();
    let mut connection = connect_unlimited(address).await.map_err(|error| error.to_string())?;
    let listening = async {
        connection.batch_execute("LISTEN vestibule_messages").await?;
        diesel::select(pg_backend_pid()).get_result(&mut connection).await
    };
    let listening = timeout(PATIENCE, listening).await.map_err(|_| "the server does not answer")?;
    let own: i32 = listening.map_err(said)?;
    // Something may have been said while nobody listened here.
    queued.notify_one();
    let (mut owes_notice, mut tell_from, mut look_at) = (false, Instant::now(), None);
    loop {
        let may_look = async {
            match look_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let heard = {
            let mut notifications = std::pin::pin!(connection.notifications_stream());
            tokio::select! {
                heard = notifications.next() => Heard::Other(heard.ok_or("the connection has ended")?.map_err(said)?),
                () = told.notified(), if !owes_notice => Heard::Own,
                () = sleep_until(tell_from), if owes_notice => Heard::Turn,
                () = may_look => Heard::Time,
            }
        };
        match heard {
            Heard::Other(notification) if notification.process_id == own => {}
            Heard::Other(_) => look_at = look_at.or_else(|| Some(Instant::now() + SENDERS_CHANCE)),
            Heard::Own => owes_notice = true,
            Heard::Turn => {
                let tell = diesel::select(pg_notify("vestibule_messages", ""));
                let telling = timeout(PATIENCE, tell.execute(&mut connection)).await;
                telling.map_err(|_| "the server does not answer")?.map_err(said)?;
                (owes_notice, tell_from) = (false, Instant::now() + TELL_EVERY);
            }
            Heard::Time => {
                look_at = None;
                queued.notify_one();
            }
        }
    }
}

/// What there is to do next.
enum Heard {
    /// Somebody has queued messages.
    Other(PgNotification),
    /// This process has.
    Own,
    /// It may tell the others.
    Turn,
    /// Whoever queued them has had the chance to send them.
    Time,
}
