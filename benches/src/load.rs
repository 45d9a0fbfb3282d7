//! Load on the service: clients that ask as fast as they are answered, and clients that keep to a timetable.

use std::net::SocketAddr;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::client::Client;

/// How long requests took, and how many were refused; a refused one took its time too.
#[derive(Default)]
pub(crate) struct Latencies {
    sorted: Vec<Duration>,
    pub(crate) refused: usize,
}

impl Latencies {
    /// How many requests that were.
    pub(crate) fn requests(&self) -> usize {
        self.sorted.len()
    }

    /// The moment within which this share of all was answered, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.sorted.len() * percent).div_ceil(100).saturating_sub(1);
        self.sorted.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }

    fn count(&mut self, from: Instant, succeeded: bool) {
        self.sorted.push(from.elapsed());
        self.refused += usize::from(!succeeded);
    }

    fn of(parts: Vec<Self>) -> Self {
        let refused = parts.iter().map(|part| part.refused).sum();
        let durations: Vec<_> = parts.into_iter().flat_map(|part| part.sorted).collect();
        Self { refused, ..Self::from(durations) }
    }
}

impl From<Vec<Duration>> for Latencies {
    /// Of so many requests, none of which was refused for being too much.
    fn from(mut durations: Vec<Duration>) -> Self {
        durations.sort();
        Self { sorted: durations, refused: 0 }
    }
}

/// What a load came to.
pub(crate) struct Load {
    /// Requests answered in a second.
    pub(crate) rate: f64,
    pub(crate) latencies: Latencies,
}

/// What one client asks, in its order.
pub(crate) struct Script {
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) then: Then,
}

/// What a client does that has asked all of its script.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It has done.
    Stop,
    /// It begins again.
    Repeat,
    /// It begins again, with the refresh tokens that it was answered in the place of those that it presented.
    Refresh,
}

/// Each client sends its next request as soon as the last one is answered, until the time is over or it has done.
pub(crate) fn as_fast_as_answered(
    address: SocketAddr,
    scripts: Vec<Script>,
    span: Duration,
) -> anyhow::Result<Load> {
    let begun = Instant::now();
    let latencies = at_once(scripts, |Script { mut requests, then }| {
        let mut client = Client::connect(address)?;
        let mut latencies = Latencies::default();
        let mut turns = requests.iter_mut();
        while begun.elapsed() < span {
            let Some(request) = turns.next() else {
                match then {
                    Then::Stop => break,
                    Then::Repeat | Then::Refresh => turns = requests.iter_mut(),
                }
                continue;
            };
            let sent = Instant::now();
            let answer = answered(&mut client, request)?;
            latencies.count(sent, answer.is_some());
            if let (Then::Refresh, Some(answer)) = (then, answer) {
                put_token(request, answer)?;
            }
        }
        Ok(latencies)
    })?;
    let rate = successes(&latencies) / begun.elapsed().as_secs_f64();
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
    at_once((0..clients).zip(scripts), |(number, script)| {
        let mut client = Client::connect(address)?;
        let mut latencies = Latencies::default();
        for (turn, request) in (0..).zip(script.requests.iter().cycle()) {
            let due = step * (number + turn * clients);
            if due >= span {
                break;
            }
            let from = wait_until(begun + due);
            let succeeded = answered(&mut client, request)?.is_some();
            latencies.count(from, succeeded);
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
    let mut latencies = Latencies::default();
    for turn in 0.. {
        let due = step * turn;
        if due >= span {
            break;
        }
        let from = wait_until(begun + due);
        file.write_all_at(&BLOCK, u64::from(turn) % blocks * 8192)?;
        file.sync_data()?;
        latencies.count(from, true);
    }
    Ok(Latencies::of(vec![latencies]))
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

/// The body of the answer; `None` if the request is refused for being too much at once. Any other refusal is an error.
fn answered<'a>(client: &'a mut Client, request: &[u8]) -> anyhow::Result<Option<&'a [u8]>> {
    let answer = client.send(request)?;
    match answer.status {
        200..300 => Ok(Some(answer.body)),
        503 => Ok(None),
        status => anyhow::bail!("answered {status}: {}", String::from_utf8_lossy(answer.body)),
    }
}

/// Puts the refresh token of an answer in the place of the one in the request. All tokens are equally long.
fn put_token(request: &mut [u8], answer: &[u8]) -> anyhow::Result<()> {
    const NAME: &[u8] = br#""refresh_token":""#;
    const LENGTH: usize = 64;
    let token = |text: &[u8]| {
        let begin = text.windows(NAME.len()).position(|name| name == NAME)? + NAME.len();
        Some(begin..begin + LENGTH)
    };
    let new = token(answer).and_then(|token| answer.get(token)).context("an answer has no refresh token")?;
    let old = token(request).and_then(|token| request.get_mut(token));
    old.context("a request has no refresh token")?.copy_from_slice(new);
    Ok(())
}

/// Runs a client for each, on a thread each.
fn at_once<T: Send>(
    clients: impl IntoIterator<Item = T>,
    run: impl Fn(T) -> anyhow::Result<Latencies> + Sync,
) -> anyhow::Result<Latencies> {
    let run = &run;
    thread::scope(|scope| {
        let running: Vec<_> = clients.into_iter().map(|client| scope.spawn(move || run(client))).collect();
        let done: anyhow::Result<Vec<_>> = running.into_iter().map(joined).collect();
        Ok(Latencies::of(done?))
    })
}

/// What a thread came to.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().ok().context("a thread has panicked")?
}

#[expect(clippy::cast_precision_loss, reason = "nobody sends so many requests")]
fn successes(latencies: &Latencies) -> f64 {
    (latencies.sorted.len() - latencies.refused) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_presents_the_token_that_it_was_answered() {
        let [old, new] = ["a", "b"].map(|digit| digit.repeat(64));
        let request =
            |token| format!(r#"{{"grant_type":"refresh_token","refresh_token":"{token}"}}"#).into_bytes();
        let mut next = request(&old);
        let answer = format!(r#"{{"access_token":"v4.public.x","refresh_token":"{new}","expires_in":900}}"#);
        put_token(&mut next, answer.as_bytes()).unwrap();
        assert_eq!(next, request(&new));
        assert!(put_token(&mut next, br#"{"result":"ok"}"#).is_err());
    }
}
