//! The release binary as a process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use vestibule_testkit::ample_limits;
use vestibule_testkit::fleet::{Instance, service_binary};

use crate::client::{Client, request};
use crate::processor::Spent;

/// Who issues tokens, and for whom.
pub(crate) const ISSUER: &str = "http://bench";

pub(crate) struct Service {
    instance: Instance,
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
        let threads = ("HASHING__THREADS".to_owned(), hash_threads.to_string());
        Self::start_with(directory, database, [threads])
    }

    /// As [`Self::start`], with settings, by their names below `VESTIBULE__`.
    pub(crate) fn start_with(
        directory: &Path,
        database: Option<&str>,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(service_binary()?);
        command
            .current_dir(directory)
            .envs(ample_limits().chain(settings).map(|(name, value)| (format!("VESTIBULE__{name}"), value)))
            .env("VESTIBULE__TOKENS__ISSUER", ISSUER)
            .stderr(File::create(directory.join("log"))?);
        if let Some(url) = database {
            command.env("VESTIBULE__DATABASE__URL", url);
        }
        let instance = Instance::start(&mut command).with_context(|| {
            let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
            format!("{}, to be built in release mode first: {log}", command.get_program().display())
        })?;
        let address = instance.url().trim_start_matches("http://").parse()?;
        let service = Self { instance, address };
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
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.instance.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no resident size")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
    }

    /// Processor time that was spent until now, by whom.
    pub(crate) fn spent(&self) -> Spent {
        Spent::until_now(self.instance.id())
    }

    /// Asks the service to stop and waits until it has.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.instance.stop()?;
        Ok(())
    }
}
