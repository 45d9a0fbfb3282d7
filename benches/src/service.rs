//! The release binary as a process.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use vestibule_testkit::ample_limits;

use crate::client::{Client, request};
use crate::processor::Spent;

/// Who issues tokens, and for whom.
pub(crate) const ISSUER: &str = "http://bench";

pub(crate) struct Service {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Service {
    /// Starts the service over the data in the directory, or over a database server, and waits until it is ready. It logs what it logs
    /// by default, to a file.
    pub(crate) fn start(
        directory: &Path,
        database: Option<&str>,
        hash_threads: usize,
    ) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("vestibule");
        let mut command = Command::new(&binary);
        command
            .current_dir(directory)
            .env("VESTIBULE__HTTP__LISTEN", "127.0.0.1:0")
            .env("VESTIBULE__ADMIN__LISTEN", "127.0.0.1:0")
            .env("VESTIBULE__HASHING__THREADS", hash_threads.to_string())
            .envs(ample_limits().map(|(name, value)| (format!("VESTIBULE__{name}"), value)))
            .env("VESTIBULE__TOKENS__ISSUER", ISSUER)
            .stdout(Stdio::piped())
            .stderr(File::create(directory.join("log"))?);
        if let Some(url) = database {
            command.env("VESTIBULE__DATABASE__URL", url);
        }
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {}; build it in release mode first", binary.display()))?;
        let stdout = process.stdout.take().context("the service has no output")?;
        let mut address = None;
        for line in BufReader::new(stdout).lines() {
            if let Some((_, url)) = line?.split_once("listens on http://") {
                address = Some(url.trim().parse()?);
                break;
            }
        }
        let address = address.with_context(|| {
            let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
            format!("the service did not say where it listens: {log}")
        })?;
        let service = Self { process, address };
        let mut client = Client::connect(address)?;
        let ready = client.send(&request("GET", "/health/ready", None, ""))?;
        anyhow::ensure!(ready.status == 200, "the service is not ready");
        Ok(service)
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory that there ever was, in MiB.
    pub(crate) fn most_resident(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no resident size")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
    }

    /// Processor time that was spent until now, by whom.
    pub(crate) fn spent(&self) -> Spent {
        Spent::until_now(self.process.id())
    }

    /// Asks the service to stop and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg("-TERM").arg(self.process.id().to_string()).status()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
