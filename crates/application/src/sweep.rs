use vestibule_port_storage::{Sweep, Unavailable};

use crate::Application;

/// Rows of each kind that are forgotten in one transaction.
const BATCH: u32 = 500;

impl Application {
    /// Forgets what no longer matters, a batch at a time, until nothing is left to forget. Any number of instances may sweep at
    /// once. Returns how many rows that were.
    ///
    /// # Errors
    /// [`Unavailable`]; what was swept before stays so.
    pub async fn sweep(&self) -> Result<usize, Unavailable> {
        let now = self.clock.now();
        let sweep = Sweep {
            now,
            messages_before: now - self.settings.keep_messages,
            facts_before: now - self.settings.keep_facts,
            batch: BATCH,
        };
        let mut swept = 0;
        loop {
            match self.storage.sweep(sweep).await? {
                0 => return Ok(swept),
                rows => swept += rows,
            }
        }
    }
}
