//! The meter at a door of its own on the loopback, whose answers take as long as the test says: the door turns the clock.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vestibule_meter::{Client, Findings, Plan, Probe, take};

const KNOWN: &str = "+447400000001";
const UNKNOWN: &str = "+447400000002";
const SAMPLES: u32 = 400;

/// What the door answers to a number: a status with its text, other headers, a body, and how much longer it takes, in microseconds.
struct Kind {
    status: &'static str,
    headers: &'static str,
    body: &'static str,
    slower: u64,
}

const ALIKE: Kind =
    Kind { status: "200 OK", headers: "", body: r#"{"result":"ok","registrationId":"$"}"#, slower: 0 };

/// Answers each request on one connection, known numbers in one way and others in another.
fn serve(mut stream: &TcpStream, known: &Kind, unknown: &Kind, clock: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    for request in 1_u64.. {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap() == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let is_known = String::from_utf8(body).unwrap().contains(KNOWN);
        let Kind { status, headers, body, slower } = if is_known { known } else { unknown };
        // From 5 to 15 ms, as chance has it, and the same in every run.
        clock.fetch_add(
            5_000 + request.wrapping_mul(6_364_136_223_846_793_005) % 10_007 + slower,
            Ordering::SeqCst,
        );
        let body = body.replace('$', &format!("{request:036}"));
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nx-request-id: {request}\r\n{headers}\r\n"
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
    }
}

/// What the meter finds at a door with these kinds of answers. It may only open one connection.
async fn measured(known: Kind, unknown: Kind) -> Findings {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let clock = Arc::new(AtomicU64::new(0));
    let turned = Arc::clone(&clock);
    let door = std::thread::spawn(move || serve(&listener.accept().unwrap().0, &known, &unknown, &turned));
    let now = Box::new(move || Duration::from_micros(clock.load(Ordering::SeqCst)));
    let client = Client::with_clock(base, &[], now).unwrap();
    let [known, unknown] = [KNOWN, UNKNOWN].map(|number| vec![number.to_owned()]);
    let plan = Plan { probe: Probe::SignUp, known, unknown, samples: SAMPLES, rate: 1e6 };
    let samples = take(&client, &plan).await.unwrap();
    drop(client);
    // The connection is closed by a task of this very thread.
    tokio::task::spawn_blocking(|| door.join()).await.unwrap().unwrap();
    Findings::of(&samples, 0.01).unwrap()
}

#[tokio::test]
async fn what_is_answered_alike_is_not_told_apart() {
    let findings = measured(ALIKE, ALIKE).await;
    assert_eq!(findings.told_by(), [""; 0], "{findings}");
    let text = findings.to_string();
    assert!(text.contains("more than") && text.contains("Nothing tells them apart"), "{text}");
}

#[tokio::test]
async fn two_milliseconds_are_found() {
    let findings = measured(Kind { slower: 2_000, ..ALIKE }, ALIKE).await;
    assert_eq!(findings.told_by(), ["mean times", "ranks of times"], "{findings}");
}

#[tokio::test]
async fn another_status_body_or_header_is_found() {
    for kind in [
        Kind { status: "201 Created", ..ALIKE },
        Kind { body: r#"{"result":"ok"}"#, ..ALIKE },
        Kind { headers: "x-more: 1\r\n", ..ALIKE },
    ] {
        let findings = measured(kind, ALIKE).await;
        assert_eq!(findings.told_by(), ["answers"], "{findings}");
    }
}

#[tokio::test]
async fn limits_that_distort_are_told_and_their_waits_compared() {
    let refused = |headers| Kind { status: "429 Too Many Requests", headers, body: "{}", slower: 0 };
    let findings = measured(refused("retry-after: 60\r\n"), refused("retry-after: 59\r\n")).await;
    assert_eq!(findings.told_by(), ["waits"], "{findings}");
    assert!(findings.unmeasured().is_some(), "{findings}");
    assert!(findings.to_string().contains("WARNING: 800 of 800"), "{findings}");
}

#[tokio::test]
async fn where_most_answers_are_not_the_steps_nothing_was_measured() {
    for status in
        ["401 Unauthorized", "404 Not Found", "405 Method Not Allowed", "415 Unsupported Media Type"]
            .into_iter()
            .chain(["429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable"])
    {
        let refused = || Kind { status, ..ALIKE };
        let findings = measured(refused(), refused()).await;
        let why = findings.unmeasured().unwrap();
        assert!(why.contains(&format!("known numbers: 400 times {status}")), "{why}");
        assert!(!findings.to_string().contains("Nothing tells them apart"), "{findings}");
        let why = measured(ALIKE, refused()).await.unmeasured().unwrap().to_owned();
        assert!(why.contains("400 unknown numbers") && !why.contains("400 known numbers"), "{why}");
    }
    for status in ["200 OK", "400 Bad Request", "403 Forbidden"] {
        let answered = || Kind { status, ..ALIKE };
        assert_eq!(measured(answered(), answered()).await.unmeasured(), None, "{status}");
    }
}

#[test]
fn the_program_ends_with_2_and_says_why_when_nothing_was_measured() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let nowhere = || Kind { status: "404 Not Found", headers: "", body: "{}", slower: 0 };
    let door = std::thread::spawn(move || {
        serve(&listener.accept().unwrap().0, &nowhere(), &nowhere(), &AtomicU64::new(0));
    });
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [known, unknown] = [("known", KNOWN), ("unknown", UNKNOWN)].map(|(name, number)| {
        let file = directory.join(name);
        std::fs::write(&file, number).unwrap();
        file
    });
    let ended = Command::new(env!("CARGO_BIN_EXE_vestibule-meter"))
        .args(["--url", &url, "--probe", "reset", "--samples", "20", "--rate", "10000"])
        .args([Path::new("--known"), &known, Path::new("--unknown"), &unknown])
        .output()
        .unwrap();
    door.join().unwrap();
    let why = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{why}");
    assert!(why.contains("nothing was measured") && why.contains("20 times 404 Not Found"), "{why}");
}
