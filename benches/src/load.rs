//! Load on the service: clients that ask as fast as they are answered, and clients that keep to a timetable.

use std::net::SocketAddr;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::client::Client;

/// How long requests took.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// The moment within which this share of all was answered, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }

    fn of(mut parts: Vec<Duration>) -> Self {
        parts.sort();
        Self(parts)
    }
}

/// What a load came to.
pub(crate) struct Load {
    /// Requests answered in a second.
    pub(crate) rate: f64,
    pub(crate) latencies: Latencies,
}

/// What one client asks, in its order; and whether it begins again at the end, or has done then.
pub(crate) struct Script {
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) repeats: bool,
}

/// Each client sends its next request as soon as the last one is answered, until the time is over or it has done. An answer that
/// is no success is an error.
pub(crate) fn as_fast_as_answered(
    address: SocketAddr,
    scripts: &[Script],
    span: Duration,
) -> anyhow::Result<Load> {
    let begun = Instant::now();
    let latencies = at_once(scripts, |script| {
        let mut client = Client::connect(address)?;
        let mut latencies = Vec::new();
        let mut requests = script.requests.iter();
        while begun.elapsed() < span {
            let Some(request) = requests.next() else {
                if script.repeats {
                    requests = script.requests.iter();
                    continue;
                }
                break;
            };
            let sent = Instant::now();
            succeed(&mut client, request)?;
            latencies.push(sent.elapsed());
        }
        Ok(latencies)
    })?;
    let rate = count(&latencies) / begun.elapsed().as_secs_f64();
    Ok(Load { rate, latencies })
}

/// All clients together send `per_second` requests, evenly. A request that is late because its client still waits for an answer counts
/// from when it was due.
pub(crate) fn by_timetable(
    address: SocketAddr,
    scripts: &[Script],
    per_second: u32,
    span: Duration,
) -> anyhow::Result<Latencies> {
    let step = Duration::from_secs(1) / per_second;
    let clients = u32::try_from(scripts.len())?;
    let begun = Instant::now();
    let numbered: Vec<_> = (0..clients).zip(scripts).collect();
    at_once(&numbered, |(number, script)| {
        let mut client = Client::connect(address)?;
        let mut latencies = Vec::new();
        for (turn, request) in (0..).zip(script.requests.iter().cycle()) {
            let due = step * (number + turn * clients);
            if due >= span {
                break;
            }
            let from = wait_until(begun + due);
            succeed(&mut client, request)?;
            latencies.push(from.elapsed());
        }
        Ok(latencies)
    })
}

/// Writes a block to the disk so many times a second, for what the disk alone takes.
pub(crate) fn disk_by_timetable(per_second: u32, span: Duration) -> anyhow::Result<Latencies> {
    use std::os::unix::fs::FileExt as _;

    const BLOCK: [u8; 8192] = [0x5a; 8192];
    let file = tempfile::tempfile()?;
    let blocks = 64_u64;
    for block in 0..blocks {
        file.write_all_at(&BLOCK, block * 8192)?;
    }
    file.sync_all()?;
    let (step, begun) = (Duration::from_secs(1) / per_second, Instant::now());
    let mut latencies = Vec::new();
    for turn in 0.. {
        let due = step * turn;
        if due >= span {
            break;
        }
        let from = wait_until(begun + due);
        file.write_all_at(&BLOCK, u64::from(turn) % blocks * 8192)?;
        file.sync_data()?;
        latencies.push(from.elapsed());
    }
    Ok(Latencies::of(latencies))
}

/// Sleeps until then; the moment to count from. To wake late is the sleeper's fault, to come late is not.
fn wait_until(due: Instant) -> Instant {
    let early = due.saturating_duration_since(Instant::now());
    if early.is_zero() {
        return due;
    }
    thread::sleep(early);
    Instant::now()
}

fn succeed(client: &mut Client, request: &[u8]) -> anyhow::Result<()> {
    let answer = client.send(request)?;
    let succeeded = (200..300).contains(&answer.status);
    anyhow::ensure!(succeeded, "answered {}: {}", answer.status, String::from_utf8_lossy(answer.body));
    Ok(())
}

/// Runs a client for each, on a thread each.
fn at_once<T: Sync>(
    clients: &[T],
    run: impl Fn(&T) -> anyhow::Result<Vec<Duration>> + Sync,
) -> anyhow::Result<Latencies> {
    let run = &run;
    thread::scope(|scope| {
        let running: Vec<_> = clients.iter().map(|client| scope.spawn(move || run(client))).collect();
        let done: anyhow::Result<Vec<_>> = running.into_iter().map(joined).collect();
        Ok(Latencies::of(done?.concat()))
    })
}

/// What a thread came to.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().ok().context("a thread has panicked")?
}

#[expect(clippy::cast_precision_loss, reason = "nobody sends so many requests")]
fn count(latencies: &Latencies) -> f64 {
    latencies.0.len() as f64
}
