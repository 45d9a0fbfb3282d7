//! A database is used under the key that it began with: under another one every used number would be free again, and nobody would notice.

use subtle::ConstantTimeEq as _;
use vestibule_port_storage::{KeyEvidence, KeyMark, Unavailable};

use crate::Application;

/// Why the keys are not to be used with the database.
#[derive(Debug, thiserror::Error)]
pub enum RecogniseKeysError {
    /// It was used under another key.
    #[error("the used numbers in the database are known by another key")]
    Foreign,
    /// It holds the beginning of an installation that is being copied into it.
    #[error("a copy into this database is not complete: run `vestibule copy` again")]
    Unfinished,
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Whether the database was used under our key so far, or under none. Nothing is written.
    ///
    /// # Errors
    /// [`RecogniseKeysError`]
    pub async fn recognise_keys(&self) -> Result<(), RecogniseKeysError> {
        let KeyEvidence { mark, phone } = self.storage.key_evidence().await?;
        match (mark, phone) {
            (Some(kept), _) => self.compare_mark(&kept),
            // A database from before there were marks. Whoever has an account has a used number.
            (None, Some(phone)) => {
                let digest = self.derivation.number_digest(&phone);
                let is_known = self.storage.sign_up_state(&phone, &digest, &[]).await?.number_used;
                is_known.then_some(()).ok_or(RecogniseKeysError::Foreign)
            }
            (None, None) => Ok(()),
        }
    }

    /// As [`recognise_keys`](Self::recognise_keys), and binds a database that nobody has bound yet to our key, for good. Of instances
    /// with different keys that begin on an empty database at once, those of one key succeed.
    ///
    /// # Errors
    /// [`RecogniseKeysError`]
    pub async fn bind_keys(&self) -> Result<(), RecogniseKeysError> {
        self.recognise_keys().await?;
        let kept = self.storage.keep_key_mark(&self.derivation.key_mark()).await?;
        self.compare_mark(&kept)
    }

    /// Whether the database is whole. For who has lost the key that it was used under, so that there is nothing to compare.
    ///
    /// # Errors
    /// [`RecogniseKeysError`]
    pub async fn recognise_whole(&self) -> Result<(), RecogniseKeysError> {
        match self.storage.key_evidence().await?.mark {
            Some(KeyMark::OF_AN_UNFINISHED_COPY) => Err(RecogniseKeysError::Unfinished),
            Some(_) | None => Ok(()),
        }
    }

    fn compare_mark(&self, kept: &KeyMark) -> Result<(), RecogniseKeysError> {
        if *kept == KeyMark::OF_AN_UNFINISHED_COPY {
            return Err(RecogniseKeysError::Unfinished);
        }
        let is_ours = bool::from(kept.0.ct_eq(&self.derivation.key_mark().0));
        is_ours.then_some(()).ok_or(RecogniseKeysError::Foreign)
    }
}
