//! Chance that comes out the same each time, so that a run can be repeated.

use std::f64::consts::TAU;
use std::time::Duration;

/// `SplitMix64` (Steele, Lea and Flood, 2014): good enough to draw people with, and short.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (mixed ^ (mixed >> 31)).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// At least 0 and less than 1.
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(self.bits()) / (f64::from(u32::MAX) + 1.0)
    }

    /// Less than that.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from((u64::from(self.bits()) * u64::from(bound)) >> 32).unwrap_or_default()
    }

    /// True with that probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// The wait for the next of many who come independently of each other.
    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.unit()).ln())
    }

    /// Half of all are shorter than the median; `sigma` is the standard deviation of the logarithm.
    pub(crate) fn log_normal(&mut self, median: Duration, sigma: f64) -> Duration {
        let normal = (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (TAU * self.unit()).cos();
        median.mul_f64((sigma * normal).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 20_000;

    #[test]
    fn every_value_below_the_bound_is_drawn_about_equally() {
        let mut random = Random::new(1);
        let mut drawn = [0; 10];
        (0..DRAWS).for_each(|_| drawn[random.below(10) as usize] += 1);
        assert!(drawn.iter().all(|count| (1850..2150).contains(count)), "{drawn:?}");
    }

    #[test]
    fn waits_have_their_mean_and_delays_their_median() {
        let mut random = Random::new(2);
        let waits: Duration = (0..DRAWS).map(|_| random.exponential(Duration::from_secs(10))).sum();
        assert!((9.7..10.3).contains(&(waits.as_secs_f64() / f64::from(DRAWS))), "{waits:?}");
        let median = Duration::from_secs(20);
        let short = (0..DRAWS).filter(|_| random.log_normal(median, 1.0) < median).count();
        assert!((9700..10_300).contains(&short), "{short}");
    }

    #[test]
    fn a_run_can_be_repeated() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            [(); 8].map(|()| random.bits())
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
