use std::sync::Arc;

use time::UtcDateTime;
use vestibule_domain::pumping::{PumpingGuard, SentCode};
use vestibule_port_storage::{Changes, CommitError, Storage};

use crate::{MAX_ROUNDS, contended};

/// Gives the guard against pumping back what codes took that were never sent: an outage of the providers is no attack.
///
/// Each code is told once, by the settlement that gives its message up. Whatever ends between that and the return has returned nothing, and
/// what is not known to have failed is not tried again: a unit is never returned twice.
pub struct UnsentCodes {
    /// Where the budgets are.
    pub storage: Arc<dyn Storage>,
    /// Says what a code took.
    pub guard: PumpingGuard,
}

impl UnsentCodes {
    pub(crate) async fn return_units(&self, code: &SentCode, now: UtcDateTime) {
        let tallies = self.guard.unsent(code, now);
        if tallies.is_empty() {
            return;
        }
        let changes = Changes { tallies, ..Changes::default() };
        if let Err(error) = self.commit(changes).await {
            tracing::warn!(%error, "a code that was never sent counts as lost");
        }
    }

    /// Commits again what lost to rivals.
    async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        for _ in 0..MAX_ROUNDS {
            match self.storage.commit(changes.clone()).await {
                Err(CommitError::Conflict) => {}
                outcome => return outcome,
            }
        }
        Err(contended().into())
    }
}
