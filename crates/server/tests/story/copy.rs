//! An installation moves from SQLite to Postgres, and its people notice nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use vestibule_port_storage::{Changes, NumberDigest, Storage as _};
use vestibule_postgres::Postgres;
use vestibule_sqlite::{Migrate, Sqlite};
use vestibule_testkit::archive_contract;
use vestibule_testkit::postgres::{TestDatabase, TestDatabases};
use vestibule_testkit::{Behaviour, FakeGateway};

use super::harness::{Database, Service, World, files};
use super::{PHONE, live, phone, text};

async fn empty_database() -> TestDatabase {
    TestDatabases::create(async |_| {}).await.unwrap()
}

fn copying(directory: &Path, file: &str, to: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    // By the configuration, as an operator would whose password nobody is to see.
    command.current_dir(directory).args(["copy", "--from", &format!("sqlite://{file}")]);
    command.env("VESTIBULE__DATABASE__URL", to);
    command
}

/// Copies; standard output. It must succeed.
fn copy(directory: &Path, file: &str, to: &str) -> String {
    let output = copying(directory, file, to).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("checking deliveries: "), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Copies, which must be refused; the sentence.
fn refused(directory: &Path, file: &str, to: &str) -> String {
    let output = copying(directory, file, to).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let said = said(&output);
    said.lines().last().unwrap().strip_prefix("vestibule: ").expect(&said).to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The database and the log beside it.
fn kept(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let of_database =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "db" || extension == "db-wal");
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    files(directory)
        .into_iter()
        .filter(of_database)
        .map(read)
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_go_on_where_they_were_before_the_move() {
    let mut world = World::new(Database::Sqlite).await.with("TOKENS__ISSUER", "https://example.com");
    let service = world.start();
    let (token, user) = live(&world, &service, PHONE, "anna@example.com").await;
    assert_eq!(service.sign_up(&phone(1)).await.status, 200);
    let pending = world.code(&phone(1)).await;
    let wrong = if pending == "000000" { "000001" } else { "000000" };
    assert_eq!(service.confirm(&phone(1), wrong).await.body["data"]["attemptsLeft"], 4);
    world.gateway.set_behaviour(Behaviour::RespondWith {
        status: 400,
        headers: vec![],
        body: r#"{"code":21211,"message":"no such number"}"#.to_owned(),
    });
    let requests = world.gateway.requests();
    assert_eq!(service.sign_up(&phone(2)).await.status, 200);
    assert!(world.gateway.wait_for_requests(requests + 1, super::PATIENCE).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let gateway = world.gateway.address();
    world.gateway.stop().await;
    assert_eq!(service.sign_up(&phone(3)).await.status, 200);
    service.kill();

    let before = kept(world.directory.path());
    let target = empty_database().await;
    let out = copy(world.directory.path(), "data/vestibule.db", &target.url);
    assert!(out.contains("registrations: 4 copied and equal\naccounts: 1 copied and equal\n"), "{out}");
    assert!(out.contains("messages: 2 copied and equal\n"), "{out}");
    assert!(out.contains("Copy the key files too"), "{out}");
    assert_eq!(kept(world.directory.path()), before, "the source has changed");
    assert_eq!(target.tamper("UPDATE messages SET kind = kind WHERE dead").await.unwrap(), 1);

    world.gateway = FakeGateway::start_on(gateway).await.unwrap();
    let moved = world.with("DATABASE__URL", &target.url);
    let service = moved.start();
    let seen = service.get("/v2/customer/profile", &token).await;
    assert_eq!(text(&seen, "userId"), user);
    assert_eq!(text(&seen, "firstName"), "Annabella");
    assert_eq!(seen.body["confirmedEmail"], true);
    assert_eq!(text(&service.get("/v2/customer/kyc/data", &token).await, "kycLevel"), "KYC_0");
    assert_eq!(service.confirm(&phone(1), wrong).await.body["data"]["attemptsLeft"], 3);
    let confirmed = service.confirm(&phone(1), &pending).await;
    assert_eq!(
        text(&service.get("/v2/customer/profile", &text(&confirmed, "access_token")).await, "phone"),
        phone(1)
    );
    assert_eq!(service.sign_up(PHONE).await.body["errorId"], 115);
    // The message that waited leaves from here.
    assert_eq!(service.confirm(&phone(3), &moved.code(&phone(3)).await).await.status, 200);
    drop::<Service>(service);
    let late = refused(moved.directory.path(), "data/vestibule.db", &target.url);
    assert!(late.contains("is no part of a copy of this source"), "{late}");
}

/// A database with something of everything, and many used numbers.
async fn fill(path: &Path, numbers: u16) {
    let storage = Arc::new(Sqlite::open(path, 1, Migrate::Yes).unwrap());
    archive_contract::commit(&*storage).await;
    use_numbers(&storage, numbers).await;
}

async fn use_numbers(storage: &Arc<Sqlite>, numbers: u16) {
    let commits: Vec<_> = (0..numbers)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let mut digest = [0; 32];
            (digest[0], digest[1]) = (high, low);
            let storage = Arc::clone(storage);
            let changes = Changes { used_number: Some(NumberDigest(digest)), ..Changes::default() };
            tokio::spawn(async move { storage.commit(changes).await })
        })
        .collect();
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
}

/// Begins to copy, and kills that; how many used numbers have arrived.
async fn interrupt(directory: &Path, file: &str, target: &TestDatabase) -> u64 {
    let arrived = async || target.tamper("UPDATE used_numbers SET digest = digest").await.unwrap_or_default();
    let mut first = copying(directory, file, &target.url);
    let mut first = first.args(["--page", "1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while arrived().await < 5 {
        assert!(first.try_wait().unwrap().is_none(), "it has ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.kill().unwrap();
    first.wait().unwrap();
    arrived().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_killed_goes_on_and_what_was_altered_is_found() {
    let directory = tempfile::tempdir().unwrap();
    fill(&directory.path().join("a.db"), 1500).await;
    let before = kept(directory.path());
    let target = empty_database().await;
    assert!(interrupt(directory.path(), "a.db", &target).await < 1502, "it was complete already");

    let out = copy(directory.path(), "a.db", &target.url);
    assert!(out.contains("used_numbers: 1502 copied and equal\n"), "{out}");
    assert_eq!(copy(directory.path(), "a.db", &target.url), out, "again");
    assert_eq!(kept(directory.path()), before, "the source has changed");

    target.tamper("UPDATE messages SET tries = 9 WHERE dead").await.unwrap();
    let found = refused(directory.path(), "a.db", &target.url);
    assert!(found.contains("record 3 of `messages`"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_copy_is_not_served() {
    let world = World::new(Database::Sqlite).await;
    drop(world.start());
    let file = "data/vestibule.db";
    let storage = Arc::new(Sqlite::open(&world.directory.path().join(file), 1, Migrate::No).unwrap());
    use_numbers(&storage, 1500).await;
    drop(storage);
    let target = empty_database().await;
    let moved = world.with("DATABASE__URL", &target.url);
    let directory = moved.directory.path();
    assert!(interrupt(directory, file, &target).await < 1500, "it was complete already");

    for key_is_lost in ["false", "true"] {
        // One that serves although it should not is ended.
        let mut serve = Command::new("timeout");
        serve.args(["15", env!("CARGO_BIN_EXE_vestibule")]).current_dir(directory);
        serve.envs(moved.variables.iter().map(|(name, value)| (name, value)));
        serve.env("VESTIBULE__HTTP__LISTEN", "127.0.0.1:0").env("VESTIBULE__ADMIN__LISTEN", "127.0.0.1:0");
        serve.env("VESTIBULE__SECRETS__NUMBERS_KEY_IS_LOST", key_is_lost);
        let output = serve.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let sentence =
            "vestibule: database.url: a copy into this database is not complete: run `vestibule copy` again";
        assert_eq!(said(&output).lines().last(), Some(sentence), "{}", said(&output));
    }

    assert!(copy(directory, file, &target.url).contains("key_mark: 1 copied and equal\n"));
    drop(moved.start());
    // Nobody has signed up; but it was served.
    assert!(copy(directory, file, &target.url).contains("used_numbers: 1500 copied and equal\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_ever_served_is_refused() {
    let world = World::new(Database::Sqlite).await;
    let service = world.start();
    assert_eq!(service.sign_up(PHONE).await.status, 200);
    service.kill();
    let target = empty_database().await;
    let moved = world.with("DATABASE__URL", &target.url);
    let directory = moved.directory.path();
    drop(moved.start());
    let with_a_mark = refused(directory, "data/vestibule.db", &target.url);
    assert!(with_a_mark.contains("a service has run on it, if only once"), "{with_a_mark}");

    // Of what it wrote, only what is not copied is left.
    target.tamper("DELETE FROM key_mark").await.unwrap();
    target.tamper("INSERT INTO accepted_signatures VALUES (sha256(''), now())").await.unwrap();
    let with_a_trace = refused(directory, "data/vestibule.db", &target.url);
    assert!(with_a_trace.contains("`accepted_signatures` is not empty"), "{with_a_trace}");
    target.tamper("DELETE FROM accepted_signatures").await.unwrap();
    copy(directory, "data/vestibule.db", &target.url);
}

/// What takes the newest change of the tables back, and what has the database forget that it was made.
fn undo_newest(database: &str) -> (String, String) {
    let migrations = format!("{}/../../migrations/{database}", env!("CARGO_MANIFEST_DIR"));
    let newest = std::fs::read_dir(migrations).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap().split('_').next().unwrap();
    let forget =
        format!("DELETE FROM __diesel_schema_migrations WHERE version = '{}'", name.replace('-', ""));
    let undo = std::fs::read_to_string(newest.join("down.sql")).unwrap();
    (undo.trim().trim_end_matches(';').to_owned(), forget)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_of_another_version_is_refused_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    fill(&directory.path().join("a.db"), 0).await;
    let target = empty_database().await;
    drop(Postgres::open(&target.url, 1, vestibule_postgres::Migrate::Yes).await.unwrap());
    let (undo, forget) = undo_newest("postgres");
    target.tamper(&undo).await.unwrap();
    assert_eq!(target.tamper(&forget).await.unwrap(), 1);
    let before = target.dump().await.unwrap();
    let older = refused(directory.path(), "a.db", &target.url);
    assert!(older.starts_with("database.url: its tables are of an older version"), "{older}");
    assert!(older.contains("name an empty database"), "{older}");
    assert_eq!(target.dump().await.unwrap(), before);

    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')";
    target.tamper(newer).await.unwrap();
    let newer = refused(directory.path(), "a.db", &target.url);
    assert!(newer.starts_with("database.url: its tables are of a newer version"), "{newer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_another_version_is_refused_with_the_command_that_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    fill(&path, 0).await;
    let (undo, forget) = undo_newest("sqlite");
    vestibule_testkit::sqlite::execute(&path, &format!("{undo}; {forget}")).unwrap();
    let target = empty_database().await;
    let refusal = refused(directory.path(), "a.db", &target.url);
    let advice = "run `VESTIBULE__DATABASE__URL=sqlite://a.db vestibule migrate`";
    assert!(refusal.starts_with("--from: the tables of a.db are not up to date"), "{refusal}");
    assert!(refusal.contains(advice), "{refusal}");
    // As it says.
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    migrate.arg("migrate").current_dir(directory.path()).env("VESTIBULE__DATABASE__URL", "sqlite://a.db");
    let migrated = migrate.output().unwrap();
    assert!(migrated.status.success(), "{}", said(&migrated));
    copy(directory.path(), "a.db", &target.url);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_makes_no_sense_is_refused_with_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    fill(&directory.path().join("a.db"), 0).await;
    std::fs::write(directory.path().join("text.db"), "no database, and a good deal of it").unwrap();
    let target = empty_database().await;
    for (file, to, sentence) in [
        ("b.db", target.url.as_str(), "--from: cannot read b.db: there is no such file"),
        ("text.db", &target.url, "file is not a database"),
        ("a.db", "sqlite://b.db", "it copies from `sqlite://` and a path to `postgres://"),
        ("a.db", "postgres://nobody:hush@127.0.0.1:1/a", "database.url: the server cannot be reached"),
    ] {
        let refused = refused(directory.path(), file, to);
        assert!(refused.contains(sentence) && !refused.contains("hush"), "{refused}");
    }
    assert!(!directory.path().join("b.db").exists());
}
