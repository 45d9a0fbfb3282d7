//! Whether two kinds of durations are the same, as far as a sample of each can tell.
//!
//! Welch's test asks it of the means, which is what adds up for somebody who measures often. The test of Mann and Whitney asks whether
//! one of the other kind tends to be longer; what the machine does meanwhile makes a few of both very long, which moves a mean and
//! hardly a rank, so that it finds smaller differences.

use std::time::Duration;

/// A deviation from nothing that chance makes as large or larger once in twenty times, in standard deviations.
pub(crate) const SIGNIFICANT: f64 = 1.96;

/// The difference of two means.
pub(crate) struct Difference {
    /// By how much the mean of the first is larger, in seconds.
    pub(crate) seconds: f64,
    /// Its standard error, in seconds.
    pub(crate) error: f64,
}

impl Difference {
    /// The difference in standard errors: Welch's t. With some hundred durations of each kind it is as good as normal.
    pub(crate) fn t(&self) -> f64 {
        self.seconds / self.error
    }
}

/// In seconds; not a number for none.
pub(crate) fn mean(durations: &[Duration]) -> f64 {
    durations.iter().map(Duration::as_secs_f64).sum::<f64>() / count(durations.len())
}

/// The difference of the means, without the assumption that both kinds vary alike (B. L. Welch, "The generalization of 'Student's'
/// problem when several different population variances are involved", Biometrika 34, 1947). Each kind must have two durations at least.
pub(crate) fn welch(first: &[Duration], second: &[Duration]) -> Difference {
    let variance = |of: &[Duration]| {
        let mean = mean(of);
        let squares = of.iter().map(|duration| (duration.as_secs_f64() - mean).powi(2));
        squares.sum::<f64>() / (count(of.len()) - 1.0)
    };
    let of_mean = |of: &[Duration]| variance(of) / count(of.len());
    Difference { seconds: mean(first) - mean(second), error: (of_mean(first) + of_mean(second)).sqrt() }
}

/// How far the ranks of the first kind are from those that it would have if both were the same, in standard deviations: positive where
/// the first tends to be longer (H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically
/// larger than the other", Annals of Mathematical Statistics 18, 1947). Equal durations share their ranks, and the variance is less by
/// what that takes from it. Normal enough from some twenty durations of each kind on.
pub(crate) fn mann_whitney(first: &[Duration], second: &[Duration]) -> f64 {
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
    (u - n * m / 2.0) / variance.sqrt()
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
        assert_near(mann_whitney(&longer, &shorter), 8.0 / 12_f64.sqrt());
        assert_near(mann_whitney(&shorter, &longer), -8.0 / 12_f64.sqrt());
        // 1 and 4 against 2 and 3.
        assert_near(mann_whitney(&millis(&[1, 4]), &millis(&[2, 3])), 0.0);
    }

    #[test]
    fn equal_durations_share_their_ranks() {
        // Ranks 1, 2.5 and 5 against 2.5, 4 and 6: U is 2.5 where 4.5 is expected, and one pair is tied.
        let z = mann_whitney(&millis(&[1, 2, 4]), &millis(&[2, 3, 5]));
        assert_near(z, -2.0 / (9.0 / 12.0 * (7.0 - 6.0 / 30.0_f64)).sqrt());
    }

    #[test]
    fn one_very_long_one_moves_a_mean_and_hardly_a_rank() {
        let calm: Vec<_> = (0..100).map(|n| Duration::from_micros(17_000 + n)).collect();
        let mut disturbed = calm.clone();
        disturbed.push(Duration::from_secs(10));
        assert!(welch(&disturbed, &calm).seconds > 0.09);
        assert!(mann_whitney(&disturbed, &calm).abs() < SIGNIFICANT);
    }

    #[test]
    fn a_small_shift_of_many_is_found() {
        let from =
            |micros| (0..1000_u64).map(|n| Duration::from_micros(micros + n % 100)).collect::<Vec<_>>();
        let (first, second) = (from(17_000), from(16_990));
        assert!(mann_whitney(&first, &second) > SIGNIFICANT);
        assert!(welch(&first, &second).t() > SIGNIFICANT);
        assert!(mann_whitney(&first, &first).abs() < f64::EPSILON);
    }
}
