//! The table of figures, printed row by row as they come.

use std::io::{self, Write};
use std::time::Duration;

use vestibule_meter::comparison::{SIGNIFICANT, mann_whitney, mean, welch};

use crate::load::Latencies;
use crate::processor::Spent;
use crate::protection::Added;

/// A row is a figure: what was measured, what it is compared with, and whether the goal is met.
pub(crate) struct Figures<W> {
    out: W,
    missed: Vec<String>,
}

impl<W: Write> Figures<W> {
    pub(crate) const fn new(out: W) -> Self {
        Self { out, missed: Vec::new() }
    }

    /// Begins a part of the table, and tells how busy the machine was before.
    pub(crate) fn part(&mut self, title: &str) -> io::Result<()> {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?");
        writeln!(self.out, "\n{title} (load average {load})")?;
        let head = ["measured", "limit", "before", "after", "ratio", "goal"];
        let [measured, limit, before, after, ratio, goal] = head;
        writeln!(
            self.out,
            "{:38}{measured:>10}{limit:>10}{before:>10}{after:>10}{ratio:>7}{goal:>8}  met",
            ""
        )
    }

    /// A rate in a second, as a share of its limit, which was measured just before and just after.
    pub(crate) fn share(
        &mut self,
        name: &str,
        rate: f64,
        limit: [f64; 2],
        goal: Option<f64>,
    ) -> io::Result<()> {
        let [before, after] = limit;
        let limit = f64::midpoint(before, after);
        let ratio = rate / limit;
        write!(self.out, "{name:38}{rate:10.1}{limit:10.1}{before:10.1}{after:10.1}{ratio:7.2}")?;
        if let Some(goal) = goal {
            let met = self.judge(name, ratio >= goal);
            write!(self.out, "{goal:8.2}  {met}")?;
        }
        writeln!(self.out)
    }

    /// A figure that must not be larger than its goal.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, goal: f64) -> io::Result<()> {
        let met = self.judge(name, value <= goal);
        writeln!(self.out, "{name:38}{value:10.1}{:37}{goal:8.1}  {met}", "")
    }

    /// A figure without a goal.
    pub(crate) fn plain(&mut self, name: &str, value: f64) -> io::Result<()> {
        writeln!(self.out, "{name:38}{value:10.1}")
    }

    /// How long requests took.
    pub(crate) fn latencies(&mut self, name: &str, latencies: &Latencies) -> io::Result<()> {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| latencies.percentile(percent));
        let refused = match latencies.refused {
            0 => String::new(),
            refused => format!(", {refused} refused with 503"),
        };
        writeln!(self.out, "{name:38}p50 {p50:.1} ms, p95 {p95:.1} ms, p99 {p99:.1} ms{refused}")
    }

    /// How long each of two kinds took, and whether that is statistically the same. Where it is, one run in twenty still says that it is not.
    pub(crate) fn alike(
        &mut self,
        name: &str,
        kinds: [&str; 2],
        durations: [Vec<Duration>; 2],
    ) -> io::Result<()> {
        let [first, second] = &durations;
        let (difference, z) = (welch(first, second), mann_whitney(first, second).z);
        let ([one, other], t) = (kinds, difference.t());
        let [by, error] = [difference.seconds, difference.error].map(|seconds| seconds * 1000.0);
        for (kind, durations) in kinds.into_iter().zip(durations) {
            let (mean, latencies) = (mean(&durations) * 1000.0, Latencies::from(durations));
            let [p50, p95, p99] = [50, 95, 99].map(|percent| latencies.percentile(percent));
            let (name, number) = (format!("{name}, {kind}"), latencies.requests());
            writeln!(
                self.out,
                "{name:38}p50 {p50:.3} ms, p95 {p95:.3} ms, p99 {p99:.3} ms, mean {mean:.3} ms of {number}"
            )?;
        }
        let means = format!("  mean {one} less mean {other}");
        writeln!(self.out, "{means:38}{by:+.3} ms ± {error:.3} ms, Welch's t {t:+.2}")?;
        let met = self.judge(&format!("{name}, {one} as {other}"), z.abs() < SIGNIFICANT);
        let ranks = "  Mann-Whitney's z";
        writeln!(self.out, "{ranks:38}{z:+10.2}, statistically the same if |z| < {SIGNIFICANT}  {met}")
    }

    /// Processor time that each request has taken, which says more than a rate where others keep the machine busy.
    pub(crate) fn cost(&mut self, spent: Spent, requests: usize) -> io::Result<()> {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX).max(1);
        let [load, service, database] = [spent.load, spent.service, spent.database]
            .map(|spent| (spent / requests).as_secs_f64() * 1_000_000.0);
        let sleeps = Duration::from_secs(spent.sleeps).as_secs_f64() / f64::from(requests);
        writeln!(
            self.out,
            "{:38}load {load:.1} µs, service {service:.1} µs ({sleeps:.2} sleeps), database {database:.1} µs",
            "  the processors' time for each"
        )
    }

    /// What something adds to each request.
    pub(crate) fn added(&mut self, name: &str, added: &Added) -> io::Result<()> {
        let [with, without] = [added.with, added.without]
            .map(|spent| (spent / added.requests.max(1)).as_secs_f64() * 1_000_000.0);
        let (ratio, requests) = (with / without, added.requests);
        writeln!(
            self.out,
            "{name:38}with {with:.0} µs, without {without:.0} µs, ratio {ratio:.3} of {requests} each"
        )
    }

    /// What parts something has, as shares of the whole.
    pub(crate) fn parts(&mut self, name: &str, parts: &[(&str, f64)]) -> io::Result<()> {
        let parts: Vec<_> =
            parts.iter().map(|(part, share)| format!("{part} {:.2} %", share * 100.0)).collect();
        writeln!(self.out, "{name:38}{}", parts.join(", "))
    }

    /// What was missed, in one line.
    pub(crate) fn end(mut self) -> io::Result<()> {
        match self.missed.as_slice() {
            [] => writeln!(self.out, "\nEvery goal is met."),
            missed => writeln!(self.out, "\nMissed: {}.", missed.join("; ")),
        }
    }

    fn judge(&mut self, name: &str, met: bool) -> &'static str {
        if met {
            return "yes";
        }
        self.missed.push(name.to_owned());
        "NO"
    }
}
