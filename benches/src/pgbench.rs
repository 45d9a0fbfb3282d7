//! What the database server can do at most: `pgbench` with the least SQL that a step needs, in prepared statements.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use vestibule_testkit::postgres::find_programs;

/// Connections at once, as many as the service has for commits.
pub(crate) const CONNECTIONS: u32 = 16;

/// How much a run does.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    Seconds(u32),
    TransactionsPerConnection(u32),
}

pub(crate) struct Pgbench {
    programs: PathBuf,
    url: String,
}

impl Pgbench {
    pub(crate) fn new(url: String) -> anyhow::Result<Self> {
        let found = find_programs().context("Postgres is not installed")?;
        // There may be links to only some of them.
        let server = found.join("postgres").canonicalize()?;
        let programs = server.parent().map_or(found, Path::to_owned);
        anyhow::ensure!(
            programs.join("pgbench").is_file(),
            "there is no pgbench beside the server's programs"
        );
        Ok(Self { programs, url })
    }

    /// Clears away what preparations have left, so that the server does not do so while something is measured.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
            let status =
                Command::new(self.programs.join("psql")).args(["-q", "-c", statement, &self.url]).status()?;
            anyhow::ensure!(status.success(), "{statement} has failed");
        }
        Ok(())
    }

    /// Transactions in a second of a script in `benches/pgbench`.
    pub(crate) fn rate(
        &self,
        script: &str,
        amount: Amount,
        variables: &[(&str, u32)],
    ) -> anyhow::Result<f64> {
        let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/pgbench")).join(script);
        let amount = match amount {
            Amount::Seconds(seconds) => ["-T".to_owned(), seconds.to_string()],
            Amount::TransactionsPerConnection(number) => ["-t".to_owned(), number.to_string()],
        };
        let mut command = Command::new(self.programs.join("pgbench"));
        command.args(["-n", "-M", "prepared", "-j", "2", "-c", &CONNECTIONS.to_string()]).args(amount);
        for (name, value) in variables {
            command.arg("-D").arg(format!("{name}={value}"));
        }
        let output = command.arg("-f").arg(script).arg(&self.url).output()?;
        let (text, problems) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "pgbench: {problems}");
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.with_context(|| format!("pgbench told no rate: {text}"))
    }
}
