//! The binary as a process, and a client with verbs.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use vestibule_testkit::postgres::{PgBouncer, Pooling, TestDatabase, TestDatabases};
use vestibule_testkit::{FakeGateway, MailServer, Options, ample_limits};

/// Longer than the lease of a message whose sender was killed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const PASSWORD: &str = "correct-horse-7";

/// The service as it runs somewhere, with a gateway and a mail server beside it.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) gateway: FakeGateway,
    pub(crate) mail: MailServer,
    pub(crate) variables: Vec<(String, String)>,
    /// Between the service and its database.
    _pooler: Option<PgBouncer>,
    server: Option<TestDatabase>,
}

/// What the service keeps everything in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

impl World {
    pub(crate) async fn new(database: Database) -> Self {
        let gateway = FakeGateway::start().await.unwrap();
        let mail = MailServer::start(Options::default()).await.unwrap();
        let variables = [
            ("EMAIL__TRANSPORT", "smtp".to_owned()),
            ("EMAIL__FROM", "Vestibule <no-reply@example.com>".to_owned()),
            ("EMAIL__SMTP__URL", mail.url()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into_iter();
        let variables = variables.chain(gateway.settings()).chain(ample_limits());
        let variables = variables.map(|(name, value)| (format!("VESTIBULE__{name}"), value)).collect();
        let directory = tempfile::tempdir().unwrap();
        let world = Self { directory, gateway, mail, variables, _pooler: None, server: None };
        match database {
            Database::Sqlite => world,
            Database::Postgres => {
                // Empty: the service makes its tables itself.
                let server = TestDatabases::create(async |_| {}).await.unwrap();
                let world = world.with("DATABASE__URL", &server.url);
                Self { server: Some(server), ..world }
            }
        }
    }

    /// On Postgres, through a pooler; `None`, and why is printed, where this machine has none that can do it.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    pub(crate) async fn behind_pgbouncer(pooling: Pooling) -> Option<Self> {
        match (PgBouncer::version(), pooling) {
            (None, _) => println!("skipped: PgBouncer is not installed"),
            (Some(version), Pooling::Transaction) if version < (1, 21) => {
                println!(
                    "skipped: PgBouncer {version:?} does not keep prepared statements in transaction mode"
                );
            }
            (Some(_), _) => {
                let world = Self::new(Database::Postgres).await;
                let direct = &world.server.as_ref().unwrap().url;
                let pooler = PgBouncer::start(direct, pooling).unwrap();
                let pooled = pooler.url(direct.rsplit('/').next().unwrap());
                let world = world.with("DATABASE__URL", &pooled);
                return Some(Self { _pooler: Some(pooler), ..world });
            }
        }
        None
    }

    /// Every file and every row, with where it is.
    pub(crate) async fn everything_kept(&self) -> Vec<(String, Vec<u8>)> {
        let read = |path: PathBuf| (path.display().to_string(), std::fs::read(&path).unwrap());
        let mut kept: Vec<_> = files(self.directory.path()).into_iter().map(read).collect();
        if let Some(server) = &self.server {
            let dump = server.dump().await.unwrap();
            assert!(dump.contains("accounts"), "{dump}");
            kept.push(("the database".to_owned(), dump.into_bytes()));
        }
        kept
    }

    /// Changes the database past the service.
    pub(crate) async fn tamper(&self, statement: &str) {
        if let Some(server) = &self.server {
            server.tamper(statement).await.unwrap();
        } else {
            let path = self.directory.path().join("data/vestibule.db");
            vestibule_testkit::sqlite::execute(&path, statement).unwrap();
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((format!("VESTIBULE__{name}"), value.to_owned()));
        self
    }

    /// Runs a command of the binary beside the service; what it prints.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        let output =
            command.args(arguments).current_dir(self.directory.path()).envs(variables).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn start(&self) -> Service {
        Service::start(self.directory.path(), &self.variables, "trace")
    }

    /// As [`World::start`], with files that can't grow over so many blocks of 512 bytes: for it, the disk is full then.
    pub(crate) fn start_on_a_small_disk(&self, blocks: u32) -> Service {
        let mut shell = Command::new("sh");
        // Without the trap the signal would end the process before it sees the error.
        shell.args([
            "-c",
            "trap '' XFSZ; ulimit -S -f $1; exec \"$0\"",
            env!("CARGO_BIN_EXE_vestibule"),
            &blocks.to_string(),
        ]);
        Service::start_by(shell, self.directory.path(), &self.variables, "trace")
    }

    /// The code that the gateway was given for the number.
    pub(crate) async fn code(&self, phone: &str) -> String {
        let sms = self.gateway.wait_for(phone, 1, PATIENCE).await.expect("no SMS came");
        sms.code().expect("no code in it").to_owned()
    }

    pub(crate) async fn link(&self, address: &str) -> String {
        let mail = self.mail.wait_for(address, PATIENCE).await.expect("no mail came");
        let text = mail.part("text/plain").unwrap();
        text.split_whitespace().find(|word| word.starts_with("http://")).expect("no link in it").to_owned()
    }
}

pub(crate) struct Service {
    process: Child,
    pub(crate) url: String,
    client: Client,
    log: Arc<Mutex<String>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Service {
    pub(crate) fn start(directory: &Path, variables: &[(String, String)], log_level: &str) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_vestibule")), directory, variables, log_level)
    }

    fn start_by(mut by: Command, directory: &Path, variables: &[(String, String)], log_level: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut process = by
            .current_dir(directory)
            .env("RUST_LOG", log_level)
            // Nobody is there: what is on this machine is not asked by way of a proxy.
            .env("HTTP_PROXY", "http://127.0.0.1:9")
            .env("ALL_PROXY", "http://127.0.0.1:9")
            .env("VESTIBULE__HTTP__LISTEN", "127.0.0.1:0")
            .env("VESTIBULE__ADMIN__LISTEN", "127.0.0.1:0")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = process.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let reading = {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                let mut chunk = [0; 8192];
                while let Ok(length @ 1..) = stderr.read(&mut chunk) {
                    log.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..length]));
                }
            })
        };
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let said = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("listens on ")?.1.trim().to_owned()));
        let url = said.unwrap_or_else(|| panic!("it did not start:\n{}", log.lock().unwrap()));
        let client = Client::builder().timeout(PATIENCE).build().unwrap();
        Self { process, url, client, log, reading: Some(reading) }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// As the machine would on losing power to the process.
    pub(crate) fn kill(mut self) -> String {
        self.process.kill().unwrap();
        self.end()
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&self) {
        let status = Command::new("kill").arg("-TERM").arg(self.process.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Asks it to stop, and waits until it has; its status must be good.
    pub(crate) fn stop(mut self) -> String {
        self.ask_to_stop();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
        self.end()
    }

    /// Waits until the log holds the text.
    pub(crate) async fn until_logged(&self, text: &str) {
        let logged = async {
            while !self.log.lock().unwrap().contains(text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, logged).await.expect("it was not logged");
    }

    /// Where the operator's listener is.
    pub(crate) async fn admin_url(&self) -> String {
        self.until_logged("serving address=").await;
        let log = self.log.lock().unwrap();
        let address = log.split("admin=").nth(1).unwrap().split_whitespace().next().unwrap();
        format!("http://{address}")
    }

    fn end(&mut self) -> String {
        self.process.wait().unwrap();
        self.reading.take().unwrap().join().unwrap();
        self.log.lock().unwrap().clone()
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        self.try_call(method, path, token, body).await.unwrap()
    }

    pub(crate) async fn try_call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok(Answer { status, retry_after, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }

    pub(crate) async fn sign_up(&self, phone: &str) -> Answer {
        let body = json!({ "phone": phone, "password": PASSWORD });
        self.call(Method::POST, "/v2/mobile/signup", None, Some(body)).await
    }

    pub(crate) async fn confirm(&self, phone: &str, code: &str) -> Answer {
        let body = json!({ "phone": phone, "smsCode": code });
        self.call(Method::POST, "/v2/mobile/phone/confirm", None, Some(body)).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, Some(token), None).await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The files of a directory and below.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}
