//! The instances of the service, as processes of the release binary.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use vestibule_testkit::ample_limits;

use crate::post::Post;

/// How many instances there are.
const INSTANCES: usize = 4;

/// How long an instance may take to come up; it ends and is started anew while the database is away.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What links begin with. The instances have ports of their own, so a link's path is asked of any of them.
pub(crate) const PUBLIC_URL: &str = "http://vestibule.example";

/// All instances.
pub(crate) struct Fleet {
    directory: PathBuf,
    variables: Vec<(String, String)>,
    instances: Vec<Mutex<Option<Instance>>>,
    turn: AtomicUsize,
}

struct Instance {
    process: Child,
    url: String,
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Fleet {
    pub(crate) fn new(directory: &Path, database: &str, post: &Post) -> Self {
        let variables = [
            ("HTTP__LISTEN", "127.0.0.1:0"),
            ("HTTP__PUBLIC_URL", PUBLIC_URL),
            // Every person has an address of their own.
            ("HTTP__TRUSTED_PROXIES", "127.0.0.0/8"),
            ("ADMIN__LISTEN", "127.0.0.1:0"),
            ("DATABASE__URL", database),
            ("DATABASE__POOL_SIZE", "8"),
            // The load is on the storage, not on the hash.
            ("HASHING__MEMORY_KIB", "64"),
            ("HASHING__ITERATIONS", "1"),
            ("HASHING__THREADS", "1"),
            ("LIMITS__SIGNUP_PER_PHONE_PER_DAY", "1000"),
        ];
        let variables = variables.map(|(name, value)| (name, value.to_owned())).into_iter();
        let variables = variables.chain(post.variables()).map(|(name, value)| (name.to_owned(), value));
        let variables = variables.chain(ample_limits());
        let variables = variables.map(|(name, value)| (format!("VESTIBULE__{name}"), value));
        let instances = (0..INSTANCES).map(|_| Mutex::default()).collect();
        let (directory, turn) = (directory.to_owned(), AtomicUsize::new(0));
        Self { directory, variables: variables.collect(), instances, turn }
    }

    pub(crate) fn len(&self) -> usize {
        self.instances.len()
    }

    /// Starts all, the first one before the others: it makes the keys that they share.
    pub(crate) async fn start_all(self: &Arc<Self>) -> anyhow::Result<()> {
        for index in 0..self.len() {
            Arc::clone(self).start(index).await?;
        }
        Ok(())
    }

    /// Starts an instance and waits until it serves.
    pub(crate) async fn start(self: Arc<Self>, index: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let fleet = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || fleet.launch(index)).await? {
                Ok(instance) => {
                    *self.instance(index)? = Some(instance);
                    return Ok(());
                }
                Err(error) if begun.elapsed() > START_PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Kills an instance as the machine's end would.
    pub(crate) fn kill(&self, index: usize) -> anyhow::Result<()> {
        self.instance(index)?.take().context("the instance does not run")?;
        Ok(())
    }

    /// The next instance that runs, each in its turn, with its number.
    pub(crate) fn next(&self) -> Option<(usize, String)> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        (first..first + self.len()).find_map(|turn| {
            let index = turn % self.len();
            Some((index, self.instance(index).ok()?.as_ref()?.url.clone()))
        })
    }

    fn instance(&self, index: usize) -> anyhow::Result<MutexGuard<'_, Option<Instance>>> {
        let instance = self.instances.get(index).context("there is no such instance")?;
        Ok(instance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn launch(&self, index: usize) -> anyhow::Result<Instance> {
        let binary = std::env::current_exe()?.with_file_name("vestibule");
        let log = self.directory.join(format!("instance-{}.log", index + 1));
        let log = File::options().create(true).append(true).open(log)?;
        let mut process = Command::new(&binary)
            .current_dir(&self.directory)
            .env("RUST_LOG", "warn")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}; build it first", binary.display()))?;
        let stdout = process.stdout.take().context("the service has no output")?;
        let mut instance = Instance { process, url: String::new() };
        let said = BufReader::new(stdout).lines().map_while(Result::ok);
        let mut addresses = said.filter_map(|line| Some(line.split_once("listens on ")?.1.trim().to_owned()));
        instance.url = addresses.next().with_context(|| {
            format!("instance {} did not start; its log is in {}", index + 1, self.directory.display())
        })?;
        Ok(instance)
    }
}
