use async_trait::async_trait;
use uuid::Uuid;
use vestibule_domain::limits::Charge;
use vestibule_port_storage::{Answers, BeginError, Beginning, Execution, RequestDigest, Unavailable};

use super::InMemoryStorage;

/// A request that was begun, with its answer once it has one.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) execution: Execution,
    sealed: Option<Vec<u8>>,
}

#[async_trait]
impl Answers for InMemoryStorage {
    async fn begin(&self, execution: &Execution, charges: &[Charge]) -> Result<Beginning, BeginError> {
        let mut state = self.writable()?;
        let known = state.answers.get(&execution.request);
        if let Some(known) = known.filter(|known| known.execution.forget_at > execution.now) {
            if known.execution.payload != execution.payload {
                return Ok(Beginning::OtherPayload);
            }
            if let Some(sealed) = known.sealed.clone() {
                return Ok(Beginning::Answered { by: known.execution.id, sealed });
            }
            if known.execution.leased_until > execution.now {
                return Ok(Beginning::Running);
            }
        }
        let mut next = state.clone();
        charges.iter().try_for_each(|charge| next.charge(charge))?;
        next.answers.insert(execution.request, Kept { execution: *execution, sealed: None });
        *state = next;
        Ok(Beginning::Begun)
    }

    async fn keep_answer(&self, execution: &Execution, sealed: Vec<u8>) -> Result<(), Unavailable> {
        let mut state = self.writable()?;
        let known = state.answers.get_mut(&execution.request);
        if let Some(known) = known.filter(|known| known.execution.id == execution.id) {
            known.sealed.get_or_insert(sealed);
        }
        Ok(())
    }

    async fn forget_request(&self, request: &RequestDigest, execution: Uuid) -> Result<(), Unavailable> {
        let mut state = self.writable()?;
        if state.answers.get(request).is_some_and(|known| known.execution.id == execution) {
            state.answers.remove(request);
        }
        Ok(())
    }
}
