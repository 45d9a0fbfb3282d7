//! The service as processes of its binary: one instance, or several over one database.
//!
//! For programs that run it from outside as it is deployed. Not here: tests in one process, which call the service's rooms directly.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an instance may take to come up; it ends and is started anew while the database is away.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long until it is started anew.
const START_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// The service's binary in the directory of the running program.
///
/// # Errors
/// When the directory is not known.
pub fn service_binary() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("vestibule"))
}

/// A running process of the service. Dropped, it is killed.
#[derive(Debug)]
pub struct Instance {
    process: Child,
    url: String,
    /// Held, so that the service may go on to speak.
    said: Lines<BufReader<ChildStdout>>,
}

impl Instance {
    /// Runs the command, one of the service, on free ports of loopback, and waits until it serves.
    ///
    /// # Errors
    /// When it cannot be run, or ends before it serves; why is where the command's standard error goes.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command
            .env("VESTIBULE__HTTP__LISTEN", "127.0.0.1:0")
            .env("VESTIBULE__ADMIN__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let Some(stdout) = process.stdout.take() else {
            return Err(io::Error::other("it has no output"));
        };
        let mut instance = Self { process, url: String::new(), said: BufReader::new(stdout).lines() };
        let mut said = instance.said.by_ref().map_while(Result::ok);
        let address = said.find_map(|line| Some(line.split_once("listens on ")?.1.trim().to_owned()));
        instance.url = address.ok_or_else(|| io::Error::other("it ended before it served"))?;
        Ok(instance)
    }

    /// Where it listens: `http://` and an address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn stop(mut self) -> io::Result<ExitStatus> {
        Command::new("kill").arg("-TERM").arg(self.id().to_string()).status()?;
        self.process.wait()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Instances of one configuration, which share a directory. Dropped, they are killed.
#[derive(Debug)]
pub struct Fleet {
    directory: PathBuf,
    variables: Vec<(String, String)>,
    instances: Vec<Mutex<Option<Instance>>>,
    turn: AtomicUsize,
}

impl Fleet {
    /// So many instances, none of which runs yet. Of two settings with one name, given as below `VESTIBULE__`, the later one counts.
    pub fn new(
        directory: &Path,
        instances: usize,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let variables = settings.into_iter().map(|(name, value)| (format!("VESTIBULE__{name}"), value));
        Self {
            directory: directory.to_owned(),
            variables: variables.collect(),
            instances: (0..instances).map(|_| Mutex::default()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// How many instances there are.
    #[expect(clippy::len_without_is_empty, reason = "a fleet is not a collection")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Starts all, the first one before the others: it makes the keys that they share.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub async fn start_all(self: &Arc<Self>) -> io::Result<()> {
        for index in 0..self.len() {
            Arc::clone(self).start(index).await?;
        }
        Ok(())
    }

    /// Starts an instance and waits until it serves.
    ///
    /// # Errors
    /// When it does not serve for long, however often it is started.
    pub async fn start(self: Arc<Self>, index: usize) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let fleet = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || fleet.launch(index)).await? {
                Ok(instance) => {
                    *self.instance(index)? = Some(instance);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
                Err(error) if begun.elapsed() > START_PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(START_AGAIN_AFTER).await,
            }
        }
    }

    /// Kills an instance as the machine's end would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, index: usize) -> io::Result<()> {
        let running = self.instance(index)?.take();
        running.map(drop).ok_or_else(|| io::Error::other("the instance does not run"))
    }

    /// The next instance that runs, each in its turn: its number, and where it listens.
    #[must_use]
    pub fn next(&self) -> Option<(usize, String)> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        (first..first + self.len()).find_map(|turn| {
            let index = turn % self.len();
            Some((index, self.instance(index).ok()?.as_ref()?.url().to_owned()))
        })
    }

    /// Runs a command of the service beside the instances, with their configuration; what it prints.
    ///
    /// # Errors
    /// When it fails; with what it prints as its reason.
    pub fn run(&self, arguments: &[&str]) -> io::Result<String> {
        let output = self.command()?.args(arguments).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        String::from_utf8(output.stdout).map_err(io::Error::other)
    }

    fn instance(&self, index: usize) -> io::Result<MutexGuard<'_, Option<Instance>>> {
        let instance = self.instances.get(index);
        let instance = instance.ok_or_else(|| io::Error::other("there is no such instance"))?;
        Ok(instance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn launch(&self, index: usize) -> io::Result<Instance> {
        let log = self.directory.join(format!("instance-{}.log", index + 1));
        let errors = File::options().create(true).append(true).open(&log)?;
        let mut command = self.command()?;
        Instance::start(command.env("RUST_LOG", "warn").stderr(errors)).map_err(|error| {
            let (binary, log) = (command.get_program().display(), log.display());
            io::Error::new(error.kind(), format!("instance {}, {binary}: {error}; its log: {log}", index + 1))
        })
    }

    fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(service_binary()?);
        command.current_dir(&self.directory).envs(self.variables.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}
