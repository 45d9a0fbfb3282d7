//! The throwaway server and its databases.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use vestibule_testkit::postgres::{
    Durability, EXTERNAL_SERVER, PostgresError, PostgresOptions, PostgresServer, TestDatabase, TestDatabases,
};

const MARK: &str = "the server listens on ";

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn database() -> TestDatabase {
    let migrate = async |url: &str| {
        connect(url)
            .await
            .batch_execute("CREATE TABLE things (name text); INSERT INTO things VALUES ('one')")
            .await
            .unwrap();
    };
    TestDatabases::create(migrate).await.unwrap()
}

#[tokio::test]
async fn what_was_committed_survives_an_immediate_stop() {
    let settings = vec![("max_connections", "17".to_owned())];
    let server =
        PostgresServer::start(&PostgresOptions { durability: Durability::Durable, settings, language: None })
            .unwrap();
    let client = connect(&server.url("postgres")).await;
    client.batch_execute("CREATE TABLE things (name text); INSERT INTO things VALUES ('one')").await.unwrap();
    server.stop_immediately().unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());

    server.start_again().unwrap();
    let client = connect(&server.url("postgres")).await;
    assert_eq!(count(&client, "SELECT count(*) FROM things").await, 1);
    let settings = "SELECT count(*) FROM pg_settings WHERE (name, setting) IN (('fsync', 'on'), ('max_connections', '17'))";
    assert_eq!(count(&client, settings).await, 2);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let settings = vec![("shared_buffers", "plenty".to_owned())];
    let refused =
        PostgresServer::start(&PostgresOptions { settings, ..PostgresOptions::default() }).unwrap_err();
    assert!(matches!(&refused, PostgresError::Start(words) if words.contains("shared_buffers")), "{refused}");
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own_and_it_is_dropped() {
    let (one, other) = tokio::join!(database(), database());
    let client = connect(&one.url).await;
    client.batch_execute("INSERT INTO things VALUES ('two')").await.unwrap();
    assert_eq!(count(&client, "SELECT count(*) FROM things").await, 2);
    let watching = connect(&other.url).await;
    assert_eq!(count(&watching, "SELECT count(*) FROM things").await, 1);

    let name = one.url.rsplit('/').next().unwrap().to_owned();
    drop(one);
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(count(&watching, &left).await, 0);
}

/// Run by the test below in a process of its own, which is killed.
#[test]
#[ignore = "it waits to be killed"]
fn held_until_killed() {
    let server = PostgresServer::start(&PostgresOptions::default()).unwrap();
    println!("{MARK}{}", server.port());
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
fn a_killed_process_leaves_no_server() {
    use std::io::{BufRead as _, BufReader};
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "held_until_killed", "--nocapture"])
        .env_remove(EXTERNAL_SERVER)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port: u16 = lines.find_map(|line| line.split_once(MARK)?.1.parse().ok()).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    process.kill().unwrap();
    process.wait().unwrap();
    let is_gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    assert!(is_gone, "the server outlived the process that started it");
}
