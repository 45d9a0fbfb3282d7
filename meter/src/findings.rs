//! What tells the populations apart, and how surely.

mod shape;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;

use self::shape::{Shares, compare};
use crate::client::Answer;
use crate::comparison::{
    Difference, Ranks, SIGNIFICANT, mann_whitney, mean, measurements_to_tell, probability, welch,
};
use crate::samples::Samples;

/// Fewer are not normal enough.
const LEAST_SAMPLES: usize = 20;

/// The populations, compared.
#[derive(Debug)]
pub struct Findings {
    /// The probability with which populations that are the same may be told apart, by all comparisons together.
    level: f64,
    known: Times,
    unknown: Times,
    means: Difference,
    ranks: Ranks,
    answers: Vec<Shares>,
    /// How far the waits of refusals are apart, where both populations are told any.
    waits: Option<f64>,
    /// Answers that were refused for their rate.
    limited: usize,
    unmeasured: Option<String>,
}

#[derive(Debug)]
struct Times {
    number: usize,
    percentiles: [f64; 3],
    mean: f64,
}

impl Findings {
    /// Compares both populations. `level` is the probability with which they may be told apart although they are the same.
    ///
    /// # Errors
    /// There are too few samples.
    pub fn of(samples: &Samples, level: f64) -> anyhow::Result<Self> {
        let Samples { known, unknown } = samples;
        let fewest = known.len().min(unknown.len());
        anyhow::ensure!(fewest >= LEAST_SAMPLES, "{LEAST_SAMPLES} samples of each population are needed");
        let (times, other_times) = (times(known), times(unknown));
        let (waits, other_waits) = (waits(known), waits(unknown));
        let are_waits = waits.len().min(other_waits.len()) >= LEAST_SAMPLES;
        let is_limited = |answer: &&Answer| answer.status == StatusCode::TOO_MANY_REQUESTS;
        Ok(Self {
            level,
            means: welch(&times, &other_times),
            ranks: mann_whitney(&times, &other_times),
            known: Times::of(times),
            unknown: Times::of(other_times),
            answers: compare(known, unknown),
            waits: are_waits.then(|| mann_whitney(&waits, &other_waits).z),
            limited: known.iter().chain(unknown).filter(is_limited).count(),
            unmeasured: unmeasured(samples),
        })
    }

    /// Why the step was not measured, where most of a population did not get as far.
    #[must_use]
    pub fn unmeasured(&self) -> Option<&str> {
        self.unmeasured.as_deref()
    }

    /// What tells the populations apart: nothing, if nothing does.
    #[must_use]
    pub fn told_by(&self) -> Vec<&'static str> {
        let answers = self.answers.iter().map(|answer| answer.z).fold(0.0, |most: f64, z| most.max(z.abs()));
        let compared = [
            ("answers", answers),
            ("waits", self.waits.unwrap_or(0.0)),
            ("mean times", self.means.t()),
            ("ranks of times", self.ranks.z),
        ];
        compared.into_iter().filter(|(_, z)| self.tells(*z)).map(|(name, _)| name).collect()
    }

    /// Whether chance alone makes the deviation with less than the level's probability, divided among all comparisons.
    fn tells(&self, z: f64) -> bool {
        let comparisons = self.answers.iter().map(|answer| answer.z).chain(self.waits).count() + 2;
        u32::try_from(comparisons)
            .is_ok_and(|comparisons| probability(z) * f64::from(comparisons) < self.level)
    }

    /// How many measurements of one number tell what it is, and whether that is only known to be the least. Where the ranks are not
    /// told apart, the effect may still be as large as the error allows.
    fn measurements(&self) -> (f64, bool) {
        let Ranks { z, longer, error } = self.ranks;
        if self.tells(z) {
            return (measurements_to_tell(longer), false);
        }
        (measurements_to_tell(0.5 + (longer - 0.5).abs() + SIGNIFICANT * error), true)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:18}{:>9}{:>9}", "answers", "known", "unknown")?;
        for Shares { shape, known, unknown, z } in &self.answers {
            let verdict = if self.tells(*z) { "  DIFFERENT" } else { "" };
            writeln!(f, "{:18}{known:9}{unknown:9}{verdict}\n  {shape}", shape.status)?;
        }
        if let Some(z) = self.waits {
            writeln!(f, "{:18}{}", "Retry-After", self.judged("Mann-Whitney's z", z))?;
        }
        writeln!(f, "\n{:18}{:>9}{:>9}{:>9}{:>9}", "times in ms", "p50", "p95", "p99", "mean")?;
        for (name, Times { number, percentiles: [p50, p95, p99], mean }) in
            [("known", &self.known), ("unknown", &self.unknown)]
        {
            writeln!(f, "{:18}{p50:9.3}{p95:9.3}{p99:9.3}{mean:9.3}", format!("  {name}, {number}"))?;
        }
        let [by, error] = [self.means.seconds, self.means.error].map(|seconds| seconds * 1000.0);
        let means = self.judged("Welch's t", self.means.t());
        writeln!(f, "known less unknown {by:+.3} ± {error:.3}, {means}")?;
        let (longer, ranks) = (self.ranks.longer * 100.0, self.judged("Mann-Whitney's z", self.ranks.z));
        writeln!(f, "a known one is the slower in {longer:.1} of 100, {ranks}")?;
        let (measurements, is_least) = self.measurements();
        let least = if is_least { "more than " } else { "" };
        writeln!(f, "to tell one number by its time at 95 %: {least}{measurements:.0} measurements of it")?;
        if self.limited > 0 {
            let all = self.known.number + self.unknown.number;
            writeln!(
                f,
                "\nWARNING: {} of {all} were refused for their rate (429). Then limits are measured, and not the step.",
                self.limited
            )?;
        }
        match self.told_by().as_slice() {
            [] if self.unmeasured.is_some() => Ok(()),
            [] => writeln!(f, "\nNothing tells them apart, at the level {}.", self.level),
            told => writeln!(f, "\nTold apart by {}, at the level {}.", told.join(", "), self.level),
        }
    }
}

impl Findings {
    fn judged(&self, name: &str, z: f64) -> String {
        let verdict = if self.tells(z) { "  DIFFERENT" } else { "" };
        format!("{name} {z:+.2}, by chance in {:.2} of 100{verdict}", probability(z) * 100.0)
    }
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at =
            |percent: usize| times.get(times.len() * percent / 100).map_or(f64::NAN, Duration::as_secs_f64);
        let percentiles = [50, 95, 99].map(|percent| at(percent) * 1000.0);
        Self { number: times.len(), percentiles, mean: mean(&times) * 1000.0 }
    }
}

/// Names each population of whose answers more than half come from before the step.
fn unmeasured(Samples { known, unknown }: &Samples) -> Option<String> {
    let of = |name: &str, answers: &[Answer]| {
        let mut refusals = BTreeMap::<StatusCode, usize>::new();
        for answer in answers.iter().filter(|answer| is_before_the_step(answer.status)) {
            *refusals.entry(answer.status).or_default() += 1;
        }
        let statuses: Vec<_> =
            refusals.iter().map(|(status, times)| format!("{times} times {status}")).collect();
        let is_most = refusals.values().sum::<usize>() * 2 > answers.len();
        is_most.then(|| format!("of {} {name} numbers: {}", answers.len(), statuses.join(", ")))
    };
    let refused: Vec<_> = [of("known", known), of("unknown", unknown)].into_iter().flatten().collect();
    (!refused.is_empty()).then(|| format!("most answers are not from the step ({})", refused.join("; ")))
}

/// Whether a status is not the step's: no route, no leave to ask, a limit, or a failure.
fn is_before_the_step(status: StatusCode) -> bool {
    status.is_server_error() || [401, 404, 405, 415, 429].contains(&status.as_u16())
}

fn times(answers: &[Answer]) -> Vec<Duration> {
    answers.iter().map(|answer| answer.took).collect()
}

fn waits(answers: &[Answer]) -> Vec<Duration> {
    let wait = |answer: &Answer| answer.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok();
    answers.iter().filter_map(wait).map(Duration::from_secs).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn half_of_the_answers_are_enough_to_measure() {
        let answers = |refused: usize| {
            let status = |turn| if turn < refused { StatusCode::NOT_FOUND } else { StatusCode::OK };
            let answer = |turn| Answer {
                status: status(turn),
                headers: HeaderMap::new(),
                body: String::new(),
                took: Duration::from_millis(1),
            };
            (0..40).map(answer).collect()
        };
        let samples = |known, unknown| Samples { known: answers(known), unknown: answers(unknown) };
        assert_eq!(unmeasured(&samples(20, 20)), None);
        assert!(
            unmeasured(&samples(21, 0)).is_some_and(|why| why.contains("of 40 known numbers: 21 times 404"))
        );
        assert!(unmeasured(&samples(0, 21)).is_some_and(|why| why.contains("of 40 unknown numbers")));
    }
}
