//! The rule where nothing else is said: the configuration starts from it, and so do tests and simulations.

use std::collections::HashMap;
use std::time::Duration;

use super::{CountryNorm, Mode, PumpingGuard};

/// Of a country of which nothing else is known.
impl Default for CountryNorm {
    fn default() -> Self {
        Self { confirmed_percent: 25, unconfirmed: 1000 }
    }
}

/// The same for all countries, and only observing.
impl Default for PumpingGuard {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            norm: CountryNorm::default(),
            countries: HashMap::new(),
            unconfirmed_per_range: 50,
            unconfirmed_per_block: 100,
            forget_after: Duration::from_hours(24),
        }
    }
}
