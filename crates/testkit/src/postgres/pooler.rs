use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use url::Url;

use super::{PostgresError, as_an_ordinary_user, free_port};

const GUARD: &str = include_str!("pooler.sh");

/// When a session of the pooler's clients has a session of the server for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// As long as it lasts.
    Session,
    /// For a transaction.
    Transaction,
}

/// A running PgBouncer on loopback. Dropped, it is gone.
#[derive(Debug)]
pub struct PgBouncer {
    guard: Child,
    commands: Option<ChildStdin>,
    port: u16,
}

impl PgBouncer {
    /// The version of the machine's PgBouncer, if it has one: `(1, 21)`.
    #[must_use]
    pub fn version() -> Option<(u32, u32)> {
        let output = Command::new(find_program()?).arg("--version").output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = said.lines().next()?.rsplit(' ').next()?.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Starts in front of all databases of the server that the URL names. Lets everybody in as the URL's user.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub fn start(server: &str, pooling: Pooling) -> Result<Self, PostgresError> {
        let program = find_program().ok_or(PostgresError::NotInstalled)?;
        let port = free_port()?;
        let mut guard = as_an_ordinary_user()?;
        guard.args(["-c", GUARD, "vestibule-pooler-guard"]).arg(program);
        guard.args(configuration(server, pooling, port)?);
        let mut guard = guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = guard.stdout.take();
        let pooler = Self { commands: guard.stdin.take(), guard, port };
        let mut answer = String::new();
        if let Some(answers) = answers {
            BufReader::new(answers).read_line(&mut answer)?;
        }
        if answer.trim() == "ok" { Ok(pooler) } else { Err(PostgresError::Start(answer)) }
    }

    /// The URL of one of the server's databases, through the pooler.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.guard.wait();
    }
}

/// Lines of `pgbouncer.ini`.
fn configuration(server: &str, pooling: Pooling, port: u16) -> Result<Vec<String>, PostgresError> {
    let url = Url::parse(server).map_err(|error| PostgresError::Refused(error.to_string()))?;
    let host = url.host_str().unwrap_or("127.0.0.1");
    let mut target = format!("* = host={host} port={} user={}", url.port().unwrap_or(5432), url.username());
    if let Some(password) = url.password() {
        target = format!("{target} password='{password}'");
    }
    let mode = match pooling {
        Pooling::Session => "session",
        Pooling::Transaction => "transaction",
    };
    let mut lines = vec![
        "[databases]".to_owned(),
        target,
        "[pgbouncer]".to_owned(),
        "listen_addr = 127.0.0.1".to_owned(),
        format!("listen_port = {port}"),
        "unix_socket_dir =".to_owned(),
        "auth_type = any".to_owned(),
        format!("pool_mode = {mode}"),
        "default_pool_size = 50".to_owned(),
    ];
    if pooling == Pooling::Transaction {
        lines.push("max_prepared_statements = 100".to_owned());
    }
    Ok(lines)
}

fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories.map(|directory| directory.join("pgbouncer")).find(|program| program.is_file())
}
