//! `vestibule copy`: moves a whole installation from SQLite to Postgres.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::{ExposeSecret as _, SecretString};
use vestibule_application::{CopyPhase, CopyProgress, copy_installation};
use vestibule_postgres::{Migrate, OpenError as OnPostgres, Postgres};
use vestibule_sqlite::{OpenError as OnSqlite, SqliteArchive};

use crate::config::{Config, DatabaseKind};

/// Where from and where to.
#[derive(clap::Args)]
pub(crate) struct Copy {
    /// The database to read: `sqlite://` and a path. Nothing in it is changed; the service on it must be stopped.
    #[arg(long)]
    from: SecretString,
    /// The database to fill: `postgres://user:password@host:port/database`; by default the configured one. It must be empty, or
    /// hold the beginning of the same copy.
    #[arg(long)]
    to: Option<SecretString>,
    /// Records in each transaction.
    #[arg(long, hide = true, default_value_t = 500)]
    page: usize,
}

/// Connections to the target: what is read and written there comes one after another.
const POOL_SIZE: u32 = 2;

pub(crate) async fn copy(config: &Config, arguments: &Copy) -> anyhow::Result<()> {
    let to = arguments.to.as_ref().or(config.database.url.as_ref());
    let (Some(DatabaseKind::Sqlite(from)), Some(DatabaseKind::Postgres(to))) =
        (DatabaseKind::parse(&arguments.from), to.and_then(DatabaseKind::parse))
    else {
        anyhow::bail!(
            "it copies from `sqlite://` and a path to `postgres://user:password@host:port/database`"
        );
    };
    let source = SqliteArchive::open(&from).map_err(|error| not_a_source(&from, error))?;
    let target = Postgres::open(to.expose_secret(), POOL_SIZE, Migrate::IfNone).await;
    let target = target.map_err(not_a_target);
    let target = target.context(if arguments.to.is_some() { "--to" } else { "database.url" })?;
    let mut display = Display::new();
    let mut show = |progress| display.show(progress);
    let copied = copy_installation(&source, &target, arguments.page, &mut show).await;
    display.end();
    let mut out = std::io::stdout().lock();
    for (table, records) in copied? {
        writeln!(out, "{}: {records} copied and equal", table.as_str())?;
    }
    writeln!(
        out,
        "The copy is complete. Copy the key files too: codes, links and used numbers depend on them."
    )?;
    Ok(())
}

/// The configured database is not the source: `vestibule migrate` alone would change the target.
fn not_a_source(path: &Path, error: OnSqlite) -> anyhow::Error {
    let path = path.display();
    match error {
        OnSqlite::Outdated => anyhow::anyhow!(
            "--from: the tables of {path} are not up to date: run `VESTIBULE__DATABASE__URL=sqlite://{path} vestibule migrate`, then copy again"
        ),
        other => anyhow::Error::new(other).context(format!("--from: cannot read {path}")),
    }
}

/// Tables of another version are somebody's, and stay as they are.
fn not_a_target(error: OnPostgres) -> anyhow::Error {
    match error {
        OnPostgres::Outdated => anyhow::anyhow!(
            "its tables are of an older version, and were left as they are: name an empty database, or empty this one and copy again"
        ),
        OnPostgres::Newer => anyhow::anyhow!(
            "its tables are of a newer version: copy with that version, or name an empty database"
        ),
        other => other.into(),
    }
}

/// A bar on a terminal; elsewhere a line for each table.
struct Display {
    bar: ProgressBar,
    last: Option<CopyProgress>,
}

impl Display {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg:28} [{bar:40}] {human_pos}/{human_len} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, last: None }
    }

    fn show(&mut self, progress: CopyProgress) {
        let begins =
            self.last.is_none_or(|last| (last.phase, last.table) != (progress.phase, progress.table));
        if begins {
            self.line();
            self.bar.set_message(format!("{} {}", doing(progress.phase), progress.table.as_str()));
        }
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        self.last = Some(progress);
    }

    /// Says how far the last table came, where no bar has shown it.
    fn line(&self) {
        if let Some(CopyProgress { phase, table, done, total }) = self.last
            && self.bar.is_hidden()
        {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{} {}: {done} of {total}", doing(phase), table.as_str());
        }
    }

    fn end(&self) {
        self.line();
        self.bar.finish_and_clear();
    }
}

fn doing(phase: CopyPhase) -> &'static str {
    match phase {
        CopyPhase::Resuming => "looking through",
        CopyPhase::Copying => "copying",
        CopyPhase::Checking => "checking",
    }
}
