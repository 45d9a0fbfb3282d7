//! Time and randomness of the machine.

use time::UtcDateTime;
use vestibule_port_security::{Clock, Entropy};

/// The system's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UtcDateTime {
        #[expect(clippy::disallowed_methods, reason = "this is the port's implementation")]
        let now = UtcDateTime::now();
        now.replace_millisecond(now.millisecond()).unwrap_or(now)
    }
}

/// The operating system's random numbers.
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        if let Err(error) = getrandom::fill(&mut bytes) {
            // Without randomness every code and token could be guessed. The kernel has it from early boot on.
            tracing::error!(%error, "no randomness");
            std::process::abort();
        }
        bytes
    }
}
