//! A Postgres server of a test's own, made in a directory of its own and always gone afterwards, and databases for tests.
//!
//! The server runs under a small shell that reads from a pipe which only this process holds: when the process ends,
//! even by `kill -9`, the pipe ends, and the shell kills the server and removes its files.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tokio_postgres::{Client, NoTls};

mod databases;
mod pooler;

pub use databases::{EXTERNAL_SERVER, TestDatabase, TestDatabases};
pub use pooler::{PgBouncer, Pooling};

/// Names the directory with `initdb` and `postgres`, if it shall be this one.
pub const PROGRAMS: &str = "VESTIBULE_POSTGRES_BIN";

const GUARD: &str = include_str!("postgres/guard.sh");

/// How often another port is tried when somebody else was faster to take the free one.
const PORTS: u32 = 5;

/// What a server is for.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// What a commit promises.
    pub durability: Durability,
    /// Further settings, which come last and so win: `("max_connections", "50")`.
    pub settings: Vec<(&'static str, String)>,
    /// What it speaks where `lc_messages` is not `C`, if its catalogue is on this machine: `de`.
    pub language: Option<&'static str>,
}

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing: a crash of the machine may lose everything, and tests run faster.
    #[default]
    Fast,
    /// To be on the disk, as in production.
    Durable,
}

/// Why there is no server or no database.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The programs are not on this machine.
    #[error(
        "Postgres was not found: no `initdb` and `postgres` on PATH, in /usr/lib/postgresql/*/bin or in ${PROGRAMS}. \
         Install it (Debian: `apt-get install postgresql`), or name a running server in ${EXTERNAL_SERVER}"
    )]
    NotInstalled,
    /// The server runs as nobody's root, and there is nobody else to run it.
    #[error("Postgres does not run as root, and there is no user `postgres` or `nobody` to run it")]
    NoUser,
    /// The shell that holds the server cannot be started, or has ended.
    #[error("the shell that holds the server: {0}")]
    Guard(#[from] std::io::Error),
    /// The server cannot be made or started; these are its last words.
    #[error("the server did not start: {0}")]
    Start(String),
    /// A server that runs refuses something.
    #[error("{0}")]
    Refused(String),
}

/// A running server on loopback. Dropped, it is gone, files included.
#[derive(Debug)]
pub struct PostgresServer {
    guard: Child,
    line: Mutex<Line>,
    port: u16,
}

/// The way to the shell and back.
#[derive(Debug)]
struct Line {
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl PostgresServer {
    /// Makes a server and starts it on a free port. Its superuser is `postgres`, who needs no password. Takes a second or two.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub fn start(options: &PostgresOptions) -> Result<Self, PostgresError> {
        let programs = find_programs().ok_or(PostgresError::NotInstalled)?;
        let mut guard = as_an_ordinary_user()?;
        guard.args(["-c", GUARD, "vestibule-postgres-guard"]).arg(programs).args(configuration(options));
        guard.envs(options.language.map(|language| ("LANGUAGE", language)));
        // A group of its own: what interrupts the tests must not end the shell before it has cleaned up.
        let mut guard = guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(commands), Some(answers)) = (guard.stdin.take(), guard.stdout.take()) else {
            return Err(std::io::Error::other("it has no pipes").into());
        };
        let line = Line { commands: Some(commands), answers: BufReader::new(answers) };
        let mut server = Self { guard, line: Mutex::new(line), port: 0 };
        server.command("make")?;
        for remaining in (0..PORTS).rev() {
            server.port = free_port()?;
            match server.start_again() {
                Err(PostgresError::Start(words)) if remaining > 0 && words.contains("could not bind") => {}
                outcome => return outcome.map(|()| server),
            }
        }
        Err(PostgresError::Start("no free port".to_owned()))
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of one of its databases; `postgres` is there from the start.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A session of its superuser.
    ///
    /// # Errors
    /// [`PostgresError::Refused`]
    pub async fn client(&self, database: &str) -> Result<Client, PostgresError> {
        let connected = tokio_postgres::connect(&self.url(database), NoTls).await;
        let (client, connection) = connected.map_err(|error| PostgresError::Refused(error.to_string()))?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Ends it as `pg_ctl stop -m immediate` does: every process exits at once and nothing is written any more.
    ///
    /// # Errors
    /// When the shell that holds it is gone.
    pub fn stop_immediately(&self) -> Result<(), PostgresError> {
        self.command("stop")
    }

    /// Starts it again, on the same port, and waits until it has recovered.
    ///
    /// # Errors
    /// [`PostgresError::Start`] with its last words.
    pub fn start_again(&self) -> Result<(), PostgresError> {
        self.command(&format!("start {}", self.port))
    }

    fn command(&self, command: &str) -> Result<(), PostgresError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = String::new();
        if let Some(commands) = &mut line.commands {
            writeln!(commands, "{command}")?;
            line.answers.read_line(&mut answer)?;
        }
        match answer.trim().split_once(' ') {
            None if answer.trim() == "ok" => Ok(()),
            Some(("no", last_words)) => Err(PostgresError::Start(last_words.to_owned())),
            _ => Err(std::io::Error::other("it has ended").into()),
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.line.get_mut().unwrap_or_else(PoisonError::into_inner).commands = None;
        let _ = self.guard.wait();
    }
}

/// Lines of `postgresql.conf`.
fn configuration(options: &PostgresOptions) -> Vec<String> {
    let common = [("listen_addresses", "127.0.0.1"), ("max_connections", "300")];
    let fast = [
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
    ];
    let fast = fast.into_iter().filter(|_| options.durability == Durability::Fast);
    let further = options.settings.iter().map(|(name, value)| (*name, value.as_str()));
    common
        .into_iter()
        .chain(fast)
        .chain(further)
        .map(|(name, value)| format!("{name} = '{}'", value.replace('\'', "''")))
        .collect()
}

/// The directory with the server's programs, the newest if there are several.
#[must_use]
pub fn find_programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(PROGRAMS) {
        return has_programs(Path::new(&named)).then(|| named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|directory| has_programs(directory));
    on_path.or_else(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let numbered =
            versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry)));
        let directories = numbered.map(|(version, entry)| (version, entry.path().join("bin")));
        directories.filter(|(_, directory)| has_programs(directory)).max().map(|(_, directory)| directory)
    })
}

fn has_programs(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file())
}

/// The shell, not as root.
fn as_an_ordinary_user() -> Result<Command, PostgresError> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if id(&["-u"]).as_deref() != Some("0") {
        return Ok(Command::new("sh"));
    }
    let user = ["postgres", "nobody"].into_iter().find(|user| id(&["-u", user]).is_some());
    let user = user.ok_or(PostgresError::NoUser)?;
    let group = id(&["-g", user]).ok_or(PostgresError::NoUser)?;
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={group}"), "--init-groups".to_owned()]);
    command.arg("sh");
    Ok(command)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
