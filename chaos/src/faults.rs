//! What goes wrong, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use vestibule_testkit::fleet::Fleet;
use vestibule_testkit::postgres::PostgresServer;

use crate::post::{Post, Way};
use crate::{power, say};

/// Everything that can break.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) database: Arc<PostgresServer>,
    pub(crate) database_end: DatabaseEnd,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) post: Arc<Post>,
}

/// How the database ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseEnd {
    /// All its processes end at once.
    Stop,
    /// So they do, and what the disk has not confirmed is lost.
    PowerCut,
}

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breakage {
    Instance(usize),
    Database,
    Post(Way),
    /// The mail server takes connections and says nothing, and takes no mail.
    MailSilence,
}

/// A fault that was done.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) what: Breakage,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

/// When what breaks and for how long, in thousandths of the load's length. While the gateway and the mail server are away,
/// an instance is killed that has messages for them.
const SCHEDULE: [(u32, Breakage, u32); 9] = [
    (60, Breakage::Instance(0), 20),
    (150, Breakage::Post(Way::Sms), 110),
    (200, Breakage::Instance(1), 20),
    (290, Breakage::MailSilence, 80),
    (380, Breakage::Database, 20),
    (490, Breakage::Post(Way::Mail), 110),
    (540, Breakage::Instance(2), 20),
    (690, Breakage::Database, 20),
    (830, Breakage::Instance(3), 20),
];

/// Sending to recording takes no longer than this, so a crash explains the second copy of a message that was sent so shortly before.
const TO_RECORD: Duration = Duration::from_millis(1500);

/// Whether one of the faults explains that a message is sent again whose last copy arrived at that moment.
pub(crate) fn explain(faults: &[Fault], way: Way, at: Instant) -> bool {
    faults.iter().any(|fault| fault.explains(way, at, faults))
}

impl Fault {
    fn explains(&self, way: Way, at: Instant, all: &[Self]) -> bool {
        let (from, to) = match self.what {
            // Messages that were on their way from it may still arrive.
            Breakage::Instance(_) => {
                (self.nothing_recorded_since(all), self.from + Duration::from_millis(500))
            }
            // Taken, but the sender was not told.
            Breakage::Post(stopped) if stopped == way => (self.from, self.from + Duration::from_millis(500)),
            // Who has sent a message and lives on records it when the database is back, however long it was away.
            Breakage::Post(_) | Breakage::Database | Breakage::MailSilence => return false,
        };
        from.checked_sub(TO_RECORD).is_none_or(|from| from <= at) && at <= to
    }

    /// Since when an instance that ends then has recorded nothing: since the database went away, if it has not been back for long.
    fn nothing_recorded_since(&self, all: &[Self]) -> Instant {
        let away = all.iter().filter(|fault| fault.what == Breakage::Database);
        let away = away.filter(|fault| fault.from <= self.from && self.from <= fault.to + TO_RECORD);
        away.map(|fault| fault.from).min().unwrap_or(self.from)
    }
}

/// Does all of it, spread over the span.
pub(crate) async fn break_everything(world: &World, span: Duration) -> anyhow::Result<Vec<Fault>> {
    let begun = Instant::now();
    let mut breaking = JoinSet::new();
    for (at, what, lasting) in SCHEDULE {
        let world = world.clone();
        breaking.spawn(async move {
            let from = begun + span * at / 1000;
            tokio::time::sleep(from.saturating_duration_since(Instant::now())).await;
            say(&format!("{:7.1} s  {}: down", begun.elapsed().as_secs_f64(), what.name()))?;
            let from = Instant::now();
            what.break_it(&world).await.with_context(|| what.name())?;
            tokio::time::sleep(span * lasting / 1000).await;
            what.mend_it(&world).await.with_context(|| what.name())?;
            say(&format!("{:7.1} s  {}: up again", begun.elapsed().as_secs_f64(), what.name()))?;
            anyhow::Ok(Fault { what, from, to: Instant::now() })
        });
    }
    let mut faults = Vec::new();
    while let Some(done) = breaking.join_next().await {
        faults.push(done??);
    }
    Ok(faults)
}

/// What was done.
pub(crate) fn summary(faults: &[Fault]) -> String {
    let count = |is: fn(Breakage) -> bool| faults.iter().filter(|fault| is(fault.what)).count();
    let seconds = |what| {
        let down = faults.iter().filter(|fault| fault.what == what);
        down.map(|fault| fault.to - fault.from).sum::<Duration>().as_secs_f64()
    };
    format!(
        "{} instances killed and started again, {} immediate restarts of Postgres, gateway down for {:.1} s, mail server for {:.1} s and silent for {:.1} s",
        count(|what| matches!(what, Breakage::Instance(_))),
        count(|what| what == Breakage::Database),
        seconds(Breakage::Post(Way::Sms)),
        seconds(Breakage::Post(Way::Mail)),
        seconds(Breakage::MailSilence),
    )
}

impl Breakage {
    fn name(self) -> String {
        match self {
            Self::Instance(index) => format!("instance {} (kill -9)", index + 1),
            Self::Database => "Postgres (immediate)".to_owned(),
            Self::Post(Way::Sms) => "the gateway".to_owned(),
            Self::Post(Way::Mail) => "the mail server".to_owned(),
            Self::MailSilence => "the mail server (silent)".to_owned(),
        }
    }

    async fn break_it(self, world: &World) -> anyhow::Result<()> {
        match self {
            Self::Instance(index) => Ok(world.fleet.kill(index)?),
            Self::Database => {
                let database = Arc::clone(&world.database);
                let cut = match world.database_end {
                    DatabaseEnd::Stop => None,
                    DatabaseEnd::PowerCut => Some(power::confirmed(&database).await?),
                };
                tokio::task::spawn_blocking(move || database.stop_immediately()).await??;
                cut.as_ref().map_or(Ok(()), power::lose_the_rest)
            }
            Self::Post(way) => world.post.stop(way).await,
            Self::MailSilence => world.post.silence_mail(),
        }
    }

    async fn mend_it(self, world: &World) -> anyhow::Result<()> {
        match self {
            Self::Instance(index) => Ok(Arc::clone(&world.fleet).start(index).await?),
            Self::Database => {
                let database = Arc::clone(&world.database);
                Ok(tokio::task::spawn_blocking(move || database.start_again()).await??)
            }
            Self::Post(way) => world.post.start_again(way).await,
            Self::MailSilence => world.post.end_silence(),
        }
    }
}
