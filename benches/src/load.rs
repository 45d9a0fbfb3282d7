//! Load on the service: clients that ask as fast as they are answered, and clients that keep to a timetable.

use std::net::SocketAddr;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};

use crate::client::{Answer, Client, PATIENCE};

/// Threads that ask, as many as `pgbench` is given.
const THREADS: usize = 2;

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

/// Each client sends its next request as soon as the last one is answered, until the time is over or it has done. A few threads have
/// all the clients, as `pgbench` does: a thread for each would cost the machine more than what is measured.
pub(crate) fn as_fast_as_answered(
    address: SocketAddr,
    scripts: Vec<Script>,
    span: Duration,
) -> anyhow::Result<Load> {
    let mut shares: Vec<_> = (0..THREADS).map(|_| Vec::new()).collect();
    for (script, share) in scripts.into_iter().zip((0..THREADS).cycle()) {
        shares.get_mut(share).context("there is no such thread")?.push(script);
    }
    let begun = Instant::now();
    let latencies = at_once(shares, |scripts| ask_all(address, scripts, begun + span))?;
    let rate = successes(&latencies) / begun.elapsed().as_secs_f64();
    Ok(Load { rate, latencies })
}

/// Has a client for each script, on this thread.
fn ask_all(address: SocketAddr, scripts: Vec<Script>, end: Instant) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut waiting = Vec::with_capacity(scripts.len());
    for script in scripts {
        let mut asking = Asking::new(address, script)?;
        if asking.ask(end)? {
            waiting.push(asking);
        }
    }
    while !waiting.is_empty() {
        let answered = wait_for_any(&waiting)?;
        let mut still = Vec::with_capacity(waiting.len());
        for (mut asking, is_answered) in waiting.into_iter().zip(answered) {
            if !is_answered || !asking.hear(&mut latencies)? || asking.ask(end)? {
                still.push(asking);
            }
        }
        waiting = still;
    }
    Ok(latencies)
}

/// Waits for an answer to any of them; to which there is one, or a part of it.
fn wait_for_any(waiting: &[Asking]) -> anyhow::Result<Vec<bool>> {
    let mut answers: Vec<_> =
        waiting.iter().map(|asking| PollFd::new(&asking.client, PollFlags::IN)).collect();
    anyhow::ensure!(poll(&mut answers, Some(&PATIENCE.try_into()?))? > 0, "nothing is answered");
    Ok(answers.iter().map(|answer| !answer.revents().is_empty()).collect())
}

/// A client in the course of its script.
struct Asking {
    client: Client,
    script: Script,
    turn: usize,
    sent: Instant,
}

impl Asking {
    fn new(address: SocketAddr, script: Script) -> anyhow::Result<Self> {
        Ok(Self { client: Client::connect(address)?, script, turn: 0, sent: Instant::now() })
    }

    /// Sends the next request, if there is one and the time is not over; whether that is so.
    fn ask(&mut self, end: Instant) -> anyhow::Result<bool> {
        let Script { requests, then } = &self.script;
        if self.turn >= requests.len() && *then != Then::Stop {
            self.turn = 0;
        }
        self.sent = Instant::now();
        let Some(request) = requests.get(self.turn).filter(|_| self.sent < end) else {
            return Ok(false);
        };
        self.client.ask(request)?;
        Ok(true)
    }

    /// Reads what there is of the answer; whether it is whole.
    fn hear(&mut self, latencies: &mut Latencies) -> anyhow::Result<bool> {
        let Some(answer) = self.client.hear()? else {
            return Ok(false);
        };
        let body = accepted(&answer)?;
        latencies.count(self.sent, body.is_some());
        let Script { requests, then } = &mut self.script;
        if let (Then::Refresh, Some(body), Some(request)) = (then, body, requests.get_mut(self.turn)) {
            put_token(request, body)?;
        }
        self.turn += 1;
        Ok(true)
    }
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
            let succeeded = accepted(&client.send(request)?)?.is_some();
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
fn accepted<'a>(answer: &Answer<'a>) -> anyhow::Result<Option<&'a [u8]>> {
    let Answer { status, body } = *answer;
    match status {
        200..300 => Ok(Some(body)),
        503 => Ok(None),
        status => anyhow::bail!("answered {status}: {}", String::from_utf8_lossy(body)),
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
