//! A database that cannot be used stops the start with a sentence that says what to do; and what is risky is warned of.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_postgres::Client;
use vestibule_testkit::postgres::{PostgresOptions, PostgresServer};

/// Of the user that may not come without one.
const PASSWORD: &str = "hush-hush";

/// A server that demands passwords of everybody but its superuser, and a session of that one.
async fn server() -> (Arc<PostgresServer>, Client) {
    let server = tokio::task::spawn_blocking(|| PostgresServer::start(&PostgresOptions::default()));
    let server = Arc::new(server.await.unwrap().unwrap());
    let client = server.client("postgres").await.unwrap();
    let role = format!("CREATE ROLE vestibule LOGIN PASSWORD '{PASSWORD}'");
    client.batch_execute(&role).await.unwrap();
    client.batch_execute("CREATE DATABASE vestibule OWNER vestibule").await.unwrap();
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    write(&client, "pg_hba.conf", rules).await;
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    (server, client)
}

/// Writes a file into the server's directory, as the server.
async fn write(client: &Client, name: &str, text: &str) {
    let lines: Vec<_> = text.lines().map(|line| format!("('{line}')")).collect();
    let program = format!("umask 077; cat > {name}");
    let copy = format!("COPY (VALUES {}) TO PROGRAM '{program}'", lines.join(", "));
    client.batch_execute(&copy).await.unwrap();
}

/// Runs a command with this database in the directory; its status and what it complained of.
/// One that serves although it should not is ended.
fn run(directory: &Path, url: &str, command: &str, migrate_on_start: bool) -> (Option<i32>, String) {
    let output = Command::new("timeout")
        .args(["15", env!("CARGO_BIN_EXE_vestibule")])
        .current_dir(directory)
        .args(command.split(' '))
        .env("RUST_LOG", "trace")
        .env("VESTIBULE__HTTP__LISTEN", "127.0.0.1:0")
        .env("VESTIBULE__ADMIN__LISTEN", "127.0.0.1:0")
        .env("VESTIBULE__DATABASE__URL", url)
        .env("VESTIBULE__DATABASE__MIGRATE_ON_START", migrate_on_start.to_string())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("hush"), "the password is told: {said}");
    (output.status.code(), said)
}

/// The service does not start, and its last line names the setting and says this.
fn assert_refused(url: &str, migrate_on_start: bool, advice: &str) {
    let directory = tempfile::tempdir().unwrap();
    let (status, said) = run(directory.path(), url, "serve", migrate_on_start);
    assert_eq!(status, Some(2), "{url}: {said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("vestibule: database.url: "), "{url}: {said}");
    assert!(last.contains(advice), "{url}: {said}");
}

fn assert_accepted(url: &str) {
    let directory = tempfile::tempdir().unwrap();
    let (status, said) = run(directory.path(), url, "check", true);
    assert_eq!(status, Some(0), "{url}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses() {
    let (server, client) = server().await;
    let at = format!("127.0.0.1:{}", server.port());
    assert_accepted(&format!("postgres://vestibule:{PASSWORD}@{at}/vestibule"));

    assert_refused(&format!("postgres://vestibule:hush@{at}/vestibule"), true, "check user and password");
    assert_refused(&format!("postgres://vestibule@{at}/vestibule"), true, "check user and password");
    assert_refused(&format!("postgres://nobody:hush@{at}/vestibule"), true, "check user and password");
    assert_refused(&format!("postgres://vestibule:{PASSWORD}@{at}/registry"), true, "create it first");
    let tls = format!("postgres://vestibule:{PASSWORD}@{at}/vestibule?sslmode=verify-full");
    assert_refused(&tls, true, "does not speak TLS");

    // Nobody but the owner may make tables here, from version 15 on.
    client.batch_execute("CREATE DATABASE others").await.unwrap();
    let others = server.client("others").await.unwrap();
    others.batch_execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await.unwrap();
    let others = format!("postgres://vestibule:{PASSWORD}@{at}/others");
    assert_refused(&others, true, "must own the database");

    client.batch_execute("ALTER ROLE vestibule CONNECTION LIMIT 0").await.unwrap();
    let full = format!("postgres://vestibule:{PASSWORD}@{at}/vestibule");
    assert_refused(&full, true, "no connection left");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_version() {
    let (server, client) = server().await;
    let url = format!("postgres://vestibule:{PASSWORD}@127.0.0.1:{}/vestibule", server.port());
    assert_refused(&url, false, "run `vestibule migrate`");
    assert_migrates(&url);
    drop(client);
    let client = server.client("vestibule").await.unwrap();
    client.batch_execute(OF_A_NEWER_VERSION).await.unwrap();
    assert_newer(&url);
}

#[test]
fn a_file_of_another_version() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vestibule.db");
    let url = format!("sqlite://{}", path.display());
    assert_refused(&url, false, "run `vestibule migrate`");
    assert!(!path.exists(), "a file was made");
    assert_migrates(&url);
    change(&path, OF_A_NEWER_VERSION);
    assert_newer(&url);
}

/// As if a newer version had migrated.
const OF_A_NEWER_VERSION: &str = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')";

/// Changes a file of SQLite's past the service.
fn change(path: &Path, statements: &str) {
    vestibule_testkit::sqlite::execute(path, statements).unwrap();
}

/// The tables are brought up to date, and that is told once.
fn assert_migrates(url: &str) {
    let directory = tempfile::tempdir().unwrap();
    let [told, told_again] = [false, true].map(|again| {
        let (status, said) = run(directory.path(), url, "migrate", false);
        assert_eq!(status, Some(0), "{url} {again}: {said}");
        let changes =
            said.lines().filter(|line| line.contains("INFO") && line.contains("the tables are changed"));
        changes.map(str::to_owned).collect::<Vec<_>>()
    });
    let migrations = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite"));
    let mut names: Vec<_> =
        migrations.unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(told.len(), names.len(), "{told:?}");
    assert!(told.iter().zip(names).all(|(line, name)| line.contains(&name)), "{told:?}");
    assert_eq!(told_again, [""; 0]);
}

/// Nobody uses tables of a newer version.
fn assert_newer(url: &str) {
    assert_refused(url, true, "start that version");
    assert_refused(url, false, "start that version");
    let directory = tempfile::tempdir().unwrap();
    for command in ["check", "migrate", "audit --phone +447871234567"] {
        let (status, said) = run(directory.path(), url, command, true);
        assert_eq!(status, Some(2), "{command}: {said}");
        assert!(said.contains("start that version"), "{command}: {said}");
    }
}

/// Commands that only look, or work beside instances, refuse tables that are older, or not there; `check` tells of them, and that the
/// start would refuse them, if it would.
fn assert_only_told(url: &str) {
    let directory = tempfile::tempdir().unwrap();
    let user = "0197e0c0-0000-7000-8000-000000000000";
    for command in [
        "audit --phone +447871234567",
        "block --phone +447871234567",
        &format!("unblock --user {user}"),
        "guard report",
    ] {
        let (status, said) = run(directory.path(), url, command, true);
        assert_eq!(status, Some(2), "{command}: {said}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("vestibule: database.url: "), "{command}: {said}");
        assert!(last.ends_with("run `vestibule migrate`"), "{command}: {said}");
    }
    for (migrates, status_told, told) in [
        (true, Some(0), "run `vestibule migrate`, or let the next start do it\n"),
        (false, Some(2), "run `vestibule migrate`\n"),
    ] {
        let (status, said) = run(directory.path(), url, "check", migrates);
        assert_eq!(status, status_told, "{said}");
        assert!(said.contains(told) && said.contains("\nworst daily bill: "), "{said}");
    }
}

#[test]
fn commands_that_only_look_leave_a_file_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vestibule.db");
    let url = format!("sqlite://{}", path.display());
    assert_only_told(&url);
    assert!(!path.exists(), "a file was made");
    assert_migrates(&url);
    let (status, said) = run(directory.path(), &url, "check", false);
    assert!(status == Some(0) && said.contains("database: ok\n"), "{said}");
    change(&path, "DROP TABLE held_codes; DELETE FROM __diesel_schema_migrations WHERE version > '20261129'");
    assert_only_told(&url);
    // Had anybody made the table anew, this would fail.
    change(&path, "CREATE TABLE held_codes (id INTEGER)");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_only_look_leave_tables_as_they_are() {
    let (server, _client) = server().await;
    let url = format!("postgres://vestibule:{PASSWORD}@127.0.0.1:{}/vestibule", server.port());
    assert_only_told(&url);
    let client = server.client("vestibule").await.unwrap();
    let made = client.query("SELECT FROM pg_tables WHERE schemaname = 'public'", &[]).await.unwrap();
    assert!(made.is_empty(), "tables were made");
    assert_migrates(&url);
    let (status, said) = run(tempfile::tempdir().unwrap().path(), &url, "check", false);
    assert!(status == Some(0) && said.contains("database: ok\n"), "{said}");
    let older = "DROP TABLE held_codes; DELETE FROM __diesel_schema_migrations WHERE version > '20261129'";
    client.batch_execute(older).await.unwrap();
    assert_only_told(&url);
    client.batch_execute("CREATE TABLE held_codes (id integer)").await.unwrap();
}

#[test]
fn nobody_at_the_address_and_no_address() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let away = format!("127.0.0.1:{port}");
    assert_refused(&format!("postgres://vestibule:hush@{away}/vestibule"), true, "is it running");
    assert_refused(&format!("postgres://vestibule:hush@{away},{away}/vestibule"), true, "is it running");
    assert_refused(
        "postgres://vestibule:hush@vestibule.invalid/vestibule?sslmode=disable",
        true,
        "is it running",
    );
    for nonsense in [
        "hush",
        "mysql://vestibule:hush@localhost/b",
        "postgres://vestibule:hush@localhost",
        "postgres://:hush@/b",
    ] {
        assert_refused(nonsense, true, "postgres://user:password@host:port/database");
    }
    assert_refused("postgres://a:hush@localhost/b?sslmode=prefer", true, "`verify-full` or `disable`");
    let no_roots = "postgres://a:hush@localhost/b?sslmode=verify-full&sslrootcert=/no/such/file";
    assert_refused(no_roots, true, "name a PEM file with `sslrootcert`");
}

/// An authority, and a certificate and key of a server of this name.
fn certificates(name: &str) -> (String, String, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    (authority.pem(), certificate.pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_must_be_of_a_trusted_authority_and_of_this_name() {
    let (server, client) = server().await;
    let (authority, certificate, key) = certificates("localhost");
    write(&client, "server.crt", &certificate).await;
    write(&client, "server.key", &key).await;
    client.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right.pem", &authority), file("wrong.pem", &certificates("localhost").0));
    let url = |host: &str, roots: &str| {
        let port = server.port();
        format!(
            "postgres://vestibule:{PASSWORD}@{host}:{port}/vestibule?sslmode=verify-full&sslrootcert={roots}"
        )
    };
    assert_accepted(&url("localhost", &right));
    assert_refused(&url("localhost", &wrong), true, "`sslrootcert`");
    assert_refused(&url("127.0.0.1", &right), true, "name");
    assert_refused(&url("localhost", &file("empty.pem", "")), true, "name a PEM file with `sslrootcert`");
}

/// What the service logs in the directory until it serves.
fn logged_at_the_start(directory: &Path, variables: &[(&str, &str)]) -> Vec<String> {
    let mut process = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .current_dir(directory)
        .env("VESTIBULE__HTTP__LISTEN", "127.0.0.1:0")
        .env("VESTIBULE__ADMIN__LISTEN", "127.0.0.1:0")
        .envs(variables.iter().map(|(name, value)| (format!("VESTIBULE__{name}"), value)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut logged = Vec::new();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    while logged.last().is_none_or(|line: &String| !line.contains("serving")) {
        let line = lines.next();
        assert!(line.is_some(), "it does not serve: {logged:?}");
        logged.extend(line);
    }
    process.kill().unwrap();
    process.wait().unwrap();
    logged
}

/// The fenced blocks of a section of the operator's page, in their order.
fn blocks(section: &str) -> Vec<&'static str> {
    let page = include_str!("../../../docs/operations.md");
    let (_, section) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let fenced = section.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap().1).collect()
}

#[test]
fn the_first_start_in_production_is_as_the_operators_page_says() {
    let directory = tempfile::tempdir().unwrap();
    let [file, commands] = blocks("First start in production")[..] else { panic!("a file, then commands") };
    assert_eq!(file.lines().count(), 10);
    std::fs::write(directory.path().join("vestibule.toml"), file).unwrap();
    let (set, commands): (Vec<_>, Vec<_>) =
        commands.lines().partition(|line| line.starts_with("export VESTIBULE__"));
    let set = set.iter().map(|line| line.trim_start_matches("export VESTIBULE__").split_once('=').unwrap());
    let mut variables: Vec<_> = set.collect();
    let data = directory.path().join("data");
    variables.push(("DATA_DIR", data.to_str().unwrap()));
    assert_eq!(commands, ["vestibule keys init", "vestibule migrate", "vestibule check", "vestibule"]);

    let run = |command: &str| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        process.args(command.split(' ').skip(1)).current_dir(directory.path());
        process.envs(variables.iter().map(|(name, value)| (format!("VESTIBULE__{name}"), value)));
        let output = process.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let assert_missing = |key: &str| {
        let (status, said) = run("vestibule check");
        assert_eq!(status, Some(2), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with(&format!("vestibule: {key}: ")), "{said}");
        assert!(last.contains("run `vestibule keys init`"), "{said}");
        assert_eq!(last.matches(data.to_str().unwrap()).count(), 1, "{said}");
    };
    assert_missing("secrets.master_key_file");
    assert_eq!(run("vestibule keys init").0, Some(0));
    std::fs::remove_file(data.join("token.keys")).unwrap();
    assert_missing("secrets.token_key_file");

    for command in &commands[..3] {
        let (status, said) = run(command);
        assert_eq!(status, Some(0), "{command}: {said}");
    }
    let (_, checked) = run("vestibule check");
    assert!(
        checked.contains("database: ok\n") && checked.contains("worst daily bill: 100.00 USD\n"),
        "{checked}"
    );
    logged_at_the_start(directory.path(), &variables);
}

#[test]
fn in_production_bills_without_an_end_are_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let warnings = |more: &[(&str, &str)]| {
        let variables = [
            ("HTTP__PUBLIC_URL", "https://id.example.com"),
            ("HTTP__TRUSTED_PROXIES", ""),
            ("SMS__PROVIDERS", "twilio"),
            ("SMS__TWILIO__ACCOUNT_SID", "AC1"),
            ("SMS__TWILIO__AUTH_TOKEN", "x"),
            ("SMS__TWILIO__FROM", "+15005550006"),
            ("EMAIL__TRANSPORT", "smtp"),
            ("EMAIL__FROM", "Example <no-reply@example.com>"),
            ("EMAIL__SMTP__URL", "smtps://mail.example.com"),
        ];
        let lines = logged_at_the_start(directory.path(), &[&variables, more].concat());
        lines.into_iter().filter(|line| line.contains("spending.per_day")).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&[]), [""; 0], "a developer pays nobody; the keys are made here");
    let warned = warnings(&[("ENVIRONMENT", "production")]).concat();
    assert!(warned.contains("WARN") && warned.contains("worst daily bill: unlimited"), "{warned}");
    assert_eq!(warnings(&[("ENVIRONMENT", "production"), ("SPENDING__PER_DAY", "100")]), [""; 0]);
}
