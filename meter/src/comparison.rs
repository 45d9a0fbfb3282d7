//! Whether two kinds of durations are the same, as far as a sample of each can tell.
//!
//! Welch's test asks it of the means, which is what adds up for somebody who measures often. The test of Mann and Whitney asks whether
//! one of the other kind tends to be longer; what the machine does meanwhile makes a few of both very long, which moves a mean and
//! hardly a rank, so that it finds smaller differences.

use std::time::Duration;

/// A deviation from nothing that chance makes as large or larger once in twenty times, in standard deviations.
pub const SIGNIFICANT: f64 = 1.96;

/// The difference of two means.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// By how much the mean of the first is larger, in seconds.
    pub seconds: f64,
    /// Its standard error, in seconds.
    pub error: f64,
}

impl Difference {
    /// The difference in standard errors: Welch's t. With some hundred durations of each kind it is as good as normal.
    #[must_use]
    pub fn t(&self) -> f64 {
        ratio(self.seconds, self.error)
    }
}

/// In seconds; not a number for none.
#[must_use]
pub fn mean(durations: &[Duration]) -> f64 {
    durations.iter().map(Duration::as_secs_f64).sum::<f64>() / count(durations.len())
}

/// The difference of the means, without the assumption that both kinds vary alike (B. L. Welch, "The generalization of 'Student's'
/// problem when several different population variances are involved", Biometrika 34, 1947). Each kind must have two durations at least.
#[must_use]
pub fn welch(first: &[Duration], second: &[Duration]) -> Difference {
    let variance = |of: &[Duration]| {
        let mean = mean(of);
        let squares = of.iter().map(|duration| (duration.as_secs_f64() - mean).powi(2));
        squares.sum::<f64>() / (count(of.len()) - 1.0)
    };
    let of_mean = |of: &[Duration]| variance(of) / count(of.len());
    Difference { seconds: mean(first) - mean(second), error: (of_mean(first) + of_mean(second)).sqrt() }
}

/// How the ranks of the first kind lie among those of both.
#[derive(Debug, Clone, Copy)]
pub struct Ranks {
    /// How far they are from where they would be if both were the same, in standard deviations: positive where the first tends to be
    /// longer. Normal enough from some twenty durations of each kind on.
    pub z: f64,
    /// The probability that one of the first kind is longer than one of the second, of two that are equal either: 0.5 where both are
    /// the same.
    pub longer: f64,
    /// The standard error of that, if both are the same.
    pub error: f64,
}

/// Ranks the durations of both kinds (H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically
/// larger than the other", Annals of Mathematical Statistics 18, 1947). Equal durations share their ranks, and the variance is less by
/// what that takes from it. Each kind must have one duration at least.
#[must_use]
pub fn mann_whitney(first: &[Duration], second: &[Duration]) -> Ranks {
    let firsts = first.iter().map(|duration| (*duration, true));
    let mut all: Vec<_> = firsts.chain(second.iter().map(|duration| (*duration, false))).collect();
    all.sort_unstable();
    let (mut before, mut ranks, mut ties) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|(one, _), (other, _)| one == other) {
        let size = count(equal.len());
        let rank = before + f64::midpoint(size, 1.0);
        ranks += rank * count(equal.iter().filter(|(_, is_first)| *is_first).count());
        ties += size.powi(3) - size;
        before += size;
    }
    let (n, m) = (count(first.len()), count(second.len()));
    let both = n + m;
    let u = ranks - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * (both + 1.0 - ties / (both * (both - 1.0)));
    let deviation = variance.max(0.0).sqrt();
    Ranks { z: ratio(u - n * m / 2.0, deviation), longer: u / (n * m), error: deviation / (n * m) }
}

/// How far two shares are from each other, in standard deviations that they would have if both were the same: positive where the
/// first is larger. Each is a number of some and of all.
#[must_use]
pub fn shares([some, of]: [usize; 2], [others, of_others]: [usize; 2]) -> f64 {
    let [some, of, others, of_others] = [some, of, others, of_others].map(count);
    let pooled = (some + others) / (of + of_others);
    let variance = pooled * (1.0 - pooled) * (1.0 / of + 1.0 / of_others);
    ratio(some / of - others / of_others, variance.sqrt())
}

/// The probability that chance alone makes a deviation as large or larger, in either direction.
#[must_use]
pub fn probability(deviations: f64) -> f64 {
    libm::erfc(deviations.abs() / std::f64::consts::SQRT_2)
}

/// How often somebody has to measure a number who knows both kinds and wants to tell which it is of, with an error of one in twenty
/// either way. `longer` is [`Ranks::longer`]. He compares the mean of his measurements with the middle between the kinds, which
/// are taken for normal and of one variance: with more he may need fewer. Infinite where there is nothing to tell.
#[must_use]
pub fn measurements_to_tell(longer: f64) -> f64 {
    // Of two normal distributions that lie d deviations apart, one is the longer with the probability that a normal value is below d / √2.
    let apart = std::f64::consts::SQRT_2 * quantile(longer);
    (2.0 * quantile(0.95) / apart).powi(2).ceil()
}

/// The value that a normal one is below with this probability.
fn quantile(probability: f64) -> f64 {
    let below = |value: f64| libm::erfc(-value / std::f64::consts::SQRT_2) / 2.0;
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if below(middle) < probability { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// Nothing deviates from nothing by nothing; anything else does without bound.
fn ratio(value: f64, deviation: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value / deviation }
}

#[expect(clippy::cast_precision_loss, reason = "nobody measures so often")]
const fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(of: &[u64]) -> Vec<Duration> {
        of.iter().copied().map(Duration::from_millis).collect()
    }

    #[track_caller]
    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
    }

    #[test]
    fn the_means_differ_by_so_many_standard_errors() {
        // Means 11 and 5, variances 1 and 9, in milliseconds, of five and three: the error is the root of 1/5 + 9/3.
        let difference = welch(&millis(&[10, 12, 10, 12, 11]), &millis(&[2, 5, 8]));
        assert_near(difference.seconds, 0.006);
        assert_near(difference.error, (1.0 / 5.0 + 9.0 / 3.0_f64).sqrt() / 1000.0);
        assert_near(difference.t(), 6.0 / 3.2_f64.sqrt());
    }

    #[test]
    fn ranks_tell_which_tends_to_be_longer() {
        // U is 16 of 16 where 8 is expected; the variance is 4 · 4 · 9 / 12.
        let (longer, shorter) = (millis(&[9, 10, 11, 12]), millis(&[1, 2, 3, 4]));
        assert_near(mann_whitney(&longer, &shorter).z, 8.0 / 12_f64.sqrt());
        assert_near(mann_whitney(&shorter, &longer).z, -8.0 / 12_f64.sqrt());
        // 1 and 4 against 2 and 3.
        assert_near(mann_whitney(&millis(&[1, 4]), &millis(&[2, 3])).z, 0.0);
    }

    #[test]
    fn equal_durations_share_their_ranks() {
        // Ranks 1, 2.5 and 5 against 2.5, 4 and 6: U is 2.5 where 4.5 is expected, and one pair is tied.
        let z = mann_whitney(&millis(&[1, 2, 4]), &millis(&[2, 3, 5])).z;
        assert_near(z, -2.0 / (9.0 / 12.0 * (7.0 - 6.0 / 30.0_f64)).sqrt());
    }

    #[test]
    fn one_very_long_one_moves_a_mean_and_hardly_a_rank() {
        let calm: Vec<_> = (0..100).map(|n| Duration::from_micros(17_000 + n)).collect();
        let mut disturbed = calm.clone();
        disturbed.push(Duration::from_secs(10));
        assert!(welch(&disturbed, &calm).seconds > 0.09);
        assert!(mann_whitney(&disturbed, &calm).z.abs() < SIGNIFICANT);
    }

    #[test]
    fn a_small_shift_of_many_is_found() {
        let from =
            |micros| (0..1000_u64).map(|n| Duration::from_micros(micros + n % 100)).collect::<Vec<_>>();
        let (first, second) = (from(17_000), from(16_990));
        assert!(mann_whitney(&first, &second).z > SIGNIFICANT);
        assert!(welch(&first, &second).t() > SIGNIFICANT);
        assert!(mann_whitney(&first, &first).z.abs() < f64::EPSILON);
    }

    #[test]
    fn ranks_tell_how_often_one_is_longer() {
        assert_near(mann_whitney(&millis(&[9, 10]), &millis(&[1, 2])).longer, 1.0);
        // Of 9 pairs the first is longer in two, and one pair is equal.
        assert_near(mann_whitney(&millis(&[1, 2, 4]), &millis(&[2, 3, 5])).longer, 2.5 / 9.0);
        let same = mann_whitney(&millis(&[7, 7]), &millis(&[7, 7, 7]));
        assert_near(same.z, 0.0);
        assert_near(same.longer, 0.5);
    }

    #[test]
    fn two_shares_are_compared() {
        // 40 of 100 and 20 of 100: 30 of 100 in all, so the variance is 0.3 · 0.7 · 2 / 100.
        assert_near(shares([40, 100], [20, 100]), 0.2 / 0.0042_f64.sqrt());
        assert_near(shares([0, 10], [0, 20]), 0.0);
        assert_near(shares([10, 10], [20, 20]), 0.0);
        assert!(shares([100, 100], [0, 100]) > 14.0);
    }

    #[test]
    fn a_deviation_is_as_probable_as_the_tables_say() {
        for (deviations, expected) in [(0.0, 1.0), (1.0, 0.317_311), (-1.959_964, 0.05), (2.575_829, 0.01)] {
            assert!((probability(deviations) - expected).abs() < 1e-6, "{deviations}");
        }
        assert_near(quantile(0.95), 1.644_854);
        assert_near(quantile(0.5), 0.0);
    }

    #[test]
    fn the_closer_the_kinds_the_more_measurements_tell_them_apart() {
        // One deviation apart, one is the longer in 76 of 100: twice 1.645 squared is 10.8.
        let apart = |deviations: f64| 1.0 - probability(deviations / std::f64::consts::SQRT_2) / 2.0;
        assert_near(measurements_to_tell(apart(1.0)), 11.0);
        assert_near(measurements_to_tell(1.0 - apart(1.0)), 11.0);
        assert_near(measurements_to_tell(apart(0.1)), 1083.0);
        assert!(measurements_to_tell(0.5) > 1e9);
    }
}
