//! What becomes of calls when the server's disk is full: a file of a real server may grow no more, as where the disk has no room.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use tokio_postgres::Client;
use vestibule_domain::PhoneNumber;
use vestibule_port_storage::{Changes, CommitError, NumberDigest, Storage as _};
use vestibule_postgres::{Migrate, Postgres};
use vestibule_testkit::postgres::{PostgresOptions, PostgresServer};

/// More than a segment of the log has, which is written to its end from the start.
const LARGER_THAN_A_SEGMENT: &str = "300000";

fn using(number: u32) -> Changes {
    let mut digest = [0xff; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    Changes { used_number: Some(NumberDigest(digest)), ..Changes::default() }
}

/// Lets no file of the server's grow beyond so many bytes, of any of its processes; those that it starts later do as the first. It limits
/// itself, since only its own user may.
async fn limit_files(client: &Client, limit: &str) {
    let first = client.query_one("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)", &[]);
    let first: String = first.await.unwrap().get(0);
    let others = client.query("SELECT pid::text FROM pg_stat_activity", &[]).await.unwrap();
    for process in others.into_iter().map(|row| row.get(0)).chain([first]) {
        let change = format!("prlimit --pid {process} --fsize={limit}:");
        client.batch_execute(&format!("COPY (SELECT WHERE false) TO PROGRAM '{change}'")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let server = PostgresServer::start(&PostgresOptions::default()).unwrap();
    let storage = Postgres::open(&server.url("postgres"), 2, Migrate::Yes).await.unwrap();
    let client = server.client("postgres").await.unwrap();
    let fill = "INSERT INTO used_numbers SELECT sha256(number::text::bytea) FROM generate_series(1, $1::text::int) number";
    client.execute(fill, &[&LARGER_THAN_A_SEGMENT]).await.unwrap();
    let size: i64 = client.query_one("SELECT pg_relation_size('used_numbers')", &[]).await.unwrap().get(0);
    assert!(size > 16 << 20, "{size} bytes");
    storage.commit(using(0)).await.unwrap();

    limit_files(&client, &size.to_string()).await;
    let mut taken = 1;
    let refused = loop {
        match storage.commit(using(taken)).await {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 1000, "the disk was never full");
    };
    assert!(matches!(refused, CommitError::Unavailable(_)), "{refused:?}");
    let phone = PhoneNumber::restore("+447400000001").unwrap();
    assert!(storage.registration(&phone).await.unwrap().is_none(), "reads go on");
    assert!(storage.commit(using(taken)).await.is_err(), "as long as there is no room");

    limit_files(&client, "unlimited").await;
    storage.commit(using(taken)).await.unwrap();
    for number in 0..=taken {
        let digest = using(number).used_number.unwrap();
        let state = storage.sign_up_state(&phone, &digest, &[]).await.unwrap();
        assert!(state.number_used, "what was acknowledged is there: {number} of {taken}");
    }
}
