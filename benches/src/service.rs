//! The release binary as a process.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

pub(crate) struct Service {
    process: Child,
    pub(crate) url: String,
}

impl Service {
    /// Starts the service over the data in the directory and waits until it is ready.
    pub(crate) async fn start(directory: &Path, threads: usize) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("vestibule");
        let mut process = Command::new(&binary)
            .current_dir(directory)
            .env("RUST_LOG", "warn")
            .env("VESTIBULE__HTTP__LISTEN", "127.0.0.1:0")
            .env("VESTIBULE__ADMIN__LISTEN", "127.0.0.1:0")
            .env("VESTIBULE__HASHING__THREADS", threads.to_string())
            .env("VESTIBULE__LIMITS__SIGNUP_PER_IP_PER_HOUR", "1000000")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}; build it in release mode first", binary.display()))?;
        let stdout = process.stdout.take().context("the service has no output")?;
        let mut url = None;
        for line in BufReader::new(stdout).lines() {
            if let Some((_, address)) = line?.split_once("listens on ") {
                url = Some(address.trim().to_owned());
                break;
            }
        }
        let url = url.context("the service did not say where it listens")?;
        let service = Self { process, url };
        let ready = reqwest::get(format!("{}/health/ready", service.url)).await?;
        anyhow::ensure!(ready.status().is_success(), "the service is not ready");
        Ok(service)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident size")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
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
